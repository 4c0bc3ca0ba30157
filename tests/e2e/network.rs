//! Runs the devnet tool beside this file and turns its answers into types. The network belongs to this test process:
//! it goes down when the handle is dropped, and by itself when the test process is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What `up` says about the network.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    beacons: Vec<String>,
    genesis_time: u64,
    genesis_validators_root: String,
    config_file: PathBuf,
    keystores_dir: PathBuf,
    password_file: PathBuf,
    pubkeys: Vec<String>,
}

/// Head of the chain as `wait` reports it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    /// Slot of the clock.
    pub(crate) clock_slot: u64,
    /// Slot of the head block.
    pub(crate) head_slot: u64,
}

/// Votes of one epoch that blocks carry.
#[derive(Debug, Deserialize)]
pub(crate) struct EpochVotes {
    /// Epoch in which the votes were due.
    pub(crate) epoch: u64,
    /// Validators whose vote is in a block.
    pub(crate) included: u64,
    /// Active validators.
    pub(crate) expected: u64,
    /// Whether no further vote can be included.
    pub(crate) complete: bool,
}

/// What a scan of the chain's blocks found.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChainStatus {
    /// Last finalized epoch.
    pub(crate) finalized_epoch: u64,
    /// Slots before the head without a block.
    pub(crate) missed_slots: Vec<u64>,
    /// Blocks by fork name.
    pub(crate) forks: BTreeMap<String, u64>,
    /// Attestations by epoch.
    pub(crate) attestations: Vec<EpochVotes>,
    /// Sync committee votes in blocks.
    pub(crate) sync_votes: u64,
    /// Sync committee votes there was room for.
    pub(crate) sync_seats: u64,
    /// Voters with two different votes for one slot.
    pub(crate) double_votes: u64,
    /// Validators marked slashed in the head state.
    pub(crate) slashed_validators: u64,
    /// Proofs of double proposals in blocks.
    pub(crate) proposer_slashings: u64,
    /// Proofs of attester offences in blocks.
    pub(crate) attester_slashings: u64,
}

#[derive(Deserialize)]
struct Client {
    log: PathBuf,
}

/// A running beacon chain.
pub(crate) struct Network {
    dir: PathBuf,
    facts: Facts,
}

impl Network {
    /// Installs what is missing and starts a chain under `parent`. `forks` as the tool's `--forks`.
    pub(crate) fn start(parent: &Path, forks: &str) -> Self {
        devnet::<serde_json::Value>(&["install"]);
        let dir = parent.join("network");
        let owner = std::process::id().to_string();
        let facts = devnet(&["up", "--dir", text(&dir), "--forks", forks, "--patient", "--owner", &owner]);
        Self { dir, facts }
    }

    /// Options of `holdfast` that describe this network.
    pub(crate) fn holdfast_options(&self) -> Vec<String> {
        [
            "--network",
            text(&self.facts.config_file),
            "--genesis-validators-root",
            &self.facts.genesis_validators_root,
            "--genesis-time",
            &self.facts.genesis_time.to_string(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Folder with one keystore per validator.
    pub(crate) fn keystores(&self) -> &Path {
        &self.facts.keystores_dir
    }

    /// File with the password of all keystores.
    pub(crate) fn password_file(&self) -> &Path {
        &self.facts.password_file
    }

    /// Public keys by validator index, `0x` hex.
    pub(crate) fn pubkeys(&self) -> &[String] {
        &self.facts.pubkeys
    }

    /// Root of the genesis validator set, `0x` hex.
    pub(crate) fn genesis_validators_root(&self) -> &str {
        &self.facts.genesis_validators_root
    }

    /// Address of the first beacon node's HTTP API.
    pub(crate) fn beacon(&self) -> SocketAddr {
        self.facts.beacons[0].trim_start_matches("http://").parse().expect("the tool prints an address")
    }

    /// Starts a validator client that has no key but those of the signer; returns its log file. `name` begins with vc.
    pub(crate) fn start_validators(&self, name: &str, signer: SocketAddr) -> PathBuf {
        let signer = format!("http://{signer}");
        let client: Client = devnet(&["vc", "--dir", text(&self.dir), "--signer", &signer, "--name", name]);
        client.log
    }

    /// Ends a validator client.
    pub(crate) fn end_validators(&self, name: &str) {
        devnet::<serde_json::Value>(&["end", "--dir", text(&self.dir), "--name", name]);
    }

    /// Waits for a finalized epoch, at most `seconds`.
    pub(crate) fn wait_finalized(&self, epoch: u64, seconds: u64) -> Head {
        let (epoch, seconds) = (epoch.to_string(), seconds.to_string());
        devnet(&["wait", "--dir", text(&self.dir), "--finalized", &epoch, "--timeout", &seconds])
    }

    /// Waits for a block at `slot` or later, then for the clock to stand at `part` of a slot.
    pub(crate) fn wait_head(&self, slot: u64, part: f64) -> Head {
        let (slot, part) = (slot.to_string(), part.to_string());
        devnet(&["wait", "--dir", text(&self.dir), "--head", &slot, "--slot-part", &part, "--timeout", "30"])
    }

    /// Scans the whole chain.
    pub(crate) fn status(&self) -> ChainStatus {
        devnet(&["status", "--dir", text(&self.dir), "--epochs", "1000"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut arguments = vec!["down", "--dir", text(&self.dir)];
        // After a failure the logs stay.
        if !std::thread::panicking() {
            arguments.push("--purge");
        }
        let output = tool(&arguments).output();
        if !output.is_ok_and(|output| output.status.success()) {
            eprintln!("the network in {} did not go down; it ends with this process", self.dir.display());
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}

fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/devnet/devnet.mjs");
    command.arg(script).args(arguments).stdin(Stdio::null());
    command
}

/// Runs the tool; its own limits bound every wait.
fn devnet<T: DeserializeOwned>(arguments: &[&str]) -> T {
    let output = tool(arguments).output().expect("`node` (version 20 or 22) is installed and on the PATH");
    assert!(
        output.status.success(),
        "devnet {arguments:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the tool prints JSON of the expected shape")
}
