//! Prometheus beside the soak: whether every panel of the dashboard shows something, and which alerts fired.
//!
//! Why it exists: operators see a fleet through the dashboard and are woken by the alerts; an hour of faults shows
//! whether both say what happened, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use holdfast_tests::harness::workspace;
use holdfast_tests::prometheus::{Prometheus, dashboard, queries, sent};
use serde_json::Value;

/// How often processes are scraped and rules evaluated.
const INTERVAL: Duration = Duration::from_secs(5);
/// What Grafana would take for `$__rate_interval` at this interval.
const RATE_INTERVAL: &str = "60s";

/// Words of queries that have no data here, and why.
const EMPTY_HERE: [(&str, &str); 9] = [
    ("holdfast_slashing_frozen_reason", "there is a reason only while protection is frozen"),
    (
        "holdfast_switcher_checkpoint_checks_total",
        "only a switcher in the signer's process compares votes; this one runs alone",
    ),
    ("holdfast_doppelganger_keys", "only a switcher in the signer's process watches new keys; this one runs alone"),
    (r#"reason="unknown_key""#, "nobody asks for keys that are not here"),
    ("holdfast_tls_", "no listener has TLS"),
    ("holdfast_authentication_failures_total", "there are no callers"),
    ("holdfast_policy_denials_total", "there is no policy"),
    ("holdfast_audit_anchor", "checkpoints are kept nowhere else"),
    ("holdfast_backup_last_timestamp_seconds", "the soak makes no backup"),
];

/// Alerts that what the soak does may raise, what the names of the processes begin with of which it may, and why.
const CAUSED: [(&str, &str, &str); 5] = [
    (SLASHABLE, "signer", "the soak asks for contradictions ten times a second"),
    ("HoldfastRestarting", "signer", "signers are killed and restarted"),
    ("HoldfastCommitsFail", "signer", "PostgreSQL is restarted"),
    ("HoldfastDown", "signer", "a killed signer is away"),
    ("HoldfastSwitchingOften", "switcher", "the soak takes the switcher's first choice away again and again"),
];
/// Those that a machine without enough processors for so many nodes raises besides.
const OF_A_FULL_MACHINE: [&str; 2] = ["HoldfastNodeUnhealthy", "HoldfastCommitsSlow"];
/// The one that must be raised: there is no soak without its cause.
const SLASHABLE: &str = "HoldfastSlashableRefused";

/// A time in which an alert fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fired {
    pub(crate) alert: String,
    pub(crate) instance: String,
    /// Seconds since 1970.
    pub(crate) from: u64,
    /// The same; the last moment at which it was seen.
    pub(crate) to: u64,
}

/// The Prometheus and when the soak began.
pub(crate) struct Watch {
    prometheus: Prometheus,
    from: u64,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

impl Watch {
    pub(crate) fn start(scraped: &[(String, SocketAddr)]) -> Self {
        let rules = workspace().join("deploy/prometheus/holdfast.rules.yml");
        Self { prometheus: Prometheus::start_named(scraped, &rules, INTERVAL), from: now() }
    }

    /// Processes listen elsewhere now.
    pub(crate) fn retarget(&self, scraped: &[(String, SocketAddr)]) {
        self.prometheus.retarget(scraped);
    }

    /// Asks every query of the dashboard over the whole soak and prints which have data; what is wrong.
    pub(crate) fn judge_panels(&self) -> Vec<String> {
        let queries = queries(&dashboard());
        let to = now();
        let (mut with_data, mut panels, mut findings) = (0, BTreeSet::new(), Vec::new());
        for (panel, query) in &queries {
            panels.insert(panel);
            let result = self.prometheus.query_range(&sent(query, RATE_INTERVAL), self.from, to, INTERVAL * 3);
            if has_numbers(&result) {
                with_data += 1;
                continue;
            }
            match EMPTY_HERE.iter().find(|(word, _)| query.contains(word)) {
                Some((_, why)) => println!("  no data in {panel:?}: {why}"),
                None => findings.push(format!("the panel {panel:?} has no data for {query}")),
            }
        }
        println!("  dashboard: {with_data} of {} queries in {} panels have data", queries.len(), panels.len());
        findings
    }

