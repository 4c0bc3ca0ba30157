//! `holdfast migrate web3signer`: from its configuration, its keys and its database to keys that sign here, and not one
//! signature that Web3Signer would refuse; nothing moves by itself, and whatever ends it on the way is gone on with.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::finished::{self, Finished};
use holdfast_tests::harness::command;
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, GENESIS_TIME, SLOTS_PER_EPOCH, World};
use serde_json::{Value, json};

use crate::support::{keys, marks, run};
use crate::web3signer::{Tried, histories, judge, served};
use crate::web3signer_db::Database;

/// A Web3Signer with the interop keys of an index below `count`: the first third in clear in one key file, the second in
/// keystores that key files name, the rest in a directory of keystores.
pub(crate) struct OldSigner {
    pub(crate) dir: PathBuf,
    pub(crate) config: String,
    pub(crate) keys: Vec<TestKey>,
}

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
    std::fs::write(path, text).expect("the file is written");
}

impl OldSigner {
    pub(crate) fn new(world: &World, database: &Database, count: u64, more: &str) -> Self {
        let dir = world.path().join("w3s");
        let keys: Vec<TestKey> = (0..count).map(TestKey::interop).collect();
        let (mut clear, third) = (Vec::new(), keys.len().div_ceil(3));
        for folder in ["keys", "bulk", "pw"] {
            std::fs::create_dir_all(dir.join(folder)).expect("the folder is made");
        }
        for (index, key) in keys.iter().enumerate() {
            match index / third {
                0 => clear.push(format!("type: file-raw\nkeyType: BLS\nprivateKey: '0x{}'\n", secret(key))),
                1 => {
                    put(&dir.join(format!("keys/ks/{index}.json")), &key.keystore("one"));
                    put(&dir.join(format!("keys/ks/{index}.secret")), "one\n");
                    let yaml = format!(
                        "type: file-keystore\nkeystoreFile: ks/{index}.json\nkeystorePasswordFile: ks/{index}.secret\n"
                    );
                    put(&dir.join(format!("keys/{index}.yaml")), &yaml);
                }
                _ => {
                    put(&dir.join(format!("bulk/{index}.json")), &key.keystore("two"));
                    put(&dir.join(format!("pw/{index}.txt")), "two");
                }
            }
        }
        put(&dir.join("keys/clear.yaml"), &clear.join("---\n"));
        let (url, role, password) = database.jdbc();
        let config = dir.join("web3signer.yaml");
        let at = dir.display();
        put(
            &config,
            &format!(
                "http-listen-port: 9007\nhttp-host-allowlist: ['*']\nkey-config-path: {at}/keys\neth2:\n  keystores-path: \
                 {at}/bulk\n  keystores-passwords-path: {at}/pw\n  slashing-protection-db-url: {url}\n  \
                 slashing-protection-db-username: {role}\n  slashing-protection-db-password: {password}\n{more}"
            ),
        );
        Self { config: config.display().to_string(), dir, keys }
    }
}

fn secret(key: &TestKey) -> String {
    hex::encode(key.secret.to_bytes())
}

/// `holdfast --json … migrate web3signer --config FILE …`
fn migrate(world: &World, old: &OldSigner, rest: &[&str]) -> Finished {
    let mut arguments = vec!["migrate", "web3signer", "--config", old.config.as_str()];
    arguments.extend(rest);
    run(world, &arguments)
}

const DONE: &str = "old-signer-stopped,keys-removed";

fn of<'a>(lines: &'a [Value], key: &str) -> &'a Value {
    lines.iter().find(|line| line["pubkey"] == key && line["plan"].is_string()).expect("each key has a line")
}

fn totals(lines: &[Value]) -> &Value {
    &lines.iter().find(|line| line["from"] == "web3signer").expect("totals")["totals"]
}

