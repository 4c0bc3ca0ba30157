//! Verifying an export, line by line.

use std::io::{BufRead, Read as _};

use holdfast_slashing_db::journal::merkle::{Accumulator, leaf_hash};
use holdfast_slashing_db::journal::{BatchHeader, Hash, InstanceId, Record, leaf};

use super::chain::Chain;
use super::{Broken, Problem, Trust, Verified};
use crate::export::{Exported, Progress, digest_of_line};
use crate::line::{End, Line, is_checkpoint};
use crate::tree::{Part, root_of};

/// Longest line that is read: six times what the longest texts of a record take when escaped.
const MAX_LINE: u64 = 65_536;

/// Verifies an export from its first line to its end.
///
/// # Errors
/// [`Broken`], with the first line and batch that are not in order.
pub fn verify_export(input: impl BufRead, trust: &Trust) -> Result<Verified, Broken> {
    verify_seen(input, trust, |_| {}, |_, _| {})
}

/// The same, and `seen` gets every batch that is in its place, and `record` every record that is shown and in its batch;
/// whether all is in order is only known at the end.
pub(super) fn verify_seen(
    mut input: impl BufRead,
    trust: &Trust,
    mut seen: impl FnMut(&BatchHeader),
    mut record: impl FnMut(&BatchHeader, &Record),
) -> Result<Verified, Broken> {
    let mut lines = Lines { number: 0, line: Vec::new() };
    if !lines.next(&mut input).map_err(|problem| lines.broken(0, problem))? {
        return Err(lines.broken(0, Problem::EndsEarly));
    }
    let first = digest_of_line(&lines.line);
    let Some(Line::Start(start)) = lines.parse(InstanceId([0; 16])) else {
        return Err(lines.broken(0, Problem::NotALine));
    };
    let mut reading = Reading {
        instance: start.instance,
        chain: Chain::new(start.instance, start.after, start.filter, trust)?,
        batch: None,
        encoded: Vec::new(),
        shown: 0,
    };
    let end = loop {
        let batch = reading.place();
        if !lines.next(&mut input).map_err(|problem| lines.broken(batch, problem))? {
            return Err(lines.broken(batch, Problem::EndsEarly));
        }
        let line = lines.parse(reading.instance).ok_or_else(|| lines.broken(batch, Problem::NotALine))?;
        // A batch is judged when its last record was read: its own lines are named, not the one after it.
        if matches!(line, Line::Batch { .. } | Line::End(_)) {
            let done = reading.finish_batch().map_err(|problem| lines.before().broken(batch, problem))?;
            if let Some((header, records)) = done {
                for one in &records {
                    record(&header, one);
                }
            }
        }
        if let Line::Batch { header, .. } = &line {
            seen(header);
        }
        if let Some(end) = reading.line(line).map_err(|problem| lines.broken(reading.place(), problem))? {
            break end;
        }
    };
    reading.check_end(end, first).map_err(|problem| {
        let line = if matches!(problem, Problem::OtherStart) { 1 } else { lines.number };
        Broken { line: Some(line), batch: reading.place(), problem }
    })?;
    if lines.next(&mut input).map_err(|problem| lines.broken(end.head.seq, problem))? {
        return Err(lines.broken(end.head.seq, Problem::OutOfPlace));
    }
    reading.chain.finish()
}

/// Where an export of everything that was begun before can go on: how far it is, and how many bytes of it to keep. Its
/// last batch that is whole and in order is the last one kept, and a last line is not.
///
/// # Errors
/// [`Broken`] if it has no first line of an export of everything, or is not in order before its end.
pub fn resume_export(mut input: impl BufRead) -> Result<(Progress, u64), Broken> {
    let trust = Trust::default();
    let mut lines = Lines { number: 0, line: Vec::new() };
    let begun = lines.next(&mut input).map_err(|problem| lines.broken(0, problem))?;
    let first = digest_of_line(&lines.line);
    let start = match lines.parse(InstanceId([0; 16])) {
        Some(Line::Start(start)) if begun && start.filter.is_empty() => start,
        _ => return Err(lines.broken(0, Problem::NotALine)),
    };
    let mut reading = Reading {
        instance: start.instance,
        chain: Chain::new(start.instance, start.after, start.filter, &trust)?,
        batch: None,
        encoded: Vec::new(),
        shown: 0,
    };
    let mut read = lines.line.len() as u64;
    let mut kept = (Progress::begin(start.instance, start.after).with_first(first), read);
    loop {
        let batch = reading.place();
        match lines.next(&mut input) {
            Ok(true) => {}
            Ok(false) | Err(Problem::EndsEarly) => break,
            Err(problem) => return Err(lines.broken(batch, problem)),
        }
        let line = lines.parse(reading.instance).ok_or_else(|| lines.broken(batch, Problem::NotALine))?;
        if matches!(line, Line::Batch { .. } | Line::End(_)) {
            reading.finish_batch().map_err(|problem| lines.before().broken(batch, problem))?;
            kept = (reading.progress(first), read);
        }
        if reading.line(line).map_err(|problem| lines.broken(reading.place(), problem))?.is_some() {
            return Ok(kept);
        }
        read = read.saturating_add(lines.line.len() as u64);
    }
    // The last batch may be whole, without a line after it that says so.
    if reading.finish_batch().is_ok() {
        kept = (reading.progress(first), read);
    }
    Ok(kept)
}

