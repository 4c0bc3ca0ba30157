//! What can go wrong, and what it means for the caller.
//!
//! `Display` never repeats its `#[source]`: log the chain. Every refusal has a stable word and a class.

use std::path::PathBuf;
use std::sync::Arc;

use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};

use crate::rules::{Denial, Objection, SlashingReason};

/// A cause from a driver or the operating system.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a database could not be opened or bound.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// SQLite on a network filesystem loses locks and writes.
    #[error(
        "{} is on a network filesystem ({kind}), where file locks and fsync cannot be trusted; \
         put the data directory on a local disk", path.display()
    )]
    NetworkFilesystem {
        /// The database path.
        path: PathBuf,
        /// Name of the filesystem type.
        kind: &'static str,
    },
    /// Somebody else has the database open.
    #[error("{} is already open in {}; stop that process first, or send the command to it: \
         two processes must never sign from one database file", path.display(), describe_holder(*holder))]
    Locked {
        /// The database path.
        path: PathBuf,
        /// Process id of the holder, where the system tells.
        holder: Option<u32>,
    },
    /// Others may read or write the file.
    #[error("{} has mode {mode:04o}, but it holds sealed keys and the slashing record; run: chmod 600 {}",
        path.display(), path.display())]
    Permissions {
        /// The database path.
        path: PathBuf,
        /// The permission bits found.
        mode: u32,
    },
    /// Not an SQLite file at all.
    #[error("{} is not a Holdfast database (no SQLite header); check the path, or restore the file from a backup",
        path.display())]
    NotADatabase {
        /// The path.
        path: PathBuf,
    },
    /// An SQLite file of another program.
    #[error("{} is an SQLite database of another program; choose another data directory", path.display())]
    ForeignDatabase {
        /// The path.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error("{} has schema version {found}, this program knows up to {supported}; \
         install the newer version that wrote it", path.display())]
    NewerSchema {
        /// The path.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Newest version known here.
        supported: u32,
    },
    /// The file was replaced while it was being opened.
    #[error("{} was replaced by another file while it was being opened; try again", path.display())]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// A setting did not take effect.
    #[error("SQLite did not accept `{name} = {wanted}` for {} (it reports {found}); \
         without it commits are not durable", path.display())]
    Setting {
        /// The path.
        path: PathBuf,
        /// Name of the setting.
        name: &'static str,
        /// Value asked for.
        wanted: &'static str,
        /// Value in force.
        found: String,
    },
    /// A database operation failed.
    #[error("cannot {action} in {}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not a PostgreSQL address.
    #[error("the database address cannot be used: {problem}; expected postgres://user@host:port/database?sslmode=…")]
    Address {
        /// What is wrong, without the address.
        problem: String,
    },
    /// The server does not let us in, or does not answer.
    #[error("cannot connect to {address}: {advice}")]
    Unreachable {
        /// The address without credentials.
        address: String,
        /// What to do.
        advice: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Other programs have tables in it, and it was never used for this.
    #[error(
        "{address} holds tables of another program ({tables}) and nothing of Holdfast's; give a database of its own, or \
         if this is the right one, make the schema in it first: holdfast slashing migrate"
    )]
    OthersTables {
        /// The address without credentials.
        address: String,
        /// The first of the tables.
        tables: String,
    },
    /// The server would acknowledge what it may lose.
    #[error("{address} has {name} = {found}, with which it may lose commits that it acknowledged; run: {remedy}")]
    ServerSetting {
        /// The address without credentials.
        address: String,
        /// Name of the setting.
        name: &'static str,
        /// Value in force.
        found: String,
        /// The command that mends it.
        remedy: &'static str,
    },
    /// A standby, or a database that refuses writes.
    #[error("{address} is read-only (a standby, or default_transaction_read_only is on); give the primary's address")]
    ReadOnlyServer {
        /// The address without credentials.
        address: String,
    },
    /// An old server.
    #[error("{address} runs PostgreSQL {found}; version 14 or newer is needed")]
    ServerTooOld {
        /// The address without credentials.
        address: String,
        /// Its major version.
        found: i32,
    },
    /// Pinned to another chain.
    #[error(
        "this database belongs to the chain with genesis validators root {pinned}, but {wanted} is configured; \
         use that network, or another data directory"
    )]
    WrongNetwork {
        /// The root the database is pinned to.
        pinned: GenesisValidatorsRoot,
        /// The root asked for.
        wanted: GenesisValidatorsRoot,
    },
    /// Another process uses the same data directory.
    #[error(
        "{} is in use by another process; two processes must never share a data directory, so stop that one first",
        path.display()
    )]
    AnchorInUse {
        /// The anchor file.
        path: PathBuf,
    },
    /// No random bytes for the instance id.
    #[error("the operating system gave no random bytes for the instance id")]
    Random(#[source] getrandom::Error),
    /// A thread could not be started.
    #[error("cannot start the thread that owns the database")]
    Thread(#[source] std::io::Error),
}

fn describe_holder(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// Why the guard stopped authorizing for good. Only a restart ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FreezeReason {
    /// A commit may or may not be on disk.
    #[error("the outcome of a commit is unknown; check the disk, then restart")]
    CommitOutcomeUnknown,
    /// Reading or writing failed below SQLite.
    #[error("the storage reported an input/output error; check the disk, then restart")]
    StorageFailed,
    /// The database is damaged.
    #[error("the database is damaged; restore it and fence the keys before signing again")]
    DatabaseDamaged,
    /// Somebody else wrote to the journal, or acknowledged batches are gone.
    #[error("the journal does not end where this process left it; find out who changed the database file")]
    JournalHeadMoved,
    /// The database refused a change that would have weakened protection.
    #[error("the database refused an inconsistent change; report this as a defect")]
    InvariantViolated,
    /// The thread that owns the database is gone.
    #[error("the thread that owns the database stopped unexpectedly; report this as a defect")]
    CommitterGone,
}

impl FreezeReason {
    /// Stable word for metric labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CommitOutcomeUnknown => "commit_outcome_unknown",
            Self::StorageFailed => "storage_failed",
            Self::DatabaseDamaged => "database_damaged",
            Self::JournalHeadMoved => "journal_head_moved",
            Self::InvariantViolated => "invariant_violated",
            Self::CommitterGone => "committer_gone",
        }
    }
}

