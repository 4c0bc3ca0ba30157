//! A server and the process it has the data key opened by: what runs where, and what is left of it.

use holdfast_tests::elsewhere::kms::Kms;
use holdfast_tests::elsewhere::server::Mood;
use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use holdfast_tests::keys::TestKey;

use crate::aws;
use crate::stage::wait_for;

#[test]
fn a_server_never_talks_to_a_provider_itself() {
    let kms = Kms::start(&["alias/holdfast"]);
    let stage = aws::stage(&kms.url(), "alias/holdfast");
    stage.make_keys(1);
    let server = stage.serves(1);
    let pid = server.pid();
    // The helper has ended and been waited for.
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
    wait_for("the end of the helper", || children().trim().is_empty());
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let names: Vec<String> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    assert!(names.iter().any(|name| name == "holdfast-http"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("kms") || name.contains("aws")), "{names:?}");
}

#[test]
fn the_helper_refuses_what_is_no_request() {
    let output = holdfast_tests::finished::run(&["unwrap-helper"]);
    assert_eq!(output.code, 1, "{}", output.text());
    assert!(output.stdout.starts_with("failed "), "{}", output.text());
}

/// Imports one keystore through the Keymanager API; its status and message.
fn import(server: &Server, token: &str, key: &TestKey) -> (String, String) {
    let body = serde_json::json!({ "keystores": [key.keystore("p")], "passwords": ["p"] }).to_string();
    let headers = [("Authorization", token), ("Content-Type", "application/json")];
    let answer = once(server.http_addr(), "POST", "/eth/v1/keystores", &headers, body.as_bytes()).expect("an answer");
    let one = answer.json()["data"][0].clone();
    let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("message"))
}

#[test]
fn keys_come_in_while_the_provider_is_there_and_an_outage_says_so() {
    let kms = Kms::start(&["alias/holdfast"]);
    let stage = aws::stage(&kms.url(), "alias/holdfast");
    stage.make_keys(1);
    let server = stage.serves(1);
    let token = std::fs::read_to_string(stage.world.data_dir().join("keymanager-token")).expect("the token");
    let token = format!("Bearer {}", token.trim());
    let opened = kms.count("Decrypt");
    assert_eq!(import(&server, &token, &TestKey::interop(0)).0, "imported");
    assert_eq!(kms.count("Decrypt"), opened + 1, "the data key was wiped after the start, and is opened for this");
    kms.set_mood(Mood::Away);
    let (status, message) = import(&server, &token, &TestKey::interop(1));
    assert_eq!(status, "error");
    assert!(message.contains("cannot be reached"), "{message}");
    kms.set_mood(Mood::Works);
    assert_eq!(import(&server, &token, &TestKey::interop(1)).0, "imported");
    server.stop();
    stage.serves(3);
}

#[test]
fn a_server_makes_no_first_data_key_elsewhere() {
    let kms = Kms::start(&["alias/holdfast"]);
    let stage = aws::stage(&kms.url(), "alias/holdfast");
    let server = stage.server().start();
    server.wait_ready();
    let token = std::fs::read_to_string(stage.world.data_dir().join("keymanager-token")).expect("the token");
    let (status, message) = import(&server, &format!("Bearer {}", token.trim()), &TestKey::interop(0));
    assert!(status == "error" && message.contains("holdfast kek init"), "{status}: {message}");
    assert_eq!(kms.calls().len(), 0);
    server.stop();
    stage.make_keys(1);
    stage.serves(1);
}
