//! Runs the devnet tool of `tests/e2e` and turns its answers into types. The network belongs to this test process:
//! it goes down when the handle is dropped, and by itself when the test process is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A chain that has not reached a slot so long after it was due stands still.
const STALL_SECONDS: &str = "45";

/// What `up` says about the network.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    beacons: Vec<String>,
    genesis_time: u64,
    genesis_validators_root: String,
    slot_seconds: u64,
    engine: String,
    config_file: PathBuf,
    keystores_dir: PathBuf,
    password_file: PathBuf,
    pubkeys: Vec<String>,
}

/// Head of the chain as `wait` reports it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Slot of the clock.
    pub clock_slot: u64,
    /// Slot of the head block.
    pub head_slot: u64,
}

/// Votes of one epoch that blocks carry.
#[derive(Debug, Deserialize)]
pub struct EpochVotes {
    /// Epoch in which the votes were due.
    pub epoch: u64,
    /// Validators whose vote is in a block.
    pub included: u64,
    /// The same for each slot of the epoch.
    pub slots: Vec<u64>,
    /// Active validators.
    pub expected: u64,
    /// Whether no further vote can be included.
    pub complete: bool,
}

/// What a scan of the chain's blocks found.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChainStatus {
    /// Last finalized epoch.
    pub finalized_epoch: u64,
    /// Slots before the head without a block.
    pub missed_slots: Vec<u64>,
    /// Blocks by fork name.
    pub forks: BTreeMap<String, u64>,
    /// Attestations by epoch.
    pub attestations: Vec<EpochVotes>,
    /// Sync committee votes in blocks.
    pub sync_votes: u64,
    /// Sync committee votes there was room for.
    pub sync_seats: u64,
    /// Voters with two different votes for one slot.
    pub double_votes: u64,
    /// Validators marked slashed in the head state.
    pub slashed_validators: u64,
    /// Proofs of double proposals in blocks.
    pub proposer_slashings: u64,
    /// Proofs of attester offences in blocks.
    pub attester_slashings: u64,
}

#[derive(Deserialize)]
struct Client {
    log: PathBuf,
}

/// What a restarted node finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeDatabase {
    /// What it had.
    Kept,
    /// Nothing.
    Emptied,
}

/// How large a network is, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Beacon nodes, each a process: 1 to 32.
    pub nodes: usize,
    /// Validators from genesis on: 8 to 1024.
    pub validators: u64,
    /// Length of a slot: 1 to 12 s.
    pub slot_seconds: u64,
    /// After so long all processes end by themselves.
    pub lifetime: Duration,
}

/// A running beacon chain.
pub struct Network {
    dir: PathBuf,
    facts: Facts,
    /// Its files stay.
    kept: bool,
}

impl Network {
    /// Installs what is missing and starts a chain of one node under `parent`. `forks` as the tool's `--forks`.
    /// The node never calls itself syncing for lack of blocks.
    pub fn start(parent: &Path, forks: &str) -> Self {
        Self::up(parent.join("network"), &["--forks", forks, "--patient"])
    }

    /// Starts a chain of several nodes, all forks from genesis, in `dir`. Its nodes are honest about being behind.
    pub fn start_nodes(dir: PathBuf, nodes: usize) -> Self {
        Self::up(dir, &["--nodes", &nodes.to_string()])
    }

    /// As [`Self::start_nodes`], of this size.
    pub fn start_sized(dir: PathBuf, size: Size) -> Self {
        let Size { nodes, validators, slot_seconds, lifetime } = size;
        let numbers = [nodes as u64, validators, slot_seconds, lifetime.as_secs()].map(|number| number.to_string());
        let names = ["--nodes", "--validators", "--slot-seconds", "--lifetime"];
        let options: Vec<&str> =
            names.into_iter().zip(&numbers).flat_map(|(name, number)| [name, number.as_str()]).collect();
        Self::up(dir, &options)
    }

    fn up(dir: PathBuf, options: &[&str]) -> Self {
        devnet::<serde_json::Value>(&["install"]);
        let owner = std::process::id().to_string();
        let mut arguments = vec!["up", "--dir", text(&dir), "--owner", &owner];
        arguments.extend(options);
        let facts = devnet(&arguments);
        Self { dir, facts, kept: false }
    }

    /// Leaves its files, the logs of all its processes among them, when it ends.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Addresses of the nodes' HTTP APIs, `http://…`.
    pub fn beacons(&self) -> &[String] {
        &self.facts.beacons
    }

    /// Does `action` (kill, pause or resume) to a process: `beacon1`, `beacon2` and so on.
    pub fn signal(&self, name: &str, action: &str) {
        devnet::<serde_json::Value>(&["signal", "--dir", text(&self.dir), "--name", name, "--do", action]);
    }

    /// Starts a killed node again, counted from 1, on its address; connects it to those that run.
    pub fn restart(&self, node: usize, database: NodeDatabase) {
        let node = node.to_string();
        let mut arguments = vec!["restart", "--dir", text(&self.dir), "--node", &node];
        match database {
            NodeDatabase::Kept => {}
            NodeDatabase::Emptied => arguments.push("--fresh"),
        }
        devnet::<serde_json::Value>(&arguments);
    }

    /// Connects a node that has lost its peers to the nodes beside it, counted from 1.
    pub fn reconnect(&self, node: usize) {
        devnet::<serde_json::Value>(&["reconnect", "--dir", text(&self.dir), "--node", &node.to_string()]);
    }

