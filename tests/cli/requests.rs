//! Wrong requests over HTTP: status, reason, and that the record stays as it was.

use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

use holdfast_tests::http::{Client, once};
use holdfast_tests::keys::TestKey;
use holdfast_tests::world::{CHAIN, GENESIS_TIME, World};

#[test]
fn refusals_say_why_and_leave_the_record_intact() {
    let world = World::new(2);
    let server = world.server().start();
    server.wait_ready();
    let key = world.keys[0].public.clone();
    let sign = |body: &serde_json::Value| {
        let response = server.sign(&key, body);
        let reason = if response.status == 200 { String::new() } else { response.reason() };
        (response.status, reason)
    };
    let refused = |status: u16, reason: &str| (status, reason.to_owned());

    let (vote, _) = CHAIN.attestation(800, 99, 100, 1);
    let first = server.sign(&key, &vote);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(server.sign(&key, &vote).body, first.body, "the same request gives the same signature");
    assert_eq!(sign(&CHAIN.attestation(800, 99, 100, 2).0), refused(412, "double_vote"));
    assert_eq!(sign(&CHAIN.attestation(808, 98, 101, 1).0), refused(412, "source_below_watermark"));
    assert_eq!(sign(&CHAIN.attestation(792, 99, 99, 1).0), refused(412, "target_below_watermark"));
    assert_eq!(sign(&CHAIN.attestation(808, 102, 101, 1).0), refused(412, "source_after_target"));
    assert_eq!(server.sign(&key, &vote).body, first.body, "refusals changed the record");

    assert_eq!(sign(&CHAIN.block(800, 1).0).0, 200);
    assert_eq!(sign(&CHAIN.block(800, 2).0), refused(412, "double_block"));
    assert_eq!(sign(&CHAIN.block(799, 1).0), refused(412, "block_slot_below_watermark"));
    assert_eq!(sign(&CHAIN.block(801, 1).0).0, 200);

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let slot = (now - GENESIS_TIME) / 6;
    assert_eq!(sign(&CHAIN.block(slot + 100, 1).0), refused(412, "slot_in_future"));
    assert_eq!(sign(&CHAIN.attestation(slot + 100, 200, slot / 8 + 10, 1).0), refused(412, "target_in_future"));
    assert_eq!(sign(&CHAIN.block(slot, 1).0).0, 200, "the far-future attempt poisoned the watermark");

    let mut other = CHAIN;
    other.genesis_validators_root = [9; 32];
    assert_eq!(sign(&other.attestation(900, 100, 110, 1).0), refused(412, "wrong_genesis_validators_root"));
    assert_eq!(sign(&other.randao(5).0), refused(412, "wrong_genesis_validators_root"));

    let mut claimed = CHAIN.randao(6).0;
    claimed["signingRoot"] = format!("0x{}", "11".repeat(32)).into();
    assert_eq!(sign(&claimed), refused(400, "signing_root_mismatch"));
    let mut unknown = CHAIN.randao(6).0;
    unknown["type"] = "RANDO".into();
    assert_eq!(sign(&unknown), refused(400, "unknown_type"));
    let mut missing = CHAIN.randao(6).0;
    missing.as_object_mut().expect("an object").remove("fork_info");
    assert_eq!(sign(&missing), refused(400, "missing_fork_info"));

    let stranger = TestKey::interop(50).public;
    let response = server.sign(&stranger, &CHAIN.randao(6).0);
    assert_eq!((response.status, response.reason().as_str()), (404, "unknown_key"));
    let response = server.sign("0x1234", &CHAIN.randao(6).0);
    assert!([400, 404].contains(&response.status), "{}", response.text());
    for body in ["", "{", "null", "[]", "\"x\"", "{\"type\":1}"] {
        let path = format!("/api/v1/eth2/sign/{key}");
        let response = once(server.http_addr(), "POST", &path, &[], body.as_bytes()).expect("an answer");
        assert_eq!(response.status, 400, "{body}: {}", response.text());
        let error = response.json();
        assert_eq!(error["code"], 400, "{error}");
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    }
}

