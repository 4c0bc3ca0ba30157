//! The switcher's state as a document: for `holdfast switcher status`, the status page and monitoring.
//!
//! What it guarantees: it names upstreams and shows addresses without credentials, nothing more; fields are
//! only ever added.

use std::collections::BTreeMap;

use holdfast_domain::UnixMillis;
use serde::Serialize;

use crate::class::EndpointClass;
use crate::decision::Decision;
use crate::health::Eligibility;
use crate::pool::Pool;
use crate::upstream::Role;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusDocument {
    /// The network; `null` while no node has told one.
    pub network: Option<NetworkStatus>,
    /// Every upstream, in order of their addition.
    pub upstreams: Vec<UpstreamStatus>,
    /// By class: who is asked, best first.
    pub serving: BTreeMap<&'static str, Vec<String>>,
    /// The last decisions, newest first.
    pub decisions: Vec<DecisionStatus>,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkStatus {
    /// Which chain.
    pub genesis_validators_root: String,
    /// Slot of now.
    pub slot: u64,
    /// Epoch of now.
    pub epoch: u64,
    /// Length of a slot in milliseconds.
    pub slot_millis: u64,
    /// Highest verified head of the majority.
    pub head_slot: Option<u64>,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpstreamStatus {
    /// Name.
    pub name: String,
    /// Address without credentials.
    pub url: String,
    /// Version, once told.
    pub version: Option<String>,
    /// Implementation.
    pub client: &'static str,
    /// Health tier in effect.
    pub health: &'static str,
    /// What speaks against it.
    pub because: String,
    /// What keeps it from being promoted.
    pub waiting_for: Option<&'static str>,
    /// Differences from the pool's network.
    pub differences: Vec<String>,
    /// Why the last probe failed.
    pub last_error: Option<String>,
    /// How many peers it has, roughly; fewer than 50 are worth a look on a large network.
    pub peers: &'static str,
    /// Head slot.
    pub head_slot: Option<u64>,
    /// Head root.
    pub head_root: Option<String>,
    /// Group of nodes with the same checkpoints.
    pub finality_group: u16,
    /// Whether it is drained.
    pub drained: bool,
    /// Whether the operator put it first.
    pub preferred: bool,
    /// What it may be used for.
    pub roles: Vec<&'static str>,
    /// Weight.
    pub weight: u16,
    /// Operator's order.
    pub priority: u8,
    /// Calls in progress.
    pub in_flight: usize,
    /// By class: average and 90th percentile in milliseconds, late and all calls of the last 32 slots.
    pub performance: BTreeMap<&'static str, ClassStatus>,
}

/// One class of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassStatus {
    /// Average time to the head of an answer, in milliseconds.
    pub mean_millis: Option<f64>,
    /// 90th percentile, in milliseconds.
    pub p90_millis: Option<f64>,
    /// Late or failed calls in the last 32 slots.
    pub late: u32,
    /// All calls in the last 32 slots.
    pub calls: u32,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecisionStatus {
    /// Milliseconds since 1970.
    pub at_unix_millis: u64,
    /// Kind.
    pub kind: &'static str,
    /// About which upstream.
    pub upstream: Option<String>,
    /// For which class.
    pub class: Option<&'static str>,
    /// Why.
    pub reason: String,
}

impl DecisionStatus {
    /// From decisions that are oldest first.
    pub(crate) fn newest_first(decisions: Vec<(UnixMillis, Decision)>) -> Vec<Self> {
        let status = |(at, decision): (UnixMillis, Decision)| Self {
            at_unix_millis: at.0,
            kind: decision.kind.as_str(),
            upstream: decision.upstream.map(|name| name.to_string()),
            class: decision.class.map(EndpointClass::as_str),
            reason: decision.reason,
        };
        decisions.into_iter().rev().map(status).collect()
    }
}

impl Pool {
    /// The state of now.
    pub fn status(&self) -> StatusDocument {
        let view = self.view();
        let network = self.network().map(|network| NetworkStatus {
            genesis_validators_root: network.genesis().genesis_validators_root.to_string(),
            slot: network.slot_at(self.now()).0,
            epoch: network.epoch_at(self.now()).0,
            slot_millis: network.clock().slot_millis.get(),
            head_slot: view.best_head().map(|head| head.slot.0),
        });
        let serving = EndpointClass::ALL.map(|class| {
            let names = view.ranked(class).iter().map(|node| node.upstream.name().to_string()).collect();
            (class.as_str(), names)
        });
        StatusDocument {
            network,
            upstreams: self.upstream_status(),
            serving: serving.into(),
            decisions: DecisionStatus::newest_first(self.last_decisions()),
        }
    }

    fn upstream_status(&self) -> Vec<UpstreamStatus> {
        let view = self.view();
        let notes = self.notes();
        let nodes = view.nodes().iter().map(|node| {
            let config = node.upstream.config();
            let note = notes.get(&node.id()).cloned().unwrap_or_default();
            UpstreamStatus {
                name: config.name.to_string(),
                url: config.url.to_string(),
                version: node.version.as_ref().map(ToString::to_string),
                client: node.vendor().as_str(),
                health: node.health.tier.as_str(),
                because: node.observation.describe(),
                waiting_for: note.waiting_for,
                differences: note.differences,
                last_error: note.last_error,
                peers: node.observation.peers.as_str(),
                head_slot: node.head.map(|head| head.slot.0),
                head_root: node.head.and_then(|head| head.root).map(|root| root.to_string()),
                finality_group: node.finality_group.0,
                drained: node.drained,
                preferred: view.preferred() == Some(node.id()),
                roles: Role::ALL.into_iter().filter(|role| config.roles.contains(*role)).map(Role::as_str).collect(),
                weight: config.weight.0.get(),
                priority: config.tier.0,
                in_flight: node.upstream.in_flight(),
                performance: performance(node),
            }
        });
        nodes.collect()
    }
}

fn performance(node: &crate::NodeView) -> BTreeMap<&'static str, ClassStatus> {
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    let classes = EndpointClass::ALL.into_iter().filter_map(|class| {
        let share = node.upstream.late(class);
        let asked = share.calls > 0 && node.eligibility(class) > Eligibility::No;
        asked.then(|| {
            let status = ClassStatus {
                mean_millis: node.upstream.mean(class).map(millis),
                p90_millis: node.upstream.p90(class).map(millis),
                late: share.late,
                calls: share.calls,
            };
            (class.as_str(), status)
        })
    });
    classes.collect()
}
