//! How well an execution client serves, as a pure function of what was observed of it and of the others.
//!
//! Why it exists: so that every combination can be tested without a network. What it guarantees: a total
//! order; a node of another chain, or one whose state is known to be old, is never asked for a read.

use super::ChainId;

/// Number of a block of the execution chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockNumber(pub u64);

/// What one round of probes learnt about a node that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// `eth_chainId`.
    pub chain: ChainId,
    /// Whether `eth_syncing` was anything but `false`.
    pub sync: SyncState,
    /// `eth_blockNumber`.
    pub head: BlockNumber,
    /// `net_peerCount`; `None` where the node does not offer the method.
    pub peers: Option<u64>,
}

/// What `eth_syncing` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncState {
    /// `false`.
    Done,
    /// An object with progress.
    InProgress,
}

/// From best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// In sync, near the highest head, with peers.
    Healthy,
    /// In sync, but it has no peers: what it knows will soon be old, and what it is given goes nowhere.
    Alone,
    /// More blocks behind the highest head than allowed.
    Lagging,
    /// It says itself that it is syncing.
    Syncing,
    /// It does not answer as it should.
    Down,
    /// It is on another chain.
    OtherChain,
}

impl Health {
    /// Every value, best first.
    pub const ALL: [Self; 6] = [Self::Healthy, Self::Alone, Self::Lagging, Self::Syncing, Self::Down, Self::OtherChain];

    /// Name for labels and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Alone => "no_peers",
            Self::Lagging => "lagging",
            Self::Syncing => "syncing",
            Self::Down => "down",
            Self::OtherChain => "other_chain",
        }
    }

    /// Whether reads may be sent to it, at least when nobody better is there.
    pub const fn may_read(self) -> bool {
        match self {
            Self::Healthy | Self::Alone | Self::Lagging => true,
            Self::Syncing | Self::Down | Self::OtherChain => false,
        }
    }

    /// Whether transactions are sent to it.
    pub const fn may_submit(self) -> bool {
        match self {
            Self::Healthy | Self::Alone | Self::Lagging | Self::Syncing => true,
            Self::Down | Self::OtherChain => false,
        }
    }
}

/// Judges one node. `observed` is `None` while it does not answer; `highest` is the highest head of the nodes of
/// `chain` that are not syncing.
pub(super) fn judge(
    observed: Option<&Observation>,
    chain: Option<ChainId>,
    highest: Option<BlockNumber>,
    max_lag: u64,
) -> Health {
    let Some(observed) = observed else { return Health::Down };
    if chain.is_some_and(|chain| chain != observed.chain) {
        return Health::OtherChain;
    }
    if observed.sync == SyncState::InProgress {
        return Health::Syncing;
    }
    if highest.is_some_and(|highest| highest.0.saturating_sub(observed.head.0) > max_lag) {
        return Health::Lagging;
    }
    if observed.peers == Some(0) {
        return Health::Alone;
    }
    Health::Healthy
}

/// The highest head of the nodes that are in sync and on `chain`.
pub(super) fn highest_head<'a>(
    observed: impl IntoIterator<Item = &'a Observation>,
    chain: Option<ChainId>,
) -> Option<BlockNumber> {
    observed
        .into_iter()
        .filter(|node| chain.is_none_or(|chain| chain == node.chain) && node.sync == SyncState::Done)
        .map(|node| node.head)
        .max()
}

/// The chain most nodes are on; of several the one the earliest node is on.
pub(super) fn majority_chain(chains: &[ChainId]) -> Option<ChainId> {
    let votes = |chain: &ChainId| chains.iter().filter(|other| *other == chain).count();
    // `max_by_key` takes the last of equals, and the earliest is wanted.
    chains.iter().rev().max_by_key(|chain| votes(chain)).copied()
}

#[cfg(test)]
mod tests {
    //! Proves, over all combinations: the order, monotonicity in every observation, and what is never asked.
    use super::*;

    const HERE: ChainId = ChainId(1);

    fn all() -> Vec<Option<Observation>> {
        let mut all = vec![None];
        for chain in [HERE, ChainId(2)] {
            for sync in [SyncState::Done, SyncState::InProgress] {
                for head in [100, 98, 97, 0] {
                    for peers in [None, Some(0), Some(1), Some(50)] {
                        all.push(Some(Observation { chain, sync, head: BlockNumber(head), peers }));
                    }
                }
            }
        }
        all
    }

    fn of(observed: Option<&Observation>) -> Health {
        judge(observed, Some(HERE), Some(BlockNumber(100)), 2)
    }

    #[test]
    fn each_fault_has_its_name() {
        let good = Observation { chain: HERE, sync: SyncState::Done, head: BlockNumber(98), peers: Some(3) };
        assert_eq!(of(Some(&good)), Health::Healthy);
        assert_eq!(of(Some(&Observation { peers: Some(0), ..good })), Health::Alone);
        assert_eq!(of(Some(&Observation { head: BlockNumber(97), ..good })), Health::Lagging);
        assert_eq!(of(Some(&Observation { sync: SyncState::InProgress, ..good })), Health::Syncing);
        assert_eq!(of(Some(&Observation { chain: ChainId(2), ..good })), Health::OtherChain);
        assert_eq!(of(None), Health::Down);
    }

    #[test]
    fn a_worse_observation_never_gives_better_health() {
        for observed in all().into_iter().flatten() {
            let before = of(Some(&observed));
            let worse = [
                Observation { chain: ChainId(2), ..observed },
                Observation { sync: SyncState::InProgress, ..observed },
                Observation { head: BlockNumber(observed.head.0.saturating_sub(1)), ..observed },
                Observation { peers: Some(0), ..observed },
            ];
            for worse in worse {
                assert!(of(Some(&worse)) >= before, "{worse:?} is better than {observed:?}");
            }
        }
    }

    #[test]
    fn old_state_and_other_chains_are_never_read() {
        for observed in all() {
            let health = of(observed.as_ref());
            let wrong = observed.is_none_or(|node| node.chain != HERE || node.sync == SyncState::InProgress);
            assert_eq!(health.may_read(), !wrong, "{observed:?}");
            if health.may_read() {
                assert!(health.may_submit());
            }
        }
    }

    #[test]
    fn the_order_is_the_order_of_declaration() {
        assert!(Health::ALL.is_sorted());
        let first_unreadable = Health::ALL.iter().position(|health| !health.may_read()).unwrap();
        assert!(Health::ALL.iter().skip(first_unreadable).all(|health| !health.may_read()));
    }

    #[test]
    fn the_chain_of_most_nodes_counts() {
        let chains = |ids: &[u64]| majority_chain(&ids.iter().copied().map(ChainId).collect::<Vec<_>>());
        assert_eq!(chains(&[]), None);
        assert_eq!(chains(&[5, 1, 1]), Some(ChainId(1)));
        assert_eq!(chains(&[5, 1]), Some(ChainId(5)));
        assert_eq!(chains(&[1, 5]), Some(ChainId(1)));
    }

    #[test]
    fn nodes_that_sync_or_are_elsewhere_do_not_raise_the_mark() {
        let node = |chain, sync, head| Observation { chain, sync, head: BlockNumber(head), peers: None };
        let nodes = [
            node(HERE, SyncState::Done, 10),
            node(HERE, SyncState::InProgress, 90),
            node(ChainId(2), SyncState::Done, 80),
        ];
        assert_eq!(highest_head(&nodes, Some(HERE)), Some(BlockNumber(10)));
        assert_eq!(highest_head(&[], Some(HERE)), None);
    }
}
