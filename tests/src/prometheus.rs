//! A real Prometheus for tests, the queries of the project's Grafana dashboard, and the programs of others they need.
//!
//! Why it exists: what dashboards and alerts show is proved only by asking a Prometheus that scrapes the real program.
//! What it guarantees: it scrapes exactly what it was given, under the names it was given, wherever a restarted server
//! listens; a program that is missing fails with the name of its Debian package; processes end with their handle.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::workspace;
use crate::http::once;
use crate::postgres::free_port;

/// How long something may take that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Points of a range query at most; Prometheus refuses more than 11,000.
const MOST_POINTS: u64 = 5_000;

/// Waits for something.
#[track_caller]
pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// The path of a program.
pub fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package} (./test does)"))
}

/// A process that ends when this is dropped.
pub struct Running(Child);

impl Running {
    /// Starts it, and waits for the line of its output in which `wanted` finds something.
    pub fn start<T: Send + 'static>(
        mut command: Command,
        wanted: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
    ) -> (Self, T) {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, receiver) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let running = Self(child);
        let (found, wanted) = (sender.clone(), Arc::new(wanted));
        let look = Arc::clone(&wanted);
        // Both streams are read to their end, so that the process never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // Nobody listens once the line was found.
                let _ = look(&line).map(|value| found.send(value));
            }
        });
        std::thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                let _ = wanted(&line).map(|value| sender.send(value));
            }
        });
        let value = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{command:?} is not ready"));
        (running, value)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Prometheus that scrapes some servers and evaluates the rules of the project.
pub struct Prometheus {
    _process: Running,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes every second and calls each server by its address, and waits until it has scraped all.
    pub fn start(scraped: &[SocketAddr], rules: &Path) -> Self {
        let named: Vec<(String, SocketAddr)> = scraped.iter().map(|address| (address.to_string(), *address)).collect();
        Self::start_named(&named, rules, Duration::from_secs(1))
    }

    /// As [`Self::start`], with the servers' names as their `instance` and an interval of whole seconds.
    pub fn start_named(scraped: &[(String, SocketAddr)], rules: &Path, interval: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets = folder.path().join("targets.json");
        let seconds = interval.as_secs();
        let config = format!(
            "global:\n  scrape_interval: {seconds}s\n  evaluation_interval: {seconds}s\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: holdfast\n  file_sd_configs: [{{files: ['{}'], refresh_interval: 5s}}]\n",
            rules.display(),
            targets.display()
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        write_targets(&targets, scraped);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program("prometheus", "prometheus"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let ready = |line: &str| line.contains("ready to receive web requests").then_some(());
        let (process, ()) = Running::start(command, ready);
        let prometheus = Self { _process: process, address, folder };
        let count = scraped.len().to_string();
        until("Prometheus scrapes", || {
            let up = prometheus.query("count(up == 1)");
            up[0]["value"][1] == count.as_str()
        });
        prometheus
    }

    /// The same servers listen elsewhere now. Prometheus notices within seconds.
    pub fn retarget(&self, scraped: &[(String, SocketAddr)]) {
        write_targets(&self.folder.path().join("targets.json"), scraped);
    }

    /// GET of its API; the `data` of the answer, which must be a success.
    pub fn get(&self, path: &str) -> Value {
        let answer = once(self.address, "GET", path, &[], b"").expect("Prometheus answers");
        let value = answer.json();
        assert_eq!(value["status"], "success", "{path}: {value}");
        value["data"].clone()
    }

    /// The result of an instant query, which must be a valid one.
    pub fn query(&self, expression: &str) -> Value {
        self.get(&format!("/api/v1/query?query={}", percent(expression)))["result"].clone()
    }

    /// The result of a query over a range, from and to in seconds since 1970, in steps of `step` or longer ones.
    pub fn query_range(&self, expression: &str, from: u64, to: u64, step: Duration) -> Value {
        let step = step.as_secs().max(to.saturating_sub(from) / MOST_POINTS).max(1);
        let query = percent(expression);
        self.get(&format!("/api/v1/query_range?query={query}&start={from}&end={to}&step={step}"))["result"].clone()
    }

    /// Whether a query gives at least one number.
    pub fn has_data(&self, expression: &str) -> bool {
        let result = self.query(expression);
        let numbers = result.as_array().map_or(&[][..], Vec::as_slice);
        numbers.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
    }
}

/// Replaces the list at once: Prometheus may read it at any moment.
fn write_targets(path: &Path, scraped: &[(String, SocketAddr)]) {
    let groups: Vec<Value> = scraped
        .iter()
        .map(|(name, address)| json!({ "targets": [address.to_string()], "labels": { "instance": name } }))
        .collect();
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, Value::from(groups).to_string()).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

/// Percent-encoded.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The Grafana dashboard of the project.
pub fn dashboard() -> Value {
    let text = std::fs::read_to_string(workspace().join("deploy/grafana/holdfast.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

/// Panels of a dashboard with their queries.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut found = Vec::new();
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().expect("a title").to_owned();
            found.push((title, target["expr"].as_str().expect("an expression").to_owned()));
        }
    }
    found
}

/// A query of a panel as Grafana would send it, with this rate interval.
pub fn sent(expression: &str, rate_interval: &str) -> String {
    let sent = expression.replace("$__rate_interval", rate_interval).replace("$instance", ".*");
    assert!(!sent.contains('$'), "a variable that nobody fills in: {sent}");
    sent
}
