//! What the switcher decides, and what it objects to, is in the signer's journal, which verifies with it.

use std::time::{Duration, Instant};

use holdfast_tests::finished::run;
use holdfast_tests::harness::{Builder, Server, holdfast};
use holdfast_tests::journal::{self, Journal};
use holdfast_tests::world::{CHAIN, GENESIS_TIME, SLOTS_PER_EPOCH, World};
use serde_json::Value;

use crate::scripted::{Answer, Chain, ScriptedNode};

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

const DATA: &str = "GET /eth/v1/validator/attestation_data";

/// Two nodes of different clients on the test network, and a world with one key.
struct Stage {
    runtime: tokio::runtime::Runtime,
    chain: Chain,
    nodes: [ScriptedNode; 2],
    world: World,
}

impl Stage {
    fn new() -> Self {
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
        Self { runtime, chain, nodes, world: World::new(1) }
    }

    /// A signer with the switcher in front of both nodes.
    fn server(&self) -> Builder {
        let builder =
            self.nodes.iter().fold(self.world.server(), |builder, node| builder.global("--beacon").global(node.url()));
        builder.arg("--switcher-listen").arg("127.0.0.1:0")
    }

    fn names(&self) -> [String; 2] {
        self.nodes.each_ref().map(|node| node.address().to_string())
    }

    fn switcher(&self, arguments: &[&str]) {
        let mut all = self.world.with(&["--json", "switcher"]);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        run(&all).expect(0, &[]);
    }

    fn status(&self) -> Value {
        let output = holdfast(&self.world.with(&["--json", "switcher", "status"]));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn until_both_serve(&self) {
        until("both nodes serve", || {
            self.status()["switcher"]["serving"]["attestation_data"].as_array().is_some_and(|names| names.len() == 2)
        });
    }

    /// Both nodes vote so from now on.
    fn vote(&self, answer: &Answer) {
        for node in &self.nodes {
            node.answer(DATA, answer.clone());
        }
    }

    /// Stops the server, and reads and verifies the journal.
    fn journal(&self, server: Server) -> Journal {
        let (status, log) = server.stop();
        assert!(status.success(), "{log}");
        run(&self.world.with(&["slashing", "status", "--verify"])).expect(0, &["verified"]);
        journal::read(&self.world.data_dir())
    }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "not reached: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the journal has an event of this kind about this.
fn has(journal: &Journal, kind: &str, about: &str) -> bool {
    journal.events.iter().any(|event| event.kind().as_str() == kind && event.what() == about)
}

#[test]
fn decisions_are_in_the_journal_after_a_stop() {
    let mut stage = Stage::new();
    let server = stage.server().start();
    server.wait_ready();
    stage.until_both_serve();
    let [first, second] = stage.names();
    stage.switcher(&["drain", &second]);
    stage.switcher(&["undrain", &second]);
    stage.switcher(&["add", "http://127.0.0.1:1", "--name", "third", "--tier", "1"]);
    let (body, _) = CHAIN.randao(1);
    assert_eq!(server.sign(&stage.world.keys[0].public, &body).status, 200, "{}", server.log());
    stage.runtime.block_on(stage.nodes[0].kill());
    until("its end is noticed", || {
        let status = stage.status();
        let decisions = status["switcher"]["decisions"].as_array().cloned().unwrap_or_default();
        decisions.iter().any(|decision| decision["kind"] == "left" && decision["upstream"] == first.as_str())
    });
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains("holdfast_switcher_decisions_not_journaled_total 0"), "{metrics}");
    stage.switcher(&["remove", "third"]);

    let journal = stage.journal(server);
    for (kind, about) in [
        ("switcher.joined", format!("upstream/{first}")),
        ("switcher.drained", format!("upstream/{second}")),
        ("switcher.undrained", format!("upstream/{second}")),
        ("switcher.added", "upstream/third".to_owned()),
        ("switcher.left", format!("upstream/{first}")),
        // The last one before the stop.
        ("switcher.removed", "upstream/third".to_owned()),
    ] {
        assert!(has(&journal, kind, &about), "no {kind} {about} in {:#?}", journal.events);
    }
    let drained = journal.events.iter().find(|event| event.kind().as_str() == "switcher.drained").unwrap();
    assert_eq!((drained.caller().as_str(), drained.why()), ("switcher", "operator"));
    assert!(drained.happened_at().0 > GENESIS_TIME * 1000);
    assert_eq!((journal.entries, journal.permitted.len()), (1, 1), "events are no requests");
    // The next run goes on with the same chain.
    let before = journal.events.len();
    let server = stage.server().start();
    server.wait_ready();
    assert!(stage.journal(server).events.len() > before);
}

/// What a node would attest to: the checkpoints the test client names, or another target.
fn vote(source: u64, target: u64, root_of_target: u64) -> Answer {
    let root = |number: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        format!("0x{}", hex::encode(bytes))
    };
    Answer::json(format!(
        r#"{{"data":{{"slot":"1","index":"0","beacon_block_root":"{}","source":{{"epoch":"{source}","root":"{}"}},"target":{{"epoch":"{target}","root":"{}"}}}}}}"#,
        root(1),
        root(source),
        root(root_of_target)
    ))
}

