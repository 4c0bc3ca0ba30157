//! Standbys: lost commits and the setting that prevents them.

use std::time::Duration;

use holdfast_tests::postgres::{Cluster, Tls};
use holdfast_tests::proxy::Proxy;

use super::{numbers, table};

#[test]
fn a_promoted_replica_that_lagged_has_lost_the_last_commit() {
    let primary = Cluster::builder().tls(Tls::Offered).start();
    table(&primary);
    let proxy = Proxy::start(primary.addr());
    let url = primary.url_at(proxy.addr());
    let replica = primary.replica();
    primary.psql("INSERT INTO kept VALUES (2)");
    replica.catch_up_with(&primary);
    assert_eq!(numbers(&replica), [1, 2]);
    let error = replica.try_psql("INSERT INTO kept VALUES (9)").expect_err("a standby");
    assert!(error.contains("25006"), "{error}");

    // It lags, catches up, and lags again.
    replica.pause_replication();
    primary.psql("INSERT INTO kept VALUES (3)");
    assert_eq!(numbers(&replica), [1, 2]);
    replica.resume_replication();
    replica.catch_up_with(&primary);
    assert_eq!(numbers(&replica), [1, 2, 3]);
    replica.pause_replication();
    primary.psql("INSERT INTO kept VALUES (4)");
    assert_eq!(numbers(&primary), [1, 2, 3, 4]);

    primary.kill9();
    replica.promote();
    proxy.set_target(replica.addr());
    let mut client = primary.session_on(&url);
    client.run("INSERT INTO kept VALUES (5)").expect("the service's URL leads to the new primary");
    assert_eq!(numbers(&replica), [1, 2, 3, 5]);
    let identity = "SELECT system_identifier FROM pg_control_system()";
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    primary.start_again();
    assert_eq!(replica.psql(identity), primary.psql(identity));
    replica.psql("CHECKPOINT");
    assert_eq!(
        (primary.psql(timeline), replica.psql(timeline)),
        (vec![vec!["1".to_owned()]], vec![vec!["2".to_owned()]])
    );
}

#[test]
fn a_synchronous_standby_is_reported_and_waited_for() {
    let primary = Cluster::start();
    table(&primary);
    let replica = primary.replica();
    let query = "SELECT application_name, state, sync_state FROM pg_stat_replication";
    assert_eq!(primary.psql(query), [[replica.name(), "streaming", "async"]]);
    primary.synchronous_standby(Some(&replica));
    assert_eq!(primary.psql(query), [[replica.name(), "streaming", "sync"]]);
    primary.psql("INSERT INTO kept VALUES (2)");

    replica.pause_replication();
    let mut waiting = primary.session();
    waiting.send("INSERT INTO kept VALUES (3)");
    assert!(waiting.wait(Duration::from_millis(300)).is_none(), "acknowledged without the standby");
    replica.resume_replication();
    waiting.wait(Duration::from_secs(30)).expect("acknowledged").expect("kept");
    replica.catch_up_with(&primary);
    assert_eq!(numbers(&replica), [1, 2, 3]);

    primary.synchronous_standby(None);
    assert_eq!(primary.psql(query), [[replica.name(), "streaming", "async"]]);
}
