//! `holdfast serve`: the service, from checked configuration to exit code.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;

use holdfast_domain::Clock;
use holdfast_slashing_db::FreezeReason;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{debug, error, info, warn};

use super::{Context, Exit, Failure};
use crate::admin::SocketError;
use crate::anchors::Anchors;
use crate::app::{Addresses, App, PortTaken, Sockets, Stopped};
use crate::clock::SystemClock;
use crate::config::{DoppelgangerCheck, TlsConfig, place_of_file};
use crate::custody::{self, Custody, CustodyError};
use crate::doors::Doors;
use crate::drain::Tasks;
use crate::http::server::BindError;
use crate::keymanager::Token;
use crate::notify::ServiceManager;
use crate::policy::{Given, RuleSources, keys_of_labels};
use crate::switcher::{self, PoolAddresses, PoolSockets, Running};
use crate::{telemetry, traces};

/// Runs the server until it is told to stop.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    require_switcher(context)?;
    let runtime = start(context)?;
    let ended = runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let sockets = bind(context, PortTaken::GiveUp, &clock)?;
        let pools = PoolSockets::bind(&context.config, &sockets.doors).map_err(bind_failure)?;
        let custody = custody::open_sealed(&context.config, Arc::clone(&clock)).await?;
        Box::pin(serve(context, custody, (sockets, pools), clock, |_| Ok(()))).await
    });
    // Nothing is left to do; a passphrase that is still being stretched need not be waited for.
    runtime.shutdown_background();
    ended
}

/// Refuses to hold keys back where nobody would ever let them go.
fn require_switcher(context: &Context) -> Result<(), Failure> {
    let switcher = &context.config.switcher;
    if switcher.doppelganger == DoppelgangerCheck::Enforce && !switcher.enabled {
        let problem = "switcher.doppelganger is \"enforce\", which needs the switcher in this process: add --switcher-listen \
                       and --beacon (or switcher.enabled = true), or set switcher.doppelganger to \"off\" or \"observe\"";
        return Err(Failure::message(Exit::Usage, problem));
    }
    Ok(())
}

/// What a server needs before anything else: logging, a process that leaks no memory, a runtime.
pub(super) fn start(context: &Context) -> Result<tokio::runtime::Runtime, Failure> {
    telemetry::init(&context.config.telemetry).map_err(|error| Failure::new(Exit::Usage, error))?;
    if let Err(error) = holdfast_enclave::harden_process() {
        if context.config.signing.require_protections {
            return Err(unprotected(&format!(
                "its memory may reach core dumps or debuggers: {}",
                crate::outcome::chain(&error)
            )));
        }
        // Some sandboxes forbid it and are safe without; not signing would be worse.
        warn!("memory of this process may reach core dumps or debuggers: {}", crate::outcome::chain(&error));
    }
    match toml::to_string(&context.config) {
        Ok(config) => debug!("effective configuration:\n{config}"),
        Err(error) => debug!(%error, "the effective configuration cannot be printed"),
    }
    raise_open_files();
    // Serving a request costs a fifth of signing it, and every further thread is woken in vain more often.
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = context.config.http.workers.map_or(processors.div_ceil(2), NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("holdfast-http")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unreachable, anyhow::Error::new(error).context("cannot start the runtime")))
}

fn unprotected(what: &str) -> Failure {
    let text =
        format!("signing.require_protections is true, and this process cannot be protected: {what}; nothing is signed");
    Failure::message(Exit::Usage, text)
}

/// Lets this process open as many files as it may: every connection is one, and the usual soft
/// limit of 1024 is less than the connections accepted by default.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        debug!(%error, "the limit of open files stays as it is");
    }
}

