//! Opening what is in custody: data directory, database, data key, keys.
//!
//! Guarantees: the directory is this user's alone before anything in it is read; the database is
//! bound to the configured network before a key is touched; a key-encryption key is made once and
//! recorded after it is durable; nothing that is there already is ever overwritten.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "store-postgres")]
use std::time::Duration;

use holdfast_domain::{Clock, GenesisValidatorsRoot, Network, PublicKey, SlotClock};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::kdf::{KdfBudget, MemorySize};
use holdfast_enclave::provider::file::FileProvider;
use holdfast_enclave::provider::passphrase::PassphraseProvider;
use holdfast_enclave::provider::{self, Provider, ProviderKind, WrapContext, Wrapped};
use holdfast_enclave::secret::FilePrivacy;
use holdfast_enclave::{
    ActiveKey, DataKey, DurableError, KeyError, Keyring, Passphrase, ProviderError, SealError, SecretError, durable,
    seal,
};
#[cfg(feature = "store-postgres")]
use holdfast_slashing_db::PostgresOptions;
use holdfast_slashing_db::journal::{InstanceId, JournalError, Reader};
use holdfast_slashing_db::{
    AdminError, BindOptions, DataKeyId, DataKeyRecord, Guard, OpenError, SlashingDb, StoreOptions, StoredKey,
};

#[cfg(feature = "store-postgres")]
use zeroize::Zeroizing;

use crate::cli::Exit;
#[cfg(feature = "store-postgres")]
use crate::config::DatabaseUrl;
use crate::config::{Config, ConfigError, Database, KeyProvider, resolve_network};

/// The one data key there is so far.
const FIRST_DATA_KEY: DataKeyId = DataKeyId(1);

/// Why what is in custody could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CustodyError {
    /// The configuration does not lead to a known chain.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network has no genesis time, so "now" has no slot.
    #[error("the network {network} has no genesis time; give --genesis-time SECONDS, or --beacon URL to learn it")]
    NoGenesisTime {
        /// Name of the network.
        network: String,
    },
    /// The data directory cannot be made or is open to others.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: DurableError,
    },
    /// A command that needs a database found none.
    #[error(
        "there is no database at {}; check --data-dir, or begin with `holdfast keys import --from PATH`", path.display()
    )]
    NothingHere {
        /// Where the database should be.
        path: PathBuf,
    },
    /// The database belongs to another of the networks known by name.
    #[error(
        "{} belongs to {pinned}, but the configured network is {configured}, which has another genesis validators root; \
         give --network {pinned} (or network.name), or another --data-dir", path.display()
    )]
    OtherNetwork {
        /// The database.
        path: PathBuf,
        /// Its network.
        pinned: &'static str,
        /// The configured one.
        configured: String,
    },
    /// Another process has the database open.
    #[error(
        "{} is already open in {}, most probably `holdfast serve`; stop that process first: this command works on \
         the database itself, and two processes must never sign from one", path.display(), process(*holder)
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// Process id, where the system tells.
        holder: Option<u32>,
    },
    /// The database cannot be opened.
    #[error("cannot open the slashing protection database")]
    Open(#[source] OpenError),
    /// The database does not answer.
    #[error("the slashing protection database failed")]
    Database(#[from] AdminError),
    /// The data key cannot be had.
    #[error("cannot open the data key that seals all stored keys")]
    Provider(#[from] ProviderError),
    /// No passphrase, and nobody to ask.
    #[error(
        "the stored keys are protected by a passphrase, and there is no terminal to ask for it; \
         name a file that holds it with keys.passphrase_file (HOLDFAST_KEYS_PASSPHRASE_FILE)"
    )]
    NoPassphrase,
    /// The database password could not be read.
    #[error("cannot read the database password from {}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The terminal could not be read.
    #[error("cannot read the passphrase from the terminal")]
    Prompt(#[source] std::io::Error),
    /// The two passphrases typed differ.
    #[error("the two passphrases differ; start again")]
    PassphrasesDiffer,
    /// A passphrase or key could not be held.
    #[error("cannot take the passphrase")]
    Secret(#[from] SecretError),
    /// Keys are stored, but the data key that seals them is not.
    #[error(
        "the database holds {keys} sealed keys but not the data key that opens them; \
         restore the database from a backup, or import the keystores again into a new data directory"
    )]
    DataKeyLost {
        /// How many keys.
        keys: usize,
    },
    /// A stored key cannot be opened.
    #[error("a stored key cannot be opened")]
    Seal(#[from] SealError),
    /// A stored key cannot be used.
    #[error("a stored key cannot be used")]
    Key(#[from] KeyError),
}

impl From<OpenError> for CustodyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked { path, holder } => Self::InUse { path, holder },
            OpenError::AnchorInUse { path } => Self::InUse { path, holder: None },
            error => Self::Open(error),
        }
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl CustodyError {
    /// How a process ends that failed so.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::NoGenesisTime { .. }
            | Self::NothingHere { .. }
            | Self::OtherNetwork { .. }
            | Self::NoPassphrase
            | Self::PassphrasesDiffer
            | Self::PasswordFile { .. }
            | Self::DataDir { source: DurableError::Permissions(_), .. }
            | Self::Provider(
                ProviderError::Permissions(_)
                | ProviderError::Durable(DurableError::Permissions(_))
                | ProviderError::EmptyPassphrase,
            )
            | Self::Secret(SecretError::Permissions(_))
            | Self::Open(
                OpenError::WrongNetwork { .. }
                | OpenError::Permissions { .. }
                | OpenError::NetworkFilesystem { .. }
                | OpenError::Address { .. }
                | OpenError::ServerSetting { .. }
                | OpenError::ServerTooOld { .. },
            ) => Exit::Usage,
            Self::Database(error) => admin_exit(error),
            Self::InUse { .. }
            | Self::DataDir { .. }
            | Self::Open(_)
            | Self::Provider(_)
            | Self::Prompt(_)
            | Self::Secret(_)
            | Self::DataKeyLost { .. }
            | Self::Seal(_) => Exit::Unreachable,
            Self::Key(_) => Exit::Bug,
        }
    }
}

