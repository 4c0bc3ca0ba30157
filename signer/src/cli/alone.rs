//! `holdfast serve --no-signer`: the switcher by itself, without keys, database or data directory.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::Clock;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::signal::unix::SignalKind;
use tracing::{info, warn};

use super::serve::{StopSignals, bind_failure, listen_for, start};
use super::{Context, Failure};
use crate::admin;
use crate::clock::SystemClock;
use crate::config::TlsConfig;
use crate::doors::Doors;
use crate::drain::Tasks;
use crate::http::server::{self, Listening, ServerBounds};
use crate::http::{AloneProbes, HostPolicy, render};
use crate::notify::ServiceManager;
use crate::outcome::Exit;
use crate::process;
use crate::reload::{Reach, Reloads};
use crate::status::{Board, Sources};
use crate::switcher::{self, PoolAddresses, PoolSockets, Running, SwitcherError};
use crate::traces;

/// How long a scraper may take to finish when the process stops.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs the switcher until it is told to stop.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let runtime = start(context)?;
    let ended = runtime.block_on(serve(context));
    runtime.shutdown_background();
    ended
}

async fn serve(context: &Context) -> Result<Exit, Failure> {
    let config = &context.config;
    let (mut signals, mut hangups) = (StopSignals::new()?, listen_for(SignalKind::hangup())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let doors = Doors::open(config, &clock).map_err(|error| Failure::new(Exit::Usage, error))?;
    let sockets = PoolSockets::bind(config, &doors).map_err(bind_failure)?;
    let metrics_socket = server::bind(config.metrics.listen, "--metrics-listen").map_err(bind_failure)?;
    let admin_socket = config.admin.listen.map(|address| server::bind(address, "--admin-listen"));
    let admin_socket = admin_socket.transpose().map_err(bind_failure)?;
    let (addresses, metrics_address) = (sockets.addresses(), metrics_socket.address);
    let mut registry = Registry::default();
    registry.register("holdfast_build", "Version of this program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    doors.register(registry.sub_registry_with_prefix("holdfast"));
    process::register(&mut registry);
    let expected = switcher::expected_alone(config).map_err(failure)?;
    // There is no database, so there is no journal: decisions are logged and counted.
    let (tracer, sending) = traces::start(config, &clock).map_err(|error| Failure::new(Exit::Usage, error))?;
    tracer.register(registry.sub_registry_with_prefix("holdfast").sub_registry_with_prefix("traces"));
    let started = Running::start(config, sockets, expected, (Arc::clone(&clock), tracer), None);
    let running = started.await.map_err(failure)?;
    // `--no-signer` switches it on.
    let Some(running) = running else { return Err(Failure::message(Exit::Bug, "the switcher is off")) };
    running.register(&mut registry);

    let (tasks, probe_tasks) = (Tasks::new(), Tasks::new());
    let reach = Reach { signer: None, files: doors.files(), running: Some(Arc::clone(&running)) };
    let reloads = Reloads::new(context.layers.clone(), config, reach, Arc::clone(&clock), tasks.clone());
    reloads.register(registry.sub_registry_with_prefix("holdfast"));
    admin::live_control(config, &running, &reloads, doors.of_admin(config, admin_socket), &tasks);
    let hosts = if metrics_address.ip().is_loopback() {
        HostPolicy::new(config.http.allowed_hosts.iter().map(String::as_str)).with_loopback()
    } else {
        warn!(metrics = %metrics_address, "metrics and the status page can be read by other machines; they hold no secrets");
        HostPolicy::Any
    };
    doors.watch(&tasks);
    let registry = Arc::new(registry);
    let rendered = Arc::clone(&registry);
    let board = Board::start(Sources {
        render: Box::new(move || render(&rendered)),
        signer: None,
        running: Some(Arc::clone(&running)),
        clock,
        tasks: tasks.clone(),
    });
    let probes = AloneProbes {
        running: Arc::clone(&running),
        registry,
        tasks: tasks.clone(),
        hosts,
        callers: Arc::clone(&doors.callers),
        door: Doors::of_metrics(config),
        board,
    };
    let head_timeout = Duration::from_secs(config.http.header_timeout_seconds.get());
    let bounds = ServerBounds { max_connections: server::METRICS_CONNECTIONS, head_timeout, last_word: Duration::ZERO };
    let listening = Listening { bound: metrics_socket, tls: doors.metrics };
    server::start(listening, Arc::new(probes), bounds, Gauge::default(), &probe_tasks);
    say_ready(context, addresses, metrics_address)?;
    let manager = ServiceManager::of_process();
    manager.ready("the switcher runs");
    Tasks::new().spawn(Arc::clone(&manager).pulse(metrics_address));

    let signal = loop {
        tokio::select! {
            signal = signals.next() => break signal,
            _ = hangups.recv() => manager.reloading_while(reloads.hang_up()).await,
        }
    };
    info!(signal, "told to stop; once more to end at once");
    let delay = Duration::from_secs(config.http.shutdown_delay_seconds);
    manager.stopping(delay);
    tasks.begin_leaving();
    let stop = async {
        if !delay.is_zero() {
            info!(seconds = delay.as_secs(), "unready; serving on until clients have moved");
            tokio::time::sleep(delay).await;
        }
        tokio::join!(running.stop(), async {
            // Commands in progress are short; one that is cut off says so at its other end.
            let _ = tasks.stop(PROBE_TIMEOUT).await;
        });
        if probe_tasks.stop(PROBE_TIMEOUT).await.is_err() {
            warn!("a connection to the metrics listener was cut off");
        }
    };
    tokio::select! {
        () = stop => {}
        signal = signals.next() => warn!(signal, "told to stop again: ending at once"),
    }
    sending.stop().await;
    context.output.result("stopped".to_owned(), &json!({ "event": "stopped" }))?;
    Ok(Exit::Done)
}

fn failure(error: SwitcherError) -> Failure {
    Failure::new(Exit::Usage, error)
}

fn say_ready(context: &Context, addresses: PoolAddresses, metrics: std::net::SocketAddr) -> Result<(), Failure> {
    let PoolAddresses { switcher, execution } = addresses;
    let shown = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
    let beacon = shown(switcher).unwrap_or_default();
    let scheme = |tls: &TlsConfig| if tls.is_on() { "https" } else { "http" };
    let config = &context.config;
    let (of_beacon, of_metrics) = (scheme(&config.switcher.tls), scheme(&config.metrics.tls));
    let mut text = format!("ready: Beacon API on {of_beacon}://{beacon}, metrics on {of_metrics}://{metrics}");
    if let Some(execution) = execution {
        let _ = write!(text, ", JSON-RPC on {}://{execution}", scheme(&config.execution.tls));
    }
    info!(switcher = beacon, %metrics, "ready");
    context.output.result(
        text,
        &json!({
            "event": "ready", "switcher": shown(switcher), "execution": shown(execution), "metrics": metrics.to_string(),
        }),
    )
}
