//! Programs of others that the tests run: Prometheus, promtool, a browser and its driver. One that is missing fails the
//! test with the name of its Debian package.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use holdfast_tests::http::once;
use holdfast_tests::postgres::free_port;
use serde_json::Value;
use tempfile::TempDir;

use crate::stage::{PATIENCE, until};

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
        let (found, wanted) = (sender.clone(), std::sync::Arc::new(wanted));
        let look = std::sync::Arc::clone(&wanted);
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

/// A Prometheus that scrapes some servers every second and evaluates the rules of the project.
pub struct Prometheus {
    _process: Running,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it and waits until it has scraped every one of them.
    pub fn start(scraped: &[SocketAddr], rules: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets: Vec<String> = scraped.iter().map(|address| format!("'{address}'")).collect();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: holdfast\n  static_configs: [{{targets: [{}]}}]\n",
            rules.display(),
            targets.join(", ")
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program("prometheus", "prometheus"));
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let ready = |line: &str| line.contains("ready to receive web requests").then_some(());
        let (process, ()) = Running::start(command, ready);
        let prometheus = Self { _process: process, address, _folder: folder };
        let count = scraped.len().to_string();
        until("Prometheus scrapes", || {
            let up = prometheus.query("count(up == 1)");
            up[0]["value"][1] == count.as_str()
        });
        prometheus
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

    /// Whether a query gives at least one number.
    pub fn has_data(&self, expression: &str) -> bool {
        let result = self.query(expression);
        let numbers = result.as_array().map_or(&[][..], Vec::as_slice);
        numbers.iter().any(|one| one["value"][1].as_str().is_some_and(|value| value != "NaN"))
    }
}

/// Percent-encoded.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A browser, driven over `WebDriver`.
pub struct Browser {
    _driver: Running,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// Starts the browser and its driver.
    pub fn start() -> Self {
        let binary = program("chromium", "chromium");
        let mut command = Command::new(program("chromedriver", "chromium-driver"));
        command.arg("--port=0");
        let port = |line: &str| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        };
        let (driver, port) = Running::start(command, port);
        let mut browser =
            Self { _driver: driver, address: SocketAddr::from(([127, 0, 0, 1], port)), session: String::new() };
        let options = serde_json::json!({
            "binary": binary,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"],
        });
        let wanted = serde_json::json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:loggingPrefs": { "browser": "ALL" }, "goog:chromeOptions": options,
        }}});
        let session = browser.post("/session", &wanted)["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("/session/{session}");
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        let body = body.to_string();
        let answer = once(self.address, "POST", &path, &[("Content-Type", "application/json")], body.as_bytes());
        let answer = answer.expect("the driver answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()["value"].clone()
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &serde_json::json!({ "url": url }));
    }

    /// The value of a script's body.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &serde_json::json!({ "script": script, "args": [] }))
    }

    /// A command of the `DevTools` protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &serde_json::json!({ "cmd": command, "params": parameters }))
    }

    /// Presses a key once.
    pub fn press(&self, key: &str) {
        let actions = serde_json::json!([{ "type": "key", "id": "keyboard", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ]}]);
        self.post("/actions", &serde_json::json!({ "actions": actions }));
    }

    /// What the browser said since it was asked last: errors of scripts, refused loads, violated policies.
    pub fn log(&self) -> Vec<String> {
        let lines = self.post("/se/log", &serde_json::json!({ "type": "browser" }));
        let text = |line: &Value| {
            format!("{} {}", line["level"].as_str().unwrap_or(""), line["message"].as_str().unwrap_or(""))
        };
        lines.as_array().map(|lines| lines.iter().map(text).collect()).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session; without one, with the driver.
        let _ = once(self.address, "DELETE", &self.session, &[], b"");
    }
}
