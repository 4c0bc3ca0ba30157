//! What breaks, and which of it no signer can bridge.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One fault. Faults of nodes strike the node that the switcher prefers at that moment and those beside it, a quarter of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nothing: what the same slots are like without.
    Nothing,
    /// SIGKILL of a signer, which is started again at once.
    SignerKilled(usize),
    /// SIGTERM of a signer, and started again: an upgrade.
    SignerRestarted(usize),
    /// SIGSTOP of nodes: they take connections and answer nothing.
    NodesHung,
    /// SIGKILL of nodes; started again on their data.
    NodesKilled,
    /// Every answer of nodes takes 600 ms longer.
    NodesSlow,
    /// 20 ms between signers and database, each way.
    DatabaseFar,
    /// PostgreSQL is restarted.
    DatabaseRestarted,
}

/// What the rest of the soak must not restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signers {
    /// Both may be.
    Any,
    /// The second stays, so that there is a process whose memory can be watched for long.
    SecondStays,
}

impl Fault {
    /// Draws one: each kind once before any comes again.
    pub(crate) fn draw(bag: &mut Vec<Self>, random: &mut ChaCha8Rng, nodes: usize, signers: Signers) -> Self {
        if bag.is_empty() {
            // Drawn also where it does not count, so that the same seed goes on in the same way.
            let drawn = random.random_range(0..2);
            bag.extend([
                Self::Nothing,
                Self::SignerKilled(drawn),
                Self::SignerRestarted(1 - drawn),
                Self::NodesSlow,
                Self::DatabaseFar,
                Self::DatabaseRestarted,
            ]);
            // With one node there is nobody to take over.
            if nodes > 1 {
                bag.extend([Self::NodesHung, Self::NodesKilled]);
            }
        }
        let index = random.random_range(0..bag.len());
        match (bag.swap_remove(index), signers) {
            (Self::SignerKilled(_), Signers::SecondStays) => Self::SignerKilled(0),
            (Self::SignerRestarted(_), Signers::SecondStays) => Self::SignerRestarted(0),
            (fault, _) => fault,
        }
    }

    /// Slots it lasts.
    pub(crate) const fn slots(self) -> u64 {
        match self {
            Self::SignerKilled(_) | Self::SignerRestarted(_) | Self::DatabaseRestarted => 1,
            Self::Nothing | Self::NodesHung | Self::NodesKilled | Self::NodesSlow | Self::DatabaseFar => 4,
        }
    }

    /// Whether nodes are down by it: they answer nothing.
    pub(crate) const fn takes_nodes_down(self) -> bool {
        matches!(self, Self::NodesHung | Self::NodesKilled)
    }

    /// Whether a duty may be missed by it although Holdfast does all it can: without its only database nothing can be
    /// recorded, so nothing is signed.
    pub(crate) const fn excuses(self) -> bool {
        matches!(self, Self::DatabaseRestarted)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn each_kind_comes_once_before_any_comes_again_and_the_second_signer_can_be_spared() {
        let (mut bag, mut random) = (Vec::new(), ChaCha8Rng::seed_from_u64(1));
        for signers in [Signers::Any, Signers::SecondStays] {
            let mut drawn: Vec<Fault> = (0..8).map(|_| Fault::draw(&mut bag, &mut random, 3, signers)).collect();
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), 8, "{drawn:?}");
            let second = |fault: &Fault| matches!(fault, Fault::SignerKilled(1) | Fault::SignerRestarted(1));
            assert_eq!(drawn.iter().filter(|fault| second(fault)).count(), usize::from(signers == Signers::Any));
        }
        assert!((0..12).all(|_| !Fault::draw(&mut bag, &mut random, 1, Signers::Any).takes_nodes_down()));
    }
}
