//! What must hold, watched all the time, and the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_tests::client_log::ClientLog;
use holdfast_tests::http::{Client, once};
use serde_json::{Value, json};

use crate::balancer::LOAD_AGENT;
use crate::faults::Fault;
use crate::stage::Stage;

const SLOTS_PER_EPOCH: u64 = 8;
const SLOT_SECONDS: u64 = 2;
/// Pause between two requests for a contradiction.
const PAUSE: Duration = Duration::from_millis(100);
/// How long nobody answers before the asker connects again.
const AGAIN: Duration = Duration::from_millis(50);
/// What a process may use at most, in KiB: 60 MiB is the target for a signer with 100 keys at rest, and a debug build has more.
const MOST_KIB: u64 = 200 * 1024;
/// What a process that was never restarted may have grown by between the first and the last quarter, in KiB.
const GROWTH_KIB: u64 = 16 * 1024;

/// What the asker for contradictions saw.
#[derive(Default)]
struct Asked {
    refused: AtomicU64,
    /// 502, 503, 504: nobody could be asked.
    unavailable: AtomicU64,
    /// Signatures, by validator index and target epoch: slashable if the client got one for that epoch, too.
    signed: Mutex<BTreeSet<(usize, u64)>>,
    /// Answers that must not be.
    wrong: Mutex<Vec<String>>,
}

/// Asks for votes that contradict what the keys signed an epoch or two ago. Ends when it is dropped.
struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

/// Findings and figures so far.
pub(crate) struct Judge {
    asked: Arc<Asked>,
    asker: Asker,
    log: ClientLog,
    first_slot: u64,
    last_slot: u64,
    /// Slots in which a duty may be missed.
    excused: Vec<RangeInclusive<u64>>,
    faults: u64,
    /// Resident memory in KiB over time, by process name and id.
    memory: BTreeMap<(&'static str, u32), Vec<u64>>,
    findings: Vec<String>,
}

fn contradict(signer: SocketAddr, keys: &[String], facts: &Facts, asked: &Asked, stop: &AtomicBool) {
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json"), ("User-Agent", LOAD_AGENT)];
    let mut client = None;
    for (index, key) in keys.iter().enumerate().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(PAUSE);
        let target = facts.target();
        let body = facts.contradiction(target).to_string();
        if client.is_none() {
            client = Client::connect(signer).ok();
        }
        let Some(open) = client.as_mut() else {
            std::thread::sleep(AGAIN);
            continue;
        };
        match open.request("POST", &format!("/api/v1/eth2/sign/{key}"), &headers, body.as_bytes()) {
            Err(_) => client = None,
            Ok(answer) => {
                if answer.header("connection") == Some("close") {
                    client = None;
                }
                match answer.status {
                    200 => drop(asked.signed.lock().expect("the set").insert((index, target))),
                    412 => drop(asked.refused.fetch_add(1, Ordering::Relaxed)),
                    502..=504 => drop(asked.unavailable.fetch_add(1, Ordering::Relaxed)),
                    other => asked.wrong.lock().expect("the list").push(format!("{other} for {key}: {body}")),
                }
            }
        }
    }
}

/// What a request about this chain must say.
struct Facts {
    fork: Value,
    genesis_validators_root: String,
    genesis: u64,
}

impl Facts {
    /// The epoch before the present one: by now every key has voted there that could.
    fn target(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
        (now - self.genesis) / (SLOT_SECONDS * SLOTS_PER_EPOCH) - 1
    }

    /// A vote for this epoch with roots that no block has: a double vote of every key that has voted there.
    fn contradiction(&self, target: u64) -> Value {
        let source = target.saturating_sub(1);
        let root = |byte: &str| format!("0x{}", byte.repeat(32));
        json!({
            "type": "ATTESTATION",
            "fork_info": { "fork": self.fork, "genesis_validators_root": self.genesis_validators_root },
            "attestation": {
                "slot": (target * SLOTS_PER_EPOCH).to_string(),
                "index": "0",
                "beacon_block_root": root("a1"),
                "source": { "epoch": source.to_string(), "root": root("a2") },
                "target": { "epoch": target.to_string(), "root": root("a3") },
            },
        })
    }
}

