//! A key moves from one data directory to another: it is never live in both, and what it signed goes along.
//! Who is switched off stays so.

use std::os::unix::fs::PermissionsExt;

use holdfast_tests::finished;
use holdfast_tests::harness::{Server, holdfast};
use holdfast_tests::world::{CHAIN, World};
use serde_json::Value;

use crate::support::{entry, file, keys, marks, run, world_with_keystore, write};

fn start(world: &World) -> Server {
    let server = world.server().start();
    server.wait_ready();
    server
}

fn vote(server: &Server, key: &str, source: u64, target: u64, seed: u64) -> (u16, String) {
    let (body, _) = CHAIN.attestation(target * 8, source, target, seed);
    let answer = server.sign(key, &body);
    (answer.status, if answer.status == 200 { String::new() } else { answer.reason() })
}

fn block(server: &Server, key: &str, slot: u64, seed: u64) -> (u16, String) {
    let answer = server.sign(key, &CHAIN.block(slot, seed).0);
    (answer.status, if answer.status == 200 { String::new() } else { answer.reason() })
}

#[test]
fn export_with_disable_then_import_elsewhere() {
    let first = World::new(1);
    let key = first.keys[0].public.clone();
    let server = start(&first);
    assert_eq!(vote(&server, &key, 5, 9, 1).0, 200);
    assert_eq!(block(&server, &key, 77, 1).0, 200);
    server.stop();

    let path = first.path().join("history.json").display().to_string();
    let exported = run(&first, &["slashing", "export", "--to", &path, "--key", &key, "--disable"]).expect(0, &[]);
    assert_eq!(exported.lines()[0]["disabled"], 1);
    assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    let server = start(&first);
    assert_eq!(vote(&server, &key, 9, 10, 1), (412, "key_disabled".to_owned()));
    assert_eq!(vote(&server, &key, 5, 9, 1), (412, "key_disabled".to_owned()), "not even the same again");
    assert_eq!(server.sign(&key, &CHAIN.randao(3).0).status, 412, "nothing is signed that is not slashable either");
    server.stop();

    let (second, _) = world_with_keystore(0);
    let import = second.import_arguments(&["--watermark", "interchange", "--slashing-protection", &path]);
    finished::run(&import).expect(0, &["imported"]);
    assert_eq!(marks(&second, &key), (Some(77), Some(5), Some(9)), "no epoch is lost");
    let server = start(&second);
    assert_eq!(vote(&server, &key, 5, 9, 2).0, 412, "a double vote across both");
    assert_eq!(vote(&server, &key, 4, 10, 1).0, 412, "a surrounding vote across both");
    assert_eq!(block(&server, &key, 77, 2).0, 412, "a double block across both");
    assert_eq!(vote(&server, &key, 9, 10, 1).0, 200);
    assert_eq!(block(&server, &key, 78, 1).0, 200);
    server.stop();
}

