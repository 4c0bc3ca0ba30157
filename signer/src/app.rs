//! The composition root: the only place that knows every part, and the order in which they start
//! and stop.
//!
//! Start: bind, open the record, accept, load keys, ready. Stop: unready, send clients elsewhere, stop accepting,
//! finish what is in progress, close the record, drop the keys.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_domain::{Clock, GenesisValidatorsRoot, SlotClock};
use holdfast_enclave::{Keyring, SignError};
use holdfast_slashing_db::{FreezeReason, Guard};
use holdfast_traces::Tracer;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::admin::{self, AdminDoor, Desk, Gate};
use crate::anchors::Anchors;
use crate::approval;
use crate::callers::{Callers, Door};
use crate::checkpoints::{CheckpointMetrics, Checkpoints};
use crate::config::{Config, Layers};
use crate::custody::{self, Custody, CustodyError, ProviderMetrics};
use crate::doors::Doors;
use crate::drain::{Tasks, Unfinished};
use crate::http::server::{self, BindError, Listening, ServerBounds};
use crate::http::socket::{self, Bound};
use crate::http::{Api, ApiOptions, BodyBounds, HostPolicy, Probes};
use crate::keymanager::{Intake, KeyManager, Token};
#[cfg(feature = "backend-process")]
use crate::lease::Lease;
use crate::loader::KeyLoader;
use crate::metrics::Metrics;
use crate::pipeline::{KeysReady, Signer};
use crate::policy::{PolicyStore, RuleSources};
use crate::reload::{Reach, Reloads};
use crate::status::{Board, SignerParts, Sources};
use crate::switcher::{CrossChecker, Doppelganger, Running};
use crate::vault::Backend;

/// How long an idle connection is kept at shutdown, for what was sent on it before: time for a busy machine to read it.
const LAST_WORD: Duration = Duration::from_millis(250);

/// How long a scraper may take to finish when the process stops.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// What to do about a port somebody else listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortTaken {
    /// Give up and say so: clients are configured for this port.
    GiveUp,
    /// Take any free port of the same address.
    TakeAnother,
}

/// The listeners' sockets, and who gets in. Clients can connect from the moment this exists; they are served later.
pub(crate) struct Sockets {
    http: Bound,
    /// The signing API's Unix socket, if there is one.
    unix: Option<Bound>,
    metrics: Bound,
    /// The admin API over TCP, if it is configured.
    admin: Option<Bound>,
    /// Callers and TLS.
    pub(crate) doors: Doors,
}

impl Sockets {
    /// Takes all addresses. Must be called inside the runtime.
    ///
    /// # Errors
    /// [`BindError`], which names the address and the option that changes it.
    pub(crate) fn bind(config: &Config, taken: PortTaken, doors: Doors) -> Result<Self, BindError> {
        let http = bind(config.http.listen, "--http-listen", taken)?;
        let metrics = bind(config.metrics.listen, "--metrics-listen", taken)?;
        let unix = config.http.listen_unix.as_deref().map(socket::bind_unix).transpose()?;
        let admin = config.admin.listen.map(|address| server::bind(address, "--admin-listen")).transpose()?;
        Ok(Self { http, unix, metrics, admin, doors })
    }

    /// Where they are, with the ports they really got.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses { http: self.http.address, metrics: self.metrics.address }
    }
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The signing API.
    pub(crate) http: SocketAddr,
    /// Metrics and probes.
    pub(crate) metrics: SocketAddr,
}

fn bind(address: SocketAddr, flag: &'static str, taken: PortTaken) -> Result<Bound, BindError> {
    match (server::bind(address, flag), taken) {
        (Err(BindError::InUse { .. }), PortTaken::TakeAnother) => server::bind(SocketAddr::new(address.ip(), 0), flag),
        (result, PortTaken::GiveUp | PortTaken::TakeAnother) => result,
    }
}

