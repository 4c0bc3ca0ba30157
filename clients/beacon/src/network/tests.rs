//! Proves: timing comes from the specification, with Gloas gated by its epoch, and a network without slot or
//! epoch length is refused. Also the sample network other tests use.

use std::time::Duration;

use holdfast_domain::{ForkVersion, GenesisValidatorsRoot};

use super::*;
use crate::EndpointClass;

/// A network that forks at 5 and at 500.
pub(crate) fn facts() -> NodeNetwork {
    let spec = [
        ("SLOTS_PER_EPOCH", "32"),
        ("SECONDS_PER_SLOT", "12"),
        ("PRESET_BASE", "mainnet"),
        ("DOMAIN_BEACON_ATTESTER", "0x01000000"),
        ("FULU_FORK_EPOCH", "5"),
        ("FULU_FORK_VERSION", "0x02000000"),
        ("GLOAS_FORK_EPOCH", "500"),
        ("GLOAS_FORK_VERSION", "0x03000000"),
        ("ATTESTATION_DUE_BPS_GLOAS", "2500"),
        ("PAYLOAD_ATTESTATION_DUE_BPS", "7500"),
    ];
    NodeNetwork {
        genesis: Genesis {
            genesis_time_seconds: 1_700_000_000,
            genesis_validators_root: GenesisValidatorsRoot([0x4b; 32]),
            genesis_fork_version: ForkVersion([1, 0, 0, 0]),
        },
        spec: spec.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        forks: vec![row(0, 1), row(5, 2), row(500, 3)],
    }
}

pub(crate) fn row(epoch: u64, version: u8) -> ForkRow {
    let current_version = ForkVersion([version, 0, 0, 0]);
    ForkRow { previous_version: ForkVersion([0; 4]), current_version, epoch: Epoch(epoch) }
}

/// Sets a key of the specification.
pub(crate) fn with(network: &mut NodeNetwork, key: &str, value: &str) {
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    network.spec = network.spec.iter().map(own).chain([(key.to_owned(), value.to_owned())]).collect();
}

fn pinned(changes: &[(&str, &str)]) -> PinnedNetwork {
    let mut facts = facts();
    for (key, value) in changes {
        with(&mut facts, key, value);
    }
    PinnedNetwork::new(facts).unwrap()
}

#[test]
fn duties_are_due_as_the_specification_says() {
    let network = pinned(&[]);
    let start = 1_700_000_000_000;
    assert_eq!(network.due(DutyPoint::Attestation, Slot(0)), UnixMillis(start + 3_999), "3333 basis points");
    assert_eq!(network.due(DutyPoint::Aggregate, Slot(1)), UnixMillis(start + 12_000 + 8_000));
    assert_eq!(network.due(DutyPoint::PayloadAttestation, Slot(0)), UnixMillis(start + 12_000), "none before Gloas");
    let gloas = Slot(500 * 32);
    let from = network.start_of(gloas).0;
    assert_eq!(network.due(DutyPoint::Attestation, gloas), UnixMillis(from + 3_000));
    assert_eq!(network.due(DutyPoint::PayloadAttestation, gloas), UnixMillis(from + 9_000));
    let before = Slot(500 * 32 - 1);
    assert_eq!(network.due(DutyPoint::Attestation, before).0 - network.start_of(before).0, 3_999);
    let heze = pinned(&[("SLOT_DURATION_MS", "10000"), ("ATTESTATION_DUE_BPS", "5000")]);
    assert_eq!(heze.due(DutyPoint::Attestation, Slot(2)), UnixMillis(start + 25_000), "milliseconds go before seconds");
}

#[test]
fn the_time_left_shrinks_within_the_slot_and_scales_with_it() {
    let network = pinned(&[]);
    let left = |class, into: u64| network.time_left(class, UnixMillis(1_700_000_000_000 + into)).0.as_millis();
    assert_eq!(left(EndpointClass::AttestationData, 4_000), 3_000, "capped at a quarter of the slot");
    assert_eq!(left(EndpointClass::AttestationData, 6_000), 1_000);
    assert_eq!(left(EndpointClass::AttestationData, 11_000), 1_000, "an honest try");
    assert_eq!(left(EndpointClass::Produce, 1_500), 2_499);
    let short = pinned(&[("SLOT_DURATION_MS", "6000")]);
    for class in EndpointClass::ALL {
        for into in (0..6_000).step_by(250) {
            let at =
                |network: &PinnedNetwork, into: u64| network.time_left(class, UnixMillis(1_700_000_000_000 + into));
            let ((due, end), (short_due, short_end)) = (at(&network, 2 * into), at(&short, into));
            assert!(due > Duration::ZERO && end >= due, "{class:?} at {into}: {due:?}, {end:?}");
            assert!((short_due * 2).abs_diff(due).as_millis() <= 4, "{class:?} at {into}");
            assert!((short_end * 2).abs_diff(end).as_millis() <= 4, "{class:?} at {into}");
        }
    }
}

#[test]
fn late_answers_are_waited_for_while_they_help() {
    let network = pinned(&[]);
    let end = |class, into: u64| network.time_left(class, UnixMillis(1_700_000_000_000 + into)).1.as_millis();
    assert_eq!(end(EndpointClass::Produce, 1_000), 11_000, "a late block may still be taken");
    assert_eq!(end(EndpointClass::AttestationData, 11_000), 6_000, "its vote counts in later slots");
    assert_eq!(end(EndpointClass::Submit, 11_500), 12_000, "what is not submitted is lost");
}

#[test]
fn a_specification_without_lengths_is_refused() {
    for (key, value) in [("SECONDS_PER_SLOT", "0"), ("SECONDS_PER_SLOT", "twelve"), ("SLOTS_PER_EPOCH", "0")] {
        let mut facts = facts();
        with(&mut facts, key, value);
        assert!(matches!(PinnedNetwork::new(facts), Err(SpecError::Missing(_))), "{key}={value}");
    }
}

#[test]
fn slots_and_epochs_follow_the_clock() {
    let network = pinned(&[]);
    assert_eq!(network.slot_at(UnixMillis(0)), Slot(0), "before genesis");
    assert_eq!(network.epoch_at(UnixMillis(1_700_000_000_000 + 64 * 12_000)), Epoch(2));
}
