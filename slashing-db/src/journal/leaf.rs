//! The canonical encoding of one journal entry, which is what the Merkle root proves.
//!
//! Self-contained and injective: it needs no dictionary, no other entry and no database to be understood,
//! so a single leaf can be shown to a third party. Layout, integers big-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | layout version, 1 |
//! | 8 | batch time, Unix milliseconds |
//! | 48 | public key |
//! | 1 | message kind code |
//! | 1 | dating: 0 none, 1 slot, 2 epoch, 3 slot with source and target |
//! | 24 | slot or epoch, source, target; zero where absent |
//! | 32 | signing root |
//! | 1 | outcome code |
//! | 2 + n | caller, length first |

use holdfast_domain::message::Dating;
use holdfast_domain::{Subject, UnixMillis};

use super::Entry;

/// Layout version, first byte of every leaf.
pub const LEAF_VERSION: u8 = 1;

/// Appends the leaf of `entry`, judged at `time`, to `out`.
pub fn write(entry: &Entry, time: UnixMillis, out: &mut Vec<u8>) {
    let (dating, first, source, target) = match entry.subject {
        Subject::Block { slot } => (1, slot.0, 0, 0),
        Subject::Attestation { slot, source, target } => (3, slot.0, source.0, target.0),
        Subject::Unslashable { kind: _, dating } => match dating {
            Dating::Undated => (0u8, 0, 0, 0),
            Dating::Slot(slot) => (1, slot.0, 0, 0),
            Dating::Epoch(epoch) => (2, epoch.0, 0, 0),
        },
    };
    out.push(LEAF_VERSION);
    out.extend_from_slice(&time.0.to_be_bytes());
    out.extend_from_slice(entry.key.as_bytes());
    out.push(entry.subject.kind().code());
    out.push(dating);
    for number in [first, source, target] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(entry.root.as_bytes());
    out.push(entry.outcome.code());
    let caller = entry.caller.as_str().as_bytes();
    // `CallerId` holds at most 255 bytes, so the length always fits.
    out.extend_from_slice(&u16::try_from(caller.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(caller);
}
