//! The vote on attestation data: which answer, if any, a validator may be given to sign.
//!
//! Why it exists: a wrong target finalizes a wrong chain and cannot be taken back, while a missed
//! attestation costs next to nothing. So source and target need a quorum, counted in distinct
//! implementations where there are enough of them: two nodes of one client share its bugs. Only the head
//! is taken from the freshest view. What it guarantees: a pure function; adding an agreeing ballot never
//! takes a quorum away, the order of ballots does not matter, and no answer outside the winning group wins.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use holdfast_domain::Slot;

use super::attestation::AttestationData;
use crate::{BlockRoot, UpstreamId};

/// Who votes: a node, and which implementation it is, if that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voter<V> {
    /// The node.
    pub upstream: UpstreamId,
    /// Its implementation.
    pub vendor: Option<V>,
}

/// How large a group must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quorum {
    /// More than half of those that answered or still may: a node that is down neither agrees nor disagrees.
    #[default]
    Majority,
    /// At least so many, however few answer.
    AtLeast(u16),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    /// Distinct implementations when at least three are present (fewer have no majority short of
    /// unanimity), otherwise nodes.
    #[default]
    Implementations,
    /// Nodes.
    Nodes,
}

/// The rule of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoteRule {
    /// How large a group must be.
    pub quorum: Quorum,
    /// What is counted.
    pub counting: Counting,
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ballot<V> {
    /// Who gave it.
    pub voter: Voter<V>,
    /// What it says.
    pub data: AttestationData,
}

/// How a vote stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This ballot (its position) is the answer so far; a later one may only bring a fresher head.
    Won(usize),
    /// Nobody has a quorum, but those still to answer could make one.
    Open,
    /// No quorum is possible any more.
    Lost,
}

/// Number of distinct implementations from which on they are what counts.
const ENOUGH_IMPLEMENTATIONS: usize = 3;

/// How the vote stands when `ballots` are in and the voters `outstanding` may still answer.
/// `slot_of` tells a head's slot, if the pool knows it.
pub fn stand<V: Ord + Copy>(
    rule: VoteRule,
    ballots: &[Ballot<V>],
    outstanding: &[Voter<V>],
    slot_of: impl Fn(&BlockRoot) -> Option<Slot>,
) -> Standing {
    let entitled: Vec<Voter<V>> =
        ballots.iter().map(|ballot| ballot.voter).chain(outstanding.iter().copied()).collect();
    let units = Units::of(rule.counting, &entitled);
    let required = units.required(rule.quorum);
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (position, ballot) in ballots.iter().enumerate() {
        groups.entry((ballot.data.source, ballot.data.target)).or_default().push(position);
    }
    let camps: Vec<Vec<Voter<V>>> =
        groups.values().map(|group| group.iter().filter_map(|p| ballots.get(*p)).map(|b| b.voter).collect()).collect();
    let weights = units.weigh(&camps);
    // Two groups can both reach a number below the majority; then neither is the answer.
    let mut winners = groups.values().zip(&weights).filter(|(_, weight)| **weight >= required);
    match (winners.next(), winners.next()) {
        (Some((group, _)), None) => freshest(ballots, group, slot_of).map_or(Standing::Lost, Standing::Won),
        (Some(_), Some(_)) => Standing::Lost,
        (None, _) => {
            let best = weights.iter().copied().max().unwrap_or(0);
            let undecided = units.undecided(outstanding);
            if best.saturating_add(undecided) >= required { Standing::Open } else { Standing::Lost }
        }
    }
}

/// The answer of the group whose head is newest; among equals the head most nodes name, then the earliest answer. Of those
/// who name this head, what most say of its index: since Gloas that is whether the payload is there.
fn freshest<V>(ballots: &[Ballot<V>], group: &[usize], slot_of: impl Fn(&BlockRoot) -> Option<Slot>) -> Option<usize> {
    let said: Vec<(usize, &AttestationData)> =
        group.iter().filter_map(|position| Some((*position, &ballots.get(*position)?.data))).collect();
    let newest = said
        .iter()
        .max_by_key(|(position, data)| {
            let head = data.beacon_block_root;
            let support = said.iter().filter(|(_, other)| other.beacon_block_root == head).count();
            (slot_of(&head), support, Reverse(*position))
        })
        .map(|(_, data)| data.beacon_block_root)?;
    let same: Vec<(usize, u64)> = said
        .iter()
        .filter(|(_, data)| data.beacon_block_root == newest)
        .map(|(position, data)| (*position, data.index))
        .collect();
    same.iter()
        .max_by_key(|(position, index)| {
            let support = same.iter().filter(|(_, other)| other == index).count();
            (support, Reverse(*position))
        })
        .map(|(position, _)| *position)
}

