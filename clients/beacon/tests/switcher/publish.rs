//! Publishing: blocks to all, blinded blocks and envelopes to their producer.

use holdfast_beacon::{HealthTier, Role};

use crate::produce::block_json;
use crate::scripted::{Answer, Gate, request};
use crate::stage::{ALIKE, Setting, Stage, eventually, message};

const BLOCKS: &str = "/eth/v2/beacon/blocks";
const BLINDED: &str = "/eth/v2/beacon/blinded_blocks";
const ENVELOPES: &str = "/eth/v1/beacon/execution_payload_envelopes";

/// Has `name` produce the block of the present slot, and gives the signed form of it.
async fn produced_by(stage: &Stage, name: &str, version: u8) -> (u64, String) {
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let route = format!("GET /eth/v{version}/validator/blocks/{slot}");
    for node in &stage.nodes {
        let value = if node.name() == name { 9 } else { 1 };
        node.answer(&route, block_json(&chain, slot, "aa", value));
    }
    let gate = Gate::closed();
    stage.node(name).answer(&route, block_json(&chain, slot, "aa", 9).held_by(&gate));
    let client = stage.background("GET", &format!("/eth/v{version}/validator/blocks/{slot}?include_payload=true"), "");
    for node in &stage.nodes {
        node.wait_seen(&route, 1).await;
    }
    gate.open();
    assert_eq!(client.await.unwrap().header("eth-execution-payload-value"), Some("9"));
    let signed = serde_json::json!({ "message": { "slot": slot.to_string(), "state_root": format!("0x{:064x}", 9) }, "signature": "0x" });
    (slot, signed.to_string())
}

#[tokio::test]
async fn a_block_goes_to_all_and_200_beats_202() {
    let stage = Setting::of(&ALIKE).stage().await;
    let route = format!("POST {BLOCKS}");
    for (answers, status) in [
        ([Answer::status(202), Answer::ok(), Answer::error(503, "?")], 200),
        ([Answer::status(202), Answer::error(400, "invalid"), Answer::error(503, "?")], 202),
        ([Answer::error(400, "invalid"), Answer::error(400, "invalid"), Answer::error(400, "invalid")], 400),
        ([Answer::error(400, "block is already known"), Answer::error(400, "x"), Answer::error(400, "x")], 200),
    ] {
        for (node, answer) in stage.nodes.iter().zip(answers) {
            node.clear_seen();
            node.answer(&route, answer);
        }
        let answer = stage.post(&format!("{BLOCKS}?broadcast_validation=consensus"), r#"{"signed_block":{}}"#).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        for node in &stage.nodes {
            let seen = node.wait_seen(&route, 1).await;
            assert_eq!(
                (seen[0].query.as_str(), seen[0].header("eth-consensus-version")),
                ("broadcast_validation=consensus", Some("fulu"))
            );
        }
    }
}

#[tokio::test]
async fn a_blinded_block_goes_to_its_producer_alone_while_that_answers() {
    let stage = Setting { builders: vec!["a", "b", "c"], ..Setting::of(&ALIKE) }.stage().await;
    let (_, signed) = produced_by(&stage, "b", 3).await;
    let route = format!("POST {BLINDED}");
    for node in &stage.nodes {
        node.answer(&route, Answer::ok());
    }
    assert_eq!(stage.post(BLINDED, &signed).await.status, 200);
    assert_eq!(stage.counts(&route), [0, 1, 0]);
}

#[tokio::test]
async fn a_builderless_node_does_not_fail_a_blinded_block() {
    // anchor#1289, lighthouse#5044: another node answers 500 because it has no builder.
    let stage = Setting { builders: vec!["b", "c"], ..Setting::of(&ALIKE) }.stage().await;
    let (_, signed) = produced_by(&stage, "b", 3).await;
    let route = format!("POST {BLINDED}");
    stage.node("a").answer(&route, Answer::error(500, "NoPayloadBuilder"));
    stage.node("b").answer(&route, Answer::hang_up());
    stage.node("c").answer(&route, Answer::ok());
    assert_eq!(stage.post(BLINDED, &signed).await.status, 200);
    assert_eq!(stage.counts(&route)[0], 0, "a has no builder");
    stage.node("b").answer(&route, Answer::never());
    assert_eq!(stage.post(BLINDED, &signed).await.status, 200, "a hung producer does not hold it up");
    stage.node("b").answer(&route, Answer::error(500, "BuilderMissing"));
    stage.node("c").answer(&route, Answer::error(500, "BuilderMissing"));
    assert_eq!(stage.post(BLINDED, &signed).await.status, 503);
}

