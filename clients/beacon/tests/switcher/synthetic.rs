//! What the switcher says about itself.

use holdfast_beacon::{Eligibility, EndpointClass};

use crate::scripted::Sync;
use crate::stage::Setting;

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
    assert_eq!(stage.get("/eth/v1/node/health").await.status, 206);
    assert_eq!(stage.get("/eth/v1/node/health?syncing_status=299").await.status, 299);
    assert_eq!(stage.get("/eth/v1/node/health?syncing_status=99").await.status, 400);
    assert_eq!(stage.get("/eth/v1/node/health?syncing_status=x").await.status, 400);

    for name in ["a", "b"] {
        stage.node_mut(name).kill().await;
    }
    crate::stage::eventually("nobody is left", || {
        stage.pool().view().nodes().iter().all(|node| node.health.tier <= holdfast_beacon::HealthTier::Down)
    })
    .await;
    assert_eq!(stage.get("/eth/v1/node/health").await.status, 503);
}
