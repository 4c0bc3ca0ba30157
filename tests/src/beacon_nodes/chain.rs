//! The chain of the nodes, and what a healthy node of it says.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

const SLOT_SECONDS: u64 = 12;
const SLOTS_PER_EPOCH: u64 = 32;
/// Age of the chain at the start.
const SLOTS_AT_START: u64 = 1000;

/// What the nodes call themselves, in turn: votes count implementations.
const CLIENTS: [&str; 5] = ["Lighthouse", "teku", "Lodestar", "Prysm", "Nimbus"];

/// What decides compatibility and timing; the numbers of mainnet but for the genesis.
const SPEC: [(&str, &str); 30] = [
    ("CONFIG_NAME", "measured"),
    ("PRESET_BASE", "mainnet"),
    ("SECONDS_PER_SLOT", "12"),
    ("SLOT_DURATION_MS", "12000"),
    ("SLOTS_PER_EPOCH", "32"),
    ("EPOCHS_PER_SYNC_COMMITTEE_PERIOD", "256"),
    ("ATTESTATION_DUE_BPS", "3333"),
    ("AGGREGATE_DUE_BPS", "6667"),
    ("SYNC_MESSAGE_DUE_BPS", "3333"),
    ("CONTRIBUTION_DUE_BPS", "6667"),
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
    ("GLOAS_FORK_EPOCH", "18446744073709551615"),
    ("DOMAIN_BEACON_ATTESTER", "0x01000000"),
    ("DEPOSIT_CHAIN_ID", "1337"),
    ("DEPOSIT_NETWORK_ID", "1337"),
    ("DEPOSIT_CONTRACT_ADDRESS", "0x4242424242424242424242424242424242424242"),
    ("MAX_COMMITTEES_PER_SLOT", "64"),
];

/// A head: the newest block.
#[derive(Clone, Copy)]
struct Head {
    slot: u64,
    /// Counts the blocks told of.
    number: u64,
}

impl Head {
    fn root(self) -> String {
        format!("0x{}{:016x}{:016x}", "4b".repeat(16), self.number, self.slot)
    }
}

/// The news of a head, as records of an event stream.
pub(super) struct News {
    pub(super) sent_at: u64,
    pub(super) block: String,
    pub(super) head: String,
}

