//! The real binary with `signing.backend = "process"`: what a client sees of a vault that checks for itself, and what
//! becomes of the two processes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod required;
mod service;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_tests::harness::Server;
use holdfast_tests::keys::{TestKey, verifies};
use holdfast_tests::world::{CHAIN, GENESIS_TIME, SLOTS_PER_EPOCH, World};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// Anything waited for comes within this.
const LIMIT: Duration = Duration::from_mins(1);

fn start(world: &World) -> Server {
    let server = world.server().env("HOLDFAST_SIGNING_BACKEND", "process").start();
    server.wait_ready();
    server
}

/// The present slot of a world in a hurry.
fn slot() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - GENESIS_TIME
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process ids of the children of a process.
fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>())
        .collect()
}

/// Process id of the vault of a server.
fn vault_of(server: &Server) -> u32 {
    let [vault] = children(server.pid())[..] else { panic!("the server has one child, its vault:\n{}", server.log()) };
    vault
}

fn is_there(process: u32) -> bool {
    // One that ended and is not yet waited for has no memory any more.
    std::fs::read_to_string(format!("/proc/{process}/statm")).is_ok_and(|text| !text.starts_with("0 "))
}

fn randao(server: &Server, key: &TestKey) -> (u16, String) {
    let epoch = slot() / SLOTS_PER_EPOCH;
    let (body, root) = CHAIN.randao(epoch);
    let response = server.sign(&key.public, &body);
    if response.status == 200 {
        let signature = response.json()["signature"].as_str().unwrap().to_owned();
        assert!(verifies(&key.public, &root, &signature));
        return (200, signature);
    }
    (response.status, response.reason())
}

#[test]
fn a_vault_signs_from_the_next_epoch_on_and_nothing_slashable() {
    let world = World::in_a_hurry(2);
    let server = start(&world);
    let began = slot();
    let key = &world.keys[0];
    assert_eq!(randao(&server, key).0, 200, "{}", server.log());

    // The database knows nothing against this; the vault was just started, and somebody may have signed before.
    let (body, _) = CHAIN.attestation(began - 1, began / SLOTS_PER_EPOCH - 1, began / SLOTS_PER_EPOCH, 1);
    let response = server.sign(&key.public, &body);
    assert_eq!((response.status, response.reason().as_str()), (412, "target_below_watermark"), "{}", response.text());

    let next = began / SLOTS_PER_EPOCH + 2;
    wait_until("the epoch after the next one", || slot() / SLOTS_PER_EPOCH >= next);
    let (body, root) = CHAIN.attestation(next * SLOTS_PER_EPOCH, next - 1, next, 1);
    for attempt in ["first", "again"] {
        let response = server.sign(&key.public, &body);
        assert_eq!(response.status, 200, "{attempt}: {}", response.text());
        let body = response.json();
        assert!(verifies(&key.public, &root, body["signature"].as_str().unwrap()));
    }
    let (body, _) = CHAIN.attestation(next * SLOTS_PER_EPOCH, next - 1, next, 2);
    let response = server.sign(&key.public, &body);
    assert_eq!((response.status, response.reason().as_str()), (412, "double_vote"));
    let (body, root) = CHAIN.block(slot(), 1);
    let response = server.sign(&key.public, &body);
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(verifies(&key.public, &root, response.json()["signature"].as_str().unwrap()));

    let vault = vault_of(&server);
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    assert!(!is_there(vault), "the vault outlived its signer");
    assert!(log.contains("the vault runs"), "{log}");
}

#[test]
fn a_vault_that_ends_is_started_again_and_gets_its_keys_back() {
    let world = World::in_a_hurry(3);
    let server = start(&world);
    let key = &world.keys[1];
    let first = vault_of(&server);
    for _ in 0..2 {
        assert_eq!(randao(&server, key).0, 200);
        let vault = vault_of(&server);
        kill_process(Pid::from_raw(i32::try_from(vault).unwrap()).unwrap(), Signal::KILL).unwrap();
        wait_until("signatures of another vault", || match randao(&server, key) {
            (200, _) => children(server.pid()) != [vault],
            (503, reason) => {
                assert_eq!(reason, "vault_down");
                false
            }
            (status, reason) => panic!("{status} {reason}\n{}", server.log()),
        });
    }
    assert_ne!(vault_of(&server), first);
    wait_until("the report in the log", || server.log().contains("the vault has its keys again"));
    assert!(server.log().contains("the vault ended"), "{}", server.log());
}

#[test]
fn a_vault_ends_with_its_signer_however_that_ends() {
    let world = World::in_a_hurry(1);
    let server = start(&world);
    let vault = vault_of(&server);
    assert!(is_there(vault));
    server.kill9();
    wait_until("the end of the vault", || !is_there(vault));
}

#[test]
fn keys_come_and_go_through_the_keymanager_api() {
    let world = World::in_a_hurry(1);
    let server = start(&world);
    let token = std::fs::read_to_string(world.data_dir().join("keymanager-token")).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    let ask = |method: &str, body: &serde_json::Value| {
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let body = body.to_string();
        server.client().request(method, "/eth/v1/keystores", &headers, body.as_bytes()).unwrap()
    };
    let key = TestKey::interop(77);
    let body = json!({ "keystores": [key.keystore("secret")], "passwords": ["secret"] });
    for (attempt, status) in [("first", "imported"), ("again", "duplicate")] {
        let response = ask("POST", &body);
        assert_eq!(response.json()["data"][0]["status"], status, "{attempt}: {}", response.text());
        assert_eq!(randao(&server, &key).0, 200, "{attempt}");
    }
    assert_eq!(randao(&server, &world.keys[0]).0, 200);
    let response = ask("DELETE", &json!({ "pubkeys": [key.public] }));
    assert_eq!(response.json()["data"][0]["status"], "deleted", "{}", response.text());
    assert_eq!(randao(&server, &key).0, 404);
    assert_eq!(randao(&server, &world.keys[0]).0, 200);
}

#[test]
fn the_command_of_a_vault_is_not_for_people() {
    let output = holdfast_tests::harness::holdfast(&["vault", "--threads", "1", "1"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not for people"), "{said}");
    let help = holdfast_tests::harness::holdfast_ok(&["--help"]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("vault process"), "it is hidden");
}
