//! Nodes are added, drained, preferred and removed while clients use the pool.

use std::sync::Arc;

use holdfast_beacon::execution::{ExecutionMetrics, ExecutionPool};
use holdfast_beacon::{Policy, PoolError, PriorityTier};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::execution_nodes::{
    EventNode, Serving, ask, client, exchange, http_node, measured, named, next_text, pool, raw, replies, serving,
    times_called, until, wait_called,
};
use super::scripted::{Gate, ScriptedNode};
use super::{call, subscribe};

/// A node whose every answer is its name.
async fn who(name: &'static str) -> ScriptedNode {
    http_node(move |method| match method {
        "eth_newFilter" => raw("\"0x1\""),
        _ => raw(&format!("\"{name}\"")),
    })
    .await
}

async fn reader(server: &Serving) -> String {
    ask(server.address, &call("eth_call")).await["result"].as_str().unwrap().to_owned()
}

fn kinds(pool: &ExecutionPool) -> Vec<(String, Option<String>)> {
    let decisions = pool.status().decisions;
    decisions.into_iter().rev().map(|decision| (decision.kind.to_owned(), decision.upstream)).collect()
}

fn changes(answer: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getFilterChanges", "params": [answer["result"]] })
}

#[tokio::test]
async fn a_node_is_added_and_serves_at_once_if_it_is_fit() {
    let (a, b, elsewhere) = (who("a").await, who("b").await, http_node(|_| raw("\"0x5\"")).await);
    let pool = pool(vec![named("a", &a)], Policy::RoundRobin).await;
    let server = serving(Arc::clone(&pool)).await;
    assert_eq!(reader(&server).await, "a");
    pool.add(named("b", &b)).unwrap();
    pool.add(named("elsewhere", &elsewhere)).unwrap();
    until(&pool, "b", |node| node.health == "healthy").await;
    until(&pool, "elsewhere", |node| node.health == "other_chain").await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(reader(&server).await);
    }
    readers.sort();
    assert_eq!(readers, ["a", "a", "b", "b"], "they take turns");
    let taken = pool.add(named("b", &a)).unwrap_err();
    assert!(matches!(taken, PoolError::Upstream { .. }), "{taken:?}");
    let kinds = kinds(&pool);
    for (kind, name) in [("added", "b"), ("joined", "b"), ("incompatible", "elsewhere")] {
        assert!(kinds.contains(&(kind.to_owned(), Some(name.to_owned()))), "{kind} {name} is not in {kinds:?}");
    }
}

#[tokio::test]
async fn a_drained_node_finishes_what_it_has_and_is_asked_nothing_new() {
    let (gate, a, b) = (Gate::closed(), who("a").await, who("b").await);
    let held = gate.clone();
    a.script("POST /", move |seen| {
        let answer = replies(seen, &|method: &str| match method {
            "eth_newFilter" => raw("\"0x1\""),
            _ => raw("\"a\""),
        });
        // A range of logs is a read like any other; here it is the one that takes long.
        if seen.text().contains("eth_getLogs") { answer.held_by(&held) } else { answer }
    });
    let metrics = ExecutionMetrics::default();
    let pool = measured(vec![named("a", &a), named("b", &b)], Policy::BestFirst, metrics.clone()).await;
    let server = serving(Arc::clone(&pool)).await;
    let address = server.address;
    let filter = ask(address, &call("eth_newFilter")).await;
    assert_eq!(ask(address, &changes(&filter)).await["result"], "a");
    // Another node would be asked beside it after a while; it has nothing to say about logs before the gate opens.
    b.script("POST /", {
        let held = gate.clone();
        move |seen| {
            let answer = replies(seen, &|_: &str| raw("\"b\""));
            if seen.text().contains("eth_getLogs") { answer.held_by(&held) } else { answer }
        }
    });
    let long = tokio::spawn(async move { ask(address, &call("eth_getLogs")).await });
    wait_called(&a, "eth_getLogs").await;

    pool.drain("a").unwrap();
    pool.drain("a").unwrap();
    let status = until(&pool, "a", |node| node.drained).await;
    assert_eq!((status.in_flight, status.health), (1, "healthy"), "it still works for whom it has");
    let asked = times_called(&a, "eth_call");
    for _ in 0..5 {
        assert_eq!(reader(&server).await, "b");
    }
    assert_eq!(times_called(&a, "eth_call"), asked);
    assert_eq!(ask(address, &changes(&filter)).await["error"]["message"], "filter not found");
    assert_eq!(ask(address, &call("eth_sendRawTransaction")).await["result"], "b");
    assert_eq!(times_called(&a, "eth_sendRawTransaction"), 0);
    gate.open();
    let answer = long.await.unwrap();
    assert!(answer["result"] == "a" || answer["result"] == "b", "{answer}");
    until(&pool, "a", |node| node.in_flight == 0).await;

    pool.undrain("a").unwrap();
    assert_eq!(reader(&server).await, "a");
    assert_eq!(ask(address, &changes(&filter)).await["error"]["message"], "filter not found", "for good");
    let told: Vec<_> = kinds(&pool).into_iter().filter(|(kind, _)| kind.ends_with("drained")).collect();
    let a = || Some("a".to_owned());
    assert_eq!(told, [("drained".to_owned(), a()), ("undrained".to_owned(), a())], "each said once");
    let switched: Vec<_> = kinds(&pool).into_iter().filter(|(kind, _)| kind == "switched").collect();
    assert_eq!(switched, [("switched".to_owned(), Some("b".to_owned())), ("switched".to_owned(), a())]);
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"holdfast_execution_decisions_total{kind="drained"} 1"#,
        r#"holdfast_execution_decisions_total{kind="switched"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_removed_node_finishes_what_it_has_and_the_last_one_stays() {
    let (gate, a, b) = (Gate::closed(), who("a").await, who("b").await);
    let held = gate.clone();
    a.script("POST /", move |seen| {
        let answer = replies(seen, &|_: &str| raw("\"a\""));
        // What is asked of one node only, so that no other can answer instead.
        if seen.text().contains("eth_getFilterLogs") { answer.held_by(&held) } else { answer }
    });
    let pool = pool(vec![named("a", &a), named("b", &b)], Policy::BestFirst).await;
    let server = serving(Arc::clone(&pool)).await;
    let address = server.address;
    let filter = ask(address, &call("eth_newFilter")).await;
    let logs = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getFilterLogs", "params": [filter["result"]] });
    let long = tokio::spawn(async move { ask(address, &logs).await });
    wait_called(&a, "eth_getFilterLogs").await;
    pool.remove("a").unwrap();
    assert_eq!(reader(&server).await, "b");
    assert_eq!(ask(address, &changes(&filter)).await["error"]["message"], "filter not found");
    gate.open();
    assert_eq!(long.await.unwrap()["result"], "a", "what was in progress is finished");
    assert_eq!(pool.status().nodes.len(), 1);
    assert!(matches!(pool.remove("a"), Err(PoolError::Unknown(name)) if name == "a"));
    assert!(matches!(pool.drain("a"), Err(PoolError::Unknown(_))));
    assert!(matches!(pool.prefer(Some("a")), Err(PoolError::Unknown(_))));
    assert!(matches!(pool.remove("b"), Err(PoolError::Last(name)) if name.as_str() == "b"));
    assert_eq!(reader(&server).await, "b");
    pool.add(named("a", &a)).unwrap();
    until(&pool, "a", |node| node.health == "healthy").await;
    assert_eq!(ask(address, &changes(&filter)).await["error"]["message"], "filter not found", "another node by now");
}