/// A database operation that failed while serving.
#[derive(Debug, thiserror::Error)]
#[error("the slashing database could not {action}")]
pub struct StoreError {
    action: &'static str,
    fatal: Option<FreezeReason>,
    #[source]
    source: BoxError,
}

impl StoreError {
    /// Nothing was written; later requests may succeed.
    pub(crate) fn retryable(action: &'static str, source: impl Into<BoxError>) -> Self {
        Self { action, fatal: None, source: source.into() }
    }

    /// What was written is unknown or wrong: no more permits.
    pub(crate) fn fatal(action: &'static str, reason: FreezeReason, source: impl Into<BoxError>) -> Self {
        Self { action, fatal: Some(reason), source: source.into() }
    }

    /// The same failure, made fatal unless it is already.
    #[cfg(feature = "sqlite")]
    #[must_use]
    pub(crate) fn or_fatal(mut self, reason: FreezeReason) -> Self {
        self.fatal.get_or_insert(reason);
        self
    }

    /// Set if the guard must freeze.
    pub fn freezes(&self) -> Option<FreezeReason> {
        self.fatal
    }
}

/// Why an administrative operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The database refused or failed.
    #[error("the operation was not carried out")]
    Store(#[from] StoreError),
    /// Protection is frozen.
    #[error("protection is frozen: {0}")]
    Frozen(FreezeReason),
    /// The guard was shut down.
    #[error("the slashing database is shut down")]
    ShutDown,
    /// No such key.
    #[error("the key is not registered; import it first")]
    UnknownKey,
    /// The key was deleted.
    #[error("the key was deleted; import it again, replacing its tombstone, if that is intended")]
    Tombstoned,
    /// The anchor could not be written.
    #[error("the keys were fenced, but {} cannot be written; mend that and fence again", path.display())]
    Anchor {
        /// The anchor file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Histories of another chain.
    #[error("the histories are of the chain with genesis validators root {found}, this database is of {pinned}")]
    WrongChain {
        /// The database's.
        pinned: GenesisValidatorsRoot,
        /// The histories'.
        found: GenesisValidatorsRoot,
    },
    /// What is in the database may be less than what was signed.
    #[error(
        "the database may have lost writes, so its history must not be handed on; \
         run `holdfast slashing status`, then `holdfast slashing fence`, and export after that"
    )]
    Suspect,
    /// A fence cannot be placed.
    #[error("the clock says the chain starts only at {genesis} ms and it is {now} ms (Unix time): \
         correct the clock, or register freshly generated keys as never signed",
        genesis = genesis.0, now = now.0)]
    ClockBeforeGenesis {
        /// Configured genesis.
        genesis: UnixMillis,
        /// What the clock says.
        now: UnixMillis,
    },
    /// A fence by this clock would be below what was signed.
    #[error("the clock says it is {now}, and what was signed here before cannot have been before {reached}: a fence by that \
         clock would lie below it. Set the clock right and try again; if it is right and was ahead then, set \
         slashing.trust_clock = true and restart", now = now.rfc3339(), reached = reached.rfc3339())]
    ClockBehind {
        /// The earliest moment at which all that was signed can have been.
        reached: UnixMillis,
        /// What the clock says.
        now: UnixMillis,
    },
}

