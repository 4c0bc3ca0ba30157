//! What clients ask for: advancing, identical and conflicting messages near the present, by seed.

use holdfast_tests::auditor::{Root, Signed};
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One message to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// An attestation; `seed` makes the beacon block root.
    Attestation { source: u64, target: u64, seed: u64 },
    /// A block; `seed` makes the body root.
    Block { slot: u64, seed: u64 },
    /// A RANDAO reveal, which cannot be slashed.
    Randao { epoch: u64 },
}

impl Ask {
    /// Draws one around the slot that is now. Few distinct roots, so that repeats and conflicts are both common; some
    /// lie in the future.
    pub(crate) fn draw(rng: &mut ChaCha8Rng, now: u64) -> Self {
        let epoch = now / SLOTS_PER_EPOCH;
        let seed = rng.random_range(0..3);
        match rng.random_range(0..100) {
            0..45 => {
                let target = match rng.random_range(0..20) {
                    0..14 => epoch,
                    14..18 => epoch - 1,
                    18 => epoch - rng.random_range(2..6),
                    _ => epoch + rng.random_range(1..3),
                };
                let source = target.saturating_sub(rng.random_range(0..4));
                Self::Attestation { source, target, seed }
            }
            45..82 => {
                let slot = match rng.random_range(0..20) {
                    0..17 => now - rng.random_range(0..3),
                    17..19 => now - rng.random_range(0..12),
                    _ => now + rng.random_range(2..12),
                };
                Self::Block { slot, seed }
            }
            _ => Self::Randao { epoch },
        }
    }

    /// The same again, or something that cannot be signed beside it.
    pub(crate) fn vary(self, rng: &mut ChaCha8Rng) -> Self {
        if rng.random_bool(0.4) {
            return self;
        }
        let conflicts = self.conflicts();
        if conflicts.is_empty() { self } else { conflicts[rng.random_range(0..conflicts.len())] }
    }

    /// Messages of which none may be signed by the same key: double votes and blocks, a vote around it, a vote within it.
    pub(crate) fn conflicts(self) -> Vec<Self> {
        match self {
            Self::Attestation { source, target, seed } => {
                let mut conflicts = vec![
                    Self::Attestation { source, target, seed: seed + 1 },
                    Self::Attestation { source: source.saturating_sub(1), target, seed },
                    Self::Attestation { source: source.saturating_sub(1), target: target + 1, seed },
                ];
                if source + 2 < target {
                    conflicts.push(Self::Attestation { source: source + 1, target: target - 1, seed });
                }
                conflicts
            }
            Self::Block { slot, seed } => vec![Self::Block { slot, seed: seed + 1 }],
            Self::Randao { .. } => Vec::new(),
        }
    }

    /// The request body, what it is to the auditor, and its signing root.
    pub(crate) fn build(self) -> (serde_json::Value, Option<Signed>, Root) {
        match self {
            Self::Attestation { source, target, seed } => {
                let (body, root) = CHAIN.attestation(target * SLOTS_PER_EPOCH, source, target, seed);
                (body, Some(Signed::Attestation { source, target }), root)
            }
            Self::Block { slot, seed } => {
                let (body, root) = CHAIN.block(slot, seed);
                (body, Some(Signed::Block { slot }), root)
            }
            Self::Randao { epoch } => {
                let (body, root) = CHAIN.randao(epoch);
                (body, None, root)
            }
        }
    }
}
