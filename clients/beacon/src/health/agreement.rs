//! Which nodes are on one chain: groups by checkpoints and by ancestry of heads. Pure.
//!
//! Why it exists: a healthy-looking node on another branch answers duties that are worth nothing, or
//! worse. What it guarantees: two nodes whose checkpoints contradict each other are never in one group; a
//! node that merely lags is not taken for one on another chain; a majority is counted in distinct
//! implementations first, so that three nodes of one client do not outvote three different ones.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::Slot;

use super::observation::Agreement;
use crate::chain::{BlockRoot, Checkpoint};
use crate::upstream::UpstreamId;
use crate::version::Vendor;

/// Blocks remembered: two epochs of mainnet and a reserve for branches.
const REMEMBERED_BLOCKS: usize = 256;

/// Which group of nodes that agree a node is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// Parents of the blocks seen lately, from any node.
#[derive(Debug, Clone, Default)]
pub struct BlockTree {
    blocks: BTreeMap<BlockRoot, (Slot, BlockRoot)>,
    by_slot: BTreeSet<(u64, BlockRoot)>,
}

/// How two heads are related, as far as the known blocks tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    SameChain,
    Branched,
    Unknown,
}

impl BlockTree {
    /// Remembers a block; the oldest is forgotten when there are too many.
    pub fn insert(&mut self, root: BlockRoot, slot: Slot, parent: BlockRoot) {
        self.blocks.insert(root, (slot, parent));
        self.by_slot.insert((slot.0, root));
        if self.by_slot.len() > REMEMBERED_BLOCKS
            && let Some((_, oldest)) = self.by_slot.pop_first()
        {
            self.blocks.remove(&oldest);
        }
    }

    /// Whether a block is known.
    pub fn contains(&self, root: &BlockRoot) -> bool {
        self.blocks.contains_key(root)
    }

    /// Walks both branches down, the higher one first, until they meet or one leaves what is known.
    fn relation(&self, one: BlockRoot, other: BlockRoot) -> Relation {
        let (mut a, mut b) = (one, other);
        for _ in 0..REMEMBERED_BLOCKS {
            if a == b {
                return if a == one || a == other { Relation::SameChain } else { Relation::Branched };
            }
            let (Some((slot_a, parent_a)), Some((slot_b, parent_b))) = (self.blocks.get(&a), self.blocks.get(&b))
            else {
                return Relation::Unknown;
            };
            if slot_a >= slot_b {
                a = *parent_a;
            } else {
                b = *parent_b;
            }
        }
        Relation::Unknown
    }
}

/// What one node says about its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainView {
    /// Who.
    pub upstream: UpstreamId,
    /// Which implementation.
    pub vendor: Vendor,
    /// Its head block.
    pub head: Option<BlockRoot>,
    /// Its justified checkpoint.
    pub justified: Option<Checkpoint>,
    /// Its finalized checkpoint.
    pub finalized: Option<Checkpoint>,
}

/// The result of [`group`] for one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// Nodes with the same number do not contradict each other's checkpoints.
    pub group: GroupId,
    /// Where it stands towards the majority.
    pub agreement: Agreement,
}

fn contradict(one: Option<Checkpoint>, other: Option<Checkpoint>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.epoch == other.epoch && one.root != other.root)
}

fn checkpoints_contradict(one: &ChainView, other: &ChainView) -> bool {
    contradict(one.finalized, other.finalized) || contradict(one.justified, other.justified)
}

/// How much a set of nodes weighs: implementations first, then nodes.
fn weight<'a>(members: impl Iterator<Item = &'a ChainView>) -> (usize, usize) {
    let mut vendors = BTreeSet::new();
    let mut nodes = 0usize;
    for member in members {
        vendors.insert(member.vendor);
        nodes = nodes.saturating_add(1);
    }
    (vendors.len(), nodes)
}

/// Sorts members into groups so that no two of one group fail `together`.
fn partition<'a>(
    nodes: impl Iterator<Item = &'a ChainView>,
    together: impl Fn(&ChainView, &ChainView) -> bool,
) -> Vec<Vec<&'a ChainView>> {
    let mut groups: Vec<Vec<&ChainView>> = Vec::new();
    for node in nodes {
        match groups.iter_mut().find(|group| group.iter().all(|member| together(member, node))) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    groups
}

/// The heaviest group; `None` if two weigh the same.
fn majority(groups: &[Vec<&ChainView>]) -> Option<usize> {
    let mut weights: Vec<_> =
        groups.iter().enumerate().map(|(index, group)| (weight(group.iter().copied()), index)).collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    match weights.as_slice() {
        [] => None,
        [(_, only)] => Some(*only),
        [(first, index), (second, _), ..] => (first > second).then_some(*index),
    }
}

/// Groups nodes and says who is with the majority.
pub fn group(nodes: &[ChainView], tree: &BlockTree) -> BTreeMap<UpstreamId, Grouping> {
    let groups = partition(nodes.iter(), |a, b| !checkpoints_contradict(a, b));
    let main = majority(&groups);
    let mut result = BTreeMap::new();
    for (index, members) in groups.iter().enumerate() {
        let id = GroupId(u16::try_from(index).unwrap_or(u16::MAX));
        // Within a group, heads may still sit on different branches for a slot or two.
        let branches = partition(members.iter().copied(), |a, b| match (a.head, b.head) {
            (Some(a), Some(b)) => tree.relation(a, b) != Relation::Branched,
            (None, _) | (_, None) => true,
        });
        let branch = majority(&branches);
        for (branch_index, on_branch) in branches.iter().enumerate() {
            for node in on_branch {
                let agreement = match (main, branch) {
                    (Some(main), _) if main != index => Agreement::Minority,
                    (None, _) | (Some(_), None) => Agreement::Undecided,
                    (Some(_), Some(branch)) if branch != branch_index => Agreement::HeadFork,
                    (Some(_), Some(_)) => Agreement::Majority,
                };
                result.insert(node.upstream, Grouping { group: id, agreement });
            }
        }
    }
    result
}

#[cfg(test)]
mod tests;
