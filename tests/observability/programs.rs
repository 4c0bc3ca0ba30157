//! A browser and its driver, as the tests use them. One that is missing fails the test with the name of its Debian package.

use std::net::SocketAddr;
use std::process::Command;

use holdfast_tests::http::once;
use holdfast_tests::prometheus::{Running, program};
use serde_json::Value;

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
