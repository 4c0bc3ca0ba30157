//! `config/spec` and `config/fork_schedule`, kept as the node wrote them.

use std::collections::BTreeMap;

use holdfast_domain::root::parse_hex;
use holdfast_domain::{Epoch, ForkVersion};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::chain::decimal;

/// The flat map of `config/spec`. Values that are not texts are kept as compact JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecMap(BTreeMap<String, String>);

impl SpecMap {
    /// A value as the node wrote it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A decimal number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// All entries in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for SpecMap {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for SpecMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let text = |value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(entries.into_iter().map(|(key, value)| (key, text(value))).collect())
    }
}

/// One row of the fork schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ForkRow {
    /// Version before.
    #[serde(deserialize_with = "version")]
    pub previous_version: ForkVersion,
    /// Version from then on.
    #[serde(deserialize_with = "version")]
    pub current_version: ForkVersion,
    /// First epoch.
    #[serde(deserialize_with = "epoch")]
    pub epoch: Epoch,
}

fn epoch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
    decimal(deserializer).map(Epoch)
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ForkVersion, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_hex::<4>(&text).map(ForkVersion).ok_or_else(|| D::Error::custom("expected 0x and 8 hexadecimal digits"))
}
