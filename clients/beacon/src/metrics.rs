//! What operators can measure about the switcher. Labels are upstream names, classes and closed lists.
//!
//! Counters of one upstream are looked up once, when it is added, so a call costs a few atomic additions.

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::Slot;
use hyper::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::class::EndpointClass;
use crate::confirm::Confirmation;
use crate::decision::DecisionKind;
use crate::error::CallError;
use crate::health::HealthTier;
use crate::upstream::UpstreamName;

/// From a cached answer on this machine to the end of a slot.
const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 12.0];

/// Labels of a family: pairs of name and value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels<const N: usize>([(&'static str, Arc<str>); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.each_ref().map(|(name, value)| (*name, &**value)).encode(encoder)
    }
}

#[derive(Clone, Copy, Debug)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// How a call ended, for labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallResult {
    Success,
    Refused,
    ServerError,
    Failed,
}

impl CallResult {
    const ALL: [Self; 4] = [Self::Success, Self::Refused, Self::ServerError, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::ServerError => "server_error",
            Self::Failed => "failed",
        }
    }

    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            0..=399 => Self::Success,
            400..=499 => Self::Refused,
            500.. => Self::ServerError,
        }
    }
}

/// The switcher's metrics. Clone gives another handle on the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    calls: Family<Labels<3>, Counter>,
    errors: Family<Labels<2>, Counter>,
    seconds: Family<Labels<2>, Histogram, Seconds>,
    tier: Family<Labels<1>, Gauge>,
    head: Family<Labels<1>, Gauge>,
    in_flight: Family<Labels<1>, Gauge>,
    decisions: Family<Labels<1>, Counter>,
    switches: Family<Labels<1>, Counter>,
    checks: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            errors: Family::default(),
            seconds: Family::new_with_constructor(Seconds),
            tier: Family::default(),
            head: Family::default(),
            in_flight: Family::default(),
            decisions: Family::default(),
            switches: Family::default(),
            checks: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under names that begin with `holdfast_switcher_`.
    pub fn register(&self, registry: &mut Registry) {
        // Shown as 0 until there is one, so that an alert sees the first.
        for result in Confirmation::WORDS {
            drop(self.checks.get_or_create(&Labels([("result", result.into())])));
        }
        for class in EndpointClass::ALL {
            drop(self.switches.get_or_create(&Labels([("class", class.as_str().into())])));
        }
        let registry = registry.sub_registry_with_prefix("holdfast_switcher");
        registry.register("upstream_calls", "Calls to upstreams by class and result", self.calls.clone());
        registry.register("upstream_errors", "Failed calls to upstreams by error", self.errors.clone());
        registry.register("upstream_seconds", "Time to the head of an upstream's answer", self.seconds.clone());
        registry.register("upstream_tier", "Health of an upstream: 0 excluded to 8 good", self.tier.clone());
        registry.register("upstream_head_slot", "Head slot of an upstream", self.head.clone());
        registry.register("upstream_in_flight", "Calls to an upstream in progress", self.in_flight.clone());
        registry.register("decisions", "Decisions by kind", self.decisions.clone());
        registry.register("switches", "Changes of the first choice by class", self.switches.clone());
        registry.register(
            "checkpoint_checks",
            "Checks of checkpoints against the quorum by result",
            self.checks.clone(),
        );
    }

    /// The metrics of one upstream.
    pub(crate) fn upstream(&self, name: &UpstreamName) -> UpstreamMetrics {
        let name: Arc<str> = name.as_str().into();
        let classes = EndpointClass::ALL.map(|class| {
            let class: Arc<str> = class.as_str().into();
            let results = CallResult::ALL.map(|result| {
                let labels = Labels([
                    ("upstream", Arc::clone(&name)),
                    ("class", Arc::clone(&class)),
                    ("result", result.as_str().into()),
                ]);
                self.calls.get_or_create_owned(&labels)
            });
            let labels = Labels([("upstream", Arc::clone(&name)), ("class", class)]);
            ClassMetrics { results, seconds: self.seconds.get_or_create_owned(&labels) }
        });
        let one = || Labels([("upstream", Arc::clone(&name))]);
        UpstreamMetrics {
            classes,
            tier: self.tier.get_or_create_owned(&one()),
            head: self.head.get_or_create_owned(&one()),
            in_flight: self.in_flight.get_or_create_owned(&one()),
            errors: self.errors.clone(),
            name,
        }
    }

    /// Forgets an upstream that was removed.
    pub(crate) fn forget(&self, name: &UpstreamName) {
        let name: Arc<str> = name.as_str().into();
        for class in EndpointClass::ALL {
            let class: Arc<str> = class.as_str().into();
            for result in CallResult::ALL {
                let result = result.as_str().into();
                self.calls.remove(&Labels([
                    ("upstream", Arc::clone(&name)),
                    ("class", Arc::clone(&class)),
                    ("result", result),
                ]));
            }
            self.seconds.remove(&Labels([("upstream", Arc::clone(&name)), ("class", class)]));
        }
        for error in CallError::LABELS {
            self.errors.remove(&Labels([("upstream", Arc::clone(&name)), ("error", error.into())]));
        }
        let one = Labels([("upstream", name)]);
        self.tier.remove(&one);
        self.head.remove(&one);
        self.in_flight.remove(&one);
    }

    pub(crate) fn decided(&self, kind: DecisionKind) {
        self.decisions.get_or_create(&Labels([("kind", kind.as_str().into())])).inc();
    }

    pub(crate) fn switched(&self, class: EndpointClass) {
        self.switches.get_or_create(&Labels([("class", class.as_str().into())])).inc();
    }

    pub(crate) fn checked(&self, result: &'static str) {
        self.checks.get_or_create(&Labels([("result", result.into())])).inc();
    }
}

