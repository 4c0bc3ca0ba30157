//! Reading `config.yaml`.
//!
//! Works on YAML events, where scalars are still text: a YAML reader that types its scalars turns
//! the fork version `0x00000064` into the number 100 and cannot hold TERMINAL_TOTAL_DIFFICULTY at
//! all. Unknown keys are skipped whatever their value, because every fork adds a dozen.

use std::collections::BTreeMap;

use core::num::NonZeroU64;
use core::str::FromStr;

use saphyr_parser::{Event, Parser};

use super::{ForkSchedule, Network, Preset, ScheduledFork};
use crate::error::NetworkError;
use crate::fork::{ForkName, ForkVersion};
use crate::root::parse_hex;
use crate::time::{Epoch, UnixMillis};

/// FAR_FUTURE_EPOCH: the fork is known but not scheduled.
const FAR_FUTURE_EPOCH: u64 = u64::MAX;
/// Far above any preset; keeps sizes sane.
const MAX_PRESET_BITS: usize = 1 << 20;

pub(super) fn parse(text: &str) -> Result<Network, NetworkError> {
    let values = Values::read(text)?;
    let genesis = values.version("GENESIS_FORK_VERSION")?.ok_or(missing("GENESIS_FORK_VERSION", VERSION))?;
    Ok(Network {
        name: values.text("CONFIG_NAME").unwrap_or("custom").to_owned(),
        preset: values.preset()?,
        slot_millis: values.slot_millis()?,
        genesis_time: values.genesis_time()?,
        genesis_validators_root: None,
        forks: ForkSchedule::new(genesis, &values.later_forks()?)?,
    })
}

const VERSION: &str = "4 bytes as 0x and 8 hexadecimal digits, such as 0x10000042";
const NUMBER: &str = "a decimal number from 0 to 18446744073709551615";
const POSITIVE: &str = "a decimal number greater than 0";
const PRESETS: &str = "mainnet, minimal or gnosis";

const fn missing(key: &'static str, expected: &'static str) -> NetworkError {
    NetworkError::Missing { key, expected }
}

/// Keys of a fork after phase0.
const FORK_KEYS: [(ForkName, &str, &str); 7] = [
    (ForkName::Altair, "ALTAIR_FORK_VERSION", "ALTAIR_FORK_EPOCH"),
    (ForkName::Bellatrix, "BELLATRIX_FORK_VERSION", "BELLATRIX_FORK_EPOCH"),
    (ForkName::Capella, "CAPELLA_FORK_VERSION", "CAPELLA_FORK_EPOCH"),
    (ForkName::Deneb, "DENEB_FORK_VERSION", "DENEB_FORK_EPOCH"),
    (ForkName::Electra, "ELECTRA_FORK_VERSION", "ELECTRA_FORK_EPOCH"),
    (ForkName::Fulu, "FULU_FORK_VERSION", "FULU_FORK_EPOCH"),
    (ForkName::Gloas, "GLOAS_FORK_VERSION", "GLOAS_FORK_EPOCH"),
];

/// The scalar values of the top-level map, as text.
struct Values(BTreeMap<String, String>);

