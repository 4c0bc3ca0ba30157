//! Attestation data and payload attestation data: the vote, over real connections.

use holdfast_beacon::DecisionKind;
use holdfast_beacon::route::{NoQuorum, RoutingConfig};

use crate::scripted::{Answer, Body, Chain, Gate, ScriptedNode};
use crate::stage::{ALIKE, Setting, Stage, message};

const ROUTE: &str = "GET /eth/v1/validator/attestation_data";
const PAYLOAD: &str = "GET /eth/v1/validator/payload_attestation_data";

/// Attestation data at `slot`; `head` and `checkpoints` name forks, 0 the canonical chain.
pub fn data_json(chain: &Chain, slot: u64, head: u8, checkpoints: u8) -> String {
    head_json(chain, slot, slot, head, checkpoints)
}

/// The same with an older head.
fn head_json(chain: &Chain, slot: u64, head_slot: u64, head: u8, checkpoints: u8) -> String {
    let epoch = slot / chain.slots_per_epoch;
    let checkpoint = |epoch: u64| serde_json::json!({ "epoch": epoch.to_string(), "root": chain.block_root(epoch * chain.slots_per_epoch, checkpoints) });
    serde_json::json!({ "data": {
        "slot": slot.to_string(), "index": "0", "beacon_block_root": chain.block_root(head_slot, head),
        "source": checkpoint(epoch.saturating_sub(1)), "target": checkpoint(epoch),
    } })
    .to_string()
}

pub fn payload_json(root: &str, slot: u64, present: bool) -> String {
    serde_json::json!({ "version": "gloas", "data": {
        "beacon_block_root": root, "slot": slot.to_string(), "payload_present": present, "blob_data_available": true,
    } })
    .to_string()
}

fn path(slot: u64, index: u64) -> String {
    format!("/eth/v1/validator/attestation_data?slot={slot}&committee_index={index}")
}

/// Every node answers `slot` canonically.
fn teach_all(stage: &Stage, slot: u64) {
    for node in &stage.nodes {
        node.answer(ROUTE, Answer::json(data_json(node.chain(), slot, 0, 0)));
    }
}

#[tokio::test]
async fn all_nodes_are_asked_once_and_everybody_gets_the_same() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    let gate = Gate::closed();
    for node in &stage.nodes {
        node.answer(ROUTE, Answer::json(data_json(node.chain(), slot, 0, 0)).held_by(&gate));
    }
    let clients: Vec<_> = (0..5).map(|_| stage.background("GET", &path(slot, 0), "")).collect();
    for node in &stage.nodes {
        node.wait_seen(ROUTE, 1).await;
    }
    gate.open();
    for client in clients {
        let answer = client.await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, data_json(stage.nodes[0].chain(), slot, 0, 0)));
    }
    assert_eq!(stage.counts(ROUTE), [1, 1, 1], "simultaneous requests share one vote");
    assert_eq!(stage.get(&path(slot, 0)).await.status, 200);
    assert_eq!(stage.counts(ROUTE), [1, 1, 1], "the value is kept while the head stays");
}

#[tokio::test]
async fn a_node_with_another_target_is_outvoted_even_if_it_is_first() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    let gate = Gate::closed();
    teach_all(&stage, slot);
    for name in ["b", "c"] {
        let node = stage.node(name);
        node.answer(ROUTE, Answer::json(data_json(node.chain(), slot, 0, 0)).held_by(&gate));
    }
    stage.node("a").answer(ROUTE, Answer::json(data_json(stage.node("a").chain(), slot, 0, 9)));
    let client = stage.background("GET", &path(slot, 0), "");
    for node in &stage.nodes {
        node.wait_seen(ROUTE, 1).await;
    }
    assert!(!client.is_finished());
    gate.open();
    assert_eq!(client.await.unwrap().text(), data_json(stage.nodes[0].chain(), slot, 0, 0));
}

#[tokio::test]
async fn without_a_quorum_nothing_is_given_unless_the_operator_says_so() {
    for (no_quorum, status) in [(NoQuorum::Refuse, 503), (NoQuorum::BestNode, 200)] {
        let routing = RoutingConfig { no_quorum, ..RoutingConfig::default() };
        let stage = Setting { routing, ..Setting::of(&ALIKE[..2]) }.stage().await;
        let slot = stage.nodes[0].chain().slot();
        teach_all(&stage, slot);
        stage.node("b").answer(ROUTE, Answer::json(data_json(stage.node("b").chain(), slot, 0, 9)));
        let answer = stage.get(&path(slot, 0)).await;
        assert_eq!(answer.status, status);
        if status == 503 {
            assert!(message(&answer).contains("do not agree"), "{}", answer.text());
        }
        let reasons = stage.decided(DecisionKind::NoQuorum);
        assert!(reasons[0].contains("a: source") && reasons[0].contains("b: source"), "{reasons:?}");
    }
}

