//! Clients that ask for everything a confused or hostile validator client would ask for, by seed.
//!
//! Several threads share the same keys and ask for attestations and blocks close to each other in
//! time, with different roots, repeats, and surround attempts, mixed with unslashable messages.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::auditor::{Root, Signed};
use crate::http::Client;
use crate::keys::TestKey;
use crate::world::{CHAIN, SLOTS_PER_EPOCH};

/// A signature that came back.
#[derive(Debug, Clone)]
pub struct Released {
    /// Public key, `0x` hex.
    pub key: String,
    /// What was signed; `None` for an unslashable message.
    pub signed: Option<Signed>,
    /// Signing root as the test computes it.
    pub root: Root,
    /// The signature, `0x` hex.
    pub signature: String,
}

/// What a client saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Signatures that came back, in order.
    pub released: Vec<Released>,
    /// Answers by status.
    pub statuses: HashMap<u16, u64>,
    /// Refusals by reason.
    pub reasons: HashMap<String, u64>,
    /// Whether the connection broke (the server was killed).
    pub broken: bool,
}

impl Report {
    /// Adds another client's report.
    pub fn absorb(&mut self, other: Self) {
        self.released.extend(other.released);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        self.broken |= other.broken;
    }

    /// Number of answers.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }
}

/// One client's life: `requests` at most, ends early when the connection breaks or `stop` is set.
pub struct ClientPlan<'a> {
    /// Where the server is.
    pub address: SocketAddr,
    /// Keys to ask for; all clients use the same.
    pub keys: &'a [TestKey],
    /// Seed of this client.
    pub seed: u64,
    /// Requests at most.
    pub requests: u64,
    /// Shared logical time: it moves one epoch for every `pace` requests of all clients.
    pub tick: &'a AtomicU64,
    /// Requests per epoch of logical time.
    pub pace: u64,
    /// Set to end early.
    pub stop: &'a AtomicBool,
}

/// Runs a client to its end.
pub fn run(plan: &ClientPlan<'_>) -> Report {
    let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
    let mut report = Report::default();
    let Ok(mut client) = Client::connect(plan.address) else {
        report.broken = true;
        return report;
    };
    for _ in 0..plan.requests {
        if plan.stop.load(Ordering::Relaxed) {
            break;
        }
        let key = &plan.keys[rng.random_range(0..plan.keys.len())];
        let epoch = 2 + plan.tick.fetch_add(1, Ordering::Relaxed) / plan.pace;
        let (body, signed, root) = draw(&mut rng, epoch);
        let path = format!("/api/v1/eth2/sign/{}", key.public);
        let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
        let Ok(response) = client.request("POST", &path, &headers, body.to_string().as_bytes()) else {
            report.broken = true;
            break;
        };
        *report.statuses.entry(response.status).or_default() += 1;
        if response.status == 200 {
            let signature = response.json()["signature"].as_str().expect("signature").to_owned();
            report.released.push(Released { key: key.public.clone(), signed, root, signature });
        } else {
            *report.reasons.entry(response.reason()).or_default() += 1;
        }
    }
    report
}

/// Draws a request around `epoch`. Few distinct roots, so that repeats and conflicts are both common.
fn draw(rng: &mut ChaCha8Rng, epoch: u64) -> (serde_json::Value, Option<Signed>, Root) {
    let seed = rng.random_range(0..3);
    match rng.random_range(0..100) {
        0..50 => {
            let target = epoch + rng.random_range(0..3) - 1;
            let source = target.saturating_sub(rng.random_range(0..4));
            let slot = target * SLOTS_PER_EPOCH + rng.random_range(0..2);
            let (body, root) = CHAIN.attestation(slot, source, target, seed);
            (body, Some(Signed::Attestation { source, target }), root)
        }
        50..85 => {
            let slot = epoch * SLOTS_PER_EPOCH + rng.random_range(0..SLOTS_PER_EPOCH);
            let (body, root) = CHAIN.block(slot, seed);
            (body, Some(Signed::Block { slot }), root)
        }
        _ => {
            let (body, root) = CHAIN.randao(epoch);
            (body, None, root)
        }
    }
}
