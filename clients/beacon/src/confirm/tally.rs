//! Counting votes on checkpoints. Pure.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::chain::Checkpoint;
use crate::version::Vendor;

/// What the quorum says about a source and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Enough implementations say the same.
    Confirmed {
        /// How many.
        implementations: usize,
    },
    /// Enough implementations say something else.
    Disagreed {
        /// How many.
        implementations: usize,
    },
    /// Neither, within the time there was.
    Unknown(Why),
}

/// Why nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No network is known yet, or nobody may be asked.
    Nobody,
    /// The target is not of this epoch or the one before, so nodes cannot be asked about it.
    OtherEpoch,
    /// Too few answered in time.
    TooFewAnswers,
    /// Those that answered are split.
    Split,
}

impl Confirmation {
    /// Every name.
    pub(crate) const WORDS: [&'static str; 3] = ["confirmed", "disagreed", "unknown"];

    /// Name for labels and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed { .. } => "confirmed",
            Self::Disagreed { .. } => "disagreed",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// What one node would vote for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vote {
    pub(super) vendor: Vendor,
    pub(super) source: Checkpoint,
    pub(super) target: Checkpoint,
}

/// Who may vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Electorate {
    /// Nodes asked.
    pub(super) nodes: usize,
    /// Distinct implementations in the pool, whether they answer or not.
    pub(super) implementations: usize,
    /// Distinct implementations that have to agree, if the pool has as many.
    pub(super) wanted: NonZeroUsize,
}

/// Whether these votes are enough, one way or the other.
fn enough(votes: &[&Vote], electorate: Electorate) -> (bool, usize) {
    let vendors = votes.iter().map(|vote| vote.vendor).collect::<BTreeSet<_>>().len();
    let required = electorate.wanted.get().min(electorate.implementations).max(1);
    // Of one implementation, more than half of the nodes have to say the same.
    let several = required > 1 || votes.len().saturating_mul(2) > electorate.nodes;
    (vendors >= required && several, vendors)
}

/// The result so far; `None` if waiting for more answers may still change it.
pub(super) fn tally(
    votes: &[Vote],
    electorate: Electorate,
    source: Checkpoint,
    target: Checkpoint,
) -> Option<Confirmation> {
    let (agree, differ): (Vec<&Vote>, Vec<&Vote>) =
        votes.iter().partition(|vote| vote.source == source && vote.target == target);
    let (confirmed, implementations) = enough(&agree, electorate);
    let (refuted, against) = enough(&differ, electorate);
    let all_answered = votes.len() >= electorate.nodes;
    match (confirmed, refuted) {
        (true, false) if agree.len() > differ.len() => Some(Confirmation::Confirmed { implementations }),
        (_, true) => Some(Confirmation::Disagreed { implementations: against }),
        (true | false, false) if all_answered => Some(Confirmation::Unknown(Why::Split)),
        (true | false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use holdfast_domain::Epoch;

    use super::*;
    use crate::chain::BlockRoot;

    const SOURCE: Checkpoint = Checkpoint { epoch: Epoch(8), root: BlockRoot([8; 32]) };
    const TARGET: Checkpoint = Checkpoint { epoch: Epoch(9), root: BlockRoot([9; 32]) };
    const OTHER: Checkpoint = Checkpoint { epoch: Epoch(9), root: BlockRoot([0x99; 32]) };

    fn of(nodes: usize, implementations: usize, votes: &[(Vendor, Checkpoint)]) -> Option<Confirmation> {
        let votes: Vec<Vote> =
            votes.iter().map(|(vendor, target)| Vote { vendor: *vendor, source: SOURCE, target: *target }).collect();
        let wanted = NonZeroUsize::new(2).unwrap();
        tally(&votes, Electorate { nodes, implementations, wanted }, SOURCE, TARGET)
    }

    #[test]
    fn implementations_count_and_not_nodes() {
        use Vendor::{Lighthouse as L, Nimbus as N, Teku as T};
        let confirmed = |implementations| Some(Confirmation::Confirmed { implementations });
        assert_eq!(of(3, 2, &[(L, TARGET), (L, TARGET)]), None, "two of one implementation");
        assert_eq!(of(3, 2, &[(L, TARGET), (L, TARGET), (T, TARGET)]), confirmed(2));
        assert_eq!(of(3, 2, &[(L, TARGET), (L, TARGET), (T, OTHER)]), Some(Confirmation::Unknown(Why::Split)));
        assert_eq!(of(3, 3, &[(L, OTHER), (T, OTHER)]), Some(Confirmation::Disagreed { implementations: 2 }));
        assert_eq!(of(4, 3, &[(L, TARGET), (T, TARGET), (N, OTHER)]), confirmed(2));
        let split = [(L, TARGET), (T, TARGET), (L, OTHER), (T, OTHER)];
        assert_eq!(of(4, 2, &split), Some(Confirmation::Disagreed { implementations: 2 }), "a split is not a yes");
        assert_eq!(of(2, 2, &[]), None);
    }

    #[test]
    fn one_implementation_needs_most_of_its_nodes() {
        use Vendor::Lodestar as L;
        assert_eq!(of(3, 1, &[(L, TARGET)]), None);
        assert_eq!(of(3, 1, &[(L, TARGET), (L, TARGET)]), Some(Confirmation::Confirmed { implementations: 1 }));
        assert_eq!(of(3, 1, &[(L, TARGET), (L, OTHER)]), None);
        assert_eq!(of(2, 1, &[(L, TARGET), (L, OTHER)]), Some(Confirmation::Unknown(Why::Split)));
        assert_eq!(of(1, 1, &[(L, TARGET)]), Some(Confirmation::Confirmed { implementations: 1 }));
    }

    #[test]
    fn the_source_counts_as_much_as_the_target() {
        let vote = Vote { vendor: Vendor::Teku, source: TARGET, target: TARGET };
        let electorate = Electorate { nodes: 1, implementations: 1, wanted: NonZeroUsize::MIN };
        let result = tally(&[vote], electorate, SOURCE, TARGET);
        assert_eq!(result, Some(Confirmation::Disagreed { implementations: 1 }));
    }
}
