//! The network the pool is on: what its nodes said at start, pinned, and what they say now of forks to come.
//!
//! Why it exists: every later answer is judged against one genesis, one specification and one fork
//! schedule, and every deadline comes from them. What it guarantees: a [`PinnedNetwork`] has a readable slot
//! length and epoch length; nothing here is a constant of one network.

mod spec;
mod timing;

use std::time::Duration;

use holdfast_domain::{Epoch, Slot, SlotClock, UnixMillis};

pub use spec::{ForkRow, SpecMap};
pub use timing::{DutyPoint, SlotTiming};

use crate::Genesis;
use crate::class::EndpointClass;
use crate::deadline::Deadline;
use crate::health::NodeNetwork;

/// A network whose timing is understood.
#[derive(Debug, Clone)]
pub struct PinnedNetwork {
    facts: NodeNetwork,
    clock: SlotClock,
    timing: SlotTiming,
}

/// Why a node's specification cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A key that everything rests on.
    #[error("its specification has no usable {0}")]
    Missing(&'static str),
}

impl PinnedNetwork {
    /// Reads the timing out of what a node said.
    ///
    /// # Errors
    /// [`SpecError`] if the length of slots or epochs is not there.
    pub fn new(facts: NodeNetwork) -> Result<Self, SpecError> {
        let timing = SlotTiming::from_spec(&facts.spec)?;
        let slots = facts.spec.number("SLOTS_PER_EPOCH").and_then(std::num::NonZeroU64::new);
        let clock = SlotClock {
            genesis: UnixMillis(facts.genesis.genesis_time_seconds.saturating_mul(1000)),
            slot_millis: timing.slot_millis(),
            slots_per_epoch: slots.ok_or(SpecError::Missing("SLOTS_PER_EPOCH"))?,
        };
        Ok(Self { facts, clock, timing })
    }

    /// Genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.facts.genesis
    }

    /// The specification: constants and forks in force as the pinned node gave them, later forks as most nodes do.
    pub fn spec(&self) -> &SpecMap {
        &self.facts.spec
    }

    /// The fork schedule.
    pub fn forks(&self) -> &[ForkRow] {
        &self.facts.forks
    }

    /// All of it, for comparison.
    pub(crate) fn facts(&self) -> &NodeNetwork {
        &self.facts
    }

    /// Slots and epochs by time of day.
    pub fn clock(&self) -> &SlotClock {
        &self.clock
    }

    /// Deadlines within a slot.
    pub fn timing(&self) -> &SlotTiming {
        &self.timing
    }

    /// The slot at `now`; slot 0 before genesis.
    pub fn slot_at(&self, now: UnixMillis) -> Slot {
        self.clock.slot_at(now).unwrap_or(Slot(0))
    }

    /// The epoch at `now`; epoch 0 before genesis.
    pub fn epoch_at(&self, now: UnixMillis) -> Epoch {
        self.slot_at(now).epoch(self.clock.slots_per_epoch)
    }

    /// When a slot begins.
    pub fn start_of(&self, slot: Slot) -> UnixMillis {
        UnixMillis(self.clock.genesis.0.saturating_add(slot.0.saturating_mul(self.clock.slot_millis.get())))
    }

    /// When a duty of `slot` is due: the attestation's at a third of the slot, and so on.
    pub fn due(&self, point: DutyPoint, slot: Slot) -> UnixMillis {
        let epoch = slot.epoch(self.clock.slots_per_epoch);
        UnixMillis(
            self.start_of(slot)
                .0
                .saturating_add(self.timing.offset(point, epoch).as_millis().try_into().unwrap_or(u64::MAX)),
        )
    }

    /// When the answer to a request of this class that arrives at `now` is due, and until when it is waited for.
    pub fn deadline(&self, class: EndpointClass, now: UnixMillis) -> Deadline {
        let (due, end) = self.time_left(class, now);
        Deadline::after(due, end, self.timing.slot() / 24)
    }

    /// How long after `now` the answer to a request of this class is due, and how long it is waited for.
    fn time_left(&self, class: EndpointClass, now: UnixMillis) -> (Duration, Duration) {
        let slot = self.slot_at(now);
        let into = Duration::from_millis(now.0.saturating_sub(self.start_of(slot).0));
        let epoch = slot.epoch(self.clock.slots_per_epoch);
        let due = self.timing.due_in(class, into, epoch);
        (due, self.timing.patience(class, into).max(due))
    }
}

#[cfg(test)]
pub(crate) mod tests;
