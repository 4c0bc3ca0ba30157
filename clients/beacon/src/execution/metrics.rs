//! What the execution pool measures. Labels come from node names and closed lists.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::health::Health;
use super::method::MethodKind;

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

/// The pool's metrics.
#[derive(Debug, Clone, Default)]
pub struct ExecutionMetrics {
    calls: Family<CallLabels, Counter>,
    asked: Family<NodeLabels, Counter>,
    failed: Family<NodeLabels, Counter>,
    health: Family<HealthLabels, Gauge>,
    head: Family<NodeLabels, Gauge>,
    moved: Counter,
    /// Open WebSocket connections of clients.
    pub(crate) websockets: Gauge,
    /// Subscriptions of clients.
    pub(crate) subscriptions: Gauge,
}

impl ExecutionMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("holdfast_execution");
        registry.register("calls", "Calls of clients by kind of method and result", self.calls.clone());
        registry.register("upstream_requests", "Requests sent to a node, probes not counted", self.asked.clone());
        registry.register("upstream_failures", "Requests a node did not answer as it should", self.failed.clone());
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

    pub(crate) fn asked(&self, upstream: &str) {
        self.asked.get_or_create(&NodeLabels { upstream: upstream.to_owned() }).inc();
    }

    pub(crate) fn failed(&self, upstream: &str) {
        self.failed.get_or_create(&NodeLabels { upstream: upstream.to_owned() }).inc();
    }

    pub(crate) fn standing(&self, upstream: &str, health: Health, head: Option<u64>) {
        for candidate in Health::ALL {
            let labels = HealthLabels { upstream: upstream.to_owned(), health: candidate.as_str() };
            self.health.get_or_create(&labels).set(i64::from(candidate == health));
        }
        if let Some(head) = head {
            let labels = NodeLabels { upstream: upstream.to_owned() };
            self.head.get_or_create(&labels).set(i64::try_from(head).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn subscriptions_moved(&self, count: usize) {
        self.moved.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}
