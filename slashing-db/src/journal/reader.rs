//! Reading a journal back, believing nothing: every batch is decoded, its Merkle root and hash are
//! computed again, and it must follow the batch before it.
//!
//! What this cannot show: that the *end* was cut off. Compare the last [`Head`] with one kept elsewhere.

use std::collections::HashMap;
#[cfg(feature = "sqlite")]
use std::path::Path;
use std::path::PathBuf;

use holdfast_domain::PublicKey;
#[cfg(feature = "sqlite")]
use holdfast_domain::UnixMillis;
#[cfg(feature = "sqlite")]
use rusqlite::{Connection, OptionalExtension};

use super::codec::{CodecError, decode};
use super::merkle::Accumulator;
use super::{Batch, BatchHeader, Entry, Head, leaf};
#[cfg(feature = "sqlite")]
use super::{Hash, InstanceId};
use crate::error::BoxError;
use crate::store::RowId;
#[cfg(feature = "sqlite")]
use crate::store::sqlite::{Signed, blob, open_read_only};
#[cfg(feature = "postgres")]
use crate::{PostgresOptions, store::postgres::PostgresJournal};

/// Why a journal cannot be read or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Not there, not ours, or not readable.
    #[error("cannot open the journal in {}", path.display())]
    Open {
        /// The database path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading failed.
    #[error("cannot read journal batch {seq} or what follows it")]
    Read {
        /// Last batch that was read.
        seq: u64,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Batches are missing.
    #[error("journal batch {expected} is missing: {found} follows; batches were removed, or the file is damaged")]
    Gap {
        /// Number that should come.
        expected: u64,
        /// Number that came.
        found: u64,
    },
    /// Does not follow the batch before it.
    #[error("journal batch {seq} does not follow the batch before it; one of them was replaced")]
    ChainBroken {
        /// The batch.
        seq: u64,
    },
    /// The header was changed.
    #[error("the header of journal batch {seq} does not match its hash; it was changed")]
    HashMismatch {
        /// The batch.
        seq: u64,
    },
    /// The entries were changed.
    #[error("the entries of journal batch {seq} do not match its Merkle root; they were changed")]
    RootMismatch {
        /// The batch.
        seq: u64,
    },
    /// The entries cannot be decoded.
    #[error("cannot decode the entries of journal batch {seq}")]
    Undecodable {
        /// The batch.
        seq: u64,
        /// Why.
        #[source]
        source: CodecError,
    },
}

/// A batch's row: its header and its encoded entries.
pub(crate) type StoredBatch = (BatchHeader, Vec<u8>);

/// Where batches come from.
enum Source {
    #[cfg(feature = "sqlite")]
    Sqlite(Connection),
    #[cfg(feature = "postgres")]
    Postgres(Box<PostgresJournal>),
}

/// Iterates over verified batches, oldest first. Stops after the first error.
pub struct Reader {
    source: Source,
    keys: HashMap<RowId, PublicKey>,
    head: Head,
    failed: bool,
}

impl Reader {
    /// Opens the journal of an SQLite file, read-only; a running signer is not disturbed.
    ///
    /// # Errors
    /// [`JournalError::Open`].
    #[cfg(feature = "sqlite")]
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let opened = open_read_only(path).and_then(|db| {
            db.query_row("SELECT version FROM schema_version", [], |_| Ok(()))?;
            Ok(db)
        });
        let db = opened.map_err(|source| JournalError::Open { path: path.to_owned(), source: Box::new(source) })?;
        Ok(Self::of(Source::Sqlite(db)))
    }

    /// Opens one instance's journal in a PostgreSQL database; running signers are not disturbed. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Open`].
    #[cfg(feature = "postgres")]
    pub fn open_postgres(options: &PostgresOptions, instance: super::InstanceId) -> Result<Self, JournalError> {
        let journal = PostgresJournal::open(options, instance)
            .map_err(|source| JournalError::Open { path: options.address().into(), source: Box::new(source) })?;
        Ok(Self::of(Source::Postgres(Box::new(journal))))
    }

    fn of(source: Source) -> Self {
        Self { source, keys: HashMap::new(), head: Head::EMPTY, failed: false }
    }

    /// The end of what has been verified so far.
    pub fn head(&self) -> Head {
        self.head
    }

    fn load(&mut self) -> Result<Option<StoredBatch>, BoxError> {
        match &mut self.source {
            #[cfg(feature = "sqlite")]
            Source::Sqlite(db) => Ok(load(db, self.head.seq)?),
            #[cfg(feature = "postgres")]
            Source::Postgres(journal) => Ok(journal.after(self.head.seq)?),
        }
    }

    fn verify(&mut self, header: BatchHeader, stored: &[u8]) -> Result<Batch, JournalError> {
        let seq = header.seq;
        let expected = self.head.seq.saturating_add(1);
        if seq != expected {
            return Err(JournalError::Gap { expected, found: seq });
        }
        if header.prev_hash != self.head.hash {
            return Err(JournalError::ChainBroken { seq });
        }
        if header.compute_hash() != header.hash {
            return Err(JournalError::HashMismatch { seq });
        }
        let entries = self.decode(seq, stored)?;
        let mut tree = Accumulator::default();
        let mut encoded = Vec::new();
        for entry in &entries {
            encoded.clear();
            leaf::write(entry, header.time, &mut encoded);
            tree.push(&encoded);
        }
        if tree.root() != header.merkle_root || tree.count() != header.count {
            return Err(JournalError::RootMismatch { seq });
        }
        self.head = header.as_head();
        Ok(Batch { header, entries, stored_bytes: stored.len() })
    }

    fn decode(&mut self, seq: u64, stored: &[u8]) -> Result<Vec<Entry>, JournalError> {
        let (source, keys) = (&mut self.source, &mut self.keys);
        let mut failure = None;
        let decoded = decode(stored, |id| {
            if let Some(key) = keys.get(&id) {
                return Some(*key);
            }
            match source.key(id) {
                Ok(found) => {
                    keys.extend(found.map(|key| (id, key)));
                    found
                }
                Err(error) => {
                    failure = Some(error);
                    None
                }
            }
        });
        match failure {
            Some(error) => Err(JournalError::Read { seq, source: error }),
            None => decoded.map_err(|source| JournalError::Undecodable { seq, source }),
        }
    }
}

