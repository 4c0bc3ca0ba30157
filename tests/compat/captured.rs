//! Requests that real validator clients sent, replayed with their own headers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use holdfast_tests::http::once;
use holdfast_tests::keys::verifies;
use holdfast_tests::vectors::{json_files, shared};
use serde_json::Value;

use crate::fixture::{Fixture, NetworkArgs};

/// A minimal-preset development network as the capturing sessions ran it: versions 0x0N000001, all
/// scheduled at epoch 0 up to the fork named.
fn network_file(folder: &Path) -> PathBuf {
    let mut text = String::from(
        "PRESET_BASE: minimal\nCONFIG_NAME: captured\nMIN_GENESIS_TIME: 1600000000\nGENESIS_DELAY: 0\nSECONDS_PER_SLOT: 6\nGENESIS_FORK_VERSION: 0x00000001\n",
    );
    let forks = ["ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU"];
    for (number, fork) in forks.iter().enumerate() {
        let version = number + 1;
        writeln!(text, "{fork}_FORK_VERSION: 0x0{version}000001\n{fork}_FORK_EPOCH: {version}").expect("to a string");
    }
    let file = folder.join("config.yaml");
    std::fs::write(&file, text).expect("network file");
    file
}

fn replay(fixture: &Fixture, sample: &Value) -> holdfast_tests::http::Response {
    let headers: Vec<(&str, &str)> = sample["headers"]
        .as_array()
        .expect("headers")
        .iter()
        .map(|pair| (pair[0].as_str().expect("name"), pair[1].as_str().expect("value")))
        .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
        .collect();
    let body = if sample["body"].is_null() { String::new() } else { sample["body"].to_string() };
    let method = sample["method"].as_str().expect("method");
    let path = sample["path"].as_str().expect("path");
    once(fixture.server.http_addr(), method, path, &headers, body.as_bytes()).expect("an answer")
}

#[test]
fn every_captured_request_is_accepted_with_the_root_the_client_computed() {
    let Some(vectors) = shared() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = network_file(folder.path());
    let mut samples = 0;
    for client in std::fs::read_dir(vectors.join("captured")).expect("captured") {
        let client = client.expect("entry").path();
        let files = json_files(&client);
        let about = &files.iter().find(|(name, _)| name == "about").expect("about.json").1;
        let root = about["genesis_validators_root"].as_str().expect("root");
        let network = NetworkArgs::custom(&file, root, 1_600_000_000);
        let fixture = Fixture::start(&network);
        for (name, list) in files.iter().filter(|(name, _)| name.starts_with("sign-")) {
            for sample in list["samples"].as_array().expect("samples") {
                let slashable = name == "sign-BLOCK_V2" || name == "sign-ATTESTATION";
                let response =
                    if slashable { replay(&Fixture::start(&network), sample) } else { replay(&fixture, sample) };
                let place = format!("{} {name}", client.display());
                assert_eq!(response.status, 200, "{place}: {}", response.text());
                let content_type = response.header("content-type").expect("content type").to_owned();
                let wanted = sample["response"]["content_type"].as_str().expect("content type");
                assert!(content_type.starts_with(wanted), "{place}: {content_type}, the client got {wanted}");
                let signature = if wanted == "application/json" {
                    response.json()["signature"].as_str().expect("signature").to_owned()
                } else {
                    response.text()
                };
                let computed = sample["signing_root_computed"].as_str().expect("root");
                let computed: [u8; 32] = hex::decode(&computed[2..]).expect("hex").try_into().expect("32 bytes");
                let key = sample["path"].as_str().expect("path").rsplit('/').next().expect("key");
                assert!(verifies(key, &computed, &signature), "{place}: not the client's root");
                samples += 1;
            }
        }
        for (_, list) in files.iter().filter(|(name, _)| name == "signer-other") {
            for request in list["requests"].as_array().expect("requests") {
                let response = replay(&fixture, request);
                assert_eq!(u64::from(response.status), request["response"]["status"], "{}", request["path"]);
                samples += 1;
            }
        }
    }
    println!("captured requests through HTTP: {samples}");
    assert!(samples >= 100, "only {samples} samples found");
}
