//! End to end: a real Lodestar beacon node and validator client, with the built `holdfast` as the only holder of keys.
//!
//! Proves that a chain whose every signature comes from Holdfast finalizes through four forks, and that SIGKILL of
//! Holdfast in the middle of a slot costs at most that slot's duties: the client carries on with the restarted
//! process, watermarks never move back, and nothing slashable reaches the chain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test: a broken assumption must stop it with a message"
)]

mod network;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use holdfast_tests::harness::{Builder, Server, holdfast_ok};
use holdfast_tests::http::once;
use network::{ChainStatus, Network};
use serde_json::{Value, json};

/// A fork in each of the first epochs, so that every fork's requests are signed.
const FORKS: &str = "altair=1,bellatrix=2,capella=3";
/// First finalized epoch to reach: 32 slots of 2 s after genesis on a healthy chain.
const FINALIZED_BEFORE_KILLS: u64 = 2;
/// Limit for each of the two waits for finality.
const FINALITY_SECONDS: u64 = 110;
/// Where in a slot Holdfast is killed: while a block is proposed, while votes are signed, while they are aggregated.
const KILLED_AT: [f64; 3] = [0.05, 0.35, 0.68];
const SLOTS_PER_EPOCH: u64 = 8;

/// Block slot, source epoch and target epoch of a key; `None` before the first signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watermark {
    block: Option<u64>,
    source: Option<u64>,
    target: Option<u64>,
}

struct Signer {
    folder: PathBuf,
    options: Vec<String>,
}

impl Signer {
    /// Imports the network's keys into a new data directory.
    fn import(folder: PathBuf, network: &Network) -> Self {
        let signer = Self { folder, options: network.holdfast_options() };
        signer.run(&[
            "keys",
            "import",
            "--from",
            network.keystores().to_str().unwrap(),
            "--password-file",
            network.password_file().to_str().unwrap(),
            "--watermark",
            "never-signed",
        ]);
        signer
    }

    fn run(&self, command: &[&str]) -> Vec<u8> {
        let mut arguments = vec!["--data-dir", self.folder.to_str().unwrap(), "--json"];
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.extend(command);
        holdfast_ok(&arguments).stdout
    }

    /// Port 0 takes a free one.
    fn serve(&self, port: u16) -> Server {
        let builder = self.options.iter().fold(Server::builder().data_dir(&self.folder), Builder::global);
        let server = builder.http_port(port).start();
        server.wait_ready();
        server
    }

    fn watermarks(&self) -> BTreeMap<String, Watermark> {
        let status: Value = serde_json::from_slice(&self.run(&["slashing", "status"])).expect("status is JSON");
        let keys = status["keys"].as_array().unwrap_or_else(|| panic!("no keys in {status}"));
        keys.iter().map(|entry| (entry["pubkey"].as_str().expect("pubkey").to_owned(), watermark(entry))).collect()
    }
}

fn watermark(entry: &Value) -> Watermark {
    let number = |name: &str| match &entry[name] {
        Value::Null => None,
        Value::String(text) => Some(text.parse().expect("a number")),
        other => Some(other.as_u64().unwrap_or_else(|| panic!("{name} is {other}"))),
    };
    Watermark { block: number("block_slot"), source: number("source_epoch"), target: number("target_epoch") }
}

/// Passes `new` on after a check that no record moved back.
fn later(old: &BTreeMap<String, Watermark>, new: BTreeMap<String, Watermark>) -> BTreeMap<String, Watermark> {
    for (key, before) in old {
        let after = new.get(key).unwrap_or_else(|| panic!("{key} is no longer recorded"));
        assert!(
            after.block >= before.block && after.source >= before.source && after.target >= before.target,
            "the record of {key} moved back: {before:?} to {after:?}"
        );
    }
    new
}

fn assert_nothing_slashable(status: &ChainStatus) {
    assert_eq!(status.double_votes, 0, "{status:?}");
    assert_eq!(status.slashed_validators, 0, "{status:?}");
    assert_eq!(status.proposer_slashings + status.attester_slashings, 0, "{status:?}");
}

/// At least `percent` of the votes of each complete epoch from `first` on are in blocks.
fn assert_votes(status: &ChainStatus, first: u64, percent: u64) {
    for votes in status.attestations.iter().filter(|votes| votes.complete && votes.epoch >= first) {
        assert!(votes.included * 100 >= votes.expected * percent, "votes are missing in {votes:?} of {status:?}");
    }
}

