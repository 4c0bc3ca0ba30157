//! Opening a database and binding it to a chain: the steps before there is a [`Guard`].

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use holdfast_domain::PublicKey;
use holdfast_domain::{Clock, GenesisValidatorsRoot, SlotClock};

#[cfg(feature = "sqlite")]
use crate::store::sqlite::SqliteStore;
#[cfg(feature = "postgres")]
use crate::{PostgresOptions, SchemaVersion, store::postgres::PostgresStore};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::{
    committer::Core,
    error::OpenError,
    guard::Guard,
    journal::{Head, InstanceId, Retention},
    labels::{Label, by_label},
    overview::Overview,
    store::Store,
};

/// Slots beyond the clock that still count as present: room for clocks that differ a little.
pub const DEFAULT_FUTURE_TOLERANCE_SLOTS: u64 = 1;
/// Requests that may wait for the committer.
pub const DEFAULT_QUEUE_CAPACITY: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Requests committed together at most.
pub const DEFAULT_MAX_BATCH: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();

/// Which database to open.
#[cfg(feature = "sqlite")]
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The SQLite file; made with mode 0600 if it is not there. Its directory must exist.
    pub path: PathBuf,
}

/// To what a database is bound.
#[derive(Clone)]
pub struct BindOptions {
    /// The chain.
    pub genesis_validators_root: GenesisValidatorsRoot,
    /// Its slots.
    pub slot_clock: SlotClock,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Slots beyond the clock that still count as present; [`DEFAULT_FUTURE_TOLERANCE_SLOTS`].
    pub future_tolerance_slots: u64,
    /// Whether a fence is placed although the clock is behind what was signed before.
    pub trust_clock: bool,
    /// Requests that may wait; [`DEFAULT_QUEUE_CAPACITY`].
    pub queue_capacity: NonZeroUsize,
    /// Requests committed together at most; [`DEFAULT_MAX_BATCH`].
    pub max_batch: NonZeroUsize,
    /// Where the end of the journal is remembered outside the database. Without it nobody notices that the
    /// database lost writes: leave it out only where that cannot matter.
    pub anchor: Option<PathBuf>,
    /// How long journal batches stay in the database; `None`: for ever.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub retention: Option<Retention>,
    /// Faults to come.
    #[cfg(feature = "fault-injection")]
    pub faults: Option<crate::FaultPlan>,
}

/// The same options, as the committer keeps them.
pub(crate) type Settings = BindOptions;

impl BindOptions {
    /// Options with the defaults.
    pub fn new(genesis_validators_root: GenesisValidatorsRoot, slot_clock: SlotClock, clock: Arc<dyn Clock>) -> Self {
        Self {
            genesis_validators_root,
            slot_clock,
            clock,
            future_tolerance_slots: DEFAULT_FUTURE_TOLERANCE_SLOTS,
            trust_clock: false,
            queue_capacity: DEFAULT_QUEUE_CAPACITY,
            max_batch: DEFAULT_MAX_BATCH,
            anchor: None,
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            retention: None,
            #[cfg(feature = "fault-injection")]
            faults: None,
        }
    }
}