impl Judge {
    /// Begins to watch.
    pub(crate) fn begin(stage: &Stage) -> Self {
        let network = stage.network();
        let get = |path: &str| once(network.beacon(), "GET", path, &[], b"").expect("the node answers").json();
        let genesis = get("/eth/v1/beacon/genesis")["data"]["genesis_time"].as_str().map(str::parse);
        let facts = Facts {
            fork: get("/eth/v1/beacon/states/head/fork")["data"].clone(),
            genesis_validators_root: network.genesis_validators_root().to_owned(),
            genesis: genesis.and_then(Result::ok).expect("a time"),
        };
        let (asked, stop) = (Arc::new(Asked::default()), Arc::new(AtomicBool::new(false)));
        let (signer, keys) = (stage.signing(), network.pubkeys().to_vec());
        let (seen, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || contradict(signer, &keys, &facts, &seen, &stopped));
        let first_slot = stage.wait_slots(1) + 1;
        Self {
            asked,
            asker: Asker { stop, thread: Some(thread) },
            log: ClientLog::from_start(stage.client_log()),
            first_slot,
            last_slot: first_slot,
            excused: Vec::new(),
            faults: 0,
            memory: BTreeMap::new(),
            findings: Vec::new(),
        }
    }

    /// The first slot that is judged.
    pub(crate) const fn first_slot(&self) -> u64 {
        self.first_slot
    }

    /// Looks at everything after a fault.
    pub(crate) fn look(&mut self, stage: &Stage, fault: Fault, slots: RangeInclusive<u64>) {
        self.last_slot = *slots.end();
        self.faults += u64::from(fault != Fault::Nothing);
        if fault.excuses() {
            self.excused.push(slots.clone());
        }
        for (name, server) in stage.servers() {
            self.memory.entry((name, server.pid())).or_default().push(resident(server.pid()));
            let metrics = server.get_metrics("/metrics").text();
            let wanted = if name == "switcher" { "holdfast_switcher_" } else { "holdfast_signing_requests_total{" };
            let lines = metrics.lines().filter(|line| line.starts_with(wanted)).count();
            if lines == 0 {
                self.findings.push(format!("slots {slots:?}: {name} shows no {wanted} after {fault:?}"));
            }
        }
        let wrong: Vec<String> = self.asked.wrong.lock().expect("the list").drain(..).collect();
        self.findings.extend(wrong.into_iter().map(|what| format!("a contradiction was answered with {what}")));
    }

    /// Where it stands, in a line.
    pub(crate) fn line(&self) -> String {
        let last: Vec<String> = self
            .memory
            .iter()
            .filter_map(|((name, _), kib)| Some(format!("{name} {} MiB", kib.last()? / 1024)))
            .collect();
        let refused = self.asked.refused.load(Ordering::Relaxed);
        format!("{refused} contradictions refused, {} findings, {}", self.findings.len(), last.join(", "))
    }

    /// Duties that the client's own log does not have, by whole epochs: expected, missing outside of excuses, missing within.
    fn duties(&self, keys: u64) -> (u64, u64, u64) {
        let epochs = self.first_slot.div_ceil(SLOTS_PER_EPOCH)..self.last_slot / SLOTS_PER_EPOCH;
        let (mut expected, mut missing, mut within) = (0, 0, 0);
        for epoch in epochs {
            let slots = epoch * SLOTS_PER_EPOCH..=epoch * SLOTS_PER_EPOCH + SLOTS_PER_EPOCH - 1;
            let published = self.log.published(slots.clone());
            let votes: u64 = published.values().map(|slot| slot.attestations).sum();
            let blocks: u64 = published.values().map(|slot| slot.blocks).sum();
            let gone = keys.saturating_sub(votes) + SLOTS_PER_EPOCH.saturating_sub(blocks);
            expected += keys + SLOTS_PER_EPOCH;
            if self.excused.iter().any(|range| range.start() <= slots.end() && slots.start() <= range.end()) {
                within += gone;
            } else {
                missing += gone;
                if gone > 0 {
                    println!("        epoch {epoch}: {votes} of {keys} votes, {blocks} of {SLOTS_PER_EPOCH} blocks");
                }
            }
        }
        (expected, missing, within)
    }

