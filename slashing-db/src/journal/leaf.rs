//! The canonical encodings of journal records, which are what the Merkle root proves.
//!
//! Self-contained and injective: a leaf needs no dictionary, no other record and no database to be understood, so a
//! single one can be shown to a third party, and different records have different leaves. Integers are big-endian. A
//! request, layout 1:
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
//!
//! An event, layout 2:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | layout version, 2 |
//! | 8 | batch time, Unix milliseconds |
//! | 8 | when it happened, Unix milliseconds |
//! | 1 | 1 if it is about a key, else 0 |
//! | 48 | public key; zero where absent |
//! | 2 + n | who, length first |
//! | 2 + n | kind, length first |
//! | 2 + n | what it is about, length first |
//! | 2 + n | detail, length first |

use holdfast_domain::message::Dating;
use holdfast_domain::{Subject, UnixMillis};

use super::{Entry, Event, Record};

/// Layout version of a request, first byte of its leaf.
pub const LEAF_VERSION: u8 = 1;
/// Layout version of an event, first byte of its leaf.
pub const EVENT_LEAF_VERSION: u8 = 2;

/// Appends the leaf of a record, written down at `time`, to `out`.
pub fn write_record(record: &Record, time: UnixMillis, out: &mut Vec<u8>) {
    match record {
        Record::Request(entry) => write(entry, time, out),
        Record::Event(event) => write_event(event, time, out),
    }
}

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
    text(entry.caller.as_str(), out);
}

/// Appends the leaf of `event`, written down at `time`, to `out`.
pub fn write_event(event: &Event, time: UnixMillis, out: &mut Vec<u8>) {
    out.push(EVENT_LEAF_VERSION);
    out.extend_from_slice(&time.0.to_be_bytes());
    out.extend_from_slice(&event.happened_at().0.to_be_bytes());
    out.push(u8::from(event.key().is_some()));
    out.extend_from_slice(event.key().map_or(&[0; 48], |key| key.as_bytes()));
    for part in [event.caller().as_str(), event.kind().as_str(), event.what(), event.why()] {
        text(part, out);
    }
}

/// Length and bytes. All texts of a record are far shorter than 64 KiB, so the length always fits.
fn text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
