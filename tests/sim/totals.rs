//! What a run counted, over all stages and eras.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::plan::Kind;

/// Counts of one run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Requests that were sent.
    pub(crate) requests: u64,
    /// Of these, answered with a signature, repeats included.
    pub(crate) released: u64,
    /// Distinct signatures, each verified with BLS.
    pub(crate) verified: u64,
    /// Distinct signatures of blocks and attestations.
    pub(crate) slashable: u64,
    /// Refusals by status and reason.
    pub(crate) refusals: BTreeMap<String, u64>,
    /// Requests without an answer: the signer was killed, or the connection broke.
    pub(crate) unanswered: u64,
    /// Faults that happened, by stage and kind.
    pub(crate) faults: BTreeMap<(&'static str, Kind), u64>,
    /// Signer processes started.
    pub(crate) starts: u64,
    /// Fences placed by the operator.
    pub(crate) fences: u64,
    /// Instances that froze on their own after a rollback fault.
    pub(crate) freezes: u64,
    /// Journal batches that were read back and verified.
    pub(crate) batches: u64,
    /// Journal batches that a rollback fault took away.
    pub(crate) lost_batches: u64,
    /// Eras: databases made anew.
    pub(crate) eras: u64,
}

/// Counts that several threads add to.
#[derive(Debug, Default)]
pub(crate) struct Totals(Mutex<Counts>);

impl Totals {
    /// Changes the counts.
    pub(crate) fn add(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The counts so far.
    pub(crate) fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  requests                    {}", self.requests)?;
        writeln!(
            f,
            "  released signatures         {}, of them distinct and BLS-verified {}",
            self.released, self.verified
        )?;
        writeln!(f, "  blocks and attestations     {} of the distinct ones", self.slashable)?;
        writeln!(f, "  refusals                    {}", self.refusals.values().sum::<u64>())?;
        for (reason, count) in &self.refusals {
            writeln!(f, "    {reason:<38} {count}")?;
        }
        writeln!(f, "  without an answer           {}", self.unanswered)?;
        writeln!(f, "  faults                      {}", self.faults.values().sum::<u64>())?;
        for ((stage, kind), count) in &self.faults {
            writeln!(f, "    {:<38} {count}", format!("{stage} {}", kind.name()))?;
        }
        writeln!(f, "  databases made              {}", self.eras)?;
        writeln!(f, "  signer processes started    {}", self.starts)?;
        writeln!(f, "  freezes after a rollback    {}, fences by the operator {}", self.freezes, self.fences)?;
        write!(
            f,
            "  journal batches verified    {} in all readings, taken away by faults {}",
            self.batches, self.lost_batches
        )
    }
}
