//! A new data key: every stored key is sealed anew, at once or not at all, also when the program is killed; a server on
//! the same PostgreSQL goes on and follows.

use std::process::Stdio;
use std::time::{Duration, Instant};

use holdfast_tests::harness::command;
use holdfast_tests::http::once;
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rusqlite::params;

use crate::stage::{Stage, wait_for};

/// Times the command is killed.
const KILLS: u32 = 40;
/// Keys, so that sealing them anew takes long enough to be killed in.
const KEYS: u32 = 1_500;

const REPLACE: [&str; 4] = ["--json", "kek", "rotate", "--data-key"];

fn stage() -> Stage {
    Stage::new(&[("HOLDFAST_KEYS_PROVIDER", "file")])
}

fn data_keys(stage: &Stage) -> Vec<u32> {
    let db = stage.database();
    let mut rows = db.prepare("SELECT id FROM data_keys ORDER BY id").expect("data keys");
    rows.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn every_key_is_sealed_anew_and_the_old_data_key_opens_nothing() {
    let stage = stage();
    stage.run(&REPLACE).expect(2, &["there is no database"]);
    stage.make_keys(3);
    let (wrapped, sealed) = (stage.wrapped(), stage.sealed());
    let server = stage.serves(3);
    // By the running server, which goes on signing.
    let replaced = stage.run(&REPLACE).expect(0, &["\"status\":\"replaced\"", "\"keys\":3", "\"data_key\":2"]);
    assert!(replaced.text().contains("\"through\":\"server\""), "{}", replaced.text());
    server.stop();
    let anew = stage.sealed();
    assert!(anew.iter().zip(&sealed).all(|(anew, sealed)| anew != sealed && anew.len() == sealed.len()));
    assert_eq!(data_keys(&stage), [2]);
    stage.serves(3);
    // With another provider at once.
    stage.run(&[&REPLACE[..], &["--provider", "file"]].concat()).expect(0, &["\"data_key\":3"]);
    stage.run(&["--json", "kek", "rotate"]).expect(0, &["\"status\":\"rotated\""]);
    stage.run(&["--json", "keys", "generate", "--count", "1"]).expect(0, &[]);
    stage.serves(4);
    // The first data key, put back by hand, opens, and none of the keys with it.
    let database = stage.database();
    database.execute("UPDATE data_keys SET id = 1, wrapped = ?1", params![wrapped]).expect("the row is changed");
    drop(database);
    stage.run(&["--json", "doctor"]).expect(1, &["another data key"]);
}

#[test]
fn a_key_that_does_not_open_stops_it_before_anything_is_changed() {
    let stage = stage();
    stage.make_keys(3);
    let (wrapped, mut sealed) = (stage.wrapped(), stage.sealed());
    let last = sealed[1].len() - 1;
    sealed[1][last] ^= 1;
    let change =
        "UPDATE sealed_keys SET sealed = ?1 WHERE id = (SELECT id FROM sealed_keys ORDER BY id LIMIT 1 OFFSET 1)";
    stage.database().execute(change, params![sealed[1]]).expect("the row is changed");
    stage.run(&REPLACE).expect(3, &["does not open, so the data key stays as it is", "0x"]);
    assert_eq!((stage.wrapped(), stage.sealed(), data_keys(&stage)), (wrapped, sealed, vec![1]));
}

#[test]
fn killed_at_any_moment_every_key_still_opens() {
    let seed = std::env::var("HOLDFAST_SEED").map_or(20_261_128, |text| text.parse().expect("a number"));
    println!("HOLDFAST_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let stage = stage();
    stage.make_keys(KEYS);
    let begun = Instant::now();
    stage.run(&REPLACE).expect(0, &["replaced"]);
    let whole = begun.elapsed();
    let (mut before, mut after, mut finished) = (0, 0, 0);
    let mut present = data_keys(&stage);
    for _ in 0..KILLS {
        let delay = whole.mul_f64(random.random_range(0.05..1.15));
        let mut child = command();
        child.args(stage.world.with(&REPLACE)).envs(stage.environment.iter().cloned());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
        std::thread::sleep(delay);
        child.kill().expect("it is killed, or has ended");
        let ended = child.wait().expect("it ends").code() == Some(0);
        let now = data_keys(&stage);
        assert_eq!(now.len(), 1, "{now:?}");
        assert!(!ended || now != present, "it ended well and changed nothing");
        match (ended, now == present) {
            (true, _) => finished += 1,
            (false, true) => before += 1,
            (false, false) => after += 1,
        }
        present = now;
        let open = format!("{KEYS} stored, all open");
        stage.run(&["--json", "doctor"]).expect(0, &[&open]);
    }
    println!("killed {before} times before the commit, {after} after it; {finished} finished ({whole:?} each)");
    assert!(before > 0 && after + finished > 0, "every kill came at the same side: {before}, {after}, {finished}");
    stage.serves(KEYS as usize);
}

#[test]
fn a_server_on_the_same_postgres_goes_on_and_follows() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 2);
    // With a vault, which is lent the data key only while it opens keys.
    let server = world.server().env("HOLDFAST_SIGNING_BACKEND", "process").start();
    server.wait_ready();
    let sign = |key: &TestKey| server.sign(&key.public, &CHAIN.randao(7).0).status;
    let token = std::fs::read_to_string(world.data_dir().join("keymanager-token")).expect("the token");
    let token = format!("Bearer {}", token.trim());
    let import = |key: &TestKey| {
        let body = serde_json::json!({ "keystores": [key.keystore("p")], "passwords": ["p"] }).to_string();
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
        let answer = once(server.http_addr(), "POST", "/eth/v1/keystores", &headers, body.as_bytes());
        answer.expect("an answer").json()["data"][0]["status"].as_str().unwrap_or_default().to_owned()
    };
    // An operator on another machine, who has the key file.
    let third = world.second_data_dir("third");
    let operate = |rest: &[&str]| {
        let mut arguments = world.arguments_in(&third);
        arguments.extend(rest.iter().map(|&argument| argument.to_owned()));
        holdfast_tests::harness::holdfast_ok(&arguments);
    };
    for round in 0..3 {
        operate(&REPLACE);
        assert!(world.keys.iter().all(|key| sign(key) == 200), "the loaded keys sign on");
        let new = TestKey::interop(50 + round);
        assert_eq!(import(&new), "imported", "a server seals new keys under the new data key");
        assert_eq!(sign(&new), 200);
    }
    let second = world.server_in(&world.second_data_dir("second")).start();
    second.wait_ready();
    wait_for("every key at the other server", || {
        second.get("/api/v1/eth2/publicKeys").json().as_array().is_some_and(|keys| keys.len() == 5)
    });
    let log = second.stop().1;
    assert!(!log.contains("key left out"), "{log}");
    // Killed in the middle: the server of the database throws it away.
    for millis in [20, 60, 100, 140, 180, 220] {
        let mut arguments = world.arguments_in(&third);
        arguments.extend(REPLACE.iter().map(|&argument| argument.to_owned()));
        let mut child = command();
        let child = child.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child.spawn().expect("the binary starts");
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("it is killed, or has ended");
        child.wait().expect("it ends");
        let third = world.server_in(&world.second_data_dir(&format!("after-{millis}"))).start();
        third.wait_ready();
        assert_eq!(third.get("/api/v1/eth2/publicKeys").json().as_array().map(Vec::len), Some(5));
        third.stop();
    }
}
