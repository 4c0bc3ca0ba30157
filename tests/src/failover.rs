//! What a validator client notices when beacon nodes fail: the same faults behind the switcher, behind nginx, and
//! with the client's own list of nodes.
//!
//! Real processes: three Lodestar nodes, one Lodestar validator client, Holdfast as its only signer.

mod front;
mod report;

use std::path::Path;
use std::time::Instant;

use crate::client_log::ClientLog;
use crate::devnet::{Network, NodeDatabase};
use crate::harness::{Builder, Server, holdfast_ok};
pub use front::{Front, Running};
pub use report::{Report, table};

/// Slots a fault lasts.
const FAULT_SLOTS: u64 = 5;
/// Slots between the end of a fault and the next one.
const REST_SLOTS: u64 = 3;
/// Epoch that must be finalized before the first fault: 24 slots of 2 s after genesis.
const FINALIZED_BEFORE: u64 = 1;
/// Limit of each wait for finality.
const FINALITY_SECONDS: u64 = 150;
/// Nodes of the chain.
const NODES: usize = 3;

/// What happens to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: what a run without faults looks like.
    Nothing,
    /// SIGKILL of the node in use; restarted on its data afterwards.
    Killed,
    /// SIGSTOP of the node in use: it takes connections and answers nothing.
    Hung,
    /// SIGKILL of the node in use, and an immediate restart with an empty database.
    Emptied,
    /// A node of another genesis joins.
    Stranger,
    /// Two of three nodes are killed.
    TwoDown,
}

impl Fault {
    /// In the order in which they happen.
    pub const ALL: [Self; 6] = [Self::Nothing, Self::Killed, Self::Hung, Self::Emptied, Self::Stranger, Self::TwoDown];

    /// Name in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "no fault",
            Self::Killed => "node in use killed",
            Self::Hung => "node in use hangs",
            Self::Emptied => "node in use restarts empty",
            Self::Stranger => "node of another chain added",
            Self::TwoDown => "two of three down",
        }
    }
}

/// What became of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// It went on.
    WentOn,
    /// It stood still: such a chain does not come back.
    StoodStill,
}

/// What the client noticed of one fault.
#[derive(Debug, Clone)]
pub struct Noticed {
    /// The fault.
    pub fault: Fault,
    /// Slots from the beginning of the fault to the end of the rest after it.
    pub slots: u64,
    /// Errors in the client's log.
    pub errors: Vec<String>,
    /// Attestations the client published, and those that were due.
    pub attestations: (u64, u64),
    /// Whether the chain went on.
    pub chain: Chain,
}

/// Runs every fault behind one front. Where a fault stops the chain, the next one begins on a new chain; where that
/// does not even finalize behind the front, the fault is left out.
pub fn run(folder: &Path, front: Front) -> Report {
    let begin = Instant::now();
    let say = |what: &str| eprintln!("{:6.1} s  {}: {what}", begin.elapsed().as_secs_f64(), front.as_str());
    let mut report = Report { front, noticed: Vec::new(), missed_slots: 0, double_votes: 0, log: String::new() };
    let mut running: Option<Stage> = None;
    for (number, fault) in Fault::ALL.into_iter().enumerate() {
        let new = || Stage::set(&folder.join(number.to_string()), front, &say);
        let Some(mut stage) = running.take().or_else(new) else { continue };
        let noticed = stage.suffer(fault);
        say(fault.as_str());
        match noticed.chain {
            Chain::WentOn => running = Some(stage),
            Chain::StoodStill => {
                say("the chain stands still");
                stage.end_of_run(&mut report);
            }
        }
        report.noticed.push(noticed);
    }
    if let Some(stage) = running {
        let finalized = stage.network.status_at(stage.healthy).finalized_epoch;
        stage.network.wait_finalized(finalized + 1, FINALITY_SECONDS);
        say("finalized again");
        stage.end_of_run(&mut report);
    }
    report
}

/// Imports the network's keys into a new data directory.
fn import(data: &Path, network: &Network) {
    let options = network.holdfast_options();
    let mut arguments = vec!["--data-dir", text(data), "--json"];
    arguments.extend(options.iter().map(String::as_str));
    arguments.extend(["keys", "import", "--from", text(network.keystores()), "--password-file"]);
    arguments.extend([text(network.password_file()), "--watermark", "never-signed"]);
    holdfast_ok(&arguments);
}

/// A server on a data directory, on the network.
fn server(data: &Path, network: &Network) -> Builder {
    network.holdfast_options().iter().fold(Server::builder().data_dir(data), Builder::global)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}

