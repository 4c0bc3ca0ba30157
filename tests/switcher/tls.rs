//! TLS of the listeners beside the signing API: the switcher, the execution pool and metrics. Who is let in, streams of
//! events, and certificates that are exchanged under load.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_tests::execution_node::start as node;
use holdfast_tests::harness::Server;
use holdfast_tests::world::{GENESIS_TIME, SLOTS_PER_EPOCH};
use rustls::ClientConfig;
use serde_json::json;

use crate::client::TlsClient;
use crate::execution::listens_at;
use crate::scripted::{Chain, ScriptedNode};
use crate::stage::{Stage, wait_for};

/// Requests on each connection, so that handshakes go on all the time.
const REQUESTS: u32 = 10;
const ROTATIONS: u32 = 2;
const EVENTS: &str = "/eth/v1/events?topics=voluntary_exit";

/// What a client asks of one of the listeners.
#[derive(Clone, Copy)]
struct Listener {
    name: &'static str,
    address: SocketAddr,
}

impl Listener {
    /// One request on a connection: its status and body.
    fn ask(&self, connection: &mut TlsClient) -> std::io::Result<(u16, String)> {
        match self.name {
            "switcher" => connection.request("GET", "/eth/v1/beacon/genesis", "Accept: application/json\r\n", ""),
            "execution" => {
                let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [] }).to_string();
                connection.request("POST", "/", "Content-Type: application/json\r\n", &call)
            }
            _ => connection.request("GET", "/metrics", "", ""),
        }
    }

    /// Connects and asks once. With TLS 1.3 a client hears only then that its certificate is not accepted.
    fn once(&self, config: &Arc<ClientConfig>) -> std::io::Result<(u16, String)> {
        self.ask(&mut TlsClient::connect(self.address, config)?)
    }

    /// Whether the node behind it answers.
    fn serves(&self, config: &Arc<ClientConfig>) -> bool {
        let word = match self.name {
            "switcher" => "genesis_validators_root",
            "execution" => "first",
            _ => "holdfast_build_info",
        };
        self.once(config).is_ok_and(|(status, body)| status == 200 && body.contains(word))
    }

    /// The server's certificate.
    fn shown(&self, config: &Arc<ClientConfig>) -> Vec<u8> {
        TlsClient::connect(self.address, config).expect("a handshake").server_certificate()
    }
}

/// A switcher with an execution pool, all listeners with TLS; one node of each kind.
struct Pools {
    stage: Stage,
    runtime: tokio::runtime::Runtime,
    beacon: ScriptedNode,
    server: Server,
}

impl Pools {
    fn start() -> Self {
        let stage = Stage::new(0);
        stage.documented("revocations");
        stage.shell(
            "openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=vc-1 -keyout false.key -out false.pem",
        );
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let chain = Chain {
            genesis_time: GENESIS_TIME,
            id: 0x77,
            seconds_per_slot: 6,
            slots_per_epoch: SLOTS_PER_EPOCH,
            gloas_epoch: None,
        };
        let beacon = runtime.block_on(ScriptedNode::start("a", "Lighthouse/v8.0.0", &chain));
        let tls = |section: &str, more: &str| {
            let file = |name: &str| stage.file(name);
            format!(
                "[{section}.tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\ncrl = {:?}\n{more}\n",
                file("tls.pem"),
                file("tls.key"),
                file("clients-ca.pem"),
                file("clients-crl.pem")
            )
        };
        let text = format!(
            "[execution]\nenabled = true\nlisten = \"127.0.0.1:0\"\n\n[[execution.upstream]]\nurl = {:?}\nname = \
             \"first\"\n\n{}{}{}",
            node("first"),
            tls("switcher", ""),
            tls("execution", ""),
            tls("metrics", "client_auth = \"optional\""),
        );
        let config = stage.world.path().join("holdfast.toml");
        std::fs::write(&config, text).unwrap();
        let server = Server::builder()
            .data_dir(&stage.world.data_dir())
            .global("--config")
            .global(&config)
            .global("--beacon")
            .global(beacon.url())
            .arg("--no-signer")
            .arg("--switcher-listen")
            .arg("127.0.0.1:0")
            .start();
        Self { stage, runtime, beacon, server }
    }

    fn listeners(&self) -> [Listener; 3] {
        [
            Listener { name: "switcher", address: self.server.switcher_addr() },
            Listener { name: "execution", address: listens_at(&self.server) },
            Listener { name: "metrics", address: self.server.metrics_addr() },
        ]
    }

    fn config(&self, certificate: Option<&str>) -> Arc<ClientConfig> {
        TlsClient::config(&self.stage, certificate)
    }

    /// A value of the metrics, which only a caller sees; 0 if it is not there.
    fn metric(&self, config: &Arc<ClientConfig>, series: &str) -> f64 {
        let [.., metrics] = self.listeners();
        let (status, text) = metrics.once(config).expect("the metrics");
        assert_eq!(status, 200, "{text}");
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
    }

    /// A stream of events over TLS, which the node knows of.
    fn events(&self, config: &Arc<ClientConfig>) -> TlsClient {
        let mut stream = TlsClient::connect(self.server.switcher_addr(), config).expect("a handshake");
        stream.stream(EVENTS).expect("a stream of events");
        self.runtime.block_on(self.beacon.wait_streams(2));
        stream
    }
}