impl Values {
    fn read(text: &str) -> Result<Self, NetworkError> {
        let mut values = BTreeMap::new();
        let mut key: Option<String> = None;
        // 0: outside the map, 1: in the map, more: inside a value that is skipped.
        let mut depth = 0u32;
        let mut documents = 0u32;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|source| NetworkError::Yaml(Box::new(source)))?;
            let line = span.start.line();
            match event {
                Event::DocumentStart(_) => documents = documents.saturating_add(1),
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    let is_map = matches!(event, Event::MappingStart(..));
                    if depth == 0 && !is_map || depth == 1 && key.is_none() {
                        return Err(NetworkError::NotAMap { line });
                    }
                    depth = depth.saturating_add(1);
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    depth = depth.saturating_sub(1);
                    if depth == 1 {
                        key = None;
                    }
                }
                Event::Scalar(value, ..) => match (depth, key.take()) {
                    (0, _) => return Err(NetworkError::NotAMap { line }),
                    (1, None) => key = Some(value.into_owned()),
                    (1, Some(name)) => insert(&mut values, name, value.into_owned(), line)?,
                    (_, kept) => key = kept,
                },
                // The value of a key, or inside one; never a value that is read here.
                Event::Alias(_) => {
                    if depth == 1 && key.take().is_none() {
                        return Err(NetworkError::NotAMap { line });
                    }
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        if documents == 1 { Ok(Self(values)) } else { Err(NetworkError::Documents(documents)) }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn parsed<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, NetworkError> {
        self.text(key)
            .map(|text| parse(text).ok_or_else(|| NetworkError::BadValue { key, value: text.to_owned(), expected }))
            .transpose()
    }

    fn number(&self, key: &'static str) -> Result<Option<u64>, NetworkError> {
        self.parsed(key, NUMBER, decimal)
    }

    fn positive(&self, key: &'static str) -> Result<Option<NonZeroU64>, NetworkError> {
        self.parsed(key, POSITIVE, decimal)
    }

    fn version(&self, key: &'static str) -> Result<Option<ForkVersion>, NetworkError> {
        // Without 0x the digits could as well be a decimal number.
        self.parsed(key, VERSION, |text| text.starts_with("0x").then(|| parse_hex(text))?.map(ForkVersion))
    }

    fn preset(&self) -> Result<Preset, NetworkError> {
        let base = self.parsed("PRESET_BASE", PRESETS, |text| match text {
            "mainnet" => Some(Preset::MAINNET),
            "minimal" => Some(Preset::MINIMAL),
            "gnosis" => Some(Preset::GNOSIS),
            _ => None,
        })?;
        let base = base.ok_or(missing("PRESET_BASE", PRESETS))?;
        let bits = |text: &str| decimal(text).filter(|bits| (1..=MAX_PRESET_BITS).contains(bits));
        let committees = self.parsed("MAX_COMMITTEES_PER_SLOT", "a number from 1 to 1048576", bits)?;
        let members = self.parsed("SYNC_COMMITTEE_SIZE", "a multiple of 4 up to 1048576", |text| {
            bits(text).filter(|bits| bits.is_multiple_of(4))
        })?;
        Ok(Preset {
            slots_per_epoch: self.positive("SLOTS_PER_EPOCH")?.unwrap_or(base.slots_per_epoch),
            max_committees_per_slot: committees.unwrap_or(base.max_committees_per_slot),
            sync_committee_size: members.unwrap_or(base.sync_committee_size),
        })
    }

    fn slot_millis(&self) -> Result<NonZeroU64, NetworkError> {
        let thousand = NonZeroU64::MIN.saturating_add(999);
        let from_seconds =
            self.parsed("SECONDS_PER_SLOT", POSITIVE, |text| decimal::<NonZeroU64>(text)?.checked_mul(thousand))?;
        match (self.positive("SLOT_DURATION_MS")?, from_seconds) {
            (Some(millis), Some(seconds)) if millis != seconds => {
                Err(NetworkError::SlotDurations { millis, seconds_as_millis: seconds })
            }
            (Some(millis), _) | (None, Some(millis)) => Ok(millis),
            (None, None) => Err(missing("SLOT_DURATION_MS", "the length of a slot in milliseconds, such as 12000")),
        }
    }

    fn genesis_time(&self) -> Result<Option<UnixMillis>, NetworkError> {
        let earliest = self.number("MIN_GENESIS_TIME")?;
        let delay = self.number("GENESIS_DELAY")?;
        let seconds = earliest.zip(delay).and_then(|(earliest, delay)| earliest.checked_add(delay));
        Ok(seconds.and_then(|seconds| seconds.checked_mul(1000)).map(UnixMillis))
    }

    fn later_forks(&self) -> Result<Vec<ScheduledFork>, NetworkError> {
        let mut forks = Vec::with_capacity(FORK_KEYS.len());
        for (name, version_key, epoch_key) in FORK_KEYS {
            match (self.version(version_key)?, self.number(epoch_key)?) {
                (Some(version), Some(epoch)) => forks.push(ScheduledFork {
                    name,
                    version,
                    epoch: (epoch != FAR_FUTURE_EPOCH).then_some(Epoch(epoch)),
                }),
                (None, None) => {}
                (Some(_), None) => {
                    return Err(missing(epoch_key, "an epoch, or 18446744073709551615 while it is not scheduled"));
                }
                (None, Some(_)) => return Err(missing(version_key, VERSION)),
            }
        }
        Ok(forks)
    }
}

/// Decimal digits only: no sign, no float.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn insert(values: &mut BTreeMap<String, String>, key: String, value: String, line: usize) -> Result<(), NetworkError> {
    match values.get(&key) {
        Some(earlier) if *earlier != value => Err(NetworkError::Repeated { key, line }),
        Some(_) => Ok(()),
        None => {
            values.insert(key, value);
            Ok(())
        }
    }
}