#[tokio::test]
async fn the_preferred_node_comes_before_its_tier_but_not_before_health() {
    let (a, mut b) = (who("a").await, who("b").await);
    let mut spare = named("b", &b);
    spare.upstream.tier = PriorityTier(1);
    let pool = pool(vec![named("a", &a), spare], Policy::RoundRobin).await;
    let server = serving(Arc::clone(&pool)).await;
    for _ in 0..3 {
        assert_eq!(reader(&server).await, "a", "the spare waits");
    }
    pool.prefer(Some("b")).unwrap();
    for _ in 0..3 {
        assert_eq!(reader(&server).await, "b");
    }
    assert!(until(&pool, "b", |node| node.preferred).await.priority == 1);
    b.kill().await;
    assert_eq!(reader(&server).await, "a", "a read does not fail with it");
    until(&pool, "b", |node| node.health == "down" && node.last_error.is_some()).await;
    pool.prefer(None).unwrap();
    assert_eq!(reader(&server).await, "a");
    let preferred: Vec<_> = kinds(&pool).into_iter().filter(|(kind, _)| kind == "preferred").collect();
    assert_eq!(preferred, [("preferred".to_owned(), Some("b".to_owned())), ("preferred".to_owned(), None)]);
}

#[tokio::test]
async fn subscriptions_move_when_their_node_is_drained_or_removed() {
    let (a, b) = (who("a").await, who("b").await);
    let (a_events, b_events) = (EventNode::start().await, EventNode::start().await);
    let nodes = vec![a_events.next_to(named("a", &a)), b_events.next_to(named("b", &b))];
    let pool = pool(nodes, Policy::BestFirst).await;
    let server = serving(Arc::clone(&pool)).await;
    let mut socket = client(server.address).await;
    let id = exchange(&mut socket, &subscribe(1)).await["result"].clone();
    assert_eq!(a_events.subscribed().await, json!(["newHeads"]));
    pool.drain("a").unwrap();
    assert_eq!(b_events.subscribed().await, json!(["newHeads"]), "the other node takes over");
    b_events.notify("\"two\"");
    let told = next_text(&mut socket).await;
    assert_eq!((&told["params"]["subscription"], &told["params"]["result"]), (&id, &json!("two")));
    pool.undrain("a").unwrap();
    pool.remove("b").unwrap();
    assert_eq!(a_events.subscribed().await, json!(["newHeads"]), "and back");
    a_events.notify("\"three\"");
    assert_eq!(next_text(&mut socket).await["params"]["result"], "three");
}

#[tokio::test]
async fn a_drained_node_keeps_the_subscriptions_nobody_else_can_take() {
    let (a, b) = (who("a").await, who("b").await);
    let (a_events, b_events) = (EventNode::start().await, EventNode::start().await);
    let pool = pool(vec![a_events.next_to(named("a", &a))], Policy::BestFirst).await;
    let server = serving(Arc::clone(&pool)).await;
    let mut socket = client(server.address).await;
    assert!(exchange(&mut socket, &subscribe(1)).await["result"].is_string());
    assert_eq!(a_events.subscribed().await, json!(["newHeads"]));
    pool.drain("a").unwrap();
    let refused = exchange(&mut socket, &subscribe(2)).await;
    assert!(refused["error"]["message"].as_str().unwrap().contains("drained"), "nothing is added: {refused}");
    a_events.notify("\"one\"");
    assert_eq!(next_text(&mut socket).await["params"]["result"], "one");
    pool.add(b_events.next_to(named("b", &b))).unwrap();
    assert_eq!(b_events.subscribed().await, json!(["newHeads"]), "until somebody can");
    b_events.notify("\"two\"");
    assert_eq!(next_text(&mut socket).await["params"]["result"], "two");
}
