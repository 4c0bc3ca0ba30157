//! From judged nodes to the next snapshot: rankings, and who serves from now on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PoolConfig;
use super::state::{Arranged, State};
use super::view::{ClassOrder, NodeView, PoolView};
use crate::balance::{Policy, Preference, Standing, rank};
use crate::chain::HeadRef;
use crate::class::EndpointClass;
use crate::decision::{Decision, DecisionKind};
use crate::upstream::UpstreamId;

/// Whether a node is in the new snapshot as it was in the old one.
fn same(old: &NodeView, new: &NodeView) -> bool {
    Arc::ptr_eq(&old.upstream, &new.upstream)
        && (old.health, old.observation, old.head, old.drained, old.finality_group)
            == (new.health, new.observation, new.head, new.drained, new.finality_group)
        && old.version == new.version
}

pub(super) fn view(
    state: &mut State,
    config: &PoolConfig,
    nodes: Vec<NodeView>,
    best_head: Option<HeadRef>,
    decisions: &mut Vec<Decision>,
    switched: &mut Vec<EndpointClass>,
) -> Arc<PoolView> {
    let last = Arc::clone(&state.last);
    let unchanged = last.nodes.len() == nodes.len()
        && last.nodes.iter().zip(&nodes).all(|(old, new)| same(old, new))
        && last.best_head == best_head
        && last.preferred == state.preferred
        && state.arranged == Arranged::AsBefore;
    if unchanged {
        return last;
    }
    let nodes: Vec<Arc<NodeView>> = nodes
        .into_iter()
        .map(|node| match last.node(node.id()) {
            Some(old) if same(old, &node) => Arc::clone(old),
            Some(_) | None => Arc::new(node),
        })
        .collect();
    for node in &nodes {
        let head = node.head.map(|head| head.slot);
        node.upstream.metrics().state(node.health.tier, head, node.upstream.in_flight());
    }
    let starting = state.is_starting();
    let mut orders = BTreeMap::new();
    let mut moves: BTreeMap<(Option<UpstreamId>, Option<UpstreamId>), Vec<EndpointClass>> = BTreeMap::new();
    for class in EndpointClass::ALL {
        let before = state.incumbents.get(&class).copied();
        // Another order is meant to count now, not when whoever serves falls ill.
        let incumbent = before.filter(|_| state.arranged < Arranged::Anew);
        let order = order(state, config.balancing.policy(class), &nodes, (class, incumbent));
        let first = order.nodes.first().map(|node| node.id());
        match first {
            // While nodes still come in at the start, the first to answer has no claim on its place.
            Some(_) if starting => None,
            Some(first) => state.incumbents.insert(class, first),
            None => state.incumbents.remove(&class),
        };
        if before != first && (order.policy == Policy::BestFirst || first.is_none()) {
            moves.entry((before, first)).or_default().push(class);
        }
        orders.insert(class, order);
    }
    let view = PoolView { nodes, orders, best_head, preferred: state.preferred, turns: Arc::clone(&last.turns) };
    for ((from, to), classes) in moves {
        // The first choice of all is no switch.
        if from.is_some() {
            decisions.push(switch(&view, from, to, (&classes, state.arranged)));
            switched.extend(classes);
        }
    }
    state.arranged = Arranged::AsBefore;
    Arc::new(view)
}

fn order(
    state: &State,
    policy: Policy,
    nodes: &[Arc<NodeView>],
    (class, incumbent): (EndpointClass, Option<UpstreamId>),
) -> ClassOrder {
    let standings: Vec<Standing> = nodes
        .iter()
        .map(|node| Standing {
            id: node.id(),
            eligibility: node.eligibility(class),
            tier: node.health.tier,
            priority: node.upstream.config().tier,
            preference: if state.preferred == Some(node.id()) { Preference::Preferred } else { Preference::Usual },
            weight: node.upstream.config().weight,
            place: state.place(node.id()),
        })
        .collect();
    let ranking = rank(&standings, incumbent);
    let by_id: BTreeMap<UpstreamId, &Arc<NodeView>> = nodes.iter().map(|node| (node.id(), node)).collect();
    let nodes = ranking.order.iter().filter_map(|id| by_id.get(id).map(|node| Arc::clone(node))).collect();
    ClassOrder { nodes, best: ranking.best, policy }
}

fn switch(
    view: &PoolView,
    from: Option<UpstreamId>,
    to: Option<UpstreamId>,
    (classes, arranged): (&[EndpointClass], Arranged),
) -> Decision {
    let name = |id: Option<UpstreamId>| {
        let node = id.and_then(|id| view.node(id));
        node.map_or_else(|| "nobody".to_owned(), |node| node.upstream.name().to_string())
    };
    let why = match from.and_then(|from| view.node(from)) {
        None => "it was removed".to_owned(),
        Some(_) if arranged == Arranged::Anew => "another order is configured".to_owned(),
        Some(node) => format!("it is {}: {}", node.health.tier.as_str(), node.observation.describe()),
    };
    let names: Vec<&str> = classes.iter().map(|class| class.as_str()).collect();
    let reason = format!("{} after {} ({why}), for {}", name(to), name(from), names.join(", "));
    let kind = if to.is_some() { DecisionKind::Switched } else { DecisionKind::NobodyLeft };
    let decision = Decision::general(kind, reason);
    match to.and_then(|to| view.node(to)) {
        Some(node) => Decision { upstream: Some(node.upstream.name().clone()), ..decision },
        None => decision,
    }
}