/// Starts serving on the sockets; returns the admin API's, which is served when all else is there.
fn listen(
    config: &Config,
    sockets: Sockets,
    (api, api_of_unix, connections, tasks): (Arc<Api>, Option<Arc<Api>>, Gauge, &Tasks),
    (probes, probe_tasks): (Arc<Probes>, &Tasks),
) -> Option<AdminDoor> {
    let Sockets { http, unix, metrics, admin, doors } = sockets;
    let admin = doors.of_admin(config, admin);
    doors.watch(tasks);
    let head_timeout = Duration::from_secs(config.http.header_timeout_seconds.get());
    let bounds =
        ServerBounds { max_connections: config.http.max_connections.get(), head_timeout, last_word: LAST_WORD };
    if let (Some(unix), Some(api)) = (unix, api_of_unix) {
        server::start(unix, api, bounds, connections.clone(), tasks);
    }
    server::start(Listening { bound: http, tls: doors.http }, api, bounds, connections, tasks);
    let bounds = ServerBounds { max_connections: server::METRICS_CONNECTIONS, head_timeout, last_word: Duration::ZERO };
    server::start(Listening { bound: metrics, tls: doors.metrics }, probes, bounds, Gauge::default(), probe_tasks);
    admin
}

/// Asks the consensus clients about votes, where the switcher runs in this process.
fn cross_checker(config: &Config, running: Option<&Arc<Running>>) -> Option<CrossChecker> {
    running.map(|running| CrossChecker::new(Arc::clone(&running.pool), config.switcher.cross_check))
}

/// Bounds of the signing API, as configured.
fn api_options(
    config: &Config,
    hosts: HostPolicy,
    keymanager: Option<Arc<KeyManager>>,
    (callers, door): (&Arc<Callers>, Door),
) -> ApiOptions {
    ApiOptions {
        hosts,
        body_bounds: BodyBounds {
            bytes: config.http.max_body_bytes.get(),
            time: Duration::from_secs(config.http.body_timeout_seconds.get()),
        },
        max_requests: config.http.max_requests.get(),
        max_rate: NonZeroU32::new(config.http.max_requests_per_second),
        callers: Arc::clone(callers),
        door,
        keymanager,
    }
}

/// The signing API on its address, and on its Unix socket if there is one.
fn apis(
    config: &Config,
    sockets: &Sockets,
    (signer, loader, metrics): (&Arc<Signer>, &Arc<KeyLoader>, &Arc<Metrics>),
    hosts: &HostPolicy,
    keymanager: Option<&Arc<KeyManager>>,
) -> (Arc<Api>, Option<Arc<Api>>) {
    let api = |door, hosts| {
        let options = api_options(config, hosts, keymanager.cloned(), (&sockets.doors.callers, door));
        Arc::new(Api::new(Arc::clone(signer), Arc::clone(loader), Arc::clone(metrics), options))
    };
    // No web page reaches a Unix socket, and clients name its host as they like.
    let of_unix = sockets.unix.is_some().then(|| api(Doors::of_unix(), HostPolicy::Any));
    (api(Doors::of_http(config), hosts.clone()), of_unix)
}

/// Looks again and again at what may change without this process: the record, the keys of other instances, the
/// providers of the data key.
fn watch_custody(
    config: &Config,
    guard: &Guard,
    loader: &Arc<KeyLoader>,
    providers: Arc<ProviderMetrics>,
    tasks: &Tasks,
) {
    tasks.spawn(crate::rollback::watch(guard.clone(), config.slashing.on_rollback, tasks.stopping()));
    tasks.spawn(crate::follow::watch(Arc::clone(loader), tasks.stopping()));
    let every = Duration::from_secs(u64::from(config.keys.check_minutes).saturating_mul(60));
    tasks.spawn(custody::watch_providers(Arc::clone(loader), providers, every, tasks.stopping()));
}