#[test]
fn a_vote_the_nodes_do_not_confirm_is_refused_in_the_journal_and_moves_nothing() {
    let stage = Stage::new();
    let target = stage.chain.epoch();
    stage.vote(&vote(target - 1, target, target + 1_000));
    let server = stage.server().env("HOLDFAST_SWITCHER_CROSS_CHECK", "enforce").start();
    server.wait_ready();
    stage.until_both_serve();
    let key = &stage.world.keys[0].public;
    let slot = target * SLOTS_PER_EPOCH;
    let (refused, refused_root) = CHAIN.attestation(slot, target - 1, target, 1);
    let refusal = |status: u16, reason: &str| {
        until(reason, || {
            let response = server.sign(key, &refused);
            assert_ne!(response.status, 200, "signed: {}", server.log());
            response.status == status && response.json()["reason"] == reason
        });
    };
    refusal(412, "checkpoints_disagreed");
    stage.vote(&Answer::error(503, "syncing"));
    refusal(503, "checkpoints_unknown");
    let metrics = server.get_metrics("/metrics").text();
    for line in [
        r#"holdfast_signing_requests_total{type="attestation",result="refused",reason="checkpoints_disagreed"}"#,
        r#"holdfast_slashing_verdicts_total{kind="attestation",result="refused",reason="checkpoints_unknown"}"#,
        "eth2_slashingprotection_prevented_signings_total 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    // Another vote for the same target: had an objection moved the watermark, this would be a double vote.
    stage.vote(&vote(target - 1, target, target));
    let (signed, signed_root) = CHAIN.attestation(slot, target - 1, target, 2);
    until("the nodes confirm it", || server.sign(key, &signed).status == 200);
    // The rules come first, whatever the nodes say.
    let double = server.sign(key, &refused);
    assert_eq!((double.status, double.json()["reason"].as_str()), (412, Some("double_vote")));

    let journal = stage.journal(server);
    for reason in ["checkpoints_disagreed", "checkpoints_unknown", "double_vote"] {
        let entry = (key.clone(), reason);
        assert!(journal.refused.contains(&entry), "{reason} is not in {:?}", journal.refused);
    }
    assert!(journal.permitted.contains(&(key.clone(), signed_root)));
    assert!(!journal.permitted.contains(&(key.clone(), refused_root)));
    for kind in ["disagreed", "unknown", "confirmed"] {
        let kind = format!("switcher.checkpoints_{kind}");
        assert!(has(&journal, &kind, "class/attestation_data"), "no {kind} in {:#?}", journal.events);
    }
}

#[test]
fn observed_votes_are_signed_and_what_the_nodes_say_is_in_the_journal() {
    let stage = Stage::new();
    let target = stage.chain.epoch();
    stage.vote(&vote(target - 1, target, target + 1_000));
    let server = stage.server().start();
    server.wait_ready();
    stage.until_both_serve();
    let (body, root) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 1);
    assert_eq!(server.sign(&stage.world.keys[0].public, &body).status, 200, "{}", server.log());
    until("the nodes were asked", || {
        let metrics = server.get_metrics("/metrics").text();
        metrics.contains(r#"holdfast_switcher_checkpoint_checks_total{result="disagreed"} 1"#)
    });
    let journal = stage.journal(server);
    assert!(journal.permitted.contains(&(stage.world.keys[0].public.clone(), root)));
    assert!(has(&journal, "switcher.checkpoints_disagreed", "class/attestation_data"), "{:#?}", journal.events);
}