struct Stage {
    network: Network,
    running: Running,
    folder: std::path::PathBuf,
    log: std::path::PathBuf,
    /// A node that the last fault left alone, counted from 1.
    healthy: usize,
    /// Number of the validator client that runs.
    client: u32,
}

impl Stage {
    /// A finalizing chain with a client behind the front, in a new folder; `None` if it does not finalize.
    fn set(folder: &Path, front: Front, say: &dyn Fn(&str)) -> Option<Self> {
        let network = Network::start_nodes(folder.join("network"), NODES);
        say("three nodes are up");
        let data = folder.join("holdfast");
        import(&data, &network);
        let running = Running::start(front, folder, &data, &network);
        let log = network.start_validators_on("vc", running.signer(), &running.beacons(&network));
        let finalized = network.try_wait_finalized(FINALIZED_BEFORE, FINALITY_SECONDS).is_some();
        say(if finalized { "finalized" } else { "the chain does not finalize, without any fault" });
        finalized.then(|| Self { network, running, folder: folder.to_owned(), log, healthy: 1, client: 0 })
    }

    /// Reads the chain and ends everything.
    fn end_of_run(self, report: &mut Report) {
        let status = self.network.status_at(self.healthy);
        report.missed_slots += status.missed_slots.len();
        report.double_votes += status.double_votes;
        report.log.push_str(&self.running.stop());
    }

    fn suffer(&mut self, fault: Fault) -> Noticed {
        let target = self.running.node_in_use(&self.network);
        let healthy = target % NODES + 1;
        self.healthy = healthy;
        let other = healthy % NODES + 1;
        let begin = self.network.wait_head_at(healthy, 1, 0.9).clock_slot + 1;
        let mut log = ClientLog::from_now(&self.log);
        let stranger = self.begin(fault, target, other, &mut log);
        let mut went_on = self.network.try_wait_head_at(healthy, begin + FAULT_SLOTS, 0.9).is_some();
        if went_on {
            self.end(fault, target, other);
            went_on = self.network.try_wait_head_at(healthy, begin + FAULT_SLOTS + REST_SLOTS, 0.9).is_some();
        }
        let chain = if went_on { Chain::WentOn } else { Chain::StoodStill };
        let last = begin + FAULT_SLOTS + REST_SLOTS - 1;
        let published: u64 = log.published(begin..=last).values().map(|slot| slot.attestations).sum();
        drop(stranger);
        let keys = u64::try_from(self.network.pubkeys().len()).expect("few keys");
        let due = keys * (last - begin + 1) / 8;
        let errors = log.errors();
        Noticed { fault, slots: last - begin + 1, errors, attestations: (published, due), chain }
    }

    fn begin(&mut self, fault: Fault, target: usize, other: usize, log: &mut ClientLog) -> Option<Network> {
        let name = |node: usize| format!("beacon{node}");
        match fault {
            Fault::Nothing => {}
            Fault::Killed => self.network.signal(&name(target), "kill"),
            Fault::Hung => self.network.signal(&name(target), "pause"),
            Fault::Emptied => {
                self.network.signal(&name(target), "kill");
                self.network.restart(target, NodeDatabase::Emptied);
            }
            Fault::Stranger => {
                // The same keys and forks, another genesis time: only the genesis tells them apart.
                let stranger = Network::start_nodes(self.folder.join("stranger"), 1);
                let address = stranger.beacons()[0].clone();
                if let Some(list) = self.running.add(&self.network, &address) {
                    // The client has no way to add a node but to be started again.
                    self.network.end_validators(&client_name(self.client));
                    self.client += 1;
                    let name = client_name(self.client);
                    self.log = self.network.start_validators_on(&name, self.running.signer(), &list);
                    *log = ClientLog::from_start(&self.log);
                }
                return Some(stranger);
            }
            Fault::TwoDown => {
                self.network.signal(&name(target), "kill");
                self.network.signal(&name(other), "kill");
            }
        }
        None
    }

    fn end(&self, fault: Fault, target: usize, other: usize) {
        match fault {
            Fault::Nothing | Fault::Emptied | Fault::Stranger => {}
            Fault::Killed => self.network.restart(target, NodeDatabase::Kept),
            Fault::Hung => self.network.signal(&format!("beacon{target}"), "resume"),
            Fault::TwoDown => {
                self.network.restart(target, NodeDatabase::Kept);
                self.network.restart(other, NodeDatabase::Kept);
            }
        }
    }
}

fn client_name(number: u32) -> String {
    if number == 0 { "vc".to_owned() } else { format!("vc{number}") }
}