/// Takes the configured addresses.
pub(super) fn bind(context: &Context, taken: PortTaken, clock: &Arc<dyn Clock>) -> Result<Sockets, Failure> {
    let doors = Doors::open(&context.config, clock).map_err(|error| Failure::new(Exit::Usage, error))?;
    doors.check_signing_api(&context.config)?;
    let sockets = Sockets::bind(&context.config, taken, doors).map_err(bind_failure)?;
    let Addresses { http, metrics } = sockets.addresses();
    if !metrics.ip().is_loopback() {
        warn!(
            %metrics,
            "metrics and the status page can be read by other machines; they hold no secrets, but public keys and addresses of nodes"
        );
    }
    info!(%http, %metrics, "listening");
    Ok(sockets)
}

/// How a process ends that cannot have an address.
pub(super) fn bind_failure(error: BindError) -> Failure {
    let exit = match &error {
        BindError::InUse { .. } | BindError::Unix(SocketError::InUse { .. }) => Exit::Unreachable,
        BindError::Forbidden { .. } | BindError::Other { .. } | BindError::Unix(_) => Exit::Usage,
    };
    Failure::new(exit, error)
}

/// Serves until told to stop. `greet` runs once requests can be signed, after the ready line.
pub(super) async fn serve(
    context: &Context,
    custody: Custody,
    (sockets, pools): (Sockets, PoolSockets),
    clock: Arc<dyn Clock>,
    greet: impl FnOnce(Addresses) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    let (mut signals, mut hangups) = (StopSignals::new()?, listen_for(SignalKind::hangup())?);
    let labels = keys_of_labels(&custody.guard).await.map_err(CustodyError::from)?;
    let at = Given { since: clock.now(), by: "start".to_owned() };
    let policy = RuleSources::read(&context.config, place_of_file(&context.layers), labels, at)?;
    if policy.in_force().written.is_open() {
        info!("there are no [[policy]] rules: whoever may ask may do everything");
    }
    let (addresses, pool_addresses) = (sockets.addresses(), pools.addresses());
    let network = custody.network.name.clone();
    let expected = Some(switcher::expected_by_signer(&custody.network));
    let guard = Some(custody.guard.clone());
    let (tracer, sending) = traces::start(&context.config, &clock).map_err(|error| Failure::new(Exit::Usage, error))?;
    let running = Running::start(&context.config, pools, expected, (Arc::clone(&clock), tracer.clone()), guard)
        .await
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let token = Token::open(&context.config).map_err(|error| Failure::new(Exit::Usage, error))?;
    let anchors =
        Anchors::new(&context.config, Arc::clone(&clock)).map_err(|error| Failure::new(Exit::Usage, error))?;
    let rest = (policy, anchors, &context.layers, tracer);
    let app = App::start(&context.config, custody, sockets, clock, token, running, rest)
        .map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let manager = ServiceManager::of_process();
    // Not among the server's tasks: signs of life are wanted until the very end.
    Tasks::new().spawn(Arc::clone(&manager).pulse(addresses.metrics));
    let ended = tokio::select! {
        loaded = app.load_keys() => match loaded {
            Ok(keys) => {
                ready(context, addresses, pool_addresses, &network, keys)?;
                manager.ready(&format!("signing for {network}, keys: {keys}"));
                greet(addresses)?;
                loop {
                    tokio::select! {
                        signal = signals.next() => break Ended::Told(signal),
                        reason = app.frozen() => break Ended::Frozen(reason),
                        _ = hangups.recv() => manager.reloading_while(app.reloads().hang_up()).await,
                    }
                }
            }
            Err(error) => Ended::NoKeys(error.into()),
        },
        signal = signals.next() => Ended::Told(signal),
    };
    match &ended {
        Ended::Told(signal) => info!(signal, "told to stop; once more to end at once"),
        Ended::Frozen(reason) => {
            error!(%reason, "slashing protection froze signing; this process signs nothing more and ends");
        }
        Ended::NoKeys(_) => error!("no keys could be loaded"),
    }
    manager.stopping(app.stops_within());
    let stopped = finish(app, &mut signals).await;
    sending.stop().await;
    match ended {
        Ended::Told(_) => {
            say_stopped(context, stopped)?;
            Ok(Exit::Done)
        }
        Ended::Frozen(reason) => {
            Err(Failure::message(exit_when_frozen(reason), format!("slashing protection froze signing: {reason}")))
        }
        Ended::NoKeys(failure) => Err(failure),
    }
}

