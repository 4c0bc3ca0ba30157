//! From observations to a choice: pure functions, no time, no network.
//!
//! Why it exists: whether a node may serve a duty must be explainable and testable over all
//! combinations. What it guarantees: [`Health`] is totally ordered; a worse observation never gives a
//! better health nor a better eligibility; an incompatible node is never eligible for anything.

mod agreement;
mod breaker;
mod compat;
mod hysteresis;
mod observation;
mod performance;
mod schedule;

pub use agreement::{BlockTree, ChainView, GroupId, Grouping, group};
pub use breaker::{Breaker, BreakerState};
pub use compat::{Difference, Gate, NodeNetwork, Others, Verdict, agrees_for_now, agrees_until, compare, judge};
pub use hysteresis::{Hysteresis, HysteresisPolicy, Move};
pub use observation::{
    Admission, Agreement, Compatibility, ExecutionTier, Liveness, Observation, PayloadTier, PeerTier, PerformanceTier,
    ProbeHistory, StreamTier, SyncClaim, SyncTier,
};
pub use performance::{LateShare, Performance};
pub use schedule::{Reach, is_partial, with_schedule_of};

use crate::class::{EndpointClass, Need};

/// How good a node is, worst first. Duties go to the best tier that has a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthTier {
    /// Never asked: another network, or the operator said so.
    Excluded,
    /// Asked nothing new, at the operator's word.
    Drained,
    /// Not answering.
    Down,
    /// Only when nothing else is left.
    LastResort,
    /// 9 to 16 slots behind.
    FarBehind,
    /// 5 to 8 slots behind.
    Behind,
    /// Back, but not long enough to be trusted with duties while others are there.
    Joining,
    /// Slightly impaired.
    Impaired,
    /// Nothing against it.
    Good,
}

impl HealthTier {
    /// Every tier, worst first.
    pub const ALL: [Self; 9] = [
        Self::Excluded,
        Self::Drained,
        Self::Down,
        Self::LastResort,
        Self::FarBehind,
        Self::Behind,
        Self::Joining,
        Self::Impaired,
        Self::Good,
    ];

    /// Name for labels, logs and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Drained => "drained",
            Self::Down => "down",
            Self::LastResort => "last_resort",
            Self::FarBehind => "far_behind",
            Self::Behind => "behind",
            Self::Joining => "joining",
            Self::Impaired => "impaired",
            Self::Good => "good",
        }
    }

    /// One tier worse, for a node that is otherwise in order; what is out already stays there.
    const fn one_worse(self) -> Self {
        match self {
            Self::Good => Self::Impaired,
            Self::Impaired | Self::Joining => Self::Behind,
            Self::Behind => Self::FarBehind,
            Self::FarBehind | Self::LastResort => Self::LastResort,
            Self::Down => Self::Down,
            Self::Drained => Self::Drained,
            Self::Excluded => Self::Excluded,
        }
    }
}

/// Whether a node may serve a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Eligibility {
    /// Never.
    No,
    /// When nothing else is left.
    LastResort,
    /// Yes.
    Yes,
}

/// A node's health. Ordered: greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Health {
    /// Overall.
    pub tier: HealthTier,
    /// Head verified?
    pub payload: PayloadTier,
    /// Execution client there?
    pub execution: ExecutionTier,
    /// Same chain as the others?
    pub agreement: Agreement,
    /// How far behind?
    pub sync: SyncTier,
}

impl Health {
    /// The health that follows from one observation, without history.
    pub fn of(seen: &Observation) -> Self {
        let ceiling = [
            admission(seen.admission),
            compatibility(seen.compatibility),
            liveness(seen.liveness),
            sync(seen.sync),
            payload(seen.payload),
            execution(seen.execution),
            agreement_ceiling(seen.agreement),
            stream(seen.stream),
            peers(seen.peers),
        ]
        .into_iter()
        .fold(HealthTier::Good, Ord::min);
        let tier = match seen.performance {
            PerformanceTier::OnTime => ceiling,
            PerformanceTier::Late => ceiling.one_worse(),
        };
        Self { tier, payload: seen.payload, execution: seen.execution, agreement: seen.agreement, sync: seen.sync }
    }

    /// Whether the node may serve a class, whatever the others are like.
    pub fn eligibility(&self, class: EndpointClass) -> Eligibility {
        let need = class.need();
        let tier = match self.tier {
            HealthTier::Excluded | HealthTier::Drained => Eligibility::No,
            HealthTier::Down | HealthTier::LastResort => Eligibility::LastResort,
            HealthTier::FarBehind
            | HealthTier::Behind
            | HealthTier::Joining
            | HealthTier::Impaired
            | HealthTier::Good => Eligibility::Yes,
        };
        [
            tier,
            payload_rule(self.payload, need),
            execution_rule(self.execution, need),
            agreement_rule(self.agreement, need),
            sync_rule(self.sync, need),
        ]
        .into_iter()
        .fold(Eligibility::Yes, Ord::min)
    }

