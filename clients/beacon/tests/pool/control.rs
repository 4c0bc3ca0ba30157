//! What an operator changes while the pool runs, and how the choice among equal nodes is made.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use holdfast_beacon::{
    Balancing, DecisionKind, EndpointClass, HealthTier, Policy, PoolConfig, PoolError, PriorityTier, Resolve, Weight,
};
use holdfast_domain::Epoch;

use super::scripted::{Chain, ScriptedNode};
use super::{Running, config, named, names, start, tier, two};

const VOTE: EndpointClass = EndpointClass::AttestationData;

#[tokio::test]
async fn drained_nodes_are_asked_nothing_and_come_back_slowly() {
    let (_a, _b, running) = two().await;
    running.pool.drain("a").unwrap();
    let view = running.pool.view();
    for class in EndpointClass::ALL {
        assert!(!names(&view.candidates(class)).contains(&"a".to_owned()), "{class:?}");
        assert!(!names(&view.everyone(class)).contains(&"a".to_owned()), "{class:?}");
    }
    running.pool.drain("a").unwrap();
    assert_eq!(running.journal.of(DecisionKind::Drained).len(), 1, "said once");
    running.pool.undrain("a").unwrap();
    assert_eq!(running.candidates(VOTE), ["b", "a"]);
    assert_eq!(tier(&running.pool.view(), "a"), Some(HealthTier::LastResort));
    assert!(matches!(running.pool.drain("nobody"), Err(PoolError::Unknown(name)) if name == "nobody"));
}

#[tokio::test]
async fn nodes_are_added_and_removed_while_it_runs() {
    let (a, _b, running) = two().await;
    let c = ScriptedNode::start("c", "Prysm/v7", a.chain()).await;
    running.pool.add(named("c", &c)).unwrap();
    let error = running.pool.add(named("c", &c)).unwrap_err();
    assert!(matches!(error, PoolError::Upstream { .. }), "{error:?}");
    let view = running.until("c answers", |view| view.candidates(VOTE).len() == 3).await;
    assert_eq!(tier(&view, "c"), Some(HealthTier::LastResort), "it has to prove itself");
    running.pool.remove("a").unwrap();
    assert_eq!(running.candidates(VOTE), ["b", "c"]);
    assert!(matches!(running.pool.remove("a"), Err(PoolError::Unknown(_))));
    running.pool.remove("b").unwrap();
    assert!(matches!(running.pool.remove("c"), Err(PoolError::Last(_))));
    assert_eq!(running.candidates(VOTE), ["c"]);
    let switched = running.journal.of(DecisionKind::Switched);
    assert!(switched.iter().any(|reason| reason.contains("it was removed")), "{switched:?}");
    assert_eq!(
        (running.journal.of(DecisionKind::Added).len(), running.journal.of(DecisionKind::Removed).len()),
        (1, 2)
    );
}

#[tokio::test]
async fn the_preferred_node_comes_first_and_the_choice_is_taken_back() {
    let (_a, _b, running) = two().await;
    assert_eq!(running.candidates(VOTE), ["a", "b"]);
    running.pool.prefer(Some("b")).unwrap();
    assert_eq!(running.candidates(VOTE), ["b", "a"]);
    running.pool.prefer(None).unwrap();
    assert_eq!(running.candidates(VOTE), ["b", "a"], "whoever serves stays");
    assert_eq!(running.journal.of(DecisionKind::Preferred).len(), 2);
    assert!(running.pool.status().serving[VOTE.as_str()].starts_with(&["b".to_owned()]));
}

#[tokio::test]
async fn spares_serve_when_the_others_are_gone() {
    let chain = Chain::aged(1000);
    let mut a = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let b = ScriptedNode::start("b", "teku/v25", &chain).await;
    let mut spare = named("b", &b);
    spare.tier = PriorityTier(1);
    let running = start(config(vec![spare, named("a", &a)])).await;
    running.until("a first", |view| names(&view.candidates(VOTE)) == ["a", "b"]).await;
    a.kill().await;
    running.until("b first", |view| names(&view.candidates(VOTE)) == ["b", "a"]).await;
}

async fn balanced(policy: Policy, weights: [u16; 2]) -> (ScriptedNode, ScriptedNode, Running) {
    let chain = Chain::aged(1000);
    let a = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let b = ScriptedNode::start("b", "teku/v25", &chain).await;
    let mut upstreams = vec![named("a", &a), named("b", &b)];
    for (upstream, weight) in upstreams.iter_mut().zip(weights) {
        upstream.weight = Weight(NonZeroU16::new(weight).unwrap());
    }
    let balancing = Balancing { default: policy, ..Balancing::default() };
    let running = start(PoolConfig { balancing, ..config(upstreams) }).await;
    let good =
        |view: &holdfast_beacon::PoolView| ["a", "b"].iter().all(|name| tier(view, name) == Some(HealthTier::Good));
    running.until("both good", good).await;
    (a, b, running)
}

/// Who is first, how often, in 400 calls of a class.
fn firsts(running: &Running, class: EndpointClass) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(running.candidates(class).swap_remove(0)).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn turns_follow_the_policy() {
    let (_a, _b, running) = balanced(Policy::Weighted, [3, 1]).await;
    let counts = firsts(&running, EndpointClass::Read);
    assert_eq!((counts["a"], counts["b"]), (300, 100));
    let (_a, _b, running) = balanced(Policy::RoundRobin, [3, 1]).await;
    let counts = firsts(&running, EndpointClass::Read);
    assert_eq!((counts["a"], counts["b"]), (200, 200));
    let (_a, _b, running) = balanced(Policy::BestFirst, [1, 3]).await;
    assert_eq!(firsts(&running, EndpointClass::Read)["b"], 400, "the weight decides who starts");
}

#[tokio::test]
async fn duties_of_an_epoch_stay_where_they_were_asked() {
    let (mut a, _b, running) = balanced(Policy::RoundRobin, [1, 1]).await;
    let ask = |epoch| names(&running.pool.view().sticky_candidates(EndpointClass::Duty, Epoch(epoch))).swap_remove(0);
    let first = ask(7);
    assert!((0..20).all(|_| ask(7) == first));
    let others: Vec<String> = (8..10).map(ask).collect();
    assert!(others.contains(&"a".to_owned()) && others.contains(&"b".to_owned()), "{others:?}");
    let epoch = if first == "a" { 7 } else { 8 + others.iter().position(|name| name == "a").unwrap() as u64 };
    a.kill().await;
    running.until("a is out", |view| tier(view, "a") <= Some(HealthTier::Down)).await;
    assert_eq!(ask(epoch), "b");
}

#[tokio::test]
async fn every_address_of_a_name_is_a_node() {
    let chain = Chain::aged(1000);
    let node = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let mut upstream = named("service", &node);
    upstream.url = format!("http://localhost:{}", node.address().port()).parse().unwrap();
    upstream.resolve = Resolve::EachAddress;
    let other = ScriptedNode::start("b", "teku/v25", &chain).await;
    let running = start(config(vec![upstream, named("b", &other)])).await;
    let name = format!("service/{}", node.address());
    running.until("found", |view| names(&view.candidates(VOTE)).contains(&name)).await;
    let host = node.wait_seen("GET /eth/v1/node/syncing", 1).await[0].header("host").unwrap().to_owned();
    assert!(host.starts_with("localhost:"), "the name is asked for, at this address: {host}");
    running.pool.remove("service").unwrap();
    assert_eq!(names(running.pool.view().nodes()), ["b"]);
    assert!(matches!(running.pool.remove("b"), Err(PoolError::Last(_))));
}