/// How a process ends after an administrative operation failed.
pub(crate) fn admin_exit(error: &AdminError) -> Exit {
    match error {
        AdminError::Frozen(_) | AdminError::Suspect => Exit::Frozen,
        AdminError::WrongChain { .. } => Exit::Usage,
        AdminError::UnknownKey | AdminError::Tombstoned | AdminError::ClockBeforeGenesis { .. } => Exit::Refused,
        _ => Exit::Unreachable,
    }
}

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
}

/// Opens what is in custody; makes the data directory and the database if they are not there. The
/// data key stays closed until [`Custody::open_data_key`], so that a command which needs no secret
/// asks for no passphrase, and is made only by [`Custody::ensure_data_key`].
///
/// # Errors
/// [`CustodyError`]; nothing has been changed then, except that an empty directory or database may
/// have been made.
pub(crate) async fn open_sealed(config: &Config, clock: Arc<dyn Clock>) -> Result<Custody, CustodyError> {
    let network = resolve_network(config).await?;
    let no_time = || CustodyError::NoGenesisTime { network: network.name.clone() };
    let slot_clock = network.slot_clock().ok_or_else(no_time)?;
    let genesis_validators_root = network.genesis_validators_root.ok_or_else(no_time)?;
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
        queue_capacity: config.database.queue_capacity,
        max_batch: config.database.max_batch,
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
    })
}

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
        let unreadable = |source| CustodyError::PasswordFile { path: path.clone(), source };
        durable::check_private_permissions(path)
            .map_err(|error| CustodyError::DataDir { path: path.clone(), source: DurableError::Permissions(error) })?;
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        options.password = Some(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()));
    }
    options.connect_timeout = Duration::from_millis(config.database.connect_timeout_ms.get());
    options.statement_timeout = Duration::from_millis(config.database.statement_timeout_ms.get());
    options.anchor = Some(config.anchor());
    options.host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(options)
}

