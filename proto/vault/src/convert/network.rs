//! A network in a frame: what pins a vault to its chain.

use core::num::NonZeroU64;

use holdfast_domain::network::{ForkSchedule, ScheduledFork};
use holdfast_domain::{Epoch, ForkName, ForkVersion, GenesisValidatorsRoot, Network, Preset, UnixMillis};

use super::{array, name};
use crate::error::Malformed;
use crate::limits::{MAX_FORKS, MAX_NAME};
use crate::v1;

/// `None` if the network is incomplete or too large.
pub(super) fn pack(network: &Network) -> Option<v1::Pin> {
    let genesis = network.genesis_validators_root?;
    let time = network.genesis_time?;
    let forks: Vec<v1::ScheduledFork> = network
        .forks
        .iter()
        .skip(1)
        .map(|fork| v1::ScheduledFork { version: fork.version.0.to_vec(), epoch: fork.epoch.map(|epoch| epoch.0) })
        .collect();
    if forks.len() > MAX_FORKS || network.name.len() > MAX_NAME {
        return None;
    }
    Some(v1::Pin {
        network: network.name.clone(),
        genesis_validators_root: genesis.0.to_vec(),
        genesis_time_millis: time.0,
        slot_millis: network.slot_millis.get(),
        slots_per_epoch: network.preset.slots_per_epoch.get(),
        max_committees_per_slot: u32::try_from(network.preset.max_committees_per_slot).ok()?,
        sync_committee_size: u32::try_from(network.preset.sync_committee_size).ok()?,
        genesis_fork_version: network.genesis_fork_version().0.to_vec(),
        forks,
    })
}

pub(super) fn unpack(pin: v1::Pin) -> Result<Network, Malformed> {
    let positive = |field, value| NonZeroU64::new(value).ok_or(Malformed::Value { field, value });
    let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let mut later = Vec::with_capacity(pin.forks.len());
    let mut names = ForkName::ALL.into_iter().skip(1);
    for fork in &pin.forks {
        let name = names.next().ok_or(Malformed::TooMany { field: "forks", max: ForkName::ALL.len() })?;
        let version = ForkVersion(array("version", &fork.version)?);
        later.push(ScheduledFork { name, version, epoch: fork.epoch.map(Epoch) });
    }
    let genesis = ForkVersion(array("genesis_fork_version", &pin.genesis_fork_version)?);
    Ok(Network {
        name: name("network", pin.network)?,
        preset: Preset {
            slots_per_epoch: positive("slots_per_epoch", pin.slots_per_epoch)?,
            max_committees_per_slot: size(pin.max_committees_per_slot),
            sync_committee_size: size(pin.sync_committee_size),
        },
        slot_millis: positive("slot_millis", pin.slot_millis)?,
        genesis_time: Some(UnixMillis(pin.genesis_time_millis)),
        genesis_validators_root: Some(GenesisValidatorsRoot(array(
            "genesis_validators_root",
            &pin.genesis_validators_root,
        )?)),
        forks: ForkSchedule::new(genesis, &later).map_err(Malformed::Forks)?,
    })
}
