//! Opening what is in custody: data directory, database, data key, keys.
//!
//! Guarantees: the directory is this user's alone before anything in it is read; the database is
//! bound to the configured network before a key is touched.

mod canary;
mod checkpoint_key;
mod data_key;
#[cfg(feature = "backend-enclave")]
mod enclave;
mod error;
mod providers;
mod reseal;
mod unseal;

#[cfg(feature = "store-postgres")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "store-postgres")]
use std::time::Duration;

#[cfg(feature = "store-postgres")]
use crate::config::DatabaseUrl;
use crate::config::{Config, Database, resolve_network};
pub(crate) use canary::{ProviderMetrics, watch as watch_providers};
pub(crate) use data_key::Terminal;
#[cfg(feature = "backend-enclave")]
pub(crate) use enclave::EnclaveSeal;
pub(crate) use error::{CustodyError, admin_exit};
use holdfast_domain::{Clock, GenesisValidatorsRoot, Network, SlotClock};
use holdfast_enclave::provider::shares::Collected;
use holdfast_enclave::{DataKey, durable};
#[cfg(feature = "store-postgres")]
use holdfast_secret::SecretText;
use holdfast_slashing_db::journal::{InstanceId, JournalError, Reader};
use holdfast_slashing_db::{BindOptions, Guard, SlashingDb, StoreOptions};
#[cfg(feature = "store-postgres")]
use holdfast_slashing_db::{PasswordSource, PostgresOptions};
pub(crate) use providers::{Caller, HELPER_COMMAND, help, read_identities};
pub(crate) use unseal::{Difference, Unsealed, kdf_budget, unseal_all, unseal_new};

/// What is in custody, open.
pub(crate) struct Custody {
    /// Slashing protection and the record of keys.
    pub(crate) guard: Guard,
    /// The identity of the database.
    pub(crate) instance: InstanceId,
    /// The chain the keys belong to; its genesis validators root and time are known.
    pub(crate) network: Network,
    /// Its genesis validators root.
    pub(crate) genesis_validators_root: GenesisValidatorsRoot,
    /// Its slots.
    pub(crate) slot_clock: SlotClock,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// What seals the stored keys; `None` before the first key.
    pub(crate) data_key: Option<Arc<DataKey>>,
    /// Who wraps the data key, for display; `None` before the first key.
    pub(crate) protected_by: Option<String>,
    /// Where providers are called whose key is elsewhere.
    pub(crate) caller: Caller,
    /// Whether a passphrase may be asked for.
    pub(crate) terminal: Terminal,
    /// Shares of the data key's guard that people brought.
    pub(crate) brought: Arc<Collected>,
    /// Whether the data key was opened with a passphrase that somebody typed, or with shares that people brought.
    typed: bool,
}

/// The chain of the configuration, complete.
pub(crate) struct Chain {
    /// Its network; genesis validators root and time are known.
    pub(crate) network: Network,
    /// Its genesis validators root.
    pub(crate) genesis_validators_root: GenesisValidatorsRoot,
    /// Its slots.
    pub(crate) slot_clock: SlotClock,
}

/// The chain of the configuration. Opens nothing.
///
/// # Errors
/// [`CustodyError`] if the configuration does not lead to one.
pub(crate) async fn chain(config: &Config) -> Result<Chain, CustodyError> {
    let network = resolve_network(config).await?;
    let no_time = || CustodyError::NoGenesisTime { network: network.name.clone() };
    let slot_clock = network.slot_clock().ok_or_else(no_time)?;
    let genesis_validators_root = network.genesis_validators_root.ok_or_else(no_time)?;
    Ok(Chain { network, genesis_validators_root, slot_clock })
}

/// Tells a data directory that somebody else has from one where nothing is.
///
/// # Errors
/// [`CustodyError::DataDir`], which says whose it is.
pub(crate) fn within_reach(config: &Config) -> Result<(), CustodyError> {
    let path = config.data_dir();
    let hidden = config.anchor().try_exists().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    match durable::check_private_permissions(path) {
        Err(source) if hidden => Err(CustodyError::DataDir { path: path.to_owned(), source: source.into() }),
        _ => Ok(()),
    }
}

/// Whether there is a database. Makes none.
///
/// # Errors
/// [`CustodyError`] if a server cannot be asked.
pub(crate) fn is_there(config: &Config) -> Result<bool, CustodyError> {
    within_reach(config)?;
    match config.database()? {
        Database::Sqlite(path) => Ok(path.exists()),
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => Ok(SlashingDb::examine_postgres(&postgres_options(&url, config)?)?.found > 0),
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(_) => Ok(false),
    }
}