#[test]
fn the_pools_let_in_clients_with_a_certificate_alone() {
    let pools = Pools::start();
    let known = pools.config(Some("vc-1"));
    let [switcher, execution, metrics] = pools.listeners();
    for listener in [switcher, execution] {
        wait_for("the node behind it", || listener.serves(&known));
        for (who, stranger) in [("nobody", pools.config(None)), ("a false name", pools.config(Some("false")))] {
            let answer = listener.once(&stranger);
            assert!(answer.is_err(), "{} lets {who} in: {answer:?}", listener.name);
        }
        // Without TLS there is no answer at all.
        assert!(holdfast_tests::http::once(listener.address, "GET", "/", &[], b"").is_err(), "{}", listener.name);
        let reason = |reason| {
            let name = listener.name;
            format!("holdfast_tls_handshake_failures_total{{listener=\"{name}\",reason=\"{reason}\"}}")
        };
        for word in ["certificate_missing", "certificate", "no_tls"] {
            assert!(pools.metric(&known, &reason(word)) >= 1.0, "{} {word}", listener.name);
        }
    }
    // A client that knows this machine by the name in its certificate is answered.
    let mut named = TlsClient::connect(execution.address, &known).unwrap();
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [] }).to_string();
    let more = "Content-Type: application/json\r\n";
    let (status, body) = named.request_of("signer.example:8545", "POST", "/", more, &call).unwrap();
    assert_eq!(status, 200, "{body}");

    // Here certificates are optional, and all but the probes is for callers.
    let mut nobody = TlsClient::connect(metrics.address, &pools.config(None)).unwrap();
    for (path, expected) in [("/livez", 200), ("/readyz", 200), ("/metrics", 401), ("/status.json", 401), ("/", 401)] {
        let (status, body) = nobody.request("GET", path, "", "").unwrap();
        assert_eq!(status, expected, "{path}: {body}");
    }
    let mut caller = TlsClient::connect(metrics.address, &known).unwrap();
    for path in ["/livez", "/metrics", "/status.json"] {
        assert_eq!(caller.request("GET", path, "", "").unwrap().0, 200, "{path}");
    }
    assert!(metrics.once(&pools.config(Some("false"))).is_err(), "a certificate that is shown has to be good");

    // A certificate is revoked: its connections end, a stream of events as well, and those of others do not.
    pools.stage.client("vc-2");
    let other = pools.config(Some("vc-2"));
    let mut events = pools.events(&known);
    let mut stays = TlsClient::connect(execution.address, &other).unwrap();
    assert_eq!(execution.ask(&mut stays).unwrap().0, 200);
    pools.stage.documented("revoke");
    let error = events.until("nothing").expect_err("the stream ends");
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "the client gave up: {error}");
    for (listener, connection) in [(execution, &mut named), (metrics, &mut caller)] {
        wait_for("the end of a connection", || listener.ask(connection).is_err());
        let ended = format!("holdfast_tls_connections_ended_total{{listener=\"{}\"}}", listener.name);
        assert!(pools.metric(&other, &ended) >= 1.0, "{}", listener.name);
    }
    assert_eq!(execution.ask(&mut stays).unwrap().0, 200, "another's connection");
    let (ended, log) = pools.server.stop();
    assert!(ended.success(), "{log}");
}

#[test]
fn certificates_of_the_pools_change_under_load_without_one_failed_request() {
    let pools = Pools::start();
    let config = pools.config(Some("vc-1"));
    let listeners = pools.listeners();
    for listener in listeners {
        wait_for("the node behind it", || listener.serves(&config));
    }
    let mut events = pools.events(&config);
    let event = |number: u32| {
        pools.beacon.event("voluntary_exit", &json!({ "message": number }).to_string());
        format!("{{\"message\":{number}}}")
    };
    events.until(&event(0)).expect("an event over TLS");
    let stop = AtomicBool::new(false);
    let answered: [AtomicU64; 3] = Default::default();
    std::thread::scope(|scope| {
        for (listener, answered) in listeners.into_iter().zip(&answered) {
            let (config, stop) = (&config, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = TlsClient::connect(listener.address, config).expect("a handshake");
                    for _ in 0..REQUESTS {
                        let (status, body) = listener.ask(&mut connection).expect("an answer");
                        assert_eq!(status, 200, "{}: {body}", listener.name);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for rotation in 1..=ROTATIONS {
            let before = listeners.map(|listener| listener.shown(&config));
            pools.stage.documented("renew");
            for (listener, before) in listeners.iter().zip(&before) {
                wait_for("the new certificate", || listener.shown(&config) != *before);
            }
            let so_far = answered.each_ref().map(|answered| answered.load(Ordering::Relaxed));
            for (answered, so_far) in answered.iter().zip(so_far) {
                wait_for("requests afterwards", || answered.load(Ordering::Relaxed) > so_far + 10);
            }
            events.until(&event(rotation)).expect("the stream goes on");
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (listener, answered) in listeners.iter().zip(&answered) {
        let reloads = format!("holdfast_tls_reloads_total{{listener=\"{}\"}}", listener.name);
        assert!(pools.metric(&config, &reloads) >= f64::from(ROTATIONS), "{}", listener.name);
        println!("{}: {} answers", listener.name, answered.load(Ordering::Relaxed));
    }
    // A new file that cannot be used changes nothing, on any of them.
    let before = listeners.map(|listener| listener.shown(&config));
    pools.stage.shell("cp tls.key tls.key.kept; cp ca.key tls.key");
    for listener in listeners {
        let series = format!("holdfast_tls_files_unusable{{listener=\"{}\"}}", listener.name);
        wait_for("the refusal of a wrong key", || pools.metric(&config, &series) > 0.0);
    }
    assert_eq!(listeners.map(|listener| listener.shown(&config)), before);
    assert!(pools.server.stop().0.success());
}
