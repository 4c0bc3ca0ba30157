//! Whether what a vault signed is a signature: checked before anything is released, many at once.
//!
//! Guarantees: a signature is released only if it verifies; what came together is verified together, with coefficients that are
//! drawn after it came, and where that fails, part by part down to single ones, so only what is wrong is withheld; block
//! proposals go first. Frames that wait for this count as being on their way, so there are few.

use std::collections::HashMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_domain::{PublicKey, SigningRoot};
use holdfast_enclave_sys::{Claim, SignaturePoint, VerifyingPoint, verify_together};
use holdfast_vault_proto::Refusal;

use super::Job;
use crate::backend::Urgency;
use crate::backend::cache::HashCache;

use crate::backend::queue::Queues;
use crate::metrics::Metrics;
use crate::signature::RawSignature;

/// Frames that may wait in each queue: more than are ever on their way.
const QUEUE: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Roots kept hashed: those of many slots.
const ROOTS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Most public keys kept decoded, 200 bytes each.
const KEYS: usize = 100_000;

/// What a vault made of a frame.
pub(super) struct Frame {
    /// When it was sent.
    pub(super) sent: Instant,
    /// How long the vault took.
    pub(super) took: Duration,
    /// What was asked.
    pub(super) jobs: Vec<Job>,
    /// What it answered, one for each.
    pub(super) outcomes: Vec<Result<[u8; 96], Refusal>>,
}

/// Frames that wait for their check, and what every check needs.
pub(super) struct Checker {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    keys: Mutex<HashMap<PublicKey, VerifyingPoint>>,
    roots: HashCache,
}

struct Waiting {
    frames: Queues<Frame>,
    ended: bool,
}

impl Checker {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting { frames: Queues::new(QUEUE), ended: false }),
            changed: Condvar::new(),
            keys: Mutex::default(),
            roots: HashCache::new(ROOTS),
        }
    }

    /// Takes a frame. It comes back if too many wait, which does not happen while frames on their way are few.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Frame> {
        let urgency = frame.jobs.first().map_or(Urgency::Normal, |job| job.urgency);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.ended {
            return Err(frame);
        }
        let pushed = waiting.frames.push(urgency, frame);
        drop(waiting);
        self.changed.notify_one();
        pushed
    }

    /// Waits for a frame. `None` when there will be no more.
    pub(super) fn next(&self) -> Option<Frame> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(frame) = waiting.frames.take(1, NonZeroUsize::MIN).and_then(|mut one| one.pop()) {
                return Some(frame);
            }
            if waiting.ended {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// There will be no more frames.
    pub(super) fn end(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.changed.notify_all();
    }

    /// Which signatures verify; one for each of these, in order. True where there is none.
    pub(super) fn check(&self, jobs: &[Job], outcomes: &[Result<[u8; 96], Refusal>], metrics: &Metrics) -> Vec<bool> {
        let made = jobs
            .iter()
            .zip(outcomes)
            .map(|(job, outcome)| outcome.as_ref().ok().map(|signature| (&job.item.public_key, job.root, signature)));
        self.verify(&made.collect::<Vec<_>>(), metrics)
    }

    fn verify(&self, made: &[Option<(&PublicKey, SigningRoot, &[u8; 96])>], metrics: &Metrics) -> Vec<bool> {
        let begun = Instant::now();
        let mut good = vec![true; made.len()];
        let count = made.iter().flatten().count();
        let Some(mut coefficients) = coefficients(count) else {
            // Without random numbers nothing is verified together.
            return made
                .iter()
                .map(|one| one.is_none_or(|(key, root, signature)| single(key, root, signature)))
                .collect();
        };
        let mut claims = Vec::with_capacity(count);
        for (place, one) in made.iter().enumerate() {
            let Some((key, root, signature)) = *one else { continue };
            match (self.key(key), SignaturePoint::new(signature), coefficients.pop()) {
                (Some(key), Some(signature), Some(coefficient)) => {
                    let claim = Claim { root: self.roots.point(root, metrics), key, signature, coefficient };
                    claims.push((root, place, claim));
                }
                _ => withhold(&mut good, place),
            }
        }
        // Those of one root share a pairing.
        claims.sort_by_key(|(root, _, _)| *root.as_bytes());
        let (places, claims): (Vec<usize>, Vec<Claim>) =
            claims.into_iter().map(|(_, place, claim)| (place, claim)).unzip();
        sort_out(&claims, &places, &mut good);
        if count > 0 {
            metrics.verify_seconds.observe(begun.elapsed().as_secs_f64());
        }
        good
    }

    /// A public key to verify with. `None` if it is none, of which nothing verifies.
    fn key(&self, key: &PublicKey) -> Option<VerifyingPoint> {
        let keys = || self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(point) = keys().get(key) {
            return Some(*point);
        }
        let point = VerifyingPoint::new(key.as_bytes())?;
        let mut keys = keys();
        if keys.len() < KEYS {
            keys.insert(*key, point);
        }
        Some(point)
    }
}

