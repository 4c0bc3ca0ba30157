//! Which version each message is signed under, and what is kept of it.

use super::*;
use crate::ValidatorIndex;
use crate::error::TreeError;
use crate::fork::Fork;
use crate::gloas::BuilderRequestAuth;
use crate::message::{
    AttestationData, BeaconBlockHeader, Checkpoint, Deposit, Slashable, Unslashable, ValidatorRegistration,
};

const KEY: PublicKey = PublicKey::from_bytes([9; 48]);
const CHAIN: GenesisValidatorsRoot = GenesisValidatorsRoot([7; 32]);

fn mainnet() -> Network {
    Network::builtin("mainnet").unwrap()
}

/// Mainnet's `fork_info` with these one-byte versions.
fn info(previous: u8, current: u8, epoch: u64) -> ForkInfo {
    let version = |first| ForkVersion([first, 0, 0, 0]);
    let fork = Fork { previous_version: version(previous), current_version: version(current), epoch: Epoch(epoch) };
    ForkInfo { fork, genesis_validators_root: CHAIN }
}

fn exit(epoch: u64) -> Message {
    Message::Unslashable(Unslashable::VoluntaryExit(VoluntaryExit {
        epoch: Epoch(epoch),
        validator_index: ValidatorIndex(1),
    }))
}

fn exit_domain(first_byte: u8) -> Domain {
    Domain::compute(DomainType::VOLUNTARY_EXIT, ForkVersion([first_byte, 0, 0, 0]), CHAIN)
}

fn signing_root(message: &Message, domain: &Domain) -> SigningRoot {
    SigningRoot(hash_pair(&message.object_root(&mainnet().preset).unwrap().0, &domain.0))
}

fn attestation(source: u64, target: u64) -> Message {
    let checkpoint = |epoch| Checkpoint { epoch: Epoch(epoch), root: [1; 32] };
    Message::Slashable(Slashable::Attestation(AttestationData {
        slot: Slot(77),
        index: 0,
        beacon_block_root: [2; 32],
        source: checkpoint(source),
        target: checkpoint(target),
    }))
}

#[test]
fn the_fork_boundary_is_judged_by_the_message() {
    let at = |message: &Message| SigningIntent::new(KEY, message, Some(info(4, 5, 100)), None, &mainnet()).unwrap();
    let attester = |first| Domain::compute(DomainType::BEACON_ATTESTER, ForkVersion([first, 0, 0, 0]), CHAIN);
    // The target decides, not the slot.
    assert_eq!(at(&attestation(98, 99)).domain(), attester(4));
    let intent = at(&attestation(99, 100));
    assert_eq!(intent.domain(), attester(5));
    assert_eq!(intent.genesis_validators_root(), Some(CHAIN));
    assert_eq!(intent.subject(), &Subject::Attestation { slot: Slot(77), source: Epoch(99), target: Epoch(100) });

    let block = |slot| {
        Message::Slashable(Slashable::Block(BeaconBlockHeader {
            slot: Slot(slot),
            proposer_index: ValidatorIndex(3),
            parent_root: [1; 32],
            state_root: [2; 32],
            body_root: [3; 32],
        }))
    };
    let proposer = |first| Domain::compute(DomainType::BEACON_PROPOSER, ForkVersion([first, 0, 0, 0]), CHAIN);
    assert_eq!(at(&block(3199)).domain(), proposer(4));
    assert_eq!(at(&block(3200)).domain(), proposer(5));
    assert_eq!(at(&block(3200)).subject(), &Subject::Block { slot: Slot(3200) });
}

#[test]
fn exits_before_deneb_follow_the_ordinary_rule() {
    for (fork, epoch, expected) in
        [(info(0, 1, 74_240), 80_000, 1), (info(1, 2, 144_896), 144_000, 1), (info(0, 0, 0), 5, 0)]
    {
        let intent = SigningIntent::new(KEY, &exit(epoch), Some(fork), None, &mainnet()).unwrap();
        assert_eq!(intent.domain(), exit_domain(expected));
    }
}

#[test]
fn exits_from_deneb_on_use_capella() {
    for (fork, epoch) in [
        (info(3, 4, 269_568), 300_000),
        (info(4, 5, 364_032), 200_000),
        (info(5, 6, 411_392), 0),
        (info(6, 7, 500_000), 1),
    ] {
        let intent = SigningIntent::new(KEY, &exit(epoch), Some(fork), None, &mainnet()).unwrap();
        assert_eq!(intent.domain(), exit_domain(3));
        let dating = Dating::Epoch(Epoch(epoch));
        assert_eq!(intent.subject(), &Subject::Unslashable { kind: UnslashableKind::VoluntaryExit, dating });
    }
}

