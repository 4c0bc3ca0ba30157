//! The Grafana dashboard: every query in it is asked of a real Prometheus that scrapes the real program under load, and
//! must give data; and the file is one that can be imported anywhere.

use std::collections::BTreeSet;

use holdfast_tests::harness::{holdfast_ok, workspace};
use holdfast_tests::prometheus::{Prometheus, dashboard, queries, sent};
use holdfast_tests::world::World;

use crate::guarded::Guarded;
use crate::metrics_table::unknown_metrics;
use crate::stage::Stage;

/// Queries that only trouble answers which is caused elsewhere: a word of the query, and why.
const NEEDS_TROUBLE: [(&str, &str); 1] =
    [("holdfast_slashing_frozen_reason", "there is a reason only while protection is frozen: tests/rollback")];

#[test]
fn every_query_gives_data_under_load() {
    let mut stage = Stage::new(3);
    // A signer with a vault, which refuses what is older than its own start whatever protection says.
    let second = World::new(1);
    let vault = second.server().env("HOLDFAST_SIGNING_BACKEND", "process").start();
    vault.wait_ready();
    let guarded = Guarded::new();
    let backup = stage.world.path().join("backup").display().to_string();
    holdfast_ok(&stage.world.with(&["backup", "create", "--to", &backup]));
    let metrics = [stage.server().metrics_addr(), vault.metrics_addr(), guarded.server.metrics_addr()];
    let prometheus = Prometheus::start(&metrics, &workspace().join("deploy/prometheus/holdfast.rules.yml"));
    // Once, and after the first scrape: an alert must see the first refusal of a vault.
    assert_eq!(vault.sign(&second.keys[0].public, &stage.fresh_attestation()).status, 412);
    let (load, hostility) = (stage.load(), guarded.hostility());
    stage.kill_a_node();
    let queries = queries(&dashboard());
    assert!(queries.len() > 40, "only {} queries", queries.len());
    for (panel, query) in &queries {
        assert_eq!(unknown_metrics(query), Vec::<String>::new(), "{panel}");
    }
    let mut waiting: Vec<&(String, String)> = queries.iter().collect();
    let excused = |query: &str| NEEDS_TROUBLE.iter().any(|(word, _)| query.contains(word));
    // Some answers need the second scrape after the first trouble.
    let end = std::time::Instant::now() + crate::stage::PATIENCE;
    while !waiting.is_empty() && std::time::Instant::now() < end {
        waiting.retain(|(_, query)| !prometheus.has_data(&sent(query, "15s")) && !excused(query));
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(waiting.is_empty(), "no data for: {waiting:#?}");

    // The rules on the same stage, so that it is built once.
    crate::alerts::every_rule_can_be_evaluated(&prometheus);
    drop(hostility);
    guarded.spoil_files();
    crate::alerts::trouble_is_noticed(&prometheus);
    drop(load);
}

#[test]
fn the_dashboard_can_be_imported_anywhere() {
    let dashboard = dashboard();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: the id is another panel's");
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        for x in side("x")..side("x") + side("w") {
            assert!(x < 24, "{title} is wider than the dashboard");
            for y in side("y")..side("y") + side("h") {
                assert!(places.insert((x, y)), "{title} lies over another panel");
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} names a data source of somebody");
            for target in panel["targets"].as_array().expect("queries") {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title} names a data source of somebody");
            }
        }
    }
    let rows: Vec<&str> = dashboard["panels"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|panel| panel["type"] == "row")
        .filter_map(|panel| panel["title"].as_str())
        .collect();
    for part in ["Signing", "Slashing protection", "Database", "Switcher", "Keys", "Callers and TLS", "Audit"] {
        assert!(rows.contains(&part), "no row {part} in {rows:?}");
    }
}
