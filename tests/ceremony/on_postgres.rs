//! With PostgreSQL the database is backed up by its own tools: what `backup` does then, and that a restored one is
//! noticed.

use holdfast_tests::finished::run;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};

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
