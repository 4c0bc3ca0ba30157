//! Signatures computed in this process, by a few threads of their own.
//!
//! Guarantees: async threads never compute; block proposals are taken before anything else, and wait for
//! at most `CHUNK` signatures already begun; each distinct root is hashed once while it is in the
//! cache; both queues are bounded; work nobody waits for is skipped; shutting down finishes what was
//! accepted. This is the only caller of the BLS signing routine.

use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_slashing_db::{SealedKey, SigningPermit};

use super::cache::HashCache;
use super::queue::Queues;
use super::{Held, KeyBackend, OpenError, PendingSignature, Reply, SignJob, Urgency, VerifyPolicy};
use crate::error::SignError;
use crate::generate::{self, Generated, Origin};
use crate::import::SealFor;
use crate::metrics::Metrics;
use crate::secret::{DataKey, SecretKey};
use crate::signature::{RawSignature, SignTimes, Signed};
use crate::{seal, stack};

/// Most signatures a thread takes at once: enough that a burst is not all locking, and few enough that
/// a proposal waits about a millisecond. It takes fewer if that leaves other threads without.
const CHUNK: usize = 4;

/// Signatures that may wait in each queue: about a second of work for four cores.
pub const DEFAULT_QUEUE_CAPACITY: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Roots kept hashed: many slots' worth, in 300 KiB.
pub const DEFAULT_CACHE_ENTRIES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How a [`LocalBackend`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalOptions {
    /// Signing threads. Default: one for each core.
    pub threads: NonZeroUsize,
    /// Most signatures waiting, for proposals and for the rest each; [`DEFAULT_QUEUE_CAPACITY`].
    pub queue_capacity: NonZeroUsize,
    /// Most roots kept hashed; [`DEFAULT_CACHE_ENTRIES`].
    pub cache_entries: NonZeroUsize,
    /// Whether signatures are verified before release. Default: no.
    pub verify: VerifyPolicy,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            queue_capacity: DEFAULT_QUEUE_CAPACITY,
            cache_entries: DEFAULT_CACHE_ENTRIES,
            verify: VerifyPolicy::default(),
        }
    }
}

/// The signing threads. Clones share them; they end with [`Self::shutdown`] or the last clone.
#[derive(Clone)]
pub struct LocalBackend(Arc<Pool>);

struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    cache: HashCache,
    metrics: Metrics,
    threads: NonZeroUsize,
    verify: VerifyPolicy,
}

struct State {
    queues: Queues<Queued>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new work; threads end when the queues are empty.
    Draining,
}

struct Queued {
    secret: Arc<SecretKey>,
    permit: SigningPermit,
    reply: Reply,
    since: Instant,
}

impl LocalBackend {
    /// Starts the signing threads.
    ///
    /// # Errors
    ///
    /// [`SignError::Thread`] if the system refuses one. Those already started are ended.
    pub fn start(options: LocalOptions) -> Result<Self, SignError> {
        let backend = Self::idle(options);
        for index in 0..options.threads.get() {
            let shared = Arc::clone(&backend.0.shared);
            let thread = thread::Builder::new()
                .name(format!("sign-{index}"))
                .spawn(move || while shared.serve() {})
                .map_err(SignError::Thread)?;
            backend.0.threads().push(thread);
        }
        Ok(backend)
    }

    /// A backend without threads.
    fn idle(options: LocalOptions) -> Self {
        let state = State { queues: Queues::new(options.queue_capacity), phase: Phase::Running };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            cache: HashCache::new(options.cache_entries),
            metrics: Metrics::new(),
            threads: options.threads,
            verify: options.verify,
        });
        Self(Arc::new(Pool { shared, threads: Mutex::default() }))
    }

    /// Takes no more work, finishes what was accepted and ends the threads. Blocks until then, a few
    /// milliseconds unless the queues are long: not on an async thread. Calling it again does no harm.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }

    /// What the threads measure.
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }
}

impl KeyBackend for Pool {
    fn name(&self) -> &'static str {
        "local"
    }

    fn open(
        &self,
        data_key: &DataKey,
        network: GenesisValidatorsRoot,
        keys: &[(PublicKey, &SealedKey)],
    ) -> Result<Vec<Result<Held, OpenError>>, SignError> {
        let open =
            |(key, sealed): &(PublicKey, &SealedKey)| Ok(Held::here(seal::open(data_key, key, network, sealed)?));
        Ok(keys.iter().map(open).collect())
    }

    fn generate(&self, origin: Origin<'_>, count: u32, sealed_for: SealFor<'_>) -> Result<Vec<Generated>, SignError> {
        let made = generate::sealed(origin, count, sealed_for);
        stack::scrub();
        made.map_err(|error| SignError::NotMade(Box::new(error)))
    }

    /// A secret is wiped when the last who holds it lets go.
    fn forget(&self, _: &[PublicKey]) {}

    fn submit(&self, job: SignJob) -> Result<PendingSignature, SignError> {
        self.shared.submit(job)
    }
}