    /// Signatures on contradictions: a finding where the client's log has a vote of the same validator for the same epoch.
    /// A key that could not vote there, as the database was away, may sign one: it contradicts nothing. Gives how many did.
    fn judge_contradictions(&mut self, stage: &Stage) -> usize {
        let signed = self.asked.signed.lock().expect("the set").clone();
        let log = std::fs::read_to_string(stage.client_log()).expect("the client has a log");
        let number = |line: &str, name: &str| {
            let (_, rest) = line.split_once(name)?;
            // Colours stand between the name and its value.
            let rest = rest.trim_start_matches(|c: char| c != '=').trim_start_matches('=');
            let rest =
                rest.split_once('m').filter(|(code, _)| code.starts_with('\u{1b}')).map_or(rest, |(_, rest)| rest);
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        let votes: BTreeSet<(usize, u64)> = log
            .lines()
            .filter(|line| line.contains("Signed attestation "))
            .filter_map(|line| {
                let index = usize::try_from(number(line, "validatorIndex")?).ok()?;
                Some((index, number(line, "slot")? / SLOTS_PER_EPOCH))
            })
            .collect();
        if votes.is_empty() {
            self.findings.push("the client's log shows no vote: contradictions cannot be judged".to_owned());
        }
        for (index, epoch) in &signed {
            let near: Vec<u64> =
                (epoch.saturating_sub(1)..=epoch + 1).filter(|one| votes.contains(&(*index, *one))).collect();
            println!(
                "  validator {index}: a vote for epoch {epoch} was signed for the soak; the client got votes for {near:?}"
            );
        }
        for (index, epoch) in signed.intersection(&votes) {
            self.findings.push(format!("validator {index} got two different votes for epoch {epoch} signed"));
        }
        signed.len()
    }

    fn judge_memory(&mut self) {
        for ((name, pid), kib) in &self.memory {
            let most = kib.iter().max().copied().unwrap_or_default();
            let quarter = kib.len().div_ceil(4);
            let median = |part: &[u64]| {
                let mut part = part.to_vec();
                part.sort_unstable();
                part.get(part.len() / 2).copied().unwrap_or_default()
            };
            let (first, last) = (median(&kib[..quarter]), median(&kib[kib.len() - quarter..]));
            if kib.len() >= 4 {
                println!("  memory of {name} ({pid}), MiB: {} at first, {} at last", first / 1024, last / 1024);
            }
            if most > MOST_KIB || (kib.len() >= 8 && last > first + GROWTH_KIB) {
                self.findings.push(format!("{name} grew from {first} to {last} KiB, at most {most} KiB"));
            }
        }
    }

    /// Prints the verdict; whether all held.
    pub(crate) fn verdict(mut self, stage: &Stage) -> bool {
        drop(std::mem::replace(&mut self.asker, Asker { stop: Arc::default(), thread: None }));
        self.judge_memory();
        let harmless = self.judge_contradictions(stage);
        let status = stage.network().status();
        if status.double_votes + status.slashed_validators + status.proposer_slashings + status.attester_slashings > 0 {
            self.findings.push(format!("something slashable is on the chain: {status:?}"));
        }
        let keys = stage.network().pubkeys().len() as u64;
        let (expected, missing, within) = self.duties(keys);
        if missing > 0 {
            self.findings.push(format!("{missing} duties are missing outside of what no signer can bridge"));
        }
        let signed = stage.balancer().passed().iter().filter(|one| one.by_validator && one.status == 200).count();
        let refused = self.asked.refused.load(Ordering::Relaxed);
        if refused == 0 || signed == 0 || expected == 0 {
            self.findings
                .push(format!("too little happened: {signed} signatures, {refused} refusals, {expected} duties"));
        }
        println!(
            "soak: slots {} to {}, {} faults, finalized epoch {}\n  {signed} signatures for the client, {} of its duties expected, \
             {missing} missing, {within} more while the database restarted\n  {refused} contradictions refused, {harmless} votes signed where the key had asked, {} times \
             nobody could be asked, nothing slashable on the chain: {}\n  errors in the client's log: {}",
            self.first_slot,
            self.last_slot,
            self.faults,
            status.finalized_epoch,
            expected,
            self.asked.unavailable.load(Ordering::Relaxed),
            status.double_votes + status.slashed_validators == 0,
            self.log.errors().len(),
        );
        for finding in &self.findings {
            println!("  finding: {finding}");
        }
        println!("verdict: {}", if self.findings.is_empty() { "held" } else { "broken" });
        self.findings.is_empty()
    }
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
