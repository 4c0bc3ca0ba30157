//! Group commit: many intents, one durable transaction, one permit each. Events go into the same batches.
//!
//! One thread owns the store. While it commits, requests queue; then it takes all of them (up to a named
//! bound), drops those whose client has gone, and judges and records the rest in one transaction. There
//! are no timers: a lone request commits at once. Replies are sent only after the commit, so a permit
//! without a durable record cannot exist. When the outcome of a commit is unknown, the committer freezes:
//! it touches the store never again and refuses everything. When the database may have lost writes, it is
//! *suspect*: unslashable messages go on, slashable ones need a key fenced since (see `fence.rs`). The same where
//! another instance wrote its suspicion into a shared database: each batch reads that under the locks of its rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use holdfast_domain::{PublicKey, Subject, UnixMillis};
use tokio::sync::{mpsc, oneshot, watch};

use crate::anchor::{Anchor, Suspicion};
use crate::db::Settings;
use crate::error::{AdminError, FreezeReason, OpenError, Refusal, StoreError};
use crate::guard::GuardHealth;
use crate::identity::CallerId;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::journal::retention::Waker;
use crate::journal::{Head, InstanceId};
use crate::metrics::{Metrics, ReasonLabel};
use crate::rules::{Horizon, Watermarks};
use crate::store::{Load, Pruned, ReadStore, Store};
pub(crate) use batch::{Asked, Note, Request};
use batch::{Span, deliver, distinct_keys, observe_waits, plan, refuse_all};
use fence::Distrust;

mod batch;
mod fence;
mod heartbeat;
mod prune;

/// How long before genesis a fence "now" is still believed: a clock further back is taken to be wrong.
const LONGEST_WAIT_FOR_GENESIS_MILLIS: u64 = 30 * 24 * 60 * 60 * 1000;

/// By how much a clock may be behind what was signed before and is still believed: clocks are set right in small steps.
const MOST_BEHIND_MILLIS: u64 = 60 * 1000;

/// Bound of the queue of read-only questions.
const READ_QUEUE_CAPACITY: usize = 64;

/// Administrative work on the store; returns a reason if protection must freeze because of it.
pub(crate) type Job = Box<dyn FnOnce(Result<&mut dyn Store, FreezeReason>) -> Option<FreezeReason> + Send>;

/// What the committer can be told.
pub(crate) enum Command {
    /// Something for the next batch.
    Ask(Asked),
    Admin(Job),
    Fence {
        keys: Option<Vec<PublicKey>>,
        by: CallerId,
        reply: oneshot::Sender<Result<u64, AdminError>>,
    },
    /// Time to look at the database although nobody asks.
    Heartbeat,
    Prune {
        chain: InstanceId,
        from: Head,
        upto: Head,
        reply: oneshot::Sender<Result<Pruned, StoreError>>,
    },
    Stop(oneshot::Sender<()>),
}

/// A question to the reader.
pub(crate) type Question = Box<dyn FnOnce(&mut dyn ReadStore) + Send>;

/// What the reader can be told.
pub(crate) enum Read {
    Job(Question),
    Stop(oneshot::Sender<()>),
}

/// What guard and committer both see.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) health: watch::Sender<GuardHealth>,
    /// Whether newly enabled keys are held back. Only ever switched on.
    pub(crate) holds_new_keys: AtomicBool,
    /// The earliest moment at which all that was signed can have been signed, in milliseconds since 1970: no clock that is
    /// right is before it.
    reached: AtomicU64,
}

impl Shared {
    /// The horizon at `now`.
    pub(crate) fn horizon(&self, now: UnixMillis) -> Horizon {
        Horizon::new(&self.settings.slot_clock, now, self.settings.future_tolerance_slots)
    }

    /// Notes that this is signed.
    fn sign(&self, subject: &Subject) {
        let clock = &self.settings.slot_clock;
        let slot = match *subject {
            Subject::Block { slot } => slot.0,
            // What it says of its slot is not judged, and may be anything.
            Subject::Attestation { target, .. } => target.0.saturating_mul(clock.slots_per_epoch.get()),
            Subject::Unslashable { .. } => return,
        };
        let earliest = slot.saturating_sub(self.settings.future_tolerance_slots);
        let begin = clock.genesis.0.saturating_add(earliest.saturating_mul(clock.slot_millis.get()));
        self.reached.fetch_max(begin, Ordering::AcqRel);
    }

    fn reached(&self) -> UnixMillis {
        UnixMillis(self.reached.load(Ordering::Acquire))
    }

