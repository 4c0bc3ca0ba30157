//! The clients of one era: threads that share keys and time, each talking to every signer, through
//! every fault.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_tests::http::Client;
use holdfast_tests::keys::TestKey;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ask::Ask;
use crate::clock::SimClock;
use crate::ledger::{Ledger, Recorded};
use crate::totals::Totals;

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at something that is awaited.
pub(crate) const GLANCE: Duration = Duration::from_millis(2);
/// What a client waits after 503, so that an outage does not count as load.
const AFTER_UNAVAILABLE: Duration = Duration::from_millis(10);
/// Recent requests that other clients may repeat or contradict.
const RECENT: usize = 32;
/// The keys half of all requests are for, so that signers meet at the same row.
const HOT_KEYS: usize = 4;

/// One signer as clients see it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    /// Whether clients come here.
    pub(crate) open: AtomicBool,
}

/// What clients of an era share.
pub(crate) struct Traffic<'a> {
    pub(crate) keys: &'a [TestKey],
    pub(crate) clock: &'a SimClock,
    pub(crate) ledger: &'a Ledger,
    pub(crate) totals: &'a Totals,
    pub(crate) doors: Vec<Door>,
    stop: AtomicBool,
    answers: AtomicU64,
    signed: AtomicU64,
    unavailable: AtomicU64,
    future: AtomicU64,
    recent: Mutex<VecDeque<(usize, Ask)>>,
    findings: Mutex<Vec<String>>,
}

/// How far traffic was at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub(crate) answers: u64,
    /// New signatures of blocks and attestations.
    pub(crate) signed: u64,
    /// 503.
    pub(crate) unavailable: u64,
    /// Refused as being in the future.
    pub(crate) future: u64,
}

impl<'a> Traffic<'a> {
    /// No clients yet.
    pub(crate) fn new(
        keys: &'a [TestKey],
        clock: &'a SimClock,
        ledger: &'a Ledger,
        totals: &'a Totals,
        doors: Vec<Door>,
    ) -> Self {
        Self {
            keys,
            clock,
            ledger,
            totals,
            doors,
            stop: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            signed: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            future: AtomicU64::new(0),
            recent: Mutex::new(VecDeque::new()),
            findings: Mutex::new(Vec::new()),
        }
    }

    /// Ends all clients.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Notes something that must not be.
    pub(crate) fn find(&self, finding: String) {
        println!("sim: FINDING: {finding}");
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
    }

    /// What was found.
    pub(crate) fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether something was found.
    pub(crate) fn failed(&self) -> bool {
        !self.findings.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// How far traffic is.
    pub(crate) fn mark(&self) -> Mark {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Mark {
            answers: read(&self.answers),
            signed: read(&self.signed),
            unavailable: read(&self.unavailable),
            future: read(&self.future),
        }
    }

    /// Waits until the condition holds.
    ///
    /// # Errors
    /// What was awaited in vain, or that something was found meanwhile.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            if self.failed() {
                return Err(format!("a finding came up while waiting for: {what}"));
            }
            if Instant::now() > end {
                return Err(format!("{what}: not within {PATIENCE:?}"));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Waits for so many answers and new signatures of blocks and attestations from here on.
    ///
    /// # Errors
    /// As [`Traffic::until`].
    pub(crate) fn progress(&self, answers: u64, signed: u64) -> Result<(), String> {
        let from = self.mark();
        self.until(&format!("{answers} answers and {signed} new signatures"), || {
            let now = self.mark();
            now.answers >= from.answers + answers && now.signed >= from.signed + signed
        })
    }

    /// One client, until it is stopped.
    pub(crate) fn live(&self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut connections: Vec<Option<Client>> = self.doors.iter().map(|_| None).collect();
        let mut refusals = BTreeMap::new();
        let mut tally = [0_u64; 3];
        while !self.stop.load(Ordering::SeqCst) && !self.failed() {
            let door = rng.random_range(0..self.doors.len());
            if !self.doors[door].open.load(Ordering::SeqCst) {
                continue;
            }
            let (key, ask) = self.choose(&mut rng);
            if connections[door].is_none() {
                connections[door] = Client::connect(self.doors[door].address).ok();
            }
            let Some(connection) = &mut connections[door] else {
                // The signer is down: nothing to do but to look again.
                std::thread::sleep(GLANCE);
                continue;
            };
            tally[0] += 1;
            match self.ask(connection, key, ask) {
                Ok(Answer::Signed) => tally[1] += 1,
                Ok(Answer::Refused(reason)) => {
                    let wait = reason.starts_with("503");
                    *refusals.entry(reason).or_insert(0_u64) += 1;
                    if wait {
                        std::thread::sleep(AFTER_UNAVAILABLE);
                    }
                }
                Err(()) => {
                    connections[door] = None;
                    tally[2] += 1;
                }
            }
        }
        self.totals.add(|counts| {
            counts.requests += tally[0];
            counts.released += tally[1];
            counts.unanswered += tally[2];
            for (reason, count) in refusals {
                *counts.refusals.entry(reason).or_default() += count;
            }
        });
    }

    fn choose(&self, rng: &mut ChaCha8Rng) -> (usize, Ask) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if !recent.is_empty() && rng.random_bool(0.25) {
            let (key, ask) = recent[rng.random_range(0..recent.len())];
            return (key, ask.vary(rng));
        }
        let hot = rng.random_bool(0.5);
        let key = rng.random_range(0..if hot { HOT_KEYS } else { self.keys.len() });
        let ask = Ask::draw(rng, self.clock.slot());
        recent.push_back((key, ask));
        if recent.len() > RECENT {
            recent.pop_front();
        }
        (key, ask)
    }

    /// Asks once; a signature is recorded whoever asked for it. The error is a broken connection.
    pub(crate) fn ask(&self, connection: &mut Client, key: usize, ask: Ask) -> Result<Answer, ()> {
        self.clock.tick();
        let (body, _, _) = ask.build();
        let path = format!("/api/v1/eth2/sign/{}", self.keys[key].public);
        let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
        let response = connection.request("POST", &path, &headers, body.to_string().as_bytes()).map_err(|_| ())?;
        self.answers.fetch_add(1, Ordering::SeqCst);
        match response.status {
            200 => {
                let json = response.json();
                match self.ledger.record(key, ask, json["signature"].as_str().unwrap_or_default()) {
                    Ok(Recorded::NewSlashable) => {
                        self.signed.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Recorded::New | Recorded::Known) => {}
                    Err(finding) => self.find(finding),
                }
                Ok(Answer::Signed)
            }
            412 | 503 => {
                let reason = response.reason();
                if response.status == 503 {
                    self.unavailable.fetch_add(1, Ordering::SeqCst);
                }
                if reason.ends_with("_in_future") {
                    self.future.fetch_add(1, Ordering::SeqCst);
                }
                Ok(Answer::Refused(format!("{} {reason}", response.status)))
            }
            status => {
                self.find(format!("status {status} for {ask:?}: {}", response.text()));
                Ok(Answer::Refused(status.to_string()))
            }
        }
    }
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A signature.
    Signed,
    /// Status and reason.
    Refused(String),
}
