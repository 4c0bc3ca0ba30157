//! Archived batches: files that hold a stretch of one chain and need no database to be verified.
//!
//! A file is written under a temporary name, flushed and renamed, and never changed afterwards. Its name says
//! which batches it holds and the hash of the last one: `<first>-<last>-<hash>.journal.gz`, in a folder named
//! after the instance. So files can be put in order, back from the batch where the database begins, without
//! being opened; stretches that do not belong to that chain, as after a restored backup, are passed over.
//!
//! Content (gzip; integers big-endian): the line `holdfast journal 1`, the instance, the number and the hash of
//! the batch before the first one; then records: `1` row id and public key, before the first batch that refers to
//! the row; `2` time, hash, length and the encoded records (`codec.rs`) of the next batch; last `3` with number
//! and hash of the last batch. All else that a batch hash covers follows from these.

mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use holdfast_domain::root::parse_hex;

use super::{Hash, Head, InstanceId, JournalError};

pub use read::ArchiveFile;
pub(crate) use write::ArchiveWriter;

/// First line of the content. Another layout needs another number.
const PREAMBLE: &[u8] = b"holdfast journal 1\n";
/// End of every file's name.
const SUFFIX: &str = ".journal.gz";

const RECORD_KEY: u8 = 1;
const RECORD_BATCH: u8 = 2;
const RECORD_END: u8 = 3;

/// A file and what its name promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: PathBuf,
    /// Number of the first batch.
    pub(crate) first: u64,
    /// The last batch.
    pub(crate) last: Head,
}

/// A file to read, and the batch at which to leave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leg {
    pub(crate) path: PathBuf,
    pub(crate) upto: Head,
}

fn name(first: u64, last: &Head) -> String {
    format!("{first:020}-{:020}-{}{SUFFIX}", last.seq, last.hash)
}

fn parse_name(name: &str) -> Option<(u64, Head)> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-');
    let (first, last, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let head = Head { seq: last, hash: Hash(parse_hex(hash)?) };
    (parts.next().is_none() && 0 < first && first <= last).then_some((first, head))
}

/// The folder of one chain.
pub(crate) fn folder_of(archive: &Path, instance: InstanceId) -> PathBuf {
    archive.join(instance.to_string())
}

/// The files of a chain, in order. A folder that is not there has none.
pub(crate) fn list(archive: &Path, instance: InstanceId) -> io::Result<Vec<Named>> {
    let entries = match std::fs::read_dir(folder_of(archive, instance)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some((first, last)) = entry.file_name().to_str().and_then(parse_name) {
            files.push(Named { path: entry.path(), first, last });
        }
    }
    files.sort_by_key(|file| (file.first, file.last.seq, file.last.hash.0));
    Ok(files)
}

/// Which files to read, in order, to get from `from` to `to`, where a chain is known to go.
///
/// # Errors
/// [`JournalError::ArchiveMissing`] if there are not enough files, [`JournalError::Archive`] if a folder or a file
/// cannot be read.
pub(crate) fn plan(archives: &[PathBuf], instance: InstanceId, from: Head, to: Head) -> Result<Vec<Leg>, JournalError> {
    let mut files = Vec::new();
    for archive in archives {
        let listed = list(archive, instance);
        let failed = |source: io::Error| JournalError::Archive { path: archive.clone(), source: source.into() };
        files.extend(listed.map_err(failed)?);
    }
    let mut legs = Vec::new();
    let mut want = to;
    while want.seq > from.seq {
        let missing = || JournalError::ArchiveMissing { seq: want.seq, folders: archives.to_vec() };
        let (leg, before) = covering(&files, want)?.ok_or_else(missing)?;
        legs.push(leg);
        want = before;
    }
    legs.reverse();
    Ok(legs)
}

/// A file that holds batch `want`, and what the batch before its first one is.
fn covering(files: &[Named], want: Head) -> Result<Option<(Leg, Head)>, JournalError> {
    let mut damaged = None;
    for file in files.iter().filter(|file| file.first <= want.seq && want.seq <= file.last.seq) {
        if file.last.seq == want.seq && file.last.hash != want.hash {
            continue;
        }
        match holds(file, want) {
            Ok(Some(before)) => return Ok(Some((Leg { path: file.path.clone(), upto: want }, before))),
            Ok(None) => {}
            // Another file may hold the same batches.
            Err(error) => damaged = Some(error),
        }
    }
    damaged.map_or(Ok(None), Err)
}

fn holds(file: &Named, want: Head) -> Result<Option<Head>, JournalError> {
    let opened = ArchiveFile::open(&file.path)?;
    let before = opened.before();
    if before.seq.checked_add(1) != Some(file.first) {
        return Err(opened.damaged("its name does not fit its content"));
    }
    if file.last == want {
        return Ok(Some(before));
    }
    for batch in opened {
        let head = batch?.header.as_head();
        if head.seq == want.seq {
            return Ok((head == want).then_some(before));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not_taken_for_them() {
        let last = Head { seq: 42, hash: Hash([0xab; 32]) };
        let name = name(7, &last);
        assert_eq!(parse_name(&name), Some((7, last)));
        let wrong = [
            name.replace(SUFFIX, ".tmp"),
            name.replace("42-", "6-"),
            name.replacen("07-", "00-", 1),
            name.replace("ab", ""),
            format!("x{name}"),
            name.replace(SUFFIX, "-1.journal.gz"),
        ];
        for name in wrong {
            assert_eq!(parse_name(&name), None, "{name}");
        }
    }
}
