//! Reads: fallback, hedging, freshness, what is kept, bytes that pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_beacon::health::Agreement;
use holdfast_beacon::{Eligibility, EndpointClass, HealthTier};

use crate::scripted::{Answer, Chain, Gate, ScriptedNode, Sync, event_stream};
use crate::stage::{ALIKE, Setting, Stage, eventually, head_event, message};

const FORK: &str = "GET /eth/v1/beacon/states/head/fork";
const FORK_PATH: &str = "/eth/v1/beacon/states/head/fork";

fn teach(stage: &Stage, route: &str, answer: &Answer) {
    for node in &stage.nodes {
        node.answer(route, answer.clone());
    }
}

#[tokio::test]
async fn a_refusal_of_one_node_is_not_the_answer_while_another_may_know() {
    for refusal in
        [Answer::error(404, "unknown"), Answer::error(503, "syncing"), Answer::error(500, "?"), Answer::status(301)]
    {
        let stage = Setting::of(&ALIKE).stage().await;
        teach(&stage, FORK, &Answer::json(r#"{"data":1}"#));
        assert_eq!(stage.get(FORK_PATH).await.status, 200);
        let best = stage.first_to_see(FORK).await;
        best.answer(FORK, refusal);
        let answer = stage.get(FORK_PATH).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"data":1}"#));
    }
}

#[tokio::test]
async fn when_all_refuse_the_client_learns_the_most_telling_reason() {
    let stage = Setting::of(&ALIKE).stage().await;
    teach(&stage, FORK, &Answer::error(404, "state not found"));
    let answer = stage.get(FORK_PATH).await;
    assert_eq!((answer.status, message(&answer).as_str()), (404, "state not found"));
    stage.node("b").answer(FORK, Answer::error(400, "invalid state id"));
    stage.node("c").answer(FORK, Answer::error(503, "syncing"));
    let answer = stage.get(FORK_PATH).await;
    assert_eq!((answer.status, message(&answer).as_str()), (400, "invalid state id"));
    teach(&stage, FORK, &Answer::error(503, "syncing"));
    let answer = stage.get(FORK_PATH).await;
    assert_eq!(answer.status, 503);
    assert!(message(&answer).contains("a: 503"), "{}", answer.text());
}

#[tokio::test]
async fn a_bad_request_is_tried_at_one_other_node_only() {
    let stage = Setting::of(&ALIKE).stage().await;
    teach(&stage, FORK, &Answer::error(400, "bad"));
    assert_eq!(stage.get(FORK_PATH).await.status, 400);
    assert_eq!(stage.counts(FORK).iter().sum::<usize>(), 2);
}

/// Where waiting for the node that hangs would be 6 seconds and more.
async fn refused_soon(stage: &Stage, status: u16, what: &str) {
    let answer = tokio::time::timeout(Duration::from_secs(4), stage.get(FORK_PATH)).await;
    assert_eq!(answer.unwrap_or_else(|_| panic!("{what} waits")).status, status, "{what}");
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_a_node_that_hangs() {
    let refusals = [404, 400, 405];
    let stage = Setting::of(&ALIKE).stage().await;
    stage.node("c").hang();
    for status in refusals {
        for name in ["a", "b"] {
            stage.node(name).answer(FORK, Answer::error(status, "no"));
        }
        refused_soon(&stage, status, &format!("{status}, c has just hung")).await;
    }
    eventually("c is down", || stage.view("c").health.tier <= HealthTier::Down).await;
    stage.node("c").clear_seen();
    for status in refusals {
        for name in ["a", "b"] {
            stage.node(name).answer(FORK, Answer::error(status, "no"));
        }
        refused_soon(&stage, status, &format!("{status}, c is down")).await;
    }
    assert_eq!(stage.counts(FORK)[2], 0, "nobody asks a node that is down for a better answer");
    // Of two, there is nobody to refuse a second time.
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    for status in refusals {
        stage.node("a").answer(FORK, Answer::error(status, "no"));
        stage.node("b").answer(FORK, Answer::never());
        refused_soon(&stage, status, &format!("{status}, one of two hangs")).await;
    }
}

#[tokio::test]
async fn a_slow_node_is_joined_by_the_next_and_loses() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    teach(&stage, FORK, &Answer::json(r#"{"data":1}"#));
    assert_eq!(stage.get(FORK_PATH).await.status, 200);
    let best = stage.first_to_see(FORK).await;
    best.answer(FORK, Answer::json(r#"{"data":"late"}"#).held_by(&Gate::closed()));
    let answer = stage.get(FORK_PATH).await;
    assert_eq!(answer.text(), r#"{"data":1}"#);
    eventually("the loser is cancelled", || best.abandoned(FORK) == 1).await;
}

/// Whether an answer names the canonical head of a slot from `before` to now.
fn is_head_since(chain: &Chain, before: u64, answer: &serde_json::Value) -> bool {
    (before..=chain.slot()).any(|slot| answer["data"]["root"] == chain.block_root(slot, 0))
}

#[tokio::test]
async fn the_head_is_the_freshest_and_never_of_an_optimistic_or_minority_node() {
    let stage = Setting::of(&ALIKE).stage().await;
    let chain = stage.nodes[0].chain().clone();
    stage.node("a").set_sync(Sync { behind: 1, ..Sync::default() });
    let before = chain.slot();
    let answer = stage.get("/eth/v1/beacon/headers/head").await.json();
    assert!(is_head_since(&chain, before, &answer), "{answer}");
    stage.node("a").set_sync(Sync { is_optimistic: true, fork: 7, ..Sync::default() });
    eventually("a leads no more", || stage.eligibility("a", EndpointClass::HotRead) != Eligibility::Yes).await;
    for path in ["/eth/v1/beacon/headers/head", "/eth/v1/beacon/blocks/head/root"] {
        for _ in 0..5 {
            let before = chain.slot();
            let answer = stage.get(path).await.json();
            assert!(is_head_since(&chain, before, &answer), "{path}: {answer}");
        }
    }
}

const HEAD: &str = "GET /eth/v1/beacon/headers/head";

/// The node's head is this block from now on, on that parent, whatever the clock says.
fn stays_at(node: &ScriptedNode, slot: u64, fork: u8, parent: &str) {
    let (root, zero) = (node.chain().block_root(slot, fork), format!("0x{}", "00".repeat(32)));
    let message = serde_json::json!({
        "slot": slot.to_string(), "proposer_index": "7", "parent_root": parent, "state_root": zero, "body_root": zero,
    });
    let header = serde_json::json!({ "message": message, "signature": format!("0x{}", "00".repeat(96)) });
    let say = |data: &serde_json::Value| {
        Answer::json(serde_json::json!({ "execution_optimistic": false, "finalized": false, "data": data }).to_string())
    };
    let syncing = serde_json::json!({
        "head_slot": slot.to_string(), "sync_distance": "0", "is_syncing": false, "is_optimistic": false, "el_offline": false,
    });
    node.answer("GET /eth/v1/node/syncing", say(&syncing));
    node.answer(HEAD, say(&serde_json::json!({ "root": root, "canonical": true, "header": header })));
    node.answer("GET /eth/v1/beacon/blocks/head/root", say(&serde_json::json!({ "root": root })));
}

/// Its checkpoints are those of all, and it is a slot ahead: only the branch speaks against it.
#[tokio::test]
async fn a_head_on_another_branch_than_most_is_not_passed_on_however_new() {
    let chain = Chain { seconds_per_slot: 2, ..Chain::aged(6000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE) }.stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let common = chain.block_root(slot, 0);
    for node in &stage.nodes {
        stays_at(node, slot, 0, &chain.block_root(slot - 1, 0));
        node.clear_seen();
    }
    // The pool asks for blocks and their parents once a slot.
    for node in &stage.nodes {
        node.wait_seen(HEAD, 1).await;
        // A stream in which nothing comes would be opened anew.
        node.raw_event(": alive\n\n");
    }
    for name in ["a", "b"] {
        stays_at(stage.node(name), slot + 1, 0, &common);
    }
    stays_at(stage.node("c"), slot + 2, 6, &common);
    eventually("c is known to be on another branch", || {
        stage.view("c").health.agreement == Agreement::HeadFork
            && stage.eligibility("c", EndpointClass::HotRead) == Eligibility::Yes
    })
    .await;
    let head = chain.block_root(slot + 1, 0);
    for path in ["/eth/v1/beacon/headers/head", "/eth/v1/beacon/blocks/head/root"] {
        for _ in 0..5 {
            let answer = stage.get(path).await.json();
            assert_eq!(answer["data"]["root"], head, "{path}: {answer}");
        }
    }
    let mut client = event_stream(stage.address, "head,block").await;
    let block =
        serde_json::json!({ "slot": (slot + 2).to_string(), "block": chain.block_root(slot + 2, 6) }).to_string();
    stage.node("c").event("head", &head_event(&chain, slot + 2, 6));
    stage.node("c").event("block", &block);
    assert_eq!(client.next().await, Some(("block".to_owned(), block)), "its head, told before, is not passed on");
    stage.node("a").event("head", &head_event(&chain, slot + 1, 0));
    assert_eq!(client.next().await.unwrap().1, head_event(&chain, slot + 1, 0));
}

#[tokio::test]
async fn what_never_changes_is_served_when_everybody_is_down() {
    let mut stage = Setting::of(&ALIKE).stage().await;
    let paths = [
        "/eth/v1/beacon/genesis",
        "/eth/v1/config/spec",
        "/eth/v1/config/fork_schedule",
        "/eth/v1/config/deposit_contract",
    ];
    let mut before = Vec::new();
    for path in paths {
        before.push(stage.get(path).await.text());
    }
    let direct = crate::scripted::get(stage.nodes[0].address(), paths[1]).await.text();
    assert_eq!(before[1], direct, "byte for byte");
    for node in &mut stage.nodes {
        node.kill().await;
    }
    for (path, before) in paths.iter().zip(before) {
        let answer = stage.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, before), "{path}");
    }
}

#[tokio::test]
async fn a_list_too_long_for_a_url_is_sent_as_the_post_of_the_same_meaning() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    let route = "/eth/v1/beacon/states/head/validators";
    stage.node("a").answer(&format!("POST {route}"), Answer::json(r#"{"data":["post"]}"#));
    stage.node("a").answer(&format!("GET {route}"), Answer::json(r#"{"data":["get"]}"#));
    let few = stage.get(&format!("{route}?id=1,2")).await;
    assert_eq!(few.text(), r#"{"data":["get"]}"#);
    let keys: Vec<String> = (0..100).map(|n| format!("0x{n:096x}")).collect();
    let many = stage.get(&format!("{route}?id={}&status=active", keys.join(","))).await;
    assert_eq!((many.status, many.text().as_str()), (200, r#"{"data":["post"]}"#));
    let body = stage.seen("a", &format!("POST {route}"))[0].json();
    assert_eq!(body["ids"].as_array().unwrap().len(), 100);
    assert_eq!((&body["ids"][99], &body["statuses"][0]), (&keys[99].clone().into(), &"active".into()));
}

#[tokio::test]
async fn bytes_and_the_apis_headers_pass_unchanged() {
    let stage = Setting::of(&ALIKE).stage().await;
    let odd = "{ \"version\":\"fulu\",\n\"data\": {\"n\": 1.0e400, \"s\":\"\\u0041\"}, \"finalized\":false}\n";
    teach(&stage, FORK, &Answer::json(odd).header("eth-consensus-version", "fulu"));
    let answer = stage.get(FORK_PATH).await;
    assert_eq!((answer.text().as_str(), answer.header("eth-consensus-version")), (odd, Some("fulu")));
    let block = "GET /eth/v2/beacon/blocks/head";
    let bytes: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    teach(&stage, block, &Answer::ssz(bytes.clone()).header("eth-consensus-version", "fulu"));
    let answer = stage.get_as("/eth/v2/beacon/blocks/head", "application/octet-stream").await;
    assert_eq!(answer.header("eth-consensus-version"), Some("fulu"));
    assert_eq!((answer.status, answer.body), (200, bytes));
    let node = stage.first_to_see(block).await;
    let seen = &node.seen(block)[0];
    assert_eq!(seen.header("accept"), Some("application/octet-stream"));
}

#[tokio::test]
async fn a_block_just_told_of_is_waited_for_a_moment() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot() + 1;
    let (new, old) = (chain.block_root(slot, 0), chain.block_root(slot - 500, 0));
    stage.node("a").event("head", &crate::stage::head_event(&chain, slot, 0));
    let known = holdfast_beacon::BlockRoot::parse(&new).unwrap();
    eventually("the block is known", || stage.switcher.events().slot_of(&known).is_some()).await;
    for node in &stage.nodes {
        let asked = AtomicBool::new(false);
        node.script(&format!("GET /eth/v1/beacon/headers/{new}"), move |_| {
            // It is still being imported when it is first asked for.
            if asked.swap(true, Ordering::SeqCst) {
                Answer::json(r#"{"data":"imported"}"#)
            } else {
                Answer::error(404, "unknown block")
            }
        });
        node.answer(&format!("GET /eth/v1/beacon/headers/{old}"), Answer::error(404, "unknown block"));
    }
    let answer = stage.get(&format!("/eth/v1/beacon/headers/{new}")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"data":"imported"}"#));
    assert_eq!(stage.get(&format!("/eth/v1/beacon/headers/{old}")).await.status, 404);
    assert_eq!(stage.counts(&format!("GET /eth/v1/beacon/headers/{old}")), [1, 1], "asked once each");
}

#[tokio::test]
async fn big_reads_are_joined_by_another_node_too_also_when_they_are_posts() {
    let chain = Chain { seconds_per_slot: 4, ..Chain::aged(4000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE[..2]) }.stage().await;
    let path = "/eth/v1/beacon/states/head/validators";
    for method in ["GET", "POST"] {
        let route = format!("{method} {path}");
        for node in &stage.nodes {
            node.answer(&route, Answer::json(r#"{"data":["all"]}"#));
        }
        let ask = || stage.background(method, path, if method == "POST" { r#"{"ids":["1"]}"# } else { "" });
        assert_eq!(ask().await.unwrap().status, 200);
        let best = stage.first_to_see(&route).await;
        best.answer(&route, Answer::never());
        let answer = ask().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"data":["all"]}"#), "{method}");
        eventually("the loser is cancelled", || best.abandoned(&route) == 1).await;
        best.answer(&route, Answer::json(r#"{"data":["all"]}"#));
    }
}

#[tokio::test]
async fn errors_are_json_when_ssz_was_asked_for() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let path = "/eth/v2/beacon/blocks/head";
    for (refusal, status) in [
        (Answer::error(404, "not here"), 404),
        (Answer::status(404), 404),
        (Answer::error(503, "syncing"), 503),
        (Answer::hang_up(), 503),
    ] {
        for name in ["a", "b"] {
            stage.until(name, EndpointClass::Read, Eligibility::Yes).await;
        }
        teach(&stage, &format!("GET {path}"), &refusal);
        let answer = stage.get_as(path, "application/octet-stream").await;
        assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")), "{refusal:?}");
        message(&answer);
    }
}
