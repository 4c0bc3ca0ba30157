//! A chain with short slots of which each is an epoch, so that a fence is passed in no time, and messages for it.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_domain::message::{AttestationData, BeaconBlockHeader, Checkpoint};
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, Message, Network, PublicKey, SigningIntent, Slashable,
    Slot, UnixMillis, ValidatorIndex,
};
use holdfast_vault_proto::{Request, SignItem};

/// The chain.
pub(crate) const GENESIS: GenesisValidatorsRoot = GenesisValidatorsRoot([0x4b; 32]);
/// Length of a slot, and of an epoch.
const SLOT_MILLIS: u64 = 250;
/// What stands before the body of a frame.
const FRAME_HEADER: usize = 13;

/// The network of these tests: it began ten thousand slots ago.
pub(crate) fn network() -> Network {
    static BEGAN: OnceLock<u64> = OnceLock::new();
    let began = *BEGAN.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        u64::try_from(now).unwrap() - 10_000 * SLOT_MILLIS
    });
    let mut network = Network::builtin("mainnet").unwrap();
    network.genesis_validators_root = Some(GENESIS);
    network.genesis_time = Some(UnixMillis(began));
    network.slot_millis = NonZeroU64::new(SLOT_MILLIS).unwrap();
    network.preset.slots_per_epoch = NonZeroU64::MIN;
    network
}

/// The same chain, as a host would like it: with its times wound back by so many slots.
pub(crate) fn wound_back(slots: u64) -> Network {
    let mut network = network();
    network.genesis_time = network.genesis_time.map(|time| UnixMillis(time.0 + slots * SLOT_MILLIS));
    network
}

/// The file that is measured with the enclave.
pub(crate) fn measured(network: &Network) -> Vec<u8> {
    Request::Pin(Box::new(network.clone())).frame(1).unwrap().as_bytes()[FRAME_HEADER..].to_vec()
}

/// The slot at a time of the vault's clock.
pub(crate) fn slot_at(clock_millis: u64) -> u64 {
    network().slot_clock().unwrap().slot_at(UnixMillis(clock_millis)).unwrap().0
}

/// An attestation for a block that `content` stands for.
pub(crate) fn vote(source: u64, target: u64, content: u8) -> Message {
    Message::Slashable(Slashable::Attestation(AttestationData {
        slot: Slot(target),
        index: 0,
        beacon_block_root: [content; 32],
        source: Checkpoint { epoch: Epoch(source), root: [2; 32] },
        target: Checkpoint { epoch: Epoch(target), root: [3; 32] },
    }))
}

/// A block proposal with a body that `content` stands for.
pub(crate) fn block(slot: u64, content: u8) -> Message {
    Message::Slashable(Slashable::Block(BeaconBlockHeader {
        slot: Slot(slot),
        proposer_index: ValidatorIndex(1),
        parent_root: [4; 32],
        state_root: [5; 32],
        body_root: [content; 32],
    }))
}

/// What an honest signer would make of a message, without asking its database.
pub(crate) fn intent(key: PublicKey, message: &Message) -> SigningIntent {
    let version = ForkVersion([5, 0, 0, 0]);
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    let info = ForkInfo { fork, genesis_validators_root: GENESIS };
    SigningIntent::new(key, message, Some(info), None, &network()).unwrap()
}

/// The same, as it travels.
pub(crate) fn item(key: PublicKey, message: &Message) -> SignItem {
    let intent = intent(key, message);
    SignItem { public_key: key, root: intent.root().into(), commit_seq: 0, statement: **intent.statement() }
}
