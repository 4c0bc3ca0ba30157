//! Proves: the scripted node does to a client what tests of the switcher rely on.
#![allow(clippy::disallowed_methods, reason = "the tasks belong to the test")]

mod scripted;

use scripted::{Answer, Body, Chain, Gate, ScriptedNode, event_stream, get, request, send};

async fn node() -> ScriptedNode {
    ScriptedNode::start("a", "Lighthouse/v8.0.0", &Chain::aged(1000)).await
}

#[tokio::test]
async fn a_healthy_node_follows_its_chain() {
    let node = node().await;
    let genesis = get(node.address(), "/eth/v1/beacon/genesis").await;
    assert_eq!(genesis.json()["data"]["genesis_validators_root"], node.chain().genesis_root());
    let syncing = get(node.address(), "/eth/v1/node/syncing").await.json();
    let head: u64 = syncing["data"]["head_slot"].as_str().unwrap().parse().unwrap();
    assert!((1000..1010).contains(&head), "{head}");
    assert_eq!(node.seen("GET /eth/v1/node/*").len(), 1);
}

#[tokio::test]
async fn a_gate_holds_an_answer_and_requests_are_recorded_before() {
    let node = node().await;
    let gate = Gate::closed();
    node.answer("POST /eth/v1/thing", Answer::json("{}").held_by(&gate));
    let address = node.address();
    let asked =
        tokio::spawn(async move { request(address, "POST", "/eth/v1/thing?a=b", &[("x-y", "z")], b"body").await });
    let seen = node.wait_seen("POST /eth/v1/thing", 1).await;
    assert_eq!((seen[0].text().as_str(), seen[0].query.as_str(), seen[0].header("x-y")), ("body", "a=b", Some("z")));
    assert!(!asked.is_finished());
    gate.open();
    assert_eq!(asked.await.unwrap().status, 200);
}

#[tokio::test]
async fn bodies_break_as_scripted() {
    let node = node().await;
    for answer in [
        Answer::ok().body(Body::Truncated { claimed: 100, sent: b"abc".to_vec() }),
        Answer::ok().body(Body::TruncatedChunks(b"abc".to_vec())),
        Answer::hang_up(),
    ] {
        node.answer("GET /broken", answer);
        assert!(send(node.address(), "GET", "/broken", &[], b"").await.is_none());
    }
    node.answer("GET /big", Answer::chunks(3, 1000, None));
    assert_eq!(get(node.address(), "/big").await.body.len(), 3000);
    node.answer("GET /old", Answer::raw("HTTP/1.0 200 OK\r\n\r\nold"));
    assert_eq!(get(node.address(), "/old").await.body, b"old");
}

#[tokio::test]
async fn events_reach_those_who_asked_for_the_topic() {
    let node = node().await;
    let mut head = event_stream(node.address(), "head&topics=block").await;
    let mut exits = event_stream(node.address(), "voluntary_exit").await;
    node.wait_streams(2).await;
    node.event("head", "{1}");
    node.event("voluntary_exit", "{2}");
    assert_eq!(head.next().await, Some(("head".to_owned(), "{1}".to_owned())));
    assert_eq!(exits.next().await, Some(("voluntary_exit".to_owned(), "{2}".to_owned())));
    drop(exits);
    node.wait_streams(1).await;
}

#[tokio::test]
async fn it_dies_and_comes_back_on_the_same_address() {
    let mut node = node().await;
    let mut stream = event_stream(node.address(), "head").await;
    node.kill().await;
    assert_eq!(stream.next().await, None);
    assert!(tokio::net::TcpStream::connect(node.address()).await.is_err());
    node.revive().await;
    assert_eq!(get(node.address(), "/eth/v1/node/health").await.status, 200);
}