/// One after the other they would each hold a vote of a quarter of a slot.
#[tokio::test]
async fn clients_that_waited_for_a_vote_share_its_failure() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_all(&stage, slot);
    stage.node("b").answer(ROUTE, Answer::json(data_json(stage.node("b").chain(), slot, 0, 9)));
    let clients: Vec<_> = (0..5).map(|_| stage.background("GET", &path(slot, 0), "")).collect();
    let all = async {
        for client in clients {
            assert_eq!(client.await.unwrap().status, 503);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(8), all).await.expect("one vote is 3 seconds, five are 15");
    assert_eq!(stage.decided(DecisionKind::NoQuorum).len(), 1);
    // Whoever comes later has a vote of its own.
    teach_all(&stage, slot);
    assert_eq!(stage.get(&path(slot, 0)).await.status, 200);
}

/// The first block of an epoch changes the target, and reaches one node before the others.
#[tokio::test]
async fn nodes_that_disagree_for_a_moment_are_asked_again() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_all(&stage, slot);
    let node = stage.node("b");
    let (before, after) = (data_json(node.chain(), slot, 0, 9), data_json(node.chain(), slot, 0, 0));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    node.script(ROUTE, move |_| {
        let first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        Answer::json(if first { before.clone() } else { after.clone() })
    });
    let answer = stage.get(&path(slot, 0)).await;
    assert_eq!((answer.status, answer.text()), (200, data_json(stage.node("a").chain(), slot, 0, 0)));
    assert_eq!(stage.decided(DecisionKind::NoQuorum), Vec::<String>::new());
}

/// Answers for the block before, with the target of that time, so many times; then for the present one.
fn behind(node: &ScriptedNode, slot: u64, times: usize) {
    let (before, after) = (head_json(node.chain(), slot, slot - 1, 0, 9), data_json(node.chain(), slot, 0, 0));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    node.script(ROUTE, move |_| {
        let count = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Answer::json(if count < times { before.clone() } else { after.clone() })
    });
}

/// The block before is told of by a node that is behind; the present one was when the stage was set up.
async fn know_the_block_before(stage: &Stage, name: &str, slot: u64) {
    let (node, chain) = (stage.node(name), stage.nodes[0].chain());
    node.event("head", &crate::stage::head_event(chain, slot - 1, 0));
    let known = holdfast_beacon::BlockRoot::parse(&chain.block_root(slot - 1, 0)).unwrap();
    crate::stage::eventually("the old head is known", || stage.switcher.events().slot_of(&known).is_some()).await;
}

/// Told of an epoch's first block by the first node that has it, a client asks at once: most nodes still have the target of
/// the block before, and would be a quorum for a vote that earns nothing. One that hangs keeps nobody from being asked again.
#[tokio::test]
async fn a_quorum_that_a_newer_block_overtakes_is_asked_again() {
    for hangs in [false, true] {
        let versions = ["Lodestar/v1.40.0"; 4];
        let stage = Setting::of(if hangs { &versions } else { &ALIKE }).stage().await;
        let slot = stage.nodes[0].chain().slot();
        teach_all(&stage, slot);
        for name in ["b", "c"] {
            behind(stage.node(name), slot, 2);
        }
        if hangs {
            stage.node("d").answer(ROUTE, Answer::never());
        }
        know_the_block_before(&stage, "b", slot).await;
        let answer = stage.get(&path(slot, 0)).await;
        assert_eq!((answer.status, answer.text()), (200, data_json(stage.nodes[0].chain(), slot, 0, 0)), "{hangs}");
    }
}

#[tokio::test]
async fn a_quorum_that_stays_is_given_when_votes_are_made() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_all(&stage, slot);
    for name in ["b", "c"] {
        behind(stage.node(name), slot, usize::MAX);
    }
    know_the_block_before(&stage, "b", slot).await;
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), stage.get(&path(slot, 0))).await;
    let answer = answer.expect("a third of a slot is enough to wait");
    assert_eq!((answer.status, answer.text()), (200, head_json(stage.nodes[0].chain(), slot, slot - 1, 0, 9)));
}

#[tokio::test]
async fn nodes_that_disagree_do_not_wait_for_one_that_hangs_beyond_their_time() {
    let routing = RoutingConfig { no_quorum: NoQuorum::BestNode, ..RoutingConfig::default() };
    let stage = Setting { routing, ..Setting::of(&ALIKE) }.stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_all(&stage, slot);
    stage.node("b").answer(ROUTE, Answer::json(data_json(stage.node("b").chain(), slot, 0, 9)));
    stage.node("c").answer(ROUTE, Answer::never());
    // At most a quarter of a slot, where waiting for as long as a vote counts would be half a slot or more.
    let answered = tokio::time::timeout(std::time::Duration::from_millis(4_500), stage.get(&path(slot, 0))).await;
    assert_eq!(answered.expect("answered when an answer is due").status, 200);
}

