//! Bad peers on either side: clear errors, no crash, no wrong answer passed on as right.

use std::time::Duration;

use holdfast_beacon::route::{BulkAccess, RoutingConfig};
use holdfast_beacon::server::ServerBounds;
use holdfast_beacon::{Eligibility, EndpointClass};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scripted::{Answer, Body, Gate, PATIENCE, request, send};
use crate::stage::{ALIKE, Setting, Stage, message};

const FORK: &str = "GET /eth/v1/beacon/states/head/fork";
const FORK_PATH: &str = "/eth/v1/beacon/states/head/fork";
const VALIDATORS: &str = "/eth/v1/beacon/states/head/validators";

/// Sends bytes and reads to the end.
async fn raw(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    // A server that has seen enough may close while this is still being sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end in time");
    let _ = read;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn answers_that_are_none_are_not_passed_on() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let good = r#"{"data":"good"}"#;
    for (route, path) in [(FORK.to_owned(), FORK_PATH), (format!("GET {VALIDATORS}"), VALIDATORS)] {
        for bad in [
            Answer::json("<html>welcome</html>"),
            Answer::json("<html>").header("content-type", "text/html"),
            Answer::json(""),
            Answer::raw("HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n{}"),
            Answer::raw("SSH-2.0-OpenSSH_9.6\r\n"),
            Answer::raw(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(2_000_000))),
            Answer::hang_up(),
        ] {
            for name in ["a", "b"] {
                stage.until(name, EndpointClass::Read, Eligibility::Yes).await;
                stage.node(name).answer(&route, bad.clone());
            }
            let answer = stage.get(path).await;
            assert_eq!(answer.status, 503, "{path}: {:?}", bad.body);
            assert!(message(&answer).contains("try again"));
            for name in ["a", "b"] {
                stage.until(name, EndpointClass::Read, Eligibility::Yes).await;
            }
            stage.node("b").answer(&route, Answer::json(good));
            let answer = stage.get(path).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, good), "{path}: {:?}", bad.body);
        }
    }
}