/// What is counted in one vote.
enum Units {
    Implementations(usize),
    Nodes(usize),
}

impl Units {
    fn of<V: Ord + Copy>(counting: Counting, entitled: &[Voter<V>]) -> Self {
        let vendors: BTreeSet<V> = entitled.iter().filter_map(|voter| voter.vendor).collect();
        match counting {
            Counting::Implementations if vendors.len() >= ENOUGH_IMPLEMENTATIONS => {
                Self::Implementations(vendors.len())
            }
            Counting::Implementations | Counting::Nodes => Self::Nodes(entitled.len()),
        }
    }

    fn required(&self, quorum: Quorum) -> usize {
        let (Self::Implementations(all) | Self::Nodes(all)) = self;
        match quorum {
            Quorum::Majority => (all / 2).saturating_add(1),
            Quorum::AtLeast(count) => usize::from(count).max(1),
        }
    }

    /// The weight of each camp. An implementation whose nodes disagree counts where most of them are,
    /// nowhere if that is a tie. A node of unknown implementation counts for nothing among implementations.
    fn weigh<V: Ord + Copy>(&self, camps: &[Vec<Voter<V>>]) -> Vec<usize> {
        match self {
            Self::Nodes(_) => camps.iter().map(Vec::len).collect(),
            Self::Implementations(_) => {
                let vendors: BTreeSet<V> = camps.iter().flatten().filter_map(|voter| voter.vendor).collect();
                let mut weights = vec![0usize; camps.len()];
                for vendor in vendors {
                    if let Some(weight) = home_of(vendor, camps).and_then(|camp| weights.get_mut(camp)) {
                        *weight = weight.saturating_add(1);
                    }
                }
                weights
            }
        }
    }

    /// By how much the weight of a camp could still grow.
    fn undecided<V: Ord + Copy>(&self, outstanding: &[Voter<V>]) -> usize {
        match self {
            Self::Nodes(_) => outstanding.len(),
            Self::Implementations(_) => {
                let open: BTreeSet<V> = outstanding.iter().filter_map(|voter| voter.vendor).collect();
                open.len()
            }
        }
    }
}

/// The camp most nodes of `vendor` are in.
fn home_of<V: PartialEq + Copy>(vendor: V, camps: &[Vec<Voter<V>>]) -> Option<usize> {
    let counts: Vec<usize> =
        camps.iter().map(|camp| camp.iter().filter(|voter| voter.vendor == Some(vendor)).count()).collect();
    let most = *counts.iter().max()?;
    let mut homes = counts.iter().enumerate().filter(|(_, count)| **count == most && most > 0);
    match (homes.next(), homes.next()) {
        (Some((camp, _)), None) => Some(camp),
        _ => None,
    }
}

/// The value a strict majority of `total` voters gave, if there is one (payload attestation data,
/// dependent roots). Returns the position of its first ballot.
pub fn majority<T: PartialEq>(ballots: &[T], total: usize) -> Option<usize> {
    ballots.iter().position(|ballot| ballots.iter().filter(|other| *other == ballot).count() > total / 2)
}

#[cfg(test)]
mod tests {
    //! Proves: quorum by nodes and by implementations, and over random votes that order does not matter,
    //! that the winner has its quorum, and that an agreeing ballot never takes it away.
    use holdfast_domain::Epoch;
    use proptest::prelude::*;

    use super::*;
    use crate::Checkpoint;

    fn data(target: u8, head: u8) -> AttestationData {
        AttestationData {
            slot: Slot(64),
            index: 0,
            beacon_block_root: BlockRoot([head; 32]),
            source: Checkpoint { epoch: Epoch(1), root: BlockRoot([1; 32]) },
            target: Checkpoint { epoch: Epoch(2), root: BlockRoot([target; 32]) },
        }
    }