/// What the metrics listener answers: metrics, the probes of what is alive and ready, the status page.
fn probes(
    config: &Config,
    sockets: &Sockets,
    (signer, loader, metrics): (&Arc<Signer>, &Arc<KeyLoader>, &Arc<Metrics>),
    (running, slot_clock, clock): (Option<&Arc<Running>>, SlotClock, Arc<dyn Clock>),
    tasks: &Tasks,
    hosts: HostPolicy,
) -> Probes {
    let rendered = Arc::clone(metrics);
    let board = Board::start(Sources {
        render: Box::new(move || rendered.render()),
        signer: Some(SignerParts {
            signer: Arc::clone(signer),
            loader: Arc::clone(loader),
            slot_clock,
            checkpoint_minutes: config.audit.checkpoint_minutes,
        }),
        running: running.cloned(),
        clock,
        tasks: tasks.clone(),
    });
    Probes {
        signer: Arc::clone(signer),
        loader: Arc::clone(loader),
        metrics: Arc::clone(metrics),
        tasks: tasks.clone(),
        callers: Arc::clone(&sockets.doors.callers),
        door: Doors::of_metrics(config),
        // Scrapers of other machines come under any name; on loopback it is this machine, whatever clients call the API.
        hosts: if sockets.metrics.address.ip().is_loopback() { hosts.with_loopback() } else { HostPolicy::Any },
        board,
    }
}

/// Numbers of what goes on beside signing.
fn register_beside(
    registry: &mut Registry,
    tracer: &Tracer,
    providers: &ProviderMetrics,
    checkpoints: &CheckpointMetrics,
) {
    tracer.register(registry.sub_registry_with_prefix("traces"));
    providers.register(registry);
    checkpoints.register(registry);
}

/// What keys are administered through: the Keymanager API, if there is a token for it, and what the admin API works on.
fn administration(
    config: &Config,
    genesis: GenesisValidatorsRoot,
    (signer, loader, clock): (Arc<Signer>, Arc<KeyLoader>, Arc<dyn Clock>),
    tasks: &Tasks,
    token: Option<Token>,
    desk: impl FnOnce(Gate, Arc<KeyLoader>, Arc<Intake>) -> Desk,
) -> (Option<Arc<KeyManager>>, Desk) {
    let budget = Arc::new(custody::kdf_budget(config));
    let intake = Arc::new(Intake::new(Arc::clone(&signer), Arc::clone(&loader), genesis, budget));
    let gate = Gate::new(Some(signer.guard.clone()), clock, tasks.clone()).under(Arc::clone(&signer.policy));
    let desk = desk(gate.clone(), Arc::clone(&loader), Arc::clone(&intake));
    let keymanager = token.map(|token| Arc::new(KeyManager::new(config, genesis, signer, loader, intake, gate, token)));
    (keymanager, desk)
}

/// A server, accepting requests.
pub(crate) struct App {
    api: Arc<Api>,
    loader: Arc<KeyLoader>,
    reloads: Arc<Reloads>,
    guard: Guard,
    backend: Backend,
    checkpoints: Arc<Checkpoints>,
    /// Keeps the vault's lease, where it signs by leases.
    #[cfg(feature = "backend-process")]
    lease: Option<Arc<Lease>>,
    /// The switcher, where it runs in this process.
    running: Option<Arc<Running>>,
    tasks: Tasks,
    /// The metrics listener's, which is the last to stop: until then it says that the process is unready.
    probe_tasks: Tasks,
    shutdown_delay: Duration,
    drain_timeout: Duration,
}

/// How stopping went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Signing requests that were in progress when stopping began, and were answered.
    pub(crate) finished: usize,
    /// Those that were not answered by the deadline.
    pub(crate) cut_off: usize,
}

