//! `holdfast witness`: grants epoch leases over HTTP.
//!
//! Guarantees: beyond loopback only members that were enrolled are answered; a request is at most half a kilobyte; what
//! is granted, and that it is durable before, is decided in `holdfast-witness`.

mod endpoint;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{Clock, GenesisValidatorsRoot, SlotClock};
use holdfast_enclave::durable::{self, Existing};
use holdfast_witness::SigningKey;
use holdfast_witness::service::{Enrolled, Founding, Witness, enroll};
use holdfast_witness::store::Store;
#[cfg(feature = "store-postgres")]
use holdfast_witness::store::postgres::PostgresStore;
use holdfast_witness::store::sqlite::SqliteStore;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::cli::args::{EnrollArgs, WitnessArgs, WitnessCommand, WitnessServeArgs};
use crate::cli::serve::StopSignals;
use crate::cli::{Context, Failure};
use crate::clock::SystemClock;
use crate::config::{Config, Database, resolve_network};
use crate::drain::Tasks;
use crate::http::server::{self, Listening, ServerBounds};
use crate::outcome::Exit;
use crate::tls::{NoPins, Protocol, Tls, TlsMetrics, watch};
use endpoint::Endpoint;

/// Signers are few, and each asks once an epoch.
const CONNECTIONS: usize = 256;
/// How long a request may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests in progress may take when the process stops.
const LAST: Duration = Duration::from_secs(5);

/// Runs one of the commands.
pub(crate) async fn run(command: &WitnessCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        WitnessCommand::Init(args) => init(args, context).await,
        WitnessCommand::Serve(args) => match open(context, true).await? {
            Memory::Sqlite(store) => serve(args, context, store).await,
            #[cfg(feature = "store-postgres")]
            Memory::Postgres(store) => serve(args, context, store).await,
        },
        WitnessCommand::Enroll(args) => match open(context, true).await? {
            Memory::Sqlite(store) => let_in(args, context, store).await,
            #[cfg(feature = "store-postgres")]
            Memory::Postgres(store) => let_in(args, context, store).await,
        },
        WitnessCommand::Status(_) => match open(context, false).await? {
            Memory::Sqlite(store) => status(context, store).await,
            #[cfg(feature = "store-postgres")]
            Memory::Postgres(store) => status(context, store).await,
        },
    }
}

/// The database of a witness.
enum Memory {
    Sqlite(SqliteStore),
    #[cfg(feature = "store-postgres")]
    Postgres(PostgresStore),
}

/// Where the database is: the one given, or a file of its own in the data directory.
fn database(config: &Config) -> Result<Database, Failure> {
    match &config.database.url {
        Some(_) => Ok(config.database()?),
        None => Ok(Database::Sqlite(config.data_dir().join("witness.db"))),
    }
}

async fn open(context: &Context, make: bool) -> Result<Memory, Failure> {
    match database(&context.config)? {
        Database::Sqlite(path) => {
            if !make && !path.is_file() {
                return Err(Failure::message(
                    Exit::Usage,
                    format!(
                        "{} is not there: name the witness's database, or run `holdfast witness init`",
                        path.display()
                    ),
                ));
            }
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
                durable::create_private_dir(folder).map_err(|error| Failure::new(Exit::Usage, error))?;
            }
            let store = SqliteStore::open(&path).map_err(|error| Failure::new(Exit::Usage, error))?;
            Ok(Memory::Sqlite(store))
        }
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => {
            let mut options = crate::custody::postgres_options(&url, &context.config)?;
            options.anchor = None;
            let store = PostgresStore::open(options).await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
            Ok(Memory::Postgres(store))
        }
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(_) => Err(Failure::message(Exit::Usage, "this build has no PostgreSQL")),
    }
}

fn key_file(args: &WitnessArgs, config: &Config) -> PathBuf {
    args.key_file.clone().unwrap_or_else(|| config.data_dir().join("witness.key"))
}

fn read_key(args: &WitnessArgs, config: &Config) -> Result<SigningKey, Failure> {
    let path = key_file(args, config);
    let failed = |error: anyhow::Error| {
        Failure::new(Exit::Usage, error.context(format!("the witness's key {} cannot be used", path.display())))
    };
    let text = std::fs::read_to_string(&path).map(Zeroizing::new).map_err(|error| {
        failed(anyhow::Error::new(error).context("it cannot be read; `holdfast witness init` makes one"))
    })?;
    durable::check_private_permissions(&path).map_err(|error| failed(error.into()))?;
    let seed = holdfast_domain::root::parse_hex::<32>(text.trim()).map(Zeroizing::new);
    let seed = seed.ok_or_else(|| failed(anyhow::anyhow!("it is no key: 64 hexadecimal digits")))?;
    Ok(SigningKey::from_seed(&seed))
}

