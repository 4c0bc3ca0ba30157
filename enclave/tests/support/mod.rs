//! What tests of this crate sign with: permits from a real guard over a database in a temporary directory,
//! as there is no other way to have one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each suite that includes this file uses a part of it")]

use std::num::NonZeroU64;
use std::sync::Arc;

use holdfast_domain::message::{AttestationData, BeaconBlockHeader, Checkpoint};
use holdfast_domain::{
    Clock, Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, Message, Network, PublicKey, SigningIntent,
    SigningRoot, Slashable, Slot, SlotClock, UnixMillis, ValidatorIndex,
};
use holdfast_slashing_db::interchange::Interchange;
use holdfast_slashing_db::{
    AdminError, BindOptions, CallerId, EntryWatermark, Guard, ImportMode, KeyOrigin, NewKey, Refusal, Registered,
    Registration, SealedKey, SigningPermit, SlashingDb, StoreOptions, Tombstone,
};

/// The chain of these tests.
pub const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([0x4b; 32]);

/// A clock that stands still, long after every message of the tests.
struct Noon;

impl Clock for Noon {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000_000_000 * 12_000)
    }
}

/// A guard and its database.
pub struct Bench {
    guard: Guard,
    // Dropped last, so that the guard closes its files first.
    _dir: tempfile::TempDir,
}

impl Bench {
    /// An empty database for the chain of these tests.
    pub fn new() -> Self {
        Self::of(NETWORK)
    }

    /// An empty database for this chain.
    pub fn of(chain: GenesisValidatorsRoot) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = SlashingDb::open(&StoreOptions { path: dir.path().join("slashing.sqlite") }).unwrap();
        let clock = SlotClock {
            genesis: UnixMillis(0),
            slot_millis: NonZeroU64::new(12_000).unwrap(),
            slots_per_epoch: NonZeroU64::new(32).unwrap(),
        };
        let guard = db.bind(BindOptions::new(chain, clock, Arc::new(Noon))).unwrap();
        Self { guard, _dir: dir }
    }

    /// Registers a key that never signed.
    pub async fn register(&self, key: PublicKey) -> Registration {
        let new = NewKey {
            key,
            sealed: SealedKey::new(vec![1]),
            origin: KeyOrigin::Generated,
            label: None,
            labels: holdfast_slashing_db::Labels::new(),
            registered_by: CallerId::new("test"),
        };
        match self.guard.register(new, EntryWatermark::NeverSigned, Tombstone::Refuse).await.unwrap() {
            Registered::New(registration) | Registered::SwitchedOff(registration) => registration,
            Registered::Duplicate => panic!("the key is registered already"),
        }
    }

    /// Earns a permit for a message.
    pub async fn permit(&self, key: &PublicKey, message: &Message) -> SigningPermit {
        self.authorize(intent(key, message)).await.unwrap()
    }

    /// Asks for a permit.
    pub async fn authorize(&self, intent: SigningIntent) -> Result<SigningPermit, Refusal> {
        self.guard.authorize(intent, CallerId::new("test")).await
    }

    /// Imports histories.
    pub async fn import(&self, histories: Interchange) -> Result<(), AdminError> {
        self.guard.import(histories, ImportMode::Commit, &CallerId::new("test")).await.map(|_| ())
    }
}

/// Mainnet with the tests' genesis, at time zero.
pub fn network() -> Network {
    let mut network = Network::builtin("mainnet").unwrap();
    network.genesis_validators_root = Some(NETWORK);
    network.genesis_time = Some(UnixMillis(0));
    network
}

/// What an honest signer makes of a message.
pub fn intent(key: &PublicKey, message: &Message) -> SigningIntent {
    let version = ForkVersion([5, 0, 0, 0]);
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    let info = ForkInfo { fork, genesis_validators_root: NETWORK };
    SigningIntent::new(*key, message, Some(info), None, &network()).unwrap()
}

/// The signing root of a message.
pub fn root(message: &Message) -> SigningRoot {
    intent(&PublicKey::from_bytes([0; 48]), message).root()
}

/// An attestation with this target epoch, and the one before as source.
pub fn attestation(target: u64) -> Message {
    attestation_of(target.saturating_sub(1), target, 1)
}

/// An attestation for a block that this number stands for.
pub fn attestation_of(source: u64, target: u64, content: u8) -> Message {
    Message::Slashable(Slashable::Attestation(AttestationData {
        slot: Slot(target * 32),
        index: 0,
        beacon_block_root: [content; 32],
        source: Checkpoint { epoch: Epoch(source), root: [2; 32] },
        target: Checkpoint { epoch: Epoch(target), root: [3; 32] },
    }))
}

/// A block proposal.
pub fn block(slot: u64) -> Message {
    block_of(slot, 6)
}

/// A block proposal with a body that this number stands for.
pub fn block_of(slot: u64, content: u8) -> Message {
    Message::Slashable(Slashable::Block(BeaconBlockHeader {
        slot: Slot(slot),
        proposer_index: ValidatorIndex(1),
        parent_root: [4; 32],
        state_root: [5; 32],
        body_root: [content; 32],
    }))
}
