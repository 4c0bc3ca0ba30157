//! Verifying a journal, or an export of one, with nothing to trust but public keys.
//!
//! Guarantees: [`Verified`] means that every batch follows the one before it, every record is in the Merkle tree of
//! its batch, every checkpoint in the chain signs the batch that it names, and every checkpoint that was given is
//! covered; [`Broken`] names the first place where that does not hold. Memory is bounded by one batch.

mod chain;
mod consistency;
mod export;
mod handover;

use core::fmt;

use holdfast_domain::UnixMillis;
use holdfast_slashing_db::journal::{Batch, Head, InstanceId, JournalError};

use crate::Filter;
use crate::checkpoint::{Checkpoint, SignedCheckpoint, VerifyingKey};
use chain::Chain;

pub use consistency::{Consistent, Inconsistent, consistent};
pub use export::{resume_export, verify_export};
pub use handover::{Below, HandedOver, NotHandedOver, handed_over};

/// What the verifier knows from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Public keys of checkpoints, of any chains. Without one, no signature is verified.
    pub keys: Vec<VerifyingKey>,
    /// Checkpoints that were kept elsewhere: the chain must reach them.
    pub checkpoints: Vec<SignedCheckpoint>,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose chain.
    pub instance: InstanceId,
    /// The batch before the first one.
    pub after: Head,
    /// The last batch.
    pub head: Head,
    /// When the first batch was written.
    pub first: Option<UnixMillis>,
    /// When the last batch was written.
    pub last: Option<UnixMillis>,
    /// Batches.
    pub batches: u64,
    /// Records in them, shown or not.
    pub records: u64,
    /// Requests that are shown and were answered with a permit.
    pub signed: u64,
    /// Requests that are shown and were refused.
    pub refused: u64,
    /// Other records that are shown: fences and events.
    pub others: u64,
    /// Checkpoints in the chain.
    pub checkpoints: u64,
    /// The last batch that a verified signature covers, and when it was signed.
    pub signed_to: Option<Checkpoint>,
    /// What the export selected.
    pub filter: Filter,
}

impl Verified {
    /// Batches after the last one that a verified signature covers.
    pub fn unsigned(&self) -> u64 {
        let from = self.signed_to.map_or(self.after.seq, |signed| signed.head.seq);
        self.head.seq.saturating_sub(from)
    }
}

/// The first place that is not in order.
#[derive(Debug, thiserror::Error)]
pub struct Broken {
    /// Line of an export, from 1.
    pub line: Option<u64>,
    /// The batch that is wrong, or the first one that is missing.
    pub batch: u64,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        write!(f, "batch {}", self.batch)
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Reading failed.
    #[error("the file cannot be read")]
    Read(#[source] std::io::Error),
    /// The database or its archive.
    #[error(transparent)]
    Journal(JournalError),
    /// Not a line of an export.
    #[error("this line is not one of an export, or it was changed")]
    NotALine,
    /// A line at a place where it cannot stand.
    #[error("this line stands where it cannot: lines were moved, added or removed")]
    OutOfPlace,
    /// Batches are missing.
    #[error("batch {found} follows where {expected} should: batches were removed or moved")]
    Gap {
        /// Number that should come.
        expected: u64,
        /// Number that came.
        found: u64,
    },
    /// Does not follow the batch before it.
    #[error("it does not follow the batch before it: one of them was replaced")]
    ChainBroken,
    /// The header was changed.
    #[error("it does not match its hash: it was changed")]
    HashMismatch,
    /// Its records were changed.
    #[error("its records do not match its Merkle root: they were changed, added or removed")]
    RootMismatch,
    /// A record that the export did not select is shown, or one that it did is not.
    #[error("what is shown is not what the first line says was selected")]
    OtherSelection,
    /// No last line.
    #[error("the export ends early: its last line is missing; bring the whole file, or resume the export")]
    EndsEarly,
    /// The last line is of another export.
    #[error("the last line does not fit what is before it")]
    OtherEnd,
    /// The first line was changed.
    #[error("the first line is not the one that the last line names: one of the two was changed")]
    OtherStart,
    /// A record that should hold a checkpoint does not.
    #[error("a checkpoint in it cannot be read")]
    BadCheckpoint,
    /// A checkpoint with a key that was not given.
    #[error(
        "a checkpoint in it is signed with a key that was not given; if the key was changed, give the new public key, too"
    )]
    UnknownKey,
    /// A checkpoint with a wrong signature.
    #[error("the signature of a checkpoint is wrong: it was forged or changed")]
    BadSignature,
    /// A checkpoint of this chain signs another batch.
    #[error("a checkpoint of {} signs another batch {}: history was rewritten after it", .0.time.rfc3339(), .0.head.seq)]
    Contradicted(Checkpoint),
    /// A checkpoint signs a batch that is not there.
    #[error("a checkpoint of {} signs batch {}, which is missing: the end was cut off", .0.time.rfc3339(), .0.head.seq)]
    CutOff(Checkpoint),
}

/// Verifies batches of a database and its archive, as its reader gives them.
///
/// # Errors
/// [`Broken`], with the first batch that is not in order.
pub fn verify_journal(
    batches: impl Iterator<Item = Result<Batch, JournalError>>,
    instance: InstanceId,
    after: Head,
    trust: &Trust,
) -> Result<Verified, Broken> {
    let mut chain = Chain::new(instance, after, Filter::default(), trust)?;
    for batch in batches {
        let batch = batch.map_err(|error| Broken {
            line: None,
            batch: chain.head().seq.saturating_add(1),
            problem: Problem::Journal(error),
        })?;
        let at = |problem| Broken { line: None, batch: batch.header.seq, problem };
        chain.batch(&batch.header).map_err(at)?;
        for record in &batch.records {
            chain.record(record).map_err(at)?;
        }
    }
    chain.finish()
}
