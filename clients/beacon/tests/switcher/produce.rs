//! Block production: the best valid block.

use std::time::Duration;

use holdfast_beacon::route::{PayloadInclusion, RoutingConfig};
use holdfast_beacon::{DecisionKind, Eligibility, EndpointClass};

use crate::scripted::{Answer, Body, Chain, Gate, Sync};
use crate::stage::{ALIKE, Setting, Stage, message};

/// A block at `slot` on the canonical parent paying `fee` (one byte), worth `value`.
pub fn block_json(chain: &Chain, slot: u64, fee: &str, value: u64) -> Answer {
    on_parent(&chain.block_root(slot, 0), slot, fee, value)
}

fn on_parent(parent: &str, slot: u64, fee: &str, value: u64) -> Answer {
    let body = serde_json::json!({ "version": "fulu", "data": { "block": {
        "slot": slot.to_string(), "proposer_index": "7", "parent_root": parent,
        "state_root": format!("0x{value:064x}"),
        "body": { "execution_payload": { "fee_recipient": format!("0x{}", fee.repeat(20)) } },
    }, "kzg_proofs": [], "blobs": [] } });
    Answer::json(body.to_string())
        .header("eth-consensus-version", "fulu")
        .header("eth-execution-payload-blinded", "false")
        .header("eth-execution-payload-value", &value.to_string())
        .header("eth-consensus-block-value", "1")
}

fn route(slot: u64) -> String {
    format!("GET /eth/v3/validator/blocks/{slot}")
}

fn path(slot: u64) -> String {
    format!("/eth/v3/validator/blocks/{slot}?randao_reveal=0x00")
}

/// All nodes answer when all have been asked.
async fn produced(stage: &Stage, slot: u64, answers: [Answer; 2]) -> crate::scripted::HttpAnswer {
    let gate = Gate::closed();
    for (node, answer) in stage.nodes.iter().zip(answers) {
        node.clear_seen();
        node.answer(&route(slot), answer.held_by(&gate));
    }
    let client = stage.background("GET", &path(slot), "");
    for node in &stage.nodes {
        node.wait_seen(&route(slot), 1).await;
    }
    gate.open();
    client.await.unwrap()
}

#[tokio::test]
async fn the_most_valuable_block_wins_with_its_headers() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let answer = produced(&stage, slot, [block_json(&chain, slot, "aa", 5), block_json(&chain, slot, "aa", 900)]).await;
    assert_eq!(answer.header("eth-execution-payload-value"), Some("900"));
    assert_eq!(
        (answer.header("eth-consensus-version"), answer.header("eth-consensus-block-value")),
        (Some("fulu"), Some("1"))
    );
    assert!(stage.decided(DecisionKind::BlockChosen)[0].contains("901 Wei"));
    assert!(stage.decided(DecisionKind::BlockChosen)[0].ends_with("(others: a 6)"));
    assert_eq!(stage.seen("a", &route(slot))[0].query, "randao_reveal=0x00");
}

#[tokio::test]
async fn a_block_that_is_wrong_is_not_passed_on_whatever_it_pays() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    stage.node("a").answer("POST /eth/v1/validator/prepare_beacon_proposer", Answer::ok());
    let told = stage.post("/eth/v1/validator/prepare_beacon_proposer", &crate::prepare::preparation(7, "aa")).await;
    assert_eq!(told.status, 200);
    let whole = block_json(&chain, slot, "aa", 900);
    let Body::Bytes(bytes) = whole.body.clone() else { panic!("a whole body") };
    for (what, wrong) in [
        ("zero", block_json(&chain, slot, "00", 900)),
        ("not the one that was prepared", block_json(&chain, slot, "bb", 900)),
        ("slot", block_json(&chain, slot + 1, "aa", 900)),
        ("builds on", on_parent(&chain.block_root(slot, 9), slot, "aa", 900)),
        ("not a block", whole.clone().body(Body::Bytes(b"{\"data\":{}}".to_vec()))),
        ("unknown fork", Answer::ssz(vec![1; 100]).header("eth-consensus-version", "zzz")),
        ("not a block", Answer::ssz(vec![0; 100]).header("eth-consensus-version", "fulu")),
    ] {
        let answer = produced(&stage, slot, [wrong, block_json(&chain, slot, "aa", 5)]).await;
        assert_eq!(answer.header("eth-execution-payload-value"), Some("5"), "{what}: {}", answer.text());
        let reasons = stage.decided(DecisionKind::BlockDiscarded);
        assert!(reasons.last().unwrap().contains(what), "{what}: {reasons:?}");
    }
    // Broken on the way.
    let cut = whole.body(Body::Truncated { claimed: bytes.len(), sent: bytes[..bytes.len() / 2].to_vec() });
    let answer = produced(&stage, slot, [cut, block_json(&chain, slot, "aa", 5)]).await;
    assert_eq!(answer.header("eth-execution-payload-value"), Some("5"));
    // All wrong: an error, not a block.
    let zero = || block_json(&chain, slot, "00", 900);
    let answer = produced(&stage, slot, [zero(), zero()]).await;
    assert_eq!(answer.status, 503);
    assert!(message(&answer).contains("zero address"), "{}", answer.text());
}

