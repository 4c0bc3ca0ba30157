//! The journal: what was asked, by whom, and what was answered, and what else happened, as a chain of batches.
//!
//! Everything one commit wrote down is one [`Batch`] of [records](Record): requests and their answers, and
//! [events](Event). They are stored compactly; what is
//! *proved* is independent of that: a Merkle root over self-contained leaf encodings ([`leaf`]), and a
//! batch hash over that root, the previous batch's hash, the instance, the number, the count and the
//! time. Changing, inserting or removing a batch anywhere but at the end breaks the chain. A chain alone
//! cannot show that its end was cut off; comparing its head with one kept elsewhere can.
//! Old batches move to [archived files](archive); what is left in the database then begins at a base, the
//! number and hash of the last batch that moved, so that it verifies alone and together with the files.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub mod archive;
pub(crate) mod codec;
mod event;
pub mod leaf;
pub mod merkle;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod reader;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) mod retention;

use core::fmt;

use holdfast_domain::{ObservedRoot, PublicKey, Subject, UnixMillis};
use sha2::{Digest, Sha256};

use crate::identity::CallerId;
use crate::rules::{Approval, Denial, Objection};

pub use codec::CodecError;
pub use event::{Event, EventKind, MAX_ABOUT_BYTES, MAX_DETAIL_BYTES, MAX_KIND_BYTES};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use reader::{JournalError, Reader};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use retention::{Archived, BATCHES_THAT_STAY, Retention};

/// Tag that starts every batch hash, so that no other hash in the product can be taken for one.
const BATCH_TAG: &[u8] = b"holdfast/journal/batch/v1";

/// A SHA-256 digest in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first batch names as its predecessor.
    pub const ZERO: Self = Self([0; 32]);
}

/// Which database instance wrote a batch: 16 random bytes drawn when the database is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstanceId(pub [u8; 16]);

macro_rules! hex_fmt {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
hex_fmt!(Hash, InstanceId);

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the last batch; 0 if there is none.
    pub seq: u64,
    /// Its hash; zero if there is none.
    pub hash: Hash,
}

impl Head {
    /// The end of an empty chain.
    pub const EMPTY: Self = Self { seq: 0, hash: Hash::ZERO };
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A permit was due. Whether a signature left is not known here.
    Approved(Approval),
    /// No permit.
    Denied(Denial),
    /// Not a request: the caller raised the key's watermarks to a fence. The subject holds the fence as the slot,
    /// source and target of an attestation, and the root is zero.
    Fenced,
}

impl Outcome {
    /// Stable code in the journal. Never reuse or change one.
    pub const fn code(self) -> u8 {
        match self {
            Self::Approved(approval) => match approval {
                Approval::NewData => 1,
                Approval::SameData => 2,
                Approval::NotSlashable => 3,
            },
            Self::Denied(denial) => match denial {
                Denial::Slashable(reason) => match reason {
                    crate::rules::SlashingReason::BlockSlotBelowWatermark => 16,
                    crate::rules::SlashingReason::DoubleBlock => 17,
                    crate::rules::SlashingReason::SourceAfterTarget => 18,
                    crate::rules::SlashingReason::SourceBelowWatermark => 19,
                    crate::rules::SlashingReason::TargetBelowWatermark => 20,
                    crate::rules::SlashingReason::DoubleVote => 21,
                    crate::rules::SlashingReason::SourceNotBeforeTarget => 22,
                },
                Denial::SlotInFuture => 32,
                Denial::TargetInFuture => 33,
                Denial::WrongGenesisValidatorsRoot => 34,
                Denial::KeyDisabled => 35,
                Denial::KeyNotRegistered => 36,
                Denial::ProtectionFrozen => 37,
                Denial::Objected(objection) => match objection {
                    Objection::CheckpointsDisagreed => 56,
                    Objection::CheckpointsUnknown => 57,
                    Objection::DoppelgangerPending => 58,
                    Objection::DoppelgangerDetected => 59,
                    Objection::NoLease => 60,
                },
            },
            Self::Fenced => 48,
        }
    }

    /// The outcome with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        let approvals = [Approval::NewData, Approval::SameData, Approval::NotSlashable].map(Self::Approved);
        let denials = Denial::ALL.map(Self::Denied);
        approvals.into_iter().chain(denials).chain([Self::Fenced]).find(|outcome| outcome.code() == code)
    }

    /// `signed`, `refused` or `fenced`, for listings and metric labels.
    pub const fn result(self) -> &'static str {
        match self {
            Self::Approved(_) => "signed",
            Self::Denied(_) => "refused",
            Self::Fenced => "fenced",
        }
    }

    /// Why: `new_data`, `same_data`, `not_slashable`, or the denial's word.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Approved(approval) => match approval {
                Approval::NewData => "new_data",
                Approval::SameData => "same_data",
                Approval::NotSlashable => "not_slashable",
            },
            Self::Denied(denial) => denial.as_str(),
            Self::Fenced => "fence",
        }
    }
}