    /// Options of `holdfast` that describe this network.
    pub fn holdfast_options(&self) -> Vec<String> {
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

    /// Address of the nodes' mock execution engine, `http://…`.
    pub fn engine(&self) -> &str {
        &self.facts.engine
    }

    /// Length of a slot in seconds.
    pub fn slot_seconds(&self) -> u64 {
        self.facts.slot_seconds
    }

    /// When slot 0 began, in seconds since 1970.
    pub fn genesis_time(&self) -> u64 {
        self.facts.genesis_time
    }

    /// Folder with one keystore per validator.
    pub fn keystores(&self) -> &Path {
        &self.facts.keystores_dir
    }

    /// File with the password of all keystores.
    pub fn password_file(&self) -> &Path {
        &self.facts.password_file
    }

    /// Public keys by validator index, `0x` hex.
    pub fn pubkeys(&self) -> &[String] {
        &self.facts.pubkeys
    }

    /// Root of the genesis validator set, `0x` hex.
    pub fn genesis_validators_root(&self) -> &str {
        &self.facts.genesis_validators_root
    }

    /// Address of the first beacon node's HTTP API.
    pub fn beacon(&self) -> SocketAddr {
        self.facts.beacons[0].trim_start_matches("http://").parse().expect("the tool prints an address")
    }

    /// Starts a validator client that has no key but those of the signer; returns its log file. `name` begins with vc.
    pub fn start_validators(&self, name: &str, signer: SocketAddr) -> PathBuf {
        self.start_validators_on(name, signer, &self.facts.beacons.join(","))
    }

    /// As [`Self::start_validators`], on these Beacon APIs, separated by commas.
    pub fn start_validators_on(&self, name: &str, signer: SocketAddr, beacons: &str) -> PathBuf {
        let signer = format!("http://{signer}");
        let dir = text(&self.dir);
        let client: Client = devnet(&["vc", "--dir", dir, "--signer", &signer, "--name", name, "--beacons", beacons]);
        client.log
    }

    /// As [`Self::start_validators`], with the whole address of the signer, whose certificate this authority signed.
    pub fn start_validators_over_tls(&self, name: &str, signer: &str, authority: &Path) -> PathBuf {
        let (dir, beacons) = (text(&self.dir), self.facts.beacons.join(","));
        let arguments = ["vc", "--dir", dir, "--signer", signer, "--name", name, "--beacons", &beacons];
        let mut command = tool(&arguments);
        command.env("NODE_EXTRA_CA_CERTS", authority);
        let client: Client = answer(&arguments, &mut command);
        client.log
    }

    /// Ends a validator client.
    pub fn end_validators(&self, name: &str) {
        devnet::<serde_json::Value>(&["end", "--dir", text(&self.dir), "--name", name]);
    }

    /// As [`Self::wait_head`], as a certain node sees it, counted from 1.
    pub fn wait_head_at(&self, node: usize, slot: u64, part: f64) -> Head {
        let (node, slot, part) = (node.to_string(), slot.to_string(), part.to_string());
        let dir = text(&self.dir);
        devnet(&["wait", "--dir", dir, "--node", &node, "--head", &slot, "--slot-part", &part, "--timeout", "60"])
    }

    /// As [`Self::wait_head_at`]; `None` if the chain does not get there in time.
    pub fn try_wait_head_at(&self, node: usize, slot: u64, part: f64) -> Option<Head> {
        let (node, slot, part) = (node.to_string(), slot.to_string(), part.to_string());
        self.try_wait(&["--node", &node, "--head", &slot, "--slot-part", &part, "--timeout", STALL_SECONDS])
    }

    /// As [`Self::wait_finalized`]; `None` if it is not in time.
    pub fn try_wait_finalized(&self, epoch: u64, seconds: u64) -> Option<Head> {
        let (epoch, seconds) = (epoch.to_string(), seconds.to_string());
        self.try_wait(&["--finalized", &epoch, "--timeout", &seconds])
    }

    fn try_wait(&self, options: &[&str]) -> Option<Head> {
        let mut arguments = vec!["wait", "--dir", text(&self.dir)];
        arguments.extend(options);
        let output = tool(&arguments).output().expect("`node` (version 20 or 22) is installed and on the PATH");
        let head = || serde_json::from_slice(&output.stdout).expect("the tool prints JSON of the expected shape");
        output.status.success().then(head)
    }

    /// Scans the whole chain as a certain node has it, counted from 1.
    pub fn status_at(&self, node: usize) -> ChainStatus {
        let node = node.to_string();
        devnet(&["status", "--dir", text(&self.dir), "--node", &node, "--epochs", "1000"])
    }

    /// Waits for a finalized epoch, at most `seconds`.
    pub fn wait_finalized(&self, epoch: u64, seconds: u64) -> Head {
        let (epoch, seconds) = (epoch.to_string(), seconds.to_string());
        devnet(&["wait", "--dir", text(&self.dir), "--finalized", &epoch, "--timeout", &seconds])
    }

    /// Waits for a block at `slot` or later, then for the clock to stand at `part` of a slot.
    pub fn wait_head(&self, slot: u64, part: f64) -> Head {
        let (slot, part) = (slot.to_string(), part.to_string());
        devnet(&["wait", "--dir", text(&self.dir), "--head", &slot, "--slot-part", &part, "--timeout", "30"])
    }

    /// Scans the whole chain.
    pub fn status(&self) -> ChainStatus {
        devnet(&["status", "--dir", text(&self.dir), "--epochs", "1000"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut arguments = vec!["down", "--dir", text(&self.dir)];
        // After a failure the logs stay.
        if !self.kept && !std::thread::panicking() {
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
    answer(arguments, &mut tool(arguments))
}

fn answer<T: DeserializeOwned>(arguments: &[&str], command: &mut Command) -> T {
    let output = command.output().expect("`node` (version 20 or 22) is installed and on the PATH");
    assert!(
        output.status.success(),
        "devnet {arguments:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the tool prints JSON of the expected shape")
}
