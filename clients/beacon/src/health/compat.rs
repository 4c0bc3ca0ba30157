//! The compatibility gate: does a node describe the network the pool is on? Pure.
//!
//! Why it exists: an answer from another network is worse than none. What it guarantees: any difference
//! in genesis, in a constant of consensus, or in a fork that is settled makes a node incompatible; a difference
//! in a fork that is not is a warning, and excludes from an epoch before that fork if others are there to serve;
//! each difference is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use holdfast_domain::Epoch;

use super::observation::Compatibility;
use crate::Genesis;
use crate::network::{ForkRow, SpecMap};

/// "Not scheduled" (consensus specification, `FAR_FUTURE_EPOCH`).
pub(super) const FAR_FUTURE: u64 = u64::MAX;

/// What one node says about its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNetwork {
    /// Genesis.
    pub genesis: Genesis,
    /// Specification.
    pub spec: SpecMap,
    /// Fork schedule.
    pub forks: Vec<ForkRow>,
}

/// One difference between a node and the pinned network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which value.
    pub what: String,
    /// What the pool is on.
    pub pinned: String,
    /// What the node says.
    pub node: String,
    /// From which epoch it matters; `None` if always.
    pub from: Option<Epoch>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} here and {} there", self.what, self.pinned, self.node)?;
        match self.from {
            Some(epoch) => write!(f, ", from epoch {epoch}"),
            None => Ok(()),
        }
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The tier.
    pub compatibility: Compatibility,
    /// Every difference found.
    pub differences: Vec<Difference>,
}

/// Constants that enter signatures, shuffling, timing or validity.
const CONSENSUS_KEYS: [&str; 26] = [
    "PRESET_BASE",
    "SLOTS_PER_EPOCH",
    "DEPOSIT_CHAIN_ID",
    "DEPOSIT_CONTRACT_ADDRESS",
    "MAX_COMMITTEES_PER_SLOT",
    "TARGET_COMMITTEE_SIZE",
    "MAX_VALIDATORS_PER_COMMITTEE",
    "SHUFFLE_ROUND_COUNT",
    "SYNC_COMMITTEE_SIZE",
    "EPOCHS_PER_SYNC_COMMITTEE_PERIOD",
    "SYNC_COMMITTEE_SUBNET_COUNT",
    "TARGET_AGGREGATORS_PER_COMMITTEE",
    "TARGET_AGGREGATORS_PER_SYNC_SUBCOMMITTEE",
    "MIN_SEED_LOOKAHEAD",
    "MAX_SEED_LOOKAHEAD",
    "MIN_ATTESTATION_INCLUSION_DELAY",
    "SLOTS_PER_HISTORICAL_ROOT",
    "EPOCHS_PER_HISTORICAL_VECTOR",
    "MAX_EFFECTIVE_BALANCE",
    "MAX_EFFECTIVE_BALANCE_ELECTRA",
    "EFFECTIVE_BALANCE_INCREMENT",
    "EJECTION_BALANCE",
    "SHARD_COMMITTEE_PERIOD",
    "MAX_BLOBS_PER_BLOCK",
    "MAX_BLOBS_PER_BLOCK_ELECTRA",
    "GENESIS_FORK_VERSION",
];

/// Whether somebody is there to serve who agrees with what is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Yes: a node that does not is not needed.
    There,
    /// No: without the node that is judged there would be nobody.
    Nobody,
}

/// What decides how much a difference counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Forks up to this epoch are in force and cannot change any more.
    pub settled: Epoch,
    /// The epoch of now.
    pub now: Epoch,
    /// Who else is there.
    pub others: Others,
}

/// A fork is near when it begins in the next epoch at the latest.
fn near(now: Epoch) -> Epoch {
    Epoch(now.0.saturating_add(1))
}

/// Every difference between what a node says and the network.
pub fn compare(pinned: &NodeNetwork, node: &NodeNetwork) -> Vec<Difference> {
    let mut differences = Vec::new();
    genesis(&pinned.genesis, &node.genesis, &mut differences);
    constants(&pinned.spec, &node.spec, &mut differences);
    fork_keys(pinned, node, &mut differences);
    schedules(&pinned.forks, &node.forks, &mut differences);
    blobs(&pinned.spec, &node.spec, &mut differences);
    differences
}

/// What a node's differences make of it.
pub fn judge(differences: &[Difference], gate: Gate) -> Compatibility {
    let worst = differences.iter().map(|difference| match difference.from {
        None => Compatibility::Incompatible,
        Some(from) if from <= gate.settled => Compatibility::Incompatible,
        Some(from) if from <= near(gate.now) && gate.others == Others::There => Compatibility::Incompatible,
        Some(_) => Compatibility::FutureFork,
    });
    worst.fold(Compatibility::Compatible, Ord::min)
}

/// Whether a node with these differences is on the network until an epoch, that epoch included.
pub fn agrees_until(differences: &[Difference], epoch: Epoch) -> bool {
    differences.iter().all(|difference| difference.from.is_some_and(|from| from > epoch))
}

/// Whether a node with these differences will be on the network in the next epoch, too.
pub fn agrees_for_now(differences: &[Difference], now: Epoch) -> bool {
    agrees_until(differences, near(now))
}

fn differ(
    out: &mut Vec<Difference>,
    what: &str,
    pinned: impl fmt::Display,
    node: impl fmt::Display,
    from: Option<Epoch>,
) {
    out.push(Difference { what: what.to_owned(), pinned: shortened(&pinned), node: shortened(&node), from });
}

/// A node's text is not trusted to be short or plain.
fn shortened(text: &impl fmt::Display) -> String {
    text.to_string().chars().filter(|c| !c.is_control()).take(80).collect()
}

