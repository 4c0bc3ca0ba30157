//! `holdfast status` on a database that several signers share: from one of them, and from a machine that only looks.

use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_tests::finished::run;
use holdfast_tests::postgres::{Cluster, Stop};
use holdfast_tests::world::{CHAIN, World};
use serde_json::Value;

/// How long PostgreSQL may take to notice that a client is gone.
const LIMIT: Duration = Duration::from_secs(30);

fn status(world: &World, data_dir: &Path, code: i32) -> Value {
    let mut arguments = world.arguments_in(data_dir);
    arguments.extend(["--json", "status"].map(str::to_owned));
    let finished = run(&arguments).expect(code, &[]);
    finished.lines().pop().unwrap_or_else(|| panic!("no JSON in {}", finished.text()))
}

/// Presence by instance.
fn presence(status: &Value) -> Vec<(String, String)> {
    let instances = status["instances"].as_array().unwrap_or_else(|| panic!("no instances in {status}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    instances.iter().map(|instance| (text(&instance["id"]), text(&instance["presence"]))).collect()
}

#[test]
fn every_instance_is_shown_with_whether_it_is_connected() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 2);
    let first = world.server().start();
    let second_dir = world.second_data_dir("second");
    let second = world.server_in(&second_dir).start();
    for server in [&first, &second] {
        server.wait_ready();
        assert_eq!(server.sign(&world.keys[0].public, &CHAIN.randao(7).0).status, 200);
    }
    let seen = status(&world, &second_dir, 0);
    assert_eq!((&seen["server"]["state"], &seen["server"]["pid"]), (&"ready".into(), &second.pid().into()), "{seen}");
    assert_eq!(seen["server"]["http"], second.http_addr().to_string());
    assert_eq!(
        (&seen["database"]["kind"], &seen["database"]["durability"]),
        (&"postgresql".into(), &"one_server".into())
    );
    assert!(!seen.to_string().contains(cluster.password()), "a password is shown");
    let own = seen["instance"].as_str().expect("an instance").to_owned();
    let connected = presence(&seen);
    assert_eq!(connected.len(), 2, "{seen}");
    assert!(connected.iter().all(|(_, presence)| presence == "connected"), "{seen}");
    assert!(seen["instances"].as_array().is_some_and(|all| all.iter().all(|one| one["batch"] != 0)), "{seen}");

    let stranger = world.path().join("stranger");
    let looked = status(&world, &stranger, 0);
    assert_eq!((&looked["server"], &looked["instance"]), (&Value::Null, &Value::Null), "{looked}");
    assert_eq!(presence(&looked).len(), 2, "who looks is no instance");
    assert_eq!(looked["keys"]["enabled"], 2);
    assert!(!stranger.exists(), "who looks makes no data directory");

    second.kill9();
    let begin = Instant::now();
    while !presence(&status(&world, &stranger, 0)).contains(&(own.clone(), "away".to_owned())) {
        assert!(begin.elapsed() < LIMIT, "a killed signer stays connected");
    }
    cluster.stop(Stop::Fast);
    let seen = status(&world, &world.data_dir(), 3);
    assert!(seen["database"]["error"].is_string(), "{seen}");
    assert_eq!(
        (&seen["server"]["pid"], &seen["protection"]["state"]),
        (&first.pid().into(), &"unknown".into()),
        "{seen}"
    );
    cluster.start_again();
    first.wait_ready();
    assert_eq!(status(&world, &world.data_dir(), 0)["server"]["state"], "ready");
}