#[test]
fn exits_pinned_to_capella_stay_there() {
    let pinned = info(2, 3, 194_048);
    for epoch in [0, 150_000, 194_048, 420_000] {
        let intent = SigningIntent::new(KEY, &exit(epoch), Some(pinned), None, &mainnet()).unwrap();
        assert_eq!(intent.domain(), exit_domain(3), "epoch {epoch}");
    }
    // A chain still at Capella has the ordinary rule: by claiming its root, or by its schedule.
    let ordinary = exit_domain(2);
    let claim = signing_root(&exit(150_000), &ordinary).into();
    let intent = SigningIntent::new(KEY, &exit(150_000), Some(pinned), Some(claim), &mainnet()).unwrap();
    assert_eq!(intent.domain(), ordinary);
    let mut network = mainnet();
    let later: Vec<_> = network.forks.iter().skip(1).take(3).copied().collect();
    network.forks = crate::network::ForkSchedule::new(network.genesis_fork_version(), &later).unwrap();
    let intent = SigningIntent::new(KEY, &exit(150_000), Some(pinned), None, &network).unwrap();
    assert_eq!(intent.domain(), ordinary);
}

#[test]
fn an_unknown_fork_needs_a_claim_to_exit() {
    let unknown = info(8, 9, 10);
    let new = |claim| SigningIntent::new(KEY, &exit(50), Some(unknown), claim, &mainnet());
    let error = new(None).unwrap_err();
    assert_eq!(error.reason(), "unknown_fork_version");
    assert!(error.to_string().contains("0x09000000") && error.to_string().contains("mainnet"));
    for first_byte in [3, 9] {
        let domain = exit_domain(first_byte);
        assert_eq!(new(Some(signing_root(&exit(50), &domain).into())).unwrap().domain(), domain);
    }
    let other = signing_root(&exit(50), &exit_domain(8)).into();
    assert_eq!(new(Some(other)).unwrap_err().reason(), "signing_root_mismatch");
    // Nothing else depends on knowing the fork.
    assert!(SigningIntent::new(KEY, &attestation(49, 50), Some(unknown), None, &mainnet()).is_ok());
}

#[test]
fn a_claim_is_compared_and_never_signed() {
    let message = attestation(1, 2);
    let root = SigningIntent::new(KEY, &message, Some(info(0, 0, 0)), None, &mainnet()).unwrap().root();
    let claim = |claim| SigningIntent::new(KEY, &message, Some(info(0, 0, 0)), Some(claim), &mainnet());
    assert_eq!(claim(root.into()).unwrap().root(), root);
    let error = claim(ObservedRoot::new([1; 32])).unwrap_err();
    assert!(matches!(&error, IntentError::SigningRootMismatch { computed, .. } if *computed == root));
    assert_eq!(error.reason(), "signing_root_mismatch");
}

#[test]
fn messages_of_every_chain_need_no_fork_info() {
    let every_chain =
        |domain_type, version| Domain::compute(domain_type, ForkVersion(version), GenesisValidatorsRoot::ZERO);
    let deposit = Message::Unslashable(Unslashable::Deposit(Deposit {
        pubkey: KEY,
        withdrawal_credentials: [1; 32],
        amount: 32,
        genesis_fork_version: ForkVersion([1, 2, 3, 4]),
    }));
    let registration = Message::Unslashable(Unslashable::ValidatorRegistration(ValidatorRegistration {
        fee_recipient: [1; 20],
        gas_limit: 1,
        timestamp: 1,
        pubkey: KEY,
    }));
    let gnosis = Network::builtin("gnosis").unwrap();
    for fork_info in [None, Some(info(1, 2, 3))] {
        let intent = SigningIntent::new(KEY, &deposit, fork_info, None, &gnosis).unwrap();
        assert_eq!(intent.domain(), every_chain(DomainType::DEPOSIT, [1, 2, 3, 4]));
        assert_eq!(intent.genesis_validators_root(), None);
        let intent = SigningIntent::new(KEY, &registration, fork_info, None, &gnosis).unwrap();
        assert_eq!(intent.domain(), every_chain(DomainType::APPLICATION_BUILDER, [0, 0, 0, 0x64]));
        let kind = UnslashableKind::ValidatorRegistration;
        assert_eq!(intent.subject(), &Subject::Unslashable { kind, dating: Dating::Undated });
    }
}

#[test]
fn builder_authentication_has_1_to_4096_bytes() {
    let new = |length| {
        let auth = BuilderRequestAuth { data: vec![1; length], slot: Slot(9) };
        SigningIntent::new(KEY, &Message::Unslashable(Unslashable::BuilderRequestAuth(auth)), None, None, &mainnet())
    };
    assert!(new(1).is_ok());
    assert!(new(4096).is_ok());
    assert_eq!(new(0).unwrap_err().reason(), "malformed_request");
    let error = new(4097).unwrap_err();
    let field = "builder_request_auth.data";
    assert!(
        matches!(error, IntentError::Malformed(TreeError::TooLong { got: 4097, limit: 4096, field: f }) if f == field)
    );
}

#[test]
fn fork_info_is_required_where_it_is_used() {
    let randao = Message::Unslashable(Unslashable::RandaoReveal(Epoch(1)));
    for message in [attestation(1, 2), randao, exit(1)] {
        let error = SigningIntent::new(KEY, &message, None, None, &mainnet()).unwrap_err();
        assert_eq!(error.reason(), "missing_fork_info");
        assert!(error.to_string().starts_with("fork_info is required for "));
    }
}
