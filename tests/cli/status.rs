//! `holdfast status` beside a running server, without one, and on what is damaged. It never changes anything.

use std::path::Path;

use holdfast_tests::finished::run;
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use serde_json::Value;

fn status(world: &World, code: i32) -> Value {
    let finished = run(&world.with(&["--json", "status"])).expect(code, &[]);
    finished.lines().pop().unwrap_or_else(|| panic!("no JSON in {}", finished.text()))
}

/// Names, sizes and times of all files below the data directory.
fn traces(folder: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let metadata = entry.metadata().expect("it is there");
        if metadata.is_dir() {
            found.extend(traces(&entry.path()));
        } else {
            found.push((entry.path().display().to_string(), metadata.len(), metadata.modified().expect("a time")));
        }
    }
    found.sort();
    found
}

#[test]
fn a_running_server_is_shown_where_it_really_listens() {
    let world = World::new(3);
    // On ports that no option names.
    let server = world.server().start();
    server.wait_ready();
    let target = 1_000;
    let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 0);
    assert_eq!(server.sign(&world.keys[0].public, &body).status, 200);
    let seen = status(&world, 0);
    assert_eq!(seen["server"]["state"], "ready", "{seen}");
    assert_eq!(seen["server"]["pid"], server.pid());
    assert_eq!(seen["server"]["http"], server.http_addr().to_string());
    assert_eq!(seen["server"]["metrics"], server.metrics_addr().to_string());
    assert_eq!(seen["server"]["keys"]["loaded"], 3);
    assert_eq!(seen["database"]["kind"], "sqlite");
    assert_eq!(seen["database"]["schema"], seen["database"]["schema_known"]);
    assert_eq!(seen["protection"]["state"], "serving");
    assert_eq!(seen["protection"]["highest"]["target_epoch"], target);
    assert_eq!(seen["keys"]["enabled"], 3);
    assert_eq!(seen["data_key"]["provider"], "file");
    assert_eq!(seen["instances"][0]["id"], seen["instance"]);
    assert_eq!(seen["instances"][0]["presence"], "connected");
    assert!(seen["instances"][0]["last_batch"].is_string(), "{seen}");
    run(&world.with(&["status"])).expect(0, &["ready; process", "signing API", "3 enabled", "connected, batch "]);

    let process = rustix::process::Pid::from_raw(server.pid().cast_signed()).expect("a process id");
    rustix::process::kill_process(process, rustix::process::Signal::STOP).expect("SIGSTOP is delivered");
    let silent = status(&world, 3);
    rustix::process::kill_process(process, rustix::process::Signal::CONT).expect("SIGCONT is delivered");
    assert_eq!((&silent["server"]["state"], &silent["server"]["pid"]), (&"silent".into(), &server.pid().into()));
    assert_eq!(silent["keys"]["enabled"], 3, "the rest is shown all the same");
    let (ended, log) = server.stop();
    assert!(ended.success(), "{log}");

    let before = traces(&world.data_dir());
    let seen = status(&world, 0);
    assert_eq!((&seen["server"], &seen["instances"][0]["presence"]), (&Value::Null, &Value::from("away")), "{seen}");
    run(&world.with(&["status"])).expect(0, &["not running", "3 enabled"]);
    let unchanged = traces(&world.data_dir())
        .into_iter()
        .filter(|(name, ..)| !name.ends_with("-shm") && !name.ends_with("-wal"))
        .collect::<Vec<_>>();
    let before =
        before.into_iter().filter(|(name, ..)| !name.ends_with("-shm") && !name.ends_with("-wal")).collect::<Vec<_>>();
    assert_eq!(unchanged, before, "status changed something");
}

#[test]
fn nothing_there_yet_is_no_error_and_makes_nothing() {
    let world = World::new(0);
    let seen = status(&world, 0);
    assert_eq!(
        (&seen["server"], &seen["keys"], &seen["database"]["schema"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&seen["protection"]["state"], &seen["configuration"]),
        (&Value::from("nothing"), &Value::Null),
        "{seen}"
    );
    // Whoever looks in the wrong place must not be told that all is well.
    run(&world.with(&["status"])).expect(0, &["no file", "nothing is here to be protected", "--config FILE"]);
    assert!(!world.data_dir().exists(), "status made a data directory");
}

#[test]
fn a_lost_end_and_another_network_are_seen_without_a_start() {
    let world = World::new(1);
    let vote = |target: u64| {
        let server = world.server().start();
        let (body, _) = CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, 0);
        assert_eq!(server.sign(&world.keys[0].public, &body).status, 200);
        assert!(server.stop().0.success());
    };
    vote(500);
    let (database, backup) = (world.data_dir().join("holdfast.db"), world.path().join("backup.db"));
    std::fs::copy(&database, &backup).expect("a backup");
    vote(600);
    std::fs::copy(&backup, &database).expect("the backup is restored");
    let seen = status(&world, 4);
    assert_eq!(
        (&seen["protection"]["state"], &seen["protection"]["reason"]),
        (&"frozen".into(), &"journal_shorter".into())
    );
    run(&world.with(&["status"])).expect(4, &["FROZEN", "holdfast slashing status"]);
    // What protection itself says, and writes down.
    run(&world.with(&["slashing", "status"])).expect(4, &["FROZEN since"]);
    let seen = status(&world, 4);
    assert_eq!(seen["protection"]["frozen"]["reason"], "journal_shorter", "{seen}");
    run(&world.with(&["status"])).expect(4, &["FROZEN since", "holdfast slashing fence"]);

    let data = world.data_dir().display().to_string();
    let other = run(&["--data-dir", &data, "--network", "hoodi", "status"]);
    assert!([2, 4].contains(&other.code), "{}", other.text());
}

#[test]
fn a_health_check_needs_a_server_that_is_ready() {
    let world = World::new(1);
    // Without a server it asks the configured addresses, where somebody else's may listen.
    let config = world.path().join("nobody.toml");
    std::fs::write(&config, "[http]\nlisten = \"127.0.0.1:1\"\n[metrics]\nlisten = \"127.0.0.1:2\"\n").expect("a file");
    let config = config.display().to_string();
    run(&world.with(&["--config", &config, "status"])).expect(0, &["not running"]);
    run(&world.with(&["--config", &config, "status", "--ready"])).expect(3, &["not running"]);
    let server = world.server().start();
    server.wait_ready();
    run(&world.with(&["status", "--ready"])).expect(0, &["ready"]);
}
