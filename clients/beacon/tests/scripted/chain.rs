//! The chain a scripted node follows, and what a healthy node of it answers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::{Answer, Inner, Seen, lock};

/// A chain: its genesis and timing. Nodes of one chain agree about everything by default.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Seconds since 1970.
    pub genesis_time: u64,
    /// One byte, repeated: the genesis validators root, and part of every block root.
    pub id: u8,
    pub seconds_per_slot: u64,
    pub slots_per_epoch: u64,
    /// `None`: far in the future.
    pub gloas_epoch: Option<u64>,
}

/// What a node says about its head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sync {
    /// Slots behind the wall clock.
    pub behind: u64,
    pub is_syncing: bool,
    pub is_optimistic: bool,
    pub el_offline: bool,
    /// Not zero: a head of a fork of this name.
    pub fork: u8,
}

impl Chain {
    /// A chain that is `slots` old, with slots of 12 seconds; the present slot has just begun.
    pub fn aged(slots: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self { genesis_time: now - slots * 12, id: 0x4b, seconds_per_slot: 12, slots_per_epoch: 32, gloas_epoch: None }
    }

    pub fn genesis_root(&self) -> String {
        format!("0x{}", format!("{:02x}", self.id).repeat(32))
    }

    /// The slot of the wall clock.
    pub fn slot(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.saturating_sub(Duration::from_secs(self.genesis_time)).as_secs() / self.seconds_per_slot
    }

    pub fn epoch(&self) -> u64 {
        self.slot() / self.slots_per_epoch
    }

    /// The block root at `slot`, of the fork `fork` (0: the canonical chain).
    pub fn block_root(&self, slot: u64, fork: u8) -> String {
        format!("0x{}{fork:02x}{slot:016x}", format!("{:02x}", self.id).repeat(23))
    }
}

/// The part of the spec that does not depend on the chain.
const SPEC: [(&str, &str); 40] = [
    ("CONFIG_NAME", "scripted"),
    ("PRESET_BASE", "mainnet"),
    ("EPOCHS_PER_SYNC_COMMITTEE_PERIOD", "256"),
    ("INTERVALS_PER_SLOT", "3"),
    ("ATTESTATION_DUE_BPS", "3333"),
    ("AGGREGATE_DUE_BPS", "6667"),
    ("SYNC_MESSAGE_DUE_BPS", "3333"),
    ("CONTRIBUTION_DUE_BPS", "6667"),
    ("ATTESTATION_DUE_BPS_GLOAS", "2500"),
    ("AGGREGATE_DUE_BPS_GLOAS", "5000"),
    ("SYNC_MESSAGE_DUE_BPS_GLOAS", "2500"),
    ("CONTRIBUTION_DUE_BPS_GLOAS", "5000"),
    ("PAYLOAD_DUE_BPS", "5000"),
    ("PAYLOAD_ATTESTATION_DUE_BPS", "7500"),
    ("GENESIS_FORK_VERSION", "0x10000042"),
    ("ALTAIR_FORK_VERSION", "0x11000042"),
    ("ALTAIR_FORK_EPOCH", "0"),
    ("BELLATRIX_FORK_VERSION", "0x12000042"),
    ("BELLATRIX_FORK_EPOCH", "0"),
    ("CAPELLA_FORK_VERSION", "0x13000042"),
    ("CAPELLA_FORK_EPOCH", "0"),
    ("DENEB_FORK_VERSION", "0x14000042"),
    ("DENEB_FORK_EPOCH", "0"),
    ("ELECTRA_FORK_VERSION", "0x15000042"),
    ("ELECTRA_FORK_EPOCH", "0"),
    ("FULU_FORK_VERSION", "0x16000042"),
    ("FULU_FORK_EPOCH", "0"),
    ("GLOAS_FORK_VERSION", "0x17000042"),
    ("DOMAIN_BEACON_PROPOSER", "0x00000000"),
    ("DOMAIN_BEACON_ATTESTER", "0x01000000"),
    ("DOMAIN_RANDAO", "0x02000000"),
    ("DOMAIN_DEPOSIT", "0x03000000"),
    ("DOMAIN_VOLUNTARY_EXIT", "0x04000000"),
    ("DOMAIN_SELECTION_PROOF", "0x05000000"),
    ("DOMAIN_AGGREGATE_AND_PROOF", "0x06000000"),
    ("DOMAIN_SYNC_COMMITTEE", "0x07000000"),
    ("DEPOSIT_CHAIN_ID", "1337"),
    ("DEPOSIT_NETWORK_ID", "1337"),
    ("DEPOSIT_CONTRACT_ADDRESS", "0x4242424242424242424242424242424242424242"),
    ("MAX_COMMITTEES_PER_SLOT", "64"),
];

