//! What can be told about a produced block without knowing its whole type: slot, parent, fee recipient, value.
//!
//! Why it exists: of several blocks the most valuable valid one is proposed, and a block that pays nobody, or
//! builds on the wrong parent, must not be signed. What it guarantees: JSON and SSZ are judged alike where
//! the layout is fixed by the consensus specification; what cannot be read is "unknown", never guessed.

use std::borrow::Cow;

use holdfast_domain::Slot;
use holdfast_domain::root::parse_hex;
use hyper::HeaderMap;
use serde::Deserialize;

use super::attestation::Form;
use crate::BlockRoot;

/// An amount in Wei, as large as a header says; saturating, which is above all ether there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Wei(pub u128);

/// An execution-layer address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeeRecipient(pub [u8; 20]);

/// What a produced block says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockFacts {
    /// Its slot.
    pub slot: Slot,
    /// Who proposes.
    pub proposer: u64,
    /// What it builds on.
    pub parent: BlockRoot,
    /// Root of the state after it.
    pub state_root: [u8; 32],
    /// Whom its execution payload pays; unknown from Gloas on, where the payload is elsewhere.
    pub fee_recipient: Option<FeeRecipient>,
}

/// Whether a payload is in the block or behind a builder's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blinding {
    /// The block holds its payload.
    Full,
    /// The block holds a header only: published as a blinded block.
    Blinded,
}

/// What an answer's headers say about the block in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeaders {
    /// Consensus plus execution value.
    pub value: Wei,
    /// `Eth-Execution-Payload-Blinded`.
    pub blinding: Blinding,
    /// `Eth-Execution-Payload-Included` (v4).
    pub payload_included: bool,
}

/// Reads the headers of a produced block.
pub fn block_headers(headers: &HeaderMap) -> BlockHeaders {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wei = |name: &str| text(name).map_or(0, saturating_decimal);
    let flag = |name: &str| text(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    BlockHeaders {
        value: Wei(wei("eth-execution-payload-value").saturating_add(wei("eth-consensus-block-value"))),
        blinding: if flag("eth-execution-payload-blinded") { Blinding::Blinded } else { Blinding::Full },
        payload_included: flag("eth-execution-payload-included"),
    }
}

/// Digits only; too many of them are as much as there can be. Anything else is worth nothing.
fn saturating_decimal(text: &str) -> u128 {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    text.parse().unwrap_or(u128::MAX)
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

/// Either a block, or contents with a block in them.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    block: Option<Block<'a>>,
    #[serde(borrow, default)]
    slot: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    proposer_index: Option<Cow<'a, str>>,
    parent_root: Option<BlockRoot>,
    state_root: Option<BlockRoot>,
    #[serde(borrow)]
    body: Option<Body<'a>>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    slot: Cow<'a, str>,
    #[serde(borrow)]
    proposer_index: Cow<'a, str>,
    parent_root: BlockRoot,
    state_root: BlockRoot,
    #[serde(borrow)]
    body: Body<'a>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    execution_payload: Option<Payload<'a>>,
    #[serde(borrow)]
    execution_payload_header: Option<Payload<'a>>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    fee_recipient: Cow<'a, str>,
}

/// Where SSZ keeps a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A (blinded) block by itself.
    Bare,
    /// Contents: an offset to the block first.
    Contents,
}

/// Whether the execution payload is part of the block's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadPlace {
    /// Bellatrix to Fulu; the sync committee has this many members.
    InBody {
        /// `SYNC_COMMITTEE_SIZE`.
        sync_committee_size: usize,
    },
    /// Gloas and later.
    Elsewhere,
}

/// Reads a produced block from JSON.
pub fn facts_of_json(body: &[u8]) -> Option<BlockFacts> {
    let data = serde_json::from_slice::<Wrapped<'_>>(body).ok()?.data;
    let block = match data.block {
        Some(block) => block,
        None => Block {
            slot: data.slot?,
            proposer_index: data.proposer_index?,
            parent_root: data.parent_root?,
            state_root: data.state_root?,
            body: data.body?,
        },
    };
    let fee_recipient = match block.body.execution_payload.or(block.body.execution_payload_header) {
        Some(payload) => Some(FeeRecipient(parse_hex(&payload.fee_recipient)?)),
        None => None,
    };
    Some(BlockFacts {
        slot: Slot(block.slot.parse().ok()?),
        proposer: block.proposer_index.parse().ok()?,
        parent: block.parent_root,
        state_root: block.state_root.0,
        fee_recipient,
    })
}

