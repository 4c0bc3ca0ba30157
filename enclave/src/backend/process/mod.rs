//! Signatures computed by a vault: a process of its own or an enclave, which holds the keys and checks for itself.
//!
//! Guarantees: what is sent comes from a [`SigningPermit`], which is used up; the vault gets all that the permit says
//! and computes the root again, so the two must agree; requests that wait together travel together, up to a limit, and
//! block proposals first; every queue is bounded; what comes back is verified before release, unless that is off. If the vault ends, whoever waits is told so at once, it is started
//! again, and [`ProcessBackend::generations`] says that it needs its keys again.
//!
//! [`SigningPermit`]: holdfast_slashing_db::SigningPermit

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use holdfast_domain::{GenesisValidatorsRoot, Network, PublicKey, SigningRoot};
use holdfast_slashing_db::SealedKey;
use holdfast_vault_proto::limits::{MAX_ITEMS, MAX_KEYS};
use holdfast_vault_proto::{
    Answer, DataKeyBytes, KeyOutcome, Protections, Reason, Refusal, Request, SealedKeyBytes, SignItem,
};
use holdfast_witness::Pins;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::queue::Queues;
use super::{Held, KeyBackend, OpenError, PendingSignature, Reply, SignJob, Urgency, VerifyPolicy};
use crate::error::{SealError, SignError};
use crate::generate::{Generated, Origin};
use crate::import::SealFor;
use crate::metrics::Metrics;
use crate::secret::DataKey;
use crate::signature::{SignTimes, Signed};

mod check;
pub mod enclave;
mod generate;
pub mod lease;
mod link;
mod metrics;
mod supervise;

use check::{Checker, Frame};
use enclave::{AttestedVault, EnclaveAddress};
use link::{Link, Waiting};
use metrics::VaultMetrics;

/// Most frames of signatures on their way: enough that the vault never waits for one, and few enough that a block
/// proposal overtakes nearly everything.
const FRAMES_OUT: usize = 8;
/// A vault that has not answered for this long is ended and started again.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How to start a vault process: it gets its socket as standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; the id of this process is added at the end.
    pub arguments: Vec<String>,
}

/// Where a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultPlace {
    /// In a process that this one starts, and starts again.
    Program(VaultProgram),
    /// In a process that runs already behind this Unix socket, and outlives a connection.
    Socket(PathBuf),
    /// In an enclave that runs already, and outlives a connection.
    Enclave(EnclaveAddress),
}

impl VaultPlace {
    /// The words of the protections that a vault in such a place should have and lacks.
    fn missing(&self, protections: Protections) -> Vec<&'static str> {
        let needless = match self {
            Self::Program(_) => Protections::default(),
            // It is meant to outlive its signer.
            Self::Socket(_) => Protections::PARENT_DEATH,
            // The machine is its own.
            Self::Enclave(_) => Protections::PARENT_DEATH.with(Protections::SECCOMP),
        };
        let needless: Vec<&str> = needless.words().collect();
        protections.missing().filter(|word| !needless.contains(word)).collect()
    }
}

/// How a [`ProcessBackend`] runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessOptions {
    /// The vault.
    pub vault: VaultPlace,
    /// The chain; its genesis validators root and time are known.
    pub network: Network,
    /// Name and version of this program.
    pub program: String,
    /// Most signatures waiting, for proposals and for the rest each.
    pub queue_capacity: NonZeroUsize,
    /// Whether signatures are verified before release.
    pub verify: VerifyPolicy,
    /// Whose leases the vault signs by. Default: nobody's, so it signs in every epoch.
    pub witnesses: Option<Pins>,
    /// What becomes of a vault that cannot protect itself in every way.
    pub unprotected: Unprotected,
}

/// What becomes of a vault that cannot protect itself in every way. Of secret and locked memory one is enough: neither
/// reaches swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unprotected {
    /// It signs, and what is missing is logged.
    #[default]
    Warn,
    /// It is given no key.
    Refuse,
}

/// The other side of a vault process. Clones share it; it ends with [`Self::shutdown`] or the last clone.
#[derive(Clone)]
pub struct ProcessBackend(Arc<Pool>);

struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Threads that verify; they end after the others.
    checking: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    options: ProcessOptions,
    state: Mutex<State>,
    /// Something in the state changed.
    changed: Condvar,
    checker: Checker,
    metrics: Metrics,
    vault: VaultMetrics,
    generations: watch::Sender<u64>,
}

struct State {
    queues: Queues<Job>,
    /// `None` while there is no vault.
    link: Option<Arc<Link>>,
    /// Process id of the vault.
    process: Option<u32>,
    /// How it protects itself, as it said.
    protections: Protections,
    /// Frames of signatures on their way.
    frames_out: usize,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new work; threads end when everything is answered.
    Draining,
    /// Everything is answered.
    Drained,
}

