//! What the validator client itself says about its duties, from its log.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// What was published for one slot.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Blocks.
    pub blocks: u64,
    /// Votes.
    pub attestations: u64,
    /// Votes of the sync committee.
    pub sync_votes: u64,
    /// When the last block was, by the log's clock, as [`in_quarter_hour`].
    pub block_at: Option<u64>,
}

/// Milliseconds of the quarter of an hour of a clock's `hours:minutes:seconds.fraction`, anything after it; `None` if it is none.
pub fn in_quarter_hour(clock: &str) -> Option<u64> {
    let mut parts = clock.splitn(3, ':');
    let (_, minutes, rest) = (parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?);
    let (seconds, fraction) = (rest.get(..2)?.parse::<u64>().ok()?, rest.get(3..6)?.parse::<u64>().ok()?);
    Some((minutes % 15 * 60 + seconds) * 1000 + fraction)
}

/// The log of a validator client from some moment on.
pub struct ClientLog {
    path: PathBuf,
    begin: usize,
}

impl ClientLog {
    /// From now on.
    pub fn from_now(path: &Path) -> Self {
        Self { path: path.to_owned(), begin: read(path).len() }
    }

    /// Everything.
    pub fn from_start(path: &Path) -> Self {
        Self { path: path.to_owned(), begin: 0 }
    }

    /// Errors: duties that failed are among them. Warnings are about the chain.
    pub fn errors(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(" error: ")).collect()
    }

    /// As [`Self::errors`], and goes on after what has been written by now: the next call gives later errors only.
    pub fn take_errors(&mut self) -> Vec<String> {
        let text = read(&self.path);
        // A line that is not whole yet is for the next call.
        let end = text.rfind('\n').map_or(0, |last| last + 1);
        let fresh = text.get(self.begin..end.max(self.begin)).unwrap_or_default();
        self.begin = end.max(self.begin);
        fresh.lines().map(plain).filter(|line| line.contains(" error: ")).collect()
    }

    /// What was published for each of these slots.
    pub fn published(&self, slots: RangeInclusive<u64>) -> BTreeMap<u64, Published> {
        let mut by_slot: BTreeMap<u64, Published> = slots.map(|slot| (slot, Published::default())).collect();
        for line in self.lines() {
            let Some((before, what)) = line.split_once(" info: Published ") else { continue };
            let number = |name: &str| {
                let (_, rest) = what.split_once(name)?;
                rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
            };
            let Some(entry) = number("slot=").and_then(|slot| by_slot.get_mut(&slot)) else { continue };
            match what.split(' ').next() {
                Some("block") => {
                    entry.blocks += 1;
                    entry.block_at = before.split(' ').nth(1).and_then(in_quarter_hour);
                }
                Some("attestations") => entry.attestations += number("count=").unwrap_or(0),
                Some("SyncCommitteeMessage") => entry.sync_votes += number("count=").unwrap_or(0),
                // Aggregates are counted by whether their signatures were given.
                _ => {}
            }
        }
        by_slot
    }

    fn lines(&self) -> Vec<String> {
        let text = read(&self.path);
        text.get(self.begin..).unwrap_or_default().lines().map(plain).collect()
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).expect("the client has a log")).into_owned()
}

/// A line without colours.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}