impl From<LocalBackend> for Arc<dyn KeyBackend> {
    fn from(backend: LocalBackend) -> Self {
        backend.0
    }
}

impl Pool {
    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shutdown(&self) {
        self.shared.state().phase = Phase::Draining;
        self.shared.work.notify_all();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a signing thread had panicked: report this as a bug");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, job: SignJob) -> Result<PendingSignature, SignError> {
        let urgency = job.urgency();
        let (secret, permit) = job.into_local()?;
        let (reply, pending) = PendingSignature::channel();
        let queued = Queued { secret, permit, reply, since: Instant::now() };
        let mut state = self.state();
        match state.phase {
            Phase::Running => {}
            Phase::Draining => return Err(SignError::Stopped),
        }
        let pushed = state.queues.push(urgency, queued);
        let waiting = state.queues.waiting(urgency);
        drop(state);
        if pushed.is_err() {
            self.metrics.overloaded.inc();
            return Err(SignError::Overloaded);
        }
        self.metrics.waiting(urgency, waiting);
        self.work.notify_one();
        Ok(pending)
    }

    /// Waits for work and does a chunk of it. False when there will be no more.
    fn serve(&self) -> bool {
        let Some(chunk) = self.next_chunk() else { return false };
        for queued in chunk {
            self.make(queued);
        }
        true
    }

    fn next_chunk(&self) -> Option<Vec<Queued>> {
        let mut state = self.state();
        loop {
            if let Some(chunk) = state.queues.take(CHUNK, self.threads) {
                for urgency in [Urgency::Block, Urgency::Normal] {
                    self.metrics.waiting(urgency, state.queues.waiting(urgency));
                }
                return Some(chunk);
            }
            match state.phase {
                Phase::Running => {
                    state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Phase::Draining => return None,
            }
        }
    }

    fn make(&self, queued: Queued) {
        let Queued { secret, permit, reply, since } = queued;
        let begun = Instant::now();
        let queue = begun.saturating_duration_since(since);
        self.metrics.waited(queue);
        if reply.is_abandoned() {
            self.metrics.abandoned.inc();
            return;
        }
        let root = permit.root();
        let point = self.cache.point(root, &self.metrics);
        let hashed = Instant::now();
        let raw = RawSignature::new(secret.scalar().sign(&point));
        let signed = Instant::now();
        let mut sign = signed.saturating_duration_since(hashed);
        self.metrics.sign_seconds.observe(sign.as_secs_f64());
        let result = raw.release(self.verify, secret.public_key(), &root);
        match self.verify {
            VerifyPolicy::TrustBackend => {}
            VerifyPolicy::BeforeRelease => {
                let verify = signed.elapsed();
                self.metrics.verify_seconds.observe(verify.as_secs_f64());
                sign = sign.saturating_add(verify);
            }
        }
        if result.is_ok() {
            self.metrics.signatures.inc();
        }
        let times = SignTimes { queue, hash: hashed.saturating_duration_since(begun), sign };
        reply.send(result.map(|signature| Signed { signature, times }));
    }
}

#[cfg(test)]
mod tests {
    //! Proved here, without threads, by doing the work of a signing thread step by step: proposals go first,
    //! abandoned work is skipped, full queues refuse, draining finishes everything, and times are told apart.

    use std::time::Duration;

    use super::*;
    use crate::generate;
    use crate::support::{Bench, attestation, block};

    fn options(capacity: usize) -> LocalOptions {
        LocalOptions {
            threads: NonZeroUsize::MIN,
            queue_capacity: NonZeroUsize::new(capacity).unwrap(),
            ..LocalOptions::default()
        }
    }

    struct Signer {
        bench: Bench,
        backend: LocalBackend,
        held: Held,
    }

    impl Signer {
        /// One registered key and a backend without threads.
        async fn new(capacity: usize) -> Self {
            let bench = Bench::new();
            let held = Held::here(generate::secret_key().unwrap());
            let _registered = bench.register(*held.public_key()).await;
            Self { bench, backend: LocalBackend::idle(options(capacity)), held }
        }

        async fn submit(&self, message: holdfast_domain::Message) -> Result<PendingSignature, SignError> {
            let permit = self.bench.permit(self.held.public_key(), &message).await;
            self.backend.0.submit(SignJob::new(&self.held, permit).unwrap())
        }