    /// Whether the node could serve a class as far as its head, its chain and its execution client go: what else there
    /// is against it is that it is back for too short a time, answers late or has no peers. No word on what it is
    /// asked: that is [`Self::eligibility`].
    pub fn is_in_order(&self, class: EndpointClass) -> bool {
        self.tier > HealthTier::Down && Self { tier: HealthTier::Good, ..*self }.eligibility(class) == Eligibility::Yes
    }
}

const fn admission(tier: Admission) -> HealthTier {
    match tier {
        Admission::Excluded => HealthTier::Excluded,
        Admission::Drained => HealthTier::Drained,
        Admission::Serving => HealthTier::Good,
    }
}

const fn compatibility(tier: Compatibility) -> HealthTier {
    match tier {
        // A node whose network is unknown may be on any: nothing may rest on its answers.
        Compatibility::Incompatible | Compatibility::Unknown => HealthTier::Excluded,
        Compatibility::FutureFork | Compatibility::Compatible => HealthTier::Good,
    }
}

const fn liveness(tier: Liveness) -> HealthTier {
    match tier {
        Liveness::Down | Liveness::Hung => HealthTier::Down,
        Liveness::Failing => HealthTier::LastResort,
        Liveness::Shaky => HealthTier::Impaired,
        Liveness::Answering => HealthTier::Good,
    }
}

const fn sync(tier: SyncTier) -> HealthTier {
    match tier {
        SyncTier::Unknown | SyncTier::Syncing | SyncTier::Stalled => HealthTier::LastResort,
        SyncTier::FarBehind => HealthTier::FarBehind,
        SyncTier::Behind => HealthTier::Behind,
        SyncTier::Near => HealthTier::Impaired,
        SyncTier::AtHead => HealthTier::Good,
    }
}

const fn payload(tier: PayloadTier) -> HealthTier {
    match tier {
        PayloadTier::Optimistic => HealthTier::LastResort,
        PayloadTier::Verified => HealthTier::Good,
    }
}

const fn execution(tier: ExecutionTier) -> HealthTier {
    match tier {
        ExecutionTier::Offline => HealthTier::LastResort,
        ExecutionTier::Online => HealthTier::Good,
    }
}

const fn agreement_ceiling(tier: Agreement) -> HealthTier {
    match tier {
        Agreement::Minority => HealthTier::LastResort,
        Agreement::HeadFork => HealthTier::Impaired,
        Agreement::Undecided | Agreement::Majority => HealthTier::Good,
    }
}

const fn stream(tier: StreamTier) -> HealthTier {
    match tier {
        StreamTier::Stale => HealthTier::Impaired,
        StreamTier::Unwatched | StreamTier::Flowing => HealthTier::Good,
    }
}

const fn peers(tier: PeerTier) -> HealthTier {
    match tier {
        PeerTier::None => HealthTier::LastResort,
        PeerTier::Few | PeerTier::Unknown | PeerTier::Enough => HealthTier::Good,
    }
}

const fn payload_rule(tier: PayloadTier, need: Need) -> Eligibility {
    match (tier, need) {
        (PayloadTier::Optimistic, Need::Vote | Need::Duty | Need::Aggregate | Need::Produce) => Eligibility::No,
        (PayloadTier::Optimistic, Need::Safety | Need::Head | Need::Read | Need::Stream) => Eligibility::LastResort,
        (PayloadTier::Optimistic, Need::Send) | (PayloadTier::Verified, _) => Eligibility::Yes,
    }
}

const fn execution_rule(tier: ExecutionTier, need: Need) -> Eligibility {
    match (tier, need) {
        (ExecutionTier::Offline, Need::Produce) => Eligibility::No,
        (ExecutionTier::Offline, Need::Vote | Need::Duty | Need::Aggregate | Need::Head) => Eligibility::LastResort,
        (ExecutionTier::Offline, Need::Send | Need::Safety | Need::Read | Need::Stream)
        | (ExecutionTier::Online, _) => Eligibility::Yes,
    }
}

const fn agreement_rule(tier: Agreement, need: Need) -> Eligibility {
    match (tier, need) {
        (Agreement::Minority, Need::Vote) => Eligibility::No,
        (
            Agreement::Minority,
            Need::Duty | Need::Aggregate | Need::Produce | Need::Head | Need::Read | Need::Stream,
        ) => Eligibility::LastResort,
        (Agreement::Minority, Need::Send | Need::Safety)
        | (Agreement::HeadFork | Agreement::Undecided | Agreement::Majority, _) => Eligibility::Yes,
    }
}

const fn sync_rule(tier: SyncTier, need: Need) -> Eligibility {
    match (tier, need) {
        (SyncTier::Unknown | SyncTier::Syncing, Need::Vote | Need::Duty | Need::Aggregate | Need::Produce) => {
            Eligibility::No
        }
        (SyncTier::Unknown | SyncTier::Syncing, Need::Send | Need::Safety | Need::Head | Need::Read | Need::Stream) => {
            Eligibility::LastResort
        }
        // Without anybody's duties a chain that stands still would do so for good.
        (SyncTier::Stalled, _) => Eligibility::LastResort,
        (SyncTier::FarBehind | SyncTier::Behind | SyncTier::Near | SyncTier::AtHead, _) => Eligibility::Yes,
    }
}

#[cfg(test)]
mod tests;
