//! A server that may lose what it acknowledges is not signed with: found at the start, and found while running.

use holdfast_tests::finished::run;
use holdfast_tests::postgres::{Cluster, SERVICE};
use holdfast_tests::world::{CHAIN, World};

use crate::{look, wait_until};

#[test]
fn settings_that_lose_commits_are_refused_with_the_remedy() {
    let cluster = Cluster::builder().setting("fsync", "off").setting("full_page_writes", "off").start();
    let url = cluster.url();
    look(&url).expect(2, &["fsync = off", "may lose commits", "ALTER SYSTEM SET fsync = on"]);
    cluster.set("fsync", "on");
    look(&url).expect(2, &["full_page_writes = off", "ALTER SYSTEM SET full_page_writes = on"]);
    cluster.set("full_page_writes", "on");
    // What a session can set for itself is set, whatever its default.
    cluster.psql(&format!("ALTER ROLE {SERVICE} SET synchronous_commit = off"));
    look(&url).expect(0, &["would apply"]);
}

#[test]
fn a_standby_is_refused_and_the_one_that_commits_wait_for_is_named() {
    let primary = Cluster::start();
    let standby = primary.replica();
    look(&standby.url()).expect(3, &["read-only", "give the primary's address"]);

    let world = World::with_database(&primary.url(), 1);
    let status = |json: bool| {
        let rest: &[&str] = if json { &["--json", "slashing", "status"] } else { &["slashing", "status"] };
        run(&world.with(rest)).expect(0, &[])
    };
    assert_eq!(status(true).lines()[0]["server"]["synchronous_standbys"], serde_json::Value::Null);
    status(false).expect(0, &["commits wait for no standby"]);
    primary.synchronous_standby(Some(&standby));
    assert_eq!(status(true).lines()[0]["server"]["synchronous_standbys"], standby.name());
    status(false).expect(0, &[&format!("commits wait for the standbys {}", standby.name())]);
    let verified = run(&world.with(&["--json", "slashing", "status", "--verify"])).expect(0, &[]);
    assert_eq!(verified.lines()[0]["journal"]["verified"], true);
}

#[test]
fn a_setting_changed_under_a_running_signer_stops_it_until_it_is_mended() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 1);
    let server = world.server().start();
    server.wait_ready();
    let mut target = 500;
    let mut attest = || {
        target += 1;
        server.sign(&world.keys[0].public, &CHAIN.attestation(target * 8, target - 1, target, 1).0)
    };
    assert_eq!(attest().status, 200);
    for setting in ["fsync", "full_page_writes"] {
        cluster.set(setting, "off");
        wait_until("it refuses to sign", || attest().status == 503);
        let response = attest();
        assert_eq!((response.status, response.reason().as_str()), (503, "database_unavailable"), "{}", response.text());
        assert!(response.header("retry-after").is_some(), "503 without Retry-After");
        let remedy = format!("ALTER SYSTEM SET {setting} = on");
        wait_until("the log says what to do", || server.log().contains(&remedy));
        cluster.set(setting, "on");
        wait_until("it signs again", || attest().status == 200);
    }
    assert!(server.stop().0.success());
}
