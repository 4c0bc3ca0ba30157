//! Subscriptions and preparations: to all, remembered, told again.

use std::time::Duration;

use holdfast_beacon::{DecisionKind, Eligibility, EndpointClass, Role};

use crate::scripted::{Answer, Chain};
use crate::stage::{ALIKE, Setting, Stage, eventually};

const SUBSCRIBE: &str = "/eth/v1/validator/beacon_committee_subscriptions";
const PREPARE: &str = "/eth/v1/validator/prepare_beacon_proposer";
const REGISTER: &str = "/eth/v1/validator/register_validator";

fn subscription(validator: u64) -> String {
    format!(
        r#"[{{"validator_index":"{validator}","committee_index":"2","committees_at_slot":"4","slot":"999999","is_aggregator":true}}]"#
    )
}

pub fn preparation(validator: u64, byte: &str) -> String {
    format!(r#"[{{"validator_index":"{validator}","fee_recipient":"0x{}"}}]"#, byte.repeat(20))
}

fn teach(stage: &Stage) {
    for node in &stage.nodes {
        for path in [SUBSCRIBE, PREPARE, REGISTER] {
            node.answer(&format!("POST {path}"), Answer::ok());
        }
    }
}

#[tokio::test]
async fn a_node_that_returns_is_told_everything_before_it_is_trusted() {
    let mut stage = Setting::of(&ALIKE[..2]).stage().await;
    teach(&stage);
    assert_eq!(stage.post(PREPARE, &preparation(1, "aa")).await.status, 200);
    assert_eq!(stage.post(SUBSCRIBE, &subscription(1)).await.status, 200);
    stage.node("b").wait_seen(&format!("POST {SUBSCRIBE}"), 1).await;
    stage.node_mut("b").kill().await;
    stage.until("b", EndpointClass::Duty, Eligibility::LastResort).await;
    assert_eq!(stage.post(SUBSCRIBE, &subscription(2)).await.status, 200);
    stage.node("b").clear_seen();
    stage.node_mut("b").revive().await;
    let subscriptions = stage.node("b").wait_seen(&format!("POST {SUBSCRIBE}"), 1).await;
    let mut validators: Vec<String> = subscriptions[0]
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["validator_index"].as_str().unwrap().to_owned())
        .collect();
    validators.sort();
    assert_eq!(validators, ["1", "2"], "what was told while it was away, too");
    let fees = stage.node("b").wait_seen(&format!("POST {PREPARE}"), 1).await;
    assert!(fees[0].text().contains(&"aa".repeat(20)));
    assert!(fees[0].at <= subscriptions[0].at, "what a block needs comes first");
    eventually("it is reported", || !stage.decided(DecisionKind::Replayed).is_empty()).await;
}

#[tokio::test]
async fn a_node_that_only_makes_blocks_is_told_whom_they_pay() {
    let only = vec![("a", Role::Submit), ("b", Role::Proposal), ("c", Role::Attestation)];
    let stage = Setting { only, ..Setting::of(&ALIKE) }.stage().await;
    teach(&stage);
    assert_eq!(stage.post(PREPARE, &preparation(1, "aa")).await.status, 200);
    for name in ["a", "b"] {
        let seen = stage.node(name).wait_seen(&format!("POST {PREPARE}"), 1).await;
        assert!(seen[0].text().contains(&"aa".repeat(20)), "{name}");
    }
    assert_eq!(stage.counts(&format!("POST {PREPARE}")), [1, 1, 0]);
}

#[tokio::test]
async fn a_replay_that_fails_is_tried_again() {
    let mut stage = Setting::of(&ALIKE[..2]).stage().await;
    teach(&stage);
    assert_eq!(stage.post(PREPARE, &preparation(1, "aa")).await.status, 200);
    stage.node_mut("b").kill().await;
    stage.until("b", EndpointClass::Duty, Eligibility::LastResort).await;
    let route = format!("POST {PREPARE}");
    stage.node("b").clear_seen();
    stage.node("b").answer(&route, Answer::error(503, "starting"));
    stage.node_mut("b").revive().await;
    stage.node("b").wait_seen(&route, 2).await;
    assert!(stage.decided(DecisionKind::Replayed).is_empty());
    stage.node("b").answer(&route, Answer::ok());
    eventually("the replay succeeds", || !stage.decided(DecisionKind::Replayed).is_empty()).await;
}

/// Two nodes of a chain with slots of a second; the second has been away and does not take `route` now.
async fn back_and_refusing(route: &str) -> Stage {
    let chain = Chain { seconds_per_slot: 1, ..Chain::aged(6000) };
    let mut stage = Setting { chain, ..Setting::of(&ALIKE[..2]) }.stage().await;
    teach(&stage);
    assert_eq!(stage.post(PREPARE, &preparation(1, "aa")).await.status, 200);
    assert_eq!(stage.post(SUBSCRIBE, &subscription(1)).await.status, 200);
    stage.node("b").wait_seen(&format!("POST {SUBSCRIBE}"), 1).await;
    stage.node_mut("b").kill().await;
    stage.until("b", EndpointClass::Duty, Eligibility::LastResort).await;
    stage.node("b").clear_seen();
    stage.node("b").answer(route, Answer::error(503, "syncing"));
    stage.node_mut("b").revive().await;
    stage
}

