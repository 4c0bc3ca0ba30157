//! The part of a network that is still to come: forks and limits of blobs at later epochs. Pure.
//!
//! Why it exists: nodes are updated for a fork while the switcher runs, so what they say about the future
//! replaces what was said at start. What it guarantees: genesis, constants and forks that are settled are never
//! replaced; of two schedules the one that knows more forks is told apart.

use std::cmp::Reverse;

use holdfast_domain::Epoch;

use super::compat::{FAR_FUTURE, NodeNetwork, blob_limits, scheduled};
use crate::network::SpecMap;

const FORK_EPOCH: &str = "_FORK_EPOCH";
const FORK_VERSION: &str = "_FORK_VERSION";
const BLOB_SCHEDULE: &str = "BLOB_SCHEDULE";
/// When things are due within a slot: comes with the fork that changes it.
const DUE: &str = "_DUE_BPS";

/// How far a schedule reaches. Greater is longer: more forks, then the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reach {
    /// Forks and changes of the limits of blobs.
    pub known: usize,
    /// The first of them.
    pub first: Reverse<u64>,
}

impl Reach {
    /// What a network knows after an epoch.
    pub fn of(network: &NodeNetwork, after: Epoch) -> Self {
        let later = |epoch: u64| scheduled(epoch).is_some_and(|epoch| epoch > after);
        let keys: Vec<u64> = network
            .spec
            .iter()
            .filter(|(key, _)| key.ends_with(FORK_EPOCH))
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .filter(|epoch| later(*epoch))
            .collect();
        let rows: Vec<u64> = network.forks.iter().map(|row| row.epoch.0).filter(|epoch| later(*epoch)).collect();
        let limits = network.spec.get(BLOB_SCHEDULE).and_then(blob_limits).unwrap_or_default();
        let limits: Vec<u64> = limits.into_keys().filter(|epoch| later(*epoch)).collect();
        // A fork stands in both lists, or in one.
        let known = keys.len().max(rows.len()).saturating_add(limits.len());
        let first = keys.into_iter().chain(rows).chain(limits).min().unwrap_or(FAR_FUTURE);
        Self { known, first: Reverse(first) }
    }
}

/// Whether a node leaves out a part of its schedule, which then says nothing about that part.
pub fn is_partial(network: &NodeNetwork) -> bool {
    network.forks.is_empty() || network.spec.get(BLOB_SCHEDULE).is_none()
}

/// The network with the schedule that a node tells. What is `settled` stays.
pub fn with_schedule_of(network: &NodeNetwork, node: &NodeNetwork, settled: Epoch) -> NodeNetwork {
    let kept = network.spec.iter().filter(|(key, _)| !told_anew(&network.spec, &node.spec, key, settled));
    let new = node.spec.iter().filter(|(key, _)| told_anew(&network.spec, &node.spec, key, settled));
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    NodeNetwork {
        genesis: network.genesis,
        spec: kept.chain(new).map(own).collect::<SpecMap>(),
        forks: node.forks.clone(),
    }
}

/// Whether a key is the node's to say.
fn told_anew(network: &SpecMap, node: &SpecMap, key: &str, settled: Epoch) -> bool {
    let is_settled = |fork: &str| {
        let epoch = network.number(&format!("{fork}{FORK_EPOCH}"));
        fork == "GENESIS" || epoch.is_some_and(|epoch| epoch <= settled.0)
    };
    if let Some(fork) = key.strip_suffix(FORK_EPOCH).or_else(|| key.strip_suffix(FORK_VERSION)) {
        return !is_settled(fork);
    }
    // Not telling these is no news.
    (key == BLOB_SCHEDULE || key.contains(DUE)) && node.get(key).is_some()
}

#[cfg(test)]
mod tests;