#[test]
fn answers_follow_the_accept_rule() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    let path = format!("/api/v1/eth2/sign/{}", world.keys[0].public);
    let body = CHAIN.randao(7).0.to_string();
    for (accept, json) in [
        (None, false),
        (Some("text/plain"), false),
        (Some("application/*"), false),
        (Some("application/json"), true),
        (Some("*/*"), true),
        (Some("text/plain, application/json;q=0.5"), true),
        (Some("APPLICATION/JSON"), true),
    ] {
        let headers: Vec<(&str, &str)> = accept.map(|value| ("Accept", value)).into_iter().collect();
        let response = once(server.http_addr(), "POST", &path, &headers, body.as_bytes()).expect("an answer");
        let wanted = if json { "application/json; charset=utf-8" } else { "text/plain; charset=utf-8" };
        assert_eq!(response.header("content-type"), Some(wanted), "{accept:?}");
        if json {
            assert_eq!(response.json()["signature"].as_str().map(str::len), Some(194));
        } else {
            assert_eq!(response.text().len(), 194, "a bare signature without a line feed");
        }
    }
    for accept in ["application/json", "text/plain", "*/*", "image/png"] {
        let response = once(server.http_addr(), "GET", "/upcheck", &[("Accept", accept)], b"").expect("an answer");
        assert_eq!(response.status, 200, "{accept}");
    }
    let upper = format!("/api/v1/eth2/sign/{}", world.keys[0].public[2..].to_uppercase());
    assert_eq!(once(server.http_addr(), "POST", &upper, &[], body.as_bytes()).expect("an answer").status, 200);
}

#[test]
fn bounds_hold_and_other_clients_are_served_meanwhile() {
    let world = World::new(1);
    let server = world.server().env("HOLDFAST_HTTP_MAX_BODY_BYTES", "65536").start();
    server.wait_ready();
    let path = format!("/api/v1/eth2/sign/{}", world.keys[0].public);
    let response = once(server.http_addr(), "POST", &path, &[("Content-Length", "70000")], b"").expect("an answer");
    assert_eq!((response.status, response.reason().as_str()), (413, "body_too_large"));
    let mut idle: Vec<Client> = (0..50).map(|_| server.client()).collect();
    for client in &mut idle {
        client.send("POST", &path, &[("Content-Length", "5000")], b"{").expect("half a request is sent");
    }
    let response = once(server.http_addr(), "POST", &path, &[], CHAIN.randao(7).0.to_string().as_bytes());
    assert_eq!(response.expect("an answer").status, 200);
    let response = once(server.http_addr(), "GET", "/upcheck", &[("Host", "evil.example")], b"").expect("an answer");
    assert_eq!((response.status, response.reason().as_str()), (403, "host_not_allowed"));
    let response = once(server.http_addr(), "GET", "/nowhere", &[], b"").expect("an answer");
    assert_eq!(response.status, 404);
    let response = once(server.http_addr(), "GET", &path, &[], b"").expect("an answer");
    assert_eq!(response.status, 405);
}

#[test]
fn batches_sign_for_many_keys_in_order() {
    let world = World::new(3);
    let server = world.server().start();
    server.wait_ready();
    let stranger = TestKey::interop(60).public;
    let keys = [&world.keys[0].public, &world.keys[1].public, &stranger, &world.keys[2].public];
    let (request, root) = CHAIN.attestation(800, 99, 100, 1);
    let (conflict, _) = CHAIN.attestation(800, 99, 100, 2);
    assert_eq!(server.sign(keys[1], &conflict).status, 200);
    let body = serde_json::json!({"identifiers": keys, "signing_request": request}).to_string();
    let response =
        once(server.http_addr(), "POST", "/api/v1/eth2/sign", &[("Accept", "application/json")], body.as_bytes())
            .expect("an answer");
    assert_eq!(response.status, 200, "{}", response.text());
    let list = response.json();
    assert_eq!(list.as_array().map(Vec::len), Some(4));
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(list[index]["identifier"].as_str(), Some(key.as_str()));
    }
    for index in [0, 3] {
        let signature = list[index]["signature"].as_str().expect("a signature");
        assert!(holdfast_tests::keys::verifies(keys[index], &root, signature));
    }
    assert_eq!(list[1]["error"]["code"], 412, "{list}");
    assert_eq!(list[2]["error"]["code"], 404, "{list}");
}

#[test]
fn lists_and_watermarks_are_served() {
    let world = World::new(2);
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(server.get("/api/v1/eth2/highWatermark").json(), serde_json::json!({}));
    let keys = server.get("/api/v1/eth2/publicKeys").json();
    assert_eq!(keys.as_array().map(Vec::len), Some(2));
    let health = server.get("/healthcheck");
    assert_eq!((health.status, health.json()["status"].as_str().map(str::to_owned)), (200, Some("UP".to_owned())));
    assert_eq!(once(server.http_addr(), "POST", "/reload", &[], b"").expect("an answer").status, 202);
    assert_eq!(server.get_metrics("/livez").status, 200);
    let (body, _) = CHAIN.attestation(800, 99, 100, 1);
    assert_eq!(server.sign(&world.keys[0].public, &body).status, 200);
    assert_eq!(server.sign(&world.keys[0].public, &CHAIN.attestation(800, 99, 100, 2).0).status, 412);
    let metrics = server.get_metrics("/metrics").text();
    for name in [
        "holdfast_signing_requests_total",
        "signing_bls_signing_duration",
        "signing_signers_loaded_count",
        "eth2_slashingprotection_permitted_signings_total",
        "eth2_slashingprotection_prevented_signings_total",
        "reason=\"double_vote\"",
        "stage=\"commit\"",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }
}

