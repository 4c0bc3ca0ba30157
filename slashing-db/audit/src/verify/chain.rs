//! The chain as far as it was seen: what must come next, what was signed, what must still come.

use std::collections::{BTreeMap, VecDeque};

use holdfast_slashing_db::journal::{BatchHeader, Hash, Head, InstanceId, Outcome, Record};

use super::{Broken, Problem, Trust, Verified};
use crate::Filter;
use crate::checkpoint::{Checkpoint, SignedCheckpoint};

/// Batches a checkpoint in the chain may lie back to count: a signer signs within seconds.
const REMEMBERED: usize = 65_536;

/// The chain so far.
pub(super) struct Chain<'a> {
    trust: &'a Trust,
    seen: Verified,
    /// Hashes of the last batches, in order, up to the head.
    recent: VecDeque<Hash>,
    /// Checkpoints from elsewhere that lie ahead, by batch.
    ahead: BTreeMap<u64, Vec<Checkpoint>>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(instance: InstanceId, after: Head, filter: Filter, trust: &'a Trust) -> Result<Self, Broken> {
        let mut ahead: BTreeMap<u64, Vec<Checkpoint>> = BTreeMap::new();
        let mut chain = Self {
            trust,
            seen: Verified {
                instance,
                after,
                head: after,
                first: None,
                last: None,
                batches: 0,
                records: 0,
                signed: 0,
                refused: 0,
                others: 0,
                checkpoints: 0,
                signed_to: None,
                filter,
            },
            recent: VecDeque::new(),
            ahead: BTreeMap::new(),
        };
        for signed in trust.checkpoints.iter().filter(|signed| signed.checkpoint.instance == instance) {
            let at = |problem| Broken { line: None, batch: signed.checkpoint.head.seq, problem };
            chain.check_signature(signed).map_err(at)?;
            if signed.checkpoint.head.seq > after.seq {
                ahead.entry(signed.checkpoint.head.seq).or_default().push(signed.checkpoint);
            } else if signed.checkpoint.head.seq == after.seq {
                chain.confirm(signed.checkpoint, after.hash).map_err(at)?;
            }
        }
        chain.ahead = ahead;
        Ok(chain)
    }

    pub(super) fn head(&self) -> Head {
        self.seen.head
    }

    pub(super) fn seen(&self) -> &Verified {
        &self.seen
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.seen.filter
    }

    /// Takes the next batch.
    pub(super) fn batch(&mut self, header: &BatchHeader) -> Result<(), Problem> {
        let expected = self.seen.head.seq.saturating_add(1);
        if header.seq != expected {
            return Err(Problem::Gap { expected, found: header.seq });
        }
        if header.compute_hash() != header.hash {
            return Err(Problem::HashMismatch);
        }
        if header.prev_hash != self.seen.head.hash || header.instance != self.seen.instance {
            return Err(Problem::ChainBroken);
        }
        for checkpoint in self.ahead.remove(&header.seq).unwrap_or_default() {
            self.confirm(checkpoint, header.hash)?;
        }
        self.seen.head = header.as_head();
        self.seen.first.get_or_insert(header.time);
        self.seen.last = Some(header.time);
        self.seen.batches = self.seen.batches.saturating_add(1);
        self.seen.records = self.seen.records.saturating_add(header.count);
        self.recent.push_back(header.hash);
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Takes a record of the batch, which is proved to be in it.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Problem> {
        let count = match record {
            Record::Request(entry) => match entry.outcome {
                Outcome::Approved(_) => &mut self.seen.signed,
                Outcome::Denied(_) => &mut self.seen.refused,
                Outcome::Fenced => &mut self.seen.others,
            },
            Record::Event(_) => &mut self.seen.others,
        };
        *count = count.saturating_add(1);
        let Record::Event(event) = record else { return Ok(()) };
        match SignedCheckpoint::of_event(event) {
            None => Ok(()),
            Some(Err(_)) => Err(Problem::BadCheckpoint),
            Some(Ok(signed)) => self.checkpoint(&signed),
        }
    }

    /// Takes a checkpoint in the batch that is the head.
    fn checkpoint(&mut self, signed: &SignedCheckpoint) -> Result<(), Problem> {
        let checkpoint = signed.checkpoint;
        if checkpoint.instance != self.seen.instance || checkpoint.head.seq >= self.seen.head.seq {
            return Err(Problem::BadCheckpoint);
        }
        self.check_signature(signed)?;
        self.seen.checkpoints = self.seen.checkpoints.saturating_add(1);
        if checkpoint.head.seq == self.seen.after.seq {
            return self.confirm(checkpoint, self.seen.after.hash);
        }
        let back = self.seen.head.seq.saturating_sub(checkpoint.head.seq);
        let place = usize::try_from(back).ok().and_then(|back| self.recent.len().checked_sub(back.saturating_add(1)));
        match place.and_then(|place| self.recent.get(place)).copied() {
            Some(hash) => self.confirm(checkpoint, hash),
            // It signs what is not here.
            None => Ok(()),
        }
    }

    fn check_signature(&self, signed: &SignedCheckpoint) -> Result<(), Problem> {
        if self.trust.keys.is_empty() {
            return Ok(());
        }
        let mut named = self.trust.keys.iter().filter(|key| signed.names(key)).peekable();
        if named.peek().is_none() {
            return Err(Problem::UnknownKey);
        }
        if named.any(|key| key.verify(signed)) { Ok(()) } else { Err(Problem::BadSignature) }
    }

    /// A checkpoint whose signature was checked, and the hash that is really there.
    fn confirm(&mut self, checkpoint: Checkpoint, hash: Hash) -> Result<(), Problem> {
        if checkpoint.head.hash != hash {
            return Err(Problem::Contradicted(checkpoint));
        }
        let further = self.seen.signed_to.is_none_or(|signed| signed.head.seq <= checkpoint.head.seq);
        if further && !self.trust.keys.is_empty() {
            self.seen.signed_to = Some(checkpoint);
        }
        Ok(())
    }

    /// The end of what there is.
    pub(super) fn finish(mut self) -> Result<Verified, Broken> {
        match self.ahead.pop_first().and_then(|(_, mut at)| at.pop()) {
            // An export that ends on purpose cannot be blamed for what comes after it.
            Some(checkpoint) if self.seen.filter.to.is_none() => Err(Broken {
                line: None,
                batch: self.seen.head.seq.saturating_add(1),
                problem: Problem::CutOff(checkpoint),
            }),
            _ => Ok(self.seen),
        }
    }
}
