//! `holdfast serve --no-signer`: starts without keys or nodes that answer, says so, and is controlled while it runs.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use holdfast_tests::harness::{Builder, Server, holdfast};
use holdfast_tests::http::once;
use serde_json::Value;

/// An address at which nobody listens.
pub(crate) fn nobody() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

pub(crate) fn alone(data: &Path, nodes: &[&str]) -> Builder {
    let builder = Server::builder().data_dir(data);
    let builder = nodes.iter().fold(builder, |builder, url| builder.global("--beacon").global(*url));
    builder.arg("--no-signer").arg("--switcher-listen").arg("127.0.0.1:0")
}

pub(crate) fn switcher(data: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["--data-dir", data.to_str().unwrap(), "--json", "switcher"];
    all.extend(arguments);
    holdfast(&all)
}

pub(crate) fn document(data: &Path) -> Value {
    let output = switcher(data, &["status"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(document: &Value) -> Vec<String> {
    let nodes = document["switcher"]["upstreams"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn it_runs_without_keys_and_says_that_no_node_answers() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let url = nobody();
    let server = alone(&data, &[&url.replace("http://", "http://user:hunter2@")]).start();
    let ready = server.get_metrics("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("no consensus client"), "{}", ready.text());
    assert_eq!(server.get_metrics("/livez").status, 200);
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains("holdfast_switcher_upstream_tier"), "{metrics}");
    assert!(!metrics.contains("holdfast_signing"), "{metrics}");
    let answer = once(server.switcher_addr(), "GET", "/eth/v1/beacon/genesis", &[], b"").unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.json()["code"], 503, "{}", answer.text());
    // No database, no keys: only the socket.
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["admin.sock"]);
    let (ended, log) = server.stop();
    assert!(ended.success(), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    assert!(!data.join("admin.sock").exists());
}

#[test]
fn a_delay_serves_on_while_unready() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the test: it is cut short by the second signal.
    let builder = alone(&folder.path().join("data"), &[&nobody()]);
    let server = builder.env("HOLDFAST_HTTP_SHUTDOWN_DELAY_SECONDS", "600").start();
    server.terminate();
    while !server.get_metrics("/readyz").text().contains("shutting down") {}
    let answer =
        once(server.switcher_addr(), "GET", "/eth/v1/beacon/genesis", &[], b"").expect("clients are served on");
    assert_eq!(answer.json()["code"], 503, "{}", answer.text());
    server.terminate();
    let (status, log) = server.wait();
    assert!(log.contains("serving on until clients have moved") && log.contains("ending at once"), "{log}");
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn nodes_are_added_drained_preferred_and_removed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (first, second) = (nobody(), nobody());
    let name = first.trim_start_matches("http://").to_owned();
    let server = alone(&data, &[&first]).start();
    let mode = std::fs::metadata(data.join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert_eq!(names(&document(&data)), std::slice::from_ref(&name));
    let added = switcher(&data, &["add", &second, "--name", "second", "--tier", "1", "--role", "submit"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let status = document(&data);
    assert_eq!(names(&status), [name.clone(), "second".to_owned()]);
    assert_eq!(status["switcher"]["upstreams"][1]["roles"], serde_json::json!(["submit"]));
    assert!(switcher(&data, &["drain", "second"]).status.success());
    assert_eq!(document(&data)["switcher"]["upstreams"][1]["drained"], true);
    assert!(switcher(&data, &["undrain", "second"]).status.success());
    assert!(switcher(&data, &["prefer", "second"]).status.success());
    assert_eq!(document(&data)["switcher"]["upstreams"][1]["preferred"], true);
    assert!(switcher(&data, &["prefer", "--none"]).status.success());
    let kinds: Vec<String> = document(&data)["switcher"]["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|decision| decision["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["added", "drained", "undrained", "preferred"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} is not in {kinds:?}");
    }
    let metrics = server.get_metrics("/metrics").text();
    assert!(metrics.contains(r#"holdfast_switcher_decisions_total{kind="drained"} 1"#), "{metrics}");

    assert!(switcher(&data, &["remove", "second"]).status.success());
    assert_eq!(names(&document(&data)), std::slice::from_ref(&name));
    for (arguments, code) in [
        (&["remove", "second"][..], 1),
        (&["remove", &name], 1),
        (&["drain", "nonsense"], 1),
        (&["add", "nonsense"], 2),
        (&["add", &first], 1),
        (&["prefer"], 2),
    ] {
        let output = switcher(&data, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(server.stop().0.success());
    assert_eq!(switcher(&data, &["status"]).status.code(), Some(3), "nobody runs");
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = nobody();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, code, word) in [
        (&["serve", "--no-signer"][..], 2, "--beacon"),
        (&["serve", "--no-signer", "--beacon", "ftp://x"], 2, "--beacon"),
        (&["serve", "--no-signer", "--beacon", &url, "--switcher-listen", "0.0.0.0:5052"], 2, "no authentication"),
        (&["serve", "--no-signer", "--beacon", &url, "--switcher-listen", &taken], 3, "--switcher-listen"),
    ] {
        let mut all = vec!["--data-dir", folder.path().to_str().unwrap(), "--json"];
        all.extend(arguments);
        all.extend(["--metrics-listen", "127.0.0.1:0"]);
        let output = holdfast(&all);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}
