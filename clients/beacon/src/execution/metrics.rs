//! What the execution pool measures. Labels come from node names and closed lists.
//!
//! Numbers of one node are looked up once, when it is added, so that one that is removed leaves no labels behind.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::health::Health;
use super::method::MethodKind;
use crate::decision::DecisionKind;
use crate::upstream::UpstreamName;

/// From a cached answer on this machine to a range of logs.
const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0];

/// How a call of a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CallEnd {
    /// A node answered.
    Answered,
    /// It is not passed on, or is not a call.
    Refused,
    /// No node could answer.
    Failed,
}

impl CallEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CallLabels {
    kind: &'static str,
    result: CallEnd,
}

impl EncodeLabelSet for CallLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("kind", self.kind), ("result", self.result.as_str())].encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct NodeLabels {
    upstream: String,
}

impl EncodeLabelSet for NodeLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("upstream", self.upstream.as_str())].encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HealthLabels {
    upstream: String,
    health: &'static str,
}

impl EncodeLabelSet for HealthLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("upstream", self.upstream.as_str()), ("health", self.health)].encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct DecisionLabels {
    kind: &'static str,
}

impl EncodeLabelSet for DecisionLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("kind", self.kind)].encode(encoder)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

/// The pool's metrics.
#[derive(Debug, Clone)]
pub struct ExecutionMetrics {
    calls: Family<CallLabels, Counter>,
    asked: Family<NodeLabels, Counter>,
    failed: Family<NodeLabels, Counter>,
    health: Family<HealthLabels, Gauge>,
    head: Family<NodeLabels, Gauge>,
    seconds: Family<NodeLabels, Histogram, Seconds>,
    decisions: Family<DecisionLabels, Counter>,
    moved: Counter,
    /// Open WebSocket connections of clients.
    pub(crate) websockets: Gauge,
    /// Subscriptions of clients.
    pub(crate) subscriptions: Gauge,
}

impl Default for ExecutionMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            asked: Family::default(),
            failed: Family::default(),
            health: Family::default(),
            head: Family::default(),
            seconds: Family::new_with_constructor(Seconds),
            decisions: Family::default(),
            moved: Counter::default(),
            websockets: Gauge::default(),
            subscriptions: Gauge::default(),
        }
    }
}

impl ExecutionMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("holdfast_execution");
        registry.register("calls", "Calls of clients by kind of method and result", self.calls.clone());
        registry.register("upstream_requests", "Requests sent to a node, probes not counted", self.asked.clone());
        registry.register("upstream_failures", "Requests a node did not answer as it should", self.failed.clone());
        registry.register("upstream_seconds", "Time to a node's whole answer", self.seconds.clone());
        registry.register("decisions", "Decisions by kind", self.decisions.clone());
        registry.register("upstream_health", "1 for the health a node has now", self.health.clone());
        registry.register("upstream_head_block", "Number of a node's highest block", self.head.clone());
        registry.register(
            "subscriptions_moved",
            "Subscriptions that were started again at another node",
            self.moved.clone(),
        );
        registry.register("websocket_connections", "Open WebSocket connections of clients", self.websockets.clone());
        registry.register("subscriptions", "Subscriptions of clients", self.subscriptions.clone());
    }

    pub(crate) fn call(&self, kind: Option<MethodKind>, result: CallEnd) {
        let kind = kind.map_or("none", MethodKind::as_str);
        self.calls.get_or_create(&CallLabels { kind, result }).inc();
    }

    pub(super) fn decided(&self, kind: DecisionKind) {
        self.decisions.get_or_create(&DecisionLabels { kind: kind.as_str() }).inc();
    }

    /// The numbers of one node.
    pub(super) fn node(&self, name: &UpstreamName) -> NodeMetrics {
        let one = || NodeLabels { upstream: name.to_string() };
        NodeMetrics {
            asked: self.asked.get_or_create_owned(&one()),
            failed: self.failed.get_or_create_owned(&one()),
            head: self.head.get_or_create_owned(&one()),
            seconds: self.seconds.get_or_create_owned(&one()),
            health: Health::ALL.map(|health| {
                let labels = HealthLabels { upstream: name.to_string(), health: health.as_str() };
                (health, self.health.get_or_create_owned(&labels))
            }),
        }
    }

    /// Forgets a node that was removed.
    pub(super) fn forget(&self, name: &UpstreamName) {
        let one = NodeLabels { upstream: name.to_string() };
        self.asked.remove(&one);
        self.failed.remove(&one);
        self.head.remove(&one);
        self.seconds.remove(&one);
        for health in Health::ALL {
            self.health.remove(&HealthLabels { upstream: name.to_string(), health: health.as_str() });
        }
    }

    pub(crate) fn subscriptions_moved(&self, count: usize) {
        self.moved.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}

/// The numbers of one node.
pub(super) struct NodeMetrics {
    asked: Counter,
    failed: Counter,
    head: Gauge,
    seconds: Histogram,
    health: [(Health, Gauge); Health::ALL.len()],
}

impl NodeMetrics {
    /// A request is sent.
    pub(super) fn asked(&self) {
        self.asked.inc();
    }

    /// It was answered after this time.
    pub(super) fn answered(&self, elapsed: Duration) {
        self.seconds.observe(elapsed.as_secs_f64());
    }

    /// It was not answered as it should have been.
    pub(super) fn failed(&self) {
        self.failed.inc();
    }

    pub(super) fn standing(&self, health: Health, head: Option<u64>) {
        for (candidate, gauge) in &self.health {
            gauge.set(i64::from(*candidate == health));
        }
        if let Some(head) = head {
            self.head.set(i64::try_from(head).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_measured_and_forgotten() {
        let metrics = ExecutionMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let name = UpstreamName::new("alpha").unwrap();
        let node = metrics.node(&name);
        node.asked();
        node.answered(Duration::from_millis(3));
        node.failed();
        node.standing(Health::Lagging, Some(77));
        metrics.decided(DecisionKind::Drained);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        for line in [
            r#"holdfast_execution_upstream_requests_total{upstream="alpha"} 1"#,
            r#"holdfast_execution_upstream_failures_total{upstream="alpha"} 1"#,
            r#"holdfast_execution_upstream_seconds_count{upstream="alpha"} 1"#,
            r#"holdfast_execution_upstream_health{upstream="alpha",health="lagging"} 1"#,
            r#"holdfast_execution_upstream_health{upstream="alpha",health="healthy"} 0"#,
            r#"holdfast_execution_upstream_head_block{upstream="alpha"} 77"#,
            r#"holdfast_execution_decisions_total{kind="drained"} 1"#,
        ] {
            assert!(text().contains(line), "{line} is not in\n{}", text());
        }
        metrics.forget(&name);
        node.failed();
        assert!(!text().contains("alpha"), "{}", text());
    }
}