fn refusals(log: &Path) -> usize {
    let log = std::fs::read_to_string(log).expect("the client has a log");
    log.matches("\"code\":412").count()
}

/// Asks for a vote that contradicts the last one of a key, and expects 412.
fn assert_contradiction_refused(server: &Server, network: &Network, key: &str, signed: Watermark) {
    let fork = once(network.beacon(), "GET", "/eth/v1/beacon/states/head/fork", &[], b"").expect("the node answers");
    let target = signed.target.expect("the key has attested");
    let root = |byte: &str| format!("0x{}", byte.repeat(32));
    let request = json!({
        "type": "ATTESTATION",
        "fork_info": { "fork": fork.json()["data"], "genesis_validators_root": network.genesis_validators_root() },
        "attestation": {
            "slot": (target * SLOTS_PER_EPOCH).to_string(),
            "index": "0",
            "beacon_block_root": root("a1"),
            "source": { "epoch": signed.source.expect("the key has attested").to_string(), "root": root("a2") },
            "target": { "epoch": target.to_string(), "root": root("a3") },
        },
    });
    let answer = server.sign(key, &request);
    assert_eq!(answer.status, 412, "a contradicting vote was answered with {}", answer.text());
}

#[test]
fn a_real_validator_client_finalizes_and_survives_a_killed_signer() {
    let begin = Instant::now();
    let phase = |name: &str| eprintln!("{:6.1} s  {name}", begin.elapsed().as_secs_f64());
    let mut folder = tempfile::tempdir().expect("a temporary folder");
    // Kept after a failure: the logs of all processes are in it.
    folder.disable_cleanup(true);
    eprintln!("runs in {}", folder.path().display());
    let network = Network::start(folder.path(), FORKS);
    phase("network is up");
    let signer = Signer::import(folder.path().join("holdfast"), &network);
    phase("keys are imported");
    let mut server = signer.serve(0);
    let address = server.http_addr();
    let client_log = network.start_validators(address);
    phase("validator client runs");

    let finalized = network.wait_finalized(FINALIZED_BEFORE_KILLS, FINALITY_SECONDS);
    phase("finalized");
    let status = network.status();
    assert!(status.missed_slots.len() <= 1, "slots without a block: {status:?}");
    assert_votes(&status, 0, 90);
    println!(
        "sync committee: {} of {} votes; missed slots: {:?}",
        status.sync_votes, status.sync_seats, status.missed_slots
    );
    // A sync vote has a third of a two-second slot to travel: a busy machine alone loses some of them.
    assert!(status.sync_votes * 100 >= status.sync_seats * 70, "sync committee votes are missing: {status:?}");
    assert_nothing_slashable(&status);
    let forks: Vec<&str> = status.forks.keys().map(String::as_str).collect();
    assert_eq!(forks, ["altair", "bellatrix", "capella", "phase0"]);

    let mut recorded = BTreeMap::new();
    let mut head = status.head_slot;
    for part in KILLED_AT {
        network.wait_head(head + 1, part);
        server.kill9();
        // Read from the database while no server runs: what the killed process left behind.
        recorded = later(&recorded, signer.watermarks());
        server = signer.serve(address.port());
        head = network.wait_head(head + 3, 0.9).head_slot;
    }
    phase("killed and restarted three times");

    network.wait_finalized(finalized.finalized_epoch + 2, FINALITY_SECONDS);
    phase("finalized again");
    let status = network.status();
    assert!(status.missed_slots.len() <= 1 + KILLED_AT.len(), "slots without a block: {status:?}");
    assert_votes(&status, 0, 60);
    assert_nothing_slashable(&status);
    assert_eq!(refusals(&client_log), 0, "Holdfast refused duties; see {}", client_log.display());
    let key = &network.pubkeys()[0];
    assert_contradiction_refused(&server, &network, key, recorded[key]);

    let (ended, log) = server.stop();
    assert!(ended.success(), "Holdfast ended with {ended}:\n{log}");
    let last = later(&recorded, signer.watermarks());
    assert_eq!(last.len(), network.pubkeys().len());
    for key in network.pubkeys() {
        assert!(last[key].target > recorded[key].target, "{key} attested no more after the kills: {:?}", last[key]);
    }
    folder.disable_cleanup(false);
    phase("all checked");
}
