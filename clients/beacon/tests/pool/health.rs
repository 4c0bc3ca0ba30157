//! Nodes that die, hang, slow down, fall behind, and come back.

use std::time::Duration;

use holdfast_beacon::{
    ChangeKind, DecisionKind, EndpointClass, ExpectedNetwork, HealthTier, PoolConfig, ReplayGate, UpstreamRequest,
};
use holdfast_domain::GenesisValidatorsRoot;
use tokio::time::Instant;

use super::scripted::{Answer, Chain, ScriptedNode, Sync};
use super::{config, named, names, start, tier, two};

const VOTE: EndpointClass = EndpointClass::AttestationData;

#[tokio::test]
async fn it_starts_with_nobody_there_and_takes_nodes_in_as_they_come() {
    let chain = Chain::aged(1000);
    let mut node = ScriptedNode::start("a", "Nimbus/v25", &chain).await;
    node.kill().await;
    let mut settings = config(vec![named("a", &node)]);
    settings.probing.start_wait = Duration::from_millis(100);
    let running = start(settings).await;
    assert!(running.pool.network().is_none() && running.candidates(VOTE).is_empty());
    let status = running.pool.status();
    assert!(status.upstreams[0].last_error.as_ref().unwrap().contains("no connection"), "{status:?}");
    node.revive().await;
    running.until("taken in", |view| !view.candidates(VOTE).is_empty()).await;
    assert_eq!(running.pool.network().unwrap().genesis().genesis_validators_root, GenesisValidatorsRoot([0x4b; 32]));
    assert_eq!(running.journal.of(DecisionKind::Joined).len(), 1);
}

#[tokio::test]
async fn a_node_of_another_network_is_named_and_never_used() {
    let chain = Chain::aged(1000);
    let a = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let b = ScriptedNode::start("b", "teku/v25", &chain).await;
    let foreign = ScriptedNode::start("x", "Prysm/v7", &Chain { id: 0x77, ..chain.clone() }).await;
    let odd = ScriptedNode::start("y", "Nimbus/v25", &Chain { seconds_per_slot: 6, ..chain.clone() }).await;
    let all = vec![named("x", &foreign), named("y", &odd), named("a", &a), named("b", &b)];
    let running = start(config(all)).await;
    let view = running.until("two good", |view| view.candidates(VOTE).len() == 2).await;
    for class in EndpointClass::ALL {
        let candidates = names(&view.candidates(class));
        assert!(!candidates.contains(&"x".to_owned()) && !candidates.contains(&"y".to_owned()), "{class:?}");
    }
    let status = running.pool.status();
    let of = |name: &str| status.upstreams.iter().find(|upstream| upstream.name == name).unwrap();
    assert!(of("x").differences[0].contains("genesis_validators_root"), "{:?}", of("x"));
    assert!(of("y").differences[0].contains("SLOT_DURATION_MS is 12000 here and 6000 there"), "{:?}", of("y"));
    assert_eq!(running.journal.of(DecisionKind::Incompatible).len(), 2);
}

#[tokio::test]
async fn the_expected_network_goes_before_the_vote() {
    let chain = Chain::aged(1000);
    let a = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let b = ScriptedNode::start("b", "teku/v25", &chain).await;
    let ours = ScriptedNode::start("c", "Prysm/v7", &Chain { id: 0x77, ..chain.clone() }).await;
    let expected = ExpectedNetwork {
        genesis_validators_root: Some(GenesisValidatorsRoot([0x77; 32])),
        genesis_fork_version: None,
    };
    let upstreams = vec![named("a", &a), named("b", &b), named("c", &ours)];
    let running = start(PoolConfig { expected: Some(expected), ..config(upstreams) }).await;
    let view = running.until("one", |view| !view.candidates(VOTE).is_empty()).await;
    assert_eq!(names(&view.candidates(VOTE)), ["c"]);
}

