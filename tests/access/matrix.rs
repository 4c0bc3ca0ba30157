//! Who may do what: every kind of caller × policies × operations × endpoints, on one server whose rules are exchanged while
//! it runs. What is expected is what the oracle of signer/access says, from the same table the rules are written from.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use holdfast_access::{
    Caller, CallerName, Callers, Directory, Effect, KeyNames, Keys, Means, NamePattern, Operation, OperationSet, Rule,
    RuleName,
};
use holdfast_domain::PublicKey;
use holdfast_tests::finished::run;
use holdfast_tests::harness::Server;
use holdfast_tests::world::CHAIN;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::TlsClient;
use crate::stage::{Stage, metric, wait_for};

#[path = "../../signer/access/tests/support/oracle.rs"]
mod oracle;

/// Somebody who asks.
struct Asker {
    what: &'static str,
    /// `None`: nobody who gets in.
    caller: Option<(&'static str, Means)>,
    door: Door,
    /// Header lines.
    headers: String,
}

enum Door {
    Tls { certificate: Option<&'static str> },
    Unix,
}

/// A rule, as written and as judged.
#[derive(Clone)]
struct Spec {
    effect: Effect,
    callers: &'static [&'static str],
    means: &'static [Means],
    /// Places of the world's keys.
    keys: &'static [usize],
    group: bool,
    words: &'static [&'static str],
}

const ANY: Spec = Spec { effect: Effect::Allow, callers: &[], means: &[], keys: &[], group: false, words: &["*"] };
/// Keys of the group.
const GROUP: [usize; 2] = [1, 2];

/// The policies, by what they are about.
fn policies() -> Vec<(&'static str, Vec<Spec>)> {
    let allow = |callers, words| Spec { callers, words, ..ANY };
    let deny = |callers, words| Spec { effect: Effect::Deny, callers, words, ..ANY };
    vec![
        ("none", vec![]),
        ("nothing for anybody", vec![allow(&["ghost"], &["*"])]),
        ("duties of one", vec![allow(&["vc-a"], &["duties", "list"])]),
        (
            "each its keys",
            vec![
                Spec { keys: &[0], ..allow(&["vc-a"], &["duties", "list", "batch"]) },
                Spec { group: true, ..allow(&["vc-b", "vc-1"], &["duties", "list", "batch"]) },
            ],
        ),
        (
            "exits by certificate",
            vec![
                allow(&["*"], &["signing", "list"]),
                Spec { means: &[Means::Basic, Means::Bearer, Means::UnixPeer], ..deny(&[], &["exit"]) },
            ],
        ),
        (
            "all but one key",
            vec![ANY, Spec { keys: &[1], ..deny(&["vc-*", "keymanager"], &["signing", "list", "keymanager.*"]) }],
        ),
        (
            "a dashboard",
            vec![
                allow(&["vc-*"], &["duties"]),
                allow(&["vc-b"], &["admin.*.read", "list", "keymanager.read"]),
                allow(&["keymanager"], &["keymanager.read"]),
            ],
        ),
        ("sync only, and reload", vec![allow(&["local"], &["sync", "reload"]), allow(&["vc-a"], &["attesting"])]),
    ]
}

/// A world, its server, and what was asked of it.
struct Matrix {
    stage: Stage,
    server: Server,
    config: PathBuf,
    keys: Vec<PublicKey>,
    socket: PathBuf,
    cells: usize,
    refused: usize,
}

fn quoted(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    format!("[{}]", words.join(", "))
}

impl Matrix {
    fn hash(token: &str) -> String {
        hex::encode(Sha256::digest(token))
    }

    fn written(&self, rules: &[Spec]) -> String {
        let key = |place: &usize| self.keys[*place].to_string();
        let mut text = format!("[[groups]]\nname = \"group\"\nkeys = {}\n", quoted(GROUP.iter().map(key)));
        for rule in rules {
            let words = |all: &[&str]| quoted(all.iter().map(|word| (*word).to_owned()));
            text.push_str(&format!("[[policy]]\neffect = \"{}\"\n", rule.effect.as_str()));
            text.push_str(&format!("operations = {}\n", words(rule.words)));
            if !rule.callers.is_empty() {
                text.push_str(&format!("callers = {}\n", words(rule.callers)));
            }
            if !rule.means.is_empty() {
                text.push_str(&format!("means = {}\n", quoted(rule.means.iter().map(|one| one.as_str().to_owned()))));
            }
            if !rule.keys.is_empty() {
                text.push_str(&format!("keys = {}\n", quoted(rule.keys.iter().map(key))));
            }
            if rule.group {
                text.push_str("groups = [\"group\"]\n");
            }
        }
        text
    }