#[tokio::test]
async fn a_body_cut_short_is_another_nodes_turn_or_a_broken_connection_never_a_short_answer() {
    let stage = Setting::of(&ALIKE[..2]).stage().await;
    let cut = Answer::json("").body(Body::Truncated { claimed: 100, sent: b"{\"data\":[".to_vec() });
    let chunks = Answer::json("").body(Body::TruncatedChunks(b"{\"data\":[".to_vec()));
    for cut in [cut, chunks] {
        for node in &stage.nodes {
            node.answer(FORK, Answer::json(r#"{"data":1}"#));
        }
        stage.node("a").answer(FORK, cut.clone());
        for name in ["a", "b"] {
            stage.until(name, EndpointClass::Read, Eligibility::Yes).await;
        }
        assert_eq!(stage.get(FORK_PATH).await.text(), r#"{"data":1}"#);
        // What streams has begun when it breaks: the client's connection breaks, too.
        for node in &stage.nodes {
            node.answer(&format!("GET {VALIDATORS}"), cut.clone());
        }
        assert!(send(stage.address, "GET", VALIDATORS, &[("accept", "application/json")], b"").await.is_none());
    }
}

#[tokio::test]
async fn http_1_0_is_spoken_on_both_sides() {
    let stage = Setting::of(&ALIKE[..1]).stage().await;
    stage.node("a").answer(FORK, Answer::raw("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"data\":10}"));
    assert_eq!(stage.get(FORK_PATH).await.text(), r#"{"data":10}"#);
    let answer = raw(&stage, b"GET /eth/v1/node/version HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.contains("Holdfast/"), "{answer}");
}

#[tokio::test]
async fn clients_that_send_nonsense_or_too_much_are_refused() {
    let bounds = ServerBounds { max_body_bytes: 10_000, max_head_bytes: 16_000, ..ServerBounds::default() };
    let stage = Setting { bounds, ..Setting::of(&ALIKE[..1]) }.stage().await;
    let big = request(
        stage.address,
        "POST",
        "/eth/v2/beacon/pool/attestations",
        &[("content-type", "application/json")],
        &[b'x'; 10_001],
    )
    .await;
    assert_eq!(big.status, 413);
    assert!(message(&big).contains("10000 bytes"));
    let chunked = format!(
        "POST /eth/v2/beacon/pool/attestations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        20_000,
        "y".repeat(20_000)
    );
    assert!(raw(&stage, chunked.as_bytes()).await.starts_with("HTTP/1.1 413"));
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert!(raw(&stage, head.as_bytes()).await.starts_with("HTTP/1.1 431"));
    assert!(raw(&stage, b"\x16\x03\x01\x02\x00\x01\x00").await.starts_with("HTTP/1.1 400"));
    let plain =
        request(stage.address, "POST", "/eth/v2/beacon/pool/attestations", &[("content-type", "text/plain")], b"x")
            .await;
    assert_eq!(plain.status, 415);
    assert_eq!(stage.counts("POST *"), [0]);
}

#[tokio::test]
async fn slow_clients_are_given_up() {
    let bounds = ServerBounds {
        head_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_millis(300),
        ..ServerBounds::default()
    };
    let routing = RoutingConfig { bulk: BulkAccess::Allow, bulk_at_once: 1, ..RoutingConfig::default() };
    let stage = Setting { bounds, routing, ..Setting::of(&ALIKE[..1]) }.stage().await;
    let half_body = b"POST /eth/v2/beacon/pool/attestations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\nconnection: close\r\n\r\n[";
    assert!(raw(&stage, half_body).await.starts_with("HTTP/1.1 408"));
    let half_head = raw(&stage, b"GET /eth/v1/node/version HTTP/1.1\r\nho").await;
    assert!(half_head.is_empty() || half_head.starts_with("HTTP/1.1 408"), "{half_head}");
    // One that asks for much and reads nothing holds the only place for heavy answers, but not for long.
    let route = "GET /eth/v2/debug/beacon/states/head";
    stage.node("a").answer(route, Answer::chunks(2_000, 100_000, None));
    let mut idle = TcpStream::connect(stage.address).await.unwrap();
    idle.write_all(b"GET /eth/v2/debug/beacon/states/head HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n").await.unwrap();
    stage.node("a").wait_seen(route, 1).await;
    stage.node("a").answer(route, Answer::ssz(b"state".to_vec()));
    assert_eq!(stage.get("/eth/v2/debug/beacon/states/head").await.body, b"state");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_stream_through_and_duties_do_not_wait() {
    let routing = RoutingConfig { bulk: BulkAccess::Allow, bulk_at_once: 1, ..RoutingConfig::default() };
    let stage = Setting { routing, ..Setting::of(&ALIKE[..1]) }.stage().await;
    let chain = stage.nodes[0].chain().clone();
    let gate = Gate::closed();
    stage.node("a").answer("GET /eth/v2/debug/beacon/states/head", Answer::chunks(100, 1_000_000, Some(gate.clone())));
    let duties = format!("/eth/v1/validator/duties/attester/{}", chain.epoch());
    stage.node("a").answer(&format!("POST {duties}"), Answer::json(r#"{"data":[]}"#));
    let mut state = TcpStream::connect(stage.address).await.unwrap();
    state
        .write_all(b"GET /eth/v2/debug/beacon/states/head HTTP/1.1\r\nhost: x\r\naccept: application/octet-stream\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    // The first megabyte arrives while the node holds back the rest: nothing is collected first.
    let mut first = vec![0; 500_000];
    tokio::time::timeout(PATIENCE, state.read_exact(&mut first)).await.expect("in time").unwrap();
    // A second heavy request waits in its lane; duties pass.
    let second = stage.background("GET", "/eth/v2/debug/beacon/states/head", "");
    for _ in 0..20 {
        assert_eq!(stage.post(&duties, r#"["1"]"#).await.status, 200);
    }
    assert_eq!(stage.counts("GET /eth/v2/debug/*"), [1], "the second one is not sent yet");
    gate.open();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE * 2, state.read_to_end(&mut rest)).await.expect("in time").unwrap();
    assert!(first.len() + rest.len() > 100_000_000, "{}", first.len() + rest.len());
    assert_eq!(second.await.unwrap().body.len(), 100_000_000);
}
