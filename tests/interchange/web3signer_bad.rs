//! What is not a sound database of Web3Signer for this chain: a clear error, the right exit code, and nothing changed.

use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::free_port;
use holdfast_tests::world::World;
use serde_json::json;

use crate::support::{cluster, keys};
use crate::web3signer::import;
use crate::web3signer_db::{Database, Signed};

fn signed() -> Signed {
    Signed { low: Some((5, 1, 2)), blocks: [(5, None)].into(), votes: [(2, (1, None))].into() }
}

/// A good database that `change` then spoils.
fn spoilt(world: &World, change: &str) -> Database {
    let mut database = Database::new();
    database.add(&world.keys[0].public, true, &signed());
    database.add(&TestKey::interop(50).public, true, &signed());
    database.sql(change);
    database
}

#[test]
fn every_kind_of_wrong_database_is_refused_and_leaves_nothing() {
    let world = World::new(1);
    let before = keys(&world);
    let other_chain = "UPDATE metadata SET genesis_validators_root = decode(repeat('11', 32), 'hex')";
    let cases: Vec<(&str, &str, &[&str])> = vec![
        ("older", "UPDATE database_version SET version = 11", &["version 11", "only version 12"]),
        ("newer", "UPDATE database_version SET version = 13", &["version 13", "web3signer eth2 export"]),
        ("no version", "DELETE FROM database_version", &["version 0"]),
        (
            "no table of versions",
            "DROP TABLE database_version",
            &["not a slashing protection database", "database_version"],
        ),
        ("no blocks", "DROP TABLE signed_blocks", &["there is no table signed_blocks"]),
        ("no watermarks", "DROP TABLE low_watermarks", &["there is no table low_watermarks"]),
        ("another column", "ALTER TABLE validators RENAME enabled TO active", &["read the histories"]),
        ("another type", "ALTER TABLE validators ALTER public_key TYPE text", &["read the histories"]),
        ("another chain", other_chain, &["genesis validators root 0x1111", "choose the database or the network"]),
        ("no chain", "DELETE FROM metadata", &["does not say of which chain"]),
        ("short root", "UPDATE metadata SET genesis_validators_root = '\\x11'", &["metadata", "damaged"]),
        ("negative", "UPDATE signed_blocks SET slot = -1", &["is -1", "--allow-partial"]),
        ("negative low", "UPDATE low_watermarks SET slot = -1", &["low_watermarks.slot is -1"]),
        ("hidden negative", "INSERT INTO signed_blocks (validator_id, slot) VALUES (1, -7)", &["is -7"]),
        (
            "above 64 bits",
            "UPDATE signed_attestations SET target_epoch = 18446744073709551616",
            &["18446744073709551616"],
        ),
        ("not a number", "UPDATE signed_attestations SET source_epoch = 'NaN'", &["NaN"]),
        ("bad high", "UPDATE metadata SET high_watermark_slot = -3", &["high_watermark_slot is -3"]),
        ("short key", "UPDATE validators SET public_key = '\\x1234' WHERE id = 2", &["48 bytes", "id 2"]),
    ];
    for (what, change, phrases) in cases {
        let database = spoilt(&world, change);
        println!("{what}");
        for dry in [&["--dry-run"][..], &[]] {
            import(&world, &database.url(), dry).expect(1, phrases).expect(1, &["nothing was imported"]);
        }
        assert_eq!(keys(&world), before, "{what} changed something");
    }
    let mut foreign = Database::empty();
    import(&world, &foreign.url(), &[]).expect(1, &["not a slashing protection database of Web3Signer"]);
    foreign.sql("CREATE TABLE metadata (id integer, something text); CREATE TABLE orders (id integer)");
    import(&world, &foreign.url(), &[]).expect(1, &["not a slashing protection database of Web3Signer"]);
    assert_eq!(keys(&world), before);
}

#[test]
fn a_server_that_cannot_be_reached_and_an_address_that_is_none() {
    let world = World::new(1);
    let before = keys(&world);
    let good = spoilt(&world, "SELECT 1");
    let nobody = format!("postgres://u:hunter2@127.0.0.1:{}/w3s?sslmode=disable", free_port());
    let wrong_password = good.url_as("holdfast", "hunter2");
    let database = good.url().replace("web3signer_", "absent_");
    let with_tls = good.url().replace("sslmode=disable", "sslmode=require");
    for url in [nobody, wrong_password, database, with_tls] {
        let failed = import(&world, &url, &[]).expect(3, &["cannot read postgres://", "nothing was imported"]);
        assert!(!failed.text().contains("hunter2"), "{}", failed.text());
    }
    for url in
        ["jdbc:postgresql://h/w3s?password=hunter2", "mysql://u:hunter2@h/w3s", "postgres://u:hunter2@h:port/w3s"]
    {
        let failed = import(&world, url, &[]).expect(2, &["expected postgres://user@host:port/database"]);
        assert!(!failed.text().contains("hunter2"), "{}", failed.text());
    }
    import(&world, "postgres://h/d", &["--from", "x.json"]).expect(2, &["cannot be used with"]);
    crate::support::run(&world, &["slashing", "import", "--dry-run"]).expect(2, &["--from"]);
    assert_eq!(keys(&world), before);
}

#[test]
fn a_standby_is_refused() {
    let world = World::new(1);
    let primary = holdfast_tests::postgres::Cluster::start();
    let replica = primary.replica();
    let url = replica.url();
    import(&world, &url, &[]).expect(1, &["is a standby", "primary"]);
    assert!(cluster().is_running());
}

#[test]
fn validators_that_cannot_be_read_are_left_out_only_on_request_and_named() {
    let world = World::new(1);
    let database = spoilt(&world, "UPDATE signed_blocks SET slot = -1 WHERE validator_id = 2");
    import(&world, &database.url(), &[]).expect(1, &["nothing was imported"]);
    let partial = import(&world, &database.url(), &["--allow-partial"]).expect(1, &["left_out"]).lines();
    assert_eq!((&partial[0]["pubkey"], &partial[0]["change"]), (&json!(world.keys[0].public), &json!("raised")));
    assert_eq!((&partial[1]["row"], &partial[1]["change"]), (&json!(2), &json!("left_out")));
    assert_eq!(partial[2]["totals"]["left_out"], 1);
    assert_eq!(keys(&world).as_array().map(Vec::len), Some(1), "the other is not known");
}

#[test]
fn validators_without_any_history_need_no_chain() {
    let world = World::new(1);
    let mut database = Database::new();
    database.add(&world.keys[0].public, false, &Signed::default());
    database.sql("DELETE FROM metadata");
    let lines = import(&world, &database.url(), &[]).expect(0, &[]).lines();
    assert_eq!((&lines[0]["change"], &lines[0]["switched_off"]), (&json!("unchanged"), &json!("switched_off")));
}
