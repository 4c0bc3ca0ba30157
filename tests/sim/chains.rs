//! The journals of one era, read over and over: every chain must verify, go on where it was, and hold
//! every released signature. What a rollback fault cut off was read before it; the cut must show as a fence.

use std::collections::{HashMap, HashSet};

use holdfast_slashing_db::journal::{Outcome, Reader};
use holdfast_tests::auditor::Root;
use holdfast_tests::keys::TestKey;

use crate::totals::Totals;

/// A chain as it was read last.
#[derive(Default)]
struct Chain {
    /// Hashes of its batches, the first one first.
    hashes: Vec<[u8; 32]>,
}

/// A chain that lost its end.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Which.
    pub(crate) name: String,
    /// How many batches it lost.
    pub(crate) batches: usize,
}

/// All chains of an era.
pub(crate) struct Chains {
    numbers: HashMap<String, usize>,
    by_name: HashMap<String, Chain>,
    journaled: HashSet<(usize, Root)>,
    /// A rollback fault happened since the last reading.
    cut_expected: bool,
}

impl Chains {
    /// Nothing read yet.
    pub(crate) fn new(keys: &[TestKey]) -> Self {
        let numbers = keys.iter().enumerate().map(|(number, key)| (key.public.clone(), number)).collect();
        Self { numbers, by_name: HashMap::new(), journaled: HashSet::new(), cut_expected: false }
    }

    /// From here on chains may have lost their ends, once.
    pub(crate) fn expect_cut(&mut self) {
        self.cut_expected = true;
    }

    /// Key and root of every approval that was ever read.
    pub(crate) fn journaled(&self) -> &HashSet<(usize, Root)> {
        &self.journaled
    }

    /// Reads all journals again. Returns what was cut off.
    ///
    /// # Errors
    /// The finding: a chain that does not verify, batches lost without a rollback fault, or a cut
    /// that no fence of every key follows.
    pub(crate) fn read(&mut self, totals: &Totals, journals: Vec<(String, Reader)>) -> Result<Vec<Cut>, String> {
        let mut cuts = Vec::new();
        let mut fenced = HashSet::new();
        for (name, reader) in journals {
            let chain = self.by_name.entry(name.clone()).or_default();
            let mut hashes: Vec<[u8; 32]> = Vec::with_capacity(chain.hashes.len());
            let mut follows = true;
            for batch in reader {
                let batch = batch.map_err(|error| format!("the journal of {name} does not verify: {error:?}"))?;
                let hash = batch.header.hash.0;
                let known = follows && chain.hashes.get(hashes.len()) == Some(&hash);
                follows = known;
                hashes.push(hash);
                for entry in batch.entries().filter(|_| !known) {
                    let key = entry.key.to_string();
                    let Some(key) = self.numbers.get(&key) else {
                        return Err(format!("the journal of {name} names {key}"));
                    };
                    match entry.outcome {
                        Outcome::Approved(_) => drop(self.journaled.insert((*key, *entry.root.as_bytes()))),
                        Outcome::Fenced => drop(fenced.insert(*key)),
                        Outcome::Denied(_) => {}
                    }
                }
            }
            totals.add(|counts| counts.batches += hashes.len() as u64);
            let kept = chain.hashes.iter().zip(&hashes).take_while(|(before, now)| before == now).count();
            let batches = chain.hashes.len() - kept;
            if batches > 0 {
                cuts.push(Cut { name, batches });
            }
            chain.hashes = hashes;
        }
        let expected = std::mem::take(&mut self.cut_expected);
        if let Some(cut) = cuts.first() {
            if !expected {
                return Err(format!("the journal lost batches that were kept, without a rollback fault: {cut:?}"));
            }
            if fenced.len() < self.numbers.len() {
                return Err(format!(
                    "{cuts:?}: only {} of {} keys were fenced after it",
                    fenced.len(),
                    self.numbers.len()
                ));
            }
            totals.add(|counts| counts.lost_batches += cuts.iter().map(|cut| cut.batches as u64).sum::<u64>());
        }
        Ok(cuts)
    }
}
