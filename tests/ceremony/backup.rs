//! Backups: made under load and under `kill -9`, damaged, restored behind the fence, practised.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::{Server, command, holdfast};
use holdfast_tests::journal;
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::generate::private;

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_mins(1);

fn backup(world: &World, arguments: &[&str]) -> Finished {
    run(&world.with(&[&["--json", "backup"], arguments].concat()))
}

/// Makes a backup with this name; its directory and the digest of its manifest.
fn create(world: &World, name: &str, options: &[&str]) -> (PathBuf, String) {
    let dir = world.path().join(name);
    let to = dir.display().to_string();
    let done = backup(world, &[&["create", "--to", &to], options].concat()).expect(0, &[]);
    (dir, done.lines()[0]["manifest"].as_str().expect("a digest").to_owned())
}

fn verify(world: &World, dir: &Path) -> Finished {
    backup(world, &["verify", "--from", &dir.display().to_string()])
}

/// Restores into a data directory of this name.
fn restore(world: &World, from: &Path, name: &str) -> (PathBuf, Finished) {
    let data = world.path().join(name);
    let from = from.display().to_string();
    let mut arguments = world.arguments_in(&data);
    arguments.extend(["--json", "backup", "restore", "--from", &from].map(str::to_owned));
    (data, holdfast(&arguments).into())
}

