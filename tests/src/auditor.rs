//! The independent judge: keeps every released signature and looks for a slashable pair.
//!
//! Written from EIP-3076 and the consensus specification's `is_slashable_attestation_data`, without
//! any code of the product: it keeps full history where the product keeps watermarks, and computes
//! signing roots with its own few lines of Merkleization.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

/// A 32-byte root.
pub type Root = [u8; 32];

/// What was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signed {
    /// A block header at a slot.
    Block {
        /// Slot of the block.
        slot: u64,
    },
    /// An attestation.
    Attestation {
        /// Source epoch.
        source: u64,
        /// Target epoch.
        target: u64,
    },
}

/// Two released signatures that get a validator slashed.
#[derive(Debug, Clone)]
pub struct SlashablePair {
    /// Whose.
    pub key: String,
    /// Released earlier, with its signing root.
    pub earlier: (Signed, Root),
    /// Released later, with its signing root.
    pub later: (Signed, Root),
}

/// Every released signature, by key.
///
/// It keeps full history where the product keeps watermarks: one vote for each target and one block for each slot
/// of a key, since a second one is a finding by itself. Looking for a surround vote reads only the targets between
/// the new vote's source and target, and those above it, so a million signatures cost no more than their memory.
#[derive(Default)]
pub struct Auditor {
    history: HashMap<String, History>,
    released: usize,
}

#[derive(Default)]
struct History {
    /// Source and root by target.
    votes: BTreeMap<u64, (u64, Root)>,
    /// Root by slot.
    blocks: BTreeMap<u64, Root>,
}

impl History {
    /// Adds a message; the earlier one it conflicts with, if there is one.
    fn add(&mut self, signed: Signed, root: Root) -> Option<(Signed, Root)> {
        match signed {
            Signed::Block { slot } => {
                let first = *self.blocks.entry(slot).or_insert(root);
                (first != root).then_some((signed, first))
            }
            Signed::Attestation { source, target } => {
                let conflict = self.conflict(source, target, root);
                self.votes.entry(target).or_insert((source, root));
                conflict
            }
        }
    }

    fn conflict(&self, source: u64, target: u64, root: Root) -> Option<(Signed, Root)> {
        let found = |(target, (source, root)): (&u64, &(u64, Root))| {
            (Signed::Attestation { source: *source, target: *target }, *root)
        };
        if let Some(first) = self.votes.get(&target)
            && *first != (source, root)
        {
            return Some(found((&target, first)));
        }
        // Votes that this one surrounds lie between its ends; votes that surround it end after it.
        let surrounded =
            self.votes.range(source.saturating_add(1).min(target)..target).find(|(_, vote)| vote.0 > source);
        let surrounding = self.votes.range(target.saturating_add(1)..).find(|(_, vote)| vote.0 < source);
        surrounded.or(surrounding).map(found)
    }
}

impl Auditor {
    /// Takes note of a released signature.
    ///
    /// # Errors
    /// The slashable pair it makes with an earlier one.
    pub fn release(&mut self, key: &str, signed: Signed, root: Root) -> Result<(), SlashablePair> {
        self.released += 1;
        if !self.history.contains_key(key) {
            self.history.insert(key.to_owned(), History::default());
        }
        let conflict = self.history.get_mut(key).and_then(|history| history.add(signed, root));
        match conflict {
            None => Ok(()),
            Some(earlier) => Err(SlashablePair { key: key.to_owned(), earlier, later: (signed, root) }),
        }
    }

    /// How many signatures were released, repeats included.
    pub fn released(&self) -> usize {
        self.released
    }

    /// Every distinct released message: key, what, signing root.
    pub fn all(&self) -> impl Iterator<Item = (&str, Signed, Root)> {
        self.history.iter().flat_map(|(key, history)| {
            let votes = history.votes.iter().map(|(target, (source, root))| {
                (key.as_str(), Signed::Attestation { source: *source, target: *target }, *root)
            });
            let blocks = history.blocks.iter().map(|(slot, root)| (key.as_str(), Signed::Block { slot: *slot }, *root));
            votes.chain(blocks)
        })
    }
}

fn hash(left: &Root, right: &Root) -> Root {
    let mut hasher = Sha256::new();
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

fn number(value: u64) -> Root {
    let mut leaf = [0; 32];
    leaf[..8].copy_from_slice(&value.to_le_bytes());
    leaf
}

fn merkleize<const N: usize>(leaves: [Root; N]) -> Root {
    let mut level = leaves.to_vec();
    level.resize(N.next_power_of_two(), [0; 32]);
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| hash(&pair[0], &pair[1])).collect();
    }
    level[0]
}

/// The chain a client signs for: one fork version for all epochs.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// Fork version in force.
    pub version: [u8; 4],
    /// Genesis validators root.
    pub genesis_validators_root: Root,
}

impl Chain {
    fn signing_root(&self, domain_type: u8, object: Root) -> Root {
        let mut version = [0; 32];
        version[..4].copy_from_slice(&self.version);
        let fork_data_root = hash(&version, &self.genesis_validators_root);
        let mut domain = [0; 32];
        domain[0] = domain_type;
        domain[4..].copy_from_slice(&fork_data_root[..28]);
        hash(&object, &domain)
    }

    fn fork_info(&self) -> serde_json::Value {
        let version = format!("0x{}", hex::encode(self.version));
        serde_json::json!({
            "fork": {"previous_version": version, "current_version": version, "epoch": "0"},
            "genesis_validators_root": format!("0x{}", hex::encode(self.genesis_validators_root)),
        })
    }

