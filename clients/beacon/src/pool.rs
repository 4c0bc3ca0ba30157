//! The set of nodes: who is in it, how healthy each is, who serves what.
//!
//! Why it exists: one place where observations come in and choices come out. What it guarantees: a choice
//! is an immutable snapshot; every change of it is recorded with its reason; the pool starts with nobody
//! reachable and takes nodes in as they come; a node of another network is never asked for anything.

mod conclude;
mod config;
mod control;
mod facts;
mod names;
mod pin;
mod reconfigure;
mod schedule;
mod state;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use holdfast_domain::{Clock, Epoch, Slot, UnixMillis};
use holdfast_traces::Tracer;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

pub use config::{ExpectedNetwork, PoolConfig, Probing, Quorum, ReplayGate};
pub use reconfigure::Lineup;
pub(crate) use state::SyncReport;
pub(crate) use view::Lead;
pub use view::{NodeView, PoolView};

use crate::chain::HeadRef;
use crate::class::EndpointClass;
use crate::confirm::{LeftOut, Rounds};
use crate::deadline::Deadline;
use crate::decision::{Decision, DecisionLog, DecisionSink};
use crate::error::PoolError;
use crate::metrics::Metrics;
use crate::network::PinnedNetwork;
use crate::signal::Signal;
use crate::tasks::Tasks;
use crate::upstream::UpstreamId;

/// Changes a slow listener may be behind before it has to look at the snapshot instead.
const CHANGES_KEPT: usize = 256;

/// How long an answer is waited for while no network is known, and with it no slot.
const WITHOUT_NETWORK: Duration = Duration::from_secs(5);

/// What the pool is given by its surroundings.
#[derive(Clone)]
pub struct Environment {
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are written down.
    pub sink: Arc<dyn DecisionSink>,
    /// Numbers.
    pub metrics: Metrics,
    /// Background tasks; whoever made the group stops it.
    pub tasks: Tasks,
    /// Says which requests are recorded.
    pub tracer: Tracer,
}

/// What happened to a node, for those who have to tell it things again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which node.
    pub upstream: UpstreamId,
    /// What.
    pub kind: ChangeKind,
}

/// Kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It answers for the first time, and is on the right network.
    Joined,
    /// It answers again after having been away.
    Rejoined,
    /// It was restarted, as far as can be seen.
    Restarted,
    /// It is trusted more.
    Promoted,
    /// It is trusted less.
    Demoted,
    /// It does not answer any more, or was removed.
    Left,
}

impl ChangeKind {
    /// Whether the node may have forgotten what it was told, so that it has to be told again and
    /// [`Pool::replayed`] is waited for.
    pub const fn needs_replay(self) -> bool {
        match self {
            Self::Joined | Self::Rejoined | Self::Restarted => true,
            Self::Promoted | Self::Demoted | Self::Left => false,
        }
    }
}

/// What is known of a node's event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// Connected; head events are reported by [`Pool::observe_head`].
    Connected,
    /// Lost, or given up by its watchdog.
    Lost,
}

/// The set of nodes.
pub struct Pool {
    config: PoolConfig,
    environment: Environment,
    signal: Arc<Signal>,
    state: Mutex<state::State>,
    view: ArcSwap<PoolView>,
    /// Counts snapshots.
    generation: watch::Sender<u64>,
    network: ArcSwapOption<PinnedNetwork>,
    pinned: watch::Sender<bool>,
    changes: broadcast::Sender<Change>,
    decisions: DecisionLog,
    rounds: Rounds,
    left_out: LeftOut,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts probing. Returns when the network is known, or after [`Probing::start_wait`] without: nodes
    /// that are not there yet are taken in when they come.
    ///
    /// # Errors
    /// [`PoolError`] if no upstream is configured or one cannot be used as configured.
    pub async fn start(config: PoolConfig, environment: Environment) -> Result<Arc<Self>, PoolError> {
        let pool = Self::new(config, environment)?;
        crate::probe::start(&pool);
        let wait = pool.config.probing.start_wait;
        let mut pinned = pool.pinned.subscribe();
        if tokio::time::timeout(wait, pinned.wait_for(|pinned| *pinned)).await.is_err() {
            pool.pin_now();
        }
        pool.report_start();
        Ok(pool)
    }