/// Why old batches were not archived. They are in the database still, or in an archived file, or in both.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The journal is kept for ever.
    #[error("the journal is kept for ever; configure how long batches stay in the database first")]
    KeptForEver,
    /// The guard was shut down.
    #[error("the slashing database is shut down")]
    ShutDown,
    /// The archive cannot be written or listed.
    #[error("cannot write archived batches to {}; check that the folder is there, writable and has room", path.display())]
    Folder {
        /// The archive's folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The journal, or the file just written, does not verify.
    #[error("the journal does not verify, so nothing was taken out of it")]
    Journal(#[source] crate::journal::JournalError),
    /// The database failed.
    #[error("the database did not answer")]
    Store(#[source] StoreError),
    /// Somebody else took batches out of this chain meanwhile.
    #[error("the journal of instance {chain} began elsewhere than a moment before; another signer may be archiving it")]
    Moved {
        /// Whose chain.
        chain: crate::journal::InstanceId,
    },
    /// Batches may be needed to notice that the database lost writes.
    #[error(
        "nothing is taken out of the journal while the database is under suspicion or the anchor cannot be written"
    )]
    Unsettled,
}

/// Why a key was not registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The key was deleted before.
    #[error(
        "this key was deleted here; importing it again needs an explicit request to replace its tombstone, \
         after making sure that it signs nowhere else"
    )]
    Tombstoned,
    /// Claimed as never signed, but the database knows the key.
    #[error("this key cannot be registered as never signed: the database has seen it; use the default watermark")]
    AlreadySeen,
    /// The operation itself failed.
    #[error("registration was not carried out")]
    Admin(#[from] AdminError),
}

/// What a refusal means for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Judged and denied; the same request will be denied again.
    Refused,
    /// Too much at once; a retry is safe.
    Overloaded,
    /// Cannot record anything now; a retry is safe.
    Unavailable,
}

/// Why there is no permit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// Signing could get the validator slashed.
    #[error("{}", describe(Denial::Slashable(*.0)))]
    Slashable(SlashingReason),
    /// Block slot beyond the clock.
    #[error("{}", describe(Denial::SlotInFuture))]
    FutureSlot,
    /// Attestation target beyond the clock.
    #[error("{}", describe(Denial::TargetInFuture))]
    FutureTarget,
    /// For another chain.
    #[error("{}", describe(Denial::WrongGenesisValidatorsRoot))]
    WrongGenesisValidatorsRoot,
    /// Disabled or deleted.
    #[error("{}", describe(Denial::KeyDisabled))]
    KeyDisabled,
    /// No row.
    #[error("{}", describe(Denial::KeyNotRegistered))]
    KeyNotRegistered,
    /// The queue is full; not recorded.
    #[error("too many requests are waiting for the slashing database; try again shortly")]
    Overloaded,
    /// The record could not be written, and certainly was not.
    #[error("the slashing database cannot record the request; nothing was signed, and a retry is safe")]
    Unavailable(#[source] Arc<StoreError>),
    /// The guard is shutting down; not recorded.
    #[error("the slashing database is shutting down; nothing was signed")]
    ShuttingDown,
    /// The database may have lost acknowledged writes, and the key was not fenced since.
    #[error("{}", describe(Denial::ProtectionFrozen))]
    RollbackSuspected,
    /// Protection is frozen.
    #[error("slashing protection is frozen and nothing can be signed: {0}")]
    Frozen(FreezeReason),
    /// The rules allow it, and there was an objection.
    #[error("{}", describe(Denial::Objected(*.0)))]
    Objected(Objection),
}

