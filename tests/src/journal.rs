//! The journal of a stopped server, read back and verified, as a test compares it with what clients got.

use std::collections::HashSet;
use std::path::Path;

use holdfast_slashing_db::journal::{Event, Outcome, Reader};

use crate::auditor::Root;

/// A verified journal.
#[derive(Debug, Default)]
pub struct Journal {
    /// Public key (`0x` hex) and signing root of every entry that was approved.
    pub permitted: HashSet<(String, Root)>,
    /// Public key (`0x` hex) and word of every refusal, in order.
    pub refused: Vec<(String, &'static str)>,
    /// Every event, in order.
    pub events: Vec<Event>,
    /// Number of requests, fences included.
    pub entries: u64,
    /// Number of batches.
    pub batches: u64,
    /// Stored size of all batches in bytes.
    pub bytes: u64,
    /// The part of it in batches of many entries with one root: a slot's burst since Electra.
    pub one_root: Part,
    /// The part of it in batches of many entries with a root each.
    pub many_roots: Part,
}

/// Entries and stored bytes of some batches.
#[derive(Debug, Default, Clone, Copy)]
pub struct Part {
    /// Number of entries.
    pub entries: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// Batches of fewer entries say little about a burst.
const MANY: usize = 16;

/// Reads the journal of a data directory; panics when its chain, a Merkle root or an entry is not right.
pub fn read(data_dir: &Path) -> Journal {
    let mut journal = Journal::default();
    for batch in Reader::open(&data_dir.join("holdfast.db")).unwrap_or_else(|error| panic!("{error:?}")) {
        let batch = batch.unwrap_or_else(|error| panic!("the journal does not verify: {error:?}"));
        journal.batches += 1;
        journal.bytes += batch.stored_bytes as u64;
        let entries: Vec<_> = batch.entries().collect();
        if entries.len() >= MANY {
            let roots: HashSet<Root> = entries.iter().map(|entry| *entry.root.as_bytes()).collect();
            let part = if roots.len() == 1 { &mut journal.one_root } else { &mut journal.many_roots };
            part.entries += entries.len() as u64;
            part.bytes += batch.stored_bytes as u64;
        }
        journal.events.extend(batch.events().cloned());
        for entry in entries {
            journal.entries += 1;
            match entry.outcome {
                Outcome::Approved(_) => {
                    journal.permitted.insert((entry.key.to_string(), *entry.root.as_bytes()));
                }
                Outcome::Denied(denial) => journal.refused.push((entry.key.to_string(), denial.as_str())),
                Outcome::Fenced => {}
            }
        }
    }
    journal
}