#[tokio::test]
async fn a_replay_is_tried_for_as_long_as_the_node_refuses() {
    let route = format!("POST {SUBSCRIBE}");
    let stage = back_and_refusing(&route).await;
    // More often than twice as many times as there are pauses that grow: it is back, and over another connection.
    stage.node("b").wait_seen(&route, 13).await;
    assert!(stage.decided(DecisionKind::Replayed).is_empty());
    stage.node("b").answer(&route, Answer::ok());
    // What a node that has been told everything is trusted with is in health/hysteresis/tests.rs.
    eventually("the replay succeeds", || !stage.decided(DecisionKind::Replayed).is_empty()).await;
}

#[tokio::test]
async fn a_kind_that_is_refused_holds_up_no_other() {
    let route = format!("POST {PREPARE}");
    let stage = back_and_refusing(&route).await;
    stage.node("b").wait_seen(&format!("POST {SUBSCRIBE}"), 1).await;
    assert!(stage.decided(DecisionKind::Replayed).is_empty(), "not everything was taken");
    stage.node("b").answer(&route, Answer::ok());
    eventually("the replay succeeds", || !stage.decided(DecisionKind::Replayed).is_empty()).await;
}

#[tokio::test]
async fn a_node_that_is_removed_is_told_nothing_more() {
    let route = format!("POST {SUBSCRIBE}");
    let stage = back_and_refusing(&route).await;
    stage.node("b").wait_seen(&route, 2).await;
    stage.pool().remove("b").unwrap();
    stage.node("b").clear_seen();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.seen("b", &route).len(), 0);
}

#[tokio::test]
async fn registrations_go_to_one_builder_node_and_move_when_it_dies() {
    let mut stage = Setting { builders: vec!["b", "c"], ..Setting::of(&ALIKE) }.stage().await;
    teach(&stage);
    let route = format!("POST {REGISTER}");
    let body =
        r#"[{"message":{"fee_recipient":"0x00","gas_limit":"1","timestamp":"1","pubkey":"0xaa"},"signature":"0x"}]"#;
    assert_eq!(stage.post(REGISTER, body).await.status, 200);
    let counts = stage.counts(&route);
    assert_eq!((counts[0], counts[1] + counts[2]), (0, 1), "{counts:?}");
    let (holder, other) = if counts[1] == 1 { ("b", "c") } else { ("c", "b") };
    assert_eq!(stage.post(REGISTER, body).await.status, 200);
    assert_eq!(stage.seen(holder, &route).len(), 2, "who has them keeps them");
    stage.node_mut(holder).kill().await;
    let moved = stage.node(other).wait_seen(&route, 1).await;
    assert!(moved[0].text().contains("0xaa"));
}

#[tokio::test]
async fn without_a_builder_node_registrations_say_what_is_missing() {
    let stage = Setting::of(&ALIKE).stage().await;
    let answer = stage.post(REGISTER, "[]").await;
    assert_eq!(answer.status, 503);
    assert!(crate::stage::message(&answer).contains("role `builder`"));
}

#[tokio::test]
async fn fee_recipients_are_told_again_right_before_an_own_proposal() {
    let chain = Chain { seconds_per_slot: 2, ..Chain::aged(6000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE[..2]) }.stage().await;
    teach(&stage);
    assert_eq!(stage.post(PREPARE, &preparation(7, "aa")).await.status, 200);
    for node in &stage.nodes {
        node.wait_seen(&format!("POST {PREPARE}"), 1).await;
    }
    let chain = stage.nodes[0].chain().clone();
    let (epoch, slot) = (chain.epoch(), chain.slot());
    let path = format!("/eth/v2/validator/duties/proposer/{epoch}");
    let duty =
        |slot: u64, validator: u64| format!(r#"{{"pubkey":"0x","validator_index":"{validator}","slot":"{slot}"}}"#);
    let body = format!(
        r#"{{"dependent_root":"{}","data":[{},{}]}}"#,
        chain.block_root(1, 0),
        duty(slot + 3, 7),
        duty(slot + 1, 8)
    );
    for node in &stage.nodes {
        node.answer(&format!("GET {path}"), Answer::json(body.clone()));
    }
    assert_eq!(stage.get(&path).await.status, 200);
    for node in &stage.nodes {
        let seen = node.wait_seen(&format!("POST {PREPARE}"), 2).await;
        assert!(seen[1].text().contains(&"aa".repeat(20)));
    }
}
