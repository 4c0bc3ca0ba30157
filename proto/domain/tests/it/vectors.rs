//! The shared signing vectors: every intermediate value of every case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_domain::{IntentError, Network, ObservedRoot, PublicKey, SigningIntent};
use serde_json::Value;

use crate::json::{Json, read_request};

/// The folder named by HOLDFAST_VECTORS, or the default one if it exists.
pub fn folder() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "tests have no configuration to read it from")]
    let named = std::env::var("HOLDFAST_VECTORS").ok().map(PathBuf::from);
    if let Some(folder) = named {
        assert!(folder.is_dir(), "HOLDFAST_VECTORS names {}, which is not a folder", folder.display());
        return Some(folder);
    }
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    default.is_dir().then_some(default)
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn network(folder: &Path, name: &str) -> Network {
    Network::builtin(name)
        .unwrap_or_else(|| Network::from_config_yaml(&read(&folder.join(format!("networks/{name}.yaml")))).unwrap())
}

fn check(case: &Value, network: &Network) {
    let id = case["id"].as_str().unwrap();
    let expected = &case["expected"];
    let (signable, fork_info) = read_request(&case["request"]);
    let message = signable.into_message(&network.preset);
    assert_eq!(message.object_root(&network.preset).unwrap().to_string(), expected["object_root"], "{id}");

    let key: PublicKey = case["public_key"].as_str().unwrap().parse().unwrap();
    let intent = SigningIntent::new(key, &message, fork_info, None, network).unwrap();
    assert_eq!(intent.key(), &key, "{id}");
    assert_eq!(intent.domain().to_string(), expected["domain"], "{id}");
    assert_eq!(intent.root().to_string(), expected["signing_root"], "{id}");
    assert_eq!(intent.genesis_validators_root(), fork_info.map(|info| info.genesis_validators_root), "{id}");
    let protected = match intent.subject().kind() {
        holdfast_domain::MessageKind::Slashable(holdfast_domain::SlashableKind::Block) => Some("block"),
        holdfast_domain::MessageKind::Slashable(holdfast_domain::SlashableKind::Attestation) => Some("attestation"),
        holdfast_domain::MessageKind::Unslashable(_) => None,
    };
    assert_eq!(protected, expected["slashing_protection"].as_str(), "{id}");

    let right: [u8; 32] = Json::from(&expected["signing_root"]);
    let claim = |root| SigningIntent::new(key, &message, fork_info, Some(ObservedRoot::new(root)), network);
    assert_eq!(claim(right).unwrap().root(), intent.root(), "{id}");
    let mut wrong = right;
    wrong[31] ^= 1;
    assert!(matches!(claim(wrong), Err(IntentError::SigningRootMismatch { .. })), "{id}");

    if fork_info.is_some() {
        let error = SigningIntent::new(key, &message, None, None, network).unwrap_err();
        assert_eq!(error.reason(), "missing_fork_info", "{id}");
    }
}

#[test]
fn every_signing_vector() {
    // Without the folder this project's own vectors stand alone: see `own_vectors`.
    let Some(folder) = folder() else { return };
    let mut networks = BTreeMap::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(folder.join("signing")).unwrap() {
        let file: Vec<Value> = serde_json::from_str(&read(&entry.unwrap().path())).unwrap();
        for case in &file {
            let name = case["network"].as_str().unwrap();
            let network = networks.entry(name.to_owned()).or_insert_with(|| network(&folder, name));
            check(case, network);
            cases += 1;
        }
    }
    assert_eq!(cases, 204, "the README of the vectors counts 204 cases");
}

#[test]
fn built_in_networks_agree_with_the_published_table() {
    let Some(folder) = folder() else { return };
    let table: Value = serde_json::from_str(&read(&folder.join("networks/networks.json"))).unwrap();
    for name in Network::BUILTIN_NAMES.into_iter().chain(["vectornet", "vectornet-minimal"]) {
        let (network, row) = (network(&folder, name), &table[name]);
        assert_eq!(network.name, name);
        assert_eq!(network.preset.slots_per_epoch.get(), row["slots_per_epoch"].as_u64().unwrap(), "{name}");
        assert_eq!(network.slot_millis.get(), row["slot_duration_ms"].as_u64().unwrap(), "{name}");
        assert_eq!(network.genesis_time.unwrap().0, row["genesis_time"].as_u64().unwrap() * 1000, "{name}");
        if let Some(root) = network.genesis_validators_root {
            assert_eq!(root.to_string(), row["genesis_validators_root"], "{name}");
        }
        let forks: Vec<_> = network
            .forks
            .iter()
            .map(|fork| (fork.name.as_str().to_lowercase(), fork.version.to_string(), fork.epoch.map(|epoch| epoch.0)))
            .collect();
        let expected: Vec<_> = row["forks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fork| {
                let text = |key: &str| fork[key].as_str().unwrap().to_owned();
                (text("fork"), text("version"), fork["epoch"].as_u64())
            })
            .collect();
        assert_eq!(forks, expected, "{name}");
    }
}
