//! What must freeze: every way to put a database behind what was acknowledged.

use std::fs;
use std::process::Command;

use holdfast_tests::http::once;
use holdfast_tests::world::{CHAIN, World};

use crate::stage::{Ended, Stage, overwrite};

#[test]
fn an_old_copy_restored_in_place_freezes_and_the_fence_ends_it() {
    let stage = Stage::new();
    stage.restore();
    stage.expect_frozen("journal_shorter");
    // The freeze is remembered, not noticed once.
    stage.expect_frozen("journal_shorter");
    stage.fence_and_recover();
    // Restoring the same copy again undoes the fence, and is noticed again.
    stage.restore();
    stage.expect_frozen("journal_shorter");
}

#[test]
fn the_fence_can_be_automatic() {
    let stage = Stage::new();
    stage.restore();
    let server = stage.builder().env("HOLDFAST_SLASHING_ON_ROLLBACK", "fence").start();
    stage.expect_fenced(&server);
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains("holdfast_slashing_fences_total 1"), "{metrics}");
    let (status, log) = server.stop();
    assert!(status.success(), "{status}\n{log}");
    assert!(log.contains("on_rollback"), "the automatic fence is not logged:\n{log}");
    assert_eq!(stage.run(&["slashing", "status"]).code, 0);
}

#[test]
fn one_key_can_be_fenced_before_the_others() {
    let stage = Stage::new();
    stage.restore();
    let key = stage.world.keys[1].public.clone();
    let fence = stage.run(&["slashing", "fence", "--key", &key]);
    assert_eq!(fence.code, 0, "{}", fence.text);
    assert!(fence.text.contains("fenced 1 keys") && fence.text.contains("stays frozen"), "{}", fence.text);
    let server = stage.start();
    assert_eq!(stage.attest(&server, 0, 700), 503, "the other key is still frozen");
    assert_eq!(stage.attest(&server, 1, 700), 412, "the fenced key is judged by the rules");
    assert!(server.stop().0.success());
    let stranger = format!("0x{}", "ab".repeat(48));
    let fence = stage.run(&["slashing", "fence", "--key", &stranger]);
    assert_eq!(fence.code, 1, "{}", fence.text);
    assert_eq!(stage.run(&["slashing", "status"]).code, 4);
    stage.fence_and_recover();
}

#[test]
fn a_deleted_write_ahead_log_freezes() {
    let stage = Stage::new();
    let server = stage.start();
    assert_eq!(stage.attest(&server, 0, 650), 200);
    server.kill9();
    let log = stage.world.data_dir().join("holdfast.db-wal");
    assert!(fs::metadata(&log).expect("a write-ahead log").len() > 0);
    fs::remove_file(log).expect("the log goes");
    stage.expect_frozen("journal_shorter");
    stage.fence_and_recover();
}

#[test]
fn a_deleted_or_damaged_anchor_freezes() {
    let stage = Stage::new();
    fs::remove_file(stage.anchor()).expect("the anchor goes");
    stage.expect_frozen("anchor_missing");
    stage.fence_and_recover();
    let stage = Stage::new();
    overwrite(&stage.anchor(), b"not an anchor");
    stage.expect_frozen("anchor_unreadable");
}

#[test]
fn a_copied_data_directory_freezes_in_the_copy_and_serves_in_the_original() {
    let stage = Stage::new();
    let copy = stage.world.path().join("copy");
    let copied = Command::new("cp").arg("-a").arg(stage.world.data_dir()).arg(&copy).status().expect("cp runs");
    assert!(copied.success());
    let original = stage.start();
    original.wait_ready();
    let mut arguments = stage.world.arguments();
    arguments[1] = copy.display().to_string();
    let builder =
        arguments.iter().fold(holdfast_tests::harness::Server::builder(), holdfast_tests::harness::Builder::global);
    let second = builder.start();
    let body = CHAIN.attestation(700 * 8, 699, 700, 2).0;
    let response = second.sign(&stage.world.keys[0].public, &body);
    assert_eq!((response.status, response.reason().as_str()), (503, "protection_frozen"), "{}", response.text());
    assert_eq!(once(second.metrics_addr(), "GET", "/readyz", &[], b"").expect("an answer").status, 503);
    assert_eq!(stage.attest(&original, 0, 700), 200, "the original is unharmed");
    drop(second);
    arguments.extend(["slashing".to_owned(), "status".to_owned()]);
    let status: Ended = holdfast_tests::harness::holdfast(&arguments).into();
    assert_eq!(status.code, 4, "{}", status.text);
    assert!(status.text.contains("is a copy"), "{}", status.text);
}

#[test]
fn another_database_under_the_same_anchor_freezes() {
    let stage = Stage::new();
    let other = World::new(2);
    for name in ["holdfast.db", "kek/file.key"] {
        let content = fs::read(other.data_dir().join(name)).expect("the other's file");
        overwrite(&stage.world.data_dir().join(name), &content);
    }
    stage.expect_frozen("other_database");
}
