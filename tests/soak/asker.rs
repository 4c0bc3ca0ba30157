//! Asks the signers all the time for votes that contradict what their keys have signed, and judges what came of it.
//!
//! Why it exists: whatever breaks, nothing slashable may be signed. The asker knows what is slashable from the
//! specification alone: a second vote for an epoch in which the key has voted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use holdfast_tests::http::{Client, once};
use serde_json::{Value, json};

use crate::balancer::LOAD_AGENT;
use crate::judge::SLOTS_PER_EPOCH;
use crate::stage::Stage;
use crate::watch::now;

/// Pause between two requests for a contradiction.
const PAUSE: Duration = Duration::from_millis(100);
/// How long nobody answers before the asker connects again.
const AGAIN: Duration = Duration::from_millis(50);

/// What the asker for contradictions saw.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) refused: AtomicU64,
    /// 502, 503, 504: nobody could be asked.
    pub(crate) unavailable: AtomicU64,
    /// Signatures, by validator index and target epoch: slashable if the client got one for that epoch, too.
    signed: Mutex<BTreeSet<(usize, u64)>>,
    /// Answers that must not be.
    wrong: Mutex<Vec<String>>,
}

/// Asks for votes that contradict what the keys signed an epoch or two ago. Ends when it is dropped.
pub(crate) struct Asker {
    asked: Arc<Asked>,
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
    slot_seconds: u64,
}

impl Facts {
    /// The epoch before the present one: by now every key has voted there that could.
    fn target(&self) -> u64 {
        (now() - self.genesis) / (self.slot_seconds * SLOTS_PER_EPOCH) - 1
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

impl Asker {
    /// Begins to ask.
    pub(crate) fn start(stage: &Stage) -> Self {
        let network = stage.network();
        let fork =
            once(network.beacon(), "GET", "/eth/v1/beacon/states/head/fork", &[], b"").expect("the node answers");
        let facts = Facts {
            fork: fork.json()["data"].clone(),
            genesis_validators_root: network.genesis_validators_root().to_owned(),
            genesis: network.genesis_time(),
            slot_seconds: network.slot_seconds(),
        };
        let (asked, stop) = (Arc::new(Asked::default()), Arc::new(AtomicBool::new(false)));
        let (signer, keys) = (stage.signing(), network.pubkeys().to_vec());
        let (seen, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || contradict(signer, &keys, &facts, &seen, &stopped));
        Self { asked, stop, thread: Some(thread) }
    }

    /// What it saw so far.
    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Ends it; what it saw.
    pub(crate) fn finish(&mut self) -> Arc<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the asker did not fail");
        }
        Arc::clone(&self.asked)
    }
}

impl Asked {
    /// Answers that must not be, since the last time.
    pub(crate) fn take_wrong(&self) -> Vec<String> {
        let wrong: Vec<String> = self.wrong.lock().expect("the list").drain(..).collect();
        wrong.into_iter().map(|what| format!("a contradiction was answered with {what}")).collect()
    }

    /// Signatures on contradictions: a finding where the client's log has a vote of the same validator for the same epoch.
    /// A key that could not vote there, as the database was away, may sign one: it contradicts nothing. Gives how many did.
    pub(crate) fn judge(&self, client_log: &Path, findings: &mut Vec<String>) -> usize {
        let signed = self.signed.lock().expect("the set").clone();
        let votes = votes(&std::fs::read_to_string(client_log).expect("the client has a log"));
        if votes.is_empty() {
            findings.push("the client's log shows no vote: contradictions cannot be judged".to_owned());
        }
        for (index, epoch) in &signed {
            let near: Vec<u64> =
                (epoch.saturating_sub(1)..=epoch + 1).filter(|one| votes.contains(&(*index, *one))).collect();
            println!(
                "  validator {index}: a vote for epoch {epoch} was signed for the soak; the client got votes for {near:?}"
            );
        }
        for (index, epoch) in signed.intersection(&votes) {
            findings.push(format!("validator {index} got two different votes for epoch {epoch} signed"));
        }
        signed.len()
    }
}

/// Votes the client got, by validator index and epoch.
fn votes(log: &str) -> BTreeSet<(usize, u64)> {
    let number = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        // Colours stand between the name and its value.
        let rest = rest.trim_start_matches(|c: char| c != '=').trim_start_matches('=');
        let rest = rest.split_once('m').filter(|(code, _)| code.starts_with('\u{1b}')).map_or(rest, |(_, rest)| rest);
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    log.lines()
        .filter(|line| line.contains("Signed attestation "))
        .filter_map(|line| {
            let index = usize::try_from(number(line, "validatorIndex")?).ok()?;
            Some((index, number(line, "slot")? / SLOTS_PER_EPOCH))
        })
        .collect()
}
