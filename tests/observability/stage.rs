//! A signer with everything switched on, consensus and execution clients that a test controls, and clients at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_tests::execution_node;
use holdfast_tests::harness::{Builder, Server};
use holdfast_tests::http::Client;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, GENESIS_TIME, SLOTS_PER_EPOCH, World};
use serde_json::{Value, json};

use crate::scripted::{Answer, Chain, ScriptedNode};

/// How long something may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something.
#[track_caller]
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// A signer, two consensus clients and an execution client.
pub struct Stage {
    /// The server; `None` once it was taken.
    pub server: Option<Server>,
    /// Its keys and files.
    pub world: World,
    /// Consensus clients of two vendors.
    pub nodes: [ScriptedNode; 2],
    runtime: tokio::runtime::Runtime,
    /// Logical time: an epoch has [`EPOCH_TICKS`].
    ticks: Arc<AtomicU64>,
}

/// Rounds of the clients in an epoch: each key signs in each.
const EPOCH_TICKS: u64 = 16;

/// A secret that nothing may show.
pub const SECRET: &str = "hunter2-must-not-be-seen";

impl Stage {
    /// Starts everything with so many keys.
    pub fn new(keys: u64) -> Self {
        Self::with(keys, &[])
    }

    /// Starts everything with these settings besides.
    pub fn with(keys: u64, settings: &[(&str, &str)]) -> Self {
        Self::of(keys, |builder| settings.iter().fold(builder, |builder, (name, value)| builder.env(name, value)))
    }

    /// Starts everything, the server as `change` makes it.
    pub fn of(keys: u64, change: impl FnOnce(Builder) -> Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let chain = Chain {
            genesis_time: GENESIS_TIME,
            id: 0x77,
            seconds_per_slot: 6,
            slots_per_epoch: SLOTS_PER_EPOCH,
            gloas_epoch: None,
        };
        let nodes = runtime.block_on(async {
            [
                ScriptedNode::start("a", "Lighthouse/v8.0.0", &chain).await,
                ScriptedNode::start("b", "teku/v25.12.0", &chain).await,
            ]
        });
        let ticks = Arc::new(AtomicU64::new(0));
        for node in &nodes {
            // Both contradict what the clients vote for: the same epochs, with another root.
            let ticks = Arc::clone(&ticks);
            node.script("GET /eth/v1/validator/attestation_data", move |_| vote(&ticks));
        }
        let world = World::new(keys);
        let server = change(Self::builder(&world, &nodes)).start();
        server.wait_ready();
        let stage = Self { server: Some(server), world, nodes, runtime, ticks };
        until("both consensus clients serve", || {
            let document = stage.server().get_metrics("/status.json").json();
            document["switcher"]["serving"]["duty"].as_array().is_some_and(|names| names.len() == 2)
        });
        stage
    }

    fn builder(world: &World, nodes: &[ScriptedNode]) -> Builder {
        let builder = nodes.iter().fold(world.server(), |builder, node| {
            builder.global("--beacon").global(node.url().replace("http://", &format!("http://user:{SECRET}@")))
        });
        builder
            .arg("--switcher-listen")
            .arg("127.0.0.1:0")
            .env("HOLDFAST_EXECUTION_ENABLED", "true")
            .env("HOLDFAST_EXECUTION_LISTEN", "127.0.0.1:0")
            .env("HOLDFAST_EXECUTION_UPSTREAM", execution_node::start("execution"))
            .env("HOLDFAST_HTTP_MAX_REQUESTS_PER_SECOND", "100000")
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// Ends the consensus client that is the first choice.
    pub fn kill_a_node(&mut self) {
        let document = self.server().get_metrics("/status.json").json();
        let first = document["switcher"]["serving"]["duty"][0].as_str().expect("a first choice").to_owned();
        let node = self.nodes.iter_mut().find(|node| node.address().to_string() == first).expect("one of the two");
        self.runtime.block_on(node.kill());
    }

    /// An attestation that no key has signed yet.
    pub fn fresh_attestation(&self) -> Value {
        attestation(3 + self.ticks.fetch_add(EPOCH_TICKS, Ordering::Relaxed) / EPOCH_TICKS)
    }

    /// Clients at work until the handle is dropped: what is signed, and what is not.
    pub fn load(&self) -> Load {
        let (stop, ticks) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.ticks));
        let (stopping, address) = (Arc::clone(&stop), self.server().http_addr());
        let keys = self.world.keys.clone();
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(address).expect("the signing API accepts connections");
            while !stopping.load(Ordering::Relaxed) {
                let tick = ticks.fetch_add(1, Ordering::Relaxed);
                let some =
                    keys.iter().cycle().skip(usize::try_from(tick).unwrap() * 3 % keys.len()).take(keys.len().min(3));
                some.for_each(|key| everything(&mut client, key, 3 + tick / EPOCH_TICKS));
                // A steady trickle: one round is about a dozen requests.
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Load { stop, thread: Some(thread) }
    }
}

/// Root number so and so.
fn root(number: u64) -> String {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    format!("0x{}", hex::encode(bytes))
}

/// What a node would attest to.
fn vote(ticks: &AtomicU64) -> Answer {
    let target = 3 + ticks.load(Ordering::Relaxed) / EPOCH_TICKS;
    let vote = json!({ "data": {
        "slot": "1", "index": "0", "beacon_block_root": root(1),
        "source": { "epoch": (target - 1).to_string(), "root": root(target - 1) },
        "target": { "epoch": target.to_string(), "root": root(target + 1_000) },
    }});
    Answer::json(vote.to_string())
}

fn attestation(target: u64) -> Value {
    CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 1).0
}

/// A round of good and bad requests.
fn everything(client: &mut Client, key: &TestKey, target: u64) {
    let mut ask = |public: &str, body: &str, status: u16| {
        let path = format!("/api/v1/eth2/sign/{public}");
        let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
        let answer = client.request("POST", &path, &headers, body.as_bytes()).expect("an answer");
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    };
    let slot = target * SLOTS_PER_EPOCH;
    ask(&key.public, &attestation(target).to_string(), 200);
    ask(&key.public, &CHAIN.block(slot, 1).0.to_string(), 200);
    ask(&key.public, &CHAIN.randao(target).0.to_string(), 200);
    ask(&key.public, &CHAIN.block(slot, 2).0.to_string(), 412);
    ask(&TestKey::interop(9_999).public, &CHAIN.randao(target).0.to_string(), 404);
    ask(&key.public, "{", 400);
}

/// Clients at work; they stop when this is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "a client failed");
        }
    }
}
