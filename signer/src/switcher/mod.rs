//! The switcher and the execution pool in this process: put together, started, stopped, asked.
//!
//! Why it exists: `holdfast_beacon` knows neither configuration nor sockets nor the signer. What it guarantees:
//! the same parts whether the signer runs beside them or not; nothing listens before its nodes have been asked
//! who they are.

mod cross_check;
mod doppelganger;
mod journal;
mod nodes;
mod reload;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_beacon::execution::{
    BadPattern, ExecutionConfig, ExecutionEnvironment, ExecutionMetrics, ExecutionPool, MethodPolicy, ServerBounds,
    serve,
};
use holdfast_beacon::route::vote::{Quorum, VoteRule};
use holdfast_beacon::route::{self, RoutingConfig, Switcher};
use holdfast_beacon::{
    Balancing, ByteStream, DecisionSink, Door, EndpointClass, Environment, ExpectedNetwork, Metrics, NoSink, Opening,
    Pool, PoolConfig, PoolError, ReplayGate, Tasks,
};
use holdfast_domain::{Clock, Network};
use holdfast_slashing_db::Guard;
use holdfast_traces::Tracer;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Config, HeavyRoutes, NetworkChoice, NoQuorum, UnknownRoutes};
use crate::doors::Doors;
use crate::http::server::{self, BindError};
use crate::tls::Tls;

pub(crate) use cross_check::CrossChecker;
pub(crate) use doppelganger::Doppelganger;
pub(crate) use nodes::{NodeError, consensus, execution, without_line_break};
pub(crate) use reload::Nodes;

/// How long answers in progress may take when the process stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Classes without which a validator client cannot do its duties.
const NEEDED: [EndpointClass; 4] =
    [EndpointClass::Duty, EndpointClass::AttestationData, EndpointClass::Produce, EndpointClass::Submit];

/// TLS on the way into a pool.
struct TlsDoor(Arc<Tls>);