/// One signature asked for.
struct Job {
    item: SignItem,
    root: SigningRoot,
    urgency: Urgency,
    reply: Reply,
    since: Instant,
}

impl ProcessBackend {
    /// The words of the protections that the vault has, and of those that it lacks.
    pub fn protections(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let protections = self.0.shared.state.lock().unwrap_or_else(PoisonError::into_inner).protections;
        (protections.words().collect(), self.0.shared.options.vault.missing(protections))
    }

    /// Starts the vault and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`SignError::VaultStart`] if it cannot be started or does not answer; [`SignError::Thread`] if the system
    /// refuses a thread.
    pub fn start(options: ProcessOptions) -> Result<Self, SignError> {
        let state = State {
            queues: Queues::new(options.queue_capacity),
            link: None,
            process: None,
            protections: Protections::default(),
            frames_out: 0,
            phase: Phase::Running,
        };
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
            checker: Checker::new(),
            metrics: Metrics::new(),
            vault: VaultMetrics::default(),
            generations: watch::Sender::new(0),
        });
        let pool = Pool { shared: Arc::clone(&shared), threads: Mutex::default(), checking: Mutex::default() };
        let backend = Self(Arc::new(pool));
        let (started, first) = mpsc::sync_channel(1);
        backend.spawn("vault-link", move || supervise::run(&shared, started))?;
        let shared = Arc::clone(&backend.0.shared);
        backend.spawn("vault-send", move || while shared.send_some() {})?;
        if backend.0.shared.options.verify == VerifyPolicy::BeforeRelease {
            for index in 0..thread::available_parallelism().map_or(1, NonZeroUsize::get) {
                let shared = Arc::clone(&backend.0.shared);
                let check = move || while shared.check_some() {};
                let thread = thread::Builder::new().name(format!("vault-check-{index}")).spawn(check);
                backend.0.checking().push(thread.map_err(SignError::Thread)?);
            }
        }
        match first.recv() {
            Ok(Ok(())) => Ok(backend),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => Err(SignError::VaultDown),
        }
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SignError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).map_err(SignError::Thread)?;
        self.0.threads().push(thread);
        Ok(())
    }

    /// How many vaults there have been, with this one. A new one holds no keys.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.0.shared.generations.subscribe()
    }

    /// Whether the vault stays, with its keys, marks and lease, when this value ends.
    pub fn outlives_its_signer(&self) -> bool {
        match self.0.shared.options.vault {
            VaultPlace::Program(_) => false,
            VaultPlace::Socket(_) | VaultPlace::Enclave(_) => true,
        }
    }

    /// Process id of the vault; `None` while there is none.
    pub fn vault_process(&self) -> Option<u32> {
        self.0.shared.state().process
    }

    /// Takes no more work, has everything answered that was accepted, and ends the vault. Blocks until then: not on
    /// an async thread. Calling it again does no harm.
    pub fn shutdown(&self) {
        self.0.shutdown();
    }

    /// Registers what is measured, once, in a registry with the product's prefix.
    pub fn register(&self, registry: &mut Registry) {
        self.0.shared.metrics.register(registry);
        self.0.shared.vault.register(registry);
    }
}

impl From<ProcessBackend> for Arc<dyn KeyBackend> {
    fn from(backend: ProcessBackend) -> Self {
        backend.0
    }
}