impl App {
    /// Puts the parts together and starts accepting. Keys come with [`Self::load_keys`]. Without a token
    /// there is no Keymanager API.
    ///
    /// # Errors
    /// [`SignError`] if the signing threads cannot be started.
    pub(crate) fn start(
        config: &Config,
        custody: Custody,
        sockets: Sockets,
        clock: Arc<dyn Clock>,
        keymanager_token: Option<Token>,
        running: Option<Arc<Running>>,
        (policy, anchors, layers, tracer): (RuleSources, Anchors, &Layers, Tracer),
    ) -> Result<Self, SignError> {
        let backend = Backend::start(config, &custody.network)?;
        #[cfg(feature = "backend-process")]
        let lease =
            backend.process().and_then(|vault| Lease::new(config, vault, custody.slot_clock, Arc::clone(&clock)));
        let (guard, genesis) = (custody.guard.clone(), custody.genesis_validators_root);
        let approvals = approval::Gate::of(&custody, config);
        let desk = Desk::running(&custody, config, approvals.clone());
        let shown = (running.as_ref(), custody.slot_clock, Arc::clone(&clock));
        let (tasks, probe_tasks) = (Tasks::new(), Tasks::new());
        let (providers, checkpoint_metrics) = (Arc::<ProviderMetrics>::default(), CheckpointMetrics::with(&anchors));
        // Before anything is served: from here on newly enabled keys are held back, if so configured.
        let doppelganger = running.as_ref().and_then(|running| {
            Doppelganger::new(config, &guard, &running.pool, custody.slot_clock, Arc::clone(&clock))
        });
        let policy = Arc::new(PolicyStore::new(policy, Arc::clone(&clock)));
        let signer = Some((Arc::clone(&policy), guard.clone(), approvals));
        let reach = Reach { signer, files: sockets.doors.files(), running: running.clone() };
        let reloads = Reloads::new(layers.clone(), config, reach, Arc::clone(&clock), tasks.clone());
        let metrics = Arc::new(Metrics::new(|registry| {
            if let Some(running) = &running {
                running.register(registry);
            }
            if let Some(doppelganger) = &doppelganger {
                doppelganger.register(registry);
            }
            crate::upkeep::register(registry, config.data_dir());
            let registry = registry.sub_registry_with_prefix("holdfast");
            guard.metrics().register(registry);
            policy.register(registry);
            reloads.register(registry);
            backend.register(registry);
            #[cfg(feature = "backend-process")]
            if let Some(lease) = &lease {
                lease.register(registry);
            }
            sockets.doors.register(registry);
            register_beside(registry, &tracer, &providers, &checkpoint_metrics);
        }));
        let signer = Arc::new(Signer {
            network: custody.network.clone(),
            policy: Arc::clone(&policy),
            guard: guard.clone(),
            keyring: ArcSwap::from_pointee(Keyring::new()),
            keys_ready: KeysReady::default(),
            metrics: Arc::clone(&metrics),
            cross_check: cross_checker(config, running.as_ref()),
            doppelganger: doppelganger.clone(),
            #[cfg(feature = "backend-process")]
            lease: lease.clone(),
            timeout: Duration::from_secs(config.http.request_timeout_seconds.get()),
            tracer,
            next_request: AtomicU64::new(1),
        });
        let loader = Arc::new(KeyLoader::new(
            custody,
            config.clone(),
            Arc::clone(&signer),
            backend.place(),
            Arc::clone(&clock),
            (tasks.clone(), Arc::clone(&providers)),
        ));
        let parts = (Arc::clone(&signer), Arc::clone(&loader), Arc::clone(&clock));
        let callers = Arc::clone(&sockets.doors.callers);
        let (keymanager, desk) = administration(config, genesis, parts, &tasks, keymanager_token, desk);
        // Their tasks end with the last ones: the last checkpoint is made when all else has stopped.
        let elsewhere = (checkpoint_metrics, anchors.start(&probe_tasks));
        let checkpoints = Arc::new(Checkpoints::new(config, guard.clone(), Arc::clone(&loader), clock, elsewhere));
        let hosts = HostPolicy::new(config.http.allowed_hosts.iter().map(String::as_str));
        let parts = (&signer, &loader, &metrics);
        let (api, api_of_unix) = apis(config, &sockets, parts, &hosts, keymanager.as_ref());
        let probes = probes(config, &sockets, parts, shown, &tasks, hosts);

        let serving = (Arc::clone(&api), api_of_unix, metrics.connections.clone(), &tasks);
        let door = listen(config, sockets, serving, (Arc::new(probes), &probe_tasks));

        policy.watch(&guard, &tasks);
        tasks.spawn(Arc::clone(&checkpoints).watch(tasks.stopping()));
        watch_custody(config, &guard, &loader, providers, &tasks);
        if let Some(doppelganger) = doppelganger {
            tasks.spawn(doppelganger.watch(tasks.stopping()));
        }
        if let Some(generations) = backend.generations() {
            tasks.spawn(crate::vault::watch(generations, Arc::clone(&loader), tasks.stopping()));
        }
        #[cfg(feature = "backend-process")]
        if let Some(lease) = &lease {
            tasks.spawn(Arc::clone(lease).watch(Arc::clone(&loader), tasks.stopping()));
        }
        admin::serve(config, desk, (running.as_ref(), &loader, &callers), &reloads, door, &tasks);
        Ok(Self {
            api,
            loader,
            reloads,
            guard,
            backend,
            checkpoints,
            #[cfg(feature = "backend-process")]
            lease,
            running,
            tasks,
            probe_tasks,
            shutdown_delay: Duration::from_secs(config.http.shutdown_delay_seconds),
            drain_timeout: Duration::from_secs(config.http.drain_timeout_seconds.get()),
        })
    }

