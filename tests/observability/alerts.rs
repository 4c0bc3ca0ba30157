//! The alert rules: each has what somebody needs who is woken by it, its unit tests pass, and each expression works on
//! what the real program says.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use holdfast_tests::documented;
use holdfast_tests::harness::workspace;
use holdfast_tests::prometheus::{Prometheus, program};
use serde_json::Value;

use crate::metrics_table::unknown_metrics;
use crate::stage::Stage;

/// Alerts about trouble that this stage does not have, and why. Their metrics must exist all the same, but for labels.
const NEEDS_TROUBLE: [(&str, &str); 3] = [
    ("HoldfastUnavailable", "needs a database that is gone: tests/database"),
    ("HoldfastNobodyHoldsTheLease", "needs witnesses: tests/witness"),
    ("HoldfastDoppelganger", "needs newly enabled keys that somebody else uses: tests/switcher"),
];

/// Alerts whose trouble this stage does have.
const CAUSED: [&str; 5] = [
    "HoldfastSlashableRefused",
    "HoldfastUnknownKeys",
    "HoldfastVaultRefuses",
    "HoldfastAnchorBehind",
    "HoldfastFilesUnusable",
];

fn folder() -> PathBuf {
    workspace().join("deploy/prometheus")
}

/// The rules as Prometheus has loaded them.
fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let groups = prometheus.get("/api/v1/rules")["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
}

/// The expression with its thresholds as questions: it gives data whatever the answer is. What stands behind `unless`
/// stays a filter.
fn without_thresholds(expression: &str) -> String {
    let (left, right) =
        expression.split_once(" unless ").map_or((expression, None), |(left, right)| (left, Some(right)));
    let mut open = String::new();
    let (mut quoted, mut labels) = (false, false);
    let mut characters = left.chars().peekable();
    while let Some(character) = characters.next() {
        open.push(character);
        match character {
            '"' => quoted = !quoted,
            '{' if !quoted => labels = true,
            '}' if !quoted => labels = false,
            '<' | '>' | '=' | '!' if !quoted && !labels => {
                if characters.peek() == Some(&'=') {
                    open.extend(characters.next());
                }
                let rest: String = characters.clone().collect();
                if !rest.trim_start().starts_with("bool") {
                    open.push_str(" bool");
                }
            }
            _ => {}
        }
    }
    right.map_or(open.clone(), |right| format!("{open} unless {right}"))
}

/// Every expression is evaluated by Prometheus without an error, and gives data once its thresholds are questions.
pub fn every_rule_can_be_evaluated(prometheus: &Prometheus) {
    let rules = rules(prometheus);
    assert!(rules.len() > 30, "only {} rules are loaded", rules.len());
    for rule in &rules {
        let name = rule["name"].as_str().expect("a name");
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        let excused = NEEDS_TROUBLE.iter().any(|(excused, _)| *excused == name);
        let query = rule["query"].as_str().expect("an expression");
        assert_eq!(unknown_metrics(query), Vec::<String>::new(), "{name}");
        let question = without_thresholds(query);
        if !excused {
            crate::stage::until(&format!("{name} has data: {question}"), || prometheus.has_data(&question));
        }
    }
    for (name, _) in NEEDS_TROUBLE {
        assert!(rules.iter().any(|rule| rule["name"] == name), "{name} is excused and does not exist");
    }
}

