//! Submissions, aggregates, contributions, liveness: all nodes, merged.

use holdfast_beacon::{DecisionKind, Eligibility, EndpointClass};

use crate::scripted::{Answer, Chain, Gate, Sync, request};
use crate::stage::{ALIKE, Setting, eventually, message};

const ATTESTATIONS: &str = "/eth/v2/beacon/pool/attestations";
const ROUTE: &str = "POST /eth/v2/beacon/pool/attestations";
const BODY: &str = r#"[{"a":0},{"a":1},{"a":2},{"a":3}]"#;

pub fn aggregate_json(chain: &Chain, slot: u64, bits: &str) -> String {
    let data: serde_json::Value = serde_json::from_str(&crate::attestation::data_json(chain, slot, 0, 0)).unwrap();
    serde_json::json!({ "version": "fulu", "data": { "aggregation_bits": bits, "data": data["data"], "signature": "0x" } })
        .to_string()
}

pub fn contribution_json(slot: u64, root: &str, bits: &str) -> String {
    serde_json::json!({ "data": {
        "slot": slot.to_string(), "beacon_block_root": root, "subcommittee_index": "2", "aggregation_bits": bits, "signature": "0x",
    } })
    .to_string()
}

#[tokio::test]
async fn the_first_success_answers_and_the_others_still_get_theirs() {
    let stage = Setting::of(&ALIKE).stage().await;
    let gate = Gate::closed();
    stage.node("a").answer(ROUTE, Answer::ok().held_by(&gate));
    stage.node("b").answer(ROUTE, Answer::error(503, "syncing"));
    stage.node("c").answer(ROUTE, Answer::ok());
    let answer = stage.post(ATTESTATIONS, BODY).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    for node in &stage.nodes {
        let seen = node.wait_seen(ROUTE, 1).await;
        assert_eq!((seen[0].text().as_str(), seen[0].header("eth-consensus-version")), (BODY, Some("fulu")));
        assert_eq!(seen[0].header("content-type"), Some("application/json"));
    }
    // The client is gone; a second submission goes through while the first still waits at a.
    assert_eq!(stage.post(ATTESTATIONS, BODY).await.status, 200);
    stage.node("a").wait_seen(ROUTE, 2).await;
    assert_eq!(stage.node("a").abandoned(ROUTE), 0, "what was begun is not cancelled");
    gate.open();
}

#[tokio::test]
async fn what_is_taken_late_is_taken() {
    let chain = Chain { seconds_per_slot: 1, ..Chain::aged(1000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE[..2]) }.stage().await;
    let gate = Gate::closed();
    stage.node("a").answer(ROUTE, Answer::ok().held_by(&gate));
    stage.node("b").answer(ROUTE, Answer::error(503, "busy"));
    let client = stage.background("POST", ATTESTATIONS, BODY);
    eventually("the submission is overdue at a", || {
        let status = stage.pool().status();
        let overdue = |node: &holdfast_beacon::UpstreamStatus| node.performance.get("submit").map(|class| class.late);
        status.upstreams.iter().any(|node| node.name == "a" && overdue(node) == Some(1))
    })
    .await;
    gate.open();
    assert_eq!(client.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_a_node_that_hangs() {
    let chain = Chain { seconds_per_slot: 1, ..Chain::aged(1000) };
    let stage = Setting { chain, ..Setting::of(&ALIKE[..2]) }.stage().await;
    let gate = Gate::closed();
    stage.node("a").answer(ROUTE, Answer::ok().held_by(&gate));
    stage.node("b").answer(ROUTE, Answer::failures(&[(1, "invalid signature")]));
    assert_eq!(stage.post(ATTESTATIONS, BODY).await.status, 400);
    assert_eq!(stage.node("a").abandoned(ROUTE), 0, "it may still take it");
    gate.open();
}

#[tokio::test]
async fn a_client_that_leaves_does_not_take_its_submission_along() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    let gate = Gate::closed();
    stage.node("a").answer(ROUTE, Answer::ok().held_by(&gate));
    let client = stage.background("POST", ATTESTATIONS, BODY);
    stage.node("a").wait_seen(ROUTE, 1).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    // A read of the same client afterwards shows that its departure has been noticed; the submission lives on.
    assert_eq!(stage.get("/eth/v1/node/version").await.status, 200);
    assert_eq!(stage.node("a").abandoned(ROUTE), 0);
    gate.open();
}

#[tokio::test]
async fn items_fail_only_if_every_node_refused_them() {
    let stage = Setting::of(&ALIKE).stage().await;
    stage.node("a").answer(ROUTE, Answer::failures(&[(0, "unknown head"), (2, "invalid signature")]));
    stage.node("b").answer(ROUTE, Answer::failures(&[(2, "bad signature"), (3, "ATTESTATION_ALREADY_KNOWN")]));
    stage.node("c").answer(ROUTE, Answer::error(503, "syncing"));
    let answer = stage.post(ATTESTATIONS, BODY).await;
    assert_eq!(answer.status, 400);
    let failures = answer.json()["failures"].clone();
    assert_eq!(failures.as_array().unwrap().len(), 1, "{failures}");
    assert_eq!(failures[0]["index"], 2);
    assert!(stage.decided(DecisionKind::CommonRefusal).is_empty(), "c did not judge");
}

#[tokio::test]
async fn lodestar_answers_500_for_what_gossip_was_faster_with_and_that_speaks_against_nobody() {
    // Each node publishes what the client sends to all of them, so each is told of some item by the others first.
    const CONTRIBUTIONS: &str = "/eth/v1/validator/contribution_and_proofs";
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let route = format!("POST {CONTRIBUTIONS}");
    stage.node("a").answer(&route, Answer::error(500, "PublishError.Duplicate"));
    let several = "Multiple errors on publishContributionAndProofs\nPublishError.Duplicate\nPublishError.Duplicate";
    stage.node("b").answer(&route, Answer::error(500, several));
    for _ in 0..12 {
        assert_eq!(stage.post(CONTRIBUTIONS, BODY).await.status, 200);
    }
    for name in ["a", "b"] {
        stage.node(name).wait_seen(&route, 12).await;
    }
    let late = |status: &holdfast_beacon::StatusDocument| {
        let of = |node: &holdfast_beacon::UpstreamStatus| node.performance.get("submit").map(|class| class.late);
        status.upstreams.iter().map(of).collect::<Vec<_>>()
    };
    eventually("both are counted", || late(&stage.pool().status()) == [Some(0), Some(0)]).await;
    stage.node("a").answer(&route, Answer::error(500, "database is corrupt"));
    stage.post(CONTRIBUTIONS, BODY).await;
    eventually("a node in trouble is", || late(&stage.pool().status())[0] == Some(1)).await;
}

#[tokio::test]
async fn what_is_known_already_is_a_success() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    stage.node("a").answer(ROUTE, Answer::failures(&[(0, "PriorAttestationKnown { validator_index: 1 }")]));
    stage.node("b").answer(ROUTE, Answer::error(400, "attestation already seen"));
    assert_eq!(stage.post(ATTESTATIONS, BODY).await.status, 200);
}

