//! `vectors/signing` and `vectors/signing-negative`.

use std::collections::BTreeMap;
use std::path::Path;

use holdfast_tests::keys::verifies;
use holdfast_tests::vectors::{json_files, shared};
use serde_json::Value;

use crate::fixture::{Fixture, NetworkArgs};

fn network(name: &str, vectors: &Path) -> NetworkArgs {
    let file = vectors.join("networks").join(format!("{name}.yaml"));
    if !file.is_file() {
        return NetworkArgs::builtin(name);
    }
    let text = std::fs::read_to_string(vectors.join("networks/networks.json")).expect("networks.json");
    let all: Value = serde_json::from_str(&text).expect("networks.json is JSON");
    let entry = &all[name];
    NetworkArgs::custom(
        &file,
        entry["genesis_validators_root"].as_str().expect("root"),
        entry["genesis_time"].as_u64().expect("genesis time"),
    )
}

fn root_of(text: &str) -> [u8; 32] {
    hex::decode(&text[2..]).expect("hex").try_into().expect("32 bytes")
}

/// Servers by network for cases that leave no watermark; a fresh one for each case that does.
struct Servers<'a> {
    vectors: &'a Path,
    shared: BTreeMap<String, Fixture>,
}

impl Servers<'_> {
    fn run<T>(&mut self, name: &str, fresh: bool, check: impl FnOnce(&Fixture) -> T) -> T {
        if fresh {
            return check(&Fixture::start(&network(name, self.vectors)));
        }
        let vectors = self.vectors;
        check(self.shared.entry(name.to_owned()).or_insert_with(|| Fixture::start(&network(name, vectors))))
    }
}

#[test]
fn every_signing_vector_gets_its_signature() {
    let Some(vectors) = shared() else { return };
    let mut servers = Servers { vectors: &vectors, shared: BTreeMap::new() };
    let mut cases = 0;
    for (file, list) in json_files(&vectors.join("signing")) {
        for case in list.as_array().expect("an array of cases") {
            let id = case["id"].as_str().expect("id");
            let expected = &case["expected"];
            let key = case["public_key"].as_str().expect("key");
            let root = root_of(expected["signing_root"].as_str().expect("root"));
            let slashable = !expected["slashing_protection"].is_null();
            let network = case["network"].as_str().expect("network");
            servers.run(network, slashable, |fixture| {
                for attempt in ["first", "again"] {
                    let response = fixture.server.sign(key, &case["request"]);
                    assert_eq!(response.status, 200, "{file} {id} {attempt}: {}", response.text());
                    let body = response.json();
                    let signature = body["signature"].as_str().expect("signature");
                    assert_eq!(signature, expected["signature"], "{file} {id} {attempt}");
                    assert!(verifies(key, &root, signature), "{file} {id}: does not verify");
                }
            });
            cases += 1;
        }
    }
    println!("signing vectors through HTTP: {cases}");
    assert!(cases >= 204, "only {cases} cases found");
}

/// Those that a vault signs from its start on: blocks and attestations of the vectors are from long ago, which it
/// refuses, and that is checked as well.
#[test]
fn a_vault_signs_every_vector_that_cannot_be_slashed_and_no_old_duty() {
    let Some(vectors) = shared() else { return };
    let mut servers: BTreeMap<String, Fixture> = BTreeMap::new();
    let (mut signed, mut refused) = (0, 0);
    for (file, list) in json_files(&vectors.join("signing")) {
        for case in list.as_array().expect("an array of cases") {
            let id = case["id"].as_str().expect("id");
            let expected = &case["expected"];
            let name = case["network"].as_str().expect("network");
            let fixture = servers
                .entry(name.to_owned())
                .or_insert_with(|| Fixture::start_with(&network(name, &vectors), "process"));
            let response = fixture.server.sign(case["public_key"].as_str().expect("key"), &case["request"]);
            if expected["slashing_protection"].is_null() {
                assert_eq!(response.status, 200, "{file} {id}: {}", response.text());
                assert_eq!(response.json()["signature"], expected["signature"], "{file} {id}");
                signed += 1;
            } else {
                // By the database, if another case of the same key came before; else by the vault.
                assert_eq!(response.status, 412, "{file} {id}: {}", response.text());
                refused += 1;
            }
        }
    }
    println!("signing vectors through a vault: {signed} signed, {refused} too old for it");
    assert!(signed >= 100 && refused >= 20, "only {signed} and {refused} cases found");
}

#[test]
fn every_negative_vector_is_answered_as_decided() {
    let Some(vectors) = shared() else { return };
    let text = std::fs::read_to_string(vectors.join("signing-negative/cases.json")).expect("cases.json");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("cases.json is JSON");
    let mut servers = Servers { vectors: &vectors, shared: BTreeMap::new() };
    for case in &cases {
        let id = case["id"].as_str().expect("id");
        let accepted = case["expect"] == "accept";
        let network = case["network"].as_str().expect("network");
        let slashable = accepted && (id.starts_with("block") || id.starts_with("attestation"));
        servers.run(network, slashable, |fixture| {
            let response = fixture.server.sign(case["identifier"].as_str().expect("identifier"), &case["body"]);
            let wanted: Vec<u64> =
                case["expected_status"].as_array().expect("statuses").iter().filter_map(Value::as_u64).collect();
            assert!(
                wanted.contains(&u64::from(response.status)),
                "{id}: wanted {wanted:?}, got {} {}",
                response.status,
                response.text()
            );
            if accepted {
                assert_eq!(response.json()["signature"], case["signature"], "{id}");
            } else {
                assert!(!response.text().contains("signature\":"), "{id}: a signature came back");
                assert!(!response.reason().is_empty(), "{id}: no reason in {}", response.text());
            }
        });
    }
    println!("negative vectors through HTTP: {}", cases.len());
    assert!(cases.len() >= 66, "only {} cases found", cases.len());
}
