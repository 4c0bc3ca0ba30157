//! The Merkle tree hash of RFC 6962 §2.1: leaves hashed with prefix 0x00, nodes with 0x01, split at the
//! largest power of two below the size. The prefixes keep a node from being passed off as a leaf.

use sha2::{Digest, Sha256};

use super::Hash;

/// Hash of one leaf: `SHA-256(0x00 || leaf)`.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x00]);
    hash.update(leaf);
    Hash(hash.finalize().into())
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0x01]);
    hash.update(left.0);
    hash.update(right.0);
    Hash(hash.finalize().into())
}

/// Builds a root leaf by leaf, keeping one hash per complete subtree.
#[derive(Debug, Default)]
pub struct Accumulator {
    /// Roots of complete subtrees, largest first; their sizes are the binary digits of `count`.
    subtrees: Vec<Hash>,
    count: u64,
}

impl Accumulator {
    /// Adds the next leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut hash = leaf_hash(leaf);
        // Each trailing one-bit of the count is a complete subtree as large as the one just finished.
        for _ in 0..self.count.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.count = self.count.saturating_add(1);
    }

    /// Number of leaves so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The root; of no leaves, the hash of nothing.
    pub fn root(&self) -> Hash {
        let folded = self.subtrees.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(|| Hash(Sha256::digest([]).into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word from the RFC.
    fn naive(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Hash(Sha256::digest([]).into()),
            [leaf] => leaf_hash(leaf),
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node_hash(&naive(left), &naive(right))
            }
        }
    }

    fn accumulated(leaves: &[Vec<u8>]) -> Hash {
        let mut tree = Accumulator::default();
        for leaf in leaves {
            tree.push(leaf);
        }
        assert_eq!(tree.count(), leaves.len() as u64);
        tree.root()
    }

    #[test]
    fn equals_the_definition_for_every_small_size() {
        let leaves: Vec<Vec<u8>> = (0u8..130).map(|byte| vec![byte; 3]).collect();
        for size in 0..=leaves.len() {
            assert_eq!(accumulated(&leaves[..size]), naive(&leaves[..size]), "size {size}");
        }
    }

    #[test]
    fn a_known_root() {
        // From the test data of the Certificate Transparency project: the tree of one empty leaf.
        assert_eq!(
            accumulated(&[vec![]]).to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    proptest! {
        #[test]
        fn equals_the_definition(leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..70)) {
            prop_assert_eq!(accumulated(&leaves), naive(&leaves));
        }
    }
}