/// Opens what is in custody; makes the data directory and the database if they are not there. The
/// data key stays closed until [`Custody::open_data_key`], so that a command which needs no secret
/// asks for no passphrase, and is made only by [`Custody::ensure_data_key`].
///
/// # Errors
/// [`CustodyError`]; nothing has been changed then, except that an empty directory or database may
/// have been made.
pub(crate) async fn open_sealed(config: &Config, clock: Arc<dyn Clock>) -> Result<Custody, CustodyError> {
    let Chain { network, genesis_validators_root, slot_clock } = chain(config).await?;
    let dir = config.data_dir();
    durable::create_private_dir(dir).map_err(|source| CustodyError::DataDir { path: dir.to_owned(), source })?;
    let target = config.database()?;
    let path = PathBuf::from(target.to_string());
    let database = open_database(&target, config)?;
    let pinned = database.pinned_network().filter(|pinned| *pinned != genesis_validators_root);
    if let Some(pinned) = pinned.and_then(known_network) {
        return Err(CustodyError::OtherNetwork { path, pinned, configured: network.name });
    }
    let instance = database.instance_id();
    let guard = database.bind(BindOptions {
        anchor: Some(config.anchor()),
        future_tolerance_slots: config.slashing.future_tolerance_slots,
        trust_clock: config.slashing.trust_clock,
        queue_capacity: config.database.queue_capacity,
        max_batch: config.database.max_batch,
        retention: config.retention(),
        ..BindOptions::new(genesis_validators_root, slot_clock, Arc::clone(&clock))
    })?;
    Ok(Custody {
        guard,
        instance,
        network,
        genesis_validators_root,
        slot_clock,
        clock,
        data_key: None,
        protected_by: None,
        caller: Caller::Command,
        terminal: Terminal::MayAsk,
        brought: Arc::default(),
        typed: false,
    })
}

#[cfg_attr(
    not(feature = "store-postgres"),
    expect(unused_variables, reason = "only for PostgreSQL is anything configured")
)]
fn open_database(target: &Database, config: &Config) -> Result<SlashingDb, CustodyError> {
    match target {
        Database::Sqlite(path) => Ok(SlashingDb::open(&StoreOptions { path: path.clone() })?),
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => Ok(SlashingDb::open_postgres(&postgres_options(url, config)?)?),
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(_) => Err(CustodyError::NothingHere { path: target.to_string().into() }),
    }
}

/// How to reach a PostgreSQL database.
///
/// # Errors
/// [`CustodyError`] if the password cannot be read.
#[cfg(feature = "store-postgres")]
pub(crate) fn postgres_options(url: &DatabaseUrl, config: &Config) -> Result<PostgresOptions, CustodyError> {
    let mut options = PostgresOptions::new(url.expose());
    if let Some(path) = &config.database.password_file {
        options.password = Some(database_password(path)?);
        let path = path.clone();
        options.password_again = Some(PasswordSource::new(move || Ok(database_password(&path)?)));
    }
    options.connect_timeout = Duration::from_millis(config.database.connect_timeout_ms.get());
    options.statement_timeout = Duration::from_millis(config.database.statement_timeout_ms.get());
    options.anchor = Some(config.anchor());
    options.host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(options)
}

/// The password of a database, from a file that only its owner may read.
///
/// # Errors
/// [`CustodyError`] if it cannot be read, or others may read it.
#[cfg(feature = "store-postgres")]
pub(crate) fn database_password(path: &Path) -> Result<SecretText, CustodyError> {
    let unusable =
        |source: Box<dyn std::error::Error + Send + Sync>| CustodyError::PasswordFile { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.into()))?;
    let password = SecretText::of_file(text);
    durable::check_private_permissions(path).map_err(|error| unusable(error.into()))?;
    if password.is_empty() {
        return Err(unusable("the file is empty; write the password into it".into()));
    }
    Ok(password)
}

/// The journal of an instance, for verifying.
///
/// # Errors
/// [`CustodyError`] if the password cannot be read.
pub(crate) fn open_journal(
    config: &Config,
    instance: InstanceId,
) -> Result<Result<Reader, JournalError>, CustodyError> {
    let opened = match config.database()? {
        Database::Sqlite(path) => Reader::open(&path),
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => Reader::open_postgres(&postgres_options(&url, config)?, instance),
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(url) => {
            return Err(CustodyError::NothingHere { path: format!("{url}, instance {instance}").into() });
        }
    };
    Ok(opened.and_then(|reader| match config.retention() {
        Some(retention) => reader.with_archive(&[retention.archive]),
        None => Ok(reader),
    }))
}

/// The name of a built-in network by its genesis validators root.
fn known_network(root: GenesisValidatorsRoot) -> Option<&'static str> {
    Network::BUILTIN_NAMES
        .into_iter()
        .find(|name| Network::builtin(name).is_some_and(|network| network.genesis_validators_root == Some(root)))
}

/// Refuses if there is no database yet: for commands that make no sense without one.
///
/// # Errors
/// [`CustodyError::NothingHere`].
pub(crate) fn require_existing(config: &Config) -> Result<(), CustodyError> {
    if is_there(config)? {
        Ok(())
    } else {
        Err(CustodyError::NothingHere { path: config.database()?.to_string().into() })
    }
}

#[cfg(test)]
mod tests;
