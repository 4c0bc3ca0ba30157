//! The project's own examples, one per message type and client habit, through HTTP. They need nothing
//! from outside, so every machine checks every type.

use std::collections::BTreeSet;

use holdfast_tests::harness::workspace;
use holdfast_tests::keys::{TestKey, verifies};
use holdfast_tests::vectors::json_files;

use crate::fixture::{Fixture, NetworkArgs};

#[test]
fn every_own_example_is_signed_with_its_root() {
    examples("in-process");
}

/// Except blocks and attestations, which are from long ago: a vault refuses those.
#[test]
fn a_vault_signs_every_own_example_with_its_root() {
    examples("process");
}

/// The request with the genesis validators root of another chain, if it names one.
fn for_another_chain(request: &serde_json::Value) -> Option<serde_json::Value> {
    let mut request = request.clone();
    let members = request.as_object_mut().expect("an object");
    // Of this chain it would not be the root.
    for name in ["signingRoot", "signing_root"] {
        members.remove(name);
    }
    let root = members.get_mut("fork_info")?.get_mut("genesis_validators_root")?;
    *root = format!("0x{}", "5a".repeat(32)).into();
    Some(request)
}

fn examples(backend: &str) {
    let folder = workspace().join("proto/wire/tests/examples");
    let key = TestKey::interop(3);
    let files = json_files(&folder);
    let root_of_network = |name: &str| {
        files
            .iter()
            .filter(|(_, example)| example["network"] == name)
            .find_map(|(_, example)| example["request"]["fork_info"]["genesis_validators_root"].as_str())
            .expect("an example that names its chain")
            .to_owned()
    };
    let custom = NetworkArgs::custom(&folder.join("network.yaml"), &root_of_network("examples"), 1_600_000_000);
    let mut guarded = BTreeSet::new();
    for (name, example) in &files {
        let network = match example["network"].as_str().expect("network") {
            "examples" => custom.clone(),
            builtin => NetworkArgs::builtin(builtin),
        };
        let fixture = Fixture::start_with(&network, backend);
        let response = fixture.server.sign(&key.public, &example["request"]);
        if let Some(mut strange) = for_another_chain(&example["request"]) {
            let response = fixture.server.sign(&key.public, &strange);
            let answer = (response.status, response.reason());
            assert_eq!(answer, (412, "wrong_genesis_validators_root".to_owned()), "{name}: {}", response.text());
            guarded.insert(strange["type"].take().as_str().expect("a type").to_owned());
        }
        let slashable = ["block", "attestation"].iter().any(|kind| name.starts_with(kind));
        if backend == "process" && slashable {
            assert_eq!(response.status, 412, "{name}: {}", response.text());
            continue;
        }
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        let root = example["signing_root"].as_str().expect("root");
        let root: [u8; 32] = hex::decode(&root[2..]).expect("hex").try_into().expect("32 bytes");
        let body = response.json();
        let signature = body["signature"].as_str().expect("signature");
        assert!(verifies(&key.public, &root, signature), "{name}: signed another root");
    }
    // Deposits and registrations have domains of their own; everything else is for one chain only.
    let types: BTreeSet<&str> = files.iter().filter_map(|(_, example)| example["request"]["type"].as_str()).collect();
    let free: Vec<_> = types.into_iter().filter(|one| !guarded.contains(*one)).collect();
    assert_eq!(free, ["BUILDER_REQUEST_AUTH", "DEPOSIT", "REQUEST_AUTH", "VALIDATOR_REGISTRATION"]);
    println!("own examples through HTTP: {}", files.len());
    assert!(files.len() >= 31, "only {} examples", files.len());
}