        fn serve(&self) -> bool {
            self.backend.0.shared.serve()
        }
    }

    fn is_done(pending: &mut PendingSignature) -> bool {
        pending.0.try_recv().is_ok_and(|result| result.is_ok())
    }

    #[tokio::test]
    async fn a_late_proposal_overtakes_everything_queued() {
        let signer = Signer::new(100).await;
        let mut attestations = Vec::new();
        for epoch in 1..=6 {
            attestations.push(signer.submit(attestation(epoch)).await.unwrap());
        }
        let mut proposal = signer.submit(block(9)).await.unwrap();
        assert!(signer.serve());
        assert!(is_done(&mut proposal));
        assert!(!attestations.iter_mut().any(is_done), "nothing else was begun");
        assert!(signer.serve());
        let done: Vec<bool> = attestations.iter_mut().map(is_done).collect();
        assert_eq!(done, [true, true, true, true, false, false], "a chunk, in order");
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_skipped() {
        let signer = Signer::new(100).await;
        drop(signer.submit(attestation(1)).await.unwrap());
        let mut kept = signer.submit(attestation(2)).await.unwrap();
        assert!(signer.serve());
        assert!(is_done(&mut kept));
        let metrics = signer.backend.metrics();
        assert_eq!((metrics.abandoned.get(), metrics.signatures.get(), metrics.roots_hashed.get()), (1, 1, 1));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_leaves_room_for_proposals() {
        let signer = Signer::new(1).await;
        let mut first = signer.submit(attestation(1)).await.unwrap();
        let refused = signer.submit(attestation(2)).await;
        assert!(matches!(refused, Err(SignError::Overloaded)));
        assert_eq!(signer.backend.metrics().overloaded.get(), 1);
        let mut proposal = signer.submit(block(3)).await.unwrap();
        assert!(signer.serve() && signer.serve());
        assert!(is_done(&mut first) && is_done(&mut proposal));
    }

    #[tokio::test]
    async fn a_signature_tells_its_wait_from_its_work() {
        const HELD: Duration = Duration::from_millis(2);
        let signer = Signer::new(100).await;
        let began = Instant::now();
        let pending = signer.submit(attestation(1)).await.unwrap();
        let queued = Instant::now();
        while queued.elapsed() < HELD {
            std::thread::yield_now();
        }
        assert!(signer.serve());
        let SignTimes { queue, hash, sign } = pending.wait().await.unwrap().times;
        let all = began.elapsed();
        assert!(queue >= HELD && hash > Duration::ZERO && sign > Duration::ZERO, "{queue:?} {hash:?} {sign:?}");
        assert!(queue + hash + sign <= all, "{queue:?} {hash:?} {sign:?} of {all:?}");
    }

    /// The least of many tries, so that a busy machine does not matter.
    #[tokio::test]
    async fn a_root_hashed_before_takes_next_to_no_time() {
        let signer = Signer::new(100).await;
        let (mut first, mut again) = (Duration::MAX, Duration::MAX);
        for epoch in 1..=20 {
            for least in [&mut first, &mut again] {
                let pending = signer.submit(attestation(epoch)).await.unwrap();
                assert!(signer.serve());
                *least = (*least).min(pending.wait().await.unwrap().times.hash);
            }
        }
        assert!(again < first, "{again:?} with the root in the cache, {first:?} without");
    }

    #[tokio::test]
    async fn draining_finishes_what_was_accepted_and_takes_no_more() {
        let signer = Signer::new(100).await;
        let mut accepted = Vec::new();
        for epoch in 1..=10 {
            accepted.push(signer.submit(attestation(epoch)).await.unwrap());
        }
        signer.backend.shutdown();
        assert!(matches!(signer.submit(attestation(11)).await, Err(SignError::Stopped)));
        while signer.serve() {}
        assert!(accepted.iter_mut().all(is_done));
    }

    #[tokio::test]
    async fn work_lost_with_the_backend_is_an_error() {
        let signer = Signer::new(100).await;
        let pending = signer.submit(attestation(1)).await.unwrap();
        drop(signer);
        assert!(matches!(pending.wait().await, Err(SignError::Stopped)));
    }

    #[tokio::test]
    async fn a_permit_for_another_key_makes_no_job() {
        let signer = Signer::new(100).await;
        let other = Held::here(generate::secret_key().unwrap());
        let permit = signer.bench.permit(signer.held.public_key(), &attestation(1)).await;
        let refused = SignJob::new(&other, permit).map(|_| ());
        assert!(matches!(
            refused,
            Err(SignError::WrongKey { key, permit }) if key == *other.public_key() && permit == *signer.held.public_key()
        ));
    }
}