async fn init(args: &WitnessArgs, context: &Context) -> Result<Exit, Failure> {
    let path = key_file(args, &context.config);
    if path.exists() {
        let key = read_key(args, &context.config)?.public();
        return Err(Failure::message(
            Exit::Refused,
            format!("{} is there, and its public key is {key}; nothing was changed", path.display()),
        ));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        durable::create_private_dir(folder).map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    // The database first: a key without one would be a witness that remembers nothing.
    open(context, true).await?;
    let key = SigningKey::generate().map_err(|error| Failure::new(Exit::Unreachable, anyhow::anyhow!("{error}")))?;
    let text = Zeroizing::new(format!("{}\n", hex::encode(*key.seed())));
    durable::write_private_file(&path, text.as_bytes(), Existing::Refuse)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let public = key.public();
    context.output.result(
        format!("Made a witness with the public key {public}.\nIn the signers' configuration: witness.servers = [\"http://HOST:9005#{public}\"]"),
        &json!({ "public_key": public.to_string(), "key_file": path.display().to_string() }),
    )?;
    context.output.note(
        "A witness restored from a backup may grant an epoch twice: after a restore, delete the key and run this again.",
    );
    Ok(Exit::Done)
}

/// The chain a witness serves.
async fn chain(config: &Config) -> Result<(GenesisValidatorsRoot, SlotClock), Failure> {
    let network = resolve_network(config).await?;
    match (network.genesis_validators_root, network.slot_clock()) {
        (Some(genesis), Some(slots)) => Ok((genesis, slots)),
        _ => Err(Failure::message(
            Exit::Usage,
            "the network's genesis is not known: give --genesis-validators-root and --genesis-time, or a beacon node",
        )),
    }
}

/// TLS of the witness, if it is configured. Without it others see which groups sign, and strangers can ask.
fn open_tls(
    context: &Context,
    listen: SocketAddr,
    numbers: &TlsMetrics,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Tls>>, Failure> {
    let config = &context.config.witness.tls;
    let tls = Tls::open("witness", config, Protocol::Http1, Arc::new(NoPins), numbers, Arc::clone(clock));
    let tls = tls.map_err(|error| {
        Failure::new(Exit::Usage, anyhow::Error::new(error).context("TLS of the witness (witness.tls)"))
    })?;
    if tls.is_none() && !listen.ip().is_loopback() {
        warn!(
            %listen,
            "without TLS: whoever is on the way sees which group signs and can lose requests, but forge none, as both sides \
             sign; set witness.tls where the network is not yours (docs/witness.md)"
        );
    }
    Ok(tls)
}

async fn serve<S: Store>(args: &WitnessServeArgs, context: &Context, store: S) -> Result<Exit, Failure> {
    crate::telemetry::init(&context.config.telemetry).map_err(|error| Failure::new(Exit::Usage, error))?;
    let key = read_key(&args.witness, &context.config)?;
    let public = key.public();
    let founding =
        if args.enrolled_only || !args.listen.ip().is_loopback() { Founding::Closed } else { Founding::Open };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let numbers = TlsMetrics::default();
    let tls = open_tls(context, args.listen, &numbers, &clock)?;
    let witness = Witness::new(key, chain(&context.config).await?, clock, store, founding);
    let mut signals = StopSignals::new()?;
    let bound = server::bind(args.listen, "--listen").map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let address = bound.address;
    let tasks = Tasks::new();
    let bounds = ServerBounds { max_connections: CONNECTIONS, head_timeout: HEAD_TIMEOUT, last_word: Duration::ZERO };
    let scheme = if tls.is_some() { "https" } else { "http" };
    tasks.spawn(watch(tls.iter().cloned().collect(), None, tasks.stopping()));
    let endpoint = Endpoint::new(witness, tls.is_some().then_some(&numbers));
    server::start(Listening { bound, tls }, Arc::new(endpoint), bounds, Gauge::default(), &tasks);
    let members = if founding == Founding::Closed { "enrolled" } else { "enrolled, or the first of a new group" };
    info!(%address, key = %public, members, "ready");
    context.output.result(
        format!("ready: witness.servers = [\"{scheme}://{address}#{public}\"]; members: {members}"),
        // One listener has all.
        &json!({
            "event": "ready", "http": address.to_string(), "metrics": address.to_string(),
            "public_key": public.to_string(),
        }),
    )?;
    let signal = signals.next().await;
    info!(signal, "told to stop");
    // Whoever is cut off asks again.
    let _ = tasks.stop(LAST).await;
    context.output.result("stopped".to_owned(), &json!({ "event": "stopped" }))?;
    Ok(Exit::Done)
}

async fn let_in<S: Store>(args: &EnrollArgs, context: &Context, store: S) -> Result<Exit, Failure> {
    let done = enroll(&store, &args.group, args.key).await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let (word, text) = match done {
        Enrolled::Added => ("enrolled", format!("Enrolled {} in group {}.", args.key, args.group)),
        Enrolled::Already => ("already", format!("{} is enrolled in group {} already.", args.key, args.group)),
        Enrolled::Full => {
            return Err(Failure::message(Exit::Refused, format!("group {} has as many members as it may", args.group)));
        }
    };
    context
        .output
        .result(text, &json!({ "status": word, "group": args.group.as_str(), "key": args.key.to_string() }))?;
    Ok(Exit::Done)
}

async fn status<S: Store>(context: &Context, store: S) -> Result<Exit, Failure> {
    let failed = |error| Failure::new(Exit::Unreachable, anyhow::Error::new(error));
    let (mut text, mut groups) = (String::new(), Vec::new());
    for group in store.groups().await.map_err(failed)? {
        let latest = store.latest(&group).await.map_err(failed)?;
        let members: Vec<String> = latest.record.members.iter().map(ToString::to_string).collect();
        let lease = latest.record.lease.as_ref();
        let state = match lease {
            None => "no lease yet".to_owned(),
            Some(lease) if lease.released.is_some() => format!("given back at epoch {}", lease.until.0),
            Some(lease) => format!("held by {} up to epoch {}", lease.holder, lease.until.0),
        };
        let _ = writeln!(text, "{group}: {state}; members: {}", members.join(", "));
        groups.push(json!({
            "group": group.as_str(), "version": latest.version, "members": members,
            "holder": lease.map(|lease| lease.holder.to_string()),
            "until": lease.map(|lease| lease.until.0),
            "released": lease.is_some_and(|lease| lease.released.is_some()),
        }));
    }
    let shown = if text.is_empty() { "no group yet".to_owned() } else { text.trim_end().to_owned() };
    context.output.result(shown, &json!({ "groups": groups }))?;
    Ok(Exit::Done)
}