    fn voter(id: u16, vendor: u8) -> Voter<u8> {
        Voter { upstream: UpstreamId(id), vendor: (vendor > 0).then_some(vendor) }
    }

    fn ballot(id: u16, vendor: u8, target: u8, head: u8) -> Ballot<u8> {
        Ballot { voter: voter(id, vendor), data: data(target, head) }
    }

    fn slots(root: &BlockRoot) -> Option<Slot> {
        (root.0[0] < 100).then_some(Slot(u64::from(root.0[0])))
    }

    fn vote(ballots: &[Ballot<u8>], outstanding: &[Voter<u8>]) -> Standing {
        stand(VoteRule::default(), ballots, outstanding, slots)
    }

    #[test]
    fn two_of_three_nodes_win_and_the_freshest_head_among_them() {
        let ballots = [ballot(1, 1, 9, 60), ballot(2, 1, 9, 61)];
        assert_eq!(vote(&ballots, &[voter(3, 1)]), Standing::Won(1));
        assert_eq!(vote(&ballots[..1], &[voter(2, 1), voter(3, 1)]), Standing::Open);
        let split = [ballot(1, 1, 9, 60), ballot(2, 1, 8, 99)];
        assert_eq!(vote(&split, &[voter(3, 1)]), Standing::Open);
        assert_eq!(vote(&split, &[]), Standing::Lost);
        assert_eq!(vote(&[ballot(1, 1, 9, 60)], &[]), Standing::Won(0), "one node alone is its own majority");
    }

    #[test]
    fn a_fresher_head_outside_the_group_does_not_win() {
        let ballots = [ballot(1, 1, 9, 60), ballot(2, 1, 8, 99), ballot(3, 1, 9, 61)];
        assert_eq!(vote(&ballots, &[]), Standing::Won(2));
    }

    #[test]
    fn of_those_with_the_head_most_say_whether_its_payload_is_there() {
        let with_index = |id, head, index| {
            let mut ballot = ballot(id, 1, 9, head);
            ballot.data.index = index;
            ballot
        };
        let early = [with_index(1, 61, 0), with_index(2, 61, 1), with_index(3, 61, 1)];
        assert_eq!(vote(&early, &[]), Standing::Won(1), "the earliest of the majority");
        let tie = [with_index(1, 61, 1), with_index(2, 61, 0)];
        assert_eq!(vote(&tie, &[]), Standing::Won(0), "a tie is the earliest's");
        let older = [with_index(1, 60, 1), with_index(2, 60, 1), with_index(3, 61, 0)];
        assert_eq!(vote(&older, &[]), Standing::Won(2), "what is said of another head does not count");
        let heads = [with_index(1, 61, 0), with_index(2, 61, 1), with_index(3, 62, 1), with_index(4, 62, 1)];
        assert_eq!(vote(&heads, &[]), Standing::Won(2), "the newest head comes first");
        // Unknown slots: two heads with two votes each; their indices decide nothing between them.
        let unknown = [with_index(1, 200, 0), with_index(2, 200, 1), with_index(3, 201, 1), with_index(4, 201, 1)];
        assert_eq!(vote(&unknown, &[]), Standing::Won(0));
    }

    #[test]
    fn three_nodes_of_one_client_do_not_outvote_two_other_clients() {
        let ballots =
            [ballot(1, 1, 9, 1), ballot(2, 1, 9, 1), ballot(3, 1, 9, 1), ballot(4, 2, 8, 2), ballot(5, 3, 8, 2)];
        assert_eq!(vote(&ballots, &[]), Standing::Won(3));
        let nodes = VoteRule { counting: Counting::Nodes, ..VoteRule::default() };
        assert_eq!(stand(nodes, &ballots, &[], slots), Standing::Won(0));
    }

    #[test]
    fn a_client_at_odds_with_itself_counts_where_most_of_it_is() {
        let ballots = [ballot(1, 1, 9, 1), ballot(2, 1, 8, 1), ballot(3, 2, 9, 1), ballot(4, 3, 8, 1)];
        assert_eq!(vote(&ballots, &[]), Standing::Lost);
        let more = [ballot(1, 1, 9, 1), ballot(2, 1, 8, 1), ballot(3, 2, 9, 1), ballot(4, 3, 8, 1), ballot(5, 1, 9, 1)];
        assert_eq!(vote(&more, &[]), Standing::Won(0));
    }

