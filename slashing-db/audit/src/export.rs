//! An export: a stretch of a journal as text that proves itself.
//!
//! Guarantees: one batch is in memory at a time; batches are written in order, as they were read and verified; after
//! the last batch of a stretch that ends before the journal does, the bare batches up to the next checkpoint follow,
//! so that a signature covers what was selected; an export without its last line is not complete.

use std::io::{self, Write};

use holdfast_domain::UnixMillis;
use holdfast_slashing_db::CallerId;
use holdfast_slashing_db::journal::merkle::leaf_hash;
use holdfast_slashing_db::journal::{Batch, Event, EventKind, Hash, Head, InstanceId, JournalError, Record, leaf};
use sha2::{Digest, Sha256};

use crate::line::{End, Filter, Start, is_checkpoint, write_batch, write_omitted, write_record};
use crate::tree::{Part, prune};

/// Bare batches kept while a checkpoint is looked for; with checkpoints every ten minutes it is far nearer.
const LOOK_AHEAD: usize = 65_536;

/// Why an export was not finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The journal cannot be read, or does not verify.
    #[error("the journal cannot be exported")]
    Journal(#[from] JournalError),
    /// The export cannot be written.
    #[error("the export cannot be written")]
    Write(#[source] io::Error),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// The last batch.
    pub head: Head,
    /// Batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Records that are shown.
    pub shown: u64,
}

/// The event that puts an export into the journal: who was given which batches, in which form, selected how.
///
/// `first` and `last` are the range that is read; record it before the export is written.
pub fn exported_event(now: UnixMillis, by: &CallerId, (first, last): (u64, u64), form: &str, filter: &Filter) -> Event {
    let selected = if filter.is_empty() { "everything".to_owned() } else { filter.to_text() };
    Event::new(now, by, EventKind::new("audit.exported"))
        .about(&format!("batches/{first}-{last}"))
        .detail(&format!("{form}, {selected}"))
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub(crate) instance: InstanceId,
    /// Digest of the first line, once it is written.
    pub(crate) first: Option<Hash>,
    pub(crate) written: Exported,
}

impl Progress {
    /// The beginning of an export of the chain of `instance`. `after` is the batch before the first one that will be
    /// given.
    pub fn begin(instance: InstanceId, after: Head) -> Self {
        Self { instance, first: None, written: Exported { head: after, batches: 0, records: 0, shown: 0 } }
    }

    /// An export of the chain of `instance` as it was left: the digest of its first line, and what is written. Whether that
    /// is of the very chain is to be checked with [`Self::head`].
    pub fn resumed(instance: InstanceId, first: Hash, written: Exported) -> Self {
        Self { instance, first: Some(first), written }
    }

    /// The digest of the first line, if that is written, and what is written.
    pub fn so_far(&self) -> (Option<Hash>, Exported) {
        (self.first, self.written)
    }

    /// With a first line that is written.
    pub(crate) fn with_first(self, first: Hash) -> Self {
        Self { first: Some(first), ..self }
    }

    /// The last batch that is written.
    pub fn head(&self) -> Head {
        self.written.head
    }

    /// Whose chain it is.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }
}

/// Writes the batches of a journal, oldest first, until there is none left or the filter's time has come. The first
/// of `batches` follows where `progress` ends.
///
/// # Errors
/// [`ExportError`]; what was written then has no last line.
pub fn export(
    batches: impl Iterator<Item = Result<Batch, JournalError>>,
    progress: Progress,
    filter: &Filter,
    out: impl Write,
) -> Result<Exported, ExportError> {
    let Progress { instance, first, written } = progress;
    let Exported { head: before, batches: count, records, shown } = written;
    let mut export = Export { out, filter, instance, first, before, batches: count, records, shown };
    let mut beyond = Beyond::default();
    let mut buffer = Vec::new();
    for batch in batches {
        let batch = batch?;
        buffer.clear();
        if !filter.begins(batch.header.time) && export.first.is_none() {
            export.before = batch.header.as_head();
        } else if !beyond.begun && !filter.ends(batch.header.time) {
            export.batch(&batch, &mut buffer)?;
        } else if beyond.batch(&batch, &mut buffer) {
            break;
        }
    }
    if beyond.signed {
        export.beyond(&beyond)?;
    }
    export.finish()
}

/// Batches after the stretch that was asked for.
#[derive(Default)]
struct Beyond {
    begun: bool,
    signed: bool,
    lines: Vec<u8>,
    heads: Vec<Head>,
    records: u64,
    shown: u64,
}

impl Beyond {
    /// Whether the search is over.
    fn batch(&mut self, batch: &Batch, buffer: &mut Vec<u8>) -> bool {
        self.begun = true;
        self.shown = self.shown.saturating_add(write_selected(batch, is_checkpoint, buffer));
        self.lines.extend_from_slice(buffer);
        self.heads.push(batch.header.as_head());
        self.records = self.records.saturating_add(batch.header.count);
        self.signed = batch.records.iter().any(is_checkpoint);
        self.signed || self.heads.len() >= LOOK_AHEAD
    }
}

struct Export<'a, W> {
    out: W,
    filter: &'a Filter,
    instance: InstanceId,
    /// Digest of the first line, once it is written.
    first: Option<Hash>,
    before: Head,
    batches: u64,
    records: u64,
    shown: u64,
}

