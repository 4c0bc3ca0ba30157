//! The pool's state as a document: for `holdfast switcher status`, the status page and monitoring.
//!
//! What it guarantees: it names nodes and shows addresses without credentials, nothing more; fields are only ever
//! added.

use serde::Serialize;

use super::pool::{Admission, ExecutionPool};
use crate::class::EndpointClass;
use crate::status::DecisionStatus;

/// State of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecutionStatus {
    /// Chain id of the pool; absent until a node has answered.
    pub chain_id: Option<u64>,
    /// Each node.
    pub nodes: Vec<NodeStatus>,
    /// The last decisions, newest first.
    pub decisions: Vec<DecisionStatus>,
}

/// State of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Address of its HTTP API, without credentials.
    pub url: String,
    /// Address of its WebSocket API, without credentials; absent if it has none.
    pub websocket_url: Option<String>,
    /// A word from [`super::Health::as_str`].
    pub health: &'static str,
    /// Why the last probe failed.
    pub last_error: Option<String>,
    /// Why the last connection to its WebSocket API failed.
    pub websocket_error: Option<String>,
    /// Its highest block.
    pub head_block: Option<u64>,
    /// Average time of its answers in milliseconds.
    pub latency_ms: Option<u64>,
    /// Whether it is drained.
    pub drained: bool,
    /// Whether the operator put it first.
    pub preferred: bool,
    /// Weight.
    pub weight: u16,
    /// Operator's order.
    pub priority: u8,
    /// Requests in progress.
    pub in_flight: usize,
}

impl ExecutionPool {
    /// State of now.
    pub fn status(&self) -> ExecutionStatus {
        let view = self.view();
        let nodes = view.members.iter().map(|member| {
            let (node, standing) = (&member.node, &member.standing);
            let upstream = node.upstream();
            let config = upstream.config();
            let mean = upstream.mean(EndpointClass::Read);
            NodeStatus {
                name: node.name().to_string(),
                url: config.url.to_string(),
                websocket_url: node.link().map(|link| link.url().to_string()),
                health: standing.health.as_str(),
                last_error: node.last_error(),
                websocket_error: node.link().and_then(super::link::LinkSource::last_error),
                head_block: standing.head.map(|head| head.0),
                latency_ms: mean.map(|mean| u64::try_from(mean.as_millis()).unwrap_or(u64::MAX)),
                drained: member.admission == Admission::Drained,
                preferred: view.preferred == Some(node.id()),
                weight: config.weight.0.get(),
                priority: config.tier.0,
                in_flight: upstream.in_flight(),
            }
        });
        ExecutionStatus {
            chain_id: view.chain.map(|chain| chain.0),
            nodes: nodes.collect(),
            decisions: DecisionStatus::newest_first(self.decisions.last()),
        }
    }
}