/// The journal of an instance, for verifying.
///
/// # Errors
/// [`CustodyError`] if the password cannot be read.
pub(crate) fn open_journal(
    config: &Config,
    instance: InstanceId,
) -> Result<Result<Reader, JournalError>, CustodyError> {
    Ok(match config.database()? {
        Database::Sqlite(path) => Reader::open(&path),
        #[cfg(feature = "store-postgres")]
        Database::Postgres(url) => Reader::open_postgres(&postgres_options(&url, config)?, instance),
        #[cfg(not(feature = "store-postgres"))]
        Database::Postgres(url) => {
            return Err(CustodyError::NothingHere { path: format!("{url}, instance {instance}").into() });
        }
    })
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
    match config.database()?.file() {
        Some(path) if !path.exists() => Err(CustodyError::NothingHere { path: path.to_owned() }),
        // A server is asked when it is opened.
        Some(_) | None => Ok(()),
    }
}

impl Custody {
    /// The record of the data key in use.
    ///
    /// # Errors
    /// [`CustodyError::Database`].
    pub(crate) async fn record(&self) -> Result<Option<DataKeyRecord>, CustodyError> {
        let records = self.guard.data_keys().await?;
        Ok(records.into_iter().max_by_key(|record| record.id))
    }

    fn wrap_context(&self, id: DataKeyId) -> WrapContext {
        WrapContext { network: self.genesis_validators_root, data_key: provider::DataKeyId(id.0) }
    }

    /// Opens the data key with the provider that wrapped it, if there is one.
    ///
    /// # Errors
    /// [`CustodyError`] if the provider cannot be had or refuses.
    pub(crate) async fn open_data_key(&mut self, config: &Config) -> Result<(), CustodyError> {
        let Some(record) = self.record().await? else { return Ok(()) };
        let provider: Box<dyn Provider> = match record.provider.parse::<ProviderKind>()? {
            ProviderKind::File => Box::new(FileProvider::new(FileProvider::default_path(config.data_dir()))),
            ProviderKind::Passphrase => Box::new(PassphraseProvider::new(passphrase(config, Asking::Once)?)?),
        };
        let key = provider.unwrap(&Wrapped::from_bytes(record.wrapped), &self.wrap_context(record.id))?;
        self.data_key = Some(Arc::new(key));
        self.protected_by = Some(provider.describe());
        Ok(())
    }

    /// The data key; made, wrapped by the configured provider and recorded if there is none yet.
    ///
    /// # Errors
    /// [`CustodyError`] if the provider cannot be had, or if keys are stored whose data key is gone.
    pub(crate) async fn ensure_data_key(&mut self, config: &Config) -> Result<Arc<DataKey>, CustodyError> {
        if self.data_key.is_none() {
            self.open_data_key(config).await?;
        }
        if let Some(key) = &self.data_key {
            return Ok(Arc::clone(key));
        }
        let keys = self.guard.active_keys().await?.len();
        if keys > 0 {
            return Err(CustodyError::DataKeyLost { keys });
        }
        let provider = new_provider(config)?;
        let key = DataKey::generate()?;
        let wrapped = provider.wrap(&key, &self.wrap_context(FIRST_DATA_KEY))?;
        let record = DataKeyRecord {
            id: FIRST_DATA_KEY,
            provider: provider.kind().name().to_owned(),
            wrapped: wrapped.as_bytes().to_vec(),
            stored: self.clock.now(),
        };
        self.guard.put_data_key(record).await?;
        let key = Arc::new(key);
        self.data_key = Some(Arc::clone(&key));
        self.protected_by = Some(provider.describe());
        Ok(key)
    }
}

/// The provider for a new data key.
fn new_provider(config: &Config) -> Result<Box<dyn Provider>, CustodyError> {
    Ok(match config.keys.provider {
        KeyProvider::File => {
            let path = FileProvider::default_path(config.data_dir());
            // A key file without a recorded data key is left from a start that was cut short.
            if path.exists() { Box::new(FileProvider::new(path)) } else { Box::new(FileProvider::create(path)?) }
        }
        KeyProvider::Passphrase => Box::new(PassphraseProvider::new(passphrase(config, Asking::Twice)?)?),
    })
}