/// Reads a produced block from SSZ. `None` if it is shorter than its own offsets say.
pub fn facts_of_ssz(body: &[u8], layout: Layout, place: PayloadPlace) -> Option<BlockFacts> {
    let block = match layout {
        Layout::Bare => body,
        Layout::Contents => body.get(offset_at(body, 0)?..)?,
    };
    let facts = BlockFacts {
        slot: Slot(number_at(block, 0)?),
        proposer: number_at(block, 8)?,
        parent: BlockRoot(bytes_at(block, 16)?),
        state_root: bytes_at(block, 48)?,
        fee_recipient: None,
    };
    // slot, proposer_index, parent_root, state_root, then the body's offset.
    let body = block.get(offset_at(block, 80)?..)?;
    match place {
        PayloadPlace::Elsewhere => Some(facts),
        PayloadPlace::InBody { sync_committee_size } => {
            // randao_reveal, eth1_data, graffiti, five offsets, sync_aggregate, then the payload's offset.
            let sync_aggregate = sync_committee_size.div_ceil(8).checked_add(96)?;
            let position = (96usize + 72 + 32 + 5 * 4).checked_add(sync_aggregate)?;
            let payload = body.get(offset_at(body, position)?..)?;
            // parent_hash, then fee_recipient; the same in payload and header.
            Some(BlockFacts { fee_recipient: Some(FeeRecipient(bytes_at(payload, 32)?)), ..facts })
        }
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

fn offset_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes_at(bytes, at)?)).ok()
}

/// Why a produced block is not offered to the validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("it is not a block, or cut short")]
    Unreadable,
    /// It is for another slot.
    #[error("it is for slot {0}")]
    Slot(Slot),
    /// It builds on what is not the head.
    #[error("it builds on {0}, which is not the head")]
    Parent(BlockRoot),
    /// It pays the zero address.
    #[error("its fee recipient is the zero address")]
    ZeroFeeRecipient,
    /// It pays somebody this validator did not name.
    #[error("its fee recipient is not the one that was prepared")]
    OtherFeeRecipient,
}

/// What is expected of a block.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The heads that some eligible node has, if known: the parent must be one of them.
    pub parents: Vec<BlockRoot>,
    /// Whom each proposer wants to be paid, if prepared through this switcher.
    pub fee_recipient: Option<FeeRecipient>,
}

/// Judges a block. With `Blinding::Blinded` a builder may pay itself and the proposer in a transaction, so only the zero address is refused.
///
/// # Errors
/// [`Unfit`], the reason.
pub fn judge(facts: &BlockFacts, slot: Slot, blinding: Blinding, expected: &Expected) -> Result<(), Unfit> {
    if facts.slot != slot {
        return Err(Unfit::Slot(facts.slot));
    }
    if !expected.parents.is_empty() && !expected.parents.contains(&facts.parent) {
        return Err(Unfit::Parent(facts.parent));
    }
    match facts.fee_recipient {
        None => Ok(()),
        Some(FeeRecipient([0, rest @ ..])) if rest.iter().all(|byte| *byte == 0) => Err(Unfit::ZeroFeeRecipient),
        Some(paid) => match (blinding, expected.fee_recipient) {
            (Blinding::Full, Some(wanted)) if wanted != paid => Err(Unfit::OtherFeeRecipient),
            (Blinding::Full | Blinding::Blinded, _) => Ok(()),
        },
    }
}

/// The form, layout and place of a block by fork name and blinding.
pub fn layout_of(fork: &str, blinding: Blinding, payload_included: bool) -> Option<Layout> {
    let contents = match (fork, blinding) {
        ("phase0" | "altair" | "bellatrix" | "capella", _) => false,
        ("deneb" | "electra" | "fulu", blinding) => blinding == Blinding::Full,
        ("gloas", _) => payload_included,
        _ => return None,
    };
    Some(if contents { Layout::Contents } else { Layout::Bare })
}

/// Reads whichever form.
pub fn facts(form: Form, body: &[u8], layout: Option<Layout>, place: PayloadPlace) -> Option<BlockFacts> {
    match form {
        Form::Json => facts_of_json(body),
        Form::Ssz => facts_of_ssz(body, layout?, place),
    }
}

#[cfg(test)]
mod tests {
    //! Proves: SSZ and JSON tell the same; a wrong or cut block is unfit, for the reason it is.
    use super::*;

    const SYNC: PayloadPlace = PayloadPlace::InBody { sync_committee_size: 512 };

    /// A block of slot 7 by proposer 3 on parent 0x05…, paying `fee`, in SSZ; only what is read is filled in.
    fn ssz(fee: u8, layout: Layout) -> Vec<u8> {
        let mut block = Vec::new();
        block.extend(7u64.to_le_bytes());
        block.extend(3u64.to_le_bytes());
        block.extend([5u8; 32]);
        block.extend([6u8; 32]);
        block.extend(84u32.to_le_bytes());
        let body_start = block.len();
        block.resize(body_start + 380, 0);
        let payload_at = 420u32;
        block.extend(payload_at.to_le_bytes());
        block.resize(body_start + payload_at as usize + 32, 0);
        block.extend([fee; 20]);
        block.resize(block.len() + 100, 0);
        match layout {
            Layout::Bare => block,
            Layout::Contents => {
                let mut contents = 12u32.to_le_bytes().to_vec();
                contents.extend([0; 8]);
                contents.extend(block);
                contents
            }
        }
    }

