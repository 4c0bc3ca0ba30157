//! Whoever can write the database: what is changed in it is named, by both verifiers.

use std::collections::BTreeSet;
use std::path::Path;

use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_audit::verify::{Trust, verify_journal};
use holdfast_domain::MessageKind;
use holdfast_slashing_db::journal::{Outcome, Reader, Record};
use holdfast_tests::finished::run;
use holdfast_tests::harness::workspace;
use holdfast_tests::world::{CHAIN, World};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rusqlite::Connection;

use crate::stage::{file, history, public_key, python};

/// Databases changed in one test.
const DATABASES: u64 = 1_500;
/// Exports changed and shown to both verifiers.
const EXPORTS: u64 = 40;

/// What a journal says, record by record, with where it ends.
fn content(path: &Path, trust: &Trust) -> Result<Vec<Record>, u64> {
    let reader = Reader::open(path).map_err(|_| 0_u64)?;
    let instance = reader.instance();
    let after = reader.head();
    let mut records = Vec::new();
    let batches = reader.inspect(|batch| {
        if let Ok(batch) = batch {
            records.extend(batch.records.clone());
        }
    });
    match verify_journal(batches, instance, after, trust) {
        Ok(_) => Ok(records),
        Err(broken) => Err(broken.batch),
    }
}

/// Does one thing to the rows of a journal; says which batch is the first to be wrong.
fn tamper(database: &Connection, dice: &mut ChaCha8Rng, last: i64) -> (String, u64) {
    let seq = dice.random_range(1..=last);
    let first = u64::try_from(seq).unwrap();
    let columns = ["entries", "merkle_root", "prev_hash", "hash"];
    match dice.random_range(0..9) {
        0..=2 => {
            let column = columns[dice.random_range(0..columns.len())];
            let sql = format!("SELECT {column} FROM journal WHERE seq = ?1");
            let mut bytes: Vec<u8> = database.query_row(&sql, [seq], |row| row.get(0)).expect("a batch");
            let place = dice.random_range(0..bytes.len());
            bytes[place] ^= 1 << dice.random_range(0..8);
            let sql = format!("UPDATE journal SET {column} = ?1 WHERE seq = ?2");
            database.execute(&sql, (bytes, seq)).expect("changed");
            (format!("a bit of {column} of {seq}"), first)
        }
        3 => {
            let column = ["time_ms", "count"][dice.random_range(0..2)];
            let sql = format!("UPDATE journal SET {column} = {column} + 1 WHERE seq = ?1");
            database.execute(&sql, [seq]).expect("changed");
            (format!("{column} of {seq}"), first)
        }
        4 => {
            // The very last one, which holds the checkpoint of all before it, cannot be missed.
            let seq = seq.min(last - 1);
            database.execute("DELETE FROM journal WHERE seq = ?1", [seq]).expect("deleted");
            (format!("{seq} deleted"), u64::try_from(seq).unwrap())
        }
        5 => {
            // The end is cut off after a checkpoint or anywhere else.
            let seq = seq.min(last - 1);
            database.execute("DELETE FROM journal WHERE seq >= ?1", [seq]).expect("deleted");
            (format!("cut off from {seq} on"), u64::try_from(seq).unwrap())
        }
        6 => {
            // A batch a second time, in the middle or at the end.
            let moved = "UPDATE journal SET seq = seq + 1000001 WHERE seq > ?1";
            database.execute(moved, [seq]).expect("changed");
            database.execute("UPDATE journal SET seq = seq - 1000000 WHERE seq > 1000000", []).expect("changed");
            copy_row(database, seq, seq + 1);
            (format!("{seq} a second time"), first + 1)
        }
        7 => {
            let other = dice.random_range(1..=last);
            let (one, other) = (seq.min(other), if seq == other { seq % last + 1 } else { seq.max(other) });
            let (one, other) = (one.min(other), one.max(other));
            for (from, to) in [(one, 1_000_000), (other, one), (1_000_000, other)] {
                database.execute("UPDATE journal SET seq = ?2 WHERE seq = ?1", [from, to]).expect("changed");
            }
            (format!("{one} and {other} in each other's place"), u64::try_from(one).unwrap())
        }
        _ => {
            let other = if seq == last { seq - 1 } else { seq + 1 };
            let sql = "UPDATE journal SET entries = (SELECT entries FROM journal WHERE seq = ?2) WHERE seq = ?1";
            database.execute(sql, (seq, other)).expect("changed");
            (format!("entries of {other} in {seq}"), first)
        }
    }
}

/// Puts a copy of a row under another number.
fn copy_row(database: &Connection, from: i64, to: i64) {
    let sql = "CREATE TEMP TABLE copied AS SELECT * FROM journal WHERE seq = {from};
               UPDATE copied SET seq = {to}; INSERT INTO journal SELECT * FROM copied; DROP TABLE copied";
    let sql = sql.replace("{from}", &from.to_string()).replace("{to}", &to.to_string());
    database.execute_batch(&sql).expect("copied");
}

/// The public key, and the last checkpoint as somebody else keeps it.
fn kept_elsewhere(world: &World) -> Trust {
    let key = std::fs::read_to_string(public_key(world)).unwrap();
    let note = run(&world.with(&["audit", "checkpoint"])).expect(0, &[]).stdout;
    Trust { keys: vec![key.trim().parse().unwrap()], checkpoints: SignedCheckpoint::all_from(&note).unwrap() }
}

