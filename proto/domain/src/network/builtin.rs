//! The built-in networks: public values, as of late 2026.

use core::num::NonZeroU64;

use super::{ForkSchedule, Network, Preset, ScheduledFork};
use crate::fork::{ForkName, ForkVersion, GenesisValidatorsRoot};
use crate::root::parse_hex;
use crate::time::{Epoch, UnixMillis};

/// Published, but without an activation epoch.
const UNSCHEDULED: u64 = u64::MAX;

struct Row {
    preset: Preset,
    slot_millis: u64,
    /// Seconds since the Unix epoch.
    genesis_time: u64,
    genesis_validators_root: &'static str,
    /// Version (big-endian) and epoch of phase0, Altair, and so on.
    forks: &'static [(u32, u64)],
}

const MAINNET: Row = Row {
    preset: Preset::MAINNET,
    slot_millis: 12_000,
    genesis_time: 1_606_824_023,
    genesis_validators_root: "4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95",
    forks: &[
        (0x0000_0000, 0),
        (0x0100_0000, 74_240),
        (0x0200_0000, 144_896),
        (0x0300_0000, 194_048),
        (0x0400_0000, 269_568),
        (0x0500_0000, 364_032),
        (0x0600_0000, 411_392),
        (0x0700_0000, UNSCHEDULED),
    ],
};

const SEPOLIA: Row = Row {
    preset: Preset::MAINNET,
    slot_millis: 12_000,
    genesis_time: 1_655_733_600,
    genesis_validators_root: "d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078",
    forks: &[
        (0x9000_0069, 0),
        (0x9000_0070, 50),
        (0x9000_0071, 100),
        (0x9000_0072, 56_832),
        (0x9000_0073, 132_608),
        (0x9000_0074, 222_464),
        (0x9000_0075, 272_640),
        (0x9000_0076, UNSCHEDULED),
    ],
};

/// Retired before Gloas; kept for the validators and protection data that remain.
const HOLESKY: Row = Row {
    preset: Preset::MAINNET,
    slot_millis: 12_000,
    genesis_time: 1_695_902_400,
    genesis_validators_root: "9143aa7c615a7f7115e2b6aac319c03529df8242ae705fba9df39b79c59fa8b1",
    forks: &[
        (0x0101_7000, 0),
        (0x0201_7000, 0),
        (0x0301_7000, 0),
        (0x0401_7000, 256),
        (0x0501_7000, 29_696),
        (0x0601_7000, 115_968),
        (0x0701_7000, 165_120),
    ],
};

const HOODI: Row = Row {
    preset: Preset::MAINNET,
    slot_millis: 12_000,
    genesis_time: 1_742_213_400,
    genesis_validators_root: "212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f",
    forks: &[
        (0x1000_0910, 0),
        (0x2000_0910, 0),
        (0x3000_0910, 0),
        (0x4000_0910, 0),
        (0x5000_0910, 0),
        (0x6000_0910, 2048),
        (0x7000_0910, 50_688),
        (0x8000_0910, UNSCHEDULED),
    ],
};

const GNOSIS: Row = Row {
    preset: Preset::GNOSIS,
    slot_millis: 5000,
    genesis_time: 1_638_993_340,
    genesis_validators_root: "f5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47",
    forks: &[
        (0x0000_0064, 0),
        (0x0100_0064, 512),
        (0x0200_0064, 385_536),
        (0x0300_0064, 648_704),
        (0x0400_0064, 889_856),
        (0x0500_0064, 1_337_856),
        (0x0600_0064, 1_714_688),
        (0x0700_0064, UNSCHEDULED),
    ],
};

const CHIADO: Row = Row {
    preset: Preset::GNOSIS,
    slot_millis: 5000,
    genesis_time: 1_665_396_300,
    genesis_validators_root: "9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e",
    forks: &[
        (0x0000_006f, 0),
        (0x0100_006f, 90),
        (0x0200_006f, 180),
        (0x0300_006f, 244_224),
        (0x0400_006f, 516_608),
        (0x0500_006f, 948_224),
        (0x0600_006f, 1_353_216),
        (0x0700_006f, UNSCHEDULED),
    ],
};

/// The network of this name. A test builds every one of [`Network::BUILTIN_NAMES`].
pub(super) fn network(name: &str) -> Option<Network> {
    let row = match name {
        "mainnet" => MAINNET,
        "sepolia" => SEPOLIA,
        "holesky" => HOLESKY,
        "hoodi" => HOODI,
        "gnosis" => GNOSIS,
        "chiado" => CHIADO,
        _ => return None,
    };
    let (genesis, later) = row.forks.split_first()?;
    let later: Vec<ScheduledFork> = ForkName::ALL
        .into_iter()
        .skip(1)
        .zip(later)
        .map(|(name, (version, epoch))| ScheduledFork {
            name,
            version: ForkVersion(version.to_be_bytes()),
            epoch: (*epoch != UNSCHEDULED).then_some(Epoch(*epoch)),
        })
        .collect();
    Some(Network {
        name: name.to_owned(),
        preset: row.preset,
        slot_millis: NonZeroU64::new(row.slot_millis)?,
        genesis_time: Some(UnixMillis(row.genesis_time.checked_mul(1000)?)),
        genesis_validators_root: Some(GenesisValidatorsRoot(parse_hex(row.genesis_validators_root)?)),
        forks: ForkSchedule::new(ForkVersion(genesis.0.to_be_bytes()), &later).ok()?,
    })
}
