//! What a database and its anchor say to somebody who only looks: nothing is locked, made, migrated, signed in to or
//! changed, so it works beside a running signer and harms none. (SQLite makes its two helper files, `-wal` and `-shm`,
//! when they are not there, as the owner of the database.)

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::path::Path;

use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};

use crate::anchor::Suspicion;
use crate::journal::{Head, InstanceId};
use crate::registry::{DataKeyRecord, HighWatermarks};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::{anchor, error::OpenError};

/// A database at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Schema version in the database; 0 if nothing was made in it yet.
    pub schema: u32,
    /// The newest schema version known here.
    pub schema_known: u32,
    /// Where a commit is when it is acknowledged.
    pub durability: Durability,
    /// The chain it belongs to, if that is settled.
    pub pinned: Option<GenesisValidatorsRoot>,
    /// The signers that use it; the one seen last comes first.
    pub instances: Vec<InstanceView>,
    /// Its keys.
    pub keys: KeyCounts,
    /// The highest watermarks over all keys, by a signature or by a fence.
    pub highest: HighWatermarks,
    /// The data key in use, wrapped.
    pub data_key: Option<DataKeyRecord>,
}

/// Where a commit is when it is acknowledged. A server that would acknowledge before is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// In a file of this machine, synced.
    File,
    /// On the disk of one server.
    OneServer {
        /// Its version, as it says it.
        version: String,
    },
    /// On the disk of a synchronous standby as well.
    Standby {
        /// Its version, as it says it.
        version: String,
        /// `synchronous_standby_names`.
        names: String,
    },
}

/// How many keys there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyCounts {
    /// Keys that may sign.
    pub enabled: u64,
    /// Keys switched off, and keys known only by their history.
    pub disabled: u64,
    /// Deleted keys.
    pub tombstoned: u64,
}

/// Whether a signer has the database open at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has.
    Connected,
    /// It has not.
    Away,
    /// The system does not tell.
    Unknown,
}

impl Presence {
    /// Lower-case word for listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Away => "away",
            Self::Unknown => "unknown",
        }
    }
}

/// A signer that uses a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    /// Which one.
    pub id: InstanceId,
    /// The machine it last ran on; `None` with SQLite, where it is this one.
    pub host: Option<String>,
    /// Its version; `None` with SQLite.
    pub version: Option<String>,
    /// When it last started; `None` with SQLite.
    pub started: Option<UnixMillis>,
    /// The end of its journal.
    pub head: Head,
    /// When that was written; `None` if it has written nothing yet.
    pub last_batch: Option<UnixMillis>,
    /// Whether it has the database open.
    pub presence: Presence,
    /// Since when it suspects the database of having lost writes, by its clock, and stops the others with that; `None` if
    /// it does not, or if a fence of every key came after. Always `None` with SQLite.
    pub suspects: Option<UnixMillis>,
}

/// What an anchor says, read without locking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorView {
    /// Which instance its data directory belongs to, and what it remembers; `None` if it cannot be read.
    pub record: Option<AnchorRecord>,
    /// The process that has it open, most probably the signer; `None` if there is none, or the system does not tell.
    pub holder: Option<u32>,
}

/// The content of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorRecord {
    /// Whose it is.
    pub instance: InstanceId,
    /// The last batch that was acknowledged.
    pub head: Head,
    /// Set while protection is frozen because the database may have lost writes.
    pub suspicion: Option<Suspicion>,
}

impl AnchorView {
    /// Reads the anchor at `path`; `None` if there is none. Read it before the database: then the database cannot be
    /// behind it by rights.
    ///
    /// # Errors
    /// [`OpenError::Io`].
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub fn read(path: &Path) -> Result<Option<Self>, OpenError> {
        anchor::look(path)
    }
}