/// One request and its answer. Its time is its batch's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who asked.
    pub caller: CallerId,
    /// With which key.
    pub key: PublicKey,
    /// For what.
    pub subject: Subject,
    /// Its signing root.
    pub root: ObservedRoot,
    /// What was answered.
    pub outcome: Outcome,
}

/// What a batch holds, each with its own leaf in the Merkle tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A request for a permit, and the answer to it; or a fence.
    Request(Entry),
    /// Something else that happened.
    Event(Event),
}

/// A batch as read back: verified header and decoded records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The chained part.
    pub header: BatchHeader,
    /// Requests and events, in the order they were taken up.
    pub records: Vec<Record>,
    /// Size of the stored encoding in bytes.
    pub stored_bytes: usize,
}

impl Batch {
    /// The requests, in the order they were judged.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.records.iter().filter_map(|record| match record {
            Record::Request(entry) => Some(entry),
            Record::Event(_) => None,
        })
    }

    /// The events, in the order they were taken up.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.records.iter().filter_map(|record| match record {
            Record::Event(event) => Some(event),
            Record::Request(_) => None,
        })
    }
}

/// A batch's row: its header and its encoded records.
pub(crate) type StoredBatch = (BatchHeader, Vec<u8>);

/// The Merkle tree over the leaves of a batch's records.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn tree_of(records: &[Record], time: UnixMillis) -> merkle::Accumulator {
    let mut tree = merkle::Accumulator::default();
    let mut encoded = Vec::new();
    for record in records {
        encoded.clear();
        leaf::write_record(record, time, &mut encoded);
        tree.push(&encoded);
    }
    tree
}

/// The chained part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Who wrote it.
    pub instance: InstanceId,
    /// Number in the chain, from 1.
    pub seq: u64,
    /// When it was judged.
    pub time: UnixMillis,
    /// Hash of the batch before.
    pub prev_hash: Hash,
    /// Merkle root over the leaf encodings of the records.
    pub merkle_root: Hash,
    /// Number of records.
    pub count: u64,
    /// Hash of this batch: see [`BatchHeader::compute_hash`].
    pub hash: Hash,
}

impl BatchHeader {
    /// The header that follows `head`.
    pub(crate) fn following(
        head: &Head,
        instance: InstanceId,
        time: UnixMillis,
        merkle_root: Hash,
        count: u64,
    ) -> Self {
        let mut header = Self {
            instance,
            seq: head.seq.saturating_add(1),
            time,
            prev_hash: head.hash,
            merkle_root,
            count,
            hash: Hash::ZERO,
        };
        header.hash = header.compute_hash();
        header
    }

    /// SHA-256 over the tag, instance, number, previous hash, Merkle root, count and time (integers big-endian).
    pub fn compute_hash(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(BATCH_TAG);
        hash.update(self.instance.0);
        hash.update(self.seq.to_be_bytes());
        hash.update(self.prev_hash.0);
        hash.update(self.merkle_root.0);
        hash.update(self.count.to_be_bytes());
        hash.update(self.time.0.to_be_bytes());
        Hash(hash.finalize().into())
    }

    /// This batch as the end of the chain.
    pub fn as_head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_codes_are_distinct_and_read_back() {
        let mut seen = 0;
        for code in 0..=u8::MAX {
            if let Some(outcome) = Outcome::from_code(code) {
                assert_eq!(outcome.code(), code);
                seen += 1;
            }
        }
        assert_eq!(seen, 4 + Denial::ALL.len());
    }

    #[test]
    fn every_field_of_a_header_is_hashed() {
        let base = BatchHeader::following(&Head::EMPTY, InstanceId([1; 16]), UnixMillis(5), Hash([2; 32]), 3);
        let changed = [
            BatchHeader { instance: InstanceId([9; 16]), ..base },
            BatchHeader { seq: 2, ..base },
            BatchHeader { time: UnixMillis(6), ..base },
            BatchHeader { prev_hash: Hash([9; 32]), ..base },
            BatchHeader { merkle_root: Hash([9; 32]), ..base },
            BatchHeader { count: 4, ..base },
        ];
        for header in changed {
            assert_ne!(header.compute_hash(), base.hash);
        }
        assert_eq!(base.compute_hash(), base.hash);
    }
}
