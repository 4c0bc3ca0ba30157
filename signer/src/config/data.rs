//! `[data]` and `[database]`: where an instance keeps its files, and where the record is of what was signed.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use holdfast_slashing_db::{DEFAULT_MAX_BATCH, DEFAULT_QUEUE_CAPACITY};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DatabaseUrl, nonzero};

/// Where the data directory is when nobody says otherwise.
pub(super) const DEFAULT_DATA_DIR: &str = "holdfast-data";

/// `[data]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DataConfig {
    /// Directory for the database, the key-encryption key and sockets. It must belong to this user alone (mode 0700).
    pub(crate) dir: PathBuf,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { dir: PathBuf::from(DEFAULT_DATA_DIR) }
    }
}

/// `[database]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseConfig {
    /// Where the database is: "sqlite:PATH" or "postgres://user@host:port/database". Default: sqlite:<data.dir>/holdfast.db. SQLite on a network filesystem is refused. With PostgreSQL, add ?sslmode=verify-full&sslrootcert=FILE to have the server's certificate checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<DatabaseUrl>,
    /// File that holds the PostgreSQL password, mode 0600; one trailing line break is not part of it. It is read again for each connection, so a password may change while the signer runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// How long a connection to PostgreSQL may take, in milliseconds.
    pub(crate) connect_timeout_ms: NonZeroU64,
    /// How long PostgreSQL may take to answer, or to give a lock, in milliseconds. Requests then get 503.
    pub(crate) statement_timeout_ms: NonZeroU64,
    /// How many requests may wait for a commit. Requests beyond this are answered 503 at once.
    pub(crate) queue_capacity: NonZeroUsize,
    /// How many requests one commit takes at most.
    pub(crate) max_batch: NonZeroUsize,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            connect_timeout_ms: nonzero(3_000),
            statement_timeout_ms: nonzero(2_000),
            queue_capacity: DEFAULT_QUEUE_CAPACITY,
            max_batch: DEFAULT_MAX_BATCH,
        }
    }
}
