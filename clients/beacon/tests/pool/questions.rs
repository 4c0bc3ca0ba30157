//! What the pool answers the signer, and that calls are counted for and against nodes as they should be.

use std::sync::Arc;
use std::time::Duration;

use holdfast_beacon::{
    BlockRoot, Checkpoint, Confirmation, Deadline, DecisionKind, Eligibility, EndpointClass, PoolConfig, PoolView,
    UpstreamRequest, Why,
};
use holdfast_domain::{Epoch, ValidatorIndex};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::scripted::{Answer, Body, Chain, Gate, ScriptedNode, Sync};
use super::{Running, config, named, start};

const DATA: &str = "GET /eth/v1/validator/attestation_data";
const LIVENESS: &str = "POST /eth/v1/validator/liveness/30";

fn root(byte: u8) -> BlockRoot {
    BlockRoot([byte; 32])
}

fn data(source: Checkpoint, target: Checkpoint) -> Answer {
    let checkpoint = |of: Checkpoint| format!(r#"{{"epoch":"{}","root":"{}"}}"#, of.epoch, of.root);
    Answer::json(format!(
        r#"{{"data":{{"slot":"1","index":"0","beacon_block_root":"{}","source":{},"target":{}}}}}"#,
        root(1),
        checkpoint(source),
        checkpoint(target)
    ))
}

/// Three nodes of three clients at the start of an epoch, and the checkpoints they vote for.
async fn three() -> ([ScriptedNode; 3], Running, Checkpoint, Checkpoint) {
    let chain = Chain::aged(32 * 30);
    let nodes = [
        ScriptedNode::start("a", "Lighthouse/v8", &chain).await,
        ScriptedNode::start("b", "teku/v25", &chain).await,
        ScriptedNode::start("c", "Nimbus/v25", &chain).await,
    ];
    let source = Checkpoint { epoch: Epoch(29), root: root(29) };
    let target = Checkpoint { epoch: Epoch(chain.epoch()), root: root(30) };
    for node in &nodes {
        node.answer(DATA, data(source, target));
    }
    let upstreams = ["a", "b", "c"].iter().zip(&nodes).map(|(name, node)| named(name, node)).collect();
    let running = start(PoolConfig { ..config(upstreams) }).await;
    running.until("three", |view| view.candidates(EndpointClass::AttestationData).len() == 3).await;
    (nodes, running, source, target)
}

#[tokio::test]
async fn checkpoints_are_confirmed_by_distinct_clients_with_one_question_each() {
    let (nodes, running, source, target) = three().await;
    let asking = (0..50).map(|_| running.pool.confirm_checkpoints(source, target));
    for result in futures_util::future::join_all(asking).await {
        assert!(matches!(result, Confirmation::Confirmed { implementations: 2.. }), "{result:?}");
    }
    for node in &nodes {
        assert!(node.seen(DATA).len() <= 1, "one question for fifty keys");
    }
    let wrong = Checkpoint { root: root(99), ..target };
    let result = running.pool.confirm_checkpoints(source, wrong).await;
    assert!(matches!(result, Confirmation::Disagreed { implementations: 2.. }), "{result:?}");
    for (kind, word) in
        [(DecisionKind::CheckpointsConfirmed, "agree"), (DecisionKind::CheckpointsDisagreed, "say otherwise")]
    {
        let told = running.journal.of(kind);
        assert!(matches!(told.as_slice(), [one] if one.contains(word)), "one line for fifty keys: {told:?}");
    }
    let far = Checkpoint { epoch: Epoch(7), ..target };
    assert_eq!(running.pool.confirm_checkpoints(source, far).await, Confirmation::Unknown(Why::OtherEpoch));
}

#[tokio::test]
async fn silence_confirms_nothing_and_takes_no_longer_than_said() {
    let (nodes, running, source, target) = three().await;
    nodes[0].answer(DATA, Answer::never());
    nodes[1].answer(DATA, Answer::error(503, "syncing"));
    let began = Instant::now();
    let result = running.pool.confirm_checkpoints(source, target).await;
    assert_eq!(result, Confirmation::Unknown(Why::TooFewAnswers));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    nodes[0].answer(DATA, data(source, target));
    let result = running.pool.confirm_checkpoints(source, target).await;
    assert!(matches!(result, Confirmation::Confirmed { implementations: 2 }), "asked again: {result:?}");
}

#[tokio::test]
async fn liveness_is_a_union_and_a_silent_node_makes_it_incomplete() {
    let (nodes, running, ..) = three().await;
    let answer = |five: bool| {
        Answer::json(format!(r#"{{"data":[{{"index":"5","is_live":{five}}},{{"index":"6","is_live":false}}]}}"#))
    };
    nodes[0].answer(LIVENESS, answer(false));
    nodes[1].answer(LIVENESS, answer(true));
    nodes[2].answer(LIVENESS, answer(false));
    let indices = [ValidatorIndex(5), ValidatorIndex(6)];
    let union = running.pool.liveness(Epoch(30), &indices).await;
    assert!(union.is_complete() && union.live == [ValidatorIndex(5)].into(), "{union:?}");
    assert_eq!(nodes[0].seen(LIVENESS)[0].json(), serde_json::json!(["5", "6"]));
    nodes[2].answer(LIVENESS, Answer::error(503, "syncing"));
    let union = running.pool.liveness(Epoch(30), &indices).await;
    assert_eq!((union.is_complete(), union.unanswered[0].as_str()), (false, "c"));
    nodes[2].answer(LIVENESS, Answer::json(r#"{"data":[{"index":"5","is_live":false}]}"#));
    let union = running.pool.liveness(Epoch(30), &indices).await;
    assert!(!union.is_complete(), "one validator was left out");
    assert!(union.live.contains(&ValidatorIndex(5)), "what was seen was seen");
}

#[tokio::test]
async fn a_node_that_cannot_tell_liveness_is_left_out_while_others_can() {
    let (nodes, running, ..) = three().await;
    let quiet = || Answer::json(r#"{"data":[{"index":"5","is_live":false}]}"#);
    let off = || Answer::error(400, "liveness tracking is off");
    let ask = async || running.pool.liveness(Epoch(30), &[ValidatorIndex(5)]).await;
    nodes[0].answer(LIVENESS, quiet());
    nodes[1].answer(LIVENESS, off());
    nodes[2].answer(LIVENESS, quiet());
    for _ in 0..2 {
        let union = ask().await;
        assert!(union.is_complete() && union.live.is_empty(), "{union:?}");
        assert_eq!((union.answered, union.left_out[0].as_str()), (2, "b"));
    }
    let told = running.journal.of(DecisionKind::LivenessLeftOut);
    assert!(matches!(told.as_slice(), [one] if one.contains("liveness tracking is off")), "named once: {told:?}");
    // What may be answered in a moment is waited for, beside it or not.
    nodes[2].answer(LIVENESS, Answer::error(503, "syncing"));
    let union = ask().await;
    assert_eq!((union.is_complete(), union.unanswered[0].as_str()), (false, "c"));
    // Nobody can tell: nobody is quiet.
    for node in &nodes {
        node.answer(LIVENESS, off());
    }
    let union = ask().await;
    assert_eq!((union.is_complete(), union.answered, union.unanswered.len()), (false, 0, 3), "{union:?}");
    // It tells after all, and is news if it does not again.
    nodes[0].answer(LIVENESS, quiet());
    nodes[1].answer(LIVENESS, quiet());
    nodes[2].answer(LIVENESS, quiet());
    assert_eq!(ask().await.answered, 3);
    nodes[1].answer(LIVENESS, off());
    assert!(ask().await.is_complete());
    assert_eq!(running.journal.of(DecisionKind::LivenessLeftOut).len(), 2);
}

#[tokio::test]
async fn a_node_that_is_not_healthy_can_say_that_somebody_lives_and_not_that_nobody_does() {
    let (nodes, running, ..) = three().await;
    let line = |live: bool| Answer::json(format!(r#"{{"data":[{{"index":"5","is_live":{live}}}]}}"#));
    let ask = async || running.pool.liveness(Epoch(30), &[ValidatorIndex(5)]).await;
    nodes[2].set_sync(Sync { behind: 40, is_syncing: true, ..Sync::default() });
    let behind = |view: &PoolView| {
        view.nodes().iter().any(|node| node.eligibility(EndpointClass::Liveness) == Eligibility::LastResort)
    };
    running.until("c is behind", behind).await;
    nodes[0].answer(LIVENESS, line(false));
    nodes[1].answer(LIVENESS, line(false));
    nodes[2].answer(LIVENESS, Answer::error(503, "syncing"));
    assert!(ask().await.is_complete(), "its word is not needed");
    nodes[2].answer(LIVENESS, line(true));
    assert!(ask().await.live.contains(&ValidatorIndex(5)), "what it saw counts");
    nodes[0].answer(LIVENESS, Answer::error(400, "off"));
    nodes[1].answer(LIVENESS, Answer::error(404, "off"));
    nodes[2].answer(LIVENESS, line(false));
    assert!(!ask().await.is_complete(), "not on its word alone");
}

fn get(path: &str, class: EndpointClass) -> UpstreamRequest {
    UpstreamRequest::get_json(path.parse().unwrap(), class)
}

#[tokio::test]
async fn a_cancelled_call_counts_for_nothing_and_a_late_one_against_the_node() {
    let (nodes, running, ..) = three().await;
    nodes[0].answer("GET /slow", Answer::never());
    let upstream = Arc::clone(&running.pool.view().candidates(EndpointClass::Duty)[0].upstream);
    let late = |status: &holdfast_beacon::StatusDocument| {
        status.upstreams[0].performance.get("duty").map(|class| (class.late, class.calls))
    };
    let call = upstream.call(get("/slow", EndpointClass::Duty), Instant::now() + Duration::from_mins(1));
    let cancelled = async {
        nodes[0].wait_seen("GET /slow", 1).await;
    };
    tokio::select! {
        _ = call => panic!("it never answers"),
        () = cancelled => {}
    }
    assert_eq!(late(&running.pool.status()), None);
    let error = upstream.call(get("/slow", EndpointClass::Duty), Instant::now() + Duration::from_millis(600)).await;
    assert!(matches!(error, Err(holdfast_beacon::CallError::Deadline(_))), "{error:?}");
    assert_eq!(late(&running.pool.status()), Some((1, 1)));
}

#[tokio::test]
async fn a_late_answer_speaks_against_the_node_at_once_and_is_still_given() {
    let (nodes, running, ..) = three().await;
    let gate = Gate::closed();
    nodes[0].answer("GET /slow", Answer::json("{}").held_by(&gate));
    let upstream = Arc::clone(&running.pool.view().candidates(EndpointClass::Duty)[0].upstream);
    let late = || running.pool.status().upstreams[0].performance.get("duty").map(|class| (class.late, class.calls));
    let deadline = Deadline::after(Duration::from_millis(20), Duration::from_mins(1), Duration::ZERO);
    let call = upstream.call(get("/slow", EndpointClass::Duty), deadline);
    let judged = async {
        while late().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(late(), Some((1, 1)));
        gate.open();
    };
    let (answer, ()) = tokio::join!(call, judged);
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(late(), Some((1, 1)), "it is not counted again, neither as late nor as on time");
    // A call that was not given a fair time says nothing against anybody.
    nodes[0].answer("GET /slow", Answer::never());
    let unfair = Deadline { fair: Duration::from_mins(1), ..Deadline::from(Instant::now()) };
    assert!(upstream.call(get("/slow", EndpointClass::Duty), unfair).await.is_err());
    assert_eq!(late(), Some((1, 1)));
}

#[tokio::test]
async fn bodies_stream_and_never_end_short_unnoticed() {
    let (nodes, running, ..) = three().await;
    let gate = Gate::closed();
    nodes[0].answer("GET /big", Answer::ok().body(Body::Chunks { count: 3, size: 1000, gate: Some(gate.clone()) }));
    nodes[0].answer("GET /short", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"));
    let upstream = Arc::clone(&running.pool.view().candidates(EndpointClass::Bulk)[0].upstream);
    let deadline = || Instant::now() + Duration::from_secs(10);
    let mut answer = upstream.call(get("/big", EndpointClass::Bulk), deadline()).await.unwrap();
    assert!(answer.body.frame().await.unwrap().is_ok(), "the beginning is here before the end is sent");
    assert_eq!(upstream.in_flight(), 1, "an answer that streams is in progress");
    gate.open();
    assert!(answer.collect(10_000, deadline()).await.is_ok());
    let answer = upstream.call(get("/big", EndpointClass::Bulk), deadline()).await.unwrap();
    let error = answer.collect(1_500, deadline()).await.unwrap_err();
    assert!(matches!(error, holdfast_beacon::CallError::TooLong { limit: 1_500 }), "{error:?}");
    let answer = upstream.call(get("/short", EndpointClass::Bulk), deadline()).await.unwrap();
    let error = answer.collect(1_500, deadline()).await.unwrap_err();
    assert!(matches!(error, holdfast_beacon::CallError::Exchange(_)), "{error:?}");
}

#[tokio::test]
async fn own_credentials_are_sent_and_the_client_s_are_not() {
    let chain = Chain::aged(1000);
    let node = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let mut upstream = named("a", &node);
    upstream.url = node.url().replace("http://", "http://me:planted@").parse().unwrap();
    upstream.headers.insert("X-Api-Key".to_owned(), holdfast_secret::SecretText::new("planted-key"));
    let running = start(config(vec![upstream])).await;
    running.until("there", |view| !view.candidates(EndpointClass::Read).is_empty()).await;
    let mut request = get("/echo", EndpointClass::Read);
    for (name, value) in [
        ("authorization", "Bearer client"),
        ("cookie", "c=1"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("eth-consensus-version", "fulu"),
    ] {
        request.headers.insert(name, value.parse().unwrap());
    }
    let upstream = Arc::clone(&running.pool.view().nodes()[0].upstream);
    upstream.call(request, Instant::now() + Duration::from_secs(10)).await.unwrap();
    let seen = node.wait_seen("GET /echo", 1).await.remove(0);
    assert_eq!(seen.header("authorization"), Some("Basic bWU6cGxhbnRlZA=="));
    assert_eq!((seen.header("x-api-key"), seen.header("eth-consensus-version")), (Some("planted-key"), Some("fulu")));
    assert_eq!((seen.header("cookie"), seen.header("x-hop")), (None, None));
    let shown = format!("{:?} {:?}", running.pool, running.pool.status());
    assert!(!shown.contains("planted"), "{shown}");
}
