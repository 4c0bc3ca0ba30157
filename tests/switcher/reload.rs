//! `holdfast reload` and the lists of nodes: those that stay lose no request, no event stream and no standing; those that go
//! finish what they have begun; another order counts at once; a mistake changes nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_tests::execution_node::start as node;
use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use serde_json::{Value, json};

use crate::alone::{document, nobody, switcher};
use crate::execution::{listens_at, reader};
use crate::scripted::{Answer, Chain, Gate, ScriptedNode, event_stream};

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// A long answer of one node.
const STATE: &str = "/eth/v2/debug/beacon/states/head";
const CHUNKS: (usize, usize) = (3, 1_000);

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "not reached: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A switcher by itself, with a configuration file.
struct Stage {
    folder: tempfile::TempDir,
    data: PathBuf,
    config: PathBuf,
}

impl Stage {
    fn new(config: &str) -> (Self, Server) {
        let folder = tempfile::tempdir().unwrap();
        let (data, path) = (folder.path().join("data"), folder.path().join("holdfast.toml"));
        let stage = Self { folder, data, config: path };
        stage.configure(config);
        let server = Server::builder()
            .data_dir(&stage.data)
            .global("--config")
            .global(&stage.config)
            .arg("--no-signer")
            .arg("--switcher-listen")
            .arg("127.0.0.1:0")
            .start();
        (stage, server)
    }

    fn configure(&self, text: &str) {
        std::fs::write(&self.config, text).unwrap();
    }

    /// The command knows where the server is, and nothing of its configuration.
    fn reload(&self, arguments: &[&str]) -> Finished {
        let mut all = vec!["--data-dir", self.data.to_str().unwrap(), "reload"];
        all.extend(arguments);
        run(&all)
    }

    /// Who is asked for attestation data, best first.
    fn serving(&self) -> Vec<String> {
        let serving = document(&self.data)["switcher"]["serving"]["attestation_data"].clone();
        serde_json::from_value(serving).unwrap_or_default()
    }

    fn decisions(&self, about: &str) -> Vec<String> {
        let status = document(&self.data);
        let all = status["switcher"]["decisions"].as_array().unwrap();
        let of = all.iter().filter(|decision| decision["upstream"] == about);
        of.map(|decision| decision["kind"].as_str().unwrap().to_owned()).collect()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn upstream(pool: &str, name: &str, url: &str, more: &str) -> String {
    format!("[[{pool}.upstream]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n")
}

/// Asks the switcher for the head again and again, until told to stop. Every answer must be good.
fn keep_asking(address: SocketAddr, stop: &Arc<AtomicBool>, count: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (stop, count) = (Arc::clone(stop), Arc::clone(count));
    std::thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            let answer = once(address, "GET", "/eth/v1/beacon/headers/head", &[("Accept", "application/json")], b"");
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
        }
    })
}

/// Downloads a state, slowly: its length at the end.
fn download(address: SocketAddr, node: &ScriptedNode) -> (Gate, JoinHandle<usize>) {
    let gate = Gate::closed();
    node.answer(&format!("GET {STATE}"), Answer::chunks(CHUNKS.0, CHUNKS.1, Some(gate.clone())));
    let before = node.seen(&format!("GET {STATE}")).len();
    let loading = std::thread::spawn(move || {
        let answer = once(address, "GET", STATE, &[("Accept", "application/octet-stream")], b"").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.body.len()
    });
    until("the download begins", || node.seen(&format!("GET {STATE}")).len() > before);
    (gate, loading)
}

