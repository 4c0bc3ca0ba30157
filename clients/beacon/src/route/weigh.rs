//! How many votes are in an aggregate or a contribution: the bits in it.
//!
//! Why it exists: several nodes offer an aggregate for the same duty and the fullest should be published.
//! What it guarantees: JSON and SSZ weigh the same; an answer for another duty or that does not parse
//! weighs nothing at all.

use holdfast_domain::Slot;
use serde::Deserialize;

use super::attestation::{AttestationData, Form};
use crate::BlockRoot;
use crate::chain::decimal;
use holdfast_domain::root::parse_hex_bytes;

/// How full an aggregate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    /// Bits set.
    pub set: u32,
    /// Bits there are.
    pub all: u32,
}

impl Weight {
    /// Nothing can be better.
    pub const fn is_full(self) -> bool {
        self.set == self.all
    }
}

/// Offset of the aggregation bits, then `AttestationData`, then the signature: the fixed part's start.
const SSZ_OFFSET_BYTES: usize = 4;

#[derive(Deserialize)]
struct Wrapped<T> {
    data: T,
}

#[derive(Deserialize)]
struct Aggregate {
    aggregation_bits: String,
    data: AttestationData,
}

#[derive(Deserialize)]
struct Contribution {
    #[serde(deserialize_with = "decimal")]
    slot: u64,
    beacon_block_root: BlockRoot,
    #[serde(deserialize_with = "decimal")]
    subcommittee_index: u64,
    aggregation_bits: String,
}

/// Weighs an aggregate attestation of `slot`. `None`: not one.
pub fn aggregate(form: Form, body: &[u8], slot: Slot) -> Option<Weight> {
    let (bits, data) = match form {
        Form::Json => {
            let aggregate = serde_json::from_slice::<Wrapped<Aggregate>>(body).ok()?.data;
            (parse_hex_bytes(&aggregate.aggregation_bits)?, aggregate.data)
        }
        Form::Ssz => {
            let (offset, rest) = body.split_first_chunk::<SSZ_OFFSET_BYTES>()?;
            let data = AttestationData::from_ssz(rest.get(..super::attestation::ATTESTATION_DATA_BYTES)?)?;
            let start = usize::try_from(u32::from_le_bytes(*offset)).ok()?;
            (body.get(start..)?.to_vec(), data)
        }
    };
    (data.slot == slot).then(|| bitlist(&bits)).flatten()
}

/// Weighs a sync committee contribution of `slot`, `subcommittee` and `root`. `None`: not one.
pub fn contribution(body: &[u8], slot: Slot, subcommittee: u64, root: BlockRoot) -> Option<Weight> {
    let value = serde_json::from_slice::<Wrapped<Contribution>>(body).ok()?.data;
    let asked = value.slot == slot.0 && value.subcommittee_index == subcommittee && value.beacon_block_root == root;
    let bits = parse_hex_bytes(&value.aggregation_bits)?;
    let all = u32::try_from(bits.len()).ok()?.checked_mul(8)?;
    asked.then(|| Weight { set: ones(&bits), all })
}

fn ones(bits: &[u8]) -> u32 {
    bits.iter().map(|byte| byte.count_ones()).fold(0, u32::saturating_add)
}

/// SSZ's bit list: the highest bit set marks the end and is not one of the bits.
fn bitlist(bits: &[u8]) -> Option<Weight> {
    let last = *bits.last()?;
    let whole = u32::try_from(bits.len().checked_sub(1)?).ok()?.checked_mul(8)?;
    let all = whole.checked_add(last.checked_ilog2()?)?;
    Some(Weight { set: ones(bits).checked_sub(1)?, all })
}

#[cfg(test)]
mod tests {
    use holdfast_domain::Epoch;

    use super::*;
    use crate::Checkpoint;

    fn data() -> AttestationData {
        let checkpoint = Checkpoint { epoch: Epoch(1), root: BlockRoot([3; 32]) };
        AttestationData {
            slot: Slot(40),
            index: 0,
            beacon_block_root: BlockRoot([2; 32]),
            source: checkpoint,
            target: checkpoint,
        }
    }

    fn ssz(bits: &[u8], electra: bool) -> Vec<u8> {
        let fixed: u32 = if electra { 236 } else { 228 };
        let mut body = fixed.to_le_bytes().to_vec();
        body.extend(data().encode(Form::Ssz));
        body.resize(fixed as usize, 0);
        body.extend(bits);
        body
    }

    fn json(bits: &str) -> Vec<u8> {
        let data: serde_json::Value = serde_json::from_slice(&data().encode(Form::Json)).unwrap();
        serde_json::json!({ "version": "electra", "data": { "aggregation_bits": bits, "data": data["data"], "signature": "0x" } })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn both_forms_of_every_fork_weigh_the_same() {
        // Bits 0b1011, the highest a delimiter: three bits, two set.
        let expected = Some(Weight { set: 2, all: 3 });
        assert_eq!(aggregate(Form::Ssz, &ssz(&[0b1011], true), Slot(40)), expected);
        assert_eq!(aggregate(Form::Ssz, &ssz(&[0b1011], false), Slot(40)), expected);
        assert_eq!(aggregate(Form::Json, &json("0x0b"), Slot(40)), expected);
        assert_eq!(aggregate(Form::Json, &json("0xff01"), Slot(40)), Some(Weight { set: 8, all: 8 }));
        assert!(Weight { set: 8, all: 8 }.is_full());
    }

    #[test]
    fn what_is_not_asked_for_weighs_nothing() {
        assert_eq!(aggregate(Form::Json, &json("0x0b"), Slot(41)), None);
        assert_eq!(aggregate(Form::Ssz, &ssz(&[], true), Slot(40)), None, "no delimiter");
        assert_eq!(aggregate(Form::Ssz, &ssz(&[0], true), Slot(40)), None, "no delimiter");
        assert_eq!(aggregate(Form::Ssz, &ssz(&[1], true)[..100], Slot(40)), None);
        assert_eq!(aggregate(Form::Json, b"{", Slot(40)), None);
    }

    #[test]
    fn contributions_weigh_by_their_bits() {
        let body = |root: &str| {
            format!(
                r#"{{"data":{{"slot":"9","beacon_block_root":"{root}","subcommittee_index":"2","aggregation_bits":"0xff00","signature":"0x"}}}}"#
            )
            .into_bytes()
        };
        let root = BlockRoot([0xab; 32]);
        assert_eq!(contribution(&body(&root.to_string()), Slot(9), 2, root), Some(Weight { set: 8, all: 16 }));
        assert_eq!(contribution(&body(&root.to_string()), Slot(9), 1, root), None);
        assert_eq!(contribution(&body(&BlockRoot([1; 32]).to_string()), Slot(9), 2, root), None);
    }
}
