//! What can be observed of a node, each aspect as a few tiers from worst to best.
//!
//! Why it exists: raw numbers become tiers in one place, so the rules that follow are finite and can be
//! tested over every combination. What it guarantees: in every enum here a later variant is better.

use std::time::Duration;

use holdfast_domain::Slot;

use super::breaker::BreakerState;

macro_rules! tiers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Every tier, worst first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Name for labels, logs and status.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    )*};
}

tiers! {
    /// Whether the node is on the pinned network.
    Compatibility {
        /// It is on another one, or will be within an epoch.
        Incompatible = "incompatible",
        /// It has not said yet, or no network is pinned yet.
        Unknown = "network unknown",
        /// It is, until a fork it does not know or dates differently.
        FutureFork = "future fork differs",
        /// It is.
        Compatible = "compatible",
    }
    /// Whether the operator lets it be used.
    Admission {
        /// Excluded from everything.
        Excluded = "excluded",
        /// Asked nothing new.
        Drained = "drained",
        /// In use.
        Serving = "serving",
    }
    /// Whether it answers.
    Liveness {
        /// It never answered, or the breaker is open.
        Down = "down",
        /// Two probes in a row without an answer in time.
        Hung = "hung",
        /// Two failures in a row, or two slow probes.
        Failing = "failing or slow",
        /// One failure, late duty or slow probe.
        Shaky = "one failure, late duty or slow probe",
        /// It answers.
        Answering = "answering",
    }
    /// How far behind its head is.
    SyncTier {
        /// Not known yet.
        Unknown = "head unknown",
        /// More than 16 slots.
        Syncing = "more than 16 slots behind",
        /// It calls itself syncing and is more than 16 slots behind the clock, but nobody is further.
        Stalled = "far behind the clock, as everybody",
        /// 9 to 16 slots.
        FarBehind = "9-16 slots behind",
        /// 5 to 8 slots.
        Behind = "5-8 slots behind",
        /// 2 to 4 slots.
        Near = "2-4 slots behind",
        /// 0 or 1 slot.
        AtHead = "at head",
    }
    /// Whether its execution client has verified its head.
    PayloadTier {
        /// Not verified.
        Optimistic = "optimistic",
        /// Verified.
        Verified = "verified",
    }
    /// Whether it reaches its execution client.
    ExecutionTier {
        /// No.
        Offline = "execution client offline",
        /// Yes, or it does not say.
        Online = "execution client online",
    }
    /// Whether it is on the chain most implementations are on.
    Agreement {
        /// Its checkpoints contradict the majority's.
        Minority = "other checkpoints",
        /// Its head is on another branch than the majority's.
        HeadFork = "other branch",
        /// There is no majority, or nothing is known.
        Undecided = "no majority",
        /// Yes.
        Majority = "majority",
    }
    /// Whether its event stream flows.
    StreamTier {
        /// No head event for two slots while others have one.
        Stale = "stale events",
        /// Not subscribed.
        Unwatched = "unwatched",
        /// It does.
        Flowing = "flowing",
    }
    /// Whether it answers duties in time.
    PerformanceTier {
        /// More than a fifth of the last 32 slots' calls were late or failed.
        Late = "often late",
        /// It does.
        OnTime = "on time",
    }
    /// How many peers it has.
    PeerTier {
        /// None: what it publishes goes nowhere.
        None = "no peers",
        /// Fewer than 50; a warning only, because small networks have no more.
        Few = "few peers",
        /// Not known.
        Unknown = "peers unknown",
        /// 50 or more.
        Enough = "enough",
    }
}

impl SyncTier {
    /// From slots behind.
    pub const fn from_distance(slots: u64) -> Self {
        match slots {
            0 | 1 => Self::AtHead,
            2..=4 => Self::Near,
            5..=8 => Self::Behind,
            9..=16 => Self::FarBehind,
            17.. => Self::Syncing,
        }
    }

    /// How far a node's head is behind the pool's best verified head and behind the clock.
    ///
    /// A node that says it is in sync is not taken out for being behind the clock alone, because then
    /// the whole network may stand still; behind the pool it is. One that calls itself syncing while nobody
    /// is further is the last resort: implementations differ in what they say of a chain that stands still.
    pub fn of(head: Slot, pool_best: Option<Slot>, clock: Option<Slot>, sync: SyncClaim) -> Self {
        let behind = |other: Option<Slot>| other.map_or(0, |other| other.0.saturating_sub(head.0));
        let pool = Self::from_distance(behind(pool_best));
        let clock = Self::from_distance(behind(clock));
        match sync {
            SyncClaim::Syncing if pool == Self::AtHead && clock == Self::Syncing => Self::Stalled,
            SyncClaim::Syncing => pool.min(clock).min(Self::Near),
            SyncClaim::Synced => pool.min(clock.max(Self::FarBehind)),
        }
    }