#[test]
fn nodes_come_go_and_change_places_while_all_is_served() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let chain = Chain::aged(1_000);
    let start = |name, version| runtime.block_on(ScriptedNode::start(name, version, &chain));
    let (a, b, c) = (start("a", "Lighthouse/v8.0.0"), start("b", "teku/v25.12.0"), start("c", "Nimbus/v25.12.0"));
    let general = "[switcher]\nheavy_routes = \"allow\"\n";
    let entry = |node: &ScriptedNode, more: &str| upstream("switcher", node.name(), &node.url(), more);
    let (stage, server) = Stage::new(&format!("{general}{}{}", entry(&a, ""), entry(&b, "")));
    until("both serve", || stage.serving() == ["a", "b"]);
    let address = server.switcher_addr();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let asking = keep_asking(address, &stop, &asked);
    let mut events = runtime.block_on(event_stream(address, "head"));
    runtime.block_on(a.wait_streams(1));
    let streams = || a.seen("GET /eth/v1/events").len();
    let (streams_before, decided_before) = (streams(), stage.decisions("a"));

    // Another order counts at once, and moves nothing else.
    stage.configure(&format!("{general}{}{}", entry(&b, ""), entry(&a, "")));
    stage.reload(&["--dry-run"]).expect(0, &["switcher.upstream (order): [\"a\", \"b\"] -> [\"b\", \"a\"]"]);
    assert_eq!(stage.serving(), ["a", "b"], "a dry run changes nothing");
    stage.reload(&[]).expect(0, &["in force now\n  switcher.upstream (order)"]);
    assert_eq!(stage.serving(), ["b", "a"]);

    // A password, which does not print, goes with the next request; b goes and c comes, while a is in the middle of an answer.
    stage.configure(&format!("{general}{}", entry(&a, "").replace("http://", "http://u:hunter2@") + &entry(&b, "")));
    let told = stage.reload(&[]).expect(0, &["switcher.upstream (order)", "switcher.upstream[a].url"]);
    assert!(!told.text().contains("hunter2"), "{}", told.text());
    assert_eq!(stage.serving(), ["a", "b"]);
    until("a is asked with it", || {
        a.seen("GET /eth/v1/beacon/headers/head").last().is_some_and(|seen| seen.header("authorization").is_some())
    });
    let (gate, loading) = download(address, &a);
    stage.configure(&format!("{general}{}{}", entry(&c, "tier = 1"), entry(&a, "weight = 7")));
    let told = stage.reload(&[]).expect(0, &["switcher.upstream[b]: {", "switcher.upstream[c]: - -> {"]);
    assert!(told.stdout.contains("switcher.upstream[a].weight: 1 -> 7"), "{}", told.text());
    until("c is there", || stage.serving() == ["a", "c"]);
    gate.open();
    assert_eq!(loading.join().unwrap(), CHUNKS.0 * CHUNKS.1, "a stays, and so does what it was answering");

    // Neither its standing nor its event stream was touched, nor that of the client.
    assert_eq!(streams(), streams_before);
    let news: Vec<_> = stage.decisions("a").into_iter().filter(|kind| !decided_before.contains(kind)).collect();
    assert!(news.iter().all(|kind| kind == "reconfigured" || kind == "switched"), "{news:?}");
    let slot = (chain.slot() + 1).to_string();
    let (block, state) = (chain.block_root(chain.slot() + 1, 0), chain.block_root(chain.slot() + 1, 0xee));
    let head = json!({ "slot": slot, "block": block, "state": state, "epoch_transition": false, "execution_optimistic": false });
    a.event("head", &head.to_string());
    let seen = runtime.block_on(events.next()).expect("the stream goes on");
    assert_eq!((seen.0.as_str(), seen.1.contains(&slot)), ("head", true), "{seen:?}");

    // One that goes finishes what it has begun.
    let (gate, loading) = download(address, &a);
    stage.configure(&format!("{general}{}", entry(&c, "")));
    stage.reload(&["--json"]).expect(0, &["switcher.upstream[a]"]);
    assert_eq!(stage.serving(), ["c"]);
    gate.open();
    assert_eq!(loading.join().unwrap(), CHUNKS.0 * CHUNKS.1);
    let seen = asked.load(Ordering::SeqCst);
    until("requests go on", || asked.load(Ordering::SeqCst) > seen + 5);
    stop.store(true, Ordering::SeqCst);
    asking.join().expect("every request was answered");
    let (ended, log) = server.stop();
    assert!(ended.success() && !log.contains("hunter2"), "{log}");
}