    /// A pool whose nodes are not probed yet.
    pub(crate) fn new(config: PoolConfig, environment: Environment) -> Result<Arc<Self>, PoolError> {
        if config.upstreams.is_empty() {
            return Err(PoolError::Empty);
        }
        let signal = Arc::new(Signal::new(environment.tracer.clone()));
        let decisions = DecisionLog::new(Arc::clone(&environment.sink));
        let pool = Arc::new(Self {
            state: Mutex::new(state::State::default()),
            view: ArcSwap::default(),
            generation: watch::Sender::new(0),
            network: ArcSwapOption::empty(),
            pinned: watch::Sender::new(false),
            changes: broadcast::channel(CHANGES_KEPT).0,
            decisions,
            rounds: Rounds::default(),
            left_out: LeftOut::default(),
            signal,
            environment,
            config,
        });
        for upstream in &pool.config.upstreams {
            pool.take_in(upstream.clone(), state::Arrival::AtStart)?;
        }
        Ok(pool)
    }

    /// The snapshot of now.
    pub fn view(&self) -> Arc<PoolView> {
        self.view.load_full()
    }

    /// The network, once it is known.
    pub fn network(&self) -> Option<Arc<PinnedNetwork>> {
        self.network.load_full()
    }

    /// Says which requests are recorded.
    pub(crate) fn tracer(&self) -> &Tracer {
        self.signal.tracer()
    }

    /// Time of day.
    pub fn now(&self) -> UnixMillis {
        self.environment.clock.now()
    }

    /// The slot of now; `None` while no network is known.
    pub fn slot(&self) -> Option<Slot> {
        self.network().map(|network| network.slot_at(self.now()))
    }

    /// The epoch of now; `None` while no network is known.
    pub fn epoch(&self) -> Option<Epoch> {
        self.network().map(|network| network.epoch_at(self.now()))
    }

    /// When the answer to a request of this class that has just come is due, and until when it is waited for.
    pub fn deadline(&self, class: EndpointClass) -> Deadline {
        self.network()
            .map_or_else(|| (Instant::now() + WITHOUT_NETWORK).into(), |network| network.deadline(class, self.now()))
    }

    /// Background tasks of the switcher.
    pub fn tasks(&self) -> &Tasks {
        &self.environment.tasks
    }

    /// The switcher's numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.environment.metrics
    }

    /// The configuration the pool was started with.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Changes from now on. A receiver that lags looks at [`Self::view`] instead.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Marked as changed with each new snapshot.
    pub fn view_changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// An event told a node's head.
    pub fn observe_head(&self, id: UpstreamId, head: HeadRef) {
        let slot = self.signal.slot();
        self.update(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.head_event(head, slot);
            }
        });
    }

    /// A node's event stream came or went.
    pub fn observe_stream(&self, id: UpstreamId, stream: StreamState) {
        let slot = self.signal.slot();
        self.update(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.stream(stream, slot);
            }
        });
    }

    /// Everything remembered has been told to a node again.
    pub fn replayed(&self, id: UpstreamId) {
        self.update(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.hysteresis.replayed();
            }
        });
    }

    /// Logs, counts and writes down a decision.
    pub fn record_decision(&self, decision: Decision) {
        self.environment.metrics.decided(decision.kind);
        self.decisions.record(self.now(), decision);
    }

    /// The last decisions, oldest first.
    pub fn last_decisions(&self) -> Vec<(UnixMillis, Decision)> {
        self.decisions.last()
    }

    pub(crate) fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Nodes that cannot tell liveness.
    pub(crate) fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    fn lock(&self) -> MutexGuard<'_, state::State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes facts and draws the conclusions: a new snapshot, decisions, changes.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut state::State) -> R) -> R {
        let network = self.network();
        let now = network.as_ref().map(|network| state::Moment::of(network, self.now()));
        let mut state = self.lock();
        let result = change(&mut state);
        let conclusions = state.conclude(&self.config, now);
        if let Some(network) = &conclusions.network {
            // Under the lock: of two changes the later one stays.
            self.network.store(Some(Arc::clone(network)));
        }
        let replaced = self.view.swap(Arc::clone(&conclusions.view));
        drop(state);
        if !Arc::ptr_eq(&replaced, &conclusions.view) {
            self.generation.send_modify(|generation| *generation = generation.wrapping_add(1));
        }
        for class in conclusions.switched {
            self.environment.metrics.switched(class);
        }
        for decision in conclusions.decisions {
            self.record_decision(decision);
        }
        for change in conclusions.changes {
            // Nobody listening is fine.
            let _ = self.changes.send(change);
        }
        result
    }
}

#[cfg(test)]
mod tests;
