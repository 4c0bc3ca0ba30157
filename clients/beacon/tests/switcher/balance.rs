//! Who is asked how often, through real sockets, and that duties stay put while nodes come and go.
//!
//! Counts come from what the nodes saw. Their bounds leave room for a request that is hedged because the machine was
//! busy; no time is asserted.

use std::time::Duration;

use holdfast_beacon::{DecisionKind, Eligibility, EndpointClass, HealthTier, HysteresisPolicy, NodeView, Policy, Role};

use crate::attestation::data_json;
use crate::scripted::Answer;
use crate::stage::{ALIKE, Setting, Stage, eventually};

const FORK: &str = "GET /eth/v1/beacon/states/head/fork";
const FORK_PATH: &str = "/eth/v1/beacon/states/head/fork";

/// Asks so many times and returns what each node saw.
async fn shares(stage: &Stage, requests: usize) -> Vec<usize> {
    for node in &stage.nodes {
        node.clear_seen();
    }
    for _ in 0..requests {
        assert_eq!(stage.get(FORK_PATH).await.status, 200);
    }
    stage.counts(FORK)
}

async fn balanced(balance: Policy, weights: &[u16]) -> Stage {
    let stage = Setting { balance, weights: weights.to_vec(), ..Setting::of(&ALIKE[..2]) }.stage().await;
    for node in &stage.nodes {
        node.answer(FORK, Answer::json(format!(r#"{{"data":"{}"}}"#, node.name())));
    }
    for name in ["a", "b"] {
        eventually("both are good", || stage.view(name).health.tier == HealthTier::Good).await;
    }
    stage
}

#[tokio::test]
async fn weights_of_three_to_one_give_75_and_25_percent() {
    let stage = balanced(Policy::Weighted, &[3, 1]).await;
    let seen = shares(&stage, 400).await;
    // 75 % and 25 %, give or take 3 % of all requests.
    assert!(seen[0].abs_diff(300) <= 12 && seen[1].abs_diff(100) <= 12, "{seen:?}");
}

#[tokio::test]
async fn turns_are_taken_evenly() {
    let stage = balanced(Policy::RoundRobin, &[3, 1]).await;
    let seen = shares(&stage, 200).await;
    assert!(seen[0].abs_diff(100) <= 6 && seen[1].abs_diff(100) <= 6, "{seen:?}");
}

#[tokio::test]
async fn a_node_slowed_by_300_ms_falls_under_15_percent_of_dynamic_turns() {
    let stage = balanced(Policy::Dynamic, &[]).await;
    stage.node("b").answer(FORK, Answer::json(r#"{"data":"b"}"#).after(Duration::from_millis(300)));
    let seen = shares(&stage, 300).await;
    assert!(seen[1] * 100 < 15 * 300, "{seen:?}");
    assert!(seen[0] >= 255, "{seen:?}");
}

#[tokio::test]
async fn a_node_that_only_ever_loses_races_is_known_to_be_slow() {
    // Its answers never come: each read is given up as soon as the other node has answered.
    let stage = balanced(Policy::Dynamic, &[]).await;
    stage.node("b").answer(FORK, Answer::never());
    let seen = shares(&stage, 200).await;
    assert!(seen[1] * 100 < 15 * 200, "{seen:?}");
    assert_eq!(stage.eligibility("b", EndpointClass::Duty), Eligibility::Yes, "a lost race is no fault");
}

#[tokio::test]
async fn a_node_that_answers_in_3_s_is_out_within_two_probes() {
    let stage = balanced(Policy::BestFirst, &[]).await;
    let path = format!("/eth/v1/validator/duties/attester/{}", stage.nodes[0].chain().epoch());
    let duties = format!("POST {path}");
    let slow = Duration::from_secs(3);
    for node in &stage.nodes {
        node.answer(&duties, Answer::json(format!(r#"{{"data":[],"of":"{}"}}"#, node.name())));
    }
    let a = stage.node("a");
    a.answer("GET /eth/v1/node/syncing", Answer::error(503, "late").after(slow));
    a.answer(&duties, Answer::json(r#"{"data":[],"of":"a"}"#).after(slow));
    a.answer(FORK, Answer::json(r#"{"data":"a"}"#).after(slow));
    a.clear_seen();
    let out = |node: &NodeView| node.health.tier <= HealthTier::LastResort;
    eventually("a is out", || out(&stage.view("a"))).await;
    // The second has run out of time when a third may just have been sent.
    let probes = a.seen("GET /eth/v1/node/syncing").len();
    assert!((2..=3).contains(&probes), "{probes} probes");
    a.clear_seen();
    for _ in 0..10 {
        assert_eq!(stage.post(&path, r#"["1"]"#).await.json()["of"], "b");
        assert_eq!(stage.get(FORK_PATH).await.json()["data"], "b");
    }
    assert_eq!((a.seen(&duties).len(), a.seen(FORK).len()), (0, 0), "nobody waits for it any more");
}

#[tokio::test]
async fn a_flapping_node_does_not_make_duties_flap() {
    let mut stage = Setting { hysteresis: HysteresisPolicy::default(), ..Setting::of(&ALIKE[..2]) }.stage().await;
    let path = format!("/eth/v1/validator/duties/attester/{}", stage.nodes[0].chain().epoch());
    let route = format!("POST {path}");
    for node in &stage.nodes {
        node.answer(&route, Answer::json(format!(r#"{{"data":[],"of":"{}"}}"#, node.name())));
        node.answer(FORK, Answer::json(format!(r#"{{"data":"{}"}}"#, node.name())));
    }
    let first = stage.get(FORK_PATH).await.json()["data"].as_str().unwrap().to_owned();
    let other = if first == "a" { "b" } else { "a" };
    for round in 0..5 {
        stage.node_mut(&first).kill().await;
        eventually("it is down", || stage.view(&first).health.tier <= HealthTier::Down).await;
        assert_eq!(stage.post(&path, r#"["1"]"#).await.json()["of"], other, "round {round}");
        stage.node_mut(&first).revive().await;
        eventually("it is back", || stage.view(&first).health.tier > HealthTier::Down).await;
        assert_eq!(stage.post(&path, r#"["1"]"#).await.json()["of"], other, "round {round}, back");
        assert_eq!(stage.get(FORK_PATH).await.json()["data"], other, "round {round}, back");
    }
    let moves = stage.decided(DecisionKind::Switched);
    let moves = moves.iter().filter(|reason| reason.contains(" duty")).count();
    assert_eq!(moves, 1, "duties moved once in five flaps");
}

#[tokio::test]
async fn nodes_are_used_for_what_their_roles_say() {
    let only = vec![("a", Role::Submit), ("b", Role::Attestation), ("c", Role::Sync), ("d", Role::Proposal)];
    let versions = [ALIKE[0]; 5];
    let stage = Setting { only, ..Setting::of(&versions) }.stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let root = chain.block_root(slot, 0);
    let block = format!("/eth/v3/validator/blocks/{slot}");
    let data = "/eth/v1/validator/attestation_data";
    let aggregate = "/eth/v2/validator/aggregate_attestation";
    let contribution = "/eth/v1/validator/sync_committee_contribution";
    let submit = "/eth/v2/beacon/pool/attestations";
    for node in &stage.nodes {
        node.answer(&format!("GET {data}"), Answer::json(data_json(&chain, slot, 0, 0)));
        node.answer(&format!("GET {aggregate}"), Answer::json(crate::submit::aggregate_json(&chain, slot, "0x0b")));
        let some = crate::submit::contribution_json(slot, &root, "0x01");
        node.answer(&format!("GET {contribution}"), Answer::json(some));
        node.answer(&format!("GET {block}"), crate::produce::block_json(&chain, slot, "aa", 5));
        node.answer(&format!("POST {submit}"), Answer::ok());
    }
    for path in [
        format!("{data}?slot={slot}&committee_index=0"),
        format!("{aggregate}?slot={slot}&attestation_data_root={root}&committee_index=0"),
        format!("{contribution}?slot={slot}&subcommittee_index=2&beacon_block_root={root}"),
        format!("{block}?randao_reveal=0x00"),
    ] {
        assert_eq!(stage.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(stage.post(submit, "[]").await.status, 200);
    // The fifth node has every role but `builder`.
    for (route, nodes) in [
        (format!("GET {data}"), [0, 1, 0, 0, 1]),
        (format!("GET {aggregate}"), [0, 1, 0, 0, 1]),
        (format!("GET {contribution}"), [0, 0, 1, 0, 1]),
        (format!("GET {block}"), [0, 0, 0, 1, 1]),
        (format!("POST {submit}"), [1, 0, 0, 0, 1]),
    ] {
        eventually(&format!("{route} reaches {nodes:?}, not {:?}", stage.counts(&route)), || {
            stage.counts(&route) == nodes
        })
        .await;
    }
}