    /// Opens the stored keys. Requests are answered 503 until this is done.
    ///
    /// # Errors
    /// [`CustodyError`] if the data key cannot be had or the record cannot be read.
    pub(crate) async fn load_keys(&self) -> Result<usize, CustodyError> {
        self.loader.load_first().await
    }

    /// What takes changed configurations over.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Waits until protection freezes, which in good times is never.
    pub(crate) async fn frozen(&self) -> FreezeReason {
        self.guard.frozen().await
    }

    /// How long [`Self::stop`] may take to serve on and to finish what was begun.
    pub(crate) fn stops_within(&self) -> Duration {
        self.shutdown_delay.saturating_add(self.drain_timeout)
    }

    /// Stops in good order: unready at once, then for the configured delay serving as before, then no longer
    /// accepting and finishing what was begun. What is still in progress at the deadline is cut off: recorded,
    /// but not answered; the client may send it again.
    pub(crate) async fn stop(self) -> Stopped {
        self.tasks.begin_leaving();
        let in_progress = self.api.in_flight();
        if !self.shutdown_delay.is_zero() {
            info!(in_progress, seconds = self.shutdown_delay.as_secs(), "unready; serving on until clients have moved");
            tokio::time::sleep(self.shutdown_delay).await;
        }
        info!(in_progress, "stopping: no new connections, finishing requests in progress");
        let drained = self.tasks.stop(self.drain_timeout).await;
        let cut_off = self.api.in_flight();
        if let Err(Unfinished { tasks }) = drained {
            warn!(tasks, cut_off, seconds = self.drain_timeout.as_secs(), "not everything finished in time");
        }
        if let Some(running) = &self.running {
            running.stop().await;
        }
        self.checkpoints.close().await;
        self.guard.shutdown().await;
        // Nothing is signed any more, so the vault's marks are its last.
        #[cfg(feature = "backend-process")]
        if let Some(lease) = &self.lease {
            lease.release().await;
        }
        // It waits for threads, and with a vault for the end of a process.
        let backend = self.backend;
        if tokio::task::spawn_blocking(move || backend.shutdown()).await.is_err() {
            warn!("the backend did not stop in good order: report this as a bug");
        }
        // A scraper in the middle of an answer may finish it.
        if self.probe_tasks.stop(PROBE_TIMEOUT).await.is_err() {
            warn!("a connection to the metrics listener was cut off");
        }
        let finished = in_progress.saturating_sub(cut_off);
        info!(finished, cut_off, "stopped; the database is closed");
        Stopped { finished, cut_off }
    }
}
