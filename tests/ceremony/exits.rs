//! `exits`: signed exits are what every network takes, by a judge of our own; nothing is half written; many need approvals.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::journal;
use holdfast_tests::keys::{TestKey, verifies};
use holdfast_tests::world::{GENESIS_VALIDATORS_ROOT, World};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::approvals::Desk;
use crate::generate::private;

/// Built-in networks: name, Capella's version and the genesis validators root, as published.
const NETWORKS: [(&str, &str, &str); 6] = [
    ("mainnet", "03000000", "4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95"),
    ("sepolia", "90000072", "d8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078"),
    ("holesky", "04017000", "9143aa7c615a7f7115e2b6aac319c03529df8242ae705fba9df39b79c59fa8b1"),
    ("hoodi", "40000910", "212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f"),
    ("gnosis", "03000064", "f5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47"),
    ("chiado", "0300006f", "9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e"),
];

fn hash(left: &[u8], right: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

fn padded(bytes: &[u8]) -> [u8; 32] {
    let mut chunk = [0; 32];
    chunk[..bytes.len()].copy_from_slice(bytes);
    chunk
}

/// The signing root of an exit, from the consensus specification and EIP-7044 alone.
fn root(epoch: u64, index: u64, capella: &[u8], genesis: &[u8]) -> [u8; 32] {
    let exit = hash(&padded(&epoch.to_le_bytes()), &padded(&index.to_le_bytes()));
    let mut domain = [0; 32];
    domain[0] = 4;
    domain[4..].copy_from_slice(&hash(&padded(capella), genesis)[..28]);
    hash(&exit, &domain)
}

/// Checks a file, and returns its epoch.
fn judge(file: &Path, key: &TestKey, index: u64, (capella, genesis): (&[u8], &[u8])) -> u64 {
    let text = std::fs::read_to_string(file).expect("the file");
    let exit: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(exit.as_object().expect("an object").len(), 2, "{text}");
    let epoch: u64 = exit["message"]["epoch"].as_str().expect("a text").parse().expect("a number");
    assert_eq!(exit["message"], json!({ "epoch": epoch.to_string(), "validator_index": index.to_string() }));
    let signature = exit["signature"].as_str().expect("a text");
    assert!(verifies(&key.public, &root(epoch, index, capella, genesis), signature), "the signature is wrong: {text}");
    epoch
}

fn name(key: &TestKey) -> String {
    format!("{}--{}-exit.json", &key.public[..10], &key.public[90..])
}

#[test]
fn exits_are_what_every_network_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let key = TestKey::interop(3);
    std::fs::create_dir(at("keys")).expect("a folder");
    key.write_keystore(&folder.path().join("keys"), "correct horse");
    std::fs::write(at("password.txt"), "correct horse").expect("a password");
    std::fs::write(at("list"), format!("1000000,{}\n", key.public)).expect("a list");
    for (network, capella, genesis) in NETWORKS {
        let (data, out) = (at(&format!("data-{network}")), at(&format!("out-{network}")));
        let on = |rest: &[&str]| run(&[&["--network", network, "--data-dir", &data], rest].concat());
        on(&[
            "keys",
            "import",
            "--from",
            &at("keys"),
            "--password-file",
            &at("password.txt"),
            "--watermark",
            "never-signed",
        ])
        .expect(0, &["1 imported"]);
        // An old epoch, from before Deneb: the domain is Capella's all the same.
        let epoch = if network == "holesky" { "1000" } else { "5" };
        on(&["exits", "sign", "--from", &at("list"), "--out", &out, "--epoch", epoch]).expect(0, &["signed"]);
        on(&["exits", "verify", &out, "--from", &at("list")]).expect(0, &["good, validator 1000000"]);
        let (capella, genesis) = (hex::decode(capella).expect("hex"), hex::decode(genesis).expect("hex"));
        let file = Path::new(&out).join(name(&key));
        assert_eq!(judge(&file, &key, 1_000_000, (&capella, &genesis)).to_string(), epoch, "{network}");
    }
    // One network's exit is none of another's.
    let hoodi = ["--network", "hoodi", "--data-dir", &at("data-hoodi")];
    run(&[&hoodi[..], &["exits", "verify", &at("out-mainnet"), "--from", &at("list")]].concat())
        .expect(1, &["BAD", "another network"]);
}

/// The world's own chain.
fn own() -> ([u8; 4], [u8; 32]) {
    ([0x03, 0, 0, 0x77], GENESIS_VALIDATORS_ROOT)
}

fn sign(world: &World, out: &str, more: &[&str]) -> Finished {
    run(&world.with(&[&["--json", "exits", "sign", "--out", out], more].concat()))
}