#[tokio::test]
async fn an_envelope_without_its_blobs_goes_to_the_producer_only() {
    let stage = Setting::of(&ALIKE).stage().await;
    let (slot, _) = produced_by(&stage, "c", 4).await;
    let route = format!("POST {ENVELOPES}");
    let root = stage.nodes[0].chain().block_root(slot, 0);
    let read = format!("/eth/v1/validator/execution_payload_envelopes/{slot}/{root}");
    for node in &stage.nodes {
        node.answer(&route, Answer::ok());
        node.answer(&format!("GET {read}"), Answer::json(r#"{"version":"gloas","data":{}}"#));
    }
    assert_eq!(stage.get(&read).await.status, 200);
    assert_eq!(stage.counts(&format!("GET {read}")), [0, 0, 1]);
    let headers = |included: &'static str| [("content-type", "application/json"), ("eth-blob-data-included", included)];
    assert_eq!(request(stage.address, "POST", ENVELOPES, &headers("false"), b"{}").await.status, 200);
    assert_eq!(stage.counts(&route), [0, 0, 1]);
    assert_eq!(request(stage.address, "POST", ENVELOPES, &headers("true"), b"{}").await.status, 200);
    for node in &stage.nodes {
        node.wait_seen(&route, 1).await;
    }
}

#[tokio::test]
async fn what_only_its_producer_has_goes_back_to_it_whatever_its_roles_and_health() {
    for (version, path) in [(3, BLINDED), (4, ENVELOPES)] {
        // c would take anything; b makes blocks and takes no submissions.
        let setting = Setting { builders: vec!["c"], only: vec![("b", Role::Proposal)], ..Setting::of(&ALIKE) };
        let mut stage = setting.stage().await;
        let (slot, signed) = produced_by(&stage, "b", version).await;
        let route = format!("POST {path}");
        for node in &stage.nodes {
            node.answer(&route, Answer::ok());
        }
        assert_eq!(stage.post(path, &signed).await.status, 200, "{path}");
        assert_eq!(stage.counts(&route), [0, 1, 0], "{path}");
        stage.pool().drain("b").unwrap();
        assert_eq!(stage.view("b").health.tier, HealthTier::Drained);
        assert_eq!(stage.post(path, &signed).await.status, 200, "{path}, drained");
        assert_eq!(stage.counts(&route), [0, 2, 0], "{path}, drained");
        let read = format!(
            "/eth/v1/validator/execution_payload_envelopes/{slot}/{}",
            stage.nodes[0].chain().block_root(slot, 0)
        );
        stage.node("b").answer(&format!("GET {read}"), Answer::json(r#"{"version":"gloas","data":{}}"#));
        assert_eq!(stage.get(&read).await.status, 200, "{path}, drained");
        stage.pool().undrain("b").unwrap();
        stage.node_mut("b").kill().await;
        eventually("b is down", || stage.view("b").health.tier == HealthTier::Down).await;
        stage.node_mut("b").revive().await;
        // Whether or not the pool knows yet that it is back.
        assert_eq!(stage.post(path, &signed).await.status, 200, "{path}, down");
        assert_eq!(stage.counts(&route), [0, 3, 0], "{path}, down");
    }
}

#[tokio::test]
async fn an_envelope_whose_producer_is_unknown_is_refused() {
    let stage = Setting::of(&ALIKE).stage().await;
    let answer = stage.post(ENVELOPES, "{}").await;
    assert_eq!(answer.status, 503);
    assert!(message(&answer).contains("produced this block"));
    assert_eq!(stage.counts(&format!("POST {ENVELOPES}")), [0, 0, 0]);
}

#[tokio::test]
async fn bids_are_one_builder_nodes_business() {
    let stage = Setting { builders: vec!["b", "c"], ..Setting::of(&ALIKE) }.stage().await;
    let slot = stage.nodes[0].chain().slot();
    let read = format!("/eth/v1/validator/execution_payload_bids/{slot}/3");
    let post = "/eth/v1/beacon/execution_payload_bids";
    for node in &stage.nodes {
        node.answer(&format!("GET {read}"), Answer::json(r#"{"data":{}}"#));
        node.answer(&format!("POST {post}"), Answer::ok());
    }
    for _ in 0..3 {
        assert_eq!(stage.get(&read).await.status, 200);
        assert_eq!(stage.post(post, "{}").await.status, 200);
    }
    assert_eq!(stage.counts(&format!("GET {read}")), [0, 3, 0]);
    assert_eq!(stage.counts(&format!("POST {post}")), [0, 3, 0]);
}