#[test]
fn everything_web3signer_would_refuse_is_refused_after_the_move_and_what_is_above_is_signed() {
    let world = World::new(0);
    let mut database = Database::new();
    let all = histories();
    let old = OldSigner::new(&world, &database, 6, "");
    for (key, signed) in old.keys.iter().zip(&all) {
        database.add(&key.public, true, signed);
    }
    let before = database.fingerprint();
    let planned = migrate(&world, &old, &["--plan"]).expect(0, &[]);
    assert!(!world.data_dir().exists(), "a plan makes nothing");
    let lines = planned.lines();
    assert_eq!((&totals(&lines)["move"], &totals(&lines)["behind"]), (&json!(6), &json!(0)));
    let port = lines.iter().find(|line| line["option"] == "http-listen-port").expect("each setting has a line");
    assert_eq!((&port["setting"], &port["value"]), (&json!("http.listen"), &json!("\"127.0.0.1:9007\"")));
    // Nobody said how many, and nobody can be asked.
    migrate(&world, &old, &[]).expect(1, &["nothing was moved", "--move 6"]);
    migrate(&world, &old, &["--move", "5"]).expect(1, &["--move says 5", "6 keys"]);
    assert!(!world.data_dir().exists());

    // Moved, but not confirmed: protection and keys are here, and none signs.
    let moved = migrate(&world, &old, &["--move", "6", "--watermark", "interchange"]).expect(1, &[]);
    let list = moved.lines().into_iter().find(|line| line["checklist"].is_object()).expect("the checklist");
    assert_eq!((&list["checklist"]["confirmed"], &list["checklist"]["fence_there"]), (&json!(false), &json!(false)));
    let server = served(&world);
    for key in &old.keys {
        let answer = server.sign(&key.public, &CHAIN.block(30_000_000, 1).0);
        assert_eq!((answer.status, answer.reason()), (412, "key_disabled".to_owned()));
    }
    server.stop();

    // A fence that is not there is not believed.
    let claimed = ["--move", "6", "--watermark", "interchange", "--confirm", "old-signer-stopped,fence-set"];
    migrate(&world, &old, &claimed).expect(1, &["no high watermark"]);
    let confirmed = ["--move", "6", "--watermark", "interchange", "--confirm", DONE];
    let finished = migrate(&world, &old, &confirmed).expect(0, &["enabled"]);
    assert_eq!(database.fingerprint(), before, "the source was written to");
    for text in [&planned, &moved, &finished].map(Finished::text) {
        assert!(!text.contains(&database.jdbc().2), "the password of the database was shown");
        assert!(old.keys.iter().all(|key| !text.contains(&secret(key))), "a key was shown");
    }
    let server = served(&world);
    let mut tried = Tried::default();
    for (key, signed) in old.keys.iter().zip(&all) {
        judge(&server, &key.public, signed, None, &mut tried);
    }
    println!("migrate web3signer: {} attempts refused as there, {} above signed", tried.refused, tried.signed);
    assert_eq!(tried.signed, 2 * all.len() as u64);
    assert!(tried.refused > 500, "{tried:?}");
    server.stop();

    // Again: everything is here, and what has signed here goes on.
    let again = migrate(&world, &old, &["--move", "6", "--confirm", DONE]).expect(0, &[]).lines();
    assert_eq!((&totals(&again)["here"], &totals(&again)["here_off"]), (&json!(6), &json!(0)));
    let server = served(&world);
    assert_eq!(server.sign(&old.keys[0].public, &CHAIN.block(30_000_000, 1).0).status, 200);
}

/// Slot and epoch of the world at this moment.
fn present() -> (u64, u64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let slot = (now - GENESIS_TIME) / 6;
    (slot, slot / SLOTS_PER_EPOCH)
}