#[test]
fn every_change_of_a_database_is_named() {
    let world = history();
    let trust = kept_elsewhere(&world);
    let original = world.data_dir().join("holdfast.db");
    let honest = content(&original, &trust).expect("untouched it is in order");
    let copy = world.path().join("copy.db");
    let last: i64 = Connection::open(&original)
        .and_then(|database| database.query_row("SELECT max(seq) FROM journal", [], |row| row.get(0)))
        .expect("a journal");
    let mut harmless = 0;
    for seed in 0..DATABASES {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        std::fs::copy(&original, &copy).expect("a copy");
        let (what, first) = {
            let database = Connection::open(&copy).expect("an SQLite file");
            for trigger in triggers(&database) {
                database.execute_batch(&format!("DROP TRIGGER {trigger}")).expect("whoever has the file may");
            }
            tamper(&database, &mut dice, last)
        };
        match content(&copy, &trust) {
            Err(named) => assert_eq!(named, first, "seed {seed}: {what}"),
            // Two batches may hold the same bytes.
            Ok(records) if records == honest => harmless += 1,
            Ok(_) => panic!("seed {seed}: {what} was not noticed"),
        }
    }
    println!("{DATABASES} databases changed, {harmless} of them without effect, all others named");
    assert!(harmless < DATABASES / 10);
}

/// Files of a database changed in one test, byte by byte.
const FILES: u64 = 1_200;

#[test]
fn a_database_file_that_was_damaged_anywhere_shows_no_other_history() {
    let world = history();
    let trust = kept_elsewhere(&world);
    let original = std::fs::read(world.data_dir().join("holdfast.db")).expect("the database");
    let copy = world.path().join("copy.db");
    std::fs::write(&copy, &original).expect("a copy");
    let honest = content(&copy, &trust).expect("untouched it is in order");
    let mut noticed = 0;
    for seed in 0..FILES {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = original.clone();
        let place = dice.random_range(0..bytes.len());
        let what = match dice.random_range(0..3) {
            0 => {
                bytes[place] ^= 1 << dice.random_range(0..8);
                "a bit"
            }
            1 => {
                bytes.truncate(place);
                "cut off"
            }
            _ => {
                bytes.remove(place);
                "a byte removed"
            }
        };
        std::fs::write(&copy, &bytes).expect("a copy");
        match content(&copy, &trust) {
            Err(_) => noticed += 1,
            // Bytes of other tables, of indexes and of free pages are none of the journal's.
            Ok(records) => assert!(records == honest, "seed {seed}: {what} at byte {place} shows another history"),
        }
    }
    println!("{FILES} files damaged, {noticed} of them noticed, the others without effect on the journal");
    assert!(noticed > FILES / 3);
}

#[test]
fn a_database_rolled_back_is_named() {
    let world = World::new(1);
    let mut copies = Vec::new();
    for step in 0..4_u64 {
        let server = world.server().start();
        server.wait_ready();
        let (vote, _) = CHAIN.attestation(8 * (step + 2), step, step + 1, 0);
        assert_eq!(server.sign(&world.keys[0].public, &vote).status, 200);
        assert!(server.stop().0.success());
        let copy = world.path().join(format!("copy-{step}.db"));
        std::fs::copy(world.data_dir().join("holdfast.db"), &copy).expect("a copy");
        copies.push((copy, kept_elsewhere(&world)));
    }
    for (step, (copy, _)) in copies.iter().enumerate() {
        for (later, (_, trust)) in copies.iter().enumerate() {
            let last = Reader::open(copy).expect("a journal").map(Result::unwrap).last().expect("a batch");
            match content(copy, trust) {
                Ok(_) => assert!(later <= step, "copy {step} passes for {later}"),
                Err(named) => assert!(later > step && named == last.header.seq + 1, "copy {step}, {later}: {named}"),
            }
        }
    }
}

fn triggers(database: &Connection) -> Vec<String> {
    let mut found = database.prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'").expect("a schema");
    let names = found.query_map([], |row| row.get(0)).expect("triggers");
    names.map(|name| name.expect("a name")).collect()
}

#[test]
fn the_verifier_of_other_hands_knows_every_word() {
    let script = std::fs::read_to_string(workspace().join("tests/audit/verify.py")).expect("the script");
    let known: BTreeSet<&str> = script.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_').collect();
    let reasons = (0..=u8::MAX).filter_map(Outcome::from_code).map(Outcome::reason);
    let kinds = MessageKind::ALL.into_iter().map(MessageKind::as_str);
    for word in reasons.chain(kinds) {
        assert!(known.contains(word), "verify.py does not know {word:?}, and would reject a journal with it");
    }
}

#[test]
fn a_verifier_of_other_hands_agrees() {
    let world = history();
    let (key, export) = (public_key(&world), file(&world, "journal.jsonl"));
    run(&world.with(&["audit", "export", "--to", &export])).expect(0, &[]);
    python(Path::new(&export), &key).expect(0, &["ok "]);
    let text = std::fs::read(&export).unwrap();
    let changed = world.path().join("changed.jsonl");
    for seed in 0..EXPORTS {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = text.clone();
        let place = dice.random_range(0..bytes.len());
        if dice.random_range(0..4) == 0 {
            bytes.truncate(place);
        } else if bytes[place].is_ascii_hexdigit() {
            bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
        } else {
            bytes.remove(place);
        }
        std::fs::write(&changed, &bytes).unwrap();
        let ours = run(&["audit", "verify", changed.to_str().unwrap(), "--checkpoint-key", &key]);
        let theirs = python(&changed, &key);
        assert_eq!((ours.code, theirs.code), (1, 1), "seed {seed}, byte {place}\n{}\n{}", ours.text(), theirs.text());
    }
}
