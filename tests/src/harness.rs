//! Starts, kills and stops the real `holdfast` binary.
//!
//! Servers bind port 0 and say on standard output where they listen, so tests never guess ports.
//! A server still running when its handle is dropped is killed.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Client, Response, once};

/// How long a server may take to say it is ready.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Limit for reading what a server that has ended printed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Stands for a listener that a process does not have.
const UNUSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// The binary under test: `HOLDFAST_BIN`, else the release build.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("HOLDFAST_BIN").map_or_else(|| target().join("release/holdfast"), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo build --release -p holdfast` first", path.display());
    path
}

/// The debug binary, which is built with everything that this crate switches on (`tests/Cargo.toml`): it sends traces.
pub fn binary_that_traces() -> PathBuf {
    let path = target().join("debug/holdfast");
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// A command on the binary with a clean Holdfast environment.
pub fn command() -> Command {
    command_of(&binary())
}

fn command_of(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn holdfast<S: AsRef<OsStr>>(args: &[S]) -> Output {
    command().args(args).output().expect("the binary starts")
}

/// Runs the binary and panics with its output unless it exits with 0.
pub fn holdfast_ok<S: AsRef<OsStr>>(args: &[S]) -> Output {
    let output = holdfast(args);
    assert!(
        output.status.success(),
        "holdfast {:?} ended with {}\nstdout: {}\nstderr: {}",
        args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()).collect::<Vec<_>>(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// How to start a server.
#[derive(Default, Clone)]
pub struct Builder {
    before: Vec<OsString>,
    after: Vec<OsString>,
    /// Another server than `serve`.
    instead: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    http_port: u16,
    /// Another binary than [`binary`].
    program: Option<PathBuf>,
}

impl Builder {
    /// `--data-dir`.
    pub fn data_dir(self, path: &Path) -> Self {
        self.global("--data-dir").global(path)
    }
    /// Another binary than the one under test.
    pub fn program(mut self, path: PathBuf) -> Self {
        self.program = Some(path);
        self
    }
    /// A global argument, placed before `serve`.
    pub fn global(mut self, arg: impl Into<OsString>) -> Self {
        self.before.push(arg.into());
        self
    }
    /// An argument of `serve`.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.after.push(arg.into());
        self
    }
    /// Another command than `serve`, whole; it prints a ready line as that does.
    pub fn command_line(mut self, command: &[&str]) -> Self {
        self.instead = command.iter().map(OsString::from).collect();
        self
    }
    /// An environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
    /// A fixed HTTP port, to come back on the same address after a restart.
    pub fn http_port(mut self, port: u16) -> Self {
        self.http_port = port;
        self
    }

    /// The full command line.
    pub fn command(&self) -> Command {
        let mut command = self.program.as_deref().map_or_else(command, command_of);
        if !self.instead.is_empty() {
            let environment = self.environment.iter().map(|(name, value)| (name, value));
            command.args(&self.before).args(&self.instead).envs(environment);
            return command;
        }
        command
            .args(&self.before)
            .args(["--json", "serve", "--metrics-listen", "127.0.0.1:0", "--http-listen"])
            .arg(format!("127.0.0.1:{}", self.http_port))
            .args(&self.after)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts and waits for the ready line; panics with the server's output if it does not come.
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|failure| panic!("the server did not start: {failure}"))
    }

    /// Starts and waits for the ready line, or says why not.
    pub fn try_start(&self) -> Result<Server, String> {
        let mut child =
            self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let sink = Arc::clone(&log);
        let errors = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("log lock");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (ready_sender, ready) = mpsc::channel();
        let sink = Arc::clone(&log);
        let events = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(&line)
                    && value["event"] == "ready"
                {
                    let _ = ready_sender.send(value);
                }
                let mut log = sink.lock().expect("log lock");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let Ok(value) = ready.recv_timeout(START_LIMIT) else {
            let _ = child.kill();
            let status = child.wait().map_err(|error| error.to_string())?;
            let _ = errors.join();
            return Err(format!("{status}\n{}", log.lock().expect("log lock")));
        };
        let address = |name: &str| -> Result<SocketAddr, String> {
            value[name].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("no {name} in {value}"))
        };
        let switcher = address("switcher").ok();
        // Without a signer there is no signing API: any request to it fails.
        let http = address("http").or_else(|missing| if switcher.is_some() { Ok(UNUSED) } else { Err(missing) })?;
        Ok(Server { http, metrics: address("metrics")?, switcher, child: Some(child), log, readers: [errors, events] })
    }
}

/// A running server.
pub struct Server {
    http: SocketAddr,
    metrics: SocketAddr,
    switcher: Option<SocketAddr>,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    /// Of its two streams.
    readers: [JoinHandle<()>; 2],
}

impl Server {
    /// Starts describing one.
    pub fn builder() -> Builder {
        Builder::default()
    }
    /// Where the signing API listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }
    /// Where metrics and probes listen.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics
    }
    /// Where the switcher listens; panics if it does not run.
    pub fn switcher_addr(&self) -> SocketAddr {
        self.switcher.expect("the switcher runs in this process")
    }
    /// Whether the switcher runs in this process.
    pub fn has_switcher(&self) -> bool {
        self.switcher.is_some()
    }
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }
    /// Everything it printed so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("log lock").clone()
    }
    /// A keep-alive connection to the signing API.
    pub fn client(&self) -> Client {
        Client::connect(self.http).expect("the signing API accepts connections")
    }
    /// GET on the signing API.
    pub fn get(&self, path: &str) -> Response {
        once(self.http, "GET", path, &[], b"").expect("the server answers")
    }
    /// GET on the metrics listener.
    pub fn get_metrics(&self, path: &str) -> Response {
        once(self.metrics, "GET", path, &[], b"").expect("the metrics listener answers")
    }
    /// Signs with JSON accepted.
    pub fn sign(&self, key: &str, body: &serde_json::Value) -> Response {
        once(
            self.http,
            "POST",
            &format!("/api/v1/eth2/sign/{key}"),
            &[("Accept", "application/json"), ("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
        .expect("the server answers")
    }
    /// Waits until the readiness probe answers 200.
    pub fn wait_ready(&self) {
        let end = Instant::now() + START_LIMIT;
        while once(self.metrics, "GET", "/readyz", &[], b"").map_or(0, |response| response.status) != 200 {
            assert!(Instant::now() < end, "never ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("the process can be waited for"))
    }
    /// SIGKILL, and waits for the end.
    pub fn kill9(mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("SIGKILL is delivered");
        child.wait().expect("the process is reaped");
    }
    /// SIGTERM, and does not wait.
    pub fn terminate(&self) {
        let child = self.child.as_ref().expect("the server runs");
        rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM)
            .expect("SIGTERM is delivered");
    }
    /// SIGTERM, waits for a graceful end, and returns how it ended and what it printed.
    pub fn stop(self) -> (ExitStatus, String) {
        self.terminate();
        self.wait()
    }
    /// Waits for it to end by itself.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let child = self.child.take().expect("the server runs");
        let status = wait_with_limit(child);
        // Its last words may still be in the pipes; a process it has left behind may hold them open.
        let end = Instant::now() + LAST_WORDS;
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        (status, self.log())
    }
}

fn wait_with_limit(mut child: Child) -> ExitStatus {
    let end = Instant::now() + START_LIMIT;
    loop {
        if let Some(status) = child.try_wait().expect("the process can be waited for") {
            return status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server did not end within {START_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