    fn json(fee: &str, wrap: bool, header: bool) -> Vec<u8> {
        let payload = serde_json::json!({ "parent_hash": "0x", "fee_recipient": fee });
        let body = if header {
            serde_json::json!({ "execution_payload_header": payload })
        } else {
            serde_json::json!({ "graffiti": "0x", "execution_payload": payload })
        };
        let parent = format!("0x{}", "05".repeat(32));
        let state = format!("0x{}", "06".repeat(32));
        let block = serde_json::json!({ "slot": "7", "proposer_index": "3", "parent_root": parent, "state_root": state, "body": body });
        let data = if wrap { serde_json::json!({ "block": block, "blobs": [] }) } else { block };
        serde_json::json!({ "version": "fulu", "data": data }).to_string().into_bytes()
    }

    fn facts_with(fee: u8) -> BlockFacts {
        BlockFacts {
            slot: Slot(7),
            proposer: 3,
            parent: BlockRoot([5; 32]),
            state_root: [6; 32],
            fee_recipient: Some(FeeRecipient([fee; 20])),
        }
    }

    #[test]
    fn both_forms_and_layouts_read_the_same() {
        let address = format!("0x{}", "aa".repeat(20));
        for (layout, wrap) in [(Layout::Bare, false), (Layout::Contents, true)] {
            assert_eq!(facts_of_ssz(&ssz(0xaa, layout), layout, SYNC), Some(facts_with(0xaa)));
            for header in [false, true] {
                assert_eq!(facts_of_json(&json(&address, wrap, header)), Some(facts_with(0xaa)));
            }
        }
        let gloas = facts_of_ssz(&ssz(0xaa, Layout::Bare), Layout::Bare, PayloadPlace::Elsewhere).unwrap();
        assert_eq!(gloas.fee_recipient, None);
    }

    #[test]
    fn a_cut_or_foreign_body_is_not_read() {
        let whole = ssz(0xaa, Layout::Contents);
        for length in (0..12 + 84 + 420 + 52).step_by(7) {
            assert_eq!(facts_of_ssz(&whole[..length], Layout::Contents, SYNC), None, "{length}");
        }
        assert_eq!(facts_of_json(b"{\"data\":{}}"), None);
        assert_eq!(facts_of_json(&json("0x00", true, false)), None, "not an address");
        assert_eq!(facts_of_json(&json(&format!("0x{}", "aa".repeat(20)), true, false)[..50]), None);
    }

    #[test]
    fn unfit_blocks_are_named() {
        let expected = Expected { parents: vec![BlockRoot([5; 32])], fee_recipient: Some(FeeRecipient([0xaa; 20])) };
        let judge = |facts: &BlockFacts, slot, blinding| judge(facts, Slot(slot), blinding, &expected);
        assert_eq!(judge(&facts_with(0xaa), 7, Blinding::Full), Ok(()));
        assert_eq!(judge(&facts_with(0xaa), 8, Blinding::Full), Err(Unfit::Slot(Slot(7))));
        assert_eq!(judge(&facts_with(0), 7, Blinding::Blinded), Err(Unfit::ZeroFeeRecipient));
        assert_eq!(judge(&facts_with(0xbb), 7, Blinding::Full), Err(Unfit::OtherFeeRecipient));
        assert_eq!(judge(&facts_with(0xbb), 7, Blinding::Blinded), Ok(()), "a builder pays in a transaction");
        let stray = BlockFacts { parent: BlockRoot([6; 32]), ..facts_with(0xaa) };
        assert_eq!(judge(&stray, 7, Blinding::Full), Err(Unfit::Parent(BlockRoot([6; 32]))));
    }

    #[test]
    fn values_are_summed_and_saturate() {
        let mut headers = HeaderMap::new();
        headers.insert("eth-execution-payload-value", "1000000000000000000".parse().unwrap());
        headers.insert("eth-consensus-block-value", "5".parse().unwrap());
        headers.insert("eth-execution-payload-blinded", "True".parse().unwrap());
        let read = block_headers(&headers);
        assert_eq!((read.value, read.blinding), (Wei(1_000_000_000_000_000_005), Blinding::Blinded));
        headers.insert("eth-execution-payload-value", "9".repeat(60).parse().unwrap());
        assert_eq!(block_headers(&headers).value, Wei(u128::MAX));
        headers.insert("eth-execution-payload-value", "-1".parse().unwrap());
        assert_eq!(block_headers(&headers).value, Wei(5));
    }
}
