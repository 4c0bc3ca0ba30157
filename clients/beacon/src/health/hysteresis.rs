//! Demotes at once, promotes slowly. Pure: it is told observations and slots.
//!
//! Why it exists: a node that comes and goes must not drag duties along, because every switch costs
//! subscriptions and warm caches. What it guarantees: a worse observation takes effect with the call that
//! brings it; a better one counts in full only after [`HysteresisPolicy::good_slots`] slots in a row,
//! doubled for each demotion of the recent past; and a node that was away also waits until remembered
//! subscriptions have been replayed, its head has moved and an epoch has begun. Until then it serves only
//! when nothing better is there: with every other node gone, a node that is back is used at once.

use holdfast_domain::{Epoch, Slot};

use super::HealthTier;

/// How slowly nodes are promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HysteresisPolicy {
    /// Good slots in a row before a promotion.
    pub good_slots: u32,
    /// Bound on what repeated demotions raise it to.
    pub most_good_slots: u32,
    /// Slots without a demotion after which earlier ones are forgotten.
    pub forget_after: u64,
}

impl Default for HysteresisPolicy {
    fn default() -> Self {
        Self { good_slots: 8, most_good_slots: 64, forget_after: 128 }
    }
}

/// Whether remembered subscriptions have reached the node since it (re)joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replay {
    Waiting,
    Done,
}

/// How a tier compares with the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    Stays,
    /// The node got worse.
    Demoted {
        /// From.
        from: HealthTier,
        /// To.
        to: HealthTier,
    },
    /// The node got better.
    Promoted {
        /// From.
        from: HealthTier,
        /// To.
        to: HealthTier,
    },
}

/// The history of one node that matters for its promotion.
#[derive(Debug, Clone)]
pub struct Hysteresis {
    policy: HysteresisPolicy,
    /// What the node has earned.
    earned: HealthTier,
    /// What it looks like now.
    raw: HealthTier,
    /// Worst raw tier since the streak of good slots began.
    floor: HealthTier,
    streak: u32,
    needed: u32,
    last_demotion: Option<Slot>,
    replay: Replay,
    head_moved: bool,
    /// Before this epoch the node is at most [`HealthTier::Joining`].
    joining_until: Option<Epoch>,
}

impl Hysteresis {
    /// A node nothing has been seen of.
    pub fn new(policy: HysteresisPolicy) -> Self {
        Self {
            policy,
            earned: HealthTier::Excluded,
            raw: HealthTier::Excluded,
            floor: HealthTier::Good,
            streak: 0,
            needed: policy.good_slots,
            last_demotion: None,
            replay: Replay::Done,
            head_moved: true,
            joining_until: None,
        }
    }

    /// The tier in effect. A node that looks better than it has earned may serve at once, but only when
    /// nothing better is there: as a last resort first, then as joining.
    pub fn tier(&self) -> HealthTier {
        let probation =
            if self.streak >= self.needed.div_ceil(4) { HealthTier::Joining } else { HealthTier::LastResort };
        let tier = self.earned.max(self.raw.min(probation)).min(self.raw);
        match self.joining_until {
            Some(_) => tier.min(HealthTier::Joining),
            None => tier,
        }
    }

    /// The node was there when the switcher started, looking like this: it has lost nothing.
    pub fn settle(&mut self, raw: HealthTier) {
        self.raw = raw;
        self.earned = raw;
        self.restart_streak();
    }

    /// The node has come (back) during `epoch`: it knows no subscriptions.
    pub fn joined(&mut self, epoch: Epoch) {
        self.replay = Replay::Waiting;
        self.head_moved = false;
        self.restart_streak();
        // The next boundary, and one more.
        self.joining_until = Some(Epoch(epoch.0.saturating_add(2)));
    }

    /// Remembered subscriptions have been replayed to the node.
    pub fn replayed(&mut self) {
        self.replay = Replay::Done;
    }

    /// The node's head has moved on.
    pub fn head_moved(&mut self) {
        self.head_moved = true;
    }

    /// What still keeps the node from being promoted, for status; `None` if nothing does.
    pub fn waiting_for(&self) -> Option<&'static str> {
        if self.tier() >= self.raw {
            return None;
        }
        Some(match (self.replay, self.head_moved, self.joining_until) {
            (Replay::Waiting, ..) => "replay of subscriptions",
            (Replay::Done, false, _) => "a new head",
            (Replay::Done, true, Some(_)) => "an epoch to begin",
            (Replay::Done, true, None) => "more good slots",
        })
    }

    /// A raw tier was observed in `slot`: demotes at once, promotes at most to probation.
    pub fn observe(&mut self, raw: HealthTier, slot: Slot) {
        let before = self.tier();
        self.raw = raw;
        self.earned = self.earned.min(raw);
        if raw > self.earned {
            self.floor = self.floor.min(raw);
        } else {
            self.restart_streak();
        }
        // What was only a last resort had nothing to lose.
        if self.tier() < before && before > HealthTier::LastResort {
            self.punish(slot);
        }
    }

    /// A slot has ended: promotes when the time has come.
    pub fn slot_ended(&mut self, epoch: Epoch) {
        if self.raw > self.earned {
            self.streak = self.streak.saturating_add(1);
        }
        let ready = self.replay == Replay::Done && self.head_moved;
        if ready && self.joining_until.is_some_and(|until| until <= epoch) {
            self.joining_until = None;
        }
        if ready && self.streak >= self.needed {
            self.earned = self.earned.max(self.floor);
            self.restart_streak();
        }
    }

    fn restart_streak(&mut self) {
        self.streak = 0;
        self.floor = HealthTier::Good;
    }

    /// Each demotion soon after another doubles what a promotion takes.
    fn punish(&mut self, slot: Slot) {
        let since = self.last_demotion.map(|at| slot.0.saturating_sub(at.0));
        self.needed = match since {
            // Several aspects get worse within a slot or two: that is one demotion.
            Some(0 | 1) => self.needed,
            Some(slots) if slots < self.policy.forget_after => {
                self.needed.saturating_mul(2).min(self.policy.most_good_slots)
            }
            Some(_) | None => self.policy.good_slots,
        };
        self.last_demotion = Some(slot);
    }
}

impl Move {
    /// From one tier to another.
    pub fn between(from: HealthTier, to: HealthTier) -> Self {
        match to.cmp(&from) {
            std::cmp::Ordering::Less => Self::Demoted { from, to },
            std::cmp::Ordering::Equal => Self::Stays,
            std::cmp::Ordering::Greater => Self::Promoted { from, to },
        }
    }
}

#[cfg(test)]
mod tests;