impl Refusal {
    /// Stable word for the wire, metric labels and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Slashable(reason) => Denial::Slashable(*reason).as_str(),
            Self::FutureSlot => Denial::SlotInFuture.as_str(),
            Self::FutureTarget => Denial::TargetInFuture.as_str(),
            Self::WrongGenesisValidatorsRoot => Denial::WrongGenesisValidatorsRoot.as_str(),
            Self::KeyDisabled => Denial::KeyDisabled.as_str(),
            Self::KeyNotRegistered => Denial::KeyNotRegistered.as_str(),
            Self::Overloaded => "overloaded",
            Self::Unavailable(_) | Self::ShuttingDown => "database_unavailable",
            Self::RollbackSuspected => Denial::ProtectionFrozen.as_str(),
            Self::Frozen(_) => "protection_frozen",
            Self::Objected(objection) => objection.as_str(),
        }
    }

    /// What it means for the client.
    pub fn class(&self) -> Class {
        match self {
            Self::Slashable(_)
            | Self::FutureSlot
            | Self::FutureTarget
            | Self::WrongGenesisValidatorsRoot
            | Self::KeyDisabled
            | Self::KeyNotRegistered
            | Self::Objected(
                Objection::CheckpointsDisagreed | Objection::DoppelgangerPending | Objection::DoppelgangerDetected,
            ) => Class::Refused,
            Self::Overloaded => Class::Overloaded,
            Self::Unavailable(_)
            | Self::ShuttingDown
            | Self::RollbackSuspected
            | Self::Frozen(_)
            | Self::Objected(Objection::CheckpointsUnknown | Objection::NoLease) => Class::Unavailable,
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Slashable(reason) => Self::Slashable(reason),
            Denial::SlotInFuture => Self::FutureSlot,
            Denial::TargetInFuture => Self::FutureTarget,
            Denial::WrongGenesisValidatorsRoot => Self::WrongGenesisValidatorsRoot,
            Denial::KeyDisabled => Self::KeyDisabled,
            Denial::KeyNotRegistered => Self::KeyNotRegistered,
            Denial::ProtectionFrozen => Self::RollbackSuspected,
            Denial::Objected(objection) => Self::Objected(objection),
        }
    }
}

fn describe(denial: Denial) -> &'static str {
    match denial {
        Denial::Slashable(reason) => match reason {
            SlashingReason::BlockSlotBelowWatermark => {
                "refused: the block's slot is not above the highest slot this key may already have signed"
            }
            SlashingReason::DoubleBlock => "refused: a different block was already signed at this slot",
            SlashingReason::SourceAfterTarget => "refused: the attestation's source epoch is after its target epoch",
            SlashingReason::SourceNotBeforeTarget => {
                "refused: the attestation votes from the present epoch to itself, which no honest validator does"
            }
            SlashingReason::SourceBelowWatermark => {
                "refused: the attestation's source epoch is below the highest signed source, so it could surround an earlier vote"
            }
            SlashingReason::TargetBelowWatermark => {
                "refused: the attestation's target epoch is not above the highest target this key may already have signed"
            }
            SlashingReason::DoubleVote => "refused: a different attestation was already signed for this target epoch",
        },
        Denial::SlotInFuture => {
            "refused: the block's slot is in the future; compare this machine's clock with the validator client's"
        }
        Denial::TargetInFuture => {
            "refused: the attestation's target epoch is in the future; compare this machine's clock with the validator client's"
        }
        Denial::WrongGenesisValidatorsRoot => {
            "refused: the request is for another chain than this signer is set up for (genesis validators root differs)"
        }
        Denial::KeyDisabled => "refused: the key is disabled or deleted",
        Denial::KeyNotRegistered => "refused: the key is not registered in the slashing database; import it first",
        Denial::ProtectionFrozen => {
            "slashing protection is frozen: the database may have lost acknowledged writes; see `holdfast slashing status`, \
             then run `holdfast slashing fence`"
        }
        Denial::Objected(objection) => match objection {
            Objection::CheckpointsDisagreed => {
                "refused: the consensus clients agree on another source or target than this attestation has; \
                 `holdfast switcher status` shows which"
            }
            Objection::CheckpointsUnknown => {
                "the consensus clients did not confirm this attestation's source and target in time"
            }
            Objection::DoppelgangerPending => {
                "refused: the key was enabled a short while ago, and the consensus clients are being asked whether \
                 somebody else signs with it"
            }
            Objection::DoppelgangerDetected => {
                "refused: somebody else signs with this key; stop that signer, then disable the key here and enable it again"
            }
            Objection::NoLease => {
                "no lease for this epoch: another signer of the group holds it, or too few witnesses answer; the log says \
                 which, and clients should ask the other signer"
            }
        },
    }
}
