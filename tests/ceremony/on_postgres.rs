//! With PostgreSQL the database is backed up by its own tools: what `backup` does then, and that a restored one is
//! noticed.

use holdfast_tests::finished::run;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

use crate::generate::private;

#[test]
fn provider_state_is_backed_up_and_an_unfenced_database_is_named() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 1);
    let to = world.path().join("b").display().to_string();
    let made = run(&world.with(&["backup", "create", "--to", &to]))
        .expect(0, &["without a database", "pg_dump", "backup check"]);
    let password = cluster.password();
    assert!(password.is_empty() || !made.text().contains(password), "the password is printed: {}", made.text());
    let config = std::fs::read_to_string(world.path().join("b/config.toml")).expect("the configuration");
    assert!(password.is_empty() || !config.contains(password), "the password is in the backup: {config}");
    assert!(world.path().join("b/kek/file.key").is_file());
    run(&world.with(&["backup", "verify", "--from", &to])).expect(0, &["no database in it"]);
    run(&world.with(&["backup", "restore", "--from", &to])).expect(2, &["pg_restore", "slashing fence"]);
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(server.sign(&world.keys[0].public, &CHAIN.attestation(8_000, 999, 1_000, 1).0).status, 200);
    server.stop();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let check = ["backup", "check", "--restored-at", &now.to_string()];
    run(&world.with(&check)).expect(1, &["NOT FENCED", "holdfast slashing fence", &world.keys[0].public]);
    run(&world.with(&["slashing", "fence"])).expect(0, &[]);
    run(&world.with(&check)).expect(0, &["fenced: all 1 keys"]);
}

#[test]
fn keys_are_exported_beside_a_running_server_and_it_stops_signing_with_them() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 2);
    let key = world.keys[0].public.clone();
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(server.sign(&key, &CHAIN.attestation(8_000, 999, 1_000, 1).0).status, 200);
    let mut arguments = world.arguments_in(&world.second_data_dir("other"));
    let (to, password) = (world.path().join("out").display().to_string(), private(&world, "pw.txt", "a long password"));
    let flag = "--i-understand-that-exported-keys-can-be-slashed-elsewhere";
    let export = ["keys", "export", &key, "--to", &to, "--password-file", &password, "--kdf", "pbkdf2", flag];
    arguments.extend(export.map(str::to_owned));
    run(&arguments).expect(0, &["1 keys, 1 switched off just now"]);
    let refused = server.sign(&key, &CHAIN.attestation(8_008, 1_000, 1_001, 1).0);
    assert_eq!((refused.status, refused.reason().as_str()), (412, "key_disabled"));
    let other = server.sign(&world.keys[1].public, &CHAIN.attestation(8_008, 1_000, 1_001, 1).0);
    assert_eq!(other.status, 200);
    let history = std::fs::read_to_string(world.path().join("out/slashing_protection.json")).expect("the history");
    assert!(history.contains("\"target_epoch\":\"1000\""), "{history}");
    server.stop();
}
