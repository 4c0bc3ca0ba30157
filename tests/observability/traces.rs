//! Traces on the binary that can send them, read by OpenTelemetry's own code: a signature from its client to the row of
//! the journal, a read of the Beacon API to the node that was asked, and a collector that is away.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_tests::harness::{Builder, binary_that_traces, holdfast_ok, workspace};
use holdfast_tests::http::{Response, once};
use holdfast_tests::prometheus::Running;
use holdfast_tests::world::{CHAIN, SLOTS_PER_EPOCH, World};
use serde_json::{Value, json};

use crate::stage::{Stage, until};

/// A trace of a client's, which it records.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The span in which it asks.
const ASKING: &str = "b7ad6b7169203331";
/// A secret of the headers.
const TOKEN: &str = "Bearer hunter2-of-the-collector";

/// A collector of traces.
struct Collector {
    _process: Running,
    endpoint: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    /// One that answers everything with this status.
    fn start(status: u16) -> Self {
        let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
        let python = cache.join("holdfast-otlp-1/bin/python");
        assert!(
            python.is_file(),
            "{} is missing: ./test makes it, with the Python package opentelemetry-proto",
            python.display()
        );
        let spans = Arc::<Mutex<Vec<Value>>>::default();
        let mut command = Command::new(python);
        command.arg(workspace().join("tests/observability/receiver.py")).arg(status.to_string());
        let seen = Arc::clone(&spans);
        let (process, port) = Running::start(command, move |line| {
            if let Ok(span) = serde_json::from_str(line) {
                seen.lock().unwrap().push(span);
            }
            assert!(!line.contains("unexpected") && !line.contains("Traceback"), "{line}");
            line.strip_prefix("listening on ")?.parse::<u16>().ok()
        });
        Self { _process: process, endpoint: format!("http://127.0.0.1:{port}"), spans }
    }

    /// The spans of a trace so far.
    fn of(&self, trace: &str) -> Vec<Value> {
        self.spans.lock().unwrap().iter().filter(|span| span["trace"] == trace).cloned().collect()
    }

    /// Waits for a span of this name that `wanted` likes; all of its trace.
    fn wait(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Tree {
        let mut found = None;
        until(&format!("a span {name}"), || {
            let spans = self.spans.lock().unwrap();
            found = spans.iter().find(|span| span["name"] == name && wanted(span)).cloned();
            found.is_some()
        });
        let root = found.unwrap();
        Tree { all: self.of(root["trace"].as_str().unwrap()), root }
    }
}

/// A span with all of its trace.
struct Tree {
    root: Value,
    all: Vec<Value>,
}

impl Tree {
    /// The one piece of `parent` that has this name. It lies within it.
    #[track_caller]
    fn piece(&self, parent: &Value, name: &str) -> Value {
        let pieces: Vec<&Value> =
            self.all.iter().filter(|span| span["parent"] == parent["id"] && span["name"] == name).collect();
        let [piece] = pieces[..] else { panic!("{} pieces {name} in {:#?}", pieces.len(), self.all) };
        let times = |span: &Value| (span["began"].as_u64().unwrap(), span["ended"].as_u64().unwrap());
        let ((began, ended), (from, to)) = (times(piece), times(parent));
        assert!(from <= began && began <= ended && ended <= to, "{name} is not within its parent: {:#?}", self.all);
        piece.clone()
    }
}

/// Settings of a server that sends its traces there.
fn sending(builder: Builder, endpoint: &str, one_in: u32, folder: &Path) -> Builder {
    let headers = folder.join("collector-headers");
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&headers).unwrap();
    std::io::Write::write_all(&mut file, format!("Authorization: {TOKEN}\n").as_bytes()).unwrap();
    builder
        .program(binary_that_traces())
        .env("HOLDFAST_OTLP_ENDPOINT", endpoint)
        .env("HOLDFAST_OTLP_HEADERS_FILE", headers)
        .env("HOLDFAST_OTLP_SAMPLE_ONE_IN", one_in.to_string())
        .env("HOLDFAST_OTLP_SERVICE_INSTANCE", "signer-1")
        .env("HOLDFAST_TELEMETRY_LOG", "info,holdfast::pipeline=debug")
        .env("HOLDFAST_TELEMETRY_FORMAT", "json")
}

/// A request for a signature in the course of a trace.
fn sign(stage: &Stage, key: &str, body: &Value, parent: &str) -> Response {
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json"), ("traceparent", parent)];
    let path = format!("/api/v1/eth2/sign/{key}");
    once(stage.server().http_addr(), "POST", &path, &headers, body.to_string().as_bytes()).unwrap()
}

