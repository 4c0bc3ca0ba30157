//! Export, verify, prove, tail, checkpoint, key: by hand, wrongly, and beside a server that signs.

use std::path::Path;

use holdfast_tests::finished::run;
use holdfast_tests::world::{CHAIN, World};

use crate::stage::{file, history, public_key, python};

#[test]
fn an_auditor_with_the_public_key_believes_the_export() {
    let world = history();
    let (key, export) = (public_key(&world), file(&world, "journal.jsonl"));
    let exported = run(&world.with(&["--json", "audit", "export", "--to", &export])).expect(0, &["\"records\""]);
    let verified =
        run(&["--json", "audit", "verify", &export, "--checkpoint-key", &key]).expect(0, &["\"verified\":true"]);
    let verified = &verified.lines()[0];
    assert_eq!(verified["records"], exported.lines()[0]["records"]);
    assert_eq!((verified["signed"].as_u64(), verified["refused"].as_u64()), (Some(24), Some(12)));
    // The last batch holds the checkpoint that signs all before it.
    assert_eq!(verified["unsigned_batches"], 1);
    assert!(verified["checkpoints"].as_u64() >= Some(2), "{verified}");

    let head = verified["head"].as_u64().unwrap();
    let said = python(Path::new(&export), &key).expect(0, &["ok "]).stdout;
    assert_eq!(said.trim(), format!("ok {} {} {}", verified["batches"], verified["records"], head - 1));

    // The database itself, and a copy of it elsewhere.
    run(&world.with(&["audit", "verify", "--checkpoint-key", &key])).expect(0, &["verified", "signed"]);
    let copy = file(&world, "copy.db");
    std::fs::copy(world.data_dir().join("holdfast.db"), &copy).expect("a copy");
    run(&["audit", "verify", &copy, "--checkpoint-key", &key]).expect(0, &["verified", "signed"]);
    run(&["audit", "verify", &copy]).expect(0, &["--checkpoint-key"]);
}

#[test]
fn selections_proofs_and_tails_show_what_was_asked_for() {
    let world = history();
    let key = public_key(&world);
    let (selection, proof) = (file(&world, "selection.jsonl"), file(&world, "proof.jsonl"));
    let validator = &world.keys[1].public;
    run(&world.with(&["audit", "export", "--to", &selection, "--key", validator, "--result", "refused"]))
        .expect(0, &["exported"]);
    let verified = run(&["--json", "audit", "verify", &selection, "--checkpoint-key", &key]).expect(0, &[]);
    assert_eq!((verified.lines()[0]["signed"].as_u64(), verified.lines()[0]["refused"].as_u64()), (Some(0), Some(4)));
    python(Path::new(&selection), &key).expect(0, &["ok "]);

    let text = std::fs::read_to_string(&selection).unwrap();
    let batch = text.lines().position(|line| line.contains("double_vote")).expect("a refusal") - 1;
    let batch: serde_json::Value = serde_json::from_str(text.lines().nth(batch).unwrap()).unwrap();
    let number = batch["batch"].to_string();
    run(&world.with(&["audit", "prove", "--batch", &number, "--index", "0", "--to", &proof])).expect(0, &["exported"]);
    run(&["audit", "verify", &proof, "--checkpoint-key", &key]).expect(0, &["1 refused", "is signed"]);
    python(Path::new(&proof), &key).expect(0, &["ok "]);
    run(&world.with(&["audit", "prove", "--batch", "999999", "--index", "0", "--to", &proof]))
        .expect(1, &["no record"]);

    let tail = run(&world.with(&["audit", "tail", "-n", "3"])).expect(0, &["audit.checkpoint"]);
    assert_eq!(tail.stdout.lines().count(), 3, "{}", tail.stdout);
    let tail = run(&world.with(&["audit", "tail", "--operation", "attestation", "--result", "refused"])).expect(0, &[]);
    assert_eq!(tail.stdout.matches("double_vote").count(), 12, "{}", tail.stdout);

    for (format, phrase) in [("csv", "double_vote"), ("cef", "CEF:0|Holdfast"), ("ocsf", "\"class_uid\":6003")] {
        let to = file(&world, format);
        run(&world.with(&["audit", "export", "--format", format, "--to", &to])).expect(0, &["exported"]);
        assert!(std::fs::read_to_string(&to).unwrap().contains(phrase), "{format}");
    }
}