    /// `now`, or the moment that was reached before if that is later, unless the clock is to be trusted.
    fn not_before_reached(&self, now: UnixMillis) -> UnixMillis {
        if self.settings.trust_clock { now } else { now.max(self.reached()) }
    }

    /// The fence at `now`. Refused if the clock cannot be right, as a fence would then protect less than it says: it is
    /// implausibly far before genesis, or behind what was signed before.
    pub(crate) fn fence(&self, now: UnixMillis) -> Result<Watermarks, AdminError> {
        let reached = self.not_before_reached(now);
        if reached.0.saturating_sub(now.0) > MOST_BEHIND_MILLIS {
            return Err(AdminError::ClockBehind { reached, now });
        }
        self.fence_at(reached)
    }

    /// The fence at a moment.
    fn fence_at(&self, now: UnixMillis) -> Result<Watermarks, AdminError> {
        let genesis = self.settings.slot_clock.genesis;
        if now.0.saturating_add(LONGEST_WAIT_FOR_GENESIS_MILLIS) < genesis.0 {
            return Err(AdminError::ClockBeforeGenesis { genesis, now });
        }
        Ok(self.horizon(now).fence())
    }

    fn frozen(&self) -> Option<FreezeReason> {
        match *self.health.borrow() {
            GuardHealth::Serving | GuardHealth::Suspect(_) => None,
            GuardHealth::Frozen { reason } => Some(reason),
        }
    }

    /// Shows what the committer knows about the database, unless all is frozen.
    fn show(&self, suspicion: Option<Suspicion>) {
        let shown = suspicion.map_or(GuardHealth::Serving, GuardHealth::Suspect);
        self.health.send_if_modified(|health| match health {
            GuardHealth::Frozen { .. } => false,
            GuardHealth::Serving | GuardHealth::Suspect(_) => {
                let changed = *health != shown;
                *health = shown;
                changed
            }
        });
        self.metrics.frozen_reason.clear();
        self.metrics.frozen.set(i64::from(suspicion.is_some()));
        if let Some(suspicion) = suspicion {
            self.metrics.frozen_reason.get_or_create(&ReasonLabel(suspicion.kind.as_str())).set(1);
            let (expected, found) = (suspicion.expected.map(|head| head.seq), suspicion.found.seq);
            tracing::error!(
                kind = suspicion.kind.as_str(),
                expected,
                found,
                "slashing protection is frozen: {}; slashable messages are refused until the keys are fenced",
                suspicion.kind
            );
        }
    }

    fn freeze(&self, reason: FreezeReason) {
        let first = self.health.send_if_modified(|health| match health {
            GuardHealth::Serving | GuardHealth::Suspect(_) => {
                *health = GuardHealth::Frozen { reason };
                true
            }
            GuardHealth::Frozen { .. } => false,
        });
        if first {
            self.metrics.frozen_reason.clear();
            self.metrics.frozen_reason.get_or_create(&ReasonLabel(reason.as_str())).set(1);
            self.metrics.frozen.set(1);
            tracing::error!(%reason, "slashing protection is frozen");
        }
    }

    /// Why a request got no answer.
    pub(crate) fn gone(&self) -> Refusal {
        self.frozen().map_or(Refusal::ShuttingDown, Refusal::Frozen)
    }

    /// Why an administrative operation got no answer.
    pub(crate) fn admin_gone(&self) -> AdminError {
        self.frozen().map_or(AdminError::ShutDown, AdminError::Frozen)
    }
}

/// The two threads and the ways to reach them. Dropping it stops both and waits for them.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    channels: Option<(mpsc::Sender<Command>, mpsc::Sender<Read>)>,
    /// Dropped to end the heartbeat.
    beating: Option<heartbeat::Beating>,
    /// The way to the archiver, if batches are archived.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) archiver: Option<Waker>,
    threads: Vec<JoinHandle<()>>,
    /// Stand-ins for the moment of dropping, always closed.
    closed: (mpsc::Sender<Command>, mpsc::Sender<Read>),
}

