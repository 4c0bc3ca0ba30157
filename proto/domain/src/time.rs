//! Slots, epochs and the clock that relates them to the time of day.
//!
//! The clock is passed in: nothing here reads the time, so every rule about "now" can be tested
//! at any now.

use core::fmt;
use core::num::NonZeroU64;

/// A slot number (consensus specification, `Slot`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

/// An epoch number (consensus specification, `Epoch`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

macro_rules! number_fmt {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}
number_fmt!(Slot);
number_fmt!(Epoch);

impl Slot {
    /// The epoch this slot belongs to: `slot / SLOTS_PER_EPOCH`.
    #[expect(clippy::arithmetic_side_effects, reason = "the divisor is not zero")]
    pub const fn epoch(self, slots_per_epoch: NonZeroU64) -> Epoch {
        Epoch(self.0 / slots_per_epoch.get())
    }
}

impl Epoch {
    /// The epoch before this one; epoch 0 stays 0.
    #[must_use]
    pub const fn saturating_prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// The time of day, passed in so that tests can say what time it is.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch, now.
    fn now(&self) -> UnixMillis;
}

/// Relates the time of day to slots and epochs of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotClock {
    /// Genesis time.
    pub genesis: UnixMillis,
    /// Length of a slot in milliseconds.
    pub slot_millis: NonZeroU64,
    /// SLOTS_PER_EPOCH of the network's preset.
    pub slots_per_epoch: NonZeroU64,
}

impl SlotClock {
    /// The slot at `now`; `None` before genesis.
    #[expect(clippy::arithmetic_side_effects, reason = "the divisor is not zero")]
    pub const fn slot_at(&self, now: UnixMillis) -> Option<Slot> {
        match now.0.checked_sub(self.genesis.0) {
            Some(elapsed) => Some(Slot(elapsed / self.slot_millis.get())),
            None => None,
        }
    }

    /// The epoch at `now`; `None` before genesis.
    pub fn epoch_at(&self, now: UnixMillis) -> Option<Epoch> {
        self.slot_at(now).map(|slot| slot.epoch(self.slots_per_epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_begin_at_genesis() {
        let clock = SlotClock {
            genesis: UnixMillis(1_000_000),
            slot_millis: NonZeroU64::new(12_000).unwrap(),
            slots_per_epoch: NonZeroU64::new(32).unwrap(),
        };
        assert_eq!(clock.slot_at(UnixMillis(999_999)), None);
        assert_eq!(clock.epoch_at(UnixMillis(0)), None);
        assert_eq!(clock.slot_at(UnixMillis(1_000_000)), Some(Slot(0)));
        assert_eq!(clock.slot_at(UnixMillis(1_011_999)), Some(Slot(0)));
        assert_eq!(clock.slot_at(UnixMillis(1_012_000)), Some(Slot(1)));
        assert_eq!(clock.epoch_at(UnixMillis(1_000_000 + 12_000 * 32)), Some(Epoch(1)));
        assert_eq!(Epoch(0).saturating_prev(), Epoch(0));
        assert_eq!(Slot(u64::MAX).epoch(NonZeroU64::MIN), Epoch(u64::MAX));
    }
}
