//! End to end: a real Lodestar beacon node and validator client, with the built `holdfast` as the only holder of keys.
//!
//! One chain, two acts. In `single.rs` one Holdfast on SQLite signs everything, is killed and comes back. In
//! `rolling.rs` its keys and their history move to two Holdfast instances on one PostgreSQL behind nginx, which are
//! restarted in turn while the chain goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test: a broken assumption must stop it with a message"
)]

mod balancer;

mod rolling;
mod signer;
mod single;

use std::time::Instant;

use holdfast_tests::devnet::{ChainStatus, Network};

/// A fork in each of the first epochs, so that every fork's requests are signed.
const FORKS: &str = "altair=1,bellatrix=2,capella=3";
/// Limit for each wait for finality.
const FINALITY_SECONDS: u64 = 110;
const SLOTS_PER_EPOCH: u64 = 8;

/// Says what is happening and when.
struct Phases(Instant);

impl Phases {
    fn say(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

fn assert_nothing_slashable(status: &ChainStatus) {
    assert_eq!(status.double_votes, 0, "{status:?}");
    assert_eq!(status.slashed_validators, 0, "{status:?}");
    assert_eq!(status.proposer_slashings + status.attester_slashings, 0, "{status:?}");
}

/// At least `percent` of the votes of all complete epochs are in blocks, and of each epoch what finality needs.
fn assert_votes(status: &ChainStatus, percent: u64) {
    let complete = || status.attestations.iter().filter(|votes| votes.complete);
    let (included, expected): (u64, u64) =
        complete().fold((0, 0), |sum, votes| (sum.0 + votes.included, sum.1 + votes.expected));
    assert!(included * 100 >= expected * percent, "votes are missing in {status:?}");
    for votes in complete() {
        assert!(votes.included * 3 >= votes.expected * 2, "votes are missing in epoch {}: {status:?}", votes.epoch);
    }
}

#[test]
fn a_real_validator_client_survives_kills_and_misses_nothing_in_rolling_restarts() {
    let phases = Phases(Instant::now());
    let mut folder = tempfile::tempdir().expect("a temporary folder");
    // Kept after a failure: the logs of all processes are in it.
    folder.disable_cleanup(true);
    eprintln!("runs in {}", folder.path().display());
    let network = Network::start(folder.path(), FORKS);
    phases.say("network is up");
    let left = single::run(&network, folder.path(), &phases);
    rolling::run(&network, folder.path(), &left, &phases);
    folder.disable_cleanup(false);
    phases.say("all checked");
}
