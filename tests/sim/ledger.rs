//! Every released signature of one era: judged against all others at once, verified with BLS in batches.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_tests::auditor::{Auditor, Root};
use holdfast_tests::keys::TestKey;
use holdfast_tests::verify::{Claim, Verifier};

use crate::ask::Ask;

/// Signatures verified at once.
const BATCH: usize = 128;
/// Messages kept for each key to be contradicted after a rollback.
const NEWEST: usize = 3;

/// The record of an era.
pub(crate) struct Ledger {
    verifier: Verifier,
    keys: Vec<String>,
    inner: Mutex<Inner>,
}

struct Inner {
    auditor: Auditor,
    seen: HashMap<(usize, Root), [u8; 96]>,
    waiting: Vec<Claim>,
    newest: Vec<VecDeque<Ask>>,
    verified: u64,
    slashable: u64,
}

/// What one signature was to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// The first with its key and root, of a block or an attestation.
    NewSlashable,
    /// The first with its key and root, of another message.
    New,
    /// Seen before.
    Known,
}

impl Ledger {
    /// An empty record.
    pub(crate) fn new(keys: &[TestKey]) -> Self {
        Self {
            verifier: Verifier::new(keys),
            keys: keys.iter().map(|key| key.public.clone()).collect(),
            inner: Mutex::new(Inner {
                auditor: Auditor::default(),
                seen: HashMap::new(),
                waiting: Vec::new(),
                newest: vec![VecDeque::new(); keys.len()],
                verified: 0,
                slashable: 0,
            }),
        }
    }

    /// Takes note of a released signature, given as `0x` hexadecimal text.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn record(&self, key: usize, ask: Ask, signature: &str) -> Result<Recorded, String> {
        let (_, signed, root) = ask.build();
        let mut bytes = [0; 96];
        hex::decode_to_slice(signature.trim_start_matches("0x"), &mut bytes)
            .map_err(|error| format!("not a signature ({error}): {signature}"))?;
        let mut inner = self.lock();
        if let Some(first) = inner.seen.get(&(key, root)) {
            if *first == bytes {
                return Ok(Recorded::Known);
            }
            return Err(format!("two different signatures of {} for {ask:?}", self.keys[key]));
        }
        inner.seen.insert((key, root), bytes);
        let recorded = match signed {
            Some(signed) => {
                inner.slashable += 1;
                let newest = &mut inner.newest[key];
                newest.push_back(ask);
                if newest.len() > NEWEST {
                    newest.pop_front();
                }
                let judged = inner.auditor.release(&self.keys[key], signed, root);
                judged.map_err(|pair| format!("SLASHABLE PAIR: {pair:?}"))?;
                Recorded::NewSlashable
            }
            None => Recorded::New,
        };
        inner.waiting.push(Claim { key, root, signature: bytes });
        let full = if inner.waiting.len() >= BATCH { std::mem::take(&mut inner.waiting) } else { Vec::new() };
        drop(inner);
        self.verify(&full)?;
        Ok(recorded)
    }

    /// Verifies what still waits.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn settle(&self) -> Result<(), String> {
        let rest = std::mem::take(&mut self.lock().waiting);
        self.verify(&rest)
    }

    fn verify(&self, claims: &[Claim]) -> Result<(), String> {
        let verified = self.verifier.verify(claims);
        verified.map_err(|wrong| format!("a signature of {} does not verify: {wrong:?}", self.keys[wrong.key]))?;
        self.lock().verified += claims.len() as u64;
        Ok(())
    }

    /// Key and root of everything released so far.
    pub(crate) fn released(&self) -> Vec<(usize, Root)> {
        self.lock().seen.keys().copied().collect()
    }

    /// The first of these that were released and are not in `journaled`.
    ///
    /// # Errors
    /// The finding.
    pub(crate) fn check_covered(
        &self,
        released: &[(usize, Root)],
        journaled: &HashSet<(usize, Root)>,
    ) -> Result<(), String> {
        let missing: Vec<_> = released.iter().filter(|one| !journaled.contains(*one)).collect();
        let Some((key, root)) = missing.first() else { return Ok(()) };
        Err(format!(
            "{} released signatures have no journal entry, one of them of {} over 0x{}",
            missing.len(),
            self.keys[*key],
            hex::encode(root)
        ))
    }

    /// The newest blocks and attestations of every key.
    pub(crate) fn newest(&self) -> Vec<(usize, Ask)> {
        let inner = self.lock();
        inner.newest.iter().enumerate().flat_map(|(key, asks)| asks.iter().map(move |ask| (key, *ask))).collect()
    }

    /// Distinct signatures verified, and how many of the released ones are of blocks and attestations.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.verified, inner.slashable)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
