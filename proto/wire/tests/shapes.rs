//! Forms of requests: what is accepted although clients differ, and what every error says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

use holdfast_domain::message::AttestationShape;
use holdfast_domain::{Message, Network, PublicKey, SigningIntent, Unslashable};
use holdfast_wire::web3signer::SignRequest;
use holdfast_wire::{Excerpt, WireError};
use serde_json::{Value, json};

fn network() -> Network {
    Network::from_config_yaml(include_str!("examples/network.yaml")).unwrap()
}

/// The request of an example as a value to be changed.
fn example(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["request"].take()
}

fn attestation() -> Value {
    example(include_str!("examples/attestation.json"))
}

fn parse(request: &Value) -> Result<SignRequest, WireError> {
    SignRequest::parse(request.to_string().as_bytes(), &network())
}

/// Reason word and text of the error of a body.
fn refusal(body: impl AsRef<[u8]>) -> (&'static str, String) {
    let error = SignRequest::parse(body.as_ref(), &network()).unwrap_err();
    (error.reason(), error.to_string())
}

#[track_caller]
fn assert_refused(request: &Value, reason: &str, text: &str) {
    let error = parse(request).unwrap_err();
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn bodies_that_are_no_json_object() {
    for empty in ["", " \r\n\t"] {
        assert!(refusal(empty).1.starts_with("the request body is empty: send a JSON object"));
    }
    for body in ["[]", "\"x\"", "1", "null", "[{\"type\":\"ATTESTATION\"}]"] {
        assert_eq!(refusal(body).1, "the request body is not valid JSON: expected one JSON object", "{body}");
    }
    let whole = attestation().to_string();
    let bytes = whole.as_bytes();
    for body in
        [&bytes[..bytes.len() - 1], &bytes[..40], b"{", b"{\"type\"", b"\xef\xbb\xbf{}", b"{\"a\":\xff}", b"{a:1}"]
    {
        let (reason, text) = refusal(body);
        assert_eq!(reason, "malformed_request");
        assert!(text.starts_with("the request body is not valid JSON: "), "{text}");
        assert!(text.contains("at line 1 column"), "{text}");
    }
    for trailing in ["{}", ",", "x"] {
        assert!(refusal(format!("{whole}{trailing}")).1.contains("trailing characters at line 1"));
    }
    assert!(parse(&attestation()).is_ok());
}

#[test]
fn type_is_needed_and_must_be_known() {
    let with = |kind: Value| {
        let mut request = attestation();
        request["type"] = kind;
        request
    };
    assert!(parse(&with(json!("aTTestation"))).is_ok());
    assert_refused(&json!({}), "missing_field", "`type` is missing");
    assert_refused(&with(Value::Null), "missing_field", "`type` is missing");
    assert_refused(&with(json!(7)), "malformed_request", "`type` cannot be read: expected a string");
    assert_refused(&with(json!("ATTEST")), "unknown_type", "type \"ATTEST\" is not known");
    assert_refused(&with(json!("GENERIC")), "unsupported_type", "type GENERIC is not supported here");
    assert_refused(
        &with(json!("RANDAO_REVEAL")),
        "missing_field",
        "`randao_reveal` is missing: expected the message to sign",
    );
    assert_refused(
        &with(json!("SYNC_COMMITTEE_SELECTION_PROOF")),
        "missing_field",
        "`sync_aggregator_selection_data` is missing",
    );
}

#[test]
fn errors_name_the_member_and_what_was_expected() {
    let cases: [(&[&str], Value, &str, &str); 11] = [
        (&["attestation"], Value::Null, "missing_field", "`attestation` is missing"),
        (&["attestation"], json!([]), "malformed_request", "`attestation` cannot be read: expected an object"),
        (
            &["attestation", "slot"],
            Value::Null,
            "malformed_request",
            "`attestation.slot` cannot be read: expected a uint64",
        ),
        (&["attestation", "slot"], json!("12x"), "malformed_request", "got \"12x\""),
        (&["attestation", "index"], json!(-1), "malformed_request", "`attestation.index` cannot be read"),
        (
            &["attestation", "source"],
            json!({"epoch": "1"}),
            "missing_field",
            "`attestation.source.root` is missing: expected 32 bytes of hex",
        ),
        (
            &["attestation", "target", "root"],
            json!("0x12"),
            "malformed_request",
            "`attestation.target.root` cannot be read: expected 32 bytes of hex (64 digits, 0x optional), got \"0x12\"",
        ),
        (&["fork_info"], json!("x"), "malformed_request", "`fork_info` cannot be read"),
        (&["fork_info", "fork"], Value::Null, "malformed_request", "`fork_info.fork` cannot be read"),
        (&["fork_info", "fork", "epoch"], json!("1.5"), "malformed_request", "`fork_info.fork.epoch` cannot be read"),
        (
            &["signingRoot"],
            json!("0x00"),
            "malformed_request",
            "`signingRoot` cannot be read: expected 32 bytes of hex",
        ),
    ];
    for (path, value, reason, text) in cases {
        let mut request = attestation();
        let place = path.iter().fold(&mut request, |at, name| &mut at[name]);
        *place = value;
        assert_refused(&request, reason, text);
    }
    let mut list = example(include_str!("examples/block.json"));
    list["block"]["body"]["attestations"][1]["data"]["target"]["epoch"] = json!({});
    assert_refused(&list, "malformed_request", "`block.body.attestations[1].data.target.epoch` cannot be read");
}

#[test]
fn errors_repeat_only_the_start_of_what_was_sent() {
    let secret = "s3cr3t-".repeat(10_000);
    for path in [["type", ""], ["attestation", "slot"], ["attestation", "beacon_block_root"], ["attestation", "source"]]
    {
        let mut request = attestation();
        let place = path.iter().filter(|name| !name.is_empty()).fold(&mut request, |at, name| &mut at[*name]);
        *place = json!(secret);
        let text = parse(&request).unwrap_err().to_string();
        assert!(text.len() < 250 && !text.contains(&secret[..=Excerpt::LIMIT]), "{text}");
    }
    let mut request = attestation();
    request["attestation"]["slot"] = json!("1\n2\u{1b}[31m");
    let text = parse(&request).unwrap_err().to_string();
    assert!(!text.contains(['\n', '\u{1b}']), "{text}");
}

#[test]
fn members_of_other_types_and_unknown_members_are_skipped() {
    let mut request = attestation();
    for name in ["block", "deposit", "randao_reveal", "hello", "Attestation", "forkInfo"] {
        request[name] = json!([{"slot": -1}]);
    }
    request["attestation"]["extra"] = json!({"slot": 1});
    request["fork_info"]["fork"]["name"] = json!("deneb");
    assert_eq!(parse(&request), parse(&attestation()));
}

#[test]
fn repeated_members_are_refused_where_they_are_used() {
    let text = attestation().to_string();
    let twice = |from: &str, to: &str| {
        assert!(text.contains(from));
        text.replacen(from, to, 1)
    };
    let slot = "\"slot\":\"";
    for (body, path) in [
        (twice("{", "{\"type\":\"ATTESTATION\","), "type"),
        (twice("{", "{\"attestation\":null,"), "attestation"),
        (twice("{", "{\"fork_info\":{},"), "fork_info"),
        (twice("{", "{\"signingRoot\":null,\"signingRoot\":null,"), "signingRoot"),
        (twice(slot, &format!("\"slot\":\"1\",{slot}")), "attestation.slot"),
        (twice("\"epoch\"", "\"\\u0065poch\":\"3\",\"epoch\""), "attestation.source.epoch"),
    ] {
        assert_eq!(refusal(&body), ("malformed_request", format!("`{path}` is given more than once: send it once")));
    }
    for unused in ["{\"deposit\":1,\"deposit\":2,", "{\"x\":1,\"x\":2,"] {
        assert!(SignRequest::parse(twice("{", unused).as_bytes(), &network()).is_ok());
    }
    let mut request = example(include_str!("examples/payload_attestation_bare.json"));
    request["payload_attestation_message"] = request["payload_attestation_data"].clone();
    assert_refused(&request, "malformed_request", "`payload_attestation_message` is given more than once");
}

#[test]
fn both_spellings_of_the_signing_root_must_agree() {
    let root = json!("0x".to_owned() + &"5a".repeat(32));
    let with = |snake: Option<Value>, camel: Option<Value>| {
        let mut request = attestation();
        for (name, value) in [("signing_root", snake), ("signingRoot", camel)] {
            if let Some(value) = value {
                request[name] = value;
            }
        }
        request
    };
    for (snake, camel) in [
        (Some(root.clone()), None),
        (None, Some(root.clone())),
        (Some(root.clone()), Some(Value::Null)),
        (Some(json!("5A".repeat(32))), Some(root.clone())),
    ] {
        let claimed = parse(&with(snake, camel)).unwrap().claimed.unwrap();
        assert_eq!(claimed.as_bytes(), &[0x5a; 32]);
    }
    assert_eq!(parse(&with(Some(Value::Null), Some(Value::Null))).unwrap().claimed, None);
    let other = json!("0x".to_owned() + &"5b".repeat(32));
    assert_refused(
        &with(Some(root), Some(other)),
        "malformed_request",
        "`signing_root` and `signingRoot` are different",
    );
}

#[test]
fn fork_info_is_read_only_for_types_that_use_it() {
    let mut request = attestation();
    request["fork_info"] = Value::Null;
    assert_eq!(parse(&request).unwrap().fork_info, None, "SigningIntent::new decides whether it is missing");
    for text in [
        include_str!("examples/deposit.json"),
        include_str!("examples/validator_registration.json"),
        include_str!("examples/builder_request_auth.json"),
    ] {
        let mut request = example(text);
        request["fork_info"] = json!({"fork": 1});
        assert_eq!(parse(&request).unwrap().fork_info, None);
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(500_000), close.repeat(500_000));
    for nest in [deep("[", "]"), deep("{\"slot\":", "}")] {
        let body = attestation().to_string();
        let skipped = body.replacen('{', &format!("{{\"x\":{nest},"), 1);
        assert!(SignRequest::parse(skipped.as_bytes(), &network()).is_ok());
        let inside = body.replacen("\"attestation\":{", &format!("\"attestation\":{{\"x\":{nest},"), 1);
        assert!(SignRequest::parse(inside.as_bytes(), &network()).is_ok());
        let read = body.replacen("\"attestation\":{", &format!("\"attestation\":{{\"source\":{nest},"), 1);
        assert!(refusal(read).1.starts_with("`attestation.source"));
    }
}

/// The shape an aggregate is read as, or the error.
fn shape(request: &Value) -> Result<&'static str, (&'static str, String)> {
    match parse(request).map_err(|error| (error.reason(), error.to_string()))?.message {
        Message::Unslashable(Unslashable::AggregateAndProof(message)) => Ok(match message.aggregate.shape {
            AttestationShape::Phase0 => "phase0",
            AttestationShape::Electra(_) => "electra",
            AttestationShape::Gloas(_) => "gloas",
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_decides_the_container_of_an_aggregate() {
    let phase0 = example(include_str!("examples/aggregate_and_proof_v2_capella.json"));
    let electra = example(include_str!("examples/aggregate_and_proof_v2.json"));
    for (version, without_bits, with_bits) in [
        ("PHASE0", Some("phase0"), None),
        ("altair", Some("phase0"), None),
        ("BELLATRIX", Some("phase0"), None),
        ("CAPELLA", Some("phase0"), None),
        ("DENEB", Some("phase0"), None),
        ("ELECTRA", None, Some("electra")),
        ("Fulu", None, Some("electra")),
        ("GLOAS", None, Some("gloas")),
    ] {
        for kind in ["AGGREGATE_AND_PROOF", "AGGREGATE_AND_PROOF_V2"] {
            for (request, expected, reason) in
                [(&phase0, without_bits, "missing_field"), (&electra, with_bits, "malformed_request")]
            {
                let mut request = request.clone();
                request["type"] = json!(kind);
                request["aggregate_and_proof"]["version"] = json!(version);
                if let Some(expected) = expected {
                    assert_eq!(shape(&request), Ok(expected), "{version}");
                } else {
                    let (found, text) = shape(&request).unwrap_err();
                    assert_eq!(found, reason);
                    assert!(text.starts_with("`aggregate_and_proof.data.aggregate.committee_bits` "), "{text}");
                }
            }
        }
    }
    for version in [json!("HEZE"), json!(""), json!(7)] {
        let mut request = electra.clone();
        request["aggregate_and_proof"]["version"] = version;
        assert_refused(
            &request,
            "malformed_request",
            "`aggregate_and_proof.version` cannot be read: expected one of PHASE0",
        );
    }
    let mut request = electra;
    request["aggregate_and_proof"]["data"] = Value::Null;
    assert_refused(&request, "missing_field", "`aggregate_and_proof.data` is missing");
}

#[test]
fn without_a_version_slot_and_fork_info_tell_gloas_from_electra() {
    let bare = example(include_str!("examples/aggregate_and_proof_gloas.json"));
    let at = |slot: u64, fork: Value| {
        let mut request = bare.clone();
        request["aggregate_and_proof"]["aggregate"]["data"]["slot"] = json!(slot);
        request["fork_info"]["fork"] = fork;
        shape(&request).unwrap()
    };
    let fork = |previous: &str, current: &str, epoch: u64| json!({"previous_version": previous, "current_version": current, "epoch": epoch});
    let (electra, fulu, gloas) = ("0xa500c0de", "0xa600c0de", "0xa700c0de");
    // Gloas starts at epoch 28 of the schedule.
    assert_eq!(at(28 * 32, fork(fulu, gloas, 28)), "gloas");
    assert_eq!(at(28 * 32, fork(electra, fulu, 24)), "gloas");
    assert_eq!(at(28 * 32 - 1, fork(electra, fulu, 24)), "electra");
    // The client already is at Gloas, the aggregate is of the last slot before it.
    assert_eq!(at(28 * 32 - 1, fork(fulu, gloas, 28)), "electra");
    // The client's Gloas came earlier than the schedule's, or the schedule does not date it.
    assert_eq!(at(20 * 32, fork(fulu, gloas, 20)), "gloas");
    let never =
        include_str!("examples/network.yaml").replace("GLOAS_FORK_EPOCH: 28", "GLOAS_FORK_EPOCH: 18446744073709551615");
    let undated = Network::from_config_yaml(&never).unwrap();
    let request = SignRequest::parse(bare.to_string().as_bytes(), &undated).unwrap();
    assert!(matches!(
        request.message,
        Message::Unslashable(Unslashable::AggregateAndProof(message))
            if matches!(message.aggregate.shape, AttestationShape::Gloas(_))
    ));
}

#[test]
fn the_version_of_a_block_chooses_its_form() {
    let header = example(include_str!("examples/block_v2_fulu.json"));
    let altair = example(include_str!("examples/block_v2_altair.json"));
    let with = |request: &Value, version: &str| {
        let mut request = request.clone();
        request["beacon_block"]["version"] = json!(version);
        request
    };
    for version in ["BELLATRIX", "capella", "DENEB", "ELECTRA", "FULU", "GLOAS"] {
        assert_eq!(parse(&with(&header, version)), parse(&header), "{version}");
        assert_refused(&with(&altair, version), "missing_field", "`beacon_block.block_header` is missing");
    }
    for version in ["PHASE0", "ALTAIR"] {
        assert_refused(&with(&header, version), "missing_field", "`beacon_block.block` is missing");
    }
    assert_refused(
        &with(&altair, "PHASE0"),
        "malformed_request",
        "`beacon_block.block.body.sync_aggregate` cannot be read: expected no such member in a phase0 block",
    );
    let mut phase0 = altair.clone();
    phase0["beacon_block"]["block"]["body"]["sync_aggregate"] = Value::Null;
    assert_refused(&phase0, "missing_field", "`beacon_block.block.body.sync_aggregate` is missing");
    assert!(parse(&with(&phase0, "PHASE0")).is_ok());
    for version in ["HEZE", "FULU ", ""] {
        assert_refused(
            &with(&header, version),
            "malformed_request",
            "`beacon_block.version` cannot be read: expected one of",
        );
    }
    let mut long = altair;
    let list = &mut long["beacon_block"]["block"]["body"]["voluntary_exits"];
    *list = json!(vec![list[0].clone(); 17]);
    let error = parse(&long).unwrap_err();
    assert_eq!(error.to_string(), "`beacon_block.block` breaks the limits of its type: correct the named field");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("voluntary_exits has 17 elements"), "{source}");
}

#[test]
fn gloas_types_have_no_other_version() {
    for (text, member) in [
        (include_str!("examples/execution_payload_bid.json"), "execution_payload_bid"),
        (include_str!("examples/execution_payload_envelope.json"), "execution_payload_envelope"),
        (include_str!("examples/payload_attestation_message.json"), "payload_attestation_message"),
        (include_str!("examples/proposer_preferences.json"), "proposer_preferences"),
        (include_str!("examples/builder_request_auth.json"), "builder_request_auth"),
    ] {
        let whole = example(text);
        let mut request = whole.clone();
        request[member]["version"] = json!("FULU");
        assert_refused(&request, "malformed_request", &format!("`{member}.version` cannot be read: expected GLOAS"));
        request[member]["version"] = json!("HEZE");
        assert_refused(&request, "malformed_request", &format!("`{member}.version` cannot be read: expected one of"));
        let mut bare = whole.clone();
        bare[member] = bare[member]["data"].take();
        assert_eq!(parse(&bare), parse(&whole), "{member}");
    }
}

#[test]
fn an_envelope_of_megabytes_is_read_whole() {
    let mut request = example(include_str!("examples/execution_payload_envelope.json"));
    let payload = &mut request["execution_payload_envelope"]["data"]["payload"];
    payload["transactions"] = (0..400).map(|n| json!(format!("0x{}", format!("{n:04x}").repeat(2500)))).collect();
    payload["block_access_list"] = json!("c7".repeat(1_000_000));
    let body = request.to_string();
    assert!(body.len() > 6_000_000);
    let network = network();
    let parsed = SignRequest::parse(body.as_bytes(), &network).unwrap();
    let Message::Unslashable(Unslashable::ExecutionPayloadEnvelope(envelope)) = &parsed.message else { panic!() };
    assert_eq!(envelope.payload.block_access_list, vec![0xc7; 1_000_000]);
    assert_eq!(envelope.payload.transactions.len(), 400);
    assert_eq!(envelope.payload.transactions[259], [0x01, 0x03].repeat(2500));
    let key = PublicKey::from_bytes([2; 48]);
    assert!(SigningIntent::new(key, &parsed.message, parsed.fork_info, None, &network).is_ok());
}