#[tokio::test]
async fn a_refusal_by_all_is_told_apart_from_trouble_of_nodes() {
    let stage = Setting::of(&ALIKE).stage().await;
    for node in &stage.nodes {
        node.answer(ROUTE, Answer::error(400, "invalid signature"));
    }
    let answer = stage.post(ATTESTATIONS, BODY).await;
    assert_eq!((answer.status, message(&answer).as_str()), (400, "invalid signature"));
    assert!(stage.decided(DecisionKind::CommonRefusal)[0].contains("invalid signature"));
    for node in &stage.nodes {
        node.answer(ROUTE, Answer::hang_up());
    }
    let answer = stage.post(ATTESTATIONS, BODY).await;
    assert_eq!(answer.status, 503);
    assert!(message(&answer).contains("again is safe"));
}

#[tokio::test]
async fn a_node_that_takes_no_ssz_is_left_out_of_it_until_its_version_changes() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    stage.node("a").answer(ROUTE, Answer::ok());
    stage.node("b").script(ROUTE, |seen| {
        if seen.header("content-type") == Some("application/octet-stream") {
            Answer::error(415, "JSON only")
        } else {
            Answer::ok()
        }
    });
    let ssz = [("content-type", "application/octet-stream"), ("eth-consensus-version", "fulu")];
    let send = || request(stage.address, "POST", ATTESTATIONS, &ssz, b"\x01\x02\x03");
    assert_eq!(send().await.status, 200);
    stage.node("b").wait_seen(ROUTE, 1).await;
    assert_eq!(stage.seen("a", ROUTE)[0].body, b"\x01\x02\x03");
    eventually("b is remembered", || stage.counts(ROUTE) == [1, 1]).await;
    let mut sent = 1;
    // The refusal is remembered when it has been read, which may be after the first answer.
    while stage.counts(ROUTE)[1] == sent {
        assert_eq!(send().await.status, 200);
        sent += 1;
        assert!(sent < 50);
        if stage.counts(ROUTE)[1] < sent {
            break;
        }
    }
    let known = stage.counts(ROUTE)[1];
    assert_eq!(send().await.status, 200);
    assert_eq!(stage.counts(ROUTE)[1], known, "not asked with SSZ again");
    assert_eq!(stage.post(ATTESTATIONS, BODY).await.status, 200);
    stage.node("b").wait_seen(ROUTE, known + 1).await;
    // Another version may have learnt it.
    stage.node("b").set_version("Lodestar/v9.9.9");
    stage.node("b").cut_connections();
    eventually("the new version is known", || {
        stage.view("b").version.as_ref().is_some_and(|version| version.to_string().contains("v9.9.9"))
    })
    .await;
    assert_eq!(send().await.status, 200);
    let seen = stage.node("b").wait_seen(ROUTE, known + 2).await;
    assert_eq!(seen[known + 1].body, b"\x01\x02\x03", "asked with SSZ once more");
}

