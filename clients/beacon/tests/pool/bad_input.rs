//! Upstreams that answer nonsense: each is named with its reason, none is used, none stops the others.

use holdfast_beacon::{EndpointClass, PoolError, UpstreamConfig};

use super::scripted::{Answer, Chain, ScriptedNode};
use super::{config, named, start};

/// A pool of one good node and one that answers `route` so; returns what is said about the bad one.
async fn beside_a_good_one(route: &str, answer: Answer) -> String {
    let chain = Chain::aged(1000);
    let good = ScriptedNode::start("good", "Lighthouse/v8", &chain).await;
    let bad = ScriptedNode::start("bad", "teku/v25", &chain).await;
    bad.answer(route, answer);
    let running = start(config(vec![named("bad", &bad), named("good", &good)])).await;
    running.until("the good one serves", |view| !view.candidates(EndpointClass::AttestationData).is_empty()).await;
    bad.wait_seen(route, 3).await;
    assert_eq!(running.candidates(EndpointClass::AttestationData), ["good"], "{route}");
    let status = running.pool.status();
    status.upstreams.into_iter().find(|upstream| upstream.name == "bad").unwrap().last_error.unwrap()
}

#[tokio::test]
async fn what_is_no_beacon_node_is_told_so() {
    let genesis = "GET /eth/v1/beacon/genesis";
    let said = beside_a_good_one(genesis, Answer::status(404)).await;
    assert!(said.contains("answered 404 to /eth/v1/beacon/genesis; "), "{said}");
    let said = beside_a_good_one(genesis, Answer::json("<html>")).await;
    assert!(said.contains("is not what the Beacon API says; is this a beacon node?"), "{said}");
    let said = beside_a_good_one(genesis, Answer::status(301)).await;
    assert!(said.contains("the address redirects"), "{said}");
    let said = beside_a_good_one(genesis, Answer::status(401)).await;
    assert!(said.contains("check the user, password or token"), "{said}");
    let said = beside_a_good_one("GET /eth/v1/config/spec", Answer::json(r#"{"data":[]}"#)).await;
    assert!(said.contains("/eth/v1/config/spec is not what"), "{said}");
}

#[tokio::test]
async fn broken_answers_are_told_as_such() {
    let route = "GET /eth/v1/beacon/genesis";
    let said = beside_a_good_one(route, Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":")).await;
    assert!(said.contains("broke before the answer was complete"), "closes mid-body: {said}");
    let said = beside_a_good_one(route, Answer::raw("SSH-2.0-OpenSSH_9.2\r\n")).await;
    assert!(said.contains("broke before the answer was complete"), "not HTTP: {said}");
    let huge = format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(200_000));
    let said = beside_a_good_one(route, Answer::raw(huge)).await;
    assert!(said.contains("broke before the answer was complete"), "oversized head: {said}");
    let said = beside_a_good_one(route, Answer::json(" ".repeat(1_000_000))).await;
    assert!(said.contains("longer than"), "{said}");
    let said = beside_a_good_one(route, Answer::hang_up()).await;
    assert!(said.contains("broke before") || said.contains("no connection"), "{said}");
}

#[tokio::test]
async fn nonsense_on_probes_puts_a_node_out() {
    let said = beside_a_good_one("GET /eth/v1/node/syncing", Answer::json(r#"{"data":{"head_slot":-1}}"#)).await;
    assert!(said.contains("/eth/v1/node/syncing is not what"), "{said}");
    let said = beside_a_good_one("GET /eth/v1/node/syncing", Answer::status(503)).await;
    assert!(said.contains("answered 503") && said.contains("starting or syncing"), "{said}");
}

#[tokio::test]
async fn an_http_1_0_node_is_used() {
    let chain = Chain::aged(1000);
    let node = ScriptedNode::start("old", "Nimbus/v25", &chain).await;
    let body = format!(r#"{{"data":{{"head_slot":"{}","sync_distance":"0","is_syncing":false}}}}"#, chain.slot());
    node.answer("GET /eth/v1/node/syncing", Answer::raw(format!("HTTP/1.0 200 OK\r\n\r\n{body}")));
    let running = start(config(vec![named("old", &node)])).await;
    running.until("used", |view| !view.candidates(EndpointClass::AttestationData).is_empty()).await;
}

#[tokio::test]
async fn unusable_configurations_are_refused_at_start() {
    let environment = || holdfast_beacon::Environment {
        clock: std::sync::Arc::new(super::SystemClock),
        sink: std::sync::Arc::new(holdfast_beacon::NoSink),
        metrics: holdfast_beacon::Metrics::default(),
        tasks: holdfast_beacon::Tasks::new(),
        tracer: holdfast_traces::Tracer::off(),
    };
    let refused = |config| async { holdfast_beacon::Pool::start(config, environment()).await.unwrap_err() };
    assert!(matches!(refused(config(Vec::new())).await, PoolError::Empty));
    let one = UpstreamConfig::from_url("http://127.0.0.1:1").unwrap();
    let error = refused(config(vec![one.clone(), one.clone()])).await;
    assert!(matches!(error, PoolError::Upstream { .. }), "{error:?}");
    let mut tls = UpstreamConfig::from_url("https://127.0.0.1:1").unwrap();
    tls.tls.own_ca_pem = b"not a certificate".to_vec();
    assert!(matches!(refused(config(vec![tls])).await, PoolError::Upstream { .. }));
    for url in ["127.0.0.1:5052", "http://", "ws://node", "http://node:70000"] {
        assert!(UpstreamConfig::from_url(url).is_err(), "{url}");
    }
}