#[test]
fn a_mistake_in_a_list_changes_nothing_and_what_was_done_by_hand_stays() {
    let url = |_: usize| nobody();
    let urls: Vec<String> = (0..4).map(url).collect();
    let entry = |name: &str, place: usize, more: &str| upstream("switcher", name, &urls[place], more);
    let (stage, server) = Stage::new(&format!("{}{}", entry("a", 0, ""), entry("b", 1, "")));
    let names = || -> Vec<String> {
        let status = document(&stage.data);
        let all = status["switcher"]["upstreams"].as_array().unwrap().clone();
        all.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    };
    let token = stage.file("token", "first\n");
    for (mistake, place) in [
        (entry("c", 2, "weight = 0"), "holdfast.toml:"),
        (entry("a", 2, ""), "two nodes called"),
        (entry("c", 2, "token_file = \"/nonexistent/token\""), "/nonexistent/token"),
        (entry("c", 2, "headers = { \"no header\" = \"hunter2\" }"), "no header"),
    ] {
        stage.configure(&format!("{}{}{mistake}", entry("b", 1, ""), entry("a", 0, "")));
        let told = stage.reload(&[]).expect(2, &["nothing changes", place]);
        assert!(!told.text().contains("hunter2"), "{}", told.text());
        assert_eq!(names(), ["a", "b"], "{mistake}");
    }

    // By hand: d comes, b goes. A reload is about what the file changes.
    assert!(switcher(&stage.data, &["add", &urls[3], "--name", "d"]).status.success());
    assert!(switcher(&stage.data, &["remove", "b"]).status.success());
    let with_token = entry("c", 2, &format!("token_file = \"{token}\""));
    stage.configure(&format!("{}{}{with_token}", entry("a", 0, ""), entry("b", 1, "")));
    stage.reload(&[]).expect(0, &["switcher.upstream[c]"]);
    assert_eq!(names(), ["a", "d", "c"]);
    stage.reload(&[]).expect(0, &["nothing changes"]);
    // A file that a node names counts as it is now.
    stage.file("token", "second\n");
    stage.reload(&["--dry-run"]).expect(0, &["credentials, headers or files of c"]);
    stage.reload(&[]).expect(0, &["credentials, headers or files of c"]);
    stage.reload(&[]).expect(0, &["nothing changes"]);
    // The last one stays, and that is told: b is gone already.
    assert!(switcher(&stage.data, &["remove", "d"]).status.success());
    assert!(switcher(&stage.data, &["remove", "c"]).status.success());
    stage.configure(&entry("b", 1, ""));
    stage.reload(&[]).expect(1, &["stays as it was: a is the last upstream"]);
    assert_eq!(names(), ["a"]);
    assert!(server.stop().0.success());
}

#[test]
fn execution_clients_come_go_and_change_places() {
    let (first, second) = (node("first"), node("second"));
    let beacon = upstream("switcher", "a", &nobody(), "");
    let general = format!("[execution]\nenabled = true\nlisten = \"127.0.0.1:0\"\n{beacon}");
    let entry = |name: &str, url: &str| upstream("execution", name, url, "");
    let (stage, server) = Stage::new(&format!("{general}{}", entry("first", &first)));
    let address = listens_at(&server);
    let healthy = |data: &Path, name: &str| {
        let status = document(data)["execution"].clone();
        let nodes = status["nodes"].as_array().unwrap().clone();
        nodes.iter().any(|node: &Value| node["name"] == name && node["health"] == "healthy")
    };
    until("the first is healthy", || healthy(&stage.data, "first"));
    assert_eq!(reader(address), "first");
    stage.configure(&format!("{general}{}{}", entry("second", &second), entry("first", &first)));
    stage.reload(&[]).expect(0, &["execution.upstream[second]"]);
    until("the second is healthy", || healthy(&stage.data, "second"));
    assert_eq!(reader(address), "second", "the order of the list");
    stage.configure(&format!("{general}{}{}", entry("first", &first), entry("second", &second)));
    stage.reload(&[]).expect(0, &["execution.upstream (order)"]);
    assert_eq!(reader(address), "first");
    stage.configure(&format!("{general}{}", entry("second", &second)));
    stage.reload(&[]).expect(0, &["execution.upstream[first]"]);
    assert_eq!(reader(address), "second");
    // Another address under the same name is another node.
    stage.configure(&format!("{general}{}", entry("second", &first)));
    stage.reload(&[]).expect(0, &["execution.upstream[second].url"]);
    until("it is healthy", || healthy(&stage.data, "second"));
    assert_eq!(reader(address), "first");
    assert!(server.stop().0.success());
}