#[tokio::test]
async fn when_no_node_takes_ssz_the_client_learns_it() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    for node in &stage.nodes {
        node.answer(ROUTE, Answer::error(415, "JSON only"));
    }
    let ssz = [("content-type", "application/octet-stream"), ("eth-consensus-version", "fulu")];
    assert_eq!(request(stage.address, "POST", ATTESTATIONS, &ssz, b"\x01").await.status, 415);
    let json_only = "/eth/v1/beacon/pool/sync_committees";
    assert_eq!(request(stage.address, "POST", json_only, &ssz, b"\x01").await.status, 415);
    assert_eq!(stage.counts(&format!("POST {json_only}")), [0, 0]);
}

#[tokio::test]
async fn the_fullest_aggregate_wins_and_missing_ones_are_normal() {
    let stage = Setting::of(&ALIKE).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    let route = "GET /eth/v2/validator/aggregate_attestation";
    let path =
        format!("/eth/v2/validator/aggregate_attestation?slot={slot}&attestation_data_root=0x00&committee_index=0");
    let some = aggregate_json(&chain, slot, "0x0b");
    let more = aggregate_json(&chain, slot, "0x2f");
    let other_slot = aggregate_json(&chain, slot + 1, "0xff01");
    let gate = Gate::closed();
    stage.node("a").answer(route, Answer::json(some.clone()).held_by(&gate));
    stage.node("b").answer(route, Answer::json(more.clone()).held_by(&gate));
    stage.node("c").answer(route, Answer::json(other_slot).held_by(&gate));
    let client = stage.background("GET", &path, "");
    for node in &stage.nodes {
        node.wait_seen(route, 1).await;
    }
    gate.open();
    assert_eq!(client.await.unwrap().text(), more);
    stage.node("b").answer(route, Answer::error(404, "no aggregate"));
    stage.node("c").answer(route, Answer::error(404, "no aggregate"));
    assert_eq!(stage.get(&path).await.text(), some);
    stage.node("a").answer(route, Answer::error(404, "no aggregate"));
    assert_eq!(stage.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_contribution_is_asked_of_nodes_that_hold_the_block() {
    // lodestar#5063: the node without the block answered an error and the duty was lost.
    let stage = Setting::of(&ALIKE).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    stage.node("c").set_sync(Sync { behind: 3, ..Sync::default() });
    let root = chain.block_root(slot, 0);
    eventually("c is known to be behind", || stage.view("c").head.is_some_and(|head| head.slot.0 + 2 < slot)).await;
    eventually("a and b hold the block", || {
        let wanted = holdfast_beacon::BlockRoot::parse(&root);
        ["a", "b"].iter().all(|name| stage.view(name).head.is_some_and(|head| head.root == wanted))
    })
    .await;
    let route = "GET /eth/v1/validator/sync_committee_contribution";
    stage.node("a").answer(route, Answer::json(contribution_json(slot, &root, "0x01")));
    stage.node("b").answer(route, Answer::json(contribution_json(slot, &root, "0x03")));
    let path = format!(
        "/eth/v1/validator/sync_committee_contribution?slot={slot}&subcommittee_index=2&beacon_block_root={root}"
    );
    let answer = stage.get(&path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stage.counts(route)[2], 0);
    assert_eq!(stage.get("/eth/v1/validator/sync_committee_contribution?slot=1").await.status, 400);
}

/// A block came late, and those who voted for it want their contribution when all nodes but one have moved on.
#[tokio::test]
async fn a_contribution_is_asked_of_nodes_that_have_moved_on_too() {
    let stage = Setting::of(&ALIKE).stage().await;
    let chain = stage.nodes[0].chain().clone();
    let slot = chain.slot();
    stage.node("c").set_sync(Sync { behind: 1, ..Sync::default() });
    let root = chain.block_root(slot - 1, 0);
    let wanted = holdfast_beacon::BlockRoot::parse(&root);
    eventually("c is known to be behind", || stage.view("c").head.is_some_and(|head| head.slot.0 < slot)).await;
    stage.node("c").event("head", &crate::stage::head_event(&chain, slot - 1, 0));
    eventually("c alone has the block for its head", || {
        let holds = |name: &str| stage.view(name).head.is_some_and(|head| head.root == wanted);
        holds("c") && !holds("a") && !holds("b")
    })
    .await;
    let (route, gate) = ("GET /eth/v1/validator/sync_committee_contribution", Gate::closed());
    for (name, bits) in [("a", "0x07"), ("b", "0x03"), ("c", "0x01")] {
        stage.node(name).answer(route, Answer::json(contribution_json(slot, &root, bits)).held_by(&gate));
    }
    let path = format!(
        "/eth/v1/validator/sync_committee_contribution?slot={slot}&subcommittee_index=2&beacon_block_root={root}"
    );
    let client = stage.background("GET", &path, "");
    for node in &stage.nodes {
        node.wait_seen(route, 1).await;
    }
    gate.open();
    assert_eq!(client.await.unwrap().text(), contribution_json(slot, &root, "0x07"));
}

#[tokio::test]
async fn liveness_is_the_union_or_unknown() {
    let stage = Setting::of(&ALIKE).stage().await;
    let path = format!("/eth/v1/validator/liveness/{}", stage.nodes[0].chain().epoch());
    let route = format!("POST {path}");
    let line = |live: bool| Answer::json(format!(r#"{{"data":[{{"index":"1","is_live":{live}}}]}}"#));
    for (answers, status, holds) in [
        ([line(false), line(true), line(false)], 200, r#""is_live":true"#),
        ([line(false), line(false), line(false)], 200, r#""is_live":false"#),
        ([line(false), line(false), Answer::error(503, "syncing")], 503, "not known"),
        ([line(false), line(false), Answer::json(r#"{"data":[]}"#)], 503, "not known"),
        ([line(false), line(false), Answer::json("[")], 503, "not known"),
        ([Answer::error(400, "epoch"), Answer::error(400, "epoch"), Answer::error(400, "epoch")], 400, "epoch"),
        // Whoever cannot tell is left out, and not everybody.
        ([line(false), line(false), Answer::error(400, "off")], 200, r#""is_live":false"#),
        ([line(true), Answer::error(404, "off"), Answer::error(405, "off")], 200, r#""is_live":true"#),
        ([line(false), Answer::error(501, "off"), Answer::error(503, "syncing")], 503, "c could not tell"),
        ([line(false), Answer::error(400, "off"), Answer::error(403, "no")], 503, "c could not tell"),
        ([Answer::error(400, "off"), Answer::error(404, "off"), Answer::error(501, "off")], 400, "off"),
    ] {
        for (node, answer) in stage.nodes.iter().zip(answers) {
            node.answer(&route, answer);
        }
        let answer = stage.post(&path, r#"["1"]"#).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(holds), "{}", answer.text());
    }
    stage.until("a", EndpointClass::Liveness, Eligibility::Yes).await;
    let left_out: Vec<String> = stage
        .pool()
        .last_decisions()
        .into_iter()
        .filter(|(_, decision)| decision.kind == DecisionKind::LivenessLeftOut)
        .filter_map(|(_, decision)| decision.upstream.map(|name| name.to_string()))
        .collect();
    assert_eq!(left_out, ["c", "b"], "each was named once");
}

#[tokio::test]
async fn liveness_needs_the_healthy_nodes_or_all_there_are() {
    let stage = Setting::of(&ALIKE).stage().await;
    let path = format!("/eth/v1/validator/liveness/{}", stage.nodes[0].chain().epoch());
    let route = format!("POST {path}");
    let line = |live: bool| Answer::json(format!(r#"{{"data":[{{"index":"1","is_live":{live}}}]}}"#));
    let off = || Answer::error(400, "off");
    let down = || Answer::error(503, "syncing");
    let ask = async |answers: [Answer; 3]| {
        for (node, answer) in stage.nodes.iter().zip(answers) {
            node.answer(&route, answer);
        }
        let answer = stage.post(&path, r#"["1"]"#).await;
        (answer.status, answer.text().contains(r#""is_live":true"#))
    };
    stage.node("c").set_peers(0);
    stage.until("c", EndpointClass::Liveness, Eligibility::LastResort).await;
    assert_eq!(ask([line(false), line(false), down()]).await, (200, false), "its word is not needed");
    assert_eq!(ask([line(false), line(false), line(true)]).await, (200, true), "what it saw counts");
    assert_eq!(ask([off(), off(), line(false)]).await, (400, false), "not on its word alone");
    assert_eq!(ask([line(false), down(), line(false)]).await, (503, false));
    for name in ["a", "b"] {
        stage.node(name).set_peers(0);
        stage.until(name, EndpointClass::Liveness, Eligibility::LastResort).await;
    }
    assert_eq!(ask([line(false), line(false), down()]).await, (503, false), "none is healthy: all are needed");
    assert_eq!(ask([line(false), line(false), off()]).await, (503, false), "nor is anybody left out");
    assert_eq!(ask([line(false), line(false), line(false)]).await, (200, false));
}