/// Why serving ended.
enum Ended {
    /// By a signal.
    Told(&'static str),
    /// Protection gives no more permits.
    Frozen(FreezeReason),
    /// The first load failed as a whole.
    NoKeys(Failure),
}

/// The process's exit code says whether a restart may help.
fn exit_when_frozen(reason: FreezeReason) -> Exit {
    match reason {
        FreezeReason::CommitOutcomeUnknown | FreezeReason::StorageFailed => Exit::Unreachable,
        FreezeReason::DatabaseDamaged | FreezeReason::JournalHeadMoved => Exit::Frozen,
        FreezeReason::InvariantViolated | FreezeReason::CommitterGone => Exit::Bug,
    }
}

fn ready(
    context: &Context,
    addresses: Addresses,
    pools: PoolAddresses,
    network: &str,
    keys: usize,
) -> Result<(), Failure> {
    let Addresses { http, metrics } = addresses;
    info!(%http, %metrics, network, keys, "ready");
    let shown = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
    let (switcher, execution) = (shown(pools.switcher), shown(pools.execution));
    let scheme = |tls: &TlsConfig| if tls.is_on() { "https" } else { "http" };
    let config = &context.config;
    let (signing, measuring) = (scheme(&config.http.tls), scheme(&config.metrics.tls));
    let mut text =
        format!("ready: signing for {network} on {signing}://{http}, keys: {keys}, metrics on {measuring}://{metrics}");
    let pools = [("Beacon API", &switcher, &config.switcher.tls), ("JSON-RPC", &execution, &config.execution.tls)];
    for (what, address, tls) in pools {
        if let Some(address) = address {
            let _ = write!(text, ", {what} on {}://{address}", scheme(tls));
        }
    }
    context.output.result(
        text,
        &json!({
            "event": "ready", "http": http.to_string(), "metrics": metrics.to_string(), "network": network, "keys": keys,
            "switcher": switcher, "execution": execution,
        }),
    )
}

fn say_stopped(context: &Context, stopped: Stopped) -> Result<(), Failure> {
    let Stopped { finished, cut_off } = stopped;
    let text = if cut_off == 0 {
        format!("stopped: {finished} requests in progress were finished")
    } else {
        format!("stopped: {finished} requests in progress were finished, {cut_off} were cut off and may be sent again")
    };
    context.output.result(text, &json!({ "event": "stopped", "finished": finished, "cut_off": cut_off }))
}

/// Stops in good order, unless told again to stop.
async fn finish(app: App, signals: &mut StopSignals) -> Stopped {
    tokio::select! {
        stopped = app.stop() => stopped,
        signal = signals.next() => {
            warn!(signal, "told to stop again: ending at once; nothing recorded is lost");
            std::process::exit(Exit::Refused.code().into())
        }
    }
}

pub(super) fn listen_for(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind)
        .map_err(|error| Failure::new(Exit::Bug, anyhow::Error::new(error).context("cannot listen for signals")))
}

/// The signals that ask a process to end.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self { terminate: listen_for(SignalKind::terminate())?, interrupt: listen_for(SignalKind::interrupt())? })
    }

    /// Waits for one and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: which exit code each kind of freeze has.
    use super::*;

    #[test]
    fn a_freeze_says_whether_a_restart_may_help() {
        assert_eq!(exit_when_frozen(FreezeReason::StorageFailed).code(), 3);
        assert_eq!(exit_when_frozen(FreezeReason::CommitOutcomeUnknown).code(), 3);
        assert_eq!(exit_when_frozen(FreezeReason::JournalHeadMoved).code(), 4);
        assert_eq!(exit_when_frozen(FreezeReason::DatabaseDamaged).code(), 4);
        assert_eq!(exit_when_frozen(FreezeReason::CommitterGone).code(), 70);
    }
}
