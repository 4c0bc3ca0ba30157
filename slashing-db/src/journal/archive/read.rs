//! Reading a file back, believing nothing but that its first batch follows the one it names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use holdfast_domain::{PublicKey, UnixMillis};

use super::{PREAMBLE, RECORD_BATCH, RECORD_END, RECORD_KEY};
use crate::journal::codec::decode;
use crate::journal::{Batch, BatchHeader, Hash, Head, InstanceId, JournalError, tree_of};
use crate::store::RowId;

/// Iterates over the verified batches of one archived file, oldest first. Stops after the first error. That the
/// first one follows [`before`](Self::before) in the chain, and the last one is followed by the next file, is for
/// the caller to compare.
pub struct ArchiveFile {
    path: PathBuf,
    input: GzDecoder<BufReader<File>>,
    instance: InstanceId,
    before: Head,
    head: Head,
    keys: HashMap<RowId, PublicKey>,
    done: bool,
}

impl ArchiveFile {
    /// Opens a file and reads its beginning.
    ///
    /// # Errors
    /// [`JournalError::Archive`] if it cannot be read, [`JournalError::ArchiveDamaged`] if it is not such a file.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source: io::Error| JournalError::Archive { path: path.to_owned(), source: source.into() };
        let input = GzDecoder::new(BufReader::new(File::open(path).map_err(failed)?));
        let mut opened = Self {
            path: path.to_owned(),
            input,
            instance: InstanceId([0; 16]),
            before: Head::EMPTY,
            head: Head::EMPTY,
            keys: HashMap::new(),
            done: false,
        };
        let preamble: [u8; PREAMBLE.len()] = opened.array()?;
        if preamble != PREAMBLE {
            return Err(opened.damaged("it does not begin like an archived journal of this version"));
        }
        opened.instance = InstanceId(opened.array()?);
        opened.before = opened.head()?;
        opened.head = opened.before;
        Ok(opened)
    }

    /// Whose chain it is.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The batch before the first one here.
    pub fn before(&self) -> Head {
        self.before
    }

    pub(super) fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::ArchiveDamaged { path: self.path.clone(), seq: self.head.seq, what }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], JournalError> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.unread(error))?;
        Ok(bytes)
    }

    /// What a failed read means: gzip reports damage as invalid input, and a file that was cut as its early end.
    fn unread(&self, error: io::Error) -> JournalError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends early"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => self.damaged("it cannot be decompressed"),
            _ => JournalError::Archive { path: self.path.clone(), source: error.into() },
        }
    }

    fn number(&mut self) -> Result<u64, JournalError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn head(&mut self) -> Result<Head, JournalError> {
        Ok(Head { seq: self.number()?, hash: Hash(self.array()?) })
    }

    /// The next batch; `None` after the end record.
    fn advance(&mut self) -> Result<Option<Batch>, JournalError> {
        loop {
            let [record] = self.array()?;
            match record {
                RECORD_KEY => {
                    let id = RowId(self.number()?);
                    let key = PublicKey::from_bytes(self.array()?);
                    self.keys.insert(id, key);
                }
                RECORD_BATCH => return self.batch().map(Some),
                RECORD_END => return self.end().map(|()| None),
                _ => return Err(self.damaged("it has an unknown record")),
            }
        }
    }

    fn batch(&mut self) -> Result<Batch, JournalError> {
        let time = UnixMillis(self.number()?);
        let hash = Hash(self.array()?);
        let length = u32::from_be_bytes(self.array()?);
        let mut stored = Vec::new();
        let read = self.input.by_ref().take(u64::from(length)).read_to_end(&mut stored);
        if read.map_err(|error| self.unread(error))? as u64 != u64::from(length) {
            return Err(self.damaged("it ends early"));
        }
        let keys = &self.keys;
        let decoded = decode(&stored, |id| keys.get(&id).copied());
        let records = decoded.map_err(|_| self.damaged("the next batch cannot be decoded"))?;
        let tree = tree_of(&records, time);
        let header = BatchHeader::following(&self.head, self.instance, time, tree.root(), tree.count());
        if header.hash != hash {
            return Err(self.damaged("the next batch does not match its hash; it was changed"));
        }
        self.head = header.as_head();
        Ok(Batch { header, records, stored_bytes: stored.len() })
    }

    fn end(&mut self) -> Result<(), JournalError> {
        if self.head()? != self.head {
            return Err(self.damaged("its end names another batch"));
        }
        // Reading on makes the decompressor compare its checksum.
        let mut rest = [0; 1];
        match self.input.read(&mut rest).map_err(|error| self.unread(error))? {
            0 => Ok(()),
            _ => Err(self.damaged("something follows its end")),
        }
    }
}

impl Iterator for ArchiveFile {
    type Item = Result<Batch, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
