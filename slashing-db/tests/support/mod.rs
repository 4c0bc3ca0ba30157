//! What the test programs share: a settable clock, intents of every kind, and databases in their own directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::message::{
    AggregateAndProof, Attestation, AttestationData, AttestationShape, BeaconBlockHeader, BitlistBytes, Checkpoint,
};
use holdfast_domain::{
    Clock, Epoch, Fork, ForkInfo, ForkName, GenesisValidatorsRoot, Message, Network, PublicKey, SigningIntent,
    Slashable, Slot, SlotClock, UnixMillis, Unslashable, ValidatorIndex,
};
use holdfast_slashing_db::{
    BindOptions, CallerId, EntryWatermark, Guard, KeyOrigin, NewKey, SealedKey, SlashingDb, StoreOptions, Tombstone,
};

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres")]
pub mod proxy;

/// A clock that shows what it is told.
pub struct SetClock(AtomicU64);

impl SetClock {
    pub fn at(millis: UnixMillis) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(millis.0)))
    }
    pub fn set(&self, millis: UnixMillis) {
        self.0.store(millis.0, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

pub fn network() -> Network {
    Network::builtin("mainnet").unwrap()
}

pub fn chain() -> GenesisValidatorsRoot {
    network().genesis_validators_root.unwrap()
}

pub fn slot_clock() -> SlotClock {
    network().slot_clock().unwrap()
}

/// The moment a slot starts.
pub fn start_of(slot: u64) -> UnixMillis {
    let clock = slot_clock();
    UnixMillis(clock.genesis.0 + slot * clock.slot_millis.get())
}

pub fn fork_info(root: GenesisValidatorsRoot) -> ForkInfo {
    let version = network().fork(ForkName::Electra).unwrap().version;
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    ForkInfo { fork, genesis_validators_root: root }
}

pub fn key(number: u32) -> PublicKey {
    let mut bytes = [0x80; 48];
    bytes[44..].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// Makes intents quickly: the network is looked up once.
pub struct Intents {
    network: Network,
    info: ForkInfo,
}

impl Intents {
    pub fn new() -> Self {
        Self { network: network(), info: fork_info(chain()) }
    }

    fn intent(&self, key: PublicKey, message: &Message) -> SigningIntent {
        SigningIntent::new(key, message, Some(self.info), None, &self.network).unwrap()
    }

    /// A block; `content` tells blocks of one slot apart.
    pub fn block(&self, key: PublicKey, slot: u64, content: u8) -> SigningIntent {
        let header = BeaconBlockHeader {
            slot: Slot(slot),
            proposer_index: ValidatorIndex(1),
            parent_root: [0; 32],
            state_root: [0; 32],
            body_root: [content; 32],
        };
        self.intent(key, &Message::Slashable(Slashable::Block(header)))
    }

    /// An attestation; `content` tells votes with the same epochs apart.
    pub fn vote(&self, key: PublicKey, source: u64, target: u64, content: u8) -> SigningIntent {
        self.intent(key, &Message::Slashable(Slashable::Attestation(Self::data(source, target, content))))
    }

    fn data(source: u64, target: u64, content: u8) -> AttestationData {
        AttestationData {
            slot: Slot(target.saturating_mul(32)),
            index: 0,
            beacon_block_root: [content; 32],
            source: Checkpoint { epoch: Epoch(source), root: [1; 32] },
            target: Checkpoint { epoch: Epoch(target), root: [2; 32] },
        }
    }

    /// An aggregate of votes for `target`.
    pub fn aggregate(&self, key: PublicKey, target: u64) -> SigningIntent {
        let aggregate = Attestation {
            aggregation_bits: BitlistBytes(vec![0b11]),
            data: Self::data(target.saturating_sub(1), target, 1),
            signature: [3; 96],
            shape: AttestationShape::Phase0,
        };
        let message = AggregateAndProof { aggregator_index: ValidatorIndex(1), aggregate, selection_proof: [4; 96] };
        self.intent(key, &Message::Unslashable(Unslashable::AggregateAndProof(Box::new(message))))
    }

    pub fn randao(&self, key: PublicKey, epoch: u64) -> SigningIntent {
        self.intent(key, &Message::Unslashable(Unslashable::RandaoReveal(Epoch(epoch))))
    }
}

/// A directory with a database in it, or beside it.
pub struct Home {
    pub directory: tempfile::TempDir,
    pub clock: Arc<SetClock>,
    /// Set if the database is in PostgreSQL: its address.
    pub url: Option<String>,
    /// Set if the files are somewhere else than in the directory.
    pub folder: Option<PathBuf>,
}

impl Home {
    /// An empty directory; the clock shows the start of `slot`.
    pub fn at_slot(slot: u64) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: SetClock::at(start_of(slot)), url: None, folder: None }
    }

    /// The same with an empty PostgreSQL database.
    #[cfg(feature = "postgres")]
    pub fn on_postgres(slot: u64) -> Self {
        let cluster = postgres::Cluster::shared();
        Self::with_url(slot, cluster.url(&cluster.create_database()))
    }

    /// The same with this PostgreSQL database.
    #[cfg(feature = "postgres")]
    pub fn with_url(slot: u64, url: String) -> Self {
        Self { url: Some(url), ..Self::at_slot(slot) }
    }

    /// The home of another instance on the same database.
    #[cfg(feature = "postgres")]
    pub fn sibling(&self) -> Self {
        let url = self.url.clone();
        Self { directory: tempfile::tempdir().unwrap(), clock: Arc::clone(&self.clock), url, folder: None }
    }

    /// Options for the PostgreSQL database, with an anchor in the directory.
    #[cfg(feature = "postgres")]
    pub fn postgres_options(&self) -> holdfast_slashing_db::PostgresOptions {
        let mut options = holdfast_slashing_db::PostgresOptions::new(self.url.clone().unwrap());
        options.anchor = Some(self.folder().join("anchor"));
        options
    }

    /// Where the files are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.as_deref().unwrap_or(self.directory.path())
    }

    fn database(&self) -> SlashingDb {
        #[cfg(feature = "postgres")]
        if self.url.is_some() {
            return SlashingDb::open_postgres(&self.postgres_options()).unwrap();
        }
        SlashingDb::open(&StoreOptions { path: self.path() }).unwrap()
    }

    pub fn path(&self) -> PathBuf {
        self.folder().join("holdfast.db")
    }

    pub fn open(&self) -> Guard {
        self.open_with(|_| {})
    }

    pub fn open_with(&self, adjust: impl FnOnce(&mut BindOptions)) -> Guard {
        let mut options = BindOptions::new(chain(), slot_clock(), self.clock.clone());
        if self.url.is_some() {
            options.anchor = Some(self.folder().join("anchor"));
        }
        adjust(&mut options);
        self.database().bind(options).unwrap()
    }
}

pub fn new_key(key: PublicKey) -> NewKey {
    NewKey {
        key,
        sealed: SealedKey::new(vec![0x5e; 60]),
        origin: KeyOrigin::Imported,
        label: None,
        labels: holdfast_slashing_db::Labels::new(),
        registered_by: CallerId::new("operator"),
    }
}

pub fn caller() -> CallerId {
    CallerId::new("validator-client")
}

/// Registers keys as never signed.
pub async fn register_fresh(guard: &Guard, keys: impl IntoIterator<Item = PublicKey>) {
    let keys = keys.into_iter().map(|key| (new_key(key), EntryWatermark::NeverSigned)).collect();
    for result in guard.register_many(keys, Tombstone::Refuse).await.unwrap() {
        result.unwrap();
    }
}
