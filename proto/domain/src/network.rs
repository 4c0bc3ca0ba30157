//! Networks: the six built-in ones and custom `config.yaml` files.
//!
//! A signer needs little of a network, because nearly everything about a fork comes with each
//! request: slots per epoch, the sizes of two bit fields, the genesis version (registrations), the
//! Capella version and which fork a version names (exits), and the clock. What it guarantees: a
//! [`ForkSchedule`] always has a phase0 row, and its forks are in order without gaps.

mod builtin;
mod config;

use core::num::NonZeroU64;
use core::ops::Deref;

pub use crate::error::NetworkError;

use crate::fork::{ForkName, ForkVersion, GenesisValidatorsRoot};
use crate::time::{Epoch, SlotClock, UnixMillis};

/// The preset constants a signer needs: no others enter a signing root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// SLOTS_PER_EPOCH.
    pub slots_per_epoch: NonZeroU64,
    /// MAX_COMMITTEES_PER_SLOT: length of `committee_bits` in bits.
    pub max_committees_per_slot: usize,
    /// SYNC_COMMITTEE_SIZE: length of `sync_committee_bits` in bits.
    pub sync_committee_size: usize,
}

impl Preset {
    /// The mainnet preset.
    pub const MAINNET: Self = Self::new(NonZeroU64::new(32), 64, 512);
    /// The minimal preset.
    pub const MINIMAL: Self = Self::new(NonZeroU64::new(8), 4, 32);
    /// The gnosis preset.
    pub const GNOSIS: Self = Self::new(NonZeroU64::new(16), 64, 512);

    const fn new(slots_per_epoch: Option<NonZeroU64>, committees: usize, sync_committee: usize) -> Self {
        Self {
            slots_per_epoch: match slots_per_epoch {
                Some(slots) => slots,
                None => NonZeroU64::MIN,
            },
            max_committees_per_slot: committees,
            sync_committee_size: sync_committee,
        }
    }
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

/// The forks of a network in order, phase0 first. Reads as a slice of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSchedule {
    genesis: ForkVersion,
    rows: Vec<ScheduledFork>,
}

impl ForkSchedule {
    /// A schedule with the phase0 row (epoch 0) and the rows of the forks after it.
    ///
    /// # Errors
    /// [`NetworkError::ForkOrder`] if a fork is missing between two others, repeated or starts
    /// before the one it follows.
    pub fn new(genesis: ForkVersion, later: &[ScheduledFork]) -> Result<Self, NetworkError> {
        let phase0 = ScheduledFork { name: ForkName::Phase0, version: genesis, epoch: Some(Epoch(0)) };
        let rows: Vec<_> = core::iter::once(phase0).chain(later.iter().copied()).collect();
        for ((row, before), expected) in later.iter().zip(&rows).zip(ForkName::ALL.into_iter().skip(1)) {
            let after = |epoch: Option<Epoch>| epoch.map_or(u64::MAX, |epoch| epoch.0);
            if row.name != expected || after(row.epoch) < after(before.epoch) {
                return Err(NetworkError::ForkOrder { fork: row.name, after: before.name });
            }
        }
        Ok(Self { genesis, rows })
    }
}

impl Deref for ForkSchedule {
    type Target = [ScheduledFork];

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
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
    pub forks: ForkSchedule,
}

impl Network {
    /// Names [`Network::builtin`] knows.
    pub const BUILTIN_NAMES: [&str; 6] = ["mainnet", "sepolia", "holesky", "hoodi", "gnosis", "chiado"];

    /// A built-in network by its name in lower case.
    pub fn builtin(name: &str) -> Option<Self> {
        builtin::network(name)
    }

    /// Reads a network file in the format of the consensus specification's `config.yaml`.
    ///
    /// # Errors
    /// [`NetworkError`] naming the key at fault.
    pub fn from_config_yaml(text: &str) -> Result<Self, NetworkError> {
        config::parse(text)
    }

    /// The clock of this network; `None` if its genesis time is unknown.
    pub fn slot_clock(&self) -> Option<SlotClock> {
        self.genesis_time.map(|genesis| SlotClock {
            genesis,
            slot_millis: self.slot_millis,
            slots_per_epoch: self.preset.slots_per_epoch,
        })
    }

    /// The row of a fork; `None` if the network does not have it.
    pub fn fork(&self, name: ForkName) -> Option<&ScheduledFork> {
        self.forks.iter().find(|fork| fork.name == name)
    }

    /// The fork in force at `epoch`.
    pub fn fork_at(&self, epoch: Epoch) -> ForkName {
        self.forks
            .iter()
            .rev()
            .find(|fork| fork.epoch.is_some_and(|from| from <= epoch))
            .map_or(ForkName::Phase0, |fork| fork.name)
    }

    /// GENESIS_FORK_VERSION: the version of deposits, registrations and builder authentication.
    pub fn genesis_fork_version(&self) -> ForkVersion {
        self.forks.genesis
    }

    /// The fork with this version, the youngest if several share it; `None` if the network has none.
    pub fn fork_named_by(&self, version: ForkVersion) -> Option<ForkName> {
        self.forks.iter().rev().find(|fork| fork.version == version).map(|fork| fork.name)
    }
}

#[cfg(test)]
mod tests;
