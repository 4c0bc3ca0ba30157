//! Networks: the six built-in ones and custom `config.yaml` files.

use core::num::NonZeroU64;

use crate::fork::{ForkName, ForkVersion, GenesisValidatorsRoot};
use crate::time::{Epoch, SlotClock, UnixMillis};

/// The preset constants a signer needs (networks.md: exactly three).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// SLOTS_PER_EPOCH.
    pub slots_per_epoch: NonZeroU64,
    /// MAX_COMMITTEES_PER_SLOT: length of `committee_bits` in bits.
    pub max_committees_per_slot: usize,
    /// SYNC_COMMITTEE_SIZE: length of `sync_committee_bits` in bits.
    pub sync_committee_size: usize,
}

/// One row of the fork schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledFork {
    /// Which fork.
    pub name: ForkName,
    /// Its version.
    pub version: ForkVersion,
    /// Activation epoch; `None` while not scheduled.
    pub epoch: Option<Epoch>,
}

/// Everything the signer knows about a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Built-in name, or CONFIG_NAME of a custom file.
    pub name: String,
    /// Preset constants.
    pub preset: Preset,
    /// Length of a slot in milliseconds.
    pub slot_millis: NonZeroU64,
    /// Genesis time, where known. Custom files give `MIN_GENESIS_TIME + GENESIS_DELAY` here, to be overridden.
    pub genesis_time: Option<UnixMillis>,
    /// Genesis validators root, where known (custom files never carry it).
    pub genesis_validators_root: Option<GenesisValidatorsRoot>,
    /// Forks in order; the first row is phase0.
    pub forks: Vec<ScheduledFork>,
}