impl Core {
    /// Compares the database with its anchor, and starts both threads.
    pub(crate) fn start(
        mut store: Box<dyn Store>,
        reader: Box<dyn ReadStore>,
        instance: InstanceId,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        #[cfg(feature = "fault-injection")]
        if let Some(plan) = settings.faults.clone() {
            store = Box::new(crate::store::faulty::FaultyStore::new(store, plan));
        }
        let now = settings.clock.now();
        let root = settings.genesis_validators_root;
        let anchor = settings.anchor.as_deref();
        let anchor = anchor.map(|path| Anchor::attach(path, store.as_mut(), instance, root, now)).transpose()?;
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        let archive_reader = prune::prepare(&settings, store.as_ref())?;
        let (commands, command_queue) = mpsc::channel(settings.queue_capacity.get());
        let (reads, read_queue) = mpsc::channel(READ_QUEUE_CAPACITY);
        let (health, _) = watch::channel(GuardHealth::Serving);
        let holds_new_keys = AtomicBool::new(false);
        let reached = AtomicU64::new(anchor.as_ref().map_or(0, |anchor| anchor.reached().0));
        let shared = Arc::new(Shared { settings, metrics: Metrics::new(), health, holds_new_keys, reached });
        let told = store.suspected();
        let mut committer = Committer {
            store: Some(store),
            instance,
            shared: Arc::clone(&shared),
            anchor,
            suspect: None,
            told,
            unshared: None,
        };
        committer.show_suspicion();
        committer.share();
        let every = committer.store.as_ref().and_then(|store| store.heartbeat_every());
        let mut core = Self {
            shared,
            beating: None,
            channels: Some((commands, reads)),
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            archiver: None,
            threads: Vec::new(),
            closed: (mpsc::channel(1).0, mpsc::channel(1).0),
        };
        core.threads.push(spawn("holdfast-read", move || serve_reads(reader, read_queue))?);
        core.threads.push(spawn("holdfast-commit", move || committer.run(command_queue))?);
        if let Some(every) = every {
            let (beating, body) = heartbeat::new(core.commands(), every);
            core.beating = Some(beating);
            core.threads.push(spawn("holdfast-beat", body)?);
        }
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        if let Some((retention, store)) = archive_reader {
            core.start_archiver(retention, store, instance)?;
        }
        Ok(core)
    }

    pub(crate) fn commands(&self) -> &mpsc::Sender<Command> {
        self.channels.as_ref().map_or(&self.closed.0, |(commands, _)| commands)
    }

    pub(crate) fn reads(&self) -> &mpsc::Sender<Read> {
        self.channels.as_ref().map_or(&self.closed.1, |(_, reads)| reads)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        drop(self.beating.take());
        drop(self.channels.take());
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        drop(self.archiver.take());
        for thread in self.threads.drain(..) {
            // A thread that panicked has frozen protection already.
            drop(thread.join());
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(OpenError::Thread)
}

fn serve_reads(mut store: Box<dyn ReadStore>, mut queue: mpsc::Receiver<Read>) {
    while let Some(read) = queue.blocking_recv() {
        match read {
            Read::Job(job) => job(store.as_mut()),
            Read::Stop(stopped) => {
                drop(store);
                let _ = stopped.send(());
                return;
            }
        }
    }
}

/// The thread that owns the store.
struct Committer {
    /// `None` once frozen: a store of unknown state is never touched again.
    store: Option<Box<dyn Store>>,
    instance: InstanceId,
    shared: Arc<Shared>,
    anchor: Option<Anchor>,
    /// Set while the database is under suspicion.
    suspect: Option<Suspect>,
    /// Since when some instance, this one included, says in a shared database that it suspects it; as last read.
    told: Option<UnixMillis>,
    /// Since when this instance suspects a shared database that does not say so yet.
    unshared: Option<UnixMillis>,
}

/// What a key needs to sign although the database is under suspicion.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    /// Marks of a key fenced since; `None` if the clock is too wrong to say.
    fenced: Option<Watermarks>,
}

impl Suspect {
    /// Suspicion since this moment.
    fn since(shared: &Shared, since: UnixMillis) -> Self {
        Self { fenced: shared.fence_at(since).ok() }
    }

    /// Both suspicions: a key has to be fenced since the later one.
    fn stricter(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => {
                let fenced = one.fenced.zip(other.fenced).map(|(one, other)| one.raised_to(&other));
                Some(Self { fenced })
            }
            (Some(only), None) | (None, Some(only)) => Some(only),
            (None, None) => None,
        }
    }

    /// Whether the key was fenced since the suspicion. No slashable message of any other key was permitted since, so
    /// all that may be missing here lies below.
    fn allows(&self, marks: &Watermarks) -> bool {
        self.fenced.is_some_and(|fence| marks.covers(&fence))
    }
}

/// Freezes protection if the thread unwinds.
struct FreezeOnPanic(Arc<Shared>);

impl Drop for FreezeOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.freeze(FreezeReason::CommitterGone);
        }
    }
}