#[tokio::test]
async fn a_failed_call_moves_duties_at_once_without_waiting_for_a_probe() {
    let chain = Chain::aged(1000);
    let mut a = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let b = ScriptedNode::start("b", "teku/v25", &chain).await;
    let mut settings = config(vec![named("a", &a), named("b", &b)]);
    settings.probing.interval = Duration::from_hours(1);
    let running = start(settings).await;
    let view = running.until("both", |view| view.candidates(VOTE).len() == 2).await;
    assert_eq!(names(&view.candidates(VOTE)), ["a", "b"]);
    a.kill().await;
    let request = UpstreamRequest::get_json("/eth/v1/node/version".parse().unwrap(), VOTE);
    let first = view.candidates(VOTE).swap_remove(0);
    assert!(first.upstream.call(request, Instant::now() + Duration::from_secs(5)).await.is_err());
    let view = running.until("b first", |view| names(&view.candidates(VOTE)) == ["b", "a"]).await;
    assert_eq!(tier(&view, "a"), Some(HealthTier::Impaired));
    let reasons = running.journal.of(DecisionKind::Switched);
    assert!(reasons.iter().any(|reason| reason.contains("b after a") && reason.contains("failure")), "{reasons:?}");
}

#[tokio::test]
async fn a_hung_node_is_out_after_two_probes_and_asked_for_its_network_when_it_is_back() {
    let (a, _b, running) = two().await;
    let mut changes = running.pool.changes();
    let asked = a.seen("GET /eth/v1/beacon/genesis").len();
    a.hang();
    let view = running.until("a is down", |view| tier(view, "a") == Some(HealthTier::Down)).await;
    assert_eq!(names(&view.candidates(VOTE)), ["b", "a"], "last of all");
    assert_eq!(names(&view.everyone(VOTE)), ["b"]);
    a.unhang();
    a.wait_seen("GET /eth/v1/beacon/genesis", asked + 1).await;
    let view = running.until("a is back", |view| tier(view, "a") > Some(HealthTier::Down)).await;
    assert_eq!(tier(&view, "a"), Some(HealthTier::LastResort), "not trusted at once");
    assert_eq!(names(&view.candidates(VOTE)), ["b", "a"]);
    let mut kinds = Vec::new();
    while let Ok(change) = changes.try_recv() {
        kinds.push(change.kind);
    }
    assert!(kinds.contains(&ChangeKind::Left) && kinds.contains(&ChangeKind::Rejoined), "{kinds:?}");
}

#[tokio::test]
async fn a_node_that_comes_back_on_another_network_is_not_used_again() {
    let (mut a, _b, running) = two().await;
    a.kill().await;
    running.until("a is down", |view| tier(view, "a") == Some(HealthTier::Down)).await;
    let genesis = format!(
        r#"{{"data":{{"genesis_time":"{}","genesis_validators_root":"0x{}","genesis_fork_version":"0x10000042"}}}}"#,
        a.chain().genesis_time,
        "99".repeat(32)
    );
    a.answer("GET /eth/v1/beacon/genesis", Answer::json(genesis));
    a.revive().await;
    let view = running.until("a is excluded", |view| tier(view, "a") == Some(HealthTier::Excluded)).await;
    assert_eq!(names(&view.candidates(VOTE)), ["b"]);
    let said = running.journal.of(DecisionKind::Incompatible);
    assert!(said.len() == 1 && said[0].contains("genesis_validators_root is 0x4b4b"), "{said:?}");
}

#[tokio::test]
async fn nodes_that_restart_with_another_fork_to_come_take_it_along() {
    let (mut a, mut b, running) = two().await;
    let fork = || running.pool.network().unwrap().spec().number("GLOAS_FORK_EPOCH");
    assert_ne!(fork(), Some(900));
    for (name, node) in [("a", &mut a), ("b", &mut b)] {
        let mut spec = super::scripted::get(node.address(), "/eth/v1/config/spec").await.json();
        spec["data"]["GLOAS_FORK_EPOCH"] = "900".into();
        node.kill().await;
        running.until("it is down", |view| tier(view, name) == Some(HealthTier::Down)).await;
        node.answer("GET /eth/v1/config/spec", Answer::json(spec.to_string()));
        node.revive().await;
        running.until("it is back", |view| tier(view, name) > Some(HealthTier::Down) && fork() == Some(900)).await;
    }
    let of = |kind| running.journal.of(kind).len();
    assert_eq!((of(DecisionKind::ScheduleChanged), of(DecisionKind::Incompatible)), (1, 0));
}

