//! Newly enabled keys and the nodes' word on them, on the real binary: held back under `enforce` until nobody was seen for
//! the configured epochs, across a kill; held for good once somebody was seen; signed at once and watched under `observe`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_tests::finished::run;
use holdfast_tests::harness::{Builder, Server};
use holdfast_tests::http::Response;
use holdfast_tests::journal::{self, Journal};
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use serde_json::json;

use crate::scripted::{Answer, Chain, ScriptedNode};

/// How long something may take that must happen: a few epochs of eight seconds.
const PATIENCE: Duration = Duration::from_mins(2);
const LIVENESS: &str = "POST /eth/v1/validator/liveness/*";
const VALIDATORS: &str = "POST /eth/v1/beacon/states/head/validators";

/// Two nodes of different clients on a network with slots of a second, and one key that was enabled a moment ago.
struct Stage {
    _runtime: tokio::runtime::Runtime,
    chain: Chain,
    nodes: [ScriptedNode; 2],
    world: World,
    /// The epoch in which the key was imported, or the one before.
    enabled: u64,
    /// Whether the second node sees the key at work.
    twin: Arc<AtomicBool>,
}

impl Stage {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let genesis = now - 100 * SLOTS_PER_EPOCH;
        let chain = Chain {
            genesis_time: genesis,
            id: 0x77,
            seconds_per_slot: 1,
            slots_per_epoch: SLOTS_PER_EPOCH,
            gloas_epoch: None,
        };
        let nodes = runtime.block_on(async {
            [
                ScriptedNode::start("a", "Lighthouse/v8.0.0", &chain).await,
                ScriptedNode::start("b", "teku/v25.12.0", &chain).await,
            ]
        });
        let enabled = chain.epoch();
        let world = World::with_slots(1, genesis, 1);
        let twin = Arc::new(AtomicBool::new(false));
        let key = world.keys[0].public.clone();
        for (number, node) in nodes.iter().enumerate() {
            let validator = json!({ "data": [{ "index": "5", "validator": { "pubkey": key } }] }).to_string();
            node.answer(VALIDATORS, Answer::json(validator));
            let seen = Arc::clone(&twin);
            node.script(LIVENESS, move |_| {
                let live = number == 1 && seen.load(Ordering::SeqCst);
                Answer::json(json!({ "data": [{ "index": "5", "is_live": live }] }).to_string())
            });
        }
        Self { _runtime: runtime, chain, nodes, world, enabled, twin }
    }

    fn server(&self, policy: &str) -> Server {
        let builder: Builder =
            self.nodes.iter().fold(self.world.server(), |builder, node| builder.global("--beacon").global(node.url()));
        let builder = builder.arg("--switcher-listen").arg("127.0.0.1:0").env("HOLDFAST_SWITCHER_DOPPELGANGER", policy);
        let server = builder.start();
        server.wait_ready();
        server
    }

    /// A vote for the present epoch. `seed` tells votes apart.
    fn vote(&self, server: &Server, seed: u64) -> Response {
        let target = self.chain.epoch();
        let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, seed);
        server.sign(&self.world.keys[0].public, &body)
    }

    fn refused(&self, server: &Server, reason: &str) -> String {
        let response = self.vote(server, 1);
        assert_eq!((response.status, response.json()["reason"].as_str()), (412, Some(reason)), "{}", response.text());
        response.json()["message"].as_str().unwrap().to_owned()
    }

    /// Stops the server, and reads and verifies the journal.
    fn journal(&self, server: Server) -> Journal {
        let (status, log) = server.stop();
        assert!(status.success(), "{log}");
        run(&self.world.with(&["slashing", "status", "--verify"])).expect(0, &["verified"]);
        journal::read(&self.world.data_dir())
    }
}

fn until(what: &str, server: &Server, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "not reached: {what}\n{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn events(journal: &Journal, kind: &str) -> Vec<String> {
    let events = journal.events.iter().filter(|event| event.kind().as_str() == kind);
    events.map(|event| format!("{}: {}", event.key().unwrap(), event.why())).collect()
}

