//! Incidents of the past, replayed: what happened to a validator then, and what happens now.

use holdfast_beacon::{DecisionKind, Eligibility, EndpointClass};

use crate::attestation::data_json;
use crate::produce::block_json;
use crate::scripted::{Answer, Sync, event_stream};
use crate::stage::{ALIKE, Setting, Stage, eventually};

const DATA: &str = "GET /eth/v1/validator/attestation_data";

fn teach_data(stage: &Stage, slot: u64, wrong: &[&str]) {
    for node in &stage.nodes {
        let fork = if wrong.contains(&node.name()) { 9 } else { 0 };
        node.answer(DATA, Answer::json(data_json(node.chain(), slot, fork, fork)));
    }
}

fn data_path(slot: u64) -> String {
    format!("/eth/v1/validator/attestation_data?slot={slot}&committee_index=0")
}

#[tokio::test]
async fn holesky_2025_three_nodes_of_one_faulty_client_do_not_make_a_majority() {
    let versions = ["Lighthouse/v7", "Lighthouse/v7", "Lighthouse/v7", "teku/v25", "Nimbus/v25"];
    let stage = Setting::of(&versions).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_data(&stage, slot, &["a", "b", "c"]);
    let answer = stage.get(&data_path(slot)).await;
    assert_eq!((answer.status, answer.text()), (200, data_json(stage.nodes[0].chain(), slot, 0, 0)));
}

#[tokio::test]
async fn holesky_2025_when_implementations_disagree_evenly_nobody_attests() {
    let stage = Setting::of(&["Lighthouse/v7", "teku/v25"]).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_data(&stage, slot, &["a"]);
    assert_eq!(stage.get(&data_path(slot)).await.status, 503);
}

#[tokio::test]
async fn lido_2026_an_optimistic_node_is_left_at_once() {
    // An execution client's database was corrupt; the consensus client followed optimistically for hours.
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    stage.node("a").set_sync(Sync { is_optimistic: true, ..Sync::default() });
    stage.until("a", EndpointClass::AttestationData, Eligibility::No).await;
    let slot = chain.slot();
    teach_data(&stage, slot, &["a"]);
    assert_eq!(stage.get(&data_path(slot)).await.text(), data_json(&chain, slot, 0, 0));
    let route = format!("GET /eth/v3/validator/blocks/{slot}");
    for node in &stage.nodes {
        node.answer(&route, block_json(&chain, slot, "aa", 1));
    }
    assert_eq!(stage.get(&format!("/eth/v3/validator/blocks/{slot}?randao_reveal=0x00")).await.status, 200);
    assert_eq!(stage.counts(DATA), [0, 1]);
    assert_eq!(stage.counts(&route), [0, 1]);
}

#[tokio::test]
async fn fusaka_2025_nodes_that_fall_behind_are_left_without_anybodys_hand() {
    // Nimbus nodes behind a faulty execution client fell behind for 52 minutes until spares were put in by hand.
    let stage = Setting::of(&["Nimbus/v25", "Nimbus/v25", "Lighthouse/v8"]).stage().await;
    for name in ["a", "b"] {
        stage.node(name).set_sync(Sync { behind: 20, is_syncing: true, el_offline: true, ..Sync::default() });
        eventually("it is left", || stage.eligibility(name, EndpointClass::AttestationData) != Eligibility::Yes).await;
    }
    let slot = stage.nodes[0].chain().slot();
    teach_data(&stage, slot, &["a", "b"]);
    assert_eq!(stage.get(&data_path(slot)).await.text(), data_json(stage.nodes[0].chain(), slot, 0, 0));
    assert!(!stage.decided(DecisionKind::Demoted).is_empty());
}

#[tokio::test]
async fn medalla_style_hang_costs_no_attestation() {
    // lighthouse#2926, charon#2037: the node accepts connections and says nothing.
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_data(&stage, slot, &[]);
    stage.node("a").hang();
    stage.node("b").hang();
    assert_eq!(stage.get(&data_path(slot)).await.status, 200);
    let submit = "POST /eth/v2/beacon/pool/attestations";
    for node in &stage.nodes {
        node.answer(submit, Answer::ok());
    }
    assert_eq!(stage.post("/eth/v2/beacon/pool/attestations", "[]").await.status, 200);
}

