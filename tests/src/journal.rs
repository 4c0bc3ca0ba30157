//! The journal of a stopped server, read back and verified, as a test compares it with what clients got.

use std::collections::HashSet;
use std::path::Path;

use holdfast_slashing_db::journal::{Outcome, Reader};

use crate::auditor::Root;

/// A verified journal.
#[derive(Debug, Default)]
pub struct Journal {
    /// Public key (`0x` hex) and signing root of every entry that was approved.
    pub permitted: HashSet<(String, Root)>,
    /// Number of entries.
    pub entries: u64,
    /// Number of batches.
    pub batches: u64,
    /// Stored size of all batches in bytes.
    pub bytes: u64,
}

/// Reads the journal of a data directory; panics when its chain, a Merkle root or an entry is not right.
pub fn read(data_dir: &Path) -> Journal {
    let mut journal = Journal::default();
    for batch in Reader::open(&data_dir.join("holdfast.db")).unwrap_or_else(|error| panic!("{error:?}")) {
        let batch = batch.unwrap_or_else(|error| panic!("the journal does not verify: {error:?}"));
        journal.batches += 1;
        journal.bytes += batch.stored_bytes as u64;
        for entry in batch.entries {
            journal.entries += 1;
            match entry.outcome {
                Outcome::Approved(_) => {
                    journal.permitted.insert((entry.key.to_string(), *entry.root.as_bytes()));
                }
                Outcome::Denied(_) | Outcome::Fenced => {}
            }
        }
    }
    journal
}