    /// Prints which alerts fired, and when; those that should not have are findings.
    pub(crate) fn judge_alerts(&self, full: bool) -> Vec<String> {
        let fired = fired(&self.prometheus.query_range(r#"ALERTS{alertstate="firing"}"#, self.from, now(), INTERVAL));
        let mut by_alert: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for one in &fired {
            let (from, to) = (one.from.saturating_sub(self.from), one.to.saturating_sub(self.from));
            let time = format!("{from} to {to}");
            let times = by_alert.entry((&one.alert, &one.instance)).or_default();
            // An alert may have other labels besides, for which it fires at the same time.
            if !times.contains(&time) {
                times.push(time);
            }
        }
        let mut findings = Vec::new();
        if !fired.iter().any(|one| one.alert == SLASHABLE) {
            findings.push(format!("the alert {SLASHABLE} did not fire"));
        }
        println!("  alerts that fired, in seconds since Prometheus began:");
        for ((alert, instance), times) in by_alert {
            let times = times.join(", ");
            match CAUSED.iter().find(|(name, process, _)| *name == alert && instance.starts_with(process)) {
                Some((_, _, why)) => println!("  | {alert} ({instance}; {why}): {times}"),
                None if full && OF_A_FULL_MACHINE.contains(&alert) => {
                    println!("  | {alert} ({instance}; not judged, as the machine was full): {times}");
                }
                None => findings.push(format!("the alert {alert} of {instance} fired from {times}")),
            }
        }
        findings
    }

    /// Prints what the fleet did, in numbers of its own metrics.
    pub(crate) fn print_figures(&self) {
        let range = format!("{}s", now().saturating_sub(self.from));
        let figures = [
            ("signatures", r#"sum(increase(holdfast_signing_requests_total{result="signed"}[R]))"#),
            (
                "time of a signature, p50, s",
                r#"histogram_quantile(0.5, sum by (le) (increase(holdfast_signing_stage_seconds_bucket{stage="total"}[R])))"#,
            ),
            (
                "time of a signature, p99, s",
                r#"histogram_quantile(0.99, sum by (le) (increase(holdfast_signing_stage_seconds_bucket{stage="total"}[R])))"#,
            ),
            ("processor, cores", "sum by (instance) (rate(process_cpu_seconds_total[R]))"),
            ("calls of the switcher to nodes", "sum by (result) (increase(holdfast_switcher_upstream_calls_total[R]))"),
            ("changes of the first choice", "sum(increase(holdfast_switcher_switches_total[R]))"),
            ("decisions", "sum by (kind) (increase(holdfast_switcher_decisions_total[R]))"),
        ];
        for (name, query) in figures {
            let result = self.prometheus.query(&query.replace("[R]", &format!("[{range}]")));
            let shown = result.as_array().into_iter().flatten().map(|one| {
                let labels: Vec<&str> =
                    one["metric"].as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()).collect();
                format!("{} {}", labels.join(" "), one["value"][1].as_str().unwrap_or_default())
            });
            println!("  {name}: {}", shown.collect::<Vec<_>>().join(", "));
        }
    }
}

/// Whether a range query gave at least one number.
fn has_numbers(result: &Value) -> bool {
    let points = result.as_array().into_iter().flatten().filter_map(|series| series["values"].as_array()).flatten();
    points.filter_map(|point| point[1].as_str()).any(|value| value != "NaN")
}

/// Times in which alerts fired: points of a series that follow one another.
fn fired(result: &Value) -> Vec<Fired> {
    let mut fired: Vec<Fired> = Vec::new();
    for series in result.as_array().into_iter().flatten() {
        let label = |name: &str| series["metric"][name].as_str().unwrap_or_default().to_owned();
        let mut last: Option<Fired> = None;
        for at in series["values"].as_array().into_iter().flatten().filter_map(|point| point[0].as_f64()) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds since 1970")]
            let at = at as u64;
            match &mut last {
                Some(one) if at <= one.to + 2 * INTERVAL.as_secs() => one.to = at,
                other => {
                    let next = Fired { alert: label("alertname"), instance: label("instance"), from: at, to: at };
                    fired.extend(other.replace(next));
                }
            }
        }
        fired.extend(last);
    }
    fired
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn points_that_follow_one_another_are_one_time() {
        let result = json!([{
            "metric": { "alertname": "A", "instance": "x" },
            "values": [[100, "1"], [105, "1"], [110, "1"], [400, "1"]],
        }]);
        let times: Vec<(u64, u64)> = fired(&result).iter().map(|one| (one.from, one.to)).collect();
        assert_eq!(times, [(100, 110), (400, 400)]);
        assert_eq!(fired(&json!([])), []);
    }

    #[test]
    fn a_series_of_nothing_is_no_data() {
        assert!(!has_numbers(&json!([])));
        assert!(!has_numbers(&json!([{ "metric": {}, "values": [[1, "NaN"]] }])));
        assert!(has_numbers(&json!([{ "metric": {}, "values": [[1, "NaN"], [2, "0"]] }])));
    }
}