#[test]
fn a_signature_is_followed_from_its_client_to_the_journal_and_a_read_to_its_node() {
    let collector = Collector::start(200);
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::of(2, |builder| sending(builder, &collector.endpoint, 0, folder.path()));
    let key = &stage.world.keys[0].public;
    let recorded = format!("00-{TRACE}-{ASKING}-01");

    // A signature.
    let vote = stage.fresh_attestation();
    assert_eq!(sign(&stage, key, &vote, &recorded).status, 200);
    let tree = collector.wait("POST /api/v1/eth2/sign/{identifier}", |span| span["trace"] == TRACE);
    let root = &tree.root;
    assert_eq!((&root["parent"], &root["kind"]), (&json!(ASKING), &json!("SPAN_KIND_SERVER")));
    assert_eq!((&root["status"], &root["authorization"]), (&json!("STATUS_CODE_UNSET"), &json!(TOKEN)));
    assert_eq!(root["attributes"], json!({ "http.response.status_code": 200 }));
    assert_eq!(root["resource"]["service.name"], "holdfast");
    assert_eq!(root["resource"]["service.instance.id"], "signer-1");
    assert_eq!(root["resource"]["service.version"], env!("CARGO_PKG_VERSION"));
    tree.piece(root, "read");
    let signing = tree.piece(root, "sign");
    let known = &signing["attributes"];
    assert_eq!((&known["holdfast.kind"], &known["holdfast.backend"]), (&json!("attestation"), &json!("local")));
    assert!(known["holdfast.slot"].is_u64() && known["holdfast.target_epoch"].is_u64(), "{known}");
    tree.piece(&signing, "policy");
    let permit = tree.piece(&signing, "permit");
    let (queue, commit) = (tree.piece(&permit, "queue"), tree.piece(&permit, "commit"));
    assert_eq!(queue["ended"], commit["began"]);
    let signature = tree.piece(&signing, "signature");
    assert!(signature["began"].as_u64() >= permit["ended"].as_u64(), "signed after it was permitted");
    // No more than logs have of a key, and nothing of what was signed.
    let all = json!(tree.all).to_string();
    assert!(!all.contains(&key[12..]) && !all.contains("signing_root"), "{all}");

    // From there to the row of the journal, and to the line of the log.
    let commit_seq = &known["holdfast.commit_seq"];
    let tail = holdfast_ok(&stage.world.with(&["--json", "audit", "tail", "--key", key, "--kind", "attestation"]));
    let rows: Vec<Value> =
        String::from_utf8_lossy(&tail.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // INSTANCE/BATCH/INDEX
    let batch = |row: &Value| row["metadata"]["uid"].as_str().and_then(|uid| uid.split('/').nth(1).map(str::to_owned));
    let row = rows.iter().find(|row| batch(row) == Some(commit_seq.to_string()));
    let row = row.unwrap_or_else(|| panic!("no batch {commit_seq} in {rows:#?}"));
    assert_eq!(row["resources"][0]["uid"], key.as_str(), "{row}");
    until("the log names the trace", || {
        let log = stage.server().log();
        log.lines().any(|line| line.contains(TRACE) && line.contains(&format!("\"commit_seq\":{commit_seq}")))
    });

    refused_and_unrecorded(&stage, &collector, key, &vote);
    read_of_a_node(&stage, &collector, &recorded);
    let log = stage.server().log();
    assert!(!log.contains("hunter2"), "{log}");
    let metrics = stage.server().get_metrics("/metrics").text();
    assert!(number(&metrics, "holdfast_traces_spans_sent_total") >= 10.0, "{metrics}");
}

/// What protection refuses is a failed span; what its client does not record is only named in the log.
fn refused_and_unrecorded(stage: &Stage, collector: &Collector, key: &str, vote: &Value) {
    let mut other = vote.clone();
    other["attestation"]["beacon_block_root"] = json!(format!("0x{}", "99".repeat(32)));
    other.as_object_mut().unwrap().remove("signingRoot");
    let (refused, silent) = ("1".repeat(32), "2".repeat(32));
    assert_eq!(sign(stage, key, &other, &format!("00-{refused}-{ASKING}-01")).status, 412);
    let tree = collector.wait("POST /api/v1/eth2/sign/{identifier}", |span| span["trace"] == refused.as_str());
    let (signing, failed) = (tree.piece(&tree.root, "sign"), (json!("STATUS_CODE_ERROR"), json!("double_vote")));
    for span in [&tree.root, &signing, &tree.piece(&signing, "permit")] {
        assert_eq!((&span["status"], &span["message"]), (&failed.0, &failed.1), "{span}");
    }
    assert!(!tree.all.iter().any(|span| span["name"] == "signature"), "nothing was signed: {:#?}", tree.all);

    assert_eq!(sign(stage, key, &other, &format!("00-{silent}-{ASKING}-00")).status, 412);
    until("the log names the trace", || {
        let log = stage.server().log();
        log.lines().any(|line| line.contains(&silent) && line.contains("double_vote"))
    });
    assert_eq!(collector.of(&silent), Vec::<Value>::new());
}

/// The node is asked in the course of the switcher's span.
fn read_of_a_node(stage: &Stage, collector: &Collector, recorded: &str) {
    const PATH: &str = "/eth/v1/beacon/headers/head";
    let headers = [("Accept", "application/json"), ("traceparent", recorded)];
    let answer = once(stage.server().switcher_addr(), "GET", PATH, &headers, b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tree = collector.wait("Beacon API", |span| span["attributes"]["url.path"] == PATH);
    assert_eq!((&tree.root["trace"], &tree.root["parent"]), (&json!(TRACE), &json!(ASKING)));
    assert_eq!(tree.root["attributes"]["http.response.status_code"], 200);
    until("the call to the node is there", || {
        let spans = collector.of(TRACE);
        spans.iter().any(|span| span["name"] == "ask node" && span["parent"] == tree.root["id"])
    });
    let spans = collector.of(TRACE);
    let call = spans.iter().find(|span| span["name"] == "ask node").unwrap();
    assert_eq!(call["kind"], "SPAN_KIND_CLIENT");
    let name = call["attributes"]["holdfast.node"].as_str().unwrap();
    let node = stage.nodes.iter().find(|node| node.address().to_string() == name).expect("one of the two");
    let context = format!("00-{TRACE}-{}-01", call["id"].as_str().unwrap());
    let seen = node.seen(&format!("GET {PATH}"));
    assert!(seen.iter().any(|request| request.header("traceparent") == Some(&context)), "{context}: {seen:#?}");
}

/// A number of the exposition without labels, or with those in its name.
fn number(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

#[test]
fn a_collector_that_is_away_costs_no_signature() {
    // Takes connections, and never answers.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in deaf.incoming().map_while(Result::ok) {
            let mut stream = stream;
            std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    let world = World::new(1);
    let server = sending(world.server(), &endpoint, 1, world.path()).start();
    server.wait_ready();
    let dropped = || {
        let metrics = server.get_metrics("/metrics").text();
        number(&metrics, "holdfast_traces_spans_dropped_total{reason=\"queue\"}")
    };
    let (mut client, path) = (server.client(), format!("/api/v1/eth2/sign/{}", world.keys[0].public));
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
    let (mut signed, mut slowest, end) = (0, Duration::ZERO, Instant::now() + crate::stage::PATIENCE);
    // Until the queue is full, and a hundred more.
    while dropped() < 800.0 {
        assert!(Instant::now() < end, "the queue is not full after {signed} signatures");
        for _ in 0..200 {
            let body = CHAIN.randao(5 + signed / SLOTS_PER_EPOCH).0.to_string();
            let began = Instant::now();
            let answer = client.request("POST", &path, &headers, body.as_bytes()).unwrap();
            slowest = slowest.max(began.elapsed());
            assert_eq!(answer.status, 200, "{}", answer.text());
            signed += 1;
        }
    }
    // The collector's patience is five seconds: nobody waited for it.
    assert!(slowest < Duration::from_secs(3), "a signature took {slowest:?}");
    let began = Instant::now();
    server.terminate();
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
    assert!(began.elapsed() < Duration::from_secs(15), "it stopped after {:?}", began.elapsed());
}

#[test]
fn what_a_collector_refuses_is_dropped_counted_and_said_once() {
    let collector = Collector::start(400);
    let world = World::new(1);
    let server =
        sending(world.server(), &collector.endpoint, 1, world.path()).env("HOLDFAST_TELEMETRY_FORMAT", "ecs").start();
    server.wait_ready();
    let dropped = || {
        let metrics = server.get_metrics("/metrics").text();
        number(&metrics, "holdfast_traces_spans_dropped_total{reason=\"unsent\"}")
    };
    for batch in 1..=2 {
        let before = dropped();
        assert_eq!(server.sign(&world.keys[0].public, &CHAIN.randao(batch).0).status, 200);
        until("the batch is given up", || dropped() > before);
    }
    let (_, log) = server.stop();
    assert_eq!(log.matches("traces cannot be sent").count(), 1, "{log}");
    assert!(log.contains("it answered 400"), "{log}");
    // Every line of the log is one of the schema; what a command prints is JSON, too.
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let schema = lines.iter().filter(|line| line["@timestamp"].is_string() && line["ecs.version"] == "8.11.0");
    let traced = schema.clone().filter(|line| line["message"] == "signed" && line["trace.id"].is_string()).count();
    assert!(traced == 2 && schema.count() + 2 >= lines.len(), "{log}");
}