impl Committer {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let limit = self.shared.settings.max_batch.get();
        let mut taken = Vec::with_capacity(limit);
        let mut batch = Vec::with_capacity(limit);
        let mut beat = false;
        // Last, so that it is dropped first: whoever loses its reply then already finds protection frozen.
        let _freezes = FreezeOnPanic(Arc::clone(&self.shared));
        while queue.blocking_recv_many(&mut taken, limit) > 0 {
            for command in taken.drain(..) {
                match command {
                    Command::Ask(asked) => batch.push(asked),
                    Command::Admin(job) => {
                        self.commit(&mut batch);
                        self.administer(job);
                    }
                    Command::Fence { keys, by, reply } => {
                        self.commit(&mut batch);
                        let result = self.fence(keys.as_deref(), &by);
                        drop(reply.send(result));
                    }
                    Command::Heartbeat => beat = true,
                    Command::Prune { chain, from, upto, reply } => {
                        self.commit(&mut batch);
                        let result = self.prune(chain, from, upto);
                        drop(reply.send(result));
                    }
                    Command::Stop(stopped) => {
                        self.commit(&mut batch);
                        queue.close();
                        self.close();
                        let _ = stopped.send(());
                        return;
                    }
                }
            }
            self.commit(&mut batch);
            if core::mem::take(&mut beat) {
                self.heartbeat();
            }
            let load = if queue.is_empty() { Load::Idle } else { Load::Busy };
            if let Some(store) = &mut self.store {
                store.tidy(load);
            }
            if let Some(anchor) = &mut self.anchor {
                anchor.tidy(load);
            }
        }
        self.close();
    }

    fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.close();
        }
        if let Some(mut anchor) = self.anchor.take() {
            anchor.flush();
        }
    }

    fn freeze(&mut self, reason: FreezeReason) {
        self.shared.freeze(reason);
        drop(self.store.take());
    }

    fn administer(&mut self, job: Job) {
        let freezes = match &mut self.store {
            Some(store) => job(Ok(store.as_mut())),
            None => job(Err(self.shared.frozen().unwrap_or(FreezeReason::CommitterGone))),
        };
        if let Some(reason) = freezes {
            self.distrust(reason);
        }
    }

    /// Judges, commits and answers everything in `batch`, and leaves it empty.
    fn commit(&mut self, batch: &mut Vec<Asked>) {
        let taken = batch.len();
        // Before anything is recorded: a client that has gone cannot use a permit.
        batch.retain(|asked| !asked.is_abandoned());
        self.shared.metrics.abandoned.inc_by(taken.saturating_sub(batch.len()) as u64);
        if batch.is_empty() {
            return;
        }
        let started = Instant::now();
        observe_waits(&self.shared.metrics, batch, started);
        let Some(store) = &mut self.store else {
            let reason = self.shared.frozen().unwrap_or(FreezeReason::CommitterGone);
            refuse_all(batch, &Refusal::Frozen(reason));
            return;
        };
        let (keys, positions) = distinct_keys(batch);
        let mut due = Vec::with_capacity(batch.len());
        let (mut bytes, mut end) = (0, Head::EMPTY);
        let suspect = self.suspect;
        let result = store.commit_batch(&keys, &mut |head, told, rows| {
            let suspect = Suspect::stricter(suspect, told.map(|since| Suspect::since(&self.shared, since)));
            let planned = plan(&self.shared, self.instance, suspect, head, rows, batch, &positions, &mut due);
            bytes = planned.entries.len();
            end = planned.header.as_head();
            planned
        });
        match result {
            Ok(committed) => {
                self.advance(end);
                self.listen();
                let took = started.elapsed();
                self.shared.metrics.observe_commit(took, batch.len() as u64, bytes);
                deliver(&self.shared.metrics, batch, due, &committed, Span { started, took });
            }
            Err(error) => self.fail(batch, error),
        }
    }

    /// Notes in the anchor what is about to be acknowledged.
    fn advance(&mut self, end: Head) {
        let reached = self.shared.reached();
        let landmarks = self.store.as_ref().and_then(|store| store.landmarks());
        if let Some(anchor) = &mut self.anchor
            && anchor.advance(end, reached, landmarks).is_err()
        {
            self.shared.metrics.anchor_failures.inc();
        }
    }

    fn fail(&mut self, batch: &mut Vec<Asked>, error: StoreError) {
        self.shared.metrics.failed_commits.inc();
        let freezes = error.freezes();
        tracing::error!(error = &error as &dyn std::error::Error, entries = batch.len(), "a batch was not committed");
        let refusal = match freezes.map(|reason| self.distrust(reason)) {
            Some(Distrust::Suspect) => Refusal::RollbackSuspected,
            Some(Distrust::Frozen(reason)) => Refusal::Frozen(reason),
            Some(Distrust::Later) | None => Refusal::Unavailable(Arc::new(error)),
        };
        refuse_all(batch, &refusal);
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