impl<W: Write> Export<'_, W> {
    fn start(&mut self) -> Result<Hash, ExportError> {
        if let Some(first) = self.first {
            return Ok(first);
        }
        let mut line = Vec::new();
        Start { instance: self.instance, after: self.before, filter: self.filter.clone() }.write(&mut line);
        self.out.write_all(&line).map_err(ExportError::Write)?;
        let first = digest_of_line(&line);
        self.first = Some(first);
        Ok(first)
    }

    fn batch(&mut self, batch: &Batch, buffer: &mut Vec<u8>) -> Result<(), ExportError> {
        self.start()?;
        let seq = batch.header.seq;
        let shown = if self.filter.selects_records() {
            let mut index = 0_u64;
            write_selected(
                batch,
                |record| {
                    let place = index;
                    index = index.saturating_add(1);
                    self.filter.takes(seq, place, record)
                },
                buffer,
            )
        } else {
            write_batch(&batch.header, batch.header.count, buffer);
            for (record, index) in batch.records.iter().zip(0..) {
                write_record(index, record, buffer);
            }
            batch.header.count
        };
        self.out.write_all(buffer).map_err(ExportError::Write)?;
        self.before = batch.header.as_head();
        self.batches = self.batches.saturating_add(1);
        self.records = self.records.saturating_add(batch.header.count);
        self.shown = self.shown.saturating_add(shown);
        Ok(())
    }

    fn beyond(&mut self, beyond: &Beyond) -> Result<(), ExportError> {
        self.start()?;
        self.out.write_all(&beyond.lines).map_err(ExportError::Write)?;
        self.before = beyond.heads.last().copied().unwrap_or(self.before);
        self.batches = self.batches.saturating_add(beyond.heads.len() as u64);
        self.records = self.records.saturating_add(beyond.records);
        self.shown = self.shown.saturating_add(beyond.shown);
        Ok(())
    }

    fn finish(mut self) -> Result<Exported, ExportError> {
        let first = self.start()?;
        let Self { mut out, before: head, batches, records, shown, .. } = self;
        let mut line = Vec::new();
        End { head, batches, records, shown, first }.write(&mut line);
        out.write_all(&line).and_then(|()| out.flush()).map_err(ExportError::Write)?;
        Ok(Exported { head, batches, records, shown })
    }
}

/// SHA-256 of a line without its line break.
pub(crate) fn digest_of_line(line: &[u8]) -> Hash {
    Hash(Sha256::digest(line.strip_suffix(b"\n").unwrap_or(line)).into())
}

/// Writes a batch of which some records are shown; says how many.
fn write_selected(batch: &Batch, mut takes: impl FnMut(&Record) -> bool, buffer: &mut Vec<u8>) -> u64 {
    let shown: Vec<bool> = batch.records.iter().map(&mut takes).collect();
    write_batch(&batch.header, shown.iter().filter(|shown| **shown).count() as u64, buffer);
    if !shown.contains(&true) {
        return 0;
    }
    let mut encoded = Vec::new();
    let leaves: Vec<Hash> = batch
        .records
        .iter()
        .map(|record| {
            encoded.clear();
            leaf::write_record(record, batch.header.time, &mut encoded);
            leaf_hash(&encoded)
        })
        .collect();
    let mut written = 0_u64;
    for part in prune(&leaves, &shown) {
        match part {
            Part::Omitted { size, hash } => write_omitted(size, &hash, buffer),
            Part::Leaf { index, hash: _ } => {
                let record = usize::try_from(index).ok().and_then(|index| batch.records.get(index));
                if let Some(record) = record {
                    write_record(index, record, buffer);
                    written = written.saturating_add(1);
                }
            }
        }
    }
    written
}
