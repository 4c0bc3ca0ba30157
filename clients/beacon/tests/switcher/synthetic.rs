//! What the switcher says about itself.

use holdfast_beacon::{Eligibility, EndpointClass, HealthTier, HysteresisPolicy};

use crate::scripted::Sync;
use crate::stage::{Setting, Stage, eventually};

/// What the switcher says: whether it is syncing, optimistic, without an execution client, and the status of its health.
async fn told(stage: &Stage) -> (bool, bool, bool, u16) {
    let syncing = stage.get("/eth/v1/node/syncing").await;
    assert_eq!(syncing.status, 200, "{}", syncing.text());
    let data = syncing.json()["data"].clone();
    let flag = |name: &str| data[name].as_bool().unwrap();
    let health = stage.get("/eth/v1/node/health").await.status;
    (flag("is_syncing"), flag("is_optimistic"), flag("el_offline"), health)
}

#[tokio::test]
async fn syncing_health_and_version_describe_the_pool() {
    let mut stage = Setting::of(&["Lighthouse/v8.0.0", "teku/v25.1.0"]).stage().await;
    let syncing = stage.get("/eth/v1/node/syncing").await.json();
    assert_eq!((&syncing["data"]["is_syncing"], &syncing["data"]["is_optimistic"]), (&false.into(), &false.into()));
    assert_eq!(stage.get("/eth/v1/node/health").await.status, 200);
    let version = stage.get("/eth/v1/node/version").await.json()["data"]["version"].as_str().unwrap().to_owned();
    assert!(version.starts_with("Holdfast/") && version.contains("a=Lighthouse/v8.0.0") && version.contains("b=teku"));
    let v2 = stage.get("/eth/v2/node/version").await.json();
    assert_eq!(v2["data"]["beacon_node"]["name"], "Holdfast");

    // One bad node changes nothing.
    stage.node("a").set_sync(Sync { is_optimistic: true, ..Sync::default() });
    stage.until("a", EndpointClass::AttestationData, Eligibility::No).await;
    assert_eq!(stage.get("/eth/v1/node/health").await.status, 200);
    assert_eq!(stage.get("/eth/v1/node/syncing").await.json()["data"]["is_optimistic"], false);

    // Both: told as it is.
    stage.node("b").set_sync(Sync { is_optimistic: true, ..Sync::default() });
    stage.until("b", EndpointClass::AttestationData, Eligibility::No).await;
    assert_eq!(told(&stage).await, (false, true, false, 206));
    assert_eq!(stage.get("/eth/v1/node/health?syncing_status=299").await.status, 299);
    assert_eq!(stage.get("/eth/v1/node/health?syncing_status=99").await.status, 400);
    assert_eq!(stage.get("/eth/v1/node/health?syncing_status=x").await.status, 400);

    for name in ["a", "b"] {
        stage.node_mut(name).kill().await;
    }
    eventually("nobody is left", || {
        stage.pool().view().nodes().iter().all(|node| node.health.tier <= HealthTier::Down)
    })
    .await;
    assert_eq!(stage.get("/eth/v1/node/health").await.status, 503);
    assert_eq!(stage.get("/eth/v1/node/syncing").await.status, 503);
}

#[tokio::test]
async fn a_node_that_is_back_is_in_sync_before_it_is_trusted() {
    let setting = Setting { hysteresis: HysteresisPolicy::default(), ..Setting::of(&["Lighthouse/v8.0.0"]) };
    let mut stage = setting.stage().await;
    stage.node_mut("a").kill().await;
    eventually("it is gone", || stage.view("a").health.tier <= HealthTier::Down).await;
    stage.node_mut("a").revive().await;
    eventually("it is back", || stage.view("a").health.tier > HealthTier::Down).await;
    assert_eq!(stage.eligibility("a", EndpointClass::Duty), Eligibility::LastResort, "not trusted yet");
    assert_eq!(told(&stage).await, (false, false, false, 200), "and used all the same");
}

#[tokio::test]
async fn a_node_without_peers_is_in_sync() {
    let stage = Setting::of(&["Lighthouse/v8.0.0"]).stage().await;
    stage.node("a").set_peers(0);
    stage.until("a", EndpointClass::Duty, Eligibility::LastResort).await;
    assert_eq!(told(&stage).await, (false, false, false, 200));
}

#[tokio::test]
async fn a_node_without_an_execution_client_says_so_and_not_that_it_is_syncing() {
    let stage = Setting::of(&["Lighthouse/v8.0.0"]).stage().await;
    stage.node("a").set_sync(Sync { el_offline: true, ..Sync::default() });
    stage.until("a", EndpointClass::Duty, Eligibility::LastResort).await;
    assert_eq!(told(&stage).await, (false, false, true, 206), "no block can be made");
}

#[tokio::test]
async fn nodes_that_sync_are_described_although_no_duty_is_served_by_them() {
    let mut stage = Setting::of(&["Lighthouse/v8.0.0", "teku/v25.1.0"]).stage().await;
    stage.node("b").set_sync(Sync { behind: 40, is_syncing: true, ..Sync::default() });
    stage.until("b", EndpointClass::Duty, Eligibility::No).await;
    assert_eq!(told(&stage).await, (false, false, false, 200), "the other one serves");
    stage.node_mut("a").kill().await;
    eventually("it is gone", || stage.view("a").health.tier <= HealthTier::Down).await;
    assert_eq!(told(&stage).await, (true, false, false, 206));
}