#[test]
fn keys_are_fenced_at_the_present_and_the_old_signers_fence_is_checked() {
    let world = World::new(0);
    let mut database = Database::new();
    let old = OldSigner::new(&world, &database, 3, "");
    // One is off there, and of one nothing is known.
    database.add(&old.keys[0].public, true, &histories()[0]);
    database.add(&old.keys[1].public, false, &histories()[1]);
    let lines = migrate(&world, &old, &["--plan"]).expect(1, &[]).lines();
    assert_eq!(of(&lines, &old.keys[2].public)["plan"], "no_history");
    assert_eq!(of(&lines, &old.keys[1].public)["off_there"], true);
    assert_eq!(totals(&lines)["move"], 2);
    let first = migrate(&world, &old, &["--move", "3", "--accept-keys-without-history"]).expect(1, &[]);
    let list = first.lines().into_iter().find(|line| line["checklist"].is_object()).expect("the checklist");
    assert_eq!(list["checklist"]["keys_switched_off"], 2);
    let asked = list["checklist"]["fence_command"].as_str().expect("a command").to_owned();
    let number = |name: &str| -> u64 {
        let rest = asked.split_once(name).expect("the option").1;
        rest.trim_start().split(' ').next().expect("a number").parse().expect("a number")
    };
    let (slot, epoch) = (number("--slot"), number("--epoch"));
    assert_eq!(slot, epoch * SLOTS_PER_EPOCH);
    assert!(epoch > present().1 && epoch <= present().1 + 2);
    database.sql(&format!("UPDATE metadata SET high_watermark_slot = {slot}, high_watermark_epoch = {epoch}"));
    let moved = ["--move", "3", "--accept-keys-without-history", "--confirm", "old-signer-stopped,fence-set"];
    let (_, before) = present();
    migrate(&world, &old, &moved).expect(0, &["fenced"]);
    for key in [&old.keys[0], &old.keys[2]] {
        let (block, source, target) = marks(&world, &key.public);
        assert!(
            block >= Some(before * SLOTS_PER_EPOCH) && source.is_some() && target >= Some(before),
            "{block:?} {target:?}"
        );
    }
    let state = |key: &TestKey| {
        let all = keys(&world);
        let one = all.as_array().expect("a list").iter().find(|one| one["pubkey"] == key.public.as_str());
        one.expect("the key is known")["state"].clone()
    };
    assert_eq!([state(&old.keys[0]), state(&old.keys[1]), state(&old.keys[2])], ["enabled", "disabled", "enabled"]);
}

#[test]
fn a_key_that_is_off_here_and_unknown_there_comes_on_only_when_told_and_fenced() {
    let world = World::new(3);
    let mut database = Database::new();
    let old = OldSigner::new(&world, &database, 3, "");
    database.add(&old.keys[0].public, true, &histories()[0]);
    for key in &old.keys[..2] {
        run(&world, &["keys", "disable", &key.public]).expect(0, &[]);
    }
    let moved = ["--watermark", "interchange", "--confirm", DONE];
    let lines = migrate(&world, &old, &["--plan"]).expect(1, &[]).lines();
    let fates = [0, 1, 2].map(|place: usize| of(&lines, &old.keys[place].public)["plan"].clone());
    assert_eq!(fates, [json!("here_off"), json!("no_history"), json!("here")]);
    migrate(&world, &old, &[&["--move", "2"][..], &moved].concat()).expect(1, &["enabled"]);
    let shown = |key: &TestKey| run(&world, &["keys", "show", &key.public]).expect(0, &[]).lines()[0]["state"].clone();
    assert_eq!([shown(&old.keys[0]), shown(&old.keys[1])], [json!("enabled"), json!("disabled")]);
    assert_eq!(marks(&world, &old.keys[0].public), (Some(7), Some(6), Some(7)), "all is known of it: no fence");

    let accepted = [&["--move", "3", "--accept-keys-without-history"][..], &moved].concat();
    migrate(&world, &old, &accepted).expect(0, &["fenced", "enabled"]);
    assert_eq!(shown(&old.keys[1]), json!("enabled"));
    assert!(marks(&world, &old.keys[1].public).0.is_some_and(|slot| slot > 1_000_000), "nothing is known of it");
    assert_eq!(marks(&world, &old.keys[2].public), (None, None, None), "it was at work here all the while");
}