impl Pool {
    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checking(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.checking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shutdown(&self) {
        self.shared.change(|state| {
            if state.phase == Phase::Running {
                state.phase = Phase::Draining;
            }
        });
        let threads = std::mem::take(&mut *self.threads());
        threads.into_iter().rev().for_each(join);
        // Nothing comes from the vault any more.
        self.shared.checker.end();
        let checking = std::mem::take(&mut *self.checking());
        checking.into_iter().for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the vault's backend had panicked: report this as a bug");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl KeyBackend for Pool {
    fn name(&self) -> &'static str {
        match self.shared.options.vault {
            VaultPlace::Program(_) | VaultPlace::Socket(_) => "process",
            VaultPlace::Enclave(_) => "enclave",
        }
    }

    fn attested(&self) -> Option<&dyn AttestedVault> {
        match self.shared.options.vault {
            VaultPlace::Program(_) | VaultPlace::Socket(_) => None,
            VaultPlace::Enclave(_) => Some(self),
        }
    }

    fn open(
        &self,
        data_key: &DataKey,
        network: GenesisValidatorsRoot,
        keys: &[(PublicKey, &SealedKey)],
    ) -> Result<Vec<Result<Held, OpenError>>, SignError> {
        let link = self.shared.link()?;
        let mut results = Vec::with_capacity(keys.len());
        for some in keys.chunks(MAX_KEYS) {
            let sealed = |(public_key, sealed): &(PublicKey, &SealedKey)| SealedKeyBytes {
                public_key: *public_key,
                sealed: sealed.as_bytes().to_vec(),
            };
            let plain = data_key.bytes().expose(|bytes| bytes.first_chunk().map(DataKeyBytes::new));
            let Some(data_key) = plain else { return Err(SignError::VaultDown) };
            let request = Request::Provision { data_key, keys: some.iter().map(sealed).collect() };
            let Answer::Provisioned(outcomes) = link.ask(&request)? else { return Err(SignError::VaultDown) };
            if outcomes.len() != some.len() {
                return Err(SignError::VaultDown);
            }
            results
                .extend(some.iter().zip(outcomes).map(|((key, sealed), outcome)| held(*key, sealed, network, outcome)));
        }
        Ok(results)
    }

    fn generate(&self, origin: Origin<'_>, count: u32, sealed_for: SealFor<'_>) -> Result<Vec<Generated>, SignError> {
        generate::generate(&*self.shared.link()?, origin, count, sealed_for)
    }

    fn forget(&self, keys: &[PublicKey]) {
        let Ok(link) = self.shared.link() else { return };
        for some in keys.chunks(MAX_KEYS) {
            if link.ask(&Request::Forget(some.to_vec())).is_err() {
                // It is gone, and the secrets with it.
                return;
            }
        }
    }

    fn submit(&self, job: SignJob) -> Result<PendingSignature, SignError> {
        self.shared.submit(&job)
    }
}

/// What an outcome of the vault means for a stored key, in the words of a sealed key that is opened here.
fn held(
    public_key: PublicKey,
    sealed: &SealedKey,
    expected: GenesisValidatorsRoot,
    outcome: KeyOutcome,
) -> Result<Held, OpenError> {
    Err(match outcome {
        KeyOutcome::Opened | KeyOutcome::AlreadyOpen => return Ok(Held::in_vault(public_key)),
        KeyOutcome::OtherNetwork => SealError::WrongNetwork { public_key, expected }.into(),
        KeyOutcome::OtherKey => SealError::WrongPublicKey { public_key }.into(),
        KeyOutcome::OtherDataKey => SealError::WrongDataKey { public_key }.into(),
        KeyOutcome::UnknownFormat => {
            let version = sealed.as_bytes().first().copied().unwrap_or_default();
            SealError::UnknownVersion { public_key, version }.into()
        }
        KeyOutcome::Damaged => SealError::Damaged { public_key }.into(),
        KeyOutcome::NoRoom => OpenError::NoRoom { public_key },
    })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn link(&self) -> Result<Arc<Link>, SignError> {
        self.state().link.clone().ok_or(SignError::VaultDown)
    }

    fn submit(&self, job: &SignJob) -> Result<PendingSignature, SignError> {
        let (urgency, permit) = (job.urgency(), job.permit());
        let (reply, pending) = PendingSignature::channel();
        let item = SignItem {
            public_key: *permit.key(),
            root: permit.root().into(),
            commit_seq: permit.commit_seq(),
            statement: *permit.statement(),
        };
        let job = Job { item, root: permit.root(), urgency, reply, since: Instant::now() };
        let mut state = self.state();
        match state.phase {
            Phase::Running if state.link.is_none() => return Err(SignError::VaultDown),
            Phase::Running => {}
            Phase::Draining | Phase::Drained => return Err(SignError::Stopped),
        }
        let pushed = state.queues.push(urgency, job);
        let waiting = state.queues.waiting(urgency);
        drop(state);
        if pushed.is_err() {
            self.metrics.overloaded.inc();
            return Err(SignError::Overloaded);
        }
        self.metrics.waiting(urgency, waiting);
        self.changed.notify_all();
        Ok(pending)
    }

    /// Waits for work and sends a frame of it. False when there will be no more.
    fn send_some(&self) -> bool {
        let Some((link, jobs)) = self.next_frame() else { return false };
        let mut wanted = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.reply.is_abandoned() {
                self.metrics.abandoned.inc();
            } else {
                self.metrics.waited(job.since.elapsed());
                wanted.push(job);
            }
        }
        if wanted.is_empty() {
            self.change(|state| state.frames_out = state.frames_out.saturating_sub(1));
            return true;
        }
        let request = Request::Sign(wanted.iter().map(|job| job.item).collect());
        if let Err(Waiting::Signatures { jobs, .. }) =
            link.send(&request, Waiting::Signatures { sent: Instant::now(), jobs: wanted })
        {
            self.lost(jobs);
        }
        true
    }