#[test]
fn a_new_key_is_held_until_nobody_was_seen_for_the_configured_epochs_also_across_a_kill() {
    let stage = Stage::new();
    let enabled = stage.enabled;
    let server = stage.server("enforce");
    let message = stage.refused(&server, "doppelganger_pending");
    assert!(message.contains("it signs from about") && message.contains("in epoch"), "{message}");
    // Other messages are signed.
    let (body, _) = CHAIN.randao(stage.chain.epoch());
    assert_eq!(server.sign(&stage.world.keys[0].public, &body).status, 200, "{}", server.log());
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains(r#"holdfast_doppelganger_keys{state="pending"} 1"#), "{metrics}");
    // One epoch is counted, and then the process is killed.
    until("it was looked at late in the epoch after the first", &server, || stage.chain.epoch() >= enabled + 3);
    assert_eq!(stage.refused(&server, "doppelganger_pending").matches("in epoch").count(), 1);
    server.kill9();
    let server = stage.server("enforce");
    stage.refused(&server, "doppelganger_pending");
    let mut let_go = 0;
    until("it is let go", &server, || {
        let epoch = stage.chain.epoch();
        let response = stage.vote(&server, 1);
        let_go = epoch;
        if response.status != 200 {
            assert_eq!(response.json()["reason"], "doppelganger_pending", "{}", response.text());
        }
        response.status == 200
    });
    // Two whole epochs after the one it was enabled in, and the second is known at the end of the next.
    assert!(let_go >= enabled + 3, "let go in epoch {let_go}, enabled in {enabled}");
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains(r#"holdfast_doppelganger_findings_total{finding="passed"} 1"#), "{metrics}");
    let asked = stage.nodes.iter().map(|node| node.seen(LIVENESS).len()).min().unwrap();
    assert!(asked >= 2, "each node was asked, {asked} times");
    let journal = stage.journal(server);
    let passed = events(&journal, "doppelganger.passed");
    assert!(matches!(passed.as_slice(), [one] if one.contains("nobody seen in 2 epochs")), "{passed:?}");
    assert!(journal.refused.iter().all(|(_, reason)| *reason == "doppelganger_pending"), "{:?}", journal.refused);
    assert!(!journal.refused.is_empty());
    // And it stays so.
    let server = stage.server("enforce");
    assert_eq!(stage.vote(&server, 1).status, 200, "{}", server.log());
}

#[test]
fn a_key_that_one_node_sees_at_work_is_held_for_good_and_released_by_the_operator_alone() {
    let stage = Stage::new();
    stage.twin.store(true, Ordering::SeqCst);
    let server = stage.server("enforce");
    stage.refused(&server, "doppelganger_pending");
    until("somebody is seen", &server, || stage.vote(&server, 1).json()["reason"] == "doppelganger_detected");
    // It does not matter that they are gone afterwards.
    stage.twin.store(false, Ordering::SeqCst);
    let message = stage.refused(&server, "doppelganger_detected");
    assert!(message.contains("stop that signer") && message.contains("enable it again"), "{message}");
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains(r#"holdfast_doppelganger_findings_total{finding="detected"} 1"#), "{metrics}");
    until("it is shown", &server, || {
        server.get_metrics("/metrics").text().contains(r#"holdfast_doppelganger_keys{state="detected"} 1"#)
    });
    assert!(server.log().contains("somebody else signs with a key"), "{}", server.log());
    server.kill9();
    let server = stage.server("enforce");
    let seen_in = stage.chain.epoch();
    until("epochs go by in silence", &server, || stage.chain.epoch() >= seen_in + 3);
    stage.refused(&server, "doppelganger_detected");
    let journal = stage.journal(server);
    let detected = events(&journal, "doppelganger.detected");
    assert!(matches!(detected.as_slice(), [one] if one.contains(&stage.world.keys[0].public)), "{detected:?}");
    assert_eq!(journal.permitted.len(), 0);

    let key = stage.world.keys[0].public.clone();
    for verb in ["disable", "enable"] {
        run(&stage.world.with(&["keys", verb, &key])).expect(0, &[]);
    }
    // What the other one signed meanwhile is not contradicted; behind that the key is as new.
    let shown = run(&stage.world.with(&["--json", "keys", "show", &key])).expect(0, &[]).lines()[0].clone();
    let fence = shown["target_epoch"].as_u64().expect("it is fenced");
    let server = stage.server("enforce");
    until("the fence is behind", &server, || stage.chain.epoch() > fence);
    stage.refused(&server, "doppelganger_pending");
}

#[test]
fn an_answer_that_is_missing_puts_the_end_off() {
    let stage = Stage::new();
    stage.nodes[1].answer(LIVENESS, Answer::error(503, "syncing"));
    let enabled = stage.enabled;
    let server = stage.server("enforce");
    until("epochs go by", &server, || stage.chain.epoch() >= enabled + 5);
    stage.refused(&server, "doppelganger_pending");
    let metrics = server.get_metrics("/metrics").text();
    assert!(!metrics.contains("holdfast_doppelganger_incomplete_looks_total 0"), "{metrics}");
    let seen = stage.nodes[0].seen(LIVENESS).len();
    assert!(seen >= 2, "the other node was asked {seen} times");
    stage.nodes[1].answer(LIVENESS, Answer::json(r#"{"data":[{"index":"5","is_live":false}]}"#));
    until("it is let go", &server, || stage.vote(&server, 1).status == 200);
    assert!(stage.chain.epoch() >= enabled + 6, "two whole epochs after that");
}

#[test]
fn observed_keys_sign_at_once_and_what_is_seen_is_in_the_journal() {
    let stage = Stage::new();
    stage.twin.store(true, Ordering::SeqCst);
    let server = stage.server("observe");
    assert_eq!(stage.vote(&server, 1).status, 200, "{}", server.log());
    until("somebody is seen", &server, || {
        let metrics = server.get_metrics("/metrics").text();
        metrics.contains(r#"holdfast_doppelganger_findings_total{finding="detected"} 1"#)
    });
    assert_eq!(stage.vote(&server, 1).status, 200, "nothing is refused: {}", server.log());
    let journal = stage.journal(server);
    assert_eq!(events(&journal, "doppelganger.detected").len(), 1);
    assert!(journal.refused.is_empty(), "{:?}", journal.refused);
}

#[test]
fn holding_keys_back_needs_the_switcher() {
    let world = World::new(1);
    let failure = world.server().env("HOLDFAST_SWITCHER_DOPPELGANGER", "enforce").try_start().err().unwrap();
    assert!(failure.contains("exit status: 2") && failure.contains("--switcher-listen"), "{failure}");
}