#[test]
fn a_disabled_key_stays_so_through_restart_reload_and_import_and_says_who_and_when() {
    let world = World::new(2);
    let (off, on) = (world.keys[0].public.clone(), world.keys[1].public.clone());
    run(&world, &["keys", "disable", &off]).expect(0, &["disabled"]);
    world.import(&["--watermark", "now"]);
    let server = start(&world);
    assert_eq!(vote(&server, &off, 1, 2, 1), (412, "key_disabled".to_owned()));
    assert_eq!(vote(&server, &on, 1, 2, 1).0, 200);
    let reload = holdfast_tests::http::once(server.http_addr(), "POST", "/reload", &[], b"").expect("answers");
    assert_eq!(reload.status, 202);
    while server.get("/reload").json()["status"] == "running" {}
    assert_eq!(server.get("/reload").json()["status"], "completed");
    assert_eq!(vote(&server, &off, 1, 2, 1), (412, "key_disabled".to_owned()));
    assert!(server.get("/api/v1/eth2/publicKeys").text().contains(&off), "listed, and refused with 412");
    server.stop();
    let shown = run(&world, &["keys", "show", &off]).expect(0, &[]).lines()[0].clone();
    assert_eq!(shown["state"], "disabled");
    assert!(shown["changed_by"].as_str().is_some_and(|who| who.starts_with("cli:uid=")), "{shown}");
    assert!(shown["changed"].as_str().is_some_and(|when| when >= shown["created"].as_str().unwrap()), "{shown}");
    run(&world, &["keys", "enable", &off]).expect(0, &["enabled", "fenced at the present"]);
    assert!(marks(&world, &off).0.is_some_and(|slot| slot > 1_000_000), "nobody knows what it signed elsewhere");
    let server = start(&world);
    let (status, reason) = vote(&server, &off, 1, 2, 1);
    assert_eq!(status, 412);
    assert_ne!(reason, "key_disabled");
    let begun = std::time::Instant::now();
    while block(&server, &off, present(), 1).0 != 200 {
        assert!(
            begun.elapsed() < std::time::Duration::from_mins(1),
            "it signs nothing above the fence: {}",
            server.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    server.stop();
    let unknown = holdfast_tests::keys::TestKey::interop(30).public;
    run(&world, &["keys", "disable", &unknown]).expect(1, &["not registered"]);
}

/// The slot at this moment.
fn present() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    (now - holdfast_tests::world::GENESIS_TIME) / 6
}

#[test]
fn a_key_that_comes_back_brings_along_what_it_signed_elsewhere_whether_it_is_off_or_at_work() {
    let (first, second) = (World::new(2), World::new(0));
    let (back, on) = (first.keys[0].public.clone(), first.keys[1].public.clone());
    let gone = first.path().join("gone.json").display().to_string();
    run(&first, &["slashing", "export", "--to", &gone, "--disable", "--key", &back]).expect(0, &[]);
    std::fs::create_dir_all(second.path().join("keys")).expect("a folder");
    first.keys[0].write_keystore(&second.path().join("keys"), "correct horse");
    let there = ["--watermark", "interchange", "--slashing-protection", &gone];
    finished::run(&second.import_arguments(&there)).expect(0, &["imported"]);
    let server = start(&second);
    assert_eq!(vote(&server, &back, 800, 900, 1).0, 200);
    assert_eq!(block(&server, &back, 7_200, 1).0, 200);
    server.stop();
    let path = second.path().join("back.json").display().to_string();
    run(&second, &["slashing", "export", "--to", &path, "--disable", "--key", &back]).expect(0, &[]);

    // Held here all the while: the same command again brings its history, and changes nothing else.
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON");
    file["data"].as_array_mut().expect("a list").push(entry(&on, 40, 6, 7));
    let path = write(&first, "back.json", &file.to_string());
    let import = ["--watermark", "now", "--slashing-protection", &path];
    let lines = finished::run(&first.import_arguments(&import)).expect(0, &[]).text();
    assert_eq!(lines.matches("its history was taken in").count(), 2, "{lines}");
    assert_eq!(marks(&first, &back), (Some(7_200), Some(800), Some(900)));
    assert_eq!(marks(&first, &on), (Some(40), Some(6), Some(7)), "a key at work is not fenced");
    let again = finished::run(&first.import_arguments(&import)).expect(0, &["nothing was changed"]).text();
    assert!(!again.contains("taken in"), "{again}");
    let server = start(&first);
    assert_eq!(vote(&server, &back, 800, 901, 1), (412, "key_disabled".to_owned()), "it stays off");
    assert_eq!(vote(&server, &on, 6, 8, 1).0, 200);
    server.stop();
    run(&first, &["keys", "enable", &back]).expect(0, &["fenced at the present"]);
    let server = start(&first);
    assert_eq!(vote(&server, &back, 799, 901, 1).0, 412);
    assert_eq!(block(&server, &back, 7_200, 2).0, 412);
    server.stop();
}

#[test]
fn histories_of_keys_not_held_are_kept_for_the_day_they_are() {
    let (world, key) = world_with_keystore(5);
    let path = write(&world, "h.json", &file(&serde_json::json!([entry(&key.public, 40, 6, 7)])).to_string());
    let report = run(&world, &["slashing", "import", "--from", &path]).expect(0, &[]).lines();
    assert_eq!((&report[0]["change"], &report[0]["after"]["block_slot"]), (&Value::from("new"), &Value::from(40)));
    run(&world, &["keys", "enable", &key.public]).expect(1, &["import the key"]);
    let refused = finished::run(&world.import_arguments(&["--watermark", "never-signed"]));
    refused.expect(1, &["never-signed"]);
    let older = write(&world, "older.json", &file(&serde_json::json!([entry(&key.public, 30, 6, 9)])).to_string());
    let import = world.import_arguments(&["--watermark", "interchange", "--slashing-protection", &older]);
    finished::run(&import).expect(0, &["imported"]);
    assert_eq!(marks(&world, &key.public), (Some(40), Some(6), Some(9)), "the higher of each");
    let server = start(&world);
    assert_eq!(vote(&server, &key.public, 5, 10, 1).0, 412);
    assert_eq!(vote(&server, &key.public, 6, 10, 1).0, 200);
}

#[test]
fn now_is_merged_with_a_history_and_a_history_alone_must_list_the_key() {
    let (world, key) = world_with_keystore(6);
    let other = file(&serde_json::json!([entry(&holdfast_tests::keys::TestKey::interop(7).public, 1, 1, 1)]));
    let path = write(&world, "other.json", &other.to_string());
    let import = |world: &World, extra: &[&str]| finished::run(&world.import_arguments(extra));
    import(&world, &["--watermark", "interchange"]).expect(2, &["--slashing-protection"]);
    import(&world, &["--watermark", "never-signed", "--slashing-protection", &path]).expect(2, &["contradict"]);
    import(&world, &["--watermark", "interchange", "--slashing-protection", &path]).expect(1, &["does not list"]);
    let far = 1_u64 << 40;
    let own = write(&world, "own.json", &file(&serde_json::json!([entry(&key.public, 3, 2, far)])).to_string());
    import(&world, &["--slashing-protection", &own]).expect(0, &["imported"]);
    let (slot, source, target) = marks(&world, &key.public);
    assert!(slot.is_some_and(|slot| slot > 1_000_000), "the present is above the history: {slot:?}");
    assert!(source.is_some_and(|source| source > 100_000));
    assert_eq!(target, Some(far), "the history is above the present");
}

#[test]
fn an_export_is_a_file_every_reader_takes() {
    let world = World::new(3);
    let server = start(&world);
    assert_eq!(vote(&server, &world.keys[1].public, 5, 9, 1).0, 200);
    server.stop();
    let whole = run(&world, &["slashing", "export", "--to", "-"]).expect(0, &[]);
    let value: Value = serde_json::from_str(&whole.stdout).expect("standard output is the file and nothing else");
    assert_eq!(value["data"].as_array().map(Vec::len), Some(3));
    let before = keys(&world);
    let path = write(&world, "back.json", &whole.stdout);
    let again = run(&world, &["slashing", "import", "--from", &path]).expect(0, &[]);
    assert!(again.lines().iter().filter(|line| line["pubkey"].is_string()).all(|line| line["change"] == "unchanged"));
    assert_eq!(keys(&world), before);
    let unknown = holdfast_tests::keys::TestKey::interop(30).public;
    run(&world, &["slashing", "export", "--to", &path, "--key", &unknown]).expect(1, &[&unknown]);
    run(&world, &["slashing", "export", "--to", "/does/not/exist/x"]).expect(2, &["/does/not/exist"]);
    let text = holdfast(&world.with(&["slashing", "import", "--from", &path, "--dry-run"]));
    assert!(String::from_utf8_lossy(&text.stdout).contains("nothing was changed"));
}
