//! Merkle trees of which most is left out.
//!
//! Guarantees: [`prune`] names the fewest hashes from which, with the leaves that stay, the root of RFC 6962 §2.1
//! follows; [`root_of`] gives that root only for exactly such a list, so that a list has one meaning and one form.

use holdfast_slashing_db::journal::Hash;
use holdfast_slashing_db::journal::merkle::node_hash;

/// A part of a batch's tree, in the order of its leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// One leaf that stays: its place, and its hash.
    Leaf {
        /// Place among the leaves, from 0.
        index: u64,
        /// Its hash.
        hash: Hash,
    },
    /// So many leaves that are left out: the hash of the node above them.
    Omitted {
        /// How many leaves.
        size: u64,
        /// Their node.
        hash: Hash,
    },
}

impl Part {
    fn size(self) -> u64 {
        match self {
            Self::Leaf { .. } => 1,
            Self::Omitted { size, .. } => size,
        }
    }

    fn hash(self) -> Hash {
        match self {
            Self::Leaf { hash, .. } | Self::Omitted { hash, .. } => hash,
        }
    }
}

/// The largest power of two below `size`, where a tree of more than one leaf is split.
fn split(size: usize) -> usize {
    1 << (usize::BITS.saturating_sub(1)).saturating_sub(size.saturating_sub(1).leading_zeros())
}

/// The parts of a tree over `leaves` in which those marked in `shown` stay.
pub(crate) fn prune(leaves: &[Hash], shown: &[bool]) -> Vec<Part> {
    let mut parts = Vec::new();
    descend(leaves, shown, 0, &mut parts);
    parts
}

fn descend(leaves: &[Hash], shown: &[bool], first: u64, parts: &mut Vec<Part>) {
    if !shown.contains(&true) {
        if let Some(hash) = node_over(leaves) {
            parts.push(Part::Omitted { size: leaves.len() as u64, hash });
        }
        return;
    }
    if let [hash] = leaves {
        parts.push(Part::Leaf { index: first, hash: *hash });
        return;
    }
    let at = split(leaves.len());
    let (left, right) = leaves.split_at(at);
    let (left_shown, right_shown) = shown.split_at(at.min(shown.len()));
    descend(left, left_shown, first, parts);
    descend(right, right_shown, first.saturating_add(at as u64), parts);
}

/// The node above these leaves; `None` of none.
fn node_over(leaves: &[Hash]) -> Option<Hash> {
    match leaves {
        [] => None,
        [leaf] => Some(*leaf),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            Some(node_hash(&node_over(left)?, &node_over(right)?))
        }
    }
}

/// The root of a tree of `size` leaves of which these parts are given; `None` if they are not what [`prune`] makes.
pub(crate) fn root_of(parts: &[Part], size: u64) -> Option<Hash> {
    let mut rest = parts;
    let (root, _) = fold(&mut rest, size)?;
    rest.is_empty().then_some(root)
}

/// The hash over the next `size` leaves, and whether nothing of it stays.
fn fold(rest: &mut &[Part], size: u64) -> Option<(Hash, bool)> {
    let (next, after) = rest.split_first()?;
    if next.size() == size {
        *rest = after;
        return Some((next.hash(), matches!(next, Part::Omitted { .. })));
    }
    if next.size() > size || size < 2 {
        return None;
    }
    let left_size = split(usize::try_from(size).ok()?) as u64;
    let (left, left_omitted) = fold(rest, left_size)?;
    let (right, right_omitted) = fold(rest, size.checked_sub(left_size)?)?;
    // Left out as a whole it would have been one part.
    (!(left_omitted && right_omitted)).then(|| (node_hash(&left, &right), false))
}

#[cfg(test)]
mod tests {
    use holdfast_slashing_db::journal::merkle::{Accumulator, leaf_hash};
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: usize) -> (Vec<Hash>, Hash) {
        let mut tree = Accumulator::default();
        let hashes = (0..count)
            .map(|number| {
                let leaf = (number as u64).to_be_bytes();
                tree.push(&leaf);
                leaf_hash(&leaf)
            })
            .collect();
        (hashes, tree.root())
    }

    #[test]
    fn every_selection_of_small_trees_gives_the_root() {
        for count in 1..=9_usize {
            let (hashes, root) = leaves(count);
            for mask in 0..1_u32 << count {
                let shown: Vec<bool> = (0..count).map(|place| mask >> place & 1 == 1).collect();
                let parts = prune(&hashes, &shown);
                assert_eq!(root_of(&parts, count as u64), Some(root), "{count} {mask:b}");
                let kept = parts.iter().filter(|part| matches!(part, Part::Leaf { .. })).count();
                assert_eq!(kept, shown.iter().filter(|shown| **shown).count());
                assert_eq!(root_of(&parts, count as u64 + 1), None, "another size");
            }
        }
    }

    proptest! {
        #[test]
        fn a_list_has_one_form(count in 2..200_usize, seed in any::<u64>(), place in any::<prop::sample::Index>()) {
            let (hashes, root) = leaves(count);
            let shown: Vec<bool> = (0..count).zip(0..).map(|(_, at)| seed.rotate_left(at).is_multiple_of(5)).collect();
            let parts = prune(&hashes, &shown);
            prop_assert_eq!(root_of(&parts, count as u64), Some(root));
            // Dropped, doubled or swapped parts give nothing, or another root.
            let at = place.index(parts.len());
            let mut dropped = parts.clone();
            dropped.remove(at);
            prop_assert_ne!(root_of(&dropped, count as u64), Some(root));
            let mut doubled = parts.clone();
            doubled.insert(at, parts[at]);
            prop_assert_ne!(root_of(&doubled, count as u64), Some(root));
            if at > 0 {
                let mut swapped = parts.clone();
                swapped.swap(at, at - 1);
                prop_assert_ne!(root_of(&swapped, count as u64), Some(root));
            }
            // A part that is left out cannot be given as the two below it.
            if let Part::Omitted { size: 2, hash: _ } = parts[at] {
                let before: u64 = parts[..at].iter().map(|part| part.size()).sum();
                let first = usize::try_from(before).unwrap();
                let mut finer = parts.clone();
                finer.splice(at..=at, [first, first + 1].map(|leaf| Part::Omitted { size: 1, hash: hashes[leaf] }));
                prop_assert_eq!(root_of(&finer, count as u64), None);
            }
        }
    }
}