#[tokio::test]
async fn hung_broken_and_refusing_nodes_have_no_vote() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_all(&stage, slot);
    let broken = [
        Answer::never(),
        Answer::hang_up(),
        Answer::error(503, "syncing"),
        Answer::error(404, "no"),
        Answer::json("{"),
        Answer::json("<html>").header("content-type", "text/html"),
        Answer::ok().body(Body::Truncated { claimed: 900, sent: b"{\"data\"".to_vec() }),
        Answer::json(data_json(stage.nodes[0].chain(), slot + 1, 0, 0)),
        Answer::ssz(vec![0; 127]),
    ];
    for (index, answer) in (0..).zip(broken) {
        stage.node("a").answer(ROUTE, answer.clone());
        stage.node("b").answer(ROUTE, answer);
        let got = stage.get(&path(slot, index)).await;
        assert_eq!((got.status, got.text()), (200, data_json(stage.nodes[0].chain(), slot, 0, 0)), "case {index}");
        // What failed on purpose here must not take the nodes out of the next case.
        stage.until("a", holdfast_beacon::EndpointClass::AttestationData, holdfast_beacon::Eligibility::Yes).await;
        stage.until("b", holdfast_beacon::EndpointClass::AttestationData, holdfast_beacon::Eligibility::Yes).await;
    }
}

#[tokio::test]
async fn wrong_answers_of_all_nodes_are_not_passed_on() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    for (index, wrong) in
        (0..).zip([Answer::json("{}"), Answer::json(data_json(stage.nodes[0].chain(), slot + 1, 0, 0))])
    {
        for node in &stage.nodes {
            node.answer(ROUTE, wrong.clone());
        }
        let answer = stage.get(&path(slot, index)).await;
        assert_eq!(answer.status, 503);
        assert!(message(&answer).contains("a: "), "{}", answer.text());
    }
}

#[tokio::test]
async fn the_freshest_head_of_the_quorum_is_given() {
    let stage = Setting::of(&ALIKE).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let gate = Gate::closed();
    for name in ["a", "b"] {
        stage.node(name).answer(ROUTE, Answer::json(head_json(&chain, slot, slot - 1, 0, 0)).held_by(&gate));
    }
    stage.node("c").answer(ROUTE, Answer::json(data_json(&chain, slot, 0, 0)).held_by(&gate));
    know_the_block_before(&stage, "a", slot).await;
    let client = stage.background("GET", &path(slot, 0), "");
    for node in &stage.nodes {
        node.wait_seen(ROUTE, 1).await;
    }
    gate.open();
    assert_eq!(client.await.unwrap().text(), data_json(&chain, slot, 0, 0));
}

#[tokio::test]
async fn a_node_without_ssz_is_asked_in_json_and_remembered_and_the_client_gets_ssz() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    let slot = stage.nodes[0].chain().slot();
    let json = data_json(stage.nodes[0].chain(), slot, 0, 0);
    stage.node("a").script(ROUTE, move |seen| {
        if seen.header("accept") == Some("application/json") {
            Answer::json(json.clone())
        } else {
            Answer::error(406, "JSON only")
        }
    });
    for (index, calls) in [(0, 2), (1, 3)] {
        let answer = stage.get_as(&path(slot, index), "application/octet-stream").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
        assert_eq!(answer.body.len(), 128);
        assert_eq!(answer.body[..8], slot.to_le_bytes());
        assert_eq!(stage.counts(ROUTE), [calls], "406 is asked for once only");
    }
}

#[tokio::test]
async fn ssz_passes_byte_for_byte() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_all(&stage, slot);
    let ssz = stage.get_as(&path(slot, 0), "application/octet-stream").await.body;
    for node in &stage.nodes {
        node.answer(ROUTE, Answer::ssz(ssz.clone()));
    }
    let answer = stage.get_as(&path(slot, 1), "application/octet-stream;q=1,application/json;q=0.9").await;
    assert_eq!((answer.status, answer.body), (200, ssz));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_without_asking_anybody() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    for query in ["", "?slot=", "?slot=x", "?slot=1&committee_index=y"] {
        let answer = stage.get(&format!("/eth/v1/validator/attestation_data{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        message(&answer);
    }
    assert_eq!(stage.get_as(&path(1, 0), "text/html").await.status, 406);
    assert_eq!(stage.counts(ROUTE), [0]);
}

#[tokio::test]
async fn payload_attestations_follow_the_majority_and_204_only_if_it_says_so() {
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    let root = stage.nodes[0].chain().block_root(slot, 0);
    let present = || Answer::json(payload_json(&root, slot, true));
    let absent = || Answer::json(payload_json(&root, slot, false));
    let nothing = || Answer::status(204);
    let path = format!("/eth/v1/validator/payload_attestation_data?slot={slot}");
    for (answers, status, holds) in [
        ([present(), present(), absent()], 200, "true"),
        ([absent(), present(), absent()], 200, "\"payload_present\":false"),
        ([nothing(), nothing(), present()], 204, ""),
        ([nothing(), present(), absent()], 503, "do not agree"),
        ([Answer::error(503, "syncing"), present(), Answer::hang_up()], 200, "true"),
    ] {
        for (node, answer) in stage.nodes.iter().zip(answers) {
            node.answer(PAYLOAD, answer);
        }
        let got = stage.get(&path).await;
        assert_eq!(got.status, status, "{}", got.text());
        assert!(got.text().contains(holds), "{}", got.text());
    }
}