/// An open, locked and migrated database that is not serving yet.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub struct SlashingDb {
    store: Box<dyn Store>,
    pinned: Option<GenesisValidatorsRoot>,
    instance: InstanceId,
    /// The file, or the server's address without credentials: for messages.
    place: PathBuf,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl SlashingDb {
    /// Opens the SQLite database, or makes it. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: locked by another process, on a network filesystem, not ours, damaged, too new, or
    /// a setting that durability needs did not take effect. Nothing has been changed then.
    #[cfg(feature = "sqlite")]
    pub fn open(options: &StoreOptions) -> Result<Self, OpenError> {
        let store = SqliteStore::open(&options.path)?;
        let (pinned, instance) = (store.pinned(), store.instance());
        Ok(Self { store: Box::new(store), pinned, instance, place: options.path.clone() })
    }

    /// Connects to a PostgreSQL database, brings its schema up to date, and signs this instance in. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]: out of reach, read-only, too old, not durable, or of a newer schema. Nothing has been
    /// changed then.
    #[cfg(feature = "postgres")]
    pub fn open_postgres(options: &PostgresOptions) -> Result<Self, OpenError> {
        let store = PostgresStore::open(options)?;
        let (pinned, instance, place) = (store.pinned(), store.instance(), store.address().into());
        Ok(Self { store: Box::new(store), pinned, instance, place })
    }

    /// What [`open_postgres`](Self::open_postgres) would do to the schema. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]: out of reach, read-only, too old, or not durable.
    #[cfg(feature = "postgres")]
    pub fn examine_postgres(options: &PostgresOptions) -> Result<SchemaVersion, OpenError> {
        PostgresStore::examine(options)
    }

    /// Looks at an SQLite database: nothing is locked, made or changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] if the file is not there or cannot be read.
    #[cfg(feature = "sqlite")]
    pub fn overview(options: &StoreOptions) -> Result<Overview, OpenError> {
        crate::store::sqlite::overview(&options.path)
    }

    /// The keys that have each label in an SQLite database: nothing is locked, made or changed. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] if the file is not there or cannot be read.
    #[cfg(feature = "sqlite")]
    pub fn labels(options: &StoreOptions) -> Result<BTreeMap<Label, BTreeSet<PublicKey>>, OpenError> {
        crate::store::sqlite::labels_of_file(&options.path).map(by_label)
    }

    /// Copies an SQLite database as of its last commit into the new file `to`, durably; a running signer is not
    /// disturbed. A copy put to use must be fenced: it may lack what was signed after it was made. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: not there, not ours, not readable, or `to` cannot be written. A part of `to` may be there then.
    #[cfg(feature = "sqlite")]
    pub fn copy(options: &StoreOptions, to: &std::path::Path) -> Result<(), OpenError> {
        crate::store::sqlite::backup::copy(&options.path, to)
    }

    /// Reads every page of an SQLite database that nobody writes to, such as a copy. Changes nothing. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`]: not there, not ours, or damaged.
    #[cfg(feature = "sqlite")]
    pub fn check_pages(options: &StoreOptions) -> Result<(), OpenError> {
        crate::store::sqlite::backup::check(&options.path)
    }

    /// Looks at a PostgreSQL database: nobody is signed in, nothing is made or changed. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]: out of reach, read-only, too old, or not durable.
    #[cfg(feature = "postgres")]
    pub fn overview_postgres(options: &PostgresOptions) -> Result<Overview, OpenError> {
        crate::store::postgres::overview(options)
    }

    /// The keys that have each label in a PostgreSQL database: nobody is signed in, nothing is made or changed. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]: out of reach, read-only, too old, or not durable.
    #[cfg(feature = "postgres")]
    pub fn labels_postgres(options: &PostgresOptions) -> Result<BTreeMap<Label, BTreeSet<PublicKey>>, OpenError> {
        crate::store::postgres::labels(options).map(by_label)
    }

    /// Brings the schema of a PostgreSQL database up to date, also where other programs have tables, which
    /// [`open_postgres`](Self::open_postgres) refuses when it finds no schema. Blocks.
    ///
    /// # Errors
    /// As [`open_postgres`](Self::open_postgres). Nothing has been changed then.
    #[cfg(feature = "postgres")]
    pub fn migrate_postgres(options: &PostgresOptions) -> Result<(), OpenError> {
        PostgresStore::migrate(options)
    }

    /// The chain this database is pinned to, if it is.
    pub fn pinned_network(&self) -> Option<GenesisValidatorsRoot> {
        self.pinned
    }

    /// Which instance this is: with SQLite drawn when the database was made, with PostgreSQL one for each data
    /// directory.
    pub fn instance_id(&self) -> InstanceId {
        self.instance
    }

    /// The end of the instance's journal as found in the database.
    pub fn journal_head(&self) -> Head {
        self.store.head()
    }

    /// Pins the chain on first use, refuses another one later, and starts serving.
    ///
    /// # Errors
    /// [`OpenError::WrongNetwork`], or a failure of the database or the operating system.
    pub fn bind(mut self, options: BindOptions) -> Result<Guard, OpenError> {
        let wanted = options.genesis_validators_root;
        let failed = |action, path: &std::path::Path| {
            let path = path.to_owned();
            move |source| OpenError::Database { action, path, source: Box::new(source) }
        };
        let pinned = self.store.pin(wanted).map_err(failed("pin the chain", &self.place))?;
        if pinned != wanted {
            return Err(OpenError::WrongNetwork { pinned, wanted });
        }
        let reader = self.store.reader().map_err(failed("open a reader", &self.place))?;
        Ok(Guard::new(Core::start(self.store, reader, self.instance, options)?))
    }
}
