//! Words of the chain that nodes are compared by: block roots, checkpoints, heads.
//!
//! Why it exists: these are claims of beacon nodes, not roots this program computed, so they are types
//! of their own. What it guarantees: they are read from the Beacon API's notation or not at all.

use std::fmt;

use holdfast_domain::root::parse_hex;
use holdfast_domain::{Epoch, Slot};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// Root of a beacon block, as a node names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRoot(pub [u8; 32]);

/// A checkpoint of Casper FFG (consensus specification, `Checkpoint`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    /// Epoch.
    pub epoch: Epoch,
    /// Block root at the epoch's first slot, or of the last block before it.
    pub root: BlockRoot,
}

/// What a node says its head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadRef {
    /// Slot of the head block.
    pub slot: Slot,
    /// Its root; `node/syncing` does not tell it.
    pub root: Option<BlockRoot>,
    /// Whether its payload is not verified yet.
    pub payload: PayloadStatus,
}

/// Whether the execution client has verified what a head rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadStatus {
    /// Verified.
    Verified,
    /// Imported without verification (`execution_optimistic`).
    Optimistic,
}

impl PayloadStatus {
    /// From the API's `execution_optimistic` or `is_optimistic`.
    pub const fn from_optimistic(optimistic: bool) -> Self {
        if optimistic { Self::Optimistic } else { Self::Verified }
    }
}

impl BlockRoot {
    /// Reads 64 hexadecimal digits with or without `0x`.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex::<32>(text).map(Self)
    }
}

impl fmt::Display for BlockRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlockRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} root {}", self.epoch, self.root)
    }
}

impl<'de> Deserialize<'de> for BlockRoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("root: expected 0x and 64 hexadecimal digits"))
    }
}

impl Serialize for BlockRoot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(deserialize_with = "decimal")]
            epoch: u64,
            root: BlockRoot,
        }
        let wire = Wire::deserialize(deserializer)?;
        Ok(Self { epoch: Epoch(wire.epoch), root: wire.root })
    }
}

/// A number in quotes, as the Beacon API writes integers.
pub(crate) fn decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom("expected a decimal number in quotes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_in_the_api_s_notation() {
        let text = format!(r#"{{"epoch":"7","root":"0x{}"}}"#, "ab".repeat(32));
        let checkpoint: Checkpoint = serde_json::from_str(&text).unwrap();
        assert_eq!(checkpoint, Checkpoint { epoch: Epoch(7), root: BlockRoot([0xab; 32]) });
        assert_eq!(serde_json::to_string(&checkpoint.root).unwrap(), format!("\"0x{}\"", "ab".repeat(32)));
        for bad in [r#"{"epoch":7,"root":"0x00"}"#, r#"{"epoch":"7","root":"0x00"}"#, r#"{"epoch":"-7"}"#] {
            assert!(serde_json::from_str::<Checkpoint>(bad).is_err(), "{bad}");
        }
    }
}
