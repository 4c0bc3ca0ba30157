//! `keys export`: what leaves opens elsewhere with its history, never signs here again, and is in the journal.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use eth2_keystore::{Keystore, Password};
use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::Server;
use holdfast_tests::journal;
use holdfast_tests::world::{CHAIN, World};
use serde_json::Value;

use crate::generate::private;

const FLAG: &str = "--i-understand-that-exported-keys-can-be-slashed-elsewhere";
const PASSWORD: &str = "a long password";

fn export(world: &World, to: &Path, options: &[&str]) -> Finished {
    let (to, password) = (to.display().to_string(), private(world, "export-password.txt", PASSWORD));
    let fixed = ["--json", "keys", "export", "--to", &to, "--password-file", &password, "--kdf", "pbkdf2"];
    run(&world.with(&[&fixed, options].concat()))
}

fn start(world: &World) -> Server {
    let server = world.server().start();
    server.wait_ready();
    server
}

fn vote(server: &Server, key: &str, source: u64, target: u64, seed: u64) -> (u16, String) {
    let answer = server.sign(key, &CHAIN.attestation(target * 8, source, target, seed).0);
    (answer.status, if answer.status == 200 { String::new() } else { answer.reason() })
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn exported_keys_sign_elsewhere_and_not_here() {
    let world = World::new(3);
    let [first, second, third] = [0, 1, 2].map(|index| world.keys[index].public.clone());
    let server = start(&world);
    assert_eq!(vote(&server, &first, 5, 9, 1).0, 200);
    server.stop();
    let to = world.path().join("out");
    let done = export(&world, &to, &[FLAG, &first, &second]).expect(0, &["written"]);
    assert_eq!(
        done.lines().last().map(|line| (line["exported"].clone(), line["disabled"].clone())),
        Some((2.into(), 2.into()))
    );
    let files = names(&to);
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let mode = std::fs::metadata(to.join(file)).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(&to).expect("the directory").permissions().mode() & 0o777, 0o700);
    for key in &world.keys[..2] {
        let file = to.join(format!("keystore-{}.json", key.public));
        let keystore = Keystore::from_json(&std::fs::read(file).expect("the keystore")).expect("a keystore");
        let secret = keystore.decrypt(&Password::new(PASSWORD)).expect("it opens");
        secret.expose(|bytes| assert_eq!(bytes, &key.secret.to_bytes()));
    }
    let history: Value =
        serde_json::from_slice(&std::fs::read(to.join("slashing_protection.json")).expect("the history"))
            .expect("JSON");
    let mut listed: Vec<&str> =
        history["data"].as_array().expect("a list").iter().filter_map(|one| one["pubkey"].as_str()).collect();
    listed.sort_unstable();
    let mut wanted = [first.as_str(), &second];
    wanted.sort_unstable();
    assert_eq!(listed, wanted, "exactly these keys");

    // The journal names each key that left, and who took it.
    let events = journal::read(&world.data_dir()).events;
    let mut left: Vec<String> = events
        .iter()
        .filter(|event| event.kind().as_str() == "keys.exported")
        .map(|event| {
            assert!(event.caller().as_str().starts_with("cli:uid=") && event.why() == "switched off", "{event:?}");
            event.key().expect("a key").to_string()
        })
        .collect();
    left.sort();
    assert_eq!(left, wanted);

    let server = start(&world);
    assert_eq!(vote(&server, &first, 9, 10, 1), (412, "key_disabled".to_owned()));
    assert_eq!(server.sign(&second, &CHAIN.randao(3).0).status, 412);
    assert_eq!(vote(&server, &third, 9, 10, 1).0, 200);
    server.stop();

    let other = World::new(0);
    let (from, password) = (to.display().to_string(), private(&other, "pw.txt", PASSWORD));
    let protection = to.join("slashing_protection.json").display().to_string();
    run(&other.with(&[
        "keys",
        "import",
        "--from",
        &from,
        "--password-file",
        &password,
        "--watermark",
        "interchange",
        "--slashing-protection",
        &protection,
    ]))
    .expect(0, &["2 imported"]);
    let server = start(&other);
    assert_eq!(vote(&server, &first, 5, 9, 2).0, 412, "a double vote across both");
    assert_eq!(vote(&server, &first, 4, 10, 1).0, 412, "a surrounding vote across both");
    assert_eq!(vote(&server, &first, 9, 10, 1).0, 200);
    server.stop();
}