#[derive(Debug)]
struct ClassMetrics {
    results: [Counter; CallResult::ALL.len()],
    seconds: Histogram,
}

/// The metrics of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    name: Arc<str>,
    classes: [ClassMetrics; EndpointClass::ALL.len()],
    errors: Family<Labels<2>, Counter>,
    tier: Gauge,
    head: Gauge,
    in_flight: Gauge,
}

impl UpstreamMetrics {
    /// For an upstream that belongs to no pool.
    pub(crate) fn unregistered(name: &UpstreamName) -> Self {
        Metrics::default().upstream(name)
    }

    fn count(&self, class: EndpointClass, result: CallResult) -> Option<&ClassMetrics> {
        let class = self.classes.get(class.index())?;
        class.results.get(result as usize)?.inc();
        Some(class)
    }

    pub(crate) fn answered(&self, class: EndpointClass, status: StatusCode, elapsed: Duration) {
        if let Some(class) = self.count(class, CallResult::of(status)) {
            class.seconds.observe(elapsed.as_secs_f64());
        }
    }

    pub(crate) fn failed(&self, class: EndpointClass, error: &CallError) {
        self.count(class, CallResult::Failed);
        self.errors
            .get_or_create(&Labels([("upstream", Arc::clone(&self.name)), ("error", error.label().into())]))
            .inc();
    }

    pub(crate) fn state(&self, tier: HealthTier, head: Option<Slot>, in_flight: usize) {
        self.tier.set(tier as i64);
        self.head.set(head.map_or(0, |slot| i64::try_from(slot.0).unwrap_or(i64::MAX)));
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_measured_and_forgotten() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let name = UpstreamName::new("alpha").unwrap();
        let one = metrics.upstream(&name);
        one.answered(EndpointClass::Duty, StatusCode::OK, Duration::from_millis(3));
        one.failed(EndpointClass::Duty, &CallError::Stalled(Duration::from_secs(10)));
        one.state(HealthTier::Good, Some(Slot(77)), 2);
        metrics.decided(DecisionKind::Joined);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        for line in [
            r#"holdfast_switcher_upstream_calls_total{upstream="alpha",class="duty",result="success"} 1"#,
            r#"holdfast_switcher_upstream_calls_total{upstream="alpha",class="duty",result="failed"} 1"#,
            r#"holdfast_switcher_upstream_errors_total{upstream="alpha",error="stalled"} 1"#,
            r#"holdfast_switcher_upstream_tier{upstream="alpha"} 8"#,
            r#"holdfast_switcher_upstream_head_slot{upstream="alpha"} 77"#,
            r#"holdfast_switcher_decisions_total{kind="joined"} 1"#,
        ] {
            assert!(text().contains(line), "{line} is not in\n{}", text());
        }
        metrics.forget(&name);
        assert!(!text().contains("alpha"), "{}", text());
    }

    #[test]
    fn what_alerts_wait_for_is_there_from_the_start() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for result in Confirmation::WORDS {
            let line = format!("holdfast_switcher_checkpoint_checks_total{{result=\"{result}\"}} 0\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        for class in EndpointClass::ALL {
            let line = format!("holdfast_switcher_switches_total{{class=\"{}\"}} 0\n", class.as_str());
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