    fn next_frame(&self) -> Option<(Arc<Link>, Vec<Job>)> {
        let mut state = self.state();
        loop {
            if let Some(link) = state.link.clone() {
                if state.frames_out < FRAMES_OUT
                    && let Some(jobs) = state.queues.take(MAX_ITEMS, NonZeroUsize::MIN)
                {
                    state.frames_out = state.frames_out.saturating_add(1);
                    for urgency in [Urgency::Block, Urgency::Normal] {
                        self.metrics.waiting(urgency, state.queues.waiting(urgency));
                    }
                    return Some((link, jobs));
                }
                if link.waits_longer_than(ANSWER_LIMIT) {
                    tracing::error!(seconds = ANSWER_LIMIT.as_secs(), "the vault does not answer; it is ended");
                    link.close();
                }
            }
            if state.phase == Phase::Draining && state.frames_out == 0 && state.queues.is_empty() {
                state.phase = Phase::Drained;
                if let Some(link) = state.link.clone() {
                    drop(state);
                    // The supervisor sees the end of the connection.
                    link.hang_up();
                }
                self.changed.notify_all();
                return None;
            }
            if state.phase == Phase::Drained {
                return None;
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells whoever waits for these that there will be no signature.
    fn lost(&self, jobs: Vec<Job>) {
        self.change(|state| state.frames_out = state.frames_out.saturating_sub(1));
        for job in jobs {
            job.reply.send(Err(SignError::VaultDown));
        }
    }

    /// Takes what the vault made of a frame: to be verified, or to be handed out.
    fn answered(&self, sent: Instant, jobs: Vec<Job>, outcomes: Vec<Result<[u8; 96], Refusal>>) {
        let frame = Frame { sent, took: sent.elapsed(), jobs, outcomes };
        let unchecked = match self.options.verify {
            VerifyPolicy::TrustBackend => frame,
            VerifyPolicy::BeforeRelease => match self.checker.push(frame) {
                Ok(()) => return,
                // The threads that verify are gone or behind: this one does it.
                Err(frame) => frame,
            },
        };
        self.hand_out(unchecked);
    }

    /// Waits for a frame and verifies it. False when there will be no more.
    fn check_some(&self) -> bool {
        let Some(frame) = self.checker.next() else { return false };
        self.hand_out(frame);
        true
    }

    /// Hands out what may leave of a frame.
    fn hand_out(&self, frame: Frame) {
        let good = match self.options.verify {
            VerifyPolicy::TrustBackend => vec![true; frame.jobs.len()],
            VerifyPolicy::BeforeRelease => self.checker.check(&frame.jobs, &frame.outcomes, &self.metrics),
        };
        self.change(|state| state.frames_out = state.frames_out.saturating_sub(1));
        let (sent, took) = (frame.sent, frame.took);
        for (job, outcome) in frame.checked(&good) {
            let key = job.item.public_key;
            let result = match outcome {
                Ok(Some(raw)) => Ok(raw.checked()),
                Ok(None) => Err(SignError::Invalid { key }),
                Err(refusal) => {
                    self.vault.refused(refusal.reason);
                    Err(refused(key, refusal))
                }
            };
            if result.is_ok() {
                self.metrics.signatures.inc();
                self.metrics.sign_seconds.observe(took.as_secs_f64());
            }
            let queue = sent.saturating_duration_since(job.since);
            let times = SignTimes { queue, hash: Duration::ZERO, sign: took };
            job.reply.send(result.map(|signature| Signed { signature, times }));
        }
    }

    /// There is no vault any more: nobody waits for it in vain.
    fn down(&self) {
        let mut left = Vec::new();
        self.change(|state| {
            state.link = None;
            state.process = None;
            state.frames_out = 0;
            while let Some(jobs) = state.queues.take(usize::MAX, NonZeroUsize::MIN) {
                left.extend(jobs);
            }
        });
        for job in left {
            job.reply.send(Err(SignError::VaultDown));
        }
    }
}

/// A refusal of the vault, in words for whoever asked.
fn refused(key: PublicKey, Refusal { reason, marks: _ }: Refusal) -> SignError {
    let hint = match reason {
        // It was started anew, and its keys are on their way.
        Reason::UnknownKey => return SignError::VaultDown,
        Reason::NoLease => return SignError::NoLease,
        Reason::WrongChain | Reason::Unsignable | Reason::RootMismatch => "report this as a bug",
        Reason::SlotInFuture | Reason::TargetInFuture => "it lies beyond the vault's clock; check the time of both",
        Reason::BlockSlotBelowWatermark
        | Reason::DoubleBlock
        | Reason::SourceAfterTarget
        | Reason::SourceNotBeforeTarget
        | Reason::SourceBelowWatermark
        | Reason::TargetBelowWatermark
        | Reason::DoubleVote => "after a start it signs from the next epoch on",
    };
    SignError::VaultRefused { key, reason: reason.as_str(), hint }
}
