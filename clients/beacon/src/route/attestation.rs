//! Attestation data and payload attestation data: the two answers that are voted on, so that have to be read.
//!
//! Why it exists: nodes answer in JSON or SSZ as they please, and votes compare values. What it
//! guarantees: both forms read to the same value; a value is written in either form exactly as a node
//! would; whatever is not exactly one of them is refused.

use holdfast_domain::{Epoch, Slot};
use serde::Deserialize;

use crate::chain::decimal;
use crate::{BlockRoot, Checkpoint};

/// Length of [`AttestationData`] in SSZ.
pub const ATTESTATION_DATA_BYTES: usize = 128;

/// Length of [`PayloadAttestationData`] in SSZ.
pub const PAYLOAD_ATTESTATION_DATA_BYTES: usize = 42;

/// What an attestation says (consensus specification, `AttestationData`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct AttestationData {
    /// Slot attested to.
    #[serde(deserialize_with = "slot")]
    pub slot: Slot,
    /// Committee before Electra; 0 until Gloas; payload status since.
    #[serde(deserialize_with = "decimal")]
    pub index: u64,
    /// The head.
    pub beacon_block_root: BlockRoot,
    /// Justified checkpoint.
    pub source: Checkpoint,
    /// Checkpoint of this epoch.
    pub target: Checkpoint,
}

/// What a payload attestation says (consensus specification, Gloas, `PayloadAttestationData`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PayloadAttestationData {
    /// The block.
    pub beacon_block_root: BlockRoot,
    /// Its slot.
    #[serde(deserialize_with = "slot")]
    pub slot: Slot,
    /// Whether its payload was seen.
    pub payload_present: bool,
    /// Whether its blobs were available.
    pub blob_data_available: bool,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

fn slot<'de, D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Slot, D::Error> {
    decimal(deserializer).map(Slot)
}

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// `application/json`.
    Json,
    /// `application/octet-stream`.
    Ssz,
}

impl Form {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ssz => "application/octet-stream",
        }
    }

    /// From a `Content-Type`. None for anything else; parameters are ignored.
    pub fn of_content_type(value: &str) -> Option<Self> {
        let essence = value.split(';').next().unwrap_or_default().trim();
        [Self::Json, Self::Ssz].into_iter().find(|form| essence.eq_ignore_ascii_case(form.media_type()))
    }
}

/// Takes SSZ's fixed-size parts from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn root(&mut self) -> Option<BlockRoot> {
        self.take().map(BlockRoot)
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        Some(Checkpoint { epoch: Epoch(self.number()?), root: self.root()? })
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl AttestationData {
    /// Reads an answer's body. `None` if it is not exactly one value.
    pub fn decode(form: Form, body: &[u8]) -> Option<Self> {
        match form {
            Form::Json => serde_json::from_slice::<Data<Self>>(body).ok().map(|wrapped| wrapped.data),
            Form::Ssz => Self::from_ssz(body),
        }
    }

    /// Reads SSZ.
    pub fn from_ssz(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ATTESTATION_DATA_BYTES] = bytes.try_into().ok()?;
        let mut fields = Fields(bytes);
        Some(Self {
            slot: Slot(fields.number()?),
            index: fields.number()?,
            beacon_block_root: fields.root()?,
            source: fields.checkpoint()?,
            target: fields.checkpoint()?,
        })
    }

    /// Writes a body.
    pub fn encode(&self, form: Form) -> Vec<u8> {
        match form {
            Form::Json => format!(
                r#"{{"data":{{"slot":"{}","index":"{}","beacon_block_root":"{}","source":{},"target":{}}}}}"#,
                self.slot,
                self.index,
                self.beacon_block_root,
                json_checkpoint(&self.source),
                json_checkpoint(&self.target),
            )
            .into_bytes(),
            Form::Ssz => {
                let mut bytes = Vec::with_capacity(ATTESTATION_DATA_BYTES);
                bytes.extend(self.slot.0.to_le_bytes());
                bytes.extend(self.index.to_le_bytes());
                bytes.extend(self.beacon_block_root.0);
                for checkpoint in [&self.source, &self.target] {
                    bytes.extend(checkpoint.epoch.0.to_le_bytes());
                    bytes.extend(checkpoint.root.0);
                }
                bytes
            }
        }
    }
}

