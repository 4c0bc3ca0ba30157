//! The project-wide signing vectors, read from outside the repository.
//!
//! `HOLDFAST_VECTORS` names their folder, absolute or from the root of the workspace; the default
//! is `../shared/vectors`.
//! Where the variable is set its folder must be there; where it is not set and the default folder
//! is absent, the examples in `examples/` are what is checked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use holdfast_domain::{Network, ObservedRoot, PublicKey, SigningIntent};
use holdfast_wire::web3signer::SignRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

fn folder() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let default = workspace.join("../shared/vectors");
    match std::env::var_os("HOLDFAST_VECTORS") {
        Some(folder) => {
            let folder = workspace.join(folder);
            assert!(folder.is_dir(), "HOLDFAST_VECTORS names {}, which is no folder", folder.display());
            Some(folder)
        }
        None => default.is_dir().then_some(default),
    }
}

fn read<T: DeserializeOwned>(file: &Path) -> T {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn network(vectors: &Path, name: &str) -> Network {
    Network::builtin(name).unwrap_or_else(|| {
        let file = vectors.join("networks").join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Network::from_config_yaml(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    })
}

/// Signing root, or the reason word and text of the refusal.
fn sign(body: &str, key: &str, network: &Network) -> Result<String, (&'static str, String)> {
    let request = SignRequest::parse(body.as_bytes(), network).map_err(|error| (error.reason(), error.to_string()))?;
    let key: PublicKey = key.parse().unwrap();
    let intent = SigningIntent::new(key, &request.message, request.fork_info, request.claimed, network)
        .map_err(|error| (error.reason(), error.to_string()))?;
    // What a vault gets says the same of it, and nothing else.
    let restated = intent.statement().restate(intent.root().into(), network).unwrap();
    assert_eq!((restated.root, restated.subject), (intent.root(), *intent.subject()));
    assert_eq!(restated.genesis_validators_root, intent.genesis_validators_root());
    assert!(intent.statement().restate(ObservedRoot::new([0x77; 32]), network).is_err());
    Ok(intent.root().to_string())
}

#[derive(Deserialize)]
struct Case {
    id: String,
    network: String,
    public_key: String,
    request: Box<RawValue>,
    expected: ExpectedRoot,
}

#[derive(Deserialize)]
struct ExpectedRoot {
    signing_root: String,
}

#[test]
fn every_signing_vector_gives_its_root() {
    let Some(vectors) = folder() else { return };
    let mut cases = 0;
    for file in files(&vectors.join("signing")) {
        for case in read::<Vec<Case>>(&file) {
            let network = network(&vectors, &case.network);
            let root = sign(case.request.get(), &case.public_key, &network);
            assert_eq!(root, Ok(case.expected.signing_root), "{}", case.id);
            cases += 1;
        }
    }
    assert!(cases >= 204, "only {cases} cases in {}", vectors.display());
}

#[derive(Deserialize)]
struct NegativeCase {
    id: String,
    network: String,
    identifier: String,
    expected_status: Vec<u16>,
    body: Box<RawValue>,
}

#[test]
fn every_negative_vector_is_refused_where_it_belongs() {
    let Some(vectors) = folder() else { return };
    let mut cases = 0;
    for file in files(&vectors.join("signing-negative")) {
        for case in read::<Vec<NegativeCase>>(&file) {
            let network = network(&vectors, &case.network);
            let outcome = sign(case.body.get(), &case.identifier, &network);
            // 412 is slashing protection's answer: here such a request is in order.
            let refused_here = case.expected_status.contains(&400);
            assert_eq!(outcome.is_err(), refused_here, "{}: {outcome:?}", case.id);
            if let Err((reason, text)) = outcome {
                let expected = match case.id.rsplit('/').next().unwrap() {
                    "signing-root-mismatch" => "signing_root_mismatch",
                    "missing-fork-info" => "missing_fork_info",
                    id if id.starts_with("missing-") || id.contains("without-") => "missing_field",
                    _ => "malformed_request",
                };
                assert_eq!(reason, expected, "{}: {text}", case.id);
            }
            cases += 1;
        }
    }
    assert!(cases >= 66, "only {cases} cases in {}", vectors.display());
}

#[derive(Deserialize)]
struct About {
    genesis_fork_version: String,
}

#[derive(Deserialize)]
struct Captured {
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    path: String,
    body: Box<RawValue>,
    signing_root_computed: String,
}

/// The network the captures were made on: minimal preset, and fork versions that count up in the
/// first byte of the genesis version.
fn lab_network(about: &About) -> Network {
    let suffix = about.genesis_fork_version.strip_prefix("0x00").expect("a genesis version that counts from zero");
    let mut config = format!(
        "PRESET_BASE: minimal\nCONFIG_NAME: lab\nSECONDS_PER_SLOT: 6\nMIN_GENESIS_TIME: 1795227000\nGENESIS_DELAY: 0\n\
         GENESIS_FORK_VERSION: {}\n",
        about.genesis_fork_version
    );
    for (epoch, fork) in ["ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU"].iter().enumerate() {
        writeln!(config, "{fork}_FORK_VERSION: 0x{:02}{suffix}\n{fork}_FORK_EPOCH: {epoch}", epoch + 1).unwrap();
    }
    Network::from_config_yaml(&config).unwrap()
}

#[test]
fn every_captured_request_gives_the_root_its_signer_computed() {
    let Some(vectors) = folder() else { return };
    let mut samples = 0;
    for client in files(&vectors.join("captured")) {
        let network = lab_network(&read(&client.join("about.json")));
        for file in files(&client) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with("sign-") {
                continue;
            }
            for (index, sample) in read::<Captured>(&file).samples.into_iter().enumerate() {
                let key = sample.path.rsplit('/').next().unwrap();
                let root = sign(sample.body.get(), key, &network);
                assert_eq!(root, Ok(sample.signing_root_computed), "{} sample {index}", file.display());
                samples += 1;
            }
        }
    }
    assert!(samples >= 150, "only {samples} samples in {}", vectors.display());
}