/// What goes wrong on the stage raises its alerts.
pub fn trouble_is_noticed(prometheus: &Prometheus) {
    for name in CAUSED {
        crate::stage::until(&format!("{name} is pending or fires"), || {
            let rules = rules(prometheus);
            let rule = rules.iter().find(|rule| rule["name"] == name).unwrap_or_else(|| panic!("no alert {name}"));
            rule["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty())
        });
    }
}

/// What alerts count from one scrape to the next: each selector within `increase(…[…])`.
fn counted(rules: &str) -> Vec<&str> {
    rules.split("increase(").skip(1).map(|rest| rest.split('[').next().expect("a range")).collect()
}

/// Whether a line of a scrape is a sample for a selector, as far as this compares a label with one value.
fn is_sample_of(line: &str, selector: &str) -> bool {
    let (name, labels) = selector.trim_end_matches('}').split_once('{').unwrap_or((selector, ""));
    let equal = labels.split(',').filter(|label| label.contains("=\""));
    line.starts_with(name)
        && line[name.len()..].starts_with([' ', '{'])
        && equal.into_iter().all(|one| line.contains(one))
}

/// A counter that appears with its first event is 1 from the beginning, and `increase` is 0.
#[test]
fn what_an_alert_counts_is_there_before_it_happens() {
    let stage = Stage::with(1, &[("HOLDFAST_SIGNING_BACKEND", "process")]);
    let text = stage.server().get_metrics("/metrics").text();
    let rules = std::fs::read_to_string(folder().join("holdfast.rules.yml")).unwrap();
    let selectors = counted(&rules);
    assert!(selectors.len() > 8, "{selectors:?}");
    for selector in selectors {
        assert!(
            text.lines().any(|line| is_sample_of(line, selector)),
            "{selector} has no sample at the start:\n{text}"
        );
    }
    for series in [
        r#"holdfast_vault_refusals_total{reason="double_vote"}"#,
        r#"holdfast_vault_refusals_total{reason="no_lease"}"#,
        "holdfast_vault_restarts_total",
        r#"holdfast_switcher_checkpoint_checks_total{result="disagreed"}"#,
        r#"holdfast_signing_requests_total{type="attestation",result="failed",reason="signature_invalid"}"#,
        r#"holdfast_signing_requests_total{type="unknown",result="failed",reason="bug"}"#,
        r#"holdfast_slashing_verdicts_total{kind="attestation",result="refused",reason="double_vote"}"#,
        r#"holdfast_slashing_verdicts_total{kind="block",result="refused",reason="block_slot_below_watermark"}"#,
        r#"holdfast_audit_checkpoints_total{result="failed"}"#,
    ] {
        assert!(text.lines().any(|line| line == format!("{series} 0")), "no line {series} 0 in\n{text}");
    }
    let switches = text.lines().filter(|line| line.starts_with("holdfast_switcher_switches_total{")).count();
    assert!(switches > 10, "only {switches} classes of requests");
}

#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_when_it_should() {
    let promtool = program("promtool", "prometheus");
    for arguments in [["check", "rules", "holdfast.rules.yml"], ["test", "rules", "holdfast.rules.test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(folder()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "promtool {arguments:?}: {text}");
    }
    let read = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    let names = |text: &str, key: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key))
            .map(str::to_owned)
            .collect()
    };
    let alerts = names(&read("holdfast.rules.yml"), "alert: ");
    let tested = names(&read("holdfast.rules.test.yml"), "alertname: ");
    assert_eq!(alerts, tested, "each alert has a unit test");
}

/// The line of docs/monitoring.md makes addresses of every path, which no alert has by itself.
#[test]
fn runbooks_become_addresses_as_documented() {
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("holdfast.rules.yml");
    std::fs::copy(folder().join("holdfast.rules.yml"), &file).unwrap();
    let alerts = std::fs::read_to_string(&file).unwrap().matches("- alert: ").count();
    documented::run("docs/monitoring.md", "runbook", copy.path());
    let changed = std::fs::read_to_string(&file).unwrap();
    let address = "runbook_url: https://git.example/holdfast/blob/main/docs/runbooks/alerts.md#holdfast";
    assert_eq!((changed.matches(address).count(), changed.matches("runbook: ").count()), (alerts, 0));
    let checked = Command::new(program("promtool", "prometheus")).args(["check", "rules"]).arg(&file).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn each_alert_says_how_bad_it_is_and_what_to_do() {
    let runbook = std::fs::read_to_string(workspace().join("docs/runbooks/alerts.md")).unwrap();
    let rules = std::fs::read_to_string(folder().join("holdfast.rules.yml")).unwrap();
    let alerts: Vec<&str> = rules.split("      - alert: ").skip(1).collect();
    assert!(alerts.len() > 25, "only {} alerts", alerts.len());
    for alert in alerts {
        let name = alert.lines().next().unwrap();
        assert!(["severity: critical", "severity: warning"].iter().any(|level| alert.contains(level)), "{name}");
        assert!(alert.contains("summary: "), "{name}");
        assert!(alert.contains(&format!("runbook: docs/runbooks/alerts.md#{}\n", name.to_lowercase())), "{name}");
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} has no section in the runbook");
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    for section in sections {
        assert!(rules.contains(&format!("alert: {section}\n")), "the runbook has a section {section} without an alert");
    }
}

#[test]
fn samples_of_a_selector_are_known() {
    let rules = r#"sum by (a) (increase(x_total{a="1",b=~"2|3"}[5m])) + increase(y_total[1h]) > 0"#;
    assert_eq!(counted(rules), [r#"x_total{a="1",b=~"2|3"}"#, "y_total"]);
    let is_sample = |line: &str| counted(rules).iter().map(|selector| is_sample_of(line, selector)).collect::<Vec<_>>();
    assert_eq!(is_sample(r#"x_total{b="7",a="1"} 0"#), [true, false]);
    assert_eq!(is_sample(r#"x_total{b="2",a="3"} 0"#), [false, false]);
    assert_eq!((is_sample("y_total 4"), is_sample("y_total_more 4")), (vec![false, true], vec![false, false]));
}

#[test]
fn thresholds_become_questions() {
    for (rule, question) in [
        (r#"up{job=~".*holdfast.*"} == 0"#, r#"up{job=~".*holdfast.*"} == bool 0"#),
        ("a > 1 and on (x) b < c", "a > bool 1 and on (x) b < bool c"),
        ("(t < 7) != 1", "(t < bool 7) != bool 1"),
        ("sum(t >= bool 5) == 0 unless x == 0", "sum(t >= bool 5) == bool 0 unless x == 0"),
    ] {
        assert_eq!(without_thresholds(rule), question);
    }
}
