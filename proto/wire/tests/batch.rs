//! Batches: identifiers fail alone, the message fails for all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

use holdfast_domain::{Network, PublicKey};
use holdfast_wire::WireError;
use holdfast_wire::web3signer::{BatchRequest, MAX_BATCH_IDENTIFIERS, SignRequest};
use serde_json::{Value, json};

fn network() -> Network {
    Network::builtin("mainnet").unwrap()
}

fn attestation() -> Value {
    serde_json::from_str::<Value>(include_str!("examples/attestation.json")).unwrap()["request"].take()
}

fn parse(body: &Value) -> Result<BatchRequest, WireError> {
    BatchRequest::parse(body.to_string().as_bytes(), &network())
}

#[track_caller]
fn assert_refused(body: &Value, reason: &str, text: &str) {
    let error = parse(body).unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn identifiers_keep_their_order_and_fail_alone() {
    let key = "b1".repeat(48);
    let other = "c2".repeat(48);
    let identifiers = json!([other, "0x1234", format!("0x{key}"), "", key.to_uppercase(), "z".repeat(5000)]);
    let batch = parse(&json!({"identifiers": identifiers, "signing_request": attestation()})).unwrap();
    assert_eq!(batch.request, SignRequest::parse(attestation().to_string().as_bytes(), &network()).unwrap());
    let found: Vec<String> = batch
        .identifiers
        .iter()
        .map(|identifier| identifier.as_ref().map_or_else(ToString::to_string, PublicKey::to_string))
        .collect();
    let bad = "is not a BLS public key: expected 96 hexadecimal digits, with or without 0x";
    assert_eq!(
        found,
        [
            format!("0x{other}"),
            format!("identifier \"0x1234\" {bad}"),
            format!("0x{key}"),
            format!("identifier \"\" {bad}"),
            format!("0x{key}"),
            format!("identifier \"{}…\" (5000 characters) {bad}", "z".repeat(20)),
        ]
    );
}

#[test]
fn the_number_of_identifiers_is_bounded() {
    let body = |count: usize| {
        let key = format!("\"{}\"", "b1".repeat(48));
        let keys = vec![key.as_str(); count].join(",");
        format!("{{\"signing_request\":{},\"identifiers\":[{keys}]}}", attestation())
    };
    let most = BatchRequest::parse(body(MAX_BATCH_IDENTIFIERS).as_bytes(), &network()).unwrap();
    assert_eq!(most.identifiers.len(), MAX_BATCH_IDENTIFIERS);
    for count in [0, MAX_BATCH_IDENTIFIERS + 1] {
        let error = BatchRequest::parse(body(count).as_bytes(), &network()).unwrap_err();
        assert_eq!(error.reason(), "malformed_request");
        assert_eq!(error.to_string(), "`identifiers` cannot be read: expected a list of 1 to 100000 public keys");
    }
}

#[test]
fn the_rest_of_the_batch_is_judged_as_a_whole() {
    let keys = json!(["b1".repeat(48)]);
    assert_refused(&json!({"identifiers": keys}), "missing_field", "`signing_request` is missing");
    assert_refused(&json!({"signing_request": attestation()}), "missing_field", "`identifiers` is missing");
    assert_refused(
        &json!({"identifiers": keys, "signing_request": []}),
        "malformed_request",
        "`signing_request` cannot be read",
    );
    for identifiers in [json!([1]), json!([null]), json!("0x")] {
        assert_refused(
            &json!({"identifiers": identifiers, "signing_request": attestation()}),
            "malformed_request",
            "`identifiers",
        );
    }
    let mut request = attestation();
    request["attestation"]["slot"] = json!("-3");
    assert_refused(
        &json!({"identifiers": keys, "signing_request": request}),
        "malformed_request",
        "`signing_request.attestation.slot` cannot be read",
    );
    assert_refused(
        &json!({"identifiers": keys, "signing_request": {}}),
        "missing_field",
        "`signing_request.type` is missing",
    );
}

#[test]
fn only_types_that_many_keys_sign_alike_are_taken() {
    let keys = json!(["b1".repeat(48)]);
    for (kind, reason) in [
        ("BLOCK_V2", "unsupported_type"),
        ("DEPOSIT", "unsupported_type"),
        ("AGGREGATE_AND_PROOF_V2", "unsupported_type"),
        ("generic", "unsupported_type"),
        ("ATTESTATIONS", "unknown_type"),
    ] {
        let mut request = attestation();
        request["type"] = json!(kind);
        assert_refused(&json!({"identifiers": keys, "signing_request": request}), reason, "type ");
    }
    for text in [
        include_str!("examples/aggregation_slot.json"),
        include_str!("examples/randao_reveal.json"),
        include_str!("examples/sync_committee_message.json"),
        include_str!("examples/sync_committee_selection_proof.json"),
    ] {
        let request = serde_json::from_str::<Value>(text).unwrap()["request"].take();
        assert!(parse(&json!({"identifiers": keys, "signing_request": request})).is_ok());
    }
}
