//! The execution pool of the real binary, changed by `holdfast switcher … --execution` while it runs.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use holdfast_tests::execution_node::start as node;
use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use serde_json::{Value, json};

use crate::alone::{document, nobody, switcher};

/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node a read is answered by.
pub(crate) fn reader(address: SocketAddr) -> String {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [] }).to_string();
    let answer = once(address, "POST", "/", &[("Content-Type", "application/json")], call.as_bytes()).unwrap();
    answer.json()["result"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
}

/// Waits until the status says so of a node, and returns what it says.
fn until(data: &Path, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = document(data)["execution"].clone();
        let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).cloned();
        match node {
            Some(node) if wanted(&node) => return node,
            _ => assert!(Instant::now() < end, "not seen of {name}: {status:#}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where the execution pool listens, from the line that says that the server is ready.
pub(crate) fn listens_at(server: &Server) -> SocketAddr {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = server.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(ready) = lines.find(|line| line["event"] == "ready") {
            return ready["execution"].as_str().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < end, "{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn execution_clients_are_added_drained_preferred_and_removed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = folder.path().join("holdfast.toml");
    let first = node("first");
    let text = format!(
        "[execution]\nenabled = true\nlisten = \"127.0.0.1:0\"\n\n[[execution.upstream]]\nurl = \"{first}\"\nname = \"first\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::builder()
        .data_dir(&data)
        .global("--config")
        .global(&config)
        .global("--beacon")
        .global(nobody())
        .arg("--no-signer")
        .arg("--switcher-listen")
        .arg("127.0.0.1:0")
        .start();
    let address = listens_at(&server);
    until(&data, "first", |node| node["health"] == "healthy");
    assert_eq!(reader(address), "first");

    let done = |arguments: &[&str]| {
        let output = switcher(&data, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let broken = nobody().replace("http://", "wss://");
    let second = node("second");
    let token_file = token.to_str().unwrap();
    done(&["add", "--execution", &second, "--name", "second", "--websocket-url", &broken, "--token-file", token_file]);
    let added = until(&data, "second", |node| node["health"] == "healthy" && !node["websocket_error"].is_null());
    let why = added["websocket_error"].as_str().unwrap();
    assert!(why.contains("no connection to the WebSocket API"), "{why}");
    assert_eq!(reader(address), "first", "the order of the list");
    done(&["prefer", "--execution", "second"]);
    assert_eq!(reader(address), "second");
    done(&["drain", "--execution", "second"]);
    assert_eq!(reader(address), "first");
    let drained = until(&data, "second", |node| node["drained"] == true);
    assert_eq!((&drained["health"], &drained["preferred"]), (&json!("healthy"), &json!(true)));
    done(&["undrain", "--execution", "second"]);
    assert_eq!(reader(address), "second");
    done(&["prefer", "--execution", "--none"]);
    assert_eq!(reader(address), "first");
    done(&["remove", "--execution", "first"]);
    assert_eq!(reader(address), "second");

    let metrics = server.get_metrics("/metrics").text();
    for kind in ["added", "preferred", "drained", "undrained", "removed"] {
        let line = format!("holdfast_execution_decisions_total{{kind=\"{kind}\"}}");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("upstream=\"first\""), "{metrics}");
    let status = document(&data);
    let kinds: Vec<&str> = status["execution"]["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|decision| decision["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.first(), Some(&"removed"), "newest first: {kinds:?}");
    // The two pools have nothing to do with each other.
    for (arguments, code) in [
        (&["remove", "--execution", "second"][..], 1),
        (&["remove", "--execution", "first"], 1),
        (&["remove", "second"], 1),
        (&["drain", "--execution", "nonsense"], 1),
        (&["add", "--execution", "nonsense"], 2),
        (&["add", "--execution", &second, "--name", "second"], 1),
        (&["add", "--execution", &second, "--name", "x", "--websocket-url", "http://x"], 2),
        (&["add", "--execution", &second, "--role", "submit"], 2),
        (&["add", &second, "--websocket-url", "ws://x"], 2),
        (&["add", &second, "--token-file", "/nonexistent/token"], 2),
        (&["prefer", "--execution"], 2),
    ] {
        let output = switcher(&data, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(reader(address), "second");
    let (ended, log) = server.stop();
    assert!(ended.success(), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn without_an_execution_pool_its_commands_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = crate::alone::alone(&data, &[&nobody()]).start();
    let output = switcher(&data, &["drain", "--execution", "x"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("execution.enabled"), "{text}");
    assert!(server.stop().0.success());
}