#[test]
fn what_cannot_work_is_found_before_a_key_is_switched_off() {
    let world = World::new(2);
    let key = world.keys[0].public.clone();
    let to = world.path().join("out");
    let unknown = holdfast_tests::keys::TestKey::interop(40).public;
    export(&world, &to, &[&key]).expect(2, &["slashed", FLAG]);
    export(&world, &to, &[FLAG, &key, &unknown]).expect(1, &[&unknown, "nothing was exported"]);
    export(&world, &to, &[FLAG, "--all", &key]).expect(2, &["--all"]);
    export(&world, world.path(), &[FLAG, &key]).expect(2, &["not an empty directory"]);
    let short = private(&world, "short.txt", "short");
    let place = to.display().to_string();
    run(&world.with(&["keys", "export", "--to", &place, "--password-file", &short, FLAG, &key]))
        .expect(2, &["shorter"]);
    run(&world.with(&["keys", "export", "--to", &place, FLAG, &key])).expect(2, &["no password"]);
    let server = start(&world);
    export(&world, &to, &[FLAG, &key]).expect(3, &["already open", "stop that process"]);
    assert_eq!(vote(&server, &key, 5, 9, 1).0, 200);
    server.stop();
    // The provider of the data key is away: its file is, here.
    let (kek, away) = (world.data_dir().join("kek/file.key"), world.path().join("away.key"));
    std::fs::rename(&kek, &away).expect("moved away");
    export(&world, &to, &[FLAG, &key]).expect(3, &["file.key"]);
    std::fs::rename(&away, &kek).expect("moved back");
    // A database under suspicion does not hand out a history that may be too short, and so no key.
    let anchor = world.data_dir().join("anchor");
    std::fs::rename(&anchor, &away).expect("moved away");
    export(&world, &to, &[FLAG, &key]).expect(4, &["holdfast slashing fence"]);
    assert_eq!(names(&to), Vec::<String>::new(), "no file of a key that did not leave");
    run(&world.with(&["slashing", "fence"])).expect(0, &[]);
    let shown = run(&world.with(&["--json", "keys", "show", &key])).expect(0, &[]).lines()[0].clone();
    assert_eq!(shown["state"], "enabled");
    let left = journal::read(&world.data_dir()).events.iter().any(|event| event.kind().as_str() == "keys.exported");
    assert!(!left, "nothing left");
}

#[test]
fn a_backup_of_keys_leaves_them_signing_and_a_damaged_key_costs_itself() {
    let world = World::new(3);
    let (damaged, good) = (world.keys[0].public.clone(), world.keys[1].public.clone());
    let db = rusqlite::Connection::open(world.data_dir().join("holdfast.db")).expect("the database");
    let bytes = hex::decode(&damaged[2..]).expect("hex");
    let row = "id = (SELECT id FROM validators WHERE pubkey = ?1)";
    let query = format!("SELECT sealed FROM sealed_keys WHERE {row}");
    let mut sealed: Vec<u8> = db.query_row(&query, [&bytes], |row| row.get(0)).expect("a sealed key");
    *sealed.last_mut().expect("bytes") ^= 1;
    let update = format!("UPDATE sealed_keys SET sealed = ?2 WHERE {row}");
    assert_eq!(db.execute(&update, rusqlite::params![bytes, sealed]).expect("damaged"), 1);
    drop(db);
    let to = world.path().join("out");
    let done = export(&world, &to, &[FLAG, "--all", "--keep-enabled"]).expect(1, &[&damaged[..18]]);
    assert_eq!(done.lines().iter().filter(|line| line["status"] == "written").count(), 2);
    assert_eq!(names(&to).len(), 3, "{:?}", names(&to));
    let server = start(&world);
    assert_eq!(vote(&server, &good, 5, 9, 1).0, 200);
    server.stop();
}