/// The line that is read, and its number from 1.
struct Lines {
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    /// Reads the next line with its line break; `false` at the end.
    fn next(&mut self, input: &mut impl BufRead) -> Result<bool, Problem> {
        self.line.clear();
        self.number = self.number.saturating_add(1);
        input.take(MAX_LINE).read_until(b'\n', &mut self.line).map_err(Problem::Read)?;
        match self.line.last() {
            None => Ok(false),
            Some(b'\n') => Ok(true),
            // Cut off in the middle, or no export at all.
            Some(_) => Err(if self.line.len() as u64 == MAX_LINE { Problem::NotALine } else { Problem::EndsEarly }),
        }
    }

    fn parse(&self, instance: InstanceId) -> Option<Line> {
        Line::parse(self.line.strip_suffix(b"\n")?, instance)
    }

    /// The line before this one, for what is only seen after it.
    fn before(&self) -> Self {
        Self { number: self.number.saturating_sub(1), line: Vec::new() }
    }

    fn broken(&self, batch: u64, problem: Problem) -> Broken {
        Broken { line: Some(self.number), batch, problem }
    }
}

struct Reading<'a> {
    instance: InstanceId,
    chain: Chain<'a>,
    batch: Option<Open>,
    encoded: Vec<u8>,
    shown: u64,
}

/// A batch of which lines are still to come.
struct Open {
    header: BatchHeader,
    /// How many records its line promises.
    shown: u64,
    parts: Vec<Part>,
    /// Place of the next record.
    next: u64,
    /// Whether the export selected this time.
    within: bool,
    records: Vec<Record>,
}

impl Reading<'_> {
    /// The batch that is being read, or the one that should come.
    fn place(&self) -> u64 {
        match &self.batch {
            Some(open) => open.header.seq,
            None => self.chain.head().seq.saturating_add(1),
        }
    }

    fn line(&mut self, line: Line) -> Result<Option<End>, Problem> {
        match line {
            Line::Start(_) => return Err(Problem::OutOfPlace),
            Line::End(end) => return Ok(Some(end)),
            Line::Batch { header, shown } => {
                self.chain.batch(&header)?;
                let within = self.chain.filter().spans(header.time);
                self.batch = Some(Open { header, shown, parts: Vec::new(), next: 0, within, records: Vec::new() });
            }
            Line::Record { index, record } => self.record(index, record)?,
            Line::Omitted { size, hash } => {
                let selects = self.chain.filter().selects_records();
                let open = self.batch.as_mut().ok_or(Problem::OutOfPlace)?;
                if open.within && !selects {
                    return Err(Problem::OtherSelection);
                }
                open.next = open.next.checked_add(size).ok_or(Problem::OutOfPlace)?;
                open.parts.push(Part::Omitted { size, hash });
            }
        }
        Ok(None)
    }

    fn record(&mut self, index: u64, record: Record) -> Result<(), Problem> {
        let filter = self.chain.filter();
        let open = self.batch.as_mut().ok_or(Problem::OutOfPlace)?;
        if index != open.next || index >= open.header.count {
            return Err(Problem::OutOfPlace);
        }
        let taken = if open.within { filter.takes(open.header.seq, index, &record) } else { is_checkpoint(&record) };
        if !taken {
            return Err(Problem::OtherSelection);
        }
        self.encoded.clear();
        leaf::write_record(&record, open.header.time, &mut self.encoded);
        open.parts.push(Part::Leaf { index, hash: leaf_hash(&self.encoded) });
        open.next = open.next.saturating_add(1);
        open.records.push(record);
        self.shown = self.shown.saturating_add(1);
        Ok(())
    }

    /// Judges the batch that was read, and gives what of it is shown.
    fn finish_batch(&mut self) -> Result<Option<(BatchHeader, Vec<Record>)>, Problem> {
        let Some(open) = self.batch.take() else { return Ok(None) };
        let Open { header, shown, parts, next, within, records } = open;
        let bare = parts.is_empty() && (!within || self.chain.filter().selects_records());
        let root = match header.count {
            0 if parts.is_empty() => Some(Accumulator::default().root()),
            _ if bare => Some(header.merkle_root),
            count if next == count => root_of(&parts, count),
            _ => None,
        };
        // Without a record there is nothing to leave out but the whole.
        let complete = records.len() as u64 == shown && (parts.is_empty() || !records.is_empty());
        if root != Some(header.merkle_root) || !complete {
            self.batch = Some(Open { header, shown, parts, next, within, records: Vec::new() });
            return Err(Problem::RootMismatch);
        }
        records.iter().try_for_each(|record| self.chain.record(record))?;
        Ok(Some((header, records)))
    }

    fn progress(&self, first: Hash) -> Progress {
        let seen = self.chain.seen();
        let written = Exported { head: seen.head, batches: seen.batches, records: seen.records, shown: self.shown };
        Progress { instance: self.instance, first: Some(first), written }
    }

    fn check_end(&self, end: End, first: Hash) -> Result<(), Problem> {
        let seen = self.chain.seen();
        if end.first != first {
            return Err(Problem::OtherStart);
        }
        if (end.head, end.batches, end.records, end.shown) != (seen.head, seen.batches, seen.records, self.shown) {
            return Err(Problem::OtherEnd);
        }
        Ok(())
    }
}