/// How often a passphrase is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// To open something with it.
    Once,
    /// To protect something with it, where a slip would lock its owner out.
    Twice,
}

/// The passphrase from the configured file, or from the terminal.
fn passphrase(config: &Config, asking: Asking) -> Result<Passphrase, CustodyError> {
    if let Some(path) = &config.keys.passphrase_file {
        return Ok(Passphrase::read_file(path, FilePrivacy::Required)?);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CustodyError::NoPassphrase);
    }
    let ask = |prompt: &str| -> Result<Passphrase, CustodyError> {
        Ok(Passphrase::new(rpassword::prompt_password(prompt).map_err(CustodyError::Prompt)?)?)
    };
    let first = ask("Passphrase that protects the stored keys: ")?;
    match asking {
        Asking::Once => Ok(first),
        Asking::Twice => {
            let second = ask("The same passphrase again: ")?;
            if first.matches(&second) { Ok(first) } else { Err(CustodyError::PassphrasesDiffer) }
        }
    }
}

/// What decrypting keystores may use, as configured or found.
pub(crate) fn kdf_budget(config: &Config) -> KdfBudget {
    let detected = KdfBudget::detect();
    match config.keys.kdf_memory_mib {
        Some(mib) => {
            let mib = u64::try_from(mib.get()).unwrap_or(u64::MAX);
            KdfBudget::new(MemorySize::mebibytes(mib), detected.threads())
        }
        None => detected,
    }
}

/// The keys that are loaded, and what is wrong with the others.
pub(crate) struct Unsealed {
    /// Keys that can be asked for. Whether one may sign is for protection to say, at each request.
    pub(crate) keyring: Keyring,
    /// Keys that could not be opened. The others sign nevertheless.
    pub(crate) failed: BTreeMap<PublicKey, CustodyError>,
    /// How many of the keys in the keyring are switched off.
    pub(crate) disabled: usize,
}

/// Opens every stored key, also those switched off: a request for one of these is then refused by
/// protection and recorded, as any other refusal, instead of looking like a key nobody has.
/// Deleted keys have no secret left to open.
///
/// # Errors
/// [`CustodyError`] if the record cannot be read, or if there are keys but no data key. A single
/// key that cannot be opened is no error: it is listed in [`Unsealed::failed`].
pub(crate) async fn unseal_all(custody: &Custody, backend: &Arc<dyn KeyBackend>) -> Result<Unsealed, CustodyError> {
    let stored = custody.guard.active_keys().await?;
    let mut unsealed = Unsealed { keyring: Keyring::new(), failed: BTreeMap::new(), disabled: 0 };
    let Some(data_key) = &custody.data_key else {
        return if stored.is_empty() { Ok(unsealed) } else { Err(CustodyError::DataKeyLost { keys: stored.len() }) };
    };
    let mut ready = Vec::with_capacity(stored.len());
    for key in stored {
        let (public_key, enabled) = (*key.registration.key(), key.enabled());
        match unseal(key, data_key, custody.genesis_validators_root, backend) {
            Ok(active) => {
                unsealed.disabled = unsealed.disabled.saturating_add(usize::from(!enabled));
                ready.push(active);
            }
            Err(error) => {
                unsealed.failed.insert(public_key, error);
            }
        }
    }
    unsealed.keyring.insert_all(ready);
    Ok(unsealed)
}

fn unseal(
    key: StoredKey,
    data_key: &DataKey,
    network: GenesisValidatorsRoot,
    backend: &Arc<dyn KeyBackend>,
) -> Result<ActiveKey, CustodyError> {
    let secret = seal::open(data_key, key.registration.key(), network, &key.sealed)?;
    Ok(ActiveKey::new(key.registration, secret, Arc::clone(backend))?)
}

#[cfg(test)]
mod tests;