#[test]
fn killed_between_protection_and_keys_it_leaves_protection_without_keys_and_goes_on_when_run_again() {
    let world = World::new(0);
    let mut database = Database::new();
    let old = OldSigner::new(&world, &database, 3, "");
    for (key, signed) in old.keys.iter().zip(&histories()) {
        database.add(&key.public, true, signed);
    }
    // The password of one keystore never comes: the import waits for it, after protection and before any key.
    let pipe = old.dir.join("keys/ks/1.secret");
    std::fs::remove_file(&pipe).expect("the file is there");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let moved = ["--move", "3", "--watermark", "interchange", "--confirm", DONE];
    let arguments = [&["--json", "migrate", "web3signer", "--config", &old.config], &moved[..]].concat();
    let mut child = command().args(world.with(&arguments)).stdout(Stdio::null()).spawn().expect("the binary starts");
    let until = Instant::now() + Duration::from_mins(1);
    // O_NONBLOCK: opening a pipe for writing fails while nobody reads it.
    let writer = loop {
        match std::fs::OpenOptions::new().write(true).custom_flags(0o4000).open(&pipe) {
            Ok(writer) => break writer,
            Err(error) => assert!(Instant::now() < until, "the password was never asked for: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    drop(writer);
    assert_eq!(marks(&world, &old.keys[0].public), (Some(7), Some(6), Some(7)));
    assert!(
        run(&world, &["keys", "list"]).expect(0, &[]).lines()[0]["keys"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|key| key["origin"].is_null())
    );
    std::fs::remove_file(&pipe).expect("the pipe is there");
    put(&pipe, "one");
    migrate(&world, &old, &moved).expect(0, &["enabled"]);
    let server = served(&world);
    for key in &old.keys {
        assert_eq!(server.sign(&key.public, &CHAIN.block(30_000_000, 1).0).status, 200);
        assert_eq!(server.sign(&key.public, &CHAIN.block(3, 1).0).status, 412);
    }
}

#[test]
fn what_cannot_be_moved_is_named_with_what_to_do_and_a_running_web3signer_is_refused() {
    let world = World::new(0);
    let mut database = Database::new();
    let more = "  network: hoodi\n  key-manager-api-enabled: true\nhttp-cors-origins: all\n";
    let old = OldSigner::new(&world, &database, 3, more);
    for (key, signed) in old.keys.iter().zip(&histories()) {
        database.add(&key.public, true, signed);
    }
    let vault = "type: hashicorp\nserverHost: 127.0.0.1\nserverPort: 1\nkeyPath: /v1/secret/data/k\ntoken: hunter2\n";
    put(&old.dir.join("keys/vault.yaml"), vault);
    let written = world.path().join("new.toml").display().to_string();
    let plan = ["--plan", "--write-config", written.as_str()];
    let found = migrate(&world, &old, &plan).expect(1, &["vault kv get", "http-cors-origins"]);
    assert!(!found.text().contains("hunter2"));
    assert_eq!((&totals(&found.lines())["move"], &totals(&found.lines())["behind"]), (&json!(3), &json!(1)));
    // Never over a file that is there.
    migrate(&world, &old, &plan).expect(2, &["--write-config"]);
    let data = world.data_dir().display().to_string();
    let check = ["--json", "--config", written.as_str(), "--data-dir", data.as_str(), "config", "validate"];
    let valid = finished::run(&check).expect(0, &[]).lines();
    assert_eq!(valid[0]["config"]["network"]["name"], "hoodi");
    assert_eq!(valid[0]["config"]["http"]["listen"], "127.0.0.1:9007");
    // For another network than this signer's.
    let other = ["--network", "mainnet", "migrate", "web3signer", "--config", old.config.as_str(), "--plan"];
    finished::run(&other).expect(2, &["Web3Signer signs for hoodi", "--network hoodi"]);
    // It seems to run: shown in a plan, refused when it counts.
    let running = database.connected_as("PostgreSQL JDBC Driver");
    migrate(&world, &old, &["--plan"]).expect(1, &[]);
    migrate(&world, &old, &["--move", "3"]).expect(1, &["Web3Signer seems to be connected", "stop it first"]);
    drop(running);
    assert!(!world.data_dir().exists(), "nothing was changed");
}

#[test]
fn options_here_win_and_a_command_line_or_an_environment_file_is_as_good_as_a_configuration() {
    let world = World::new(0);
    let mut database = Database::new();
    let old = OldSigner::new(&world, &database, 3, "");
    for (key, signed) in old.keys.iter().zip(&histories()) {
        database.add(&key.public, true, signed);
    }
    let (url, role, password) = database.jdbc();
    let path = |name: &str| old.dir.join(name).display().to_string();
    let (keys, bulk, pw) = (path("keys"), path("bulk"), path("pw"));
    // Paths of a container, which are not there; the password only in the environment file.
    let environment = path("env");
    let mut file = std::fs::File::create(&environment).expect("the file is made");
    writeln!(file, "WEB3SIGNER_KEY_CONFIG_PATH=/gone\nWEB3SIGNER_ETH2_SLASHING_PROTECTION_DB_PASSWORD='{password}'")
        .expect("written");
    let (url, role) =
        (format!("--slashing-protection-db-url={url}"), format!("--slashing-protection-db-username={role}"));
    let start = ["migrate", "web3signer", "--env-file", environment.as_str(), "--plan"];
    let line = ["--", "web3signer", "--logging=DEBUG", "eth2", url.as_str(), role.as_str()];
    run(&world, &[&start[..], &line].concat()).expect(2, &["/gone", "--key-config"]);
    let here = ["--key-config", &keys, "--keystores", &bulk, "--keystores-passwords", &pw];
    let lines = run(&world, &[&start[..], &here, &line].concat()).expect(0, &[]).lines();
    assert_eq!(totals(&lines)["move"], 3);
    // Without anything of its settings, with an address of PostgreSQL's own form.
    let bare = ["migrate", "web3signer", "--plan", "--key-config", &keys, "--db", &database.url()];
    assert_eq!(totals(&run(&world, &bare).expect(0, &[]).lines())["move"], 2);
    run(&world, &["migrate", "web3signer", "--plan", "--key-config", &keys]).expect(2, &["--db URL"]);
    let without = ["--", "eth2", "--slashing-protection-enabled=false"];
    let lines = run(&world, &[&["migrate", "web3signer", "--plan", "--key-config", &keys], &without[..]].concat());
    assert_eq!(totals(&lines.expect(1, &[]).lines())["move"], 0);
    run(&world, &["migrate", "web3signer", "--plan", "--", "--no-such-option"]).expect(2, &["no such option"]);
}

#[test]
fn through_a_running_server_whose_own_keys_go_on_signing() {
    let world = World::new(1);
    let mut database = Database::new();
    let old = OldSigner::new(&world, &database, 3, "");
    for (key, signed) in old.keys.iter().zip(&histories()) {
        database.add(&key.public, true, signed);
    }
    let server = served(&world);
    let status = |key: &TestKey, slot| server.sign(&key.public, &CHAIN.block(slot, 1).0).status;
    assert_eq!(status(&old.keys[0], 20), 200);
    let moved = ["--move", "3", "--watermark", "interchange"];
    let lines = migrate(&world, &old, &moved).expect(1, &["\"through\":\"server\""]).lines();
    assert_eq!((&totals(&lines)["comes"], &totals(&lines)["here"]), (&json!(2), &json!(1)));
    assert_eq!([status(&old.keys[0], 21), status(&old.keys[1], 21), status(&old.keys[2], 21)], [200, 412, 412]);
    migrate(&world, &old, &[&moved[..], &["--confirm", DONE]].concat()).expect(0, &["enabled"]);
    assert_eq!([status(&old.keys[0], 22), status(&old.keys[1], 22), status(&old.keys[2], 22)], [200, 200, 200]);
    // The third has a low watermark of 11 there.
    assert_eq!(status(&old.keys[2], 11), 412);
}