#[test]
fn a_hand_over_is_told_from_two_signers_at_once() {
    // The same keys in two databases, which must never be: one after the other is fine, one beside the other is found.
    let [old, new] = [World::new(2), World::new(2)];
    let signs = |world: &World, votes: std::ops::Range<u64>| {
        let server = world.server().start();
        server.wait_ready();
        for number in votes {
            let (vote, _) = CHAIN.attestation(8 * (number + 1), number, number + 1, 0);
            assert_eq!(server.sign(&world.keys[0].public, &vote).status, 200);
        }
        assert!(server.stop().0.success());
        let export = file(world, &format!("{}.jsonl", std::fs::read_dir(world.path()).unwrap().count()));
        run(&world.with(&["audit", "export", "--to", &export])).expect(0, &["exported"]);
        export
    };
    let (before, above) = (signs(&old, 0..4), signs(&new, 4..6));
    run(&["audit", "consistency", &before, &above])
        .expect(0, &["handed over", "with 1 keys", "goes on with 1 of them"]);
    let key = old.keys[0].public.as_str();
    run(&["audit", "consistency", &above, &before]).expect(1, &[key, "a vote from epoch 0 to 1", "were swapped"]);
    // The old one goes on, and the newer one had signed below that.
    let beside = signs(&old, 4..9);
    run(&["audit", "consistency", &beside, &above])
        .expect(1, &[key, "a vote from epoch 4 to 5", "a vote from epoch 8 to 9", "at the same time"]);
}

#[test]
fn an_end_cut_off_is_told_by_a_checkpoint_kept_elsewhere() {
    let world = World::new(1);
    let kept = file(&world, "kept-checkpoints");
    let start = || world.server().env("HOLDFAST_AUDIT_CHECKPOINT_FILE", &kept).start();
    let server = start();
    server.wait_ready();
    let (vote, _) = CHAIN.attestation(16, 0, 1, 0);
    assert_eq!(server.sign(&world.keys[0].public, &vote).status, 200);
    server.stop();
    let early = file(&world, "early.db");
    std::fs::copy(world.data_dir().join("holdfast.db"), &early).expect("a copy");
    let server = start();
    server.wait_ready();
    let (vote, _) = CHAIN.attestation(24, 1, 2, 0);
    assert_eq!(server.sign(&world.keys[0].public, &vote).status, 200);
    server.stop();
    let key = public_key(&world);
    run(&world.with(&["audit", "verify", "--checkpoint-key", &key, "--checkpoint", &kept])).expect(0, &["verified"]);
    run(&["audit", "verify", &early, "--checkpoint-key", &key, "--checkpoint", &kept])
        .expect(1, &["NOT in order", "was cut off"]);
    // The journal names the same checkpoint that was kept.
    let last = run(&world.with(&["audit", "checkpoint"])).expect(0, &["holdfast/"]).stdout;
    assert!(std::fs::read_to_string(&kept).unwrap().contains(last.trim()), "{last}");
}

#[test]
fn a_database_in_use_is_exported_and_the_export_goes_on_later() {
    let world = World::new(2);
    let export = file(&world, "journal.jsonl");
    let server = world.server().start();
    server.wait_ready();
    let sign = |number: u64| {
        let (vote, _) = CHAIN.attestation(8 * (number + 2), number, number + 1, 0);
        assert_eq!(server.sign(&world.keys[0].public, &vote).status, 200);
    };
    (0..5).for_each(sign);
    run(&world.with(&["audit", "export", "--to", &export])).expect(0, &["exported"]);
    let older = file(&world, "older.jsonl");
    std::fs::copy(&export, &older).expect("a copy");
    (5..9).for_each(sign);
    run(&world.with(&["audit", "export", "--to", &export, "--resume"])).expect(0, &["exported"]);
    run(&["audit", "verify", &export]).expect(0, &["9 signed"]);
    // Interrupted in the middle of a line.
    let text = std::fs::read(&export).unwrap();
    std::fs::write(&export, &text[..text.len() * 2 / 3]).unwrap();
    run(&["audit", "verify", &export]).expect(1, &["resume"]);
    (9..11).for_each(sign);
    run(&world.with(&["audit", "export", "--to", &export, "--resume"])).expect(0, &["exported"]);
    run(&["audit", "verify", &export]).expect(0, &["11 signed"]);
    run(&["audit", "consistency", &older, &export]).expect(0, &["consistent", "came after it"]);
    run(&["audit", "consistency", &export, &older]).expect(1, &["are missing in the newer export"]);
    let other = World::new(1);
    run(&other.with(&["audit", "export", "--to", &export, "--resume"])).expect(2, &["instance"]);
    assert!(server.stop().0.success());
}