    /// Whether a client that asks is told that the node is syncing: duties are served by no such node, or only because
    /// nobody is further.
    pub const fn is_syncing(self) -> bool {
        match self {
            Self::Unknown | Self::Syncing | Self::Stalled => true,
            Self::FarBehind | Self::Behind | Self::Near | Self::AtHead => false,
        }
    }
}

/// What a node says about itself (`is_syncing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncClaim {
    /// It catches up.
    Syncing,
    /// It follows the chain.
    Synced,
}

impl PeerTier {
    /// From a number of connected peers.
    pub const fn from_count(peers: u64) -> Self {
        match peers {
            0 => Self::None,
            1..=49 => Self::Few,
            50.. => Self::Enough,
        }
    }
}

/// How the last probes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProbeHistory {
    /// Probes in a row that took longer than was good.
    pub slow: u32,
    /// Probes in a row without an answer in time.
    pub unanswered: u32,
    /// Whether any probe was ever answered.
    pub ever_answered: bool,
}

impl ProbeHistory {
    /// A probe was answered after `elapsed`; `slow` is the bound of a good answer.
    pub fn answered(&mut self, elapsed: Duration, slow: Duration) {
        self.ever_answered = true;
        self.unanswered = 0;
        self.slow = if elapsed > slow { self.slow.saturating_add(1) } else { 0 };
    }

    /// A probe was not answered in time.
    pub fn unanswered(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.slow = self.slow.saturating_add(1);
    }
}

impl Liveness {
    /// From the breaker, which counts every call, and the last probes.
    pub const fn of(breaker: BreakerState, probes: ProbeHistory) -> Self {
        let failures = match breaker {
            BreakerState::Open => return Self::Down,
            BreakerState::Closed { failures } => failures,
        };
        if !probes.ever_answered {
            return Self::Down;
        }
        if probes.unanswered >= 2 {
            return Self::Hung;
        }
        let worse = if failures > probes.slow { failures } else { probes.slow };
        match worse {
            0 => Self::Answering,
            1 => Self::Shaky,
            2.. => Self::Failing,
        }
    }
}

/// Everything observed of one node at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Observation {
    /// Operator's word.
    pub admission: Admission,
    /// Same network?
    pub compatibility: Compatibility,
    /// Answering?
    pub liveness: Liveness,
    /// How far behind?
    pub sync: SyncTier,
    /// Head verified?
    pub payload: PayloadTier,
    /// Execution client there?
    pub execution: ExecutionTier,
    /// Same chain?
    pub agreement: Agreement,
    /// Events?
    pub stream: StreamTier,
    /// In time?
    pub performance: PerformanceTier,
    /// Peers?
    pub peers: PeerTier,
}

impl Observation {
    /// A node nothing is known of yet.
    pub const NEW: Self = Self {
        admission: Admission::Serving,
        compatibility: Compatibility::Unknown,
        liveness: Liveness::Down,
        sync: SyncTier::Unknown,
        payload: PayloadTier::Verified,
        execution: ExecutionTier::Online,
        agreement: Agreement::Undecided,
        stream: StreamTier::Unwatched,
        performance: PerformanceTier::OnTime,
        peers: PeerTier::Unknown,
    };