impl Door for TlsDoor {
    fn open(&self, stream: TcpStream, peer: SocketAddr) -> Opening {
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            // Failures are counted and logged there.
            let (stream, _) = tls.accept(stream, peer.ip()).await.ok()?;
            Some(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// Why the switcher cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitcherError {
    /// A node of the configuration cannot be used.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The pool of consensus clients cannot start.
    #[error("the switcher cannot start")]
    Pool(#[from] PoolError),
    /// The pool of execution clients cannot start.
    #[error("the execution pool cannot start")]
    Execution(#[source] PoolError),
    /// The nodes cannot be in one pool, or one of them cannot be used.
    #[error("the nodes of the configuration")]
    Nodes(#[source] PoolError),
    /// A method pattern is none.
    #[error("execution.allowed_methods")]
    Methods(#[from] BadPattern),
    /// The network is not a usable one.
    #[error("network.name is {name}, which cannot be used")]
    Network {
        /// As configured.
        name: NetworkChoice,
    },
}

/// Sockets of the switcher and of the execution pool, as far as they are switched on.
pub(crate) struct PoolSockets {
    switcher: Option<Socket>,
    execution: Option<Socket>,
}

/// A socket of a pool, and its TLS.
struct Socket {
    listener: TcpListener,
    address: SocketAddr,
    door: Option<Arc<dyn Door>>,
}

impl PoolSockets {
    /// Takes the addresses. Must be called inside the runtime.
    ///
    /// # Errors
    /// [`BindError`], which names the address and what changes it.
    pub(crate) fn bind(config: &Config, doors: &Doors) -> Result<Self, BindError> {
        let take = |enabled: bool, address, option, tls: &Option<Arc<Tls>>| {
            let bound = enabled.then(|| server::bind(address, option)).transpose()?;
            let socket = bound.and_then(|bound| {
                let address = bound.address;
                let door = tls.as_ref().map(|tls| Arc::new(TlsDoor(Arc::clone(tls))) as Arc<dyn Door>);
                bound.into_listener().map(|listener| Socket { listener, address, door })
            });
            Ok::<_, BindError>(socket)
        };
        let (switcher, execution) = (&config.switcher, &config.execution);
        Ok(Self {
            switcher: take(switcher.enabled, switcher.listen, "--switcher-listen", &doors.switcher)?,
            execution: take(execution.enabled, execution.listen, "execution.listen =", &doors.execution)?,
        })
    }

    /// None at all, for a server without pools.
    pub(crate) const fn none() -> Self {
        Self { switcher: None, execution: None }
    }

    /// Where they are, with the ports they really got.
    pub(crate) fn addresses(&self) -> PoolAddresses {
        let address = |socket: &Option<Socket>| socket.as_ref().map(|socket| socket.address);
        PoolAddresses { switcher: address(&self.switcher), execution: address(&self.execution) }
    }
}

/// Where the switcher and the execution pool listen, as far as they are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PoolAddresses {
    /// The Beacon API.
    pub(crate) switcher: Option<SocketAddr>,
    /// The execution pool's JSON-RPC.
    pub(crate) execution: Option<SocketAddr>,
}

/// A running switcher.
pub(crate) struct Running {
    /// The consensus clients.
    pub(crate) pool: Arc<Pool>,
    numbers: Metrics,
    execution: Option<(Arc<ExecutionPool>, ExecutionMetrics)>,
    /// The nodes as the configuration has them, which commands do not change.
    configured: Mutex<Nodes>,
    /// Decisions that did not come into the journal, where there is one.
    lost: Option<Counter>,
    tasks: Tasks,
    /// Writes the journal, and stops after all else.
    writing: Tasks,
}

impl Running {
    /// Starts what the configuration switches on; `None` if that is nothing. Decisions go into the journal of `guard`;
    /// without one there is none, and they are only logged and counted.
    ///
    /// # Errors
    /// [`SwitcherError`], before anything is served.
    pub(crate) async fn start(
        config: &Config,
        sockets: PoolSockets,
        expected: Option<ExpectedNetwork>,
        (clock, tracer): (Arc<dyn Clock>, Tracer),
        guard: Option<Guard>,
    ) -> Result<Option<Arc<Self>>, SwitcherError> {
        let PoolSockets { switcher, execution } = sockets;
        let Some(switcher) = switcher else { return Ok(None) };
        let (tasks, writing) = (Tasks::new(), Tasks::new());
        let numbers = Metrics::default();
        let (sink, lost) = journaling(guard, Arc::clone(&clock), &writing);
        let environment = Environment { clock, sink, metrics: numbers.clone(), tasks: tasks.clone(), tracer };
        let configured = Mutex::new(Nodes::read(config, execution.is_some())?);
        let execution = execution.map(|socket| start_execution(config, socket, &environment)).transpose()?;
        let pool = Pool::start(pool_config(config, expected)?, environment).await?;
        let beacon_api = Switcher::start_beside(&pool, routing(config), nodes::middleware(config)?);
        let bounds = holdfast_beacon::server::ServerBounds::default();
        holdfast_beacon::server::serve(switcher.listener, switcher.door, beacon_api, bounds, &tasks);
        Ok(Some(Arc::new(Self { pool, numbers, execution, configured, lost, tasks, writing })))
    }

    /// The execution clients, if that pool is switched on.
    pub(crate) fn execution(&self) -> Option<&Arc<ExecutionPool>> {
        self.execution.as_ref().map(|(pool, _)| pool)
    }

    /// Adds the numbers of what runs to the process's registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.numbers.register(registry);
        if let Some((_, numbers)) = &self.execution {
            numbers.register(registry);
        }
        if let Some(lost) = &self.lost {
            let help = "Decisions of the switcher that could not be written into the journal";
            registry.register("holdfast_switcher_decisions_not_journaled", help, lost.clone());
        }
    }

    /// Why validator clients should go elsewhere; `None` if they should come here.
    pub(crate) fn unready(&self) -> Option<String> {
        let view = self.pool.view();
        if self.pool.network().is_none() {
            return Some("no consensus client has answered yet".to_owned());
        }
        let missing: Vec<&str> =
            NEEDED.into_iter().filter(|class| view.candidates(*class).is_empty()).map(EndpointClass::as_str).collect();
        (!missing.is_empty()).then(|| format!("no consensus client can serve {}", missing.join(", ")))
    }

    /// Everything that is known, as a document.
    pub(crate) fn status(&self) -> Value {
        let execution = self.execution.as_ref().map(|(pool, _)| pool.status());
        json!({ "switcher": self.pool.status(), "execution": execution })
    }

    /// Stops accepting, finishes what is in progress, and writes the last decisions down.
    pub(crate) async fn stop(&self) {
        let cut_off = self.tasks.stop(STOP_TIMEOUT).await;
        if cut_off > 0 {
            tracing::warn!(cut_off, "the switcher cut off what was in progress");
        }
        if self.writing.stop(STOP_TIMEOUT).await > 0 {
            tracing::warn!("the last decisions of the switcher are not in the journal: the database does not answer");
        }
    }
}

/// Where decisions go, and the count of those that did not get there.
fn journaling(
    guard: Option<Guard>,
    clock: Arc<dyn Clock>,
    writing: &Tasks,
) -> (Arc<dyn DecisionSink>, Option<Counter>) {
    let Some(guard) = guard else { return (Arc::new(NoSink), None) };
    let (sink, writer) = journal::pair(clock);
    let lost = writer.lost();
    let record = move |event| guard.record(event);
    writing.spawn(writer.run(record, writing.stopping()));
    (Arc::new(sink), Some(lost))
}

fn pool_config(config: &Config, expected: Option<ExpectedNetwork>) -> Result<PoolConfig, SwitcherError> {
    let upstreams = config.consensus_nodes().iter().map(consensus).collect::<Result<_, _>>()?;
    Ok(PoolConfig {
        upstreams,
        balancing: Balancing { default: nodes::policy(config.switcher.balance), ..Balancing::default() },
        expected,
        replay: ReplayGate::Wait,
        ..PoolConfig::default()
    })
}

fn routing(config: &Config) -> RoutingConfig {
    let quorum = config.switcher.quorum.map_or(Quorum::Majority, |count| Quorum::AtLeast(count.get()));
    RoutingConfig {
        vote: VoteRule { quorum, ..VoteRule::default() },
        no_quorum: match config.switcher.no_quorum {
            NoQuorum::Refuse => route::NoQuorum::Refuse,
            NoQuorum::BestNode => route::NoQuorum::BestNode,
        },
        unknown: match config.switcher.unknown_routes {
            UnknownRoutes::Refuse => route::UnknownRoutes::Refuse,
            UnknownRoutes::Pass => route::UnknownRoutes::Pass,
        },
        bulk: match config.switcher.heavy_routes {
            HeavyRoutes::Refuse => route::BulkAccess::Refuse,
            HeavyRoutes::Allow => route::BulkAccess::Allow,
        },
        ..RoutingConfig::default()
    }
}

fn start_execution(
    config: &Config,
    socket: Socket,
    surroundings: &Environment,
) -> Result<(Arc<ExecutionPool>, ExecutionMetrics), SwitcherError> {
    let numbers = ExecutionMetrics::default();
    let section = &config.execution;
    let pool = ExecutionPool::start(
        ExecutionConfig {
            nodes: section.upstream.iter().map(execution).collect::<Result<_, _>>()?,
            methods: MethodPolicy::new(section.allowed_methods.iter().map(String::as_str))?,
            balance: nodes::policy(section.balance),
            max_lag: section.max_lag_blocks,
            timeout: Duration::from_millis(section.timeout_ms.get().into()),
            max_batch: section.max_batch.get(),
            max_body: section.max_body_bytes.get(),
        },
        ExecutionEnvironment {
            clock: Arc::clone(&surroundings.clock),
            sink: Arc::clone(&surroundings.sink),
            metrics: numbers.clone(),
            tasks: surroundings.tasks.clone(),
        },
    )
    .map_err(SwitcherError::Execution)?;
    let bounds = ServerBounds { max_connections: section.max_connections.get() };
    serve(socket.listener, socket.door, Arc::clone(&pool), bounds, &surroundings.tasks);
    Ok((pool, numbers))
}

/// The network the signer signs for. The version of the first fork is left out: nodes of a network that begins with
/// a later fork do not agree on what to call its first.
pub(crate) fn expected_by_signer(network: &Network) -> ExpectedNetwork {
    ExpectedNetwork { genesis_validators_root: network.genesis_validators_root, genesis_fork_version: None }
}

/// The network of a switcher that runs alone, as far as the configuration says. mainnet is what it says when it
/// says nothing, so then the nodes decide, which cannot hurt: there is nothing here that signs.
///
/// # Errors
/// [`SwitcherError::Network`] if the configured network is not a known one.
pub(crate) fn expected_alone(config: &Config) -> Result<Option<ExpectedNetwork>, SwitcherError> {
    let given = config.network.genesis_validators_root.map(|root| root.0);
    let root = match &config.network.name {
        name if *name == NetworkChoice::default() => given,
        NetworkChoice::Builtin(name) => {
            let network =
                Network::builtin(name).ok_or_else(|| SwitcherError::Network { name: config.network.name.clone() })?;
            given.or(network.genesis_validators_root)
        }
        // The file does not say which chain it is.
        NetworkChoice::File(_) => given,
    };
    Ok(root.map(|root| ExpectedNetwork { genesis_validators_root: Some(root), genesis_fork_version: None }))
}
