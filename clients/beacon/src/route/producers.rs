//! Which node produced which block: where a blinded block or an envelope has to go back to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_domain::Slot;
use serde::Deserialize;

use super::attestation::Form;
use crate::UpstreamId;

/// Slots remembered.
const SLOTS_KEPT: usize = 64;

/// What identifies a block before it is signed and after: its state root belongs to nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BlockIdentity {
    pub(super) slot: Slot,
    pub(super) state_root: [u8; 32],
}

#[derive(Debug, Default)]
struct Known {
    by_block: HashMap<BlockIdentity, UpstreamId>,
    by_slot: BTreeMap<Slot, UpstreamId>,
}

/// Producers of the last blocks.
#[derive(Debug, Default)]
pub(super) struct Producers(Mutex<Known>);

impl Producers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's block was given to a client.
    pub(super) fn remember(&self, block: BlockIdentity, producer: UpstreamId) {
        let mut known = self.lock();
        known.by_slot.insert(block.slot, producer);
        known.by_block.insert(block, producer);
        while known.by_slot.len() > SLOTS_KEPT {
            if let Some((oldest, _)) = known.by_slot.pop_first() {
                known.by_block.retain(|block, _| block.slot != oldest);
            }
        }
    }

    /// Who produced this block.
    pub(super) fn of_block(&self, block: BlockIdentity) -> Option<UpstreamId> {
        let known = self.lock();
        known.by_block.get(&block).or_else(|| known.by_slot.get(&block.slot)).copied()
    }

    /// Whose block was last given out for a slot.
    pub(super) fn of_slot(&self, slot: Slot) -> Option<UpstreamId> {
        self.lock().by_slot.get(&slot).copied()
    }

    /// Whose block was given out last of all.
    pub(super) fn latest(&self) -> Option<UpstreamId> {
        self.lock().by_slot.last_key_value().map(|(_, producer)| *producer)
    }
}

#[derive(Deserialize)]
struct Message {
    slot: String,
    state_root: String,
}

#[derive(Deserialize)]
struct Signed {
    message: Message,
}

#[derive(Deserialize)]
struct Published {
    message: Option<Message>,
    signed_block: Option<Signed>,
}

/// Reads a signed block's identity out of what is published: a signed (blinded) block, or contents with one in them.
pub(super) fn identity(form: Form, body: &[u8], contents: bool) -> Option<BlockIdentity> {
    match form {
        Form::Json => {
            let published: Published = serde_json::from_slice(body).ok()?;
            let message = published.message.or(published.signed_block.map(|signed| signed.message))?;
            let state_root = holdfast_domain::root::parse_hex(&message.state_root)?;
            Some(BlockIdentity { slot: Slot(message.slot.parse().ok()?), state_root })
        }
        Form::Ssz => {
            let offset = |bytes: &[u8]| usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok();
            let signed = if contents { body.get(offset(body)?..)? } else { body };
            // A signed block: the offset of the message, then the signature.
            identity_of_block(signed.get(offset(signed)?..)?)
        }
    }
}

/// The identity of an unsigned block in SSZ: slot, proposer_index, parent_root, state_root.
pub(super) fn identity_of_block(block: &[u8]) -> Option<BlockIdentity> {
    let slot = u64::from_le_bytes(*block.first_chunk()?);
    Some(BlockIdentity { slot: Slot(slot), state_root: *block.get(48..)?.first_chunk()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_blocks_are_recognised_in_both_forms() {
        let expected = BlockIdentity { slot: Slot(9), state_root: [7; 32] };
        let root = format!("0x{}", "07".repeat(32));
        let bare = format!(r#"{{"message":{{"slot":"9","state_root":"{root}"}},"signature":"0x"}}"#);
        assert_eq!(identity(Form::Json, bare.as_bytes(), false), Some(expected));
        let contents = format!(r#"{{"signed_block":{bare},"blobs":[]}}"#);
        assert_eq!(identity(Form::Json, contents.as_bytes(), true), Some(expected));
        let mut block = 9u64.to_le_bytes().to_vec();
        block.extend([0; 40]);
        block.extend([7; 32]);
        let mut signed = 100u32.to_le_bytes().to_vec();
        signed.resize(100, 0);
        signed.extend(&block);
        assert_eq!(identity(Form::Ssz, &signed, false), Some(expected));
        let mut contents = 12u32.to_le_bytes().to_vec();
        contents.resize(12, 0);
        contents.extend(&signed);
        assert_eq!(identity(Form::Ssz, &contents, true), Some(expected));
        assert_eq!(identity(Form::Ssz, &contents[..100], true), None);
    }

    #[test]
    fn memory_is_bounded_and_the_slot_stands_in_for_the_block() {
        let producers = Producers::default();
        for slot in 0..200u16 {
            producers.remember(BlockIdentity { slot: Slot(u64::from(slot)), state_root: [1; 32] }, UpstreamId(slot));
        }
        assert_eq!(producers.of_slot(Slot(199)), Some(UpstreamId(199)));
        assert_eq!(producers.of_slot(Slot(1)), None);
        assert_eq!(producers.of_block(BlockIdentity { slot: Slot(199), state_root: [2; 32] }), Some(UpstreamId(199)));
        assert_eq!(producers.lock().by_block.len(), SLOTS_KEPT);
        assert_eq!(producers.latest(), Some(UpstreamId(199)));
    }
}