    fn judged(&self, rules: &[Spec]) -> Vec<Rule> {
        let rule = |(place, spec): (usize, &Spec)| Rule {
            name: RuleName::of_place(place + 1),
            effect: spec.effect,
            callers: Callers {
                names: (!spec.callers.is_empty())
                    .then(|| spec.callers.iter().map(|name| NamePattern::new(name).unwrap()).collect()),
                means: (!spec.means.is_empty()).then(|| spec.means.to_vec()),
            },
            keys: if spec.keys.is_empty() && !spec.group {
                Keys::All
            } else {
                let keys = spec.keys.iter().map(|place| self.keys[*place]).collect();
                let groups = if spec.group { vec!["group".to_owned()] } else { Vec::new() };
                Keys::Only(KeyNames { keys, groups, labels: Vec::new() })
            },
            operations: spec
                .words
                .iter()
                .fold(OperationSet::NONE, |set, word| set.union(OperationSet::named(word).unwrap())),
            rate: None,
        };
        rules.iter().enumerate().map(rule).collect()
    }

    /// One request of somebody, on a connection of its own.
    fn ask(&mut self, asker: &Asker, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.cells += 1;
        let headers = format!("Content-Type: application/json\r\nAccept: application/json\r\n{}", asker.headers);
        let (status, body) = match asker.door {
            Door::Tls { certificate } => {
                let config = TlsClient::config(&self.stage, certificate);
                let mut client = TlsClient::connect(self.server.http_addr(), &config).expect("a connection");
                client.request(method, path, &headers, body).expect("an answer")
            }
            Door::Unix => {
                let mut stream = UnixStream::connect(&self.socket).expect("the socket");
                let length = body.len();
                let head = format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
                );
                stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
                (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
            }
        };
        if status == 403 && body.contains("policy_denied") {
            self.refused += 1;
        }
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }
}

/// Bodies of signing requests, one for each operation.
fn bodies(key: &PublicKey) -> Vec<(&'static str, Value)> {
    let fork_info = CHAIN.randao(4).0["fork_info"].clone();
    let with = |kind: &str, member: &str, value: Value| json!({ "type": kind, "fork_info": fork_info, member: value });
    let root = format!("0x{}", "11".repeat(32));
    vec![
        ("attestation", CHAIN.attestation(32, 3, 4, 1).0),
        ("block", CHAIN.block(40, 1).0),
        ("randao", CHAIN.randao(4).0),
        ("voluntary_exit", with("VOLUNTARY_EXIT", "voluntary_exit", json!({"epoch": "4", "validator_index": "7"}))),
        ("aggregation_slot", with("AGGREGATION_SLOT", "aggregation_slot", json!({"slot": "33"}))),
        (
            "sync_committee_message",
            with("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", json!({"beacon_block_root": root, "slot": "33"})),
        ),
        (
            "sync_committee_selection_proof",
            with(
                "SYNC_COMMITTEE_SELECTION_PROOF",
                "sync_aggregator_selection_data",
                json!({"slot": "33", "subcommittee_index": "1"}),
            ),
        ),
        (
            "validator_registration",
            json!({ "type": "VALIDATOR_REGISTRATION", "validator_registration": {
                "fee_recipient": format!("0x{}", "22".repeat(20)), "gas_limit": "30000000", "timestamp": "1700000000",
                "pubkey": key.to_string(),
            }}),
        ),
    ]
}