fn vote(server: &Server, key: &str, target: u64, seed: u64) -> u16 {
    server.sign(key, &CHAIN.attestation(target * SLOTS_PER_EPOCH, target - 1, target, seed).0).status
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_under_load_comes_back_behind_the_fence() {
    // Slots of a second, so that the present moves on while the test waits for it.
    let world = World::in_a_hurry(2);
    let keys: Vec<String> = world.keys.iter().map(|key| key.public.clone()).collect();
    let server = world.server().start();
    server.wait_ready();
    let (done, load) = (AtomicBool::new(false), &server);
    let (made, signed) = std::thread::scope(|scope| {
        let signing = scope.spawn(|| {
            let mut target = 1_000;
            while !done.load(Ordering::Acquire) {
                for key in &keys {
                    assert_eq!(vote(load, key, target, 1), 200, "signing goes on while a backup is made");
                }
                target += 1;
            }
            target
        });
        let made: Vec<(PathBuf, String)> = (0..4).map(|n| create(&world, &format!("b{n}"), &[])).collect();
        done.store(true, Ordering::Release);
        (made, signing.join().expect("every vote is signed"))
    });
    let mut heads = Vec::new();
    for (dir, digest) in &made {
        let told = backup(&world, &["verify", "--from", &dir.display().to_string(), "--manifest", digest]);
        heads.push(told.expect(0, &["verified"]).lines()[0]["content"]["journal_seq"].as_u64().expect("a number"));
    }
    assert!(heads.is_sorted() && heads[0] > 0, "each holds what was committed before it: {heads:?}");
    assert!(signed > 1_001, "there was load");
    assert_eq!(fs::metadata(&made[0].0).expect("the backup").permissions().mode() & 0o777, 0o700);
    server.kill9();

    // An old one: most of what was signed, it does not know.
    let (data, told) = restore(&world, &made[0].0, "restored");
    let told = told.expect(0, &[]).lines()[0].clone();
    assert_eq!((&told["keys"], &told["fenced"]), (&Value::from(2), &Value::from(2)));
    let events = journal::read(&data).events;
    assert!(events.iter().any(|event| event.kind().as_str() == "backup.restored" && event.why().contains(&made[0].1)));
    let server = world.server_in(&data).start();
    server.wait_ready();
    for key in &keys {
        for target in 1_000..signed + 3 {
            assert_eq!(vote(&server, key, target, 2), 412, "target {target} may have been signed before");
        }
        assert_eq!(server.sign(key, &CHAIN.randao(9).0).status, 200);
    }
    // And above the present, after an epoch at most.
    let fence = told["target_epoch"].as_u64().expect("an epoch");
    let begun = Instant::now();
    while vote(&server, &keys[0], fence + 1, 1) != 200 {
        assert!(begun.elapsed() < LIMIT, "nothing is signed above the fence");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
    let (_, again) = restore(&world, &made[0].0, "restored");
    again.expect(2, &["not empty", "writes over nothing"]);
}

#[test]
fn killed_while_it_is_made_leaves_none_and_harms_nothing() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    for target in 1_000..1_200 {
        assert_eq!(vote(&server, &world.keys[0].public, target, 1), 200);
    }
    let partial = |name: &str| name.ends_with(".partial");
    let mut cut_short = 0;
    for round in 0..12_u32 {
        let dir = world.path().join(format!("killed{round}"));
        let mut child = command()
            .args(world.with(&["backup", "create", "--to", &dir.display().to_string()]))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        let before = names(world.path()).iter().filter(|name| partial(name)).count();
        let begun = Instant::now();
        while names(world.path()).iter().filter(|name| partial(name)).count() == before
            && child.try_wait().expect("it can be waited for").is_none()
        {
            assert!(begun.elapsed() < LIMIT, "it never begins");
        }
        // From at once to later than it takes: one moment after the other.
        let kill_at = begun.elapsed() + Duration::from_millis(3) * round;
        while begun.elapsed() < kill_at {
            std::hint::spin_loop();
        }
        child.kill().expect("SIGKILL is delivered");
        child.wait().expect("it is reaped");
        if dir.exists() {
            verify(&world, &dir).expect(0, &["verified"]);
        } else {
            cut_short += 1;
        }
    }
    assert!(cut_short > 0, "none was cut short");
    let left: Vec<String> = names(world.path()).into_iter().filter(|name| partial(name)).collect();
    for name in &left {
        backup(&world, &["verify", "--from", &world.path().join(name).display().to_string()]).expect(1, &[]);
    }
    let (dir, _) = create(&world, "whole", &[]);
    verify(&world, &dir).expect(0, &["verified"]);
    assert_eq!(vote(&server, &world.keys[0].public, 1_200, 1), 200, "the server never noticed");
    server.stop();
}

#[test]
fn damage_anywhere_is_noticed_and_nothing_is_restored_from_it() {
    let world = World::new(3);
    // So that there is a journal.
    run(&world.with(&["slashing", "fence"])).expect(0, &[]);
    let (good, digest) = create(&world, "good", &[]);
    let files = ["anchor", "config.toml", "holdfast.db", "kek/file.key", "manifest.json"];
    let mut random = ChaCha8Rng::seed_from_u64(22);
    let bad = world.path().join("bad");
    let place = bad.display().to_string();
    let check = |what: &str| {
        let told = backup(&world, &["verify", "--from", &place, "--manifest", &digest]);
        assert_eq!(told.code, 1, "{what} went unnoticed: {}", told.text());
    };
    copy(&good, &bad);
    backup(&world, &["verify", "--from", &place, "--manifest", &digest]).expect(0, &["verified"]);
    for name in files {
        let path = bad.join(name);
        let whole = fs::read(&path).expect("the file");
        // A flipped bit in each of eight regions of each file.
        for region in 0..8 {
            let (from, to) =
                (region * whole.len() / 8, ((region + 1) * whole.len() / 8).max(region * whole.len() / 8 + 1));
            let at = random.random_range(from..to.min(whole.len()).max(from + 1));
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << random.random_range(0..8);
            fs::write(&path, &damaged).expect("damaged");
            check(&format!("a bit of byte {at} of {name}"));
        }
        fs::write(&path, &whole[..whole.len() / 2]).expect("damaged");
        check(&format!("half of {name}"));
        fs::remove_file(&path).expect("removed");
        check(&format!("no {name}"));
        fs::write(&path, &whole).expect("mended");
    }
    fs::write(bad.join("kek/more"), "x").expect("an extra file");
    check("an extra file");
    let (data, refused) = restore(&world, &bad, "never");
    refused.expect(1, &["kek/more", "nothing was done"]);
    assert!(!data.exists(), "nothing was made");
    fs::remove_file(bad.join("kek/more")).expect("removed");
    // Somebody who writes a new manifest for a changed journal: the chain is computed, not believed.
    let db = rusqlite::Connection::open(bad.join("holdfast.db")).expect("the database");
    db.execute_batch("DROP TRIGGER journal_is_append_only").expect("without the trigger");
    assert_eq!(db.execute("UPDATE journal SET count = count + 1 WHERE seq = 1", []).expect("changed"), 1);
    drop(db);
    let text = fs::read_to_string(bad.join("manifest.json")).expect("the manifest");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    let bytes = fs::read(bad.join("holdfast.db")).expect("the database");
    for file in manifest["files"].as_array_mut().expect("a list") {
        if file["name"] == "holdfast.db" {
            file["bytes"] = bytes.len().into();
            file["sha256"] = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes)).into();
        }
    }
    fs::write(bad.join("manifest.json"), manifest.to_string()).expect("a new manifest");
    verify(&world, &bad).expect(1, &["journal batch 1"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the directory") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

#[test]
fn a_drill_opens_every_key_and_names_what_is_lost() {
    let world = World::new(3);
    let (whole, _) = create(&world, "whole", &[]);
    let drill = |from: &Path, options: &[&str]| {
        let from = from.display().to_string();
        let work = world.path().join("work");
        fs::create_dir_all(&work).expect("a directory");
        let place = work.display().to_string();
        let told = backup(&world, &[&["drill", "--from", &from, "--work-dir", &place], options].concat());
        assert_eq!(names(&work), Vec::<String>::new(), "nothing is left behind");
        told
    };
    let told = drill(&whole, &[]).expect(0, &["passed"]).lines()[0].clone();
    assert_eq!((&told["keys_opened"], &told["providers"][0]["opens"]), (&Value::from(3), &Value::from(true)));
    assert!(told["seconds"]["open"].as_f64().is_some(), "{told}");

    // kek/ kept apart: without it nothing opens, and the provider that is lost is named; with it all is well.
    let (apart, _) = create(&world, "apart", &["--without-provider-state"]);
    assert!(!apart.join("kek").exists());
    let lost = drill(&apart, &[]).expect(3, &["failed", "file.key"]).lines()[0].clone();
    assert_eq!((&lost["providers"][0]["provider"], &lost["providers"][0]["opens"]), (&"file".into(), &false.into()));
    let kek = world.data_dir().join("kek").display().to_string();
    drill(&apart, &["--kek-dir", &kek]).expect(0, &["passed"]);

    // Two providers, one of them lost: the keys come back, and it says which would not bring them.
    let passphrase = private(&world, "passphrase.txt", "a long passphrase");
    run(&world.with(&["kek", "rotate", "--provider", "passphrase,file", "--passphrase-file", &passphrase]))
        .expect(0, &[]);
    let (two, _) = create(&world, "two", &["--without-provider-state"]);
    let with_passphrase = |from: &Path| -> Finished {
        let mut command = command();
        command.args(world.with(&["--json", "backup", "drill", "--from", &from.display().to_string()]));
        command.env("HOLDFAST_KEYS_PASSPHRASE_FILE", &passphrase);
        command.output().expect("the binary starts").into()
    };
    let one_lost = with_passphrase(&two).expect(1, &["passed", "file.key"]).lines()[0].clone();
    let providers = one_lost["providers"].as_array().expect("a list");
    let opens = |name: &str| providers.iter().any(|one| one["provider"] == name && one["opens"] == true);
    assert!(opens("passphrase") && !opens("file"), "{one_lost}");

    // A key that does not open is named, and the verdict is no.
    let key = world.keys[0].public.clone();
    let db = rusqlite::Connection::open(world.data_dir().join("holdfast.db")).expect("the database");
    let row = "id = (SELECT id FROM validators WHERE pubkey = ?1)";
    let damage = format!("UPDATE sealed_keys SET sealed = zeroblob(85) WHERE {row}");
    assert_eq!(db.execute(&damage, [hex::decode(&key[2..]).expect("hex")]).expect("damaged"), 1);
    drop(db);
    let (damaged, _) = create(&world, "damaged", &[]);
    let told = with_passphrase(&damaged).expect(1, &["failed", &key]).lines()[0].clone();
    assert_eq!((&told["keys_opened"], &told["keys_failed"][0]["pubkey"]), (&Value::from(2), &key.into()));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let world = World::new(1);
    let (good, _) = create(&world, "good", &[]);
    let from = good.display().to_string();
    backup(&world, &["create", "--to", &from]).expect(2, &["new directory"]);
    backup(&world, &["create", "--to", "no/such/dir"]).expect(2, &["no/such/dir"]);
    let empty = World::new(0);
    backup(&empty, &["create", "--to", &empty.path().join("b").display().to_string()]).expect(2, &["no database"]);
    backup(&world, &["verify", "--from", &world.path().display().to_string()]).expect(1, &["no manifest", "--from"]);
    backup(&world, &["verify", "--from", &from, "--manifest", &"0".repeat(64)]).expect(1, &["another backup"]);
    // The data directory that is in use, another network, a restore under a server.
    backup(&world, &["restore", "--from", &from]).expect(2, &["not empty"]);
    let data = world.path().join("mainnet").display().to_string();
    run(&["--data-dir", &data, "--network", "mainnet", "backup", "restore", "--from", &from])
        .expect(2, &["--network testnet"]);
    assert!(!Path::new(&data).exists());
    // A key that was deleted after the backup comes back with it, and it says so.
    let text = {
        let data = world.path().join("again");
        let mut arguments = world.arguments_in(&data);
        arguments.extend(["backup", "restore", "--from", &from].map(str::to_owned));
        Finished::from(holdfast(&arguments)).expect(0, &["second signer", "deleted", "keys list"]).text()
    };
    assert!(text.contains("fence"), "{text}");
    // Whether a database is behind the moment it was restored.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let moment = now.to_string();
    backup(&world, &["check", "--restored-at", &moment]).expect(1, &["\"fenced\":false"]);
    run(&world.with(&["slashing", "fence"])).expect(0, &[]);
    backup(&world, &["check", "--restored-at", &moment]).expect(0, &["\"fenced\":true"]);
    backup(&world, &["check", "--restored-at", &(now + 3_600).to_string()]).expect(2, &["future"]);
    fs::remove_file(world.data_dir().join("anchor")).expect("removed");
    backup(&world, &["check", "--restored-at", &moment]).expect(4, &["anchor_missing"]);
}

/// Runs what the runbook prints, line by line, in the folder of a world.
#[test]
fn the_runbook_does_what_it_says() {
    let world = World::new(2);
    let page = holdfast_tests::harness::workspace().join("docs/runbooks/backup.md");
    let text = fs::read_to_string(page).expect("the runbook");
    let commands: Vec<&str> = text.lines().map(str::trim_start).filter(|line| line.starts_with("holdfast ")).collect();
    assert!(commands.len() >= 5, "{commands:?}");
    let digest = |stdout: &str| stdout.split("manifest SHA-256: ").nth(1).map(|rest| rest.trim().to_owned());
    let mut manifest = String::new();
    for line in commands {
        let line = line.split(" #").next().unwrap_or_default().replace("SECONDS", "1700000000");
        let line = line.replace("SHA256", &manifest);
        let words: Vec<String> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        let mut arguments = world.arguments();
        if words.iter().any(|word| word == "--data-dir") {
            arguments.drain(..2);
        }
        let mut command = command();
        command.current_dir(world.path()).args(arguments).args(&words);
        let told: Finished = command.output().expect("the binary starts").into();
        let told = told.expect(0, &[]);
        manifest = digest(&told.stdout).unwrap_or(manifest);
        std::io::stdout().write_all(format!("{line}: done\n").as_bytes()).expect("a line");
    }
    assert!(!manifest.is_empty(), "the runbook makes no backup");
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_signs_the_past() {
    let world = World::new(2);
    let key = world.keys[0].public.clone();
    let (good, _) = create(&world, "good", &[]);
    let from = good.display().to_string();
    let (mut nothing, mut frozen, mut done) = (0, 0, 0);
    for round in 0..16_u32 {
        let data = world.path().join(format!("restored{round}"));
        let mut arguments = world.arguments_in(&data);
        arguments.extend(["backup", "restore", "--from", &from].map(str::to_owned));
        let mut child = command()
            .args(&arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary starts");
        // Even rounds: so long after the start. Odd ones: so long after the database is there.
        let database = data.join("holdfast.db");
        let mut running = || child.try_wait().expect("it can be waited for").is_none();
        while round % 2 == 1 && !database.exists() && running() {
            std::hint::spin_loop();
        }
        let kill_at = Instant::now() + Duration::from_millis(u64::from(round / 2) * 4);
        while Instant::now() < kill_at && running() {
            std::hint::spin_loop();
        }
        child.kill().expect("SIGKILL is delivered");
        child.wait().expect("it is reaped");
        if !database.exists() {
            nothing += 1;
            continue;
        }
        let mut status = world.arguments_in(&data);
        status.extend(["--json", "slashing", "status"].map(str::to_owned));
        let told = Finished::from(holdfast(&status));
        let fenced = told.lines()[0]["keys"][0]["target_epoch"].as_u64().is_some();
        match told.code {
            4 => frozen += 1,
            0 => {
                done += 1;
                assert!(fenced, "it would sign, and there is no fence: {}", told.text());
            }
            _ => panic!("{}", told.text()),
        }
        let server = world.server_in(&data).start();
        let answer = vote(&server, &key, 1_000, 1);
        assert!(answer == 412 || answer == 503, "a vote of the past was signed: {answer}");
        server.stop();
    }
    assert!(
        nothing > 0 && frozen > 0,
        "{nothing} without a database, {frozen} frozen, {done} done: kill at other moments"
    );
}
