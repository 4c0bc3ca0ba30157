//! What breaks, and which of it no signer can bridge.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::stage::Stage;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: what the same slots are like without.
    Nothing,
    /// SIGKILL of a signer, which is started again at once.
    SignerKilled(usize),
    /// SIGTERM of a signer, and started again: an upgrade.
    SignerRestarted(usize),
    /// SIGSTOP of a node: it takes connections and answers nothing.
    NodeHung(usize),
    /// SIGKILL of a node; started again on its data.
    NodeKilled(usize),
    /// Every answer of a node takes 600 ms longer.
    NodeSlow(usize),
    /// 20 ms between signers and database, each way.
    DatabaseFar,
    /// PostgreSQL is restarted.
    DatabaseRestarted,
}

impl Fault {
    /// Draws one: each kind once before any comes again.
    pub(crate) fn draw(bag: &mut Vec<Self>, random: &mut ChaCha8Rng, stage: &Stage) -> Self {
        if bag.is_empty() {
            let (signer, node) = (random.random_range(0..2), random.random_range(0..stage.nodes()));
            bag.extend([
                Self::Nothing,
                Self::SignerKilled(signer),
                Self::SignerRestarted(1 - signer),
                Self::NodeSlow((node + 1) % stage.nodes()),
                Self::DatabaseFar,
                Self::DatabaseRestarted,
            ]);
            // With one node there is nobody to take over.
            if stage.nodes() > 1 {
                bag.extend([Self::NodeHung(node), Self::NodeKilled((node + 1) % stage.nodes())]);
            }
        }
        let index = random.random_range(0..bag.len());
        bag.swap_remove(index)
    }

    /// Slots it lasts.
    pub(crate) const fn slots(self) -> u64 {
        match self {
            Self::SignerKilled(_) | Self::SignerRestarted(_) | Self::DatabaseRestarted => 1,
            Self::Nothing | Self::NodeHung(_) | Self::NodeKilled(_) | Self::NodeSlow(_) | Self::DatabaseFar => 4,
        }
    }

    /// Whether a duty may be missed by it although Holdfast does all it can: without its only database nothing can be
    /// recorded, so nothing is signed.
    pub(crate) const fn excuses(self) -> bool {
        matches!(self, Self::DatabaseRestarted)
    }
}