fn genesis(pinned: &Genesis, node: &Genesis, out: &mut Vec<Difference>) {
    if pinned.genesis_validators_root != node.genesis_validators_root {
        differ(out, "genesis_validators_root", pinned.genesis_validators_root, node.genesis_validators_root, None);
    }
    if pinned.genesis_fork_version != node.genesis_fork_version {
        differ(out, "genesis_fork_version", pinned.genesis_fork_version, node.genesis_fork_version, None);
    }
    if pinned.genesis_time_seconds != node.genesis_time_seconds {
        differ(out, "genesis_time", pinned.genesis_time_seconds, node.genesis_time_seconds, None);
    }
}

/// Clients list different sets of keys, so a key only one side has says nothing.
fn constants(pinned: &SpecMap, node: &SpecMap, out: &mut Vec<Difference>) {
    let domains = pinned.iter().map(|(key, _)| key).filter(|key| key.starts_with("DOMAIN_"));
    for key in CONSENSUS_KEYS.into_iter().chain(domains) {
        if let (Some(ours), Some(theirs)) = (pinned.get(key), node.get(key))
            && !ours.eq_ignore_ascii_case(theirs)
        {
            differ(out, key, ours, theirs, None);
        }
    }
    let slot =
        |spec: &SpecMap| spec.number("SLOT_DURATION_MS").or_else(|| spec.number("SECONDS_PER_SLOT")?.checked_mul(1000));
    if let (Some(ours), Some(theirs)) = (slot(pinned), slot(node))
        && ours != theirs
    {
        differ(out, "SLOT_DURATION_MS", ours, theirs, None);
    }
}

pub(super) fn scheduled(epoch: u64) -> Option<Epoch> {
    (epoch != FAR_FUTURE).then_some(Epoch(epoch))
}

/// A fork one side does not list is not scheduled there, unless its schedule has a row for that epoch.
fn fork_keys(pinned: &NodeNetwork, node: &NodeNetwork, out: &mut Vec<Difference>) {
    let keys = |spec: &SpecMap| -> BTreeSet<String> {
        spec.iter().filter_map(|(key, _)| key.strip_suffix("_FORK_EPOCH")).map(str::to_owned).collect()
    };
    let epoch = |network: &NodeNetwork, fork: &str, other: Option<u64>| {
        let listed = network.spec.number(&format!("{fork}_FORK_EPOCH"));
        listed
            .or_else(|| other.filter(|other| network.forks.iter().any(|row| row.epoch.0 == *other)))
            .unwrap_or(FAR_FUTURE)
    };
    for fork in keys(&pinned.spec).union(&keys(&node.spec)) {
        let key = format!("{fork}_FORK_EPOCH");
        let ours = epoch(pinned, fork, node.spec.number(&key));
        let theirs = epoch(node, fork, pinned.spec.number(&key));
        let show = |epoch| scheduled(epoch).map_or_else(|| "not scheduled".to_owned(), |epoch| epoch.to_string());
        let first = scheduled(ours.min(theirs));
        if ours != theirs {
            differ(out, &key, show(ours), show(theirs), first);
        }
        let key = format!("{fork}_FORK_VERSION");
        if let (Some(ours), Some(theirs), Some(_)) = (pinned.spec.get(&key), node.spec.get(&key), first)
            && !ours.eq_ignore_ascii_case(theirs)
        {
            differ(out, &key, ours, theirs, first);
        }
    }
}

/// Clients list forks that begin together in different ways, so what counts is the version in force.
fn schedules(pinned: &[ForkRow], node: &[ForkRow], out: &mut Vec<Difference>) {
    if pinned.is_empty() || node.is_empty() {
        return;
    }
    let at = |rows: &[ForkRow], epoch: Epoch| {
        rows.iter().filter(|row| row.epoch <= epoch).max_by_key(|row| row.epoch).map(|row| row.current_version)
    };
    let epochs: BTreeSet<u64> =
        pinned.iter().chain(node).map(|row| row.epoch.0).filter(|epoch| *epoch != FAR_FUTURE).collect();
    for epoch in epochs.into_iter().map(Epoch) {
        let show = |version: Option<_>| {
            version.map_or_else(|| "none".to_owned(), |version: holdfast_domain::ForkVersion| version.to_string())
        };
        let (ours, theirs) = (at(pinned, epoch), at(node, epoch));
        if ours != theirs {
            differ(out, "fork version in fork_schedule", show(ours), show(theirs), Some(epoch));
            return;
        }
    }
}

fn blobs(pinned: &SpecMap, node: &SpecMap, out: &mut Vec<Difference>) {
    let (Some(ours), Some(theirs)) = (pinned.get("BLOB_SCHEDULE"), node.get("BLOB_SCHEDULE")) else { return };
    let (Some(our_limits), Some(their_limits)) = (blob_limits(ours), blob_limits(theirs)) else { return };
    let first = our_limits
        .keys()
        .chain(their_limits.keys())
        .copied()
        .filter(|epoch| our_limits.get(epoch) != their_limits.get(epoch))
        .min();
    if let Some(epoch) = first.and_then(scheduled) {
        differ(out, "BLOB_SCHEDULE", ours, theirs, Some(epoch));
    }
}

/// Epoch to most blobs; numbers may be quoted or not.
pub(super) fn blob_limits(text: &str) -> Option<BTreeMap<u64, u64>> {
    let rows: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).ok()?;
    let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    rows.iter().map(|row| Some((number(row.get("EPOCH")?)?, number(row.get("MAX_BLOBS_PER_BLOCK")?)?))).collect()
}

#[cfg(test)]
mod tests;