/// Judges claims together; where one is wrong, each half of them by itself.
fn sort_out(claims: &[Claim], places: &[usize], good: &mut [bool]) {
    if verify_together(claims) {
        return;
    }
    if let [place] = places {
        return withhold(good, *place);
    }
    let half = claims.len().div_ceil(2);
    for (claims, places) in claims.chunks(half).zip(places.chunks(half)) {
        sort_out(claims, places, good);
    }
}

fn withhold(good: &mut [bool], place: usize) {
    if let Some(good) = good.get_mut(place) {
        *good = false;
    }
}

fn single(key: &PublicKey, root: SigningRoot, signature: &[u8; 96]) -> bool {
    holdfast_enclave_sys::verify(key.as_bytes(), root.as_bytes(), signature)
}

/// So many random coefficients; `None` if the system gives none.
fn coefficients(count: usize) -> Option<Vec<NonZeroU64>> {
    let mut bytes = vec![0; count.saturating_mul(8)];
    getrandom::fill(&mut bytes).ok()?;
    let (numbers, _) = bytes.as_chunks::<8>();
    // Odd: not zero, at the cost of one bit.
    Some(numbers.iter().map(|bytes| NonZeroU64::MIN | u64::from_le_bytes(*bytes)).collect())
}

impl Frame {
    /// Its parts, with the signatures that may leave.
    pub(super) fn checked(self, good: &[bool]) -> impl Iterator<Item = (Job, Result<Option<RawSignature>, Refusal>)> {
        let good = good.to_vec();
        self.jobs
            .into_iter()
            .zip(self.outcomes)
            .zip(good)
            .map(|((job, outcome), good)| (job, outcome.map(|bytes| good.then_some(RawSignature::new(bytes)))))
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: of what came together exactly what is wrong is withheld, wherever it stands and however the errors are
    //! related; keys that are none verify nothing.

    use super::*;
    use crate::generate;
    use crate::secret::SecretKey;
    use crate::support::{attestation, block, root};

    struct Made {
        key: PublicKey,
        root: SigningRoot,
        signature: [u8; 96],
    }

    fn made(count: usize) -> Vec<Made> {
        let make = |index: usize| {
            let secret: SecretKey = generate::secret_key().unwrap();
            // Most share a root, as attesters of a slot do.
            let root = if index % 5 == 4 { root(&block(index as u64)) } else { root(&attestation(7)) };
            let point = holdfast_enclave_sys::hash_to_g2(root.as_bytes());
            Made { key: *secret.public_key(), root, signature: secret.scalar().sign(&point) }
        };
        (0..count).map(make).collect()
    }

    fn wrong(all: &[Made]) -> Vec<usize> {
        let asked: Vec<_> = all.iter().map(|one| Some((&one.key, one.root, &one.signature))).collect();
        let good = Checker::new().verify(&asked, &Metrics::new());
        assert_eq!(good.len(), all.len());
        good.iter().enumerate().filter(|(_, good)| !**good).map(|(place, _)| place).collect()
    }

    #[test]
    fn exactly_what_is_wrong_is_withheld() {
        for count in [1, 2, 3, 17, 128] {
            let mut all = made(count);
            assert_eq!(wrong(&all), Vec::<usize>::new());
            let last = count - 1;
            let right = all[last].signature;
            all[last].signature = made(1)[0].signature;
            assert_eq!(wrong(&all), [last]);
            all[last].signature = [0xff; 96];
            assert_eq!(wrong(&all), [last], "no point at all");
            if count > 2 {
                // Swapped: each is right, for another key.
                all[last].signature = all[0].signature;
                all[0].signature = right;
                assert_eq!(wrong(&all), [0, last]);
            }
        }
        let mut all = made(6);
        for one in &mut all {
            one.root = root(&attestation(8));
        }
        assert_eq!(wrong(&all), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_was_refused_and_keys_that_are_none_are_left_out() {
        let mut all = made(3);
        all[1].key = PublicKey::from_bytes([7; 48]);
        assert_eq!(wrong(&all), [1]);
        let asked = [None, Some((&all[0].key, all[0].root, &all[0].signature)), None];
        assert_eq!(Checker::new().verify(&asked, &Metrics::new()), [true; 3]);
        assert_eq!(Checker::new().verify(&[], &Metrics::new()), Vec::<bool>::new());
    }
}
