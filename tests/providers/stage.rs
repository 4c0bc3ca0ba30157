//! A world whose data key is guarded elsewhere: the binary's settings for it, and a look into its database.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_tests::finished::Finished;
use holdfast_tests::harness::{Builder, Server, command};
use holdfast_tests::http::once;
use holdfast_tests::world::{CHAIN, World};
use rusqlite::{Connection, params};

/// Longest wait for something that must happen.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A world, and the environment in which the binary finds its providers.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) environment: Vec<(String, String)>,
}

impl Stage {
    /// A world without keys in which the binary runs with these settings. Providers are not checked on a schedule.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let mut stage = Self { world: World::new(0), environment: Vec::new() };
        stage.set("HOLDFAST_KEYS_CHECK_MINUTES", "0");
        for (name, value) in settings {
            stage.set(name, value);
        }
        stage
    }

    /// Changes one setting.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Runs a command of the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = command();
        command.args(self.world.with(arguments)).envs(self.environment.iter().cloned());
        command.output().expect("the binary starts").into()
    }

    /// Makes the data key with the configured provider, and some keys.
    pub(crate) fn make_keys(&self, count: u32) {
        self.run(&["--json", "kek", "init"]).expect(0, &["made"]);
        self.run(&["--json", "keys", "generate", "--count", &count.to_string()]).expect(0, &[]);
    }

    /// `kek status`.
    pub(crate) fn status(&self) -> Finished {
        self.run(&["--json", "kek", "status"])
    }

    /// A server in this environment.
    pub(crate) fn server(&self) -> Builder {
        self.environment.iter().fold(self.world.server(), |builder, (name, value)| builder.env(name, value))
    }

    /// Starts a server and has it sign something.
    pub(crate) fn serves(&self, keys: usize) -> Server {
        let server = self.server().start();
        server.wait_ready();
        assert_eq!(signs(server.http_addr()), keys);
        server
    }

    /// Starts a server whose keys do not load yet, and tells where it listens.
    pub(crate) fn loading(&self) -> Loading {
        let mut child = self.server().command();
        Loading::start(&mut child)
    }

    /// A connection to the database, while nobody else has it.
    pub(crate) fn database(&self) -> Connection {
        Connection::open(self.world.data_dir().join("holdfast.db")).expect("the database opens")
    }

    /// The wrapped data key as stored.
    pub(crate) fn wrapped(&self) -> Vec<u8> {
        self.database().query_row("SELECT wrapped FROM data_keys", [], |row| row.get(0)).expect("a data key")
    }

    /// Stores other bytes as the wrapped data key.
    pub(crate) fn set_wrapped(&self, bytes: &[u8]) {
        self.database().execute("UPDATE data_keys SET wrapped = ?1", params![bytes]).expect("the row is changed");
    }

    /// All sealed keys as stored.
    pub(crate) fn sealed(&self) -> Vec<Vec<u8>> {
        let db = self.database();
        let mut rows = db.prepare("SELECT sealed FROM sealed_keys ORDER BY id").expect("sealed keys");
        rows.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
    }
}

/// Asks for a signature; returns how many keys are served.
pub(crate) fn signs(http: SocketAddr) -> usize {
    let list = once(http, "GET", "/api/v1/eth2/publicKeys", &[], b"").expect("an answer").json();
    let keys: Vec<String> = serde_json::from_value(list).expect("a list of keys");
    let path = format!("/api/v1/eth2/sign/{}", keys.first().expect("a key"));
    let body = CHAIN.randao(5).0.to_string();
    let answer = once(http, "POST", &path, &[("Accept", "application/json")], body.as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    keys.len()
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not happen within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A server that is not ready yet.
pub(crate) struct Loading {
    child: Child,
    log: Option<JoinHandle<String>>,
    pub(crate) http: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Loading {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut seen = String::new();
        let addresses = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it never listened:\n{seen}") };
            if let Some(found) = addresses(&line) {
                break found;
            }
            seen.push_str(&line);
            seen.push('\n');
        };
        // A full pipe would stop it.
        let log = std::thread::spawn(move || lines.map_while(Result::ok).fold(seen, |log, line| log + &line + "\n"));
        Self { child, log: Some(log), http: addresses.0, metrics: addresses.1 }
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it; what it logged.
    pub(crate) fn stop(mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.take().expect("once").join().expect("the log is read")
    }

    /// Status of the readiness probe, or 0.
    pub(crate) fn ready(&self) -> u16 {
        once(self.metrics, "GET", "/readyz", &[], b"").map_or(0, |answer| answer.status)
    }

    /// The text of the metrics.
    pub(crate) fn metrics(&self) -> String {
        once(self.metrics, "GET", "/metrics", &[], b"").expect("metrics").text()
    }

    /// Exit code, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().expect("it can be waited for").and_then(|status| status.code())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both addresses in the log line that tells them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = &value["fields"];
    (fields["message"] == "listening").then_some(())?;
    let address = |name: &str| fields[name].as_str()?.parse().ok();
    Some((address("http")?, address("metrics")?))
}
