//! Reading a journal back, believing nothing: every batch is decoded, its Merkle root and hash are
//! computed again, and it must follow the batch before it.
//!
//! What this cannot show: that the *end* was cut off. Compare the last [`Head`] with one kept elsewhere.

use std::collections::{HashMap, VecDeque};
#[cfg(feature = "sqlite")]
use std::path::Path;
use std::path::PathBuf;

use holdfast_domain::PublicKey;

use super::archive::{self, ArchiveFile, Leg};
use super::codec::{CodecError, decode};
use super::{Batch, BatchHeader, Head, InstanceId, Record, StoredBatch, tree_of};
#[cfg(feature = "postgres")]
use crate::PostgresOptions;
use crate::error::{BoxError, StoreError};
use crate::store::{ReadStore, RowId};

/// Batches, and keys, fetched at once; a batch is a quarter of a megabyte at most.
const BATCHES_AT_ONCE: usize = 64;
const KEYS_AT_ONCE: usize = 4_096;

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
    /// A folder or a file of archived batches cannot be read.
    #[error("cannot read the archived journal in {}", path.display())]
    Archive {
        /// The folder or the file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// An archived file is not what was written.
    #[error("{} is damaged after journal batch {seq}: {what}; bring the file back from a backup", path.display())]
    ArchiveDamaged {
        /// The file.
        path: PathBuf,
        /// The last batch that is in order.
        seq: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The file with a batch that left the database is not there.
    #[error("journal batch {seq} was archived, but no file {} has it; name the folder it is in", within(folders))]
    ArchiveMissing {
        /// The batch.
        seq: u64,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
}

fn within(folders: &[PathBuf]) -> String {
    let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    if folders.is_empty() { "was named that".to_owned() } else { format!("in {}", folders.join(" or ")) }
}

/// Iterates over verified batches, oldest first: of the database alone, from where its rows begin, or from the
/// very first one [with the archived files](Self::with_archive). Stops after the first error.
pub struct Reader {
    store: Box<dyn ReadStore>,
    instance: InstanceId,
    archives: Vec<PathBuf>,
    legs: VecDeque<Leg>,
    leg: Option<(ArchiveFile, Head)>,
    waiting: VecDeque<StoredBatch>,
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
        let opened = crate::store::sqlite::open_journal(path);
        opened.and_then(|(store, instance)| Self::of(store, instance)).map_err(opening(path.to_owned()))
    }

    /// Opens one instance's journal in a PostgreSQL database; running signers are not disturbed. Blocks.
    ///
    /// # Errors
    /// [`JournalError::Open`].
    #[cfg(feature = "postgres")]
    pub fn open_postgres(options: &PostgresOptions, instance: InstanceId) -> Result<Self, JournalError> {
        let opened = crate::store::postgres::open_journal(options).map_err(BoxError::from);
        opened.and_then(|store| Self::of(store, instance)).map_err(opening(options.address().into()))
    }

    fn of(mut store: Box<dyn ReadStore>, instance: InstanceId) -> Result<Self, BoxError> {
        let head = store.journal_base(instance)?;
        Ok(Self {
            store,
            instance,
            archives: Vec::new(),
            legs: VecDeque::new(),
            leg: None,
            waiting: VecDeque::new(),
            keys: HashMap::new(),
            head,
            failed: false,
        })
    }

    /// Reads from the first batch of the chain on: the archived files in `folders`, as the configuration names
    /// them, then the database. For a reader that was just opened.
    ///
    /// # Errors
    /// [`JournalError::ArchiveMissing`], [`JournalError::ArchiveDamaged`] or [`JournalError::Archive`].
    pub fn with_archive(mut self, folders: &[PathBuf]) -> Result<Self, JournalError> {
        let base = self.head;
        self.archives = folders.to_vec();
        self.head = Head::EMPTY;
        self.legs = archive::plan(folders, self.instance, Head::EMPTY, base)?.into();
        Ok(self)
    }

    /// Whose journal it is.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The end of what has been verified so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next batch of the archived file that is being read.
    fn archived(&mut self) -> Result<Option<Batch>, JournalError> {
        while let Some((mut file, upto)) = self.leg.take() {
            let Some(batch) = file.next().transpose()? else { continue };
            let (head, before) = (batch.header.as_head(), batch.header.prev_hash);
            // A file may begin before where its part of the way does.
            if head.seq <= self.head.seq {
                if head.seq == self.head.seq && head != self.head {
                    return Err(JournalError::ChainBroken { seq: head.seq });
                }
                self.leg = Some((file, upto));
                continue;
            }
            let follows = head.seq == self.head.seq.saturating_add(1) && before == self.head.hash;
            if !follows || (head.seq == upto.seq && head != upto) {
                return Err(JournalError::ChainBroken { seq: head.seq });
            }
            if head != upto {
                self.leg = Some((file, upto));
            } else if let Some(beyond) = file.next() {
                // What comes next was taken out only in part; at the end of a file this verifies the end.
                beyond?;
            }
            self.head = head;
            return Ok(Some(batch));
        }
        Ok(None)
    }

    /// The next batch of the database.
    fn live(&mut self) -> Result<Option<Batch>, JournalError> {
        let reading = |seq| move |source: StoreError| JournalError::Read { seq, source: source.into() };
        let last = self.head.seq;
        if self.waiting.is_empty() {
            let found = self.store.batches_after(self.instance, last, BATCHES_AT_ONCE).map_err(reading(last))?;
            self.waiting.extend(found);
        }
        let Some((header, stored)) = self.waiting.pop_front() else { return Ok(None) };
        if header.seq > last.saturating_add(1) {
            let base = self.store.journal_base(self.instance).map_err(reading(last))?;
            if base.seq > last {
                // They were archived while this reader was on its way.
                self.waiting.clear();
                self.legs = archive::plan(&self.archives, self.instance, self.head, base)?.into();
                return Ok(None);
            }
        }
        let (store, keys) = (self.store.as_mut(), &mut self.keys);
        let records = verify(&self.head, &header, &stored, |id| key_of(store, keys, id))?;
        self.head = header.as_head();
        Ok(Some(Batch { header, records, stored_bytes: stored.len() }))
    }

    fn advance(&mut self) -> Result<Option<Batch>, JournalError> {
        loop {
            if let Some(batch) = self.archived()? {
                return Ok(Some(batch));
            }
            match self.legs.pop_front() {
                Some(leg) => self.leg = Some((ArchiveFile::open(&leg.path)?, leg.upto)),
                None => match self.live()? {
                    None if !self.legs.is_empty() => {}
                    found => return Ok(found),
                },
            }
        }
    }
}

fn opening(path: PathBuf) -> impl FnOnce(BoxError) -> JournalError {
    |source| JournalError::Open { path, source }
}

/// Verifies a batch as stored, which must follow `head`. `resolve` names the key of a row.
pub(super) fn verify(
    head: &Head,
    header: &BatchHeader,
    stored: &[u8],
    mut resolve: impl FnMut(RowId) -> Result<Option<PublicKey>, StoreError>,
) -> Result<Vec<Record>, JournalError> {
    let seq = header.seq;
    let expected = head.seq.saturating_add(1);
    if seq != expected {
        return Err(JournalError::Gap { expected, found: seq });
    }
    if header.prev_hash != head.hash {
        return Err(JournalError::ChainBroken { seq });
    }
    if header.compute_hash() != header.hash {
        return Err(JournalError::HashMismatch { seq });
    }
    let mut failure = None;
    let decoded = decode(stored, |id| match resolve(id) {
        Ok(found) => found,
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    if let Some(error) = failure {
        return Err(JournalError::Read { seq, source: error.into() });
    }
    let records = decoded.map_err(|source| JournalError::Undecodable { seq, source })?;
    let tree = tree_of(&records, header.time);
    if tree.root() != header.merkle_root || tree.count() != header.count {
        return Err(JournalError::RootMismatch { seq });
    }
    Ok(records)
}

/// The key of a row. Those of the rows after it are likely to be asked for next, and are fetched with it.
pub(super) fn key_of(
    store: &mut dyn ReadStore,
    known: &mut HashMap<RowId, PublicKey>,
    id: RowId,
) -> Result<Option<PublicKey>, StoreError> {
    if let Some(key) = known.get(&id) {
        return Ok(Some(*key));
    }
    known.extend(store.keys_from(id, KEYS_AT_ONCE)?);
    Ok(known.get(&id).copied())
}

impl Iterator for Reader {
    type Item = Result<Batch, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.advance();
        self.failed = result.is_err();
        result.transpose()
    }
}