#[tokio::test]
async fn nodes_that_cannot_build_a_good_block_are_not_asked() {
    for sync in [Sync { is_optimistic: true, ..Sync::default() }, Sync { el_offline: true, ..Sync::default() }] {
        let stage = Setting::of(&ALIKE[..2]).stage().await;
        let chain = stage.nodes[0].chain().clone();
        stage.node("a").set_sync(sync);
        crate::stage::eventually("a is known to be unfit", || {
            stage.eligibility("a", EndpointClass::Produce) != Eligibility::Yes
        })
        .await;
        let slot = chain.slot();
        for node in &stage.nodes {
            node.answer(&route(slot), block_json(&chain, slot, "aa", 5));
        }
        assert_eq!(stage.get(&path(slot)).await.status, 200);
        assert_eq!(stage.counts(&route(slot)), [0, 1]);
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_costs_no_block() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    stage.node("a").answer(&route(slot), Answer::never());
    stage.node("b").answer(&route(slot), block_json(&chain, slot, "aa", 5));
    assert_eq!(stage.get(&path(slot)).await.header("eth-execution-payload-value"), Some("5"));
    stage.node("b").answer(&route(slot), Answer::error(500, "no payload"));
    let answer = stage.get(&path(slot)).await;
    assert_eq!(answer.status, 503);
    message(&answer);
}

/// Relays answer after about a second, when a twelfth of the slot has passed and every node's own block is there.
#[tokio::test]
async fn a_node_that_may_bring_a_builders_block_gets_a_sixth_of_the_slot() {
    for (builders, value) in [(vec!["b"], "900"), (vec![], "5")] {
        // Slots of 24 seconds: a twelfth is 2, a sixth 4.
        let chain = Chain { seconds_per_slot: 24, ..Chain::aged(1000) };
        let stage = Setting { chain, builders, ..Setting::of(&ALIKE[..2]) }.stage().await;
        let chain = stage.nodes[0].chain().clone();
        let slot = chain.slot();
        stage.node("a").answer(&route(slot), block_json(&chain, slot, "aa", 5));
        let late = block_json(&chain, slot, "aa", 900).after(Duration::from_millis(2_800));
        stage.node("b").answer(&route(slot), late);
        let answer = stage.get(&path(slot)).await;
        assert_eq!(answer.header("eth-execution-payload-value"), Some(value));
    }
}

#[tokio::test]
async fn a_builder_that_hangs_does_not_cost_the_block() {
    let stage = Setting { builders: vec!["b"], ..Setting::of(&ALIKE[..2]) }.stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    stage.node("a").answer(&route(slot), block_json(&chain, slot, "aa", 5));
    stage.node("b").answer(&route(slot), Answer::never());
    // A sixth of the slot, where nobody waits any longer after half of it.
    let answer = tokio::time::timeout(Duration::from_secs(5), stage.get(&path(slot))).await;
    let answer = answer.expect("a sixth of the slot is enough to wait");
    assert_eq!(answer.header("eth-execution-payload-value"), Some("5"));
}

#[tokio::test]
async fn ssz_blocks_pass_byte_for_byte() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let mut block = slot.to_le_bytes().to_vec();
    block.extend(7u64.to_le_bytes());
    block.extend((0..32).map(|n| u8::from_str_radix(&chain.block_root(slot, 0)[2 + 2 * n..4 + 2 * n], 16).unwrap()));
    block.extend([6; 32]);
    block.extend(84u32.to_le_bytes());
    block.resize(84 + 380, 0);
    block.extend(420u32.to_le_bytes());
    block.resize(84 + 420 + 32, 0);
    block.extend([0xaa; 20]);
    block.resize(block.len() + 5000, 0x33);
    let mut contents = 12u32.to_le_bytes().to_vec();
    contents.extend([0; 8]);
    contents.extend(block);
    let answer = Answer::ssz(contents.clone())
        .header("eth-consensus-version", "fulu")
        .header("eth-execution-payload-blinded", "false")
        .header("eth-execution-payload-value", "1");
    stage.node("a").answer(&route(slot), answer);
    let got = stage.get_as(&path(slot), "application/octet-stream").await;
    assert_eq!((got.status, got.body), (200, contents));
}

#[tokio::test]
async fn gloas_blocks_are_asked_for_with_their_payload_when_several_nodes_could_publish() {
    for (nodes, payload, query) in [
        (2, PayloadInclusion::WhenSeveralNodes, "randao_reveal=0x00&include_payload=true"),
        (1, PayloadInclusion::WhenSeveralNodes, "include_payload=false&randao_reveal=0x00"),
        (2, PayloadInclusion::AsAsked, "include_payload=false&randao_reveal=0x00"),
    ] {
        let routing = RoutingConfig { payload, ..RoutingConfig::default() };
        let chain = Chain { gloas_epoch: Some(0), ..Chain::aged(1000) };
        let stage = Setting { routing, chain, ..Setting::of(&ALIKE[..nodes]) }.stage().await;
        let chain = stage.nodes[0].chain().clone();
        let slot = chain.slot();
        let route = format!("GET /eth/v4/validator/blocks/{slot}");
        for node in &stage.nodes {
            let answer = block_json(&chain, slot, "aa", 5).header("eth-consensus-version", "gloas");
            node.answer(&route, answer.header("eth-execution-payload-included", "true"));
        }
        let answer =
            stage.get(&format!("/eth/v4/validator/blocks/{slot}?include_payload=false&randao_reveal=0x00")).await;
        assert_eq!((answer.status, answer.header("eth-execution-payload-included")), (200, Some("true")));
        assert_eq!(stage.seen("a", &route)[0].query, query);
    }
}