    /// An attestation request and its signing root. `seed` makes the beacon block root.
    pub fn attestation(&self, slot: u64, source: u64, target: u64, seed: u64) -> (serde_json::Value, Root) {
        let block_root = number(seed);
        let checkpoint = |epoch: u64| hash(&number(epoch), &number(epoch));
        let object = merkleize([number(slot), number(0), block_root, checkpoint(source), checkpoint(target)]);
        let show = |root: Root| format!("0x{}", hex::encode(root));
        let body = serde_json::json!({
            "type": "ATTESTATION",
            "fork_info": self.fork_info(),
            "attestation": {
                "slot": slot.to_string(), "index": "0", "beacon_block_root": show(block_root),
                "source": {"epoch": source.to_string(), "root": show(number(source))},
                "target": {"epoch": target.to_string(), "root": show(number(target))},
            },
        });
        (body, self.signing_root(1, object))
    }

    /// A block request (Deneb header) and its signing root. `seed` makes the body root.
    pub fn block(&self, slot: u64, seed: u64) -> (serde_json::Value, Root) {
        let object = merkleize([number(slot), number(7), number(1), number(2), number(seed)]);
        let show = |root: Root| format!("0x{}", hex::encode(root));
        let body = serde_json::json!({
            "type": "BLOCK_V2",
            "fork_info": self.fork_info(),
            "beacon_block": {"version": "DENEB", "block_header": {
                "slot": slot.to_string(), "proposer_index": "7", "parent_root": show(number(1)),
                "state_root": show(number(2)), "body_root": show(number(seed)),
            }},
        });
        (body, self.signing_root(0, object))
    }

    /// A RANDAO reveal request and its signing root.
    pub fn randao(&self, epoch: u64) -> (serde_json::Value, Root) {
        let body = serde_json::json!({
            "type": "RANDAO_REVEAL", "fork_info": self.fork_info(), "randao_reveal": {"epoch": epoch.to_string()},
        });
        (body, self.signing_root(2, number(epoch)))
    }
}

#[cfg(test)]
mod tests {
    //! The judge itself: it must find each kind of slashable pair and nothing else.
    use super::*;

    fn vote(source: u64, target: u64) -> Signed {
        Signed::Attestation { source, target }
    }

    #[test]
    fn finds_each_kind_of_offence() {
        let offences = [
            ((Signed::Block { slot: 5 }, [1; 32]), (Signed::Block { slot: 5 }, [2; 32])),
            ((vote(1, 4), [1; 32]), (vote(2, 4), [2; 32])),
            ((vote(1, 4), [1; 32]), (vote(2, 3), [2; 32])),
            ((vote(2, 3), [1; 32]), (vote(1, 4), [2; 32])),
        ];
        for (first, second) in offences {
            let mut auditor = Auditor::default();
            auditor.release("0xaa", first.0, first.1).expect("nothing before it");
            assert!(auditor.release("0xbb", second.0, second.1).is_ok(), "keys are independent");
            assert!(auditor.release("0xaa", second.0, second.1).is_err(), "{first:?} {second:?}");
        }
    }

    /// `is_slashable_attestation_data`, word for word.
    fn slashable(a: (Signed, Root), b: (Signed, Root)) -> bool {
        match (a.0, b.0) {
            (Signed::Block { slot: one }, Signed::Block { slot: two }) => one == two && a.1 != b.1,
            (
                Signed::Attestation { source: source_one, target: target_one },
                Signed::Attestation { source: source_two, target: target_two },
            ) => {
                (target_one == target_two && a != b)
                    || (source_one < source_two && target_two < target_one)
                    || (source_two < source_one && target_one < target_two)
            }
            (Signed::Block { .. }, Signed::Attestation { .. }) | (Signed::Attestation { .. }, Signed::Block { .. }) => {
                false
            }
        }
    }

    #[test]
    fn finds_what_a_comparison_of_all_pairs_finds() {
        let mut messages = Vec::new();
        for source in 0..4 {
            messages.extend(
                (source..5).flat_map(|target| [(vote(source, target), [1; 32]), (vote(source, target), [2; 32])]),
            );
        }
        messages.extend([(Signed::Block { slot: 2 }, [1; 32]), (Signed::Block { slot: 2 }, [2; 32])]);
        for first in &messages {
            for second in &messages {
                for third in &messages {
                    let mut auditor = Auditor::default();
                    let mut clean = true;
                    for (signed, root) in [first, second, third] {
                        clean &= auditor.release("0xaa", *signed, *root).is_ok();
                    }
                    let expected =
                        !slashable(*first, *second) && !slashable(*second, *third) && !slashable(*first, *third);
                    assert_eq!(clean, expected, "{first:?} {second:?} {third:?}");
                }
            }
        }
    }

    #[test]
    fn lets_harmless_pairs_pass() {
        let mut auditor = Auditor::default();
        for (signed, root) in [
            (Signed::Block { slot: 5 }, [1; 32]),
            (Signed::Block { slot: 5 }, [1; 32]),
            (Signed::Block { slot: 6 }, [2; 32]),
            (vote(1, 4), [1; 32]),
            (vote(1, 4), [1; 32]),
            (vote(1, 5), [2; 32]),
            (vote(4, 6), [3; 32]),
        ] {
            auditor.release("0xaa", signed, root).expect("harmless");
        }
        assert_eq!(auditor.released(), 7);
        assert_eq!(auditor.all().count(), 5);
    }
}
