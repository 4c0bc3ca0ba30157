//! Proves: a chain whose every signature comes from one Holdfast, over TLS and with a token in the client's URL, finalizes through four forks, and SIGKILL of
//! Holdfast in the middle of a slot costs at most that slot's duties: the client carries on with the restarted
//! process, watermarks never move back, and nothing slashable reaches the chain.

use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_tests::documented;
use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use serde_json::json;

use crate::signer::{Answers, Signer, Watermark, Watermarks, later};
use crate::{FINALITY_SECONDS, Phases, SLOTS_PER_EPOCH, assert_nothing_slashable, assert_votes};
use holdfast_tests::devnet::Network;

/// First finalized epoch to reach: 32 slots of 2 s after genesis on a healthy chain.
const FINALIZED_BEFORE_KILLS: u64 = 2;
/// Where in a slot Holdfast is killed: while a block is proposed, while votes are signed, while they are aggregated.
const KILLED_AT: [f64; 3] = [0.05, 0.35, 0.68];
/// The validator client of this act.
const CLIENT: &str = "vc";
/// Its name at Holdfast.
const CALLER: &str = "lodestar-1";

/// What this act leaves to the next.
pub(crate) struct Left {
    /// The signer; no server runs on it.
    pub(crate) signer: Signer,
    /// What its keys have signed.
    pub(crate) recorded: Watermarks,
}

/// How the client comes in: over TLS, as a caller whose token is in the address.
struct Door {
    token: String,
    authority: PathBuf,
}

impl Door {
    fn new(signer: &Signer, authority: PathBuf) -> Self {
        let made: serde_json::Value =
            serde_json::from_slice(&signer.run(&["callers", "add", CALLER])).expect("the caller is JSON");
        Self { token: made["basic_token"].as_str().expect("a token").to_owned(), authority }
    }

    fn url(&self, server: &Server) -> String {
        format!("https://{CALLER}:{}@{}", self.token, server.http_addr())
    }
}

fn refusals(log: &Path) -> usize {
    let log = std::fs::read_to_string(log).expect("the client has a log");
    log.matches("\"code\":412").count()
}

/// Asks for a vote that contradicts the last one of a key, and expects 412.
fn assert_contradiction_refused(server: &Server, door: &Door, network: &Network, key: &str, signed: Watermark) {
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
    let (authority, url) = (door.authority.display().to_string(), door.url(server));
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--write-out", " %{http_code}", "--cacert", &authority])
        .args(["-H", "Content-Type: application/json", "--data", &request.to_string()])
        .arg(format!("{url}/api/v1/eth2/sign/{key}"))
        .output()
        .expect("curl starts");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.ends_with(" 412"), "a contradicting vote was answered with {answer}: {output:?}");
}

/// Plays the act. Ends with client and server stopped.
pub(crate) fn run(network: &Network, folder: &Path, phases: &Phases) -> Left {
    let files = folder.join("tls");
    std::fs::create_dir(&files).expect("a folder");
    documented::run("docs/tls.md", "server", &files);
    let signer = Signer::new(folder.join("holdfast"), network, &[]);
    let signer = signer.over_tls(&files.join("tls.pem"), &files.join("tls.key"));
    signer.import(network, &["--watermark", "never-signed"]);
    let door = Door::new(&signer, files.join("ca.pem"));
    phases.say("keys are imported");
    let mut server = signer.serve(0);
    let address = server.http_addr();
    let client_log = network.start_validators_over_tls(CLIENT, &door.url(&server), &door.authority);
    phases.say("validator client runs");

    let before = network.wait_finalized(FINALIZED_BEFORE_KILLS, FINALITY_SECONDS);
    phases.say("finalized");
    let mut answers = Answers::default();
    answers.add(&server);
    answers.assert_soon();
    assert!(answers.unsigned.is_empty(), "requests of the client got no signature: {answers:?}");
    let status = network.status();
    assert!(status.missed_slots.len() <= 1, "slots without a block: {status:?}");
    assert_votes(&status, 90);
    println!(
        "sync committee: {} of {} votes; missed slots: {:?}",
        status.sync_votes, status.sync_seats, status.missed_slots
    );
    // A sync vote has a third of a two-second slot to travel from the client's clock to the block: how many arrive says
    // little about Holdfast, whose own part is asserted above.
    assert!(status.sync_votes * 100 >= status.sync_seats * 70, "sync committee votes are missing: {status:?}");
    assert_nothing_slashable(&status);
    let forks: Vec<&str> = status.forks.keys().map(String::as_str).collect();
    assert_eq!(forks, ["altair", "bellatrix", "capella", "phase0"]);

    let mut recorded = Watermarks::new();
    let mut head = before.head_slot;
    for part in KILLED_AT {
        network.wait_head(head + 1, part);
        server.kill9();
        // Read from the database while no server runs: what the killed process left behind.
        recorded = later(&recorded, signer.watermarks());
        server = signer.serve(address.port());
        head = network.wait_head(head + 3, 0.9).head_slot;
    }
    phases.say("killed and restarted three times");
    // The votes that follow the last kill.
    network.wait_head(head + SLOTS_PER_EPOCH, 0.9);
    let status = network.status();
    assert!(status.missed_slots.len() <= 1 + KILLED_AT.len(), "slots without a block: {status:?}");
    assert_votes(&status, 80);
    assert_nothing_slashable(&status);
    assert_eq!(refusals(&client_log), 0, "Holdfast refused duties; see {}", client_log.display());
    let key = &network.pubkeys()[0];
    assert_contradiction_refused(&server, &door, network, key, recorded[key]);

    network.end_validators(CLIENT);
    let (ended, log) = server.stop();
    assert!(ended.success(), "Holdfast ended with {ended}:\n{log}");
    let last = later(&recorded, signer.watermarks());
    assert_eq!(last.len(), network.pubkeys().len());
    for key in network.pubkeys() {
        assert!(last[key].target > recorded[key].target, "{key} attested no more after the kills: {:?}", last[key]);
    }
    phases.say("client and signer stopped");
    Left { signer, recorded: last }
}