#[tokio::test]
async fn a_slow_node_is_out_after_two_probes() {
    let (a, _b, running) = two().await;
    let healthy = format!(
        r#"{{"data":{{"head_slot":"{}","sync_distance":"0","is_syncing":false,"is_optimistic":false,"el_offline":false}}}}"#,
        a.chain().slot()
    );
    a.answer("GET /eth/v1/node/syncing", Answer::json(healthy).after(Duration::from_millis(600)));
    a.clear_seen();
    let view = running.until("a is out", |view| tier(view, "a") <= Some(HealthTier::LastResort)).await;
    assert_eq!(names(&view.candidates(VOTE)), ["b", "a"]);
    assert!(a.seen("GET /eth/v1/node/syncing").len() <= 3, "two probes, and perhaps the next on its way");
}

#[tokio::test]
async fn an_optimistic_node_serves_no_duty_and_an_offline_execution_client_no_block() {
    let (a, _b, running) = two().await;
    a.set_sync(Sync { is_optimistic: true, ..Sync::default() });
    let view = running.until("a is optimistic", |view| tier(view, "a") == Some(HealthTier::LastResort)).await;
    for class in [VOTE, EndpointClass::Duty, EndpointClass::Produce, EndpointClass::Aggregate] {
        assert_eq!(names(&view.candidates(class)), ["b"], "{class:?}");
    }
    assert_eq!(names(&view.candidates(EndpointClass::Submit)), ["b", "a"]);
    a.set_sync(Sync { el_offline: true, ..Sync::default() });
    let offline = |view: &holdfast_beacon::PoolView| names(&view.candidates(VOTE)) == ["b", "a"];
    let view = running.until("a has no execution client", offline).await;
    assert_eq!(names(&view.candidates(EndpointClass::Produce)), ["b"]);
}

#[tokio::test]
async fn a_node_behind_the_pool_is_put_out_by_how_far() {
    let (a, _b, running) = two().await;
    for (behind, expected) in
        [(3, HealthTier::Impaired), (7, HealthTier::Behind), (12, HealthTier::FarBehind), (40, HealthTier::LastResort)]
    {
        a.set_sync(Sync { behind, ..Sync::default() });
        running.until(&format!("{behind} behind"), |view| tier(view, "a") == Some(expected)).await;
    }
    assert_eq!(running.candidates(VOTE), ["b"]);
}

#[tokio::test]
async fn promotion_waits_for_the_replay() {
    let chain = Chain::aged(1000);
    let a = ScriptedNode::start("a", "Lighthouse/v8", &chain).await;
    let running = start(PoolConfig { replay: ReplayGate::Wait, ..config(vec![named("a", &a)]) }).await;
    running.until("good", |view| tier(view, "a") == Some(HealthTier::Good)).await;
    a.hang();
    running.until("down", |view| tier(view, "a") == Some(HealthTier::Down)).await;
    a.unhang();
    running.until("back", |view| tier(view, "a") == Some(HealthTier::LastResort)).await;
    assert_eq!(running.pool.status().upstreams[0].waiting_for, Some("replay of subscriptions"));
    let id = running.pool.view().nodes()[0].id();
    running.pool.replayed(id);
    assert_ne!(running.pool.status().upstreams[0].waiting_for, Some("replay of subscriptions"));
    assert_eq!(running.candidates(VOTE), ["a"], "the only node there is serves");
}

#[tokio::test]
async fn a_quick_restart_is_noticed_by_its_connection() {
    let (a, _b, running) = two().await;
    let mut changes = running.pool.changes();
    a.cut_connections();
    let restarted = async { while changes.recv().await.unwrap().kind != ChangeKind::Restarted {} };
    tokio::time::timeout(super::PATIENCE, restarted).await.expect("the restart is noticed");
}