#[test]
fn killed_at_any_moment_no_file_is_unrecorded_and_no_exported_key_signs() {
    let world = World::new(16);
    let password = private(&world, "pw.txt", PASSWORD);
    let (mut with_files, mut without) = (0, 0);
    for round in 0..10_u32 {
        for key in &world.keys {
            run(&world.with(&["keys", "enable", &key.public])).expect(0, &[]);
        }
        let to = world.path().join(format!("out{round}"));
        let place = to.display().to_string();
        let mut child = holdfast_tests::harness::command()
            .args(world.with(&[
                "keys",
                "export",
                "--all",
                "--to",
                &place,
                "--password-file",
                &password,
                "--kdf",
                "pbkdf2",
                FLAG,
            ]))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        // Even rounds: so long after the start. Odd ones: so long after the first keystore is there.
        let exported = || names(&to).iter().any(|name| name.starts_with("keystore-"));
        let mut running = || child.try_wait().expect("it can be waited for").is_none();
        while round % 2 == 1 && !exported() && running() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let kill_at = std::time::Instant::now() + std::time::Duration::from_millis(u64::from(round) * 20);
        while std::time::Instant::now() < kill_at && running() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().expect("SIGKILL is delivered");
        child.wait().expect("it is reaped");
        let files: Vec<String> = names(&to).into_iter().filter(|name| name.starts_with("keystore-")).collect();
        if files.is_empty() {
            without += 1;
        } else {
            with_files += 1;
            assert!(to.join("slashing_protection.json").is_file(), "keystores without their history");
        }
        let recorded: Vec<String> = journal::read(&world.data_dir())
            .events
            .iter()
            .filter(|event| event.kind().as_str() == "keys.exported" && event.what().ends_with(&format!("/out{round}")))
            .map(|event| event.key().expect("a key").to_string())
            .collect();
        let list = run(&world.with(&["--json", "keys", "list"])).expect(0, &[]).lines()[0].clone();
        for file in files {
            let key = file.trim_start_matches("keystore-").trim_end_matches(".json");
            assert!(recorded.iter().any(|one| one == key), "{key} left and nobody wrote it down");
            let state =
                list["keys"].as_array().expect("a list").iter().find(|one| one["pubkey"] == key).expect("the key");
            assert_eq!(state["state"], "disabled", "{key} left and may sign here");
        }
    }
    assert!(with_files > 0 && without > 0, "{with_files} with files, {without} without: kill at other moments");
}

/// Unmounts when dropped.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn what_cannot_be_journaled_does_not_leave() {
    let world = World::new(0);
    let data = world.data_dir();
    std::fs::create_dir(&data).expect("data directory");
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs"])
        .arg(&data)
        .output()
        .expect("the mount tool is installed");
    assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
    let _mounted = Mounted(&data);
    run(&world.with(&["keys", "generate", "--random", "--count", "300"])).expect(0, &[]);
    // Room for what opening a database takes, and not for 300 events.
    let filler = data.join("filler");
    let mut size = 0;
    while std::fs::write(&filler, vec![7; size + 4096]).is_ok() {
        size += 4096;
        assert!(size < 64 << 20, "the disk never fills");
    }
    std::fs::write(&filler, vec![7; size - 44 * 1024]).expect("a little room");
    let to = world.path().join("out");
    export(&world, &to, &[FLAG, "--all", "--keep-enabled"]).expect(3, &["journaled before"]);
    assert_eq!(names(&to), Vec::<String>::new(), "something left without a record");
    std::fs::remove_file(&filler).expect("room is made");
    let key = run(&world.with(&["--json", "keys", "list"])).expect(0, &[]).lines()[0]["keys"][0]["pubkey"].clone();
    export(&world, &to, &[FLAG, key.as_str().expect("a key")]).expect(0, &["written"]);
}