#[test]
fn a_run_that_was_cut_short_goes_on_and_what_is_wrong_is_said() {
    let world = World::new(4);
    let at = |name: &str| world.path().join(name).display().to_string();
    let lines: Vec<String> =
        world.keys.iter().enumerate().map(|(place, key)| format!("{} {}", 70 + place, key.public)).collect();
    std::fs::write(at("list"), lines[..2].join("\n")).expect("a list");
    std::fs::write(at("all"), lines.join("\n")).expect("a list");
    let (out, capella) = (at("exits"), own());
    let statuses = |done: &Finished| -> Vec<String> {
        done.lines().iter().map(|line| line["status"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(statuses(&sign(&world, &out, &["--from", &at("list")]).expect(0, &[])), ["signed", "signed"]);
    let first = std::fs::read(Path::new(&out).join(name(&world.keys[0]))).expect("a file");
    // Switched off: refused, and the others are signed.
    run(&world.with(&["keys", "disable", &world.keys[2].public])).expect(0, &[]);
    let done = sign(&world, &out, &["--from", &at("all")]).expect(1, &["disabled or deleted"]);
    assert_eq!(statuses(&done), ["already_there", "already_there", "error", "signed"]);
    assert_eq!(std::fs::read(Path::new(&out).join(name(&world.keys[0]))).expect("a file"), first, "it stays as it was");
    run(&world.with(&["keys", "enable", &world.keys[2].public])).expect(0, &[]);
    // Something else in the way.
    let blocked = Path::new(&out).join(name(&world.keys[2]));
    std::fs::write(&blocked, "{}").expect("a file");
    sign(&world, &out, &["--from", &at("all")]).expect(1, &["something else", "move it away"]);
    std::fs::remove_file(&blocked).expect("moved away");
    sign(&world, &out, &["--from", &at("all")]).expect(0, &[]);
    for (place, key) in world.keys.iter().enumerate() {
        judge(&Path::new(&out).join(name(key)), key, 70 + place as u64, (&capella.0, &capella.1));
    }
    // Every signature is in the journal.
    let journal = journal::read(&world.data_dir());
    for key in &world.keys {
        assert!(
            journal.permitted.iter().any(|(signed, _)| *signed == key.public),
            "{} is not in the journal",
            key.public
        );
    }
    assert!(journal.refused.iter().any(|(key, word)| *key == world.keys[2].public && *word == "key_disabled"));

    // Each changed file is found out, whatever was changed.
    let verify = || run(&world.with(&["exits", "verify", &out, "--from", &at("all")]));
    verify().expect(0, &["4 good, 0 bad"]);
    let file = Path::new(&out).join(name(&world.keys[1]));
    let text = std::fs::read_to_string(&file).expect("a file");
    for (from, to) in [
        ("\"71\"", "\"72\""),
        ("\"epoch\":\"", "\"epoch\":\"1"),
        ("\"71\"", "\"071\""),
        ("signature\":\"0x", "signature\":\"0xx"),
    ] {
        std::fs::write(&file, text.replace(from, to)).expect("a file");
        verify().expect(1, &["BAD", "3 good, 1 bad"]);
    }
    std::fs::write(&file, &text).expect("a file");

    // What cannot work is said before anything is signed.
    let stranger = TestKey::interop(40).public;
    std::fs::write(at("stranger"), format!("70 {}\n90 {stranger}\n", world.keys[0].public)).expect("a list");
    sign(&world, &at("other"), &["--from", &at("stranger")]).expect(1, &["not held here", "nothing was signed"]);
    std::fs::write(at("broken"), "70 hello\n").expect("a list");
    sign(&world, &at("other"), &["--from", &at("broken")]).expect(2, &["line 1"]);
    sign(&world, &at("other"), &["--indices", "70"]).expect(2, &["--beacon"]);
    sign(&world, &at("other"), &["--from", &at("nowhere")]).expect(2, &["cannot be read"]);
    sign(&world, &at("other"), &[]).expect(2, &["--from"]);
    let server = world.server().start();
    server.wait_ready();
    sign(&world, &at("other"), &["--from", &at("list")]).expect(3, &["already open", "stop that process"]);
    assert!(!Path::new(&at("other")).exists());
    // The server itself signs, through the API that signs everything.
    let (there, address) = (at("there"), server.http_addr().to_string());
    let through =
        |more: &[&str]| sign(&world, &there, &[&["--from", &at("list"), "--server", &address], more].concat());
    assert_eq!(statuses(&through(&[]).expect(0, &[])), ["signed", "signed"]);
    assert_eq!(statuses(&through(&[]).expect(0, &[])), ["already_there", "already_there"]);
    judge(&Path::new(&there).join(name(&world.keys[1])), &world.keys[1], 71, (&capella.0, &capella.1));
    sign(&world, &there, &["--from", &at("stranger"), "--server", &address]).expect(1, &["not held here"]);
    server.stop();
    through(&["--epoch", "3"]).expect(3, &["no signing API answers"]);

    // Encrypted, they open with the password and with nothing else.
    let (password, wrong) = (private(&world, "pw.txt", "exit password"), private(&world, "wrong.txt", "another"));
    let secret = at("secret");
    let encrypted = ["--from", &at("list"), "--encrypt", "--password-file", &password];
    sign(&world, &secret, &encrypted).expect(0, &["signed"]);
    sign(&world, &secret, &encrypted).expect(0, &["already_there"]);
    let file = std::fs::read_to_string(Path::new(&secret).join(name(&world.keys[0]))).expect("a file");
    let file: Value = serde_json::from_str(&file).expect("JSON");
    assert_eq!((&file["version"], &file["crypto"]["cipher"]["function"]), (&json!(4), &json!("aes-128-ctr")));
    let verify =
        |more: &[&str]| run(&world.with(&[&["exits", "verify", &secret, "--from", &at("all")], more].concat()));
    verify(&["--password-file", &password]).expect(0, &["2 good"]);
    verify(&["--password-file", &wrong]).expect(1, &["BAD"]);
    verify(&[]).expect(1, &["--password-file"]);
}

/// A beacon node that knows these validators. Serves until the test ends.
fn node(validators: Vec<(u64, String, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let query = head.split('?').nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            // As Lodestar 1.5: each by itself, a list is one that nobody knows.
            let ids: Vec<&str> = query.split('&').filter_map(|pair| pair.strip_prefix("id=")).collect();
            let data: Vec<Value> = validators
                .iter()
                .filter(|(index, key, _)| ids.contains(&index.to_string().as_str()) || ids.contains(&key.as_str()))
                .map(|(index, key, status)| json!({ "index": index.to_string(), "balance": "1", "status": status, "validator": { "pubkey": key } }))
                .collect();
            let body = json!({ "execution_optimistic": false, "data": data }).to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // A client that has read enough may hang up first.
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

#[test]
fn a_beacon_node_knows_indices_and_is_believed_over_the_list() {
    let world = World::new(3);
    let at = |name: &str| world.path().join(name).display().to_string();
    let [first, second, third] = [0, 1, 2].map(|place| &world.keys[place]);
    let url = node(vec![
        (12, first.public.clone(), "active_ongoing"),
        (11, second.public.clone(), "active_ongoing"),
        (10, third.public.clone(), "exited_unslashed"),
    ]);
    let sign = |out: &str, more: &[&str]| sign(&world, &at(out), &[&["--beacon", &url], more].concat());
    // A third of those who have not left, rounded up: the lowest index.
    sign("share", &["--all", "--percent", "50"]).expect(0, &["\"11\""]);
    assert_eq!(std::fs::read_dir(at("share")).expect("the folder").count(), 1);
    let done = sign("all", &["--all"]).expect(0, &[]);
    assert_eq!(done.lines().iter().map(|line| line["validator_index"].clone()).collect::<Vec<_>>(), ["11", "12"]);
    judge(&Path::new(&at("all")).join(name(first)), first, 12, (&own().0, &own().1));
    sign("by-key", &["--keys", &first.public]).expect(0, &["\"12\""]);
    sign("indices", &["--indices", "11", "12"]).expect(0, &["signed"]);
    run(&world.with(&["--beacon", &url, "exits", "verify", &at("indices")])).expect(0, &["2 good, 0 bad"]);
    std::fs::write(at("wrong"), format!("11 {}\n", first.public)).expect("a list");
    sign("wrong-out", &["--from", &at("wrong")]).expect(1, &["the beacon node says", "nothing was signed"]);
    sign("wrong-out", &["--indices", "99"]).expect(1, &["knows no validator 99"]);
    sign("wrong-out", &["--keys", &TestKey::interop(40).public]).expect(1, &["knows no validator"]);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    run(&world.with(&["--beacon", &closed, "exits", "sign", "--all", "--out", &at("wrong-out")]))
        .expect(3, &["gave no answer"]);
    assert!(!Path::new(&at("wrong-out")).exists());
}

#[test]
fn many_exits_need_approvals_and_few_do_not() {
    let desk = Desk::new(3, "bulk_exit_above = 1\n");
    let lines: Vec<String> =
        desk.world.keys.iter().enumerate().map(|(place, key)| format!("{} {}", 70 + place, key.public)).collect();
    std::fs::write(desk.at("one"), &lines[0]).expect("a list");
    std::fs::write(desk.at("all"), lines.join("\n")).expect("a list");
    let (out, place) = (desk.at("exits"), desk.at("request.txt"));
    let sign = |list: &str, more: &[&str]| {
        desk.run(&[&["exits", "sign", "--from", &desk.at(list), "--out", &out], more].concat())
    };
    sign("one", &[]).expect(0, &["signed"]);
    sign("all", &["--request-to", &place]).expect(1, &["2 of alice, bob, carol"]);
    assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 1, "nothing was signed");
    let approved = desk.approve(&place);
    sign("all", &["--epoch", "7", "--approval", &approved]).expect(1, &["something else"]);
    let server = desk.world.server().start();
    server.wait_ready();
    sign("all", &["--server", &server.http_addr().to_string()]).expect(1, &["need approvals", "stop the server"]);
    server.stop();
    sign("all", &["--approval", &approved]).expect(0, &["already there", "signed"]);
    assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 3);
}