fn spec(chain: &Chain) -> String {
    let mut data: serde_json::Map<String, serde_json::Value> =
        SPEC.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let gloas = chain.gloas_epoch.unwrap_or(u64::MAX);
    for (key, value) in [
        ("SECONDS_PER_SLOT", chain.seconds_per_slot),
        ("SLOT_DURATION_MS", chain.seconds_per_slot * 1000),
        ("SLOTS_PER_EPOCH", chain.slots_per_epoch),
        ("GLOAS_FORK_EPOCH", gloas),
    ] {
        data.insert(key.to_owned(), json!(value.to_string()));
    }
    data.insert("BLOB_SCHEDULE".to_owned(), json!([]));
    json!({ "data": data }).to_string()
}

fn fork_schedule(chain: &Chain) -> String {
    let mut forks = vec![
        json!({ "previous_version": "0x10000042", "current_version": "0x10000042", "epoch": "0" }),
        json!({ "previous_version": "0x15000042", "current_version": "0x16000042", "epoch": "0" }),
    ];
    if let Some(epoch) = chain.gloas_epoch {
        forks.push(
            json!({ "previous_version": "0x16000042", "current_version": "0x17000042", "epoch": epoch.to_string() }),
        );
    }
    json!({ "data": forks }).to_string()
}

fn header(chain: &Chain, slot: u64, sync: Sync) -> serde_json::Value {
    let zero = format!("0x{}", "00".repeat(32));
    json!({
        "root": chain.block_root(slot, sync.fork), "canonical": true,
        "header": {
            "message": {
                "slot": slot.to_string(), "proposer_index": "7",
                "parent_root": chain.block_root(slot.saturating_sub(1), sync.fork),
                "state_root": zero, "body_root": zero,
            },
            "signature": format!("0x{}", "00".repeat(96)),
        },
    })
}

/// What a healthy node of the chain answers.
pub(super) fn healthy(inner: &Inner, seen: &Seen) -> Answer {
    let chain = &inner.chain;
    let (sync, version, peers) = {
        let behaviour = lock(&inner.behaviour);
        (behaviour.sync, behaviour.version.clone(), behaviour.peers)
    };
    let head = chain.slot().saturating_sub(sync.behind);
    let flags = |data: serde_json::Value| {
        json!({ "execution_optimistic": sync.is_optimistic, "finalized": false, "data": data }).to_string()
    };
    match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/eth/v1/beacon/genesis") => Answer::json(
            json!({ "data": {
                "genesis_time": chain.genesis_time.to_string(),
                "genesis_validators_root": chain.genesis_root(),
                "genesis_fork_version": "0x10000042",
            } })
            .to_string(),
        ),
        ("GET", "/eth/v1/config/spec") => Answer::json(spec(chain)),
        ("GET", "/eth/v1/config/fork_schedule") => Answer::json(fork_schedule(chain)),
        ("GET", "/eth/v1/config/deposit_contract") => Answer::json(
            json!({ "data": { "chain_id": "1337", "address": format!("0x{}", "42".repeat(20)) } }).to_string(),
        ),
        ("GET", "/eth/v1/node/version") => Answer::json(json!({ "data": { "version": version } }).to_string()),
        ("GET", "/eth/v1/node/syncing") => Answer::json(
            json!({ "data": {
                "head_slot": head.to_string(), "sync_distance": sync.behind.to_string(),
                "is_syncing": sync.is_syncing, "is_optimistic": sync.is_optimistic, "el_offline": sync.el_offline,
            } })
            .to_string(),
        ),
        ("GET", "/eth/v1/node/health") => {
            let unwell = sync.is_syncing || sync.is_optimistic || sync.el_offline;
            Answer::status(if unwell { 206 } else { 200 })
        }
        ("GET", "/eth/v1/node/peer_count") => Answer::json(
            json!({ "data": { "disconnected": "0", "connecting": "0", "connected": peers.to_string(), "disconnecting": "0" } })
                .to_string(),
        ),
        ("GET", "/eth/v1/beacon/headers/head") => Answer::json(flags(header(chain, head, sync))),
        ("GET", "/eth/v1/beacon/headers") => Answer::json(flags(json!([header(chain, head, sync)]))),
        ("GET", "/eth/v1/beacon/blocks/head/root") => {
            Answer::json(flags(json!({ "root": chain.block_root(head, sync.fork) })))
        }
        ("GET", "/eth/v1/beacon/states/head/finality_checkpoints") => {
            let epoch = head / chain.slots_per_epoch;
            let checkpoint = |epoch: u64| {
                json!({ "epoch": epoch.to_string(), "root": chain.block_root(epoch * chain.slots_per_epoch, sync.fork) })
            };
            Answer::json(flags(json!({
                "previous_justified": checkpoint(epoch.saturating_sub(2)),
                "current_justified": checkpoint(epoch.saturating_sub(1)),
                "finalized": checkpoint(epoch.saturating_sub(2)),
            })))
        }
        ("GET", "/eth/v1/events") => Answer::events(),
        _ => Answer::error(404, "the scripted node was not taught this route"),
    }
}
