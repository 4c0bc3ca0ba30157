//! The anchor's file: two places for a record, written in turn, each with a checksum. A torn write spoils
//! the older place only, so one whole record is always there. It is locked while in use, so that two
//! processes never share a data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::record::Record;
use crate::error::OpenError;

/// Bytes of one place. A record with everything in it is well below.
pub(super) const PLACE: usize = 4096;

/// An open, locked anchor file.
pub(super) struct AnchorFile {
    file: File,
    path: PathBuf,
}

/// What the file said.
#[expect(clippy::large_enum_variant, reason = "one lives for one match, at start")]
pub(super) enum Found {
    /// It was not there.
    Missing,
    /// It holds no whole record.
    Unreadable,
    /// The newest whole record.
    Record(Record),
}

impl AnchorFile {
    /// Opens the file, or makes an empty one with mode 0600, and locks it.
    pub(super) fn open(path: &Path) -> Result<(Self, Found), OpenError> {
        let failed = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let (mut file, missing) = match opened {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (create(path).map_err(failed("create"))?, true),
            Err(error) => return Err(failed("open")(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::AnchorInUse { path: path.to_owned() }),
            Err(error) => return Err(failed("lock")(error.into())),
        }
        let mut content = Vec::new();
        (&mut file).take((PLACE * 2) as u64).read_to_end(&mut content).map_err(failed("read"))?;
        let found = if missing { Found::Missing } else { newest(&content) };
        Ok((Self { file, path: path.to_owned() }, found))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the record, as the next generation, in the place of the older one.
    pub(super) fn write(&self, record: &mut Record) -> io::Result<()> {
        record.generation = record.generation.saturating_add(1);
        let mut bytes = record.encode()?;
        if bytes.len() > PLACE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the record does not fit its place"));
        }
        bytes.resize(PLACE, b'\n');
        let offset = if record.generation.is_multiple_of(2) { 0 } else { PLACE as u64 };
        self.file.write_all_at(&bytes, offset)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Reads the file, if it is there, without locking it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn peek(path: &Path) -> Result<Found, OpenError> {
    match std::fs::read(path) {
        Ok(content) => Ok(newest(&content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(source) => Err(OpenError::Io { action: "read", path: path.to_owned(), source }),
    }
}

/// The newest whole record in a file's content.
fn newest(content: &[u8]) -> Found {
    let records = content.chunks(PLACE).filter_map(Record::decode);
    records.max_by_key(|record| record.generation).map_or(Found::Unreadable, Found::Record)
}

fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.sync_all()?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)?.sync_all()?;
    Ok(file)
}