fn setup() -> (Matrix, Vec<Asker>) {
    let stage = Stage::new(3);
    let basic = |name: &str, token: &str| {
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{name}:{token}")))
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let tls = Door::Tls { certificate: None };
    let token_a = "a".repeat(43);
    let token_b = "b".repeat(43);
    let askers = vec![
        Asker { what: "nobody", caller: None, door: Door::Tls { certificate: None }, headers: String::new() },
        Asker { what: "a wrong token", caller: None, door: tls, headers: basic("vc-a", &token_b) },
        Asker {
            what: "a name and a token",
            caller: Some(("vc-a", Means::Basic)),
            door: Door::Tls { certificate: None },
            headers: basic("vc-a", &token_a),
        },
        Asker {
            what: "a bearer token",
            caller: Some(("vc-b", Means::Bearer)),
            door: Door::Tls { certificate: None },
            headers: bearer(&token_b),
        },
        Asker {
            what: "a certificate",
            caller: Some(("vc-1", Means::Certificate)),
            door: Door::Tls { certificate: Some("vc-1") },
            headers: String::new(),
        },
        Asker { what: "a user", caller: Some(("local", Means::UnixPeer)), door: Door::Unix, headers: String::new() },
    ];
    let config = stage.world.path().join("holdfast.toml");
    let socket = stage.world.path().join("http.sock");
    let uid = rustix::process::geteuid().as_raw();
    let (hash_a, hash_b) = (Matrix::hash(&token_a), Matrix::hash(&token_b));
    let callers = format!(
        "[[callers]]\nname = \"vc-a\"\nbasic_token_sha256 = [\"{hash_a}\"]\n\
         [[callers]]\nname = \"vc-b\"\nbearer_token_sha256 = [\"{hash_b}\"]\n\
         [[callers]]\nname = \"vc-1\"\ncertificate_subjects = [\"vc-1\"]\n\
         [[callers]]\nname = \"local\"\nunix_uids = [{uid}]\n"
    );
    std::fs::write(&config, &callers).expect("a configuration");
    let server = stage
        .server(&[
            ("certificate", "tls.pem"),
            ("key", "tls.key"),
            ("client_ca", "clients-ca.pem"),
            ("client_auth", "optional"),
        ])
        .global("--config")
        .global(&config)
        .env("HOLDFAST_HTTP_LISTEN_UNIX", socket.display().to_string())
        .start();
    server.wait_ready();
    let keys = stage.world.keys.iter().map(|key| key.public.parse().expect("a key")).collect();
    (Matrix { stage, server, config, keys, socket, cells: 0, refused: 0 }, askers)
}

#[test]
fn callers_policies_operations_and_endpoints() {
    let (mut matrix, mut askers) = setup();
    let callers = std::fs::read_to_string(&matrix.config).expect("the configuration");
    let token = std::fs::read_to_string(matrix.stage.world.data_dir().join("keymanager-token")).expect("a token");
    askers.push(Asker {
        what: "the Keymanager API's token",
        caller: Some(("keymanager", Means::Bearer)),
        door: Door::Tls { certificate: None },
        headers: format!("Authorization: Bearer {}\r\n", token.trim()),
    });
    let all = policies();
    for (place, (what, specs)) in all.iter().enumerate() {
        if place > 0 {
            put_in_force(&matrix, &format!("{callers}{}", matrix.written(specs)), place);
        }
        let rules = matrix.judged(specs);
        let group = GROUP.iter().map(|place| matrix.keys[*place]).collect();
        let directory = Directory { groups: [("group".to_owned(), group)].into(), ..Directory::default() };
        for asker in &askers {
            let caller = asker.caller.map(|(name, means)| Caller::new(CallerName::new(name).unwrap(), means));
            let may = |key: Option<&PublicKey>, word: &str| {
                let operation = Operation::named(word).unwrap();
                caller.as_ref().map(|caller| oracle::allowed(&rules, &directory, caller, key, operation))
            };
            let context = format!("policy \"{what}\", {}", asker.what);
            if caller.is_none() {
                // Each further answer is slower, so there are few: all endpoints without rules, some with the last ones.
                let few = if asker.headers.is_empty() { (0, usize::MAX) } else { (all.len() - 1, 3) };
                if place == few.0 {
                    closed(&mut matrix, asker, few.1, &context);
                }
            } else if asker.caller.is_some_and(|(name, _)| name == "keymanager") {
                keymanager(&mut matrix, asker, &may, &context);
            } else {
                signing(&mut matrix, asker, &may, &context);
                lists(&mut matrix, asker, &may, &context);
            }
        }
    }
    let Matrix { cells, refused, server, stage, .. } = matrix;
    println!("{cells} cells, {refused} of them refused by policy");
    assert!(cells > 800 && refused > 200, "{cells} cells, {refused} refused");
    assert!(metric(&server, "holdfast_policy_denials_total{operation=\"block\",reason=\"policy_denied\"}") > 10.0);
    assert!(server.stop().0.success());
    journaled(&stage, refused, all.len() - 1);
}

/// Changes the rules of the running server, and waits until they are in force.
fn put_in_force(matrix: &Matrix, text: &str, nth: usize) {
    std::fs::write(&matrix.config, text).expect("a configuration");
    let pid = matrix.server.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    let replaced = || matrix.server.log().matches("the policy of the configuration is in force").count();
    wait_for("another policy", || replaced() == nth);
}

/// Who does not get in gets nothing but the health of the process, whatever the policy.
fn closed(matrix: &mut Matrix, asker: &Asker, few: usize, context: &str) {
    let sign = format!("/api/v1/eth2/sign/{}", matrix.keys[0]);
    let body = CHAIN.randao(4).0.to_string();
    let endpoints = [
        ("POST", sign.as_str(), body.as_str()),
        ("POST", "/api/v1/eth2/sign", body.as_str()),
        ("GET", "/api/v1/eth2/publicKeys", ""),
        ("GET", "/api/v1/eth2/highWatermark", ""),
        ("GET", "/healthcheck", ""),
        ("GET", "/reload", ""),
        ("POST", "/reload", ""),
        ("GET", "/eth/v1/keystores", ""),
        ("DELETE", "/eth/v1/keystores", "{\"pubkeys\":[]}"),
    ];
    for (method, path, body) in endpoints.into_iter().take(few) {
        let answer = matrix.ask(asker, method, path, body);
        assert!(matches!(answer.0, 401 | 403 | 429), "{context}: {method} {path}: {answer:?}");
        assert_ne!(answer.1["reason"], "policy_denied", "{context}: {method} {path}: who asks comes first");
    }
    assert_eq!(matrix.ask(asker, "GET", "/upcheck", "").0, 200, "{context}: upcheck");
    for probe in ["/livez", "/readyz"] {
        assert_eq!(matrix.server.get_metrics(probe).status, 200, "{context}: {probe}");
    }
}

/// Every kind of message with every key, and in a batch.
fn signing(matrix: &mut Matrix, asker: &Asker, may: &dyn Fn(Option<&PublicKey>, &str) -> Option<bool>, context: &str) {
    for key in matrix.keys.clone() {
        for (word, body) in bodies(&key) {
            let answer = matrix.ask(asker, "POST", &format!("/api/v1/eth2/sign/{key}"), &body.to_string());
            let expected = match may(Some(&key), word) {
                None => 401,
                Some(true) => 200,
                Some(false) => 403,
            };
            assert_eq!(answer.0, expected, "{context}: {word} with {}: {}", key.short(), answer.1);
            if expected == 403 {
                assert_eq!((&answer.1["reason"], &answer.1["code"]), (&json!("policy_denied"), &json!(403)));
            }
        }
    }
    let identifiers: Vec<String> = matrix.keys.iter().map(PublicKey::to_string).collect();
    let batch = json!({ "identifiers": identifiers, "signing_request": CHAIN.randao(4).0 });
    let answer = matrix.ask(asker, "POST", "/api/v1/eth2/sign", &batch.to_string());
    match may(None, "batch") {
        None => assert_eq!(answer.0, 401, "{context}: batch: {}", answer.1),
        Some(false) => assert_eq!(answer.0, 403, "{context}: batch: {}", answer.1),
        Some(true) => {
            assert_eq!(answer.0, 200, "{context}: batch: {}", answer.1);
            for (item, key) in answer.1.as_array().expect("items").iter().zip(matrix.keys.clone()) {
                let signed = item.get("signature").is_some();
                assert_eq!(Some(signed), may(Some(&key), "randao"), "{context}: batch with {}: {item}", key.short());
            }
        }
    }
}

/// The other endpoints.
fn lists(matrix: &mut Matrix, asker: &Asker, may: &dyn Fn(Option<&PublicKey>, &str) -> Option<bool>, context: &str) {
    let status = |may: Option<bool>, yes: u16| may.map_or(401, |may| if may { yes } else { 403 });
    let answer = matrix.ask(asker, "GET", "/api/v1/eth2/publicKeys", "");
    let expected = status(may(None, "list"), 200);
    assert_eq!(answer.0, expected, "{context}: list: {}", answer.1);
    if expected == 200 {
        let mut seen: Vec<String> =
            matrix.keys.iter().filter(|key| may(Some(key), "list") == Some(true)).map(PublicKey::to_string).collect();
        seen.sort_unstable();
        assert_eq!(answer.1, json!(seen), "{context}: the list has what the caller may see, and no more");
    }
    let answer = matrix.ask(asker, "GET", "/reload", "");
    assert_eq!(answer.0, status(may(None, "admin.status.read"), 200), "{context}: state of reload: {}", answer.1);
    let answer = matrix.ask(asker, "POST", "/reload", "");
    let expected = status(may(None, "admin.status.write"), 202);
    // One may be running still.
    assert!(answer.0 == expected || (expected, answer.0) == (202, 409), "{context}: reload: {answer:?}");
    for path in ["/healthcheck", "/api/v1/eth2/highWatermark"] {
        let answer = matrix.ask(asker, "GET", path, "");
        assert_eq!(answer.0, status(asker.caller.map(|_| true), 200), "{context}: {path}: {}", answer.1);
    }
    // For everybody; all else is not.
    assert_eq!(matrix.ask(asker, "GET", "/upcheck", "").0, 200, "{context}: upcheck");
    for probe in ["/livez", "/readyz"] {
        assert_eq!(matrix.server.get_metrics(probe).status, 200, "{context}: {probe}");
    }
    // Nobody comes to the Keymanager API but with its token.
    let answer = matrix.ask(asker, "GET", "/eth/v1/keystores", "");
    assert!(matches!(answer.0, 401 | 403 | 429), "{context}: keystores: {answer:?}");
}

/// The Keymanager API: lists are filtered, and a key that may not be deleted stays.
fn keymanager(
    matrix: &mut Matrix,
    asker: &Asker,
    may: &dyn Fn(Option<&PublicKey>, &str) -> Option<bool>,
    context: &str,
) {
    let answer = matrix.ask(asker, "GET", "/eth/v1/keystores", "");
    let expected = if may(None, "keymanager.read") == Some(true) { 200 } else { 403 };
    assert_eq!(answer.0, expected, "{context}: keystores: {}", answer.1);
    if expected == 200 {
        let seen: Vec<&str> = answer.1["data"]
            .as_array()
            .expect("data")
            .iter()
            .filter_map(|one| one["validating_pubkey"].as_str())
            .collect();
        let mut expected: Vec<String> = matrix
            .keys
            .iter()
            .filter(|key| may(Some(key), "keymanager.read") == Some(true))
            .map(PublicKey::to_string)
            .collect();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{context}: keystores");
    }
    // Keys that nobody has, and those of ours that may not be deleted.
    let strange = PublicKey::from_bytes([9; 48]);
    let mut asked: Vec<PublicKey> =
        matrix.keys.iter().filter(|key| may(Some(key), "keymanager.write") == Some(false)).copied().collect();
    asked.push(strange);
    let body = json!({ "pubkeys": asked.iter().map(PublicKey::to_string).collect::<Vec<_>>() }).to_string();
    let answer = matrix.ask(asker, "DELETE", "/eth/v1/keystores", &body);
    if may(None, "keymanager.write") != Some(true) {
        assert_eq!(answer.0, 403, "{context}: delete: {}", answer.1);
        return;
    }
    assert_eq!(answer.0, 200, "{context}: delete: {}", answer.1);
    for (item, key) in answer.1["data"].as_array().expect("data").iter().zip(&asked) {
        let expected = if may(Some(key), "keymanager.write") == Some(true) { "not_found" } else { "error" };
        assert_eq!(item["status"], expected, "{context}: delete {}: {item}", key.short());
    }
}

/// What the journal says of it: every replacement, and every refusal in the counts of the events.
fn journaled(stage: &Stage, refused: usize, replaced: usize) {
    let export = stage.world.path().join("journal.jsonl");
    run(&stage.world.with(&["audit", "export", "--to", &export.display().to_string()])).expect(0, &[]);
    let text = std::fs::read_to_string(&export).expect("an export");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["event"] == kind).cloned().collect::<Vec<_>>();
    assert_eq!(of("policy.replaced").len(), replaced);
    let denied = of("policy.denied");
    let count = |event: &Value| -> usize {
        let detail = event["detail"].as_str().unwrap_or_default();
        detail.split("; ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap_or(1)
    };
    let told: usize = denied.iter().map(count).sum();
    // Refusals of single keys in batches and deletions are not answers of their own.
    assert!(told >= refused, "{told} refusals in the journal, {refused} were answered");
    assert!(denied.len() * 3 < told, "{} events for {told} refusals", denied.len());
    let by_certificate = denied.iter().any(|event| event["by"] == "vc-1 (certificate)" && event["key"].is_string());
    assert!(by_certificate, "who, and with which key: {denied:?}");
    // Each refused caller may be asked about afterwards, from the same file.
    let config = stage.world.path().join("holdfast.toml").display().to_string();
    let explained = run(&stage.world.with(&[
        "--config",
        &config,
        "--json",
        "policy",
        "explain",
        "--request",
        &export.display().to_string(),
    ]));
    let value: Value = serde_json::from_str(&explained.expect(1, &[]).stdout).expect("JSON");
    assert!(
        value["requests"]["allowed"].as_u64() > Some(0) && value["requests"]["refused"].as_u64() > Some(0),
        "{value}"
    );
}