#[tokio::test]
async fn two_of_three_nodes_killed_under_way_cost_nothing() {
    let mut stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_data(&stage, slot, &[]);
    let submit = "POST /eth/v2/beacon/pool/attestations";
    let duties = format!("/eth/v1/validator/duties/attester/{}", stage.nodes[0].chain().epoch());
    for node in &stage.nodes {
        node.answer(submit, Answer::ok());
        node.answer(&format!("POST {duties}"), Answer::json(r#"{"data":[]}"#));
    }
    // No pause for the pool to notice: the very next requests have to succeed.
    for name in ["a", "b"] {
        stage.node_mut(name).kill().await;
        assert_eq!(stage.get(&data_path(slot)).await.status, 200);
        assert_eq!(stage.post("/eth/v2/beacon/pool/attestations", "[]").await.status, 200);
        assert_eq!(stage.post(&duties, r#"["1"]"#).await.status, 200);
        assert_eq!(stage.get("/eth/v1/beacon/headers/head").await.status, 200);
        assert_eq!(stage.get("/eth/v1/node/health").await.status, 200);
    }
}

#[tokio::test]
async fn solstice_2025_a_client_that_signs_wrongly_is_told_apart_from_nodes() {
    let stage = Setting::of(&ALIKE).stage().await;
    for node in &stage.nodes {
        node.answer("POST /eth/v2/beacon/pool/attestations", Answer::failures(&[(0, "invalid signature")]));
    }
    assert_eq!(stage.post("/eth/v2/beacon/pool/attestations", "[{}]").await.status, 400);
    let reason = stage.decided(DecisionKind::CommonRefusal)[0].clone();
    assert!(reason.contains("not a node"), "{reason}");
    for name in ["a", "b", "c"] {
        assert_eq!(stage.eligibility(name, EndpointClass::Duty), Eligibility::Yes, "nobody is punished for it");
    }
}

#[tokio::test]
async fn vouch_430_a_restarted_node_does_not_burn_the_fees() {
    // The node restarted right before a proposal and had forgotten the fee recipient: the block paid nobody.
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    for node in &stage.nodes {
        node.answer("POST /eth/v1/validator/prepare_beacon_proposer", Answer::ok());
    }
    stage.post("/eth/v1/validator/prepare_beacon_proposer", &crate::prepare::preparation(7, "aa")).await;
    let route = format!("GET /eth/v3/validator/blocks/{slot}");
    stage.node("a").answer(&route, block_json(&chain, slot, "00", 1_000_000));
    stage.node("b").answer(&route, block_json(&chain, slot, "aa", 1));
    let answer = stage.get(&format!("/eth/v3/validator/blocks/{slot}?randao_reveal=0x00")).await;
    assert!(answer.text().contains(&"aa".repeat(20)), "{}", answer.text());
}

#[tokio::test]
async fn nethermind_2024_a_node_on_another_branch_tells_no_heads() {
    let stage = Setting::of(&ALIKE).stage().await;
    for node in &stage.nodes {
        node.wait_streams(1).await;
    }
    let chain = stage.nodes[0].chain().clone();
    stage.node("c").set_sync(Sync { fork: 6, behind: 3, ..Sync::default() });
    let mut client = event_stream(stage.address, "head").await;
    let slot = chain.slot();
    for _ in 0..3 {
        let head = stage.get("/eth/v1/beacon/headers/head").await.json();
        assert_ne!(head["data"]["root"], chain.block_root(slot - 3, 6));
    }
    // The present head was told when the stage was set up.
    let event = crate::stage::head_event(&chain, slot + 1, 0);
    stage.node("a").event("head", &event);
    assert_eq!(client.next().await.unwrap().1, event);
}

#[tokio::test]
async fn prysm_2025_a_node_that_calls_itself_healthy_and_is_late_loses_its_duties() {
    // Regenerating states, nodes were in sync by their own word and too late for their duties, for 42 epochs.
    let stage = Setting::of(&ALIKE).stage().await;
    let slot = stage.nodes[0].chain().slot();
    teach_data(&stage, slot, &[]);
    let duty_first = || stage.pool().view().ranked(EndpointClass::Duty)[0].upstream.name().to_string();
    let late = duty_first();
    stage.node(&late).answer(DATA, Answer::never());
    for index in 0..6 {
        // Each is a vote of its own; the others decide it, and nobody waits for the late one.
        let path = format!("/eth/v1/validator/attestation_data?slot={slot}&committee_index={index}");
        assert_eq!(stage.get(&path).await.status, 200);
    }
    eventually("it is known to be late", || {
        stage.view(&late).observation.performance == holdfast_beacon::health::PerformanceTier::Late
    })
    .await;
    eventually("another node has its duties", || duty_first() != late).await;
    let told = stage.decided(DecisionKind::Demoted);
    assert!(told.iter().any(|reason| reason.contains("late")), "{told:?}");
}

#[tokio::test]
async fn lighthouse_3002_a_node_without_peers_is_nobodys_first_choice() {
    // After a restart it knew nobody: what it was given to publish went nowhere.
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let first = |class| stage.pool().view().ranked(class)[0].upstream.name().to_string();
    let lonely = first(EndpointClass::Duty);
    stage.node(&lonely).set_peers(0);
    eventually("the other one is asked first", || {
        [EndpointClass::Duty, EndpointClass::AttestationData, EndpointClass::Produce]
            .into_iter()
            .all(|class| first(class) != lonely)
    })
    .await;
    let submit = "POST /eth/v2/beacon/pool/attestations";
    for node in &stage.nodes {
        node.answer(submit, Answer::ok());
    }
    assert_eq!(stage.post("/eth/v2/beacon/pool/attestations", "[]").await.status, 200);
    for node in &stage.nodes {
        node.wait_seen(submit, 1).await;
    }
}