/// Value of a metric line, 0 without one.
fn metric<T: FromStr<Err: Display> + Default>(text: &str, line: &str) -> T {
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    value.map_or_else(T::default, |value| value.parse().unwrap_or_else(|error| panic!("{line} {value}: {error}")))
}

#[test]
fn every_signature_is_measured_in_every_stage_by_type() {
    let world = World::new(3);
    let server = world.server().start();
    server.wait_ready();
    let keys: Vec<&String> = world.keys.iter().map(|key| &key.public).collect();
    assert_eq!(server.sign(keys[0], &CHAIN.block(800, 1).0).status, 200);
    assert_eq!(server.sign(keys[0], &CHAIN.block(800, 2).0).status, 412);
    let body =
        serde_json::json!({"identifiers": keys, "signing_request": CHAIN.attestation(800, 99, 100, 1).0}).to_string();
    let batch = once(server.http_addr(), "POST", "/api/v1/eth2/sign", &[], body.as_bytes()).expect("an answer");
    assert_eq!(batch.status, 200, "{}", batch.text());

    let metrics = server.get_metrics("/metrics").text();
    let line = |what: &str, stage: &str, kind: &str| {
        format!("holdfast_signing_stage_seconds_{what}{{stage=\"{stage}\",type=\"{kind}\"}}")
    };
    for (kind, signatures) in [("block", 1_u64), ("attestation", 3), ("randao_reveal", 0)] {
        let mut sum = 0.0;
        for name in ["queue", "commit", "hash", "sign", "total"] {
            assert_eq!(
                metric::<u64>(&metrics, &line("count", name, kind)),
                signatures,
                "{name} of {kind} in\n{metrics}"
            );
            let seconds: f64 = metric(&metrics, &line("sum", name, kind));
            assert_eq!(seconds > 0.0, signatures > 0, "{name} of {kind}: {seconds} s");
            sum += seconds;
        }
        let total: f64 = metric(&metrics, &line("sum", "total", kind));
        assert!(sum - total <= total, "the stages of {kind} take {} s of {total} s", sum - total);
    }
}

#[test]
fn who_sends_too_much_is_refused_and_nothing_is_recorded() {
    let world = World::new(1);
    let server = world.server().env("HOLDFAST_HTTP_MAX_REQUESTS_PER_SECOND", "1").start();
    server.wait_ready();
    let path = format!("/api/v1/eth2/sign/{}", world.keys[0].public);
    let mut client = server.client();
    let mut post = |body: &str| {
        let response = client.request("POST", &path, &[], body.as_bytes()).expect("the connection stays open");
        if response.status == 429 {
            assert_eq!((response.reason().as_str(), response.header("retry-after")), ("rate_limited", Some("1")));
            let error = response.json();
            assert_eq!(error["code"], 429, "{error}");
            assert!(error["message"].as_str().is_some_and(|text| text.contains("max_requests_per_second")), "{error}");
        }
        response
    };
    // However slow the machine is, soon two requests in a row come within a second.
    let mut slot = 800;
    while post(&CHAIN.block(slot, 1).0.to_string()).status != 429 {
        slot += 1;
        assert!(slot < 2_000, "never limited");
    }
    let mut limited = 1;
    assert_eq!(server.get("/upcheck").status, 200, "health checks are answered all the same");
    // Refused before the body is read: one that is no JSON gets the same answer.
    for body in ["{", ""] {
        assert!((0..1_000).any(|_| post(body).status == 429), "{body:?} is never limited");
        limited += 1;
    }
    let metrics = server.get_metrics("/metrics").text();
    for name in [
        "holdfast_http_rate_limited_requests_total",
        r#"holdfast_signing_requests_total{type="unknown",result="unavailable",reason="rate_limited"}"#,
    ] {
        assert_eq!(metric::<u64>(&metrics, name), limited, "{name} in\n{metrics}");
    }

    // What was refused left no trace: another block of the same slot is still free.
    let other = CHAIN.block(slot, 2).0.to_string();
    let end = Instant::now() + Duration::from_mins(1);
    let response = loop {
        let response = post(&other);
        if response.status != 429 {
            break response;
        }
        assert!(Instant::now() < end, "limited for ever");
    };
    assert_eq!(response.status, 200, "{}", response.text());
    let log = server.log();
    assert!(log.contains("more requests per second than http.max_requests_per_second"), "{log}");
}
