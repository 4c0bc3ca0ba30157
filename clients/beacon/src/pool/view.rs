//! An immutable snapshot of the pool: who may be asked what, in which order.
//!
//! Why it exists: requests read the choice of nodes without a lock, while probes and failed calls replace
//! it. What it guarantees: the nodes of one snapshot are judged by the same facts; an incompatible or
//! excluded node is in no list it returns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_domain::Epoch;

use crate::balance::{Policy, SmoothWeights, Sticky, dynamic_weight};
use crate::chain::HeadRef;
use crate::class::EndpointClass;
use crate::health::{Agreement, Eligibility, GroupId, Health, HealthTier, Observation};
use crate::upstream::{Upstream, UpstreamId};
use crate::version::{NodeVersion, Vendor};

/// How gladly a node's word on the head of the chain is passed on, worst first: that of the foremost in the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lead {
    /// Never.
    No,
    /// When nothing else is left.
    LastResort,
    /// It is in order, but its head is on another branch than most nodes'.
    OtherBranch,
    /// Yes.
    Yes,
}

/// One node in a snapshot.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The node itself.
    pub upstream: Arc<Upstream>,
    /// Its health, history included.
    pub health: Health,
    /// What was observed.
    pub observation: Observation,
    /// Its head.
    pub head: Option<HeadRef>,
    /// Whether the operator drains it.
    pub drained: bool,
    /// Its version, once it has told.
    pub version: Option<NodeVersion>,
    /// Nodes with the same number do not contradict each other's checkpoints.
    pub finality_group: GroupId,
}

impl NodeView {
    /// Its identity.
    pub fn id(&self) -> UpstreamId {
        self.upstream.id()
    }

    /// Its implementation; nodes that have not told count as one unknown one.
    pub fn vendor(&self) -> Vendor {
        self.version.as_ref().map_or(Vendor::Other, |version| version.vendor)
    }

    /// Whether it may serve a class, and how gladly.
    pub fn eligibility(&self, class: EndpointClass) -> Eligibility {
        let roles = class.roles();
        if roles != crate::upstream::Roles::NONE && !self.upstream.config().roles.intersects(roles) {
            return Eligibility::No;
        }
        self.health.eligibility(class)
    }

    /// How gladly its word on the head of the chain is passed on.
    pub(crate) fn lead(&self) -> Lead {
        match self.eligibility(EndpointClass::HotRead) {
            Eligibility::No => Lead::No,
            Eligibility::LastResort => Lead::LastResort,
            Eligibility::Yes if self.health.agreement <= Agreement::HeadFork => Lead::OtherBranch,
            Eligibility::Yes => Lead::Yes,
        }
    }
}

/// The ranking of one class.
#[derive(Debug, Clone, Default)]
pub(super) struct ClassOrder {
    pub(super) nodes: Vec<Arc<NodeView>>,
    /// How many of the first are equally good.
    pub(super) best: usize,
    pub(super) policy: Policy,
}

/// Whose turn it is: the one thing that changes between snapshots.
#[derive(Debug, Default)]
pub(super) struct Turns {
    smooth: Mutex<BTreeMap<EndpointClass, SmoothWeights>>,
    sticky: Mutex<Sticky>,
}

/// A snapshot of the pool.
#[derive(Debug, Clone, Default)]
pub struct PoolView {
    pub(super) nodes: Vec<Arc<NodeView>>,
    pub(super) orders: BTreeMap<EndpointClass, ClassOrder>,
    pub(super) best_head: Option<HeadRef>,
    pub(super) preferred: Option<UpstreamId>,
    pub(super) turns: Arc<Turns>,
}

impl PoolView {
    /// Every node, whatever its health.
    pub fn nodes(&self) -> &[Arc<NodeView>] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: UpstreamId) -> Option<&Arc<NodeView>> {
        self.nodes.iter().find(|node| node.id() == id)
    }

    /// The nodes that may serve a class: the balancer's choice, then the fallbacks in order. At the end
    /// there may be nodes of [`HealthTier::LastResort`] or below; empty if nobody may serve it.
    pub fn candidates(&self, class: EndpointClass) -> Vec<Arc<NodeView>> {
        let Some(order) = self.orders.get(&class) else { return Vec::new() };
        let mut nodes = order.nodes.clone();
        let best = order.nodes.get(..order.best).unwrap_or_default();
        let weights = |weight: fn(&NodeView, EndpointClass) -> u64| {
            let nodes: Vec<_> = best.iter().map(|node| (node.id(), weight(node, class))).collect();
            let mut smooth = self.turns.smooth.lock().unwrap_or_else(PoisonError::into_inner);
            smooth.entry(class).or_default().next(nodes.into_iter())
        };
        let turn = match order.policy {
            _ if best.len() < 2 => None,
            Policy::BestFirst => None,
            Policy::RoundRobin => weights(|_, _| 1),
            Policy::Weighted => weights(|node, _| u64::from(node.upstream.config().weight.0.get())),
            Policy::Dynamic => weights(|node, class| dynamic_weight(node.upstream.mean(class))),
        };
        if let Some(first) = turn {
            to_front(&mut nodes, first);
        }
        nodes
    }

    /// The nodes that may serve a class, as ranked; takes no turn.
    pub fn ranked(&self, class: EndpointClass) -> &[Arc<NodeView>] {
        self.orders.get(&class).map_or(&[], |order| order.nodes.as_slice())
    }

    /// The node the operator put first.
    pub fn preferred(&self) -> Option<UpstreamId> {
        self.preferred
    }

    /// As [`Self::candidates`], but whoever answered for `epoch` before comes first while it is fit to.
    pub fn sticky_candidates(&self, class: EndpointClass, epoch: Epoch) -> Vec<Arc<NodeView>> {
        let mut nodes = self.candidates(class);
        let fit = |id| {
            nodes.iter().any(|node| {
                node.id() == id && node.eligibility(class) == Eligibility::Yes && node.health.tier >= HealthTier::Behind
            })
        };
        let chosen = {
            let mut sticky = self.turns.sticky.lock().unwrap_or_else(PoisonError::into_inner);
            sticky.choose(class, epoch, fit, nodes.first().map(|node| node.id()))
        };
        if let Some(first) = chosen {
            to_front(&mut nodes, first);
        }
        nodes
    }

    /// For broadcasts and votes: every node that may serve the class and is not known to be down; if all
    /// are down, those.
    pub fn everyone(&self, class: EndpointClass) -> Vec<Arc<NodeView>> {
        let Some(order) = self.orders.get(&class) else { return Vec::new() };
        let up: Vec<_> = order.nodes.iter().filter(|node| node.health.tier > HealthTier::Down).cloned().collect();
        if up.is_empty() { order.nodes.clone() } else { up }
    }

    /// How many different implementations the compatible nodes run.
    pub fn distinct_vendors(&self) -> usize {
        let compatible = self.nodes.iter().filter(|node| node.health.tier > HealthTier::Drained);
        compatible.map(|node| node.vendor()).collect::<BTreeSet<_>>().len()
    }

    /// What those have in common whose word on the head of the chain is passed on.
    pub(crate) fn foremost(&self) -> Lead {
        self.nodes.iter().map(|node| node.lead()).max().unwrap_or(Lead::No)
    }

    /// The highest verified head among nodes that agree with the majority.
    pub fn best_head(&self) -> Option<HeadRef> {
        self.best_head
    }
}

fn to_front(nodes: &mut [Arc<NodeView>], id: UpstreamId) {
    if let Some(position) = nodes.iter().position(|node| node.id() == id)
        && let Some(front) = nodes.get_mut(..=position)
    {
        front.rotate_right(1);
    }
}