    #[test]
    fn a_fixed_quorum_does_not_shrink_with_those_that_answer() {
        let rule = VoteRule { quorum: Quorum::AtLeast(2), counting: Counting::Nodes };
        assert_eq!(stand(rule, &[ballot(1, 1, 9, 1)], &[], slots), Standing::Lost);
        assert_eq!(stand(rule, &[ballot(1, 1, 9, 1)], &[voter(2, 1)], slots), Standing::Open);
        assert_eq!(stand(rule, &[ballot(1, 1, 9, 1), ballot(2, 1, 9, 1)], &[], slots), Standing::Won(0));
    }

    #[test]
    fn two_groups_over_a_low_bar_are_no_answer() {
        let rule = VoteRule { quorum: Quorum::AtLeast(1), counting: Counting::Nodes };
        assert_eq!(stand(rule, &[ballot(1, 1, 9, 1), ballot(2, 1, 8, 1)], &[], slots), Standing::Lost);
        assert_eq!(stand(rule, &[ballot(1, 1, 9, 1)], &[voter(2, 1)], slots), Standing::Won(0));
    }

    #[test]
    fn majority_is_strict() {
        assert_eq!(majority(&[1, 2, 2], 3), Some(1));
        assert_eq!(majority(&[1, 2], 2), None);
        assert_eq!(majority(&[1, 1], 4), None);
        assert_eq!(majority::<u8>(&[], 0), None);
    }

    fn ballots() -> impl Strategy<Value = Vec<Ballot<u8>>> {
        prop::collection::vec((0u8..5, 7u8..10, 50u8..53), 0..8).prop_map(|raw| {
            raw.into_iter().zip(0u16..).map(|((vendor, target, head), id)| ballot(id, vendor, target, head)).collect()
        })
    }

    proptest! {
        #[test]
        fn order_does_not_matter(ballots in ballots(), rotate in 0usize..8) {
            let mut rotated = ballots.clone();
            if !rotated.is_empty() {
                let by = rotate % rotated.len();
                rotated.rotate_left(by);
            }
            let value = |ballots: &[Ballot<u8>]| match vote(ballots, &[]) {
                Standing::Won(position) => Some((ballots[position].data.target, slots(&ballots[position].data.beacon_block_root))),
                Standing::Open | Standing::Lost => None,
            };
            prop_assert_eq!(value(&ballots), value(&rotated));
        }

        #[test]
        fn a_winner_by_nodes_has_more_than_half(ballots in ballots(), outstanding in 0u16..4) {
            let rule = VoteRule { quorum: Quorum::Majority, counting: Counting::Nodes };
            let outstanding: Vec<_> = (100..100 + outstanding).map(|id| voter(id, 0)).collect();
            if let Standing::Won(position) = stand(rule, &ballots, &outstanding, slots) {
                let agree = ballots.iter().filter(|other| other.data.target == ballots[position].data.target).count();
                prop_assert!(agree * 2 > ballots.len() + outstanding.len());
            }
        }

        #[test]
        fn what_is_lost_stays_lost_and_what_is_won_stays_won(ballots in ballots(), more in 0usize..8) {
            // `more` of the ballots are still outstanding; whatever they say later is consistent with now.
            let now = ballots.len().saturating_sub(more);
            let outstanding: Vec<_> = ballots[now..].iter().map(|ballot| ballot.voter).collect();
            let rule = VoteRule { quorum: Quorum::Majority, counting: Counting::Nodes };
            let early = stand(rule, &ballots[..now], &outstanding, slots);
            let late = stand(rule, &ballots, &[], slots);
            match (early, late) {
                (Standing::Lost, late) => prop_assert_eq!(late, Standing::Lost),
                (Standing::Won(e), Standing::Won(l)) => prop_assert_eq!(ballots[e].data.target, ballots[l].data.target),
                (Standing::Won(_), Standing::Open | Standing::Lost) => prop_assert!(false, "a quorum was lost"),
                (Standing::Open, _) => {}
            }
        }
    }
}