    /// What speaks against the node, in words; "nothing against it" if nothing does.
    pub fn describe(&self) -> String {
        let aspects = [
            (self.admission < Admission::Serving, self.admission.as_str()),
            (self.compatibility < Compatibility::FutureFork, self.compatibility.as_str()),
            (self.liveness < Liveness::Answering, self.liveness.as_str()),
            (self.sync < SyncTier::AtHead, self.sync.as_str()),
            (self.payload < PayloadTier::Verified, self.payload.as_str()),
            (self.execution < ExecutionTier::Online, self.execution.as_str()),
            (self.agreement < Agreement::Undecided, self.agreement.as_str()),
            (self.stream < StreamTier::Unwatched, self.stream.as_str()),
            (self.performance < PerformanceTier::OnTime, self.performance.as_str()),
            (self.peers < PeerTier::Few, self.peers.as_str()),
        ];
        let against: Vec<&str> = aspects.into_iter().filter(|(bad, _)| *bad).map(|(_, name)| name).collect();
        if against.is_empty() { "nothing against it".to_owned() } else { against.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_against_pool_and_clock() {
        use SyncClaim::{Synced, Syncing};
        let of = |head, pool, clock, claim| SyncTier::of(Slot(head), pool, clock, claim);
        assert_eq!(of(100, Some(Slot(101)), Some(Slot(101)), Synced), SyncTier::AtHead);
        assert_eq!(of(100, Some(Slot(104)), None, Synced), SyncTier::Near);
        assert_eq!(of(100, Some(Slot(200)), Some(Slot(200)), Synced), SyncTier::Syncing, "stuck behind the others");
        assert_eq!(of(100, Some(Slot(100)), Some(Slot(200)), Synced), SyncTier::FarBehind, "the network stands still");
        assert_eq!(of(100, Some(Slot(100)), Some(Slot(200)), Syncing), SyncTier::Stalled, "nobody is further");
        assert_eq!(of(100, Some(Slot(102)), Some(Slot(200)), Syncing), SyncTier::Syncing, "somebody is");
        assert_eq!(of(100, Some(Slot(100)), Some(Slot(100)), Syncing), SyncTier::Near, "it says so itself");
        assert_eq!(of(100, Some(Slot(90)), Some(Slot(99)), Synced), SyncTier::AtHead, "ahead of the others");
        for (slots, tier) in [
            (1, SyncTier::AtHead),
            (2, SyncTier::Near),
            (5, SyncTier::Behind),
            (9, SyncTier::FarBehind),
            (16, SyncTier::FarBehind),
            (17, SyncTier::Syncing),
        ] {
            assert_eq!(SyncTier::from_distance(slots), tier);
        }
    }

    #[test]
    fn syncing_is_who_is_too_far_behind_to_serve_duties() {
        use SyncClaim::{Synced, Syncing};
        let of = |head, pool, clock, claim| SyncTier::of(Slot(head), Some(Slot(pool)), Some(Slot(clock)), claim);
        for (tier, expected, why) in [
            (of(100, 100, 100, Synced), false, "at head"),
            (of(100, 100, 100, Syncing), false, "at head, whatever it calls itself"),
            (of(100, 104, 104, Syncing), false, "near"),
            (of(100, 112, 112, Synced), false, "far behind, and still served by"),
            (of(100, 100, 200, Synced), false, "the network stands still, and it says it is in sync"),
            (of(100, 100, 200, Syncing), true, "the network stands still, or all of them are syncing"),
            (of(100, 200, 200, Synced), true, "stuck"),
            (SyncTier::Unknown, true, "it has not said"),
        ] {
            assert_eq!(tier.is_syncing(), expected, "{why}");
        }
    }

    #[test]
    fn a_node_that_takes_three_seconds_is_out_within_two_probes() {
        let mut probes = ProbeHistory { ever_answered: true, ..ProbeHistory::default() };
        let of = |probes| Liveness::of(BreakerState::CLEAN, probes);
        let slow = Duration::from_secs(1);
        assert_eq!(of(probes), Liveness::Answering);
        probes.answered(Duration::from_secs(3), slow);
        assert_eq!(of(probes), Liveness::Shaky);
        probes.answered(Duration::from_secs(3), slow);
        assert_eq!(of(probes), Liveness::Failing);
        probes.answered(Duration::from_millis(5), slow);
        assert_eq!(of(probes), Liveness::Answering);
        probes.unanswered();
        assert_eq!(of(probes), Liveness::Shaky);
        probes.unanswered();
        assert_eq!(of(probes), Liveness::Hung);
    }

    #[test]
    fn the_breaker_speaks_for_calls() {
        let probes = ProbeHistory { ever_answered: true, ..ProbeHistory::default() };
        let of = |failures| Liveness::of(BreakerState::Closed { failures }, probes);
        assert_eq!([of(0), of(1), of(2)], [Liveness::Answering, Liveness::Shaky, Liveness::Failing]);
        assert_eq!(Liveness::of(BreakerState::Open, probes), Liveness::Down);
        assert_eq!(Liveness::of(BreakerState::CLEAN, ProbeHistory::default()), Liveness::Down, "never seen");
    }
}