pub(super) struct Chain {
    started: Instant,
    genesis_time: u64,
    head: Mutex<Head>,
    genesis: String,
    spec: String,
    forks: String,
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// The root of a block whose slot is all that matters.
fn root_of(slot: u64) -> String {
    format!("0x{}{slot:016x}", "4b".repeat(24))
}

impl Chain {
    pub(super) fn start() -> Self {
        let genesis_time = since_1970().as_secs() - SLOTS_AT_START * SLOT_SECONDS;
        let genesis = json!({ "data": {
            "genesis_time": genesis_time.to_string(), "genesis_validators_root": format!("0x{}", "4b".repeat(32)),
            "genesis_fork_version": "0x10000042",
        } });
        let spec: serde_json::Map<_, _> = SPEC.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let forks = json!({ "data": [
            { "previous_version": "0x10000042", "current_version": "0x10000042", "epoch": "0" },
            { "previous_version": "0x15000042", "current_version": "0x16000042", "epoch": "0" },
        ] });
        Self {
            started: Instant::now(),
            genesis_time,
            head: Mutex::new(Head { slot: SLOTS_AT_START, number: 0 }),
            genesis: genesis.to_string(),
            spec: json!({ "data": spec }).to_string(),
            forks: forks.to_string(),
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn slot(&self) -> u64 {
        (since_1970().as_secs() - self.genesis_time) / SLOT_SECONDS
    }

    pub(super) fn until_next_slot(&self) -> Duration {
        let next = Duration::from_secs(self.genesis_time + (self.slot() + 1) * SLOT_SECONDS);
        next.saturating_sub(since_1970())
    }

    fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new head in the present slot.
    pub(super) fn new_head(&self) -> News {
        let head = {
            let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
            *head = Head { slot: self.slot(), number: head.number + 1 };
            *head
        };
        let (slot, root, sent_at) = (head.slot, head.root(), self.started.elapsed().as_nanos());
        let sent_at = u64::try_from(sent_at).expect("less than centuries");
        let block = format!(
            "event: block\ndata: {{\"slot\":\"{slot}\",\"block\":\"{root}\",\"execution_optimistic\":false,\"sent_at\":\"{sent_at}\"}}\n\n"
        );
        let state = root_of(slot);
        let head = format!(
            "event: head\ndata: {{\"slot\":\"{slot}\",\"block\":\"{root}\",\"state\":\"{state}\",\"epoch_transition\":false,\
             \"execution_optimistic\":false,\"sent_at\":\"{sent_at}\"}}\n\n"
        );
        News { sent_at, block, head }
    }

    /// The body of a node's answer to a GET; `None` for a route the nodes do not have.
    pub(super) fn answer(&self, node: usize, target: &str) -> Option<String> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(match path {
            "/eth/v1/beacon/genesis" => self.genesis.clone(),
            "/eth/v1/config/spec" => self.spec.clone(),
            "/eth/v1/config/fork_schedule" => self.forks.clone(),
            "/eth/v1/node/version" => {
                format!(r#"{{"data":{{"version":"{}/v1.0.0-measured/x86_64-linux"}}}}"#, CLIENTS[node % CLIENTS.len()])
            }
            "/eth/v1/node/health" => "{}".to_owned(),
            "/eth/v1/node/peer_count" => {
                r#"{"data":{"disconnected":"0","connecting":"0","connected":"80","disconnecting":"0"}}"#.to_owned()
            }
            "/eth/v1/node/syncing" => format!(
                r#"{{"data":{{"head_slot":"{}","sync_distance":"0","is_syncing":false,"is_optimistic":false,"el_offline":false}}}}"#,
                self.head().slot
            ),
            "/eth/v1/beacon/headers/head" => self.header(),
            "/eth/v1/beacon/blocks/head/root" => format!(
                r#"{{"execution_optimistic":false,"finalized":false,"data":{{"root":"{}"}}}}"#,
                self.head().root()
            ),
            "/eth/v1/validator/attestation_data" => self.attestation_data(query)?,
            _ if path.starts_with("/eth/v1/beacon/states/") && path.ends_with("/finality_checkpoints") => {
                self.checkpoints()
            }
            _ => return None,
        })
    }

    fn header(&self) -> String {
        let head = self.head();
        let parent = Head { number: head.number.saturating_sub(1), slot: head.slot.saturating_sub(1) }.root();
        let zero = format!("0x{}", "00".repeat(32));
        format!(
            r#"{{"execution_optimistic":false,"finalized":false,"data":{{"root":"{}","canonical":true,"header":{{"message":{{"slot":"{}","proposer_index":"7","parent_root":"{parent}","state_root":"{zero}","body_root":"{zero}"}},"signature":"0x{}"}}}}}}"#,
            head.root(),
            head.slot,
            "00".repeat(96)
        )
    }

    fn checkpoints(&self) -> String {
        let epoch = self.head().slot / SLOTS_PER_EPOCH;
        let before = |epochs: u64| checkpoint(epoch.saturating_sub(epochs));
        format!(
            r#"{{"execution_optimistic":false,"finalized":false,"data":{{"previous_justified":{},"current_justified":{},"finalized":{}}}}}"#,
            before(2),
            before(1),
            before(2)
        )
    }

    fn attestation_data(&self, query: &str) -> Option<String> {
        let slot: u64 = query.split('&').find_map(|pair| pair.strip_prefix("slot="))?.parse().ok()?;
        let epoch = slot / SLOTS_PER_EPOCH;
        Some(format!(
            r#"{{"data":{{"slot":"{slot}","index":"0","beacon_block_root":"{}","source":{},"target":{}}}}}"#,
            self.head().root(),
            checkpoint(epoch.saturating_sub(1)),
            checkpoint(epoch)
        ))
    }
}

fn checkpoint(epoch: u64) -> String {
    format!(r#"{{"epoch":"{epoch}","root":"{}"}}"#, root_of(epoch * SLOTS_PER_EPOCH))
}