impl Source {
    fn key(&mut self, id: RowId) -> Result<Option<PublicKey>, BoxError> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(db) => Ok(find_key(db, id)?),
            #[cfg(feature = "postgres")]
            Self::Postgres(journal) => Ok(journal.key(id)?),
        }
    }
}

#[cfg(feature = "sqlite")]
fn load(db: &Connection, after: u64) -> rusqlite::Result<Option<StoredBatch>> {
    let sql = "SELECT seq, instance, time_ms, prev_hash, merkle_root, hash, count, entries \
         FROM journal WHERE seq > ?1 ORDER BY seq LIMIT 1";
    let mut statement = db.prepare_cached(sql)?;
    let batch = statement.query_row([after.cast_signed()], |row| {
        let header = BatchHeader {
            seq: row.get::<_, Signed>(0)?.0,
            instance: InstanceId(blob(row, 1)?),
            time: UnixMillis(row.get::<_, Signed>(2)?.0),
            prev_hash: Hash(blob(row, 3)?),
            merkle_root: Hash(blob(row, 4)?),
            hash: Hash(blob(row, 5)?),
            count: row.get::<_, Signed>(6)?.0,
        };
        Ok((header, row.get(7)?))
    });
    batch.optional()
}

#[cfg(feature = "sqlite")]
fn find_key(db: &Connection, id: RowId) -> rusqlite::Result<Option<PublicKey>> {
    let mut statement = db.prepare_cached("SELECT pubkey FROM validators WHERE id = ?1")?;
    statement.query_row([id.0.cast_signed()], |row| Ok(PublicKey::from_bytes(blob(row, 0)?))).optional()
}

impl Iterator for Reader {
    type Item = Result<Batch, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = match self.load() {
            Ok(None) => return None,
            Ok(Some((header, stored))) => self.verify(header, &stored),
            Err(source) => Err(JournalError::Read { seq: self.head.seq, source }),
        };
        self.failed = result.is_err();
        Some(result)
    }
}
