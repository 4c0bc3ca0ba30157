//! Requests of every type, made for this project, with their signing roots pinned.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

use std::path::Path;

use holdfast_domain::{Network, PublicKey, SigningIntent};
use holdfast_wire::web3signer::SignRequest;
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Example {
    network: String,
    signing_root: String,
    request: Box<RawValue>,
}

fn network(name: &str) -> Network {
    match name {
        "examples" => Network::from_config_yaml(include_str!("examples/network.yaml")).unwrap(),
        _ => Network::builtin(name).unwrap(),
    }
}

#[test]
fn every_example_gives_its_pinned_root() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples");
    let mut differences = Vec::new();
    let mut examples = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let example: Example = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let network = network(&example.network);
        let request = SignRequest::parse(example.request.get().as_bytes(), &network)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let key = PublicKey::from_bytes([0xa1; 48]);
        let intent = SigningIntent::new(key, &request.message, request.fork_info, request.claimed, &network)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        // What a vault gets says the same of it.
        let restated = intent.statement().restate(intent.root().into(), &network).unwrap();
        assert_eq!(
            (restated.root, &restated.subject, restated.genesis_validators_root),
            (intent.root(), intent.subject(), intent.genesis_validators_root()),
            "{name}"
        );
        if intent.root().to_string() != example.signing_root {
            differences.push(format!("{name} {}", intent.root()));
        }
        examples += 1;
    }
    assert!(differences.is_empty(), "{} of {examples} differ:\n{}", differences.len(), differences.join("\n"));
    assert_eq!(examples, 31);
}
