//! Checkpoints brought back from where they were kept, to verify a journal against them.

use std::fs;
use std::path::Path;

use holdfast_audit::checkpoint::{NotACheckpoint, SignedCheckpoint};

use super::super::{Context, Exit, Failure};

/// Largest file that is read: a year of a log collector's.
const MAX_FILE: u64 = 256 * 1024 * 1024;
/// Folders within folders that are looked into: a bucket that was copied has one for each journal.
const MAX_DEPTH: u8 = 4;
/// Checkpoints that are brought back of each journal in a bucket. Each covers all before it, so the last would do; a
/// few more show where a history that was rewritten departs from the true one.
#[cfg(feature = "anchor-s3")]
const LAST: usize = 32;

/// The checkpoints at a place: `s3://bucket/prefix`, a file, or a folder.
pub(super) fn fetch(place: &str, context: &Context) -> Result<Vec<SignedCheckpoint>, Failure> {
    if let Some(bucket) = place.strip_prefix("s3://") {
        return from_bucket(place, bucket, context);
    }
    let mut found = Vec::new();
    from_path(Path::new(place), MAX_DEPTH, &mut found)?;
    if found.is_empty() {
        return Err(Failure::message(Exit::Refused, format!("{place} holds no checkpoint")));
    }
    Ok(found)
}

fn from_path(path: &Path, depth: u8, found: &mut Vec<SignedCheckpoint>) -> Result<(), Failure> {
    let failed =
        |error: anyhow::Error| Failure::new(Exit::Usage, error.context(format!("cannot use {}", path.display())));
    let about = fs::metadata(path).map_err(|error| failed(error.into()))?;
    if about.is_dir() {
        let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut paths: Vec<_> = entries.map_err(|error| failed(error.into()))?.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        return paths.iter().try_for_each(|path| from_path(path, depth, found));
    }
    if about.len() > MAX_FILE {
        return Err(failed(anyhow::anyhow!("it is larger than {MAX_FILE} bytes; cut out the last part of it")));
    }
    let bytes = fs::read(path).map_err(|error| failed(error.into()))?;
    let text = String::from_utf8_lossy(&bytes);
    found.extend(read(&text).map_err(|error| failed(error.into()))?);
    Ok(())
}

/// Notes one after the other, or the log of a collector.
fn read(text: &str) -> Result<Vec<SignedCheckpoint>, NotACheckpoint> {
    SignedCheckpoint::all_from(text).or_else(|_| SignedCheckpoint::all_from_log(text))
}

#[cfg(feature = "anchor-s3")]
fn from_bucket(place: &str, bucket: &str, context: &Context) -> Result<Vec<SignedCheckpoint>, Failure> {
    use holdfast_domain::Clock as _;

    let failed = |exit, error: anyhow::Error| Failure::new(exit, error.context(format!("cannot read {place}")));
    let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
    let anchor = crate::anchors::s3(&context.config, bucket.to_owned(), prefix.to_owned())
        .map_err(|error| failed(Exit::Usage, error.into()))?;
    let notes = super::super::block_on(async {
        let notes = anchor.last_notes(LAST, crate::clock::SystemClock.now()).await;
        notes.map_err(|error| failed(Exit::Unreachable, error.into()))
    })?;
    if notes.is_empty() {
        return Err(Failure::message(Exit::Refused, format!("{place} holds no checkpoint")));
    }
    let notes = notes.iter().map(|note| SignedCheckpoint::from_note(note)).collect::<Result<Vec<_>, _>>();
    notes.map_err(|error| failed(Exit::Refused, error.into()))
}

#[cfg(not(feature = "anchor-s3"))]
fn from_bucket(place: &str, _: &str, _: &Context) -> Result<Vec<SignedCheckpoint>, Failure> {
    Err(Failure::message(Exit::Usage, format!("{place} needs a build with the feature anchor-s3")))
}