fn json_checkpoint(checkpoint: &Checkpoint) -> String {
    format!(r#"{{"epoch":"{}","root":"{}"}}"#, checkpoint.epoch, checkpoint.root)
}

impl PayloadAttestationData {
    /// Reads an answer's body. `None` if it is not exactly one value.
    pub fn decode(form: Form, body: &[u8]) -> Option<Self> {
        match form {
            Form::Json => serde_json::from_slice::<Data<Self>>(body).ok().map(|wrapped| wrapped.data),
            Form::Ssz => {
                let bytes: &[u8; PAYLOAD_ATTESTATION_DATA_BYTES] = body.try_into().ok()?;
                let mut fields = Fields(bytes);
                Some(Self {
                    beacon_block_root: fields.root()?,
                    slot: Slot(fields.number()?),
                    payload_present: fields.flag()?,
                    blob_data_available: fields.flag()?,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: JSON and SSZ read to the same value and back, and that nothing else is read.
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn values()(numbers in any::<[u64; 4]>(), roots in any::<[[u8; 32]; 3]>()) -> AttestationData {
            AttestationData {
                slot: Slot(numbers[0]),
                index: numbers[1],
                beacon_block_root: BlockRoot(roots[0]),
                source: Checkpoint { epoch: Epoch(numbers[2]), root: BlockRoot(roots[1]) },
                target: Checkpoint { epoch: Epoch(numbers[3]), root: BlockRoot(roots[2]) },
            }
        }
    }

    proptest! {
        #[test]
        fn both_forms_keep_every_value(data in values()) {
            for form in [Form::Json, Form::Ssz] {
                prop_assert_eq!(AttestationData::decode(form, &data.encode(form)), Some(data));
            }
            prop_assert_eq!(data.encode(Form::Ssz).len(), ATTESTATION_DATA_BYTES);
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if bytes.len() != ATTESTATION_DATA_BYTES {
                prop_assert_eq!(AttestationData::decode(Form::Ssz, &bytes), None);
            }
            prop_assert_eq!(AttestationData::decode(Form::Json, &bytes), None);
            if bytes.len() != PAYLOAD_ATTESTATION_DATA_BYTES {
                prop_assert_eq!(PayloadAttestationData::decode(Form::Ssz, &bytes), None);
            }
        }
    }

    #[test]
    fn json_is_what_the_api_shows() {
        let data = AttestationData {
            slot: Slot(1),
            index: 0,
            beacon_block_root: BlockRoot([0xcf; 32]),
            source: Checkpoint { epoch: Epoch(1), root: BlockRoot([1; 32]) },
            target: Checkpoint { epoch: Epoch(2), root: BlockRoot([2; 32]) },
        };
        let json: serde_json::Value = serde_json::from_slice(&data.encode(Form::Json)).unwrap();
        assert_eq!(json["data"]["slot"], "1");
        assert_eq!(json["data"]["target"]["epoch"], "2");
        assert_eq!(json["data"]["beacon_block_root"], format!("0x{}", "cf".repeat(32)));
    }

    #[test]
    fn payload_attestation_data_reads_both_forms() {
        let json = format!(
            r#"{{"version":"gloas","data":{{"beacon_block_root":"0x{}","slot":"7","payload_present":true,"blob_data_available":false}}}}"#,
            "05".repeat(32)
        );
        let mut ssz = vec![5u8; 32];
        ssz.extend(7u64.to_le_bytes());
        ssz.extend([1, 0]);
        let value = PayloadAttestationData::decode(Form::Json, json.as_bytes()).unwrap();
        assert_eq!(PayloadAttestationData::decode(Form::Ssz, &ssz), Some(value));
        ssz[40] = 2;
        assert_eq!(PayloadAttestationData::decode(Form::Ssz, &ssz), None, "a flag is 0 or 1");
    }

    #[test]
    fn content_types_are_told_apart() {
        assert_eq!(Form::of_content_type("application/json; charset=utf-8"), Some(Form::Json));
        assert_eq!(Form::of_content_type("Application/Octet-Stream"), Some(Form::Ssz));
        assert_eq!(Form::of_content_type("text/html"), None);
    }
}