#[test]
fn an_export_is_recorded_before_it_is_written() {
    let world = history();
    let (one, two) = (file(&world, "one.jsonl"), file(&world, "two.jsonl"));
    let first = run(&world.with(&["--json", "audit", "export", "--to", &one])).expect(0, &[]);
    run(&world.with(&["audit", "export", "--to", &two, "--result", "refused", "--key", &world.keys[0].public]))
        .expect(0, &[]);
    run(&world.with(&["audit", "export", "--format", "csv", "--to", &file(&world, "three.csv")])).expect(0, &[]);
    let tail = run(&world.with(&["audit", "tail", "--operation", "audit.exported"])).expect(0, &[]).stdout;
    // Checkpoints are always shown.
    let lines: Vec<&str> = tail.lines().filter(|line| line.contains("audit.exported")).collect();
    assert_eq!(lines.len(), 3, "{tail}");
    let head = first.lines()[0]["head"].as_u64().unwrap();
    assert!(lines[0].contains(&format!("batches/1-{head} jsonl, everything by cli:uid=")), "{tail}");
    assert!(lines[1].contains("refused") && lines[1].contains(&world.keys[0].public), "{tail}");
    assert!(lines[2].contains("csv, everything"), "{tail}");
    // A running server records it itself.
    let server = world.server().start();
    server.wait_ready();
    let through = run(&world.with(&["--json", "audit", "export", "--to", &file(&world, "four.jsonl")])).expect(0, &[]);
    assert_eq!(through.lines()[0]["recorded"], true);
    assert!(server.stop().0.success());
    let tail = run(&world.with(&["audit", "tail", "--operation", "audit.exported"])).expect(0, &[]).stdout;
    let last = tail.lines().rfind(|line| line.contains("audit.exported")).unwrap_or_default();
    assert!(last.contains("jsonl, everything") && last.contains("(unix)"), "{tail}");
    let four = file(&world, "four.jsonl");
    run(&["audit", "verify", &four, "--checkpoint-key", &public_key(&world)]).expect(0, &["verified"]);
    run(&["audit", "consistency", &one, &four]).expect(0, &["consistent"]);
}

#[test]
fn mistakes_are_explained() {
    let world = history();
    let (key, export) = (public_key(&world), file(&world, "journal.jsonl"));
    run(&world.with(&["audit", "export", "--to", "/nowhere/x"])).expect(2, &["/nowhere/x"]);
    run(&world.with(&["audit", "export", "--to", &export, "--since", "yesterday"])).expect(2, &["2026-07-01"]);
    run(&world.with(&["audit", "export", "--to", &export, "--resume", "--key", &world.keys[0].public]))
        .expect(2, &["--resume"]);
    run(&world.with(&["audit", "export", "--to", &export, "--resume"])).expect(2, &["journal.jsonl"]);
    run(&world.with(&["audit", "export", "--to", &export])).expect(0, &[]);
    let written = std::fs::read(&export).unwrap();
    run(&world.with(&["audit", "export", "--to", &export])).expect(2, &["is there already", "--resume"]);
    assert_eq!(std::fs::read(&export).unwrap(), written, "evidence is not written over");
    run(&["audit", "verify", &export, "--checkpoint-key", &export]).expect(2, &["audit key"]);
    run(&["audit", "verify", &export, "--checkpoint", &key]).expect(2, &["audit checkpoint"]);
    run(&["audit", "verify", "/nowhere"]).expect(2, &["/nowhere"]);
    run(&["audit", "verify", &key]).expect(1, &["not one of an export"]);
    let empty = World::new(0);
    run(&empty.with(&["audit", "export", "--to", &export])).expect(2, &["no database"]);
    run(&empty.with(&["audit", "key"])).expect(1, &["first start"]);
}

#[test]
fn the_checkpoint_key_outlives_the_data_key() {
    let world = history();
    let key = public_key(&world);
    let before = std::fs::read(world.data_dir().join("checkpoint.key")).unwrap();
    run(&world.with(&["kek", "rotate", "--data-key"])).expect(0, &[]);
    let after = std::fs::read(world.data_dir().join("checkpoint.key")).unwrap();
    assert!(before != after && after.len() == before.len(), "sealed anew, under one data key");
    let server = world.server().start();
    server.wait_ready();
    let (randao, _) = CHAIN.randao(1);
    assert_eq!(server.sign(&world.keys[0].public, &randao).status, 200);
    assert!(server.stop().0.success());
    run(&world.with(&["audit", "verify", "--checkpoint-key", &key])).expect(0, &["25 signed", "; 1 batches after it"]);
}

#[test]
fn a_checkpoint_key_that_does_not_open_stops_no_signature_and_is_kept() {
    let world = history();
    let path = world.data_dir().join("checkpoint.key");
    let mut sealed = std::fs::read(&path).unwrap();
    assert_eq!(sealed.len(), 69, "sealed, not plain");
    *sealed.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &sealed).unwrap();
    let server = world.server().start();
    server.wait_ready();
    let (randao, _) = CHAIN.randao(1);
    assert_eq!(server.sign(&world.keys[0].public, &randao).status, 200);
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("checkpoint key"), "{log}");
    assert_eq!(std::fs::read(&path).unwrap(), sealed);
}
