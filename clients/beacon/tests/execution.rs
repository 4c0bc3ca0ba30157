//! The execution pool in front of scripted JSON-RPC servers: who is asked what, and what the client gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test: its tasks are its own, and a broken assumption must stop it"
)]

mod execution_nodes;
mod scripted;

use std::sync::Arc;
use std::time::Duration;

use execution_nodes::{EventNode, ask, exchange, http_node, node_config, pool, raw, serving};
use futures_util::StreamExt as _;
use holdfast_beacon::Policy;
use scripted::{Answer, request};
use serde_json::{Value, json};

fn call(method: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": [] })
}

#[tokio::test]
async fn reads_pass_through_untouched_and_batches_keep_their_order() {
    let node = http_node(|method| match method {
        "eth_call" => raw(r#"{"z":1.0,  "a":"0x00"}"#),
        _ => raw("\"0x2a\""),
    })
    .await;
    let server = serving(pool(vec![node_config(&node)], Policy::BestFirst).await).await;
    let body = r#"[{"jsonrpc":"2.0","id":"x","method":"eth_call","params":[{"to":"0x1"},"latest"]},
        {"jsonrpc":"2.0","id":2,"method":"admin_peers"},{"jsonrpc":"2.0","method":"eth_call"},
        {"jsonrpc":"2.0","id":1e1,"method":"eth_gasPrice"},7]"#;
    let answer = request(server.address, "POST", "/", &[("content-type", "application/json")], body.as_bytes()).await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let begin = r#"[{"jsonrpc":"2.0","id":"x","result":{"z":1.0,  "a":"0x00"}},{"jsonrpc":"2.0","id":2,"error":"#;
    assert!(text.starts_with(begin), "{text}");
    assert!(text.contains(r#"{"jsonrpc":"2.0","id":1e1,"result":"0x2a"}"#), "{text}");
    let answers = answer.json();
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|one| one["error"]["code"].as_i64()).collect();
    assert_eq!(codes, [None, Some(-32601), None, Some(-32600)], "{text}");
    let asked: Vec<String> = node.seen("POST /").iter().map(scripted::Seen::text).collect();
    assert!(asked.iter().any(|text| text.contains(r#""params":[{"to":"0x1"},"latest"]"#)), "{asked:?}");
    assert!(asked.iter().all(|text| !text.contains("admin_peers")), "{asked:?}");
}

#[tokio::test]
async fn nodes_that_are_behind_syncing_or_elsewhere_are_not_read() {
    let good = http_node(|_| raw("\"good\"")).await;
    let behind = http_node(|method| raw(if method == "eth_blockNumber" { "\"0x1\"" } else { "\"bad\"" })).await;
    let syncing = http_node(|method| raw(if method == "eth_syncing" { "{}" } else { "\"bad\"" })).await;
    let elsewhere = http_node(|method| raw(if method == "eth_chainId" { "\"0x5\"" } else { "\"bad\"" })).await;
    let alone = http_node(|method| raw(if method == "net_peerCount" { "\"0x0\"" } else { "\"bad\"" })).await;
    let twin = http_node(|_| raw("\"good\"")).await;
    let nodes = [&good, &behind, &syncing, &elsewhere, &alone, &twin].map(node_config).to_vec();
    let pool = pool(nodes, Policy::RoundRobin).await;
    let health: Vec<&str> = pool.status().nodes.iter().map(|node| node.health).collect();
    assert_eq!(health, ["healthy", "lagging", "syncing", "other_chain", "no_peers", "healthy"]);
    let server = serving(pool).await;
    for _ in 0..8 {
        assert_eq!(ask(server.address, &call("eth_call")).await["result"], "good");
    }
    let asked = |node| execution_nodes::times_called(node, "eth_call");
    assert_eq!((asked(&good), asked(&twin)), (4, 4));
}

#[tokio::test]
async fn a_transaction_goes_to_every_node_and_one_acceptance_is_enough() {
    let refusing = http_node(|method| match method {
        "eth_sendRawTransaction" => r#""error":{"code":-32000,"message":"nonce too low"}"#.to_owned(),
        _ => raw("\"0x2\""),
    })
    .await;
    let taking = http_node(|_| raw("\"0xhash\"")).await;
    let server = serving(pool(vec![node_config(&refusing), node_config(&taking)], Policy::BestFirst).await).await;
    assert_eq!(ask(server.address, &call("eth_sendRawTransaction")).await["result"], "0xhash");
    for node in [&refusing, &taking] {
        execution_nodes::wait_called(node, "eth_sendRawTransaction").await;
    }
    taking.answer("POST /", Answer::status(500));
    let refused = ask(server.address, &call("eth_sendRawTransaction")).await;
    assert_eq!(refused["error"]["message"], "nonce too low");
}

#[tokio::test]
async fn a_filter_stays_with_its_node() {
    let node = |name: &'static str| {
        http_node(move |method| match method {
            "eth_newFilter" => raw("\"0x1\""),
            "eth_getFilterChanges" => raw(&format!("[\"{name}\"]")),
            _ => raw("true"),
        })
    };
    let (mut first, second) = (node("first").await, node("second").await);
    let server = serving(pool(vec![node_config(&first), node_config(&second)], Policy::RoundRobin).await).await;
    let mut filters = Vec::new();
    for _ in 0..2 {
        let id = ask(server.address, &call("eth_newFilter")).await["result"].as_str().unwrap().to_owned();
        let changes = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getFilterChanges", "params": [id] });
        let owner = ask(server.address, &changes).await["result"][0].as_str().unwrap().to_owned();
        for _ in 0..3 {
            assert_eq!(ask(server.address, &changes).await["result"][0], *owner);
        }
        filters.push((owner, changes));
    }
    filters.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!((filters[0].0.as_str(), filters[1].0.as_str()), ("first", "second"), "each node has one");
    let asked = first.seen("POST /").iter().find(|seen| seen.text().contains("getFilterChanges")).unwrap().text();
    assert!(asked.contains(r#""params":["0x1"]"#), "{asked}");
    first.kill().await;
    assert_eq!(ask(server.address, &filters[0].1).await["error"]["message"], "filter not found");
    assert_eq!(ask(server.address, &filters[1].1).await["result"][0], "second");
}

#[tokio::test]
async fn a_node_that_hangs_or_breaks_does_not_fail_a_read() {
    let (bad, good) = (http_node(|_| raw("\"bad\"")).await, http_node(|_| raw("\"good\"")).await);
    let server = serving(pool(vec![node_config(&bad), node_config(&good)], Policy::BestFirst).await).await;
    assert_eq!(ask(server.address, &call("eth_call")).await["result"], "bad");
    for broken in [
        Answer::status(500),
        Answer::json("<html>"),
        Answer::json(r#"{"jsonrpc":"2.0","id":99,"result":"wrong id"}"#),
        Answer::hang_up(),
        Answer::never(),
    ] {
        bad.answer("POST /", broken.clone());
        assert_eq!(ask(server.address, &call("eth_call")).await["result"], "good", "{broken:?}");
    }
}

#[tokio::test]
async fn a_method_that_one_node_does_not_have_is_asked_of_the_other() {
    let without = http_node(|method| match method {
        "eth_special" => r#""error":{"code":-32601,"message":"no such method"}"#.to_owned(),
        _ => raw("\"0x2\""),
    })
    .await;
    let with = http_node(|_| raw("\"special\"")).await;
    let server = serving(pool(vec![node_config(&without), node_config(&with)], Policy::BestFirst).await).await;
    assert_eq!(ask(server.address, &call("eth_special")).await["result"], "special");
}

#[tokio::test]
async fn what_is_not_for_it_is_refused() {
    let node = http_node(|_| raw("\"0x1\"")).await;
    let pool = pool(vec![node_config(&node)], Policy::BestFirst).await;
    let server = serving(Arc::clone(&pool)).await;
    let json = ("content-type", "application/json");
    let body = call("eth_call").to_string();
    let status = |headers: Vec<(&'static str, &'static str)>, body: Vec<u8>| {
        let address = server.address;
        async move { request(address, "POST", "/", &headers, &body).await.status }
    };
    assert_eq!(status(vec![json], body.clone().into_bytes()).await, 200);
    assert_eq!(status(vec![("content-type", "text/plain")], body.clone().into_bytes()).await, 415);
    assert_eq!(status(vec![json], vec![b' '; 70_000]).await, 413);
    assert_eq!(status(vec![json], b"{}".to_vec()).await, 200);
    let text = request(server.address, "POST", "/", &[json], b"nonsense").await.text();
    assert!(text.contains("-32700"), "{text}");
    assert_eq!(request(server.address, "PUT", "/", &[], b"").await.status, 405);
    assert_eq!(request(server.address, "GET", "/", &[], b"").await.status, 200);
}

#[tokio::test]
async fn subscriptions_keep_their_id_when_their_node_is_lost() {
    let (first, second) = (http_node(|_| raw("\"0x1\"")).await, http_node(|_| raw("\"0x1\"")).await);
    let (first_events, second_events) = (EventNode::start().await, EventNode::start().await);
    let nodes = vec![first_events.beside(&first), second_events.beside(&second)];
    let server = serving(pool(nodes, Policy::BestFirst).await).await;
    let mut socket = execution_nodes::client(server.address).await;

    assert_eq!(exchange(&mut socket, &call("eth_call")).await["result"], "0x1", "calls work here, too");
    assert_eq!(exchange(&mut socket, &call("engine_x")).await["error"]["code"], -32601);
    let subscribe = json!({ "jsonrpc": "2.0", "id": 8, "method": "eth_subscribe", "params": ["newHeads"] });
    let id = exchange(&mut socket, &subscribe).await["result"].as_str().unwrap().to_owned();
    assert_eq!(first_events.subscribed().await, json!(["newHeads"]));
    first_events.notify("\"one\"");
    let told = execution_nodes::next_text(&mut socket).await;
    assert_eq!((&told["params"]["subscription"], &told["params"]["result"]), (&json!(id), &json!("one")));

    first_events.close();
    assert_eq!(second_events.subscribed().await, json!(["newHeads"]), "the other node takes over");
    second_events.notify("\"two\"");
    let told = execution_nodes::next_text(&mut socket).await;
    assert_eq!((&told["params"]["subscription"], &told["params"]["result"]), (&json!(id), &json!("two")));

    let end = json!({ "jsonrpc": "2.0", "id": 9, "method": "eth_unsubscribe", "params": [id] });
    assert_eq!(exchange(&mut socket, &end).await["result"], true);
    assert_eq!(exchange(&mut socket, &end).await["error"]["message"], "subscription not found");
    let closed = tokio::time::timeout(Duration::from_secs(20), async {
        server.tasks.stop(Duration::from_secs(5)).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                return true;
            }
        }
        false
    });
    assert!(closed.await.unwrap(), "the client is told that the server stops");
}
