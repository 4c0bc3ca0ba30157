//! One signer: started with its own clock and its own data directory on a fixed port, started again
//! whenever it ends, asked how it is, and its command line for the operator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use holdfast_slashing_db::RollbackKind;
use holdfast_tests::harness::{Builder, Server, command};
use holdfast_tests::http::{Client, once};
use holdfast_tests::shim::Control;
use rustix::process::{Pid, Signal, kill_process};

use crate::ask::Ask;
use crate::plan::Policy;
use crate::traffic::{Answer, Traffic};

/// How a signer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Its process has ended, with this code, if it was not killed.
    Ended(Option<i32>),
    /// It refuses blocks and attestations, for this reason.
    Suspects(String),
    /// It says that it is ready.
    Ready,
    /// None of these, or not yet.
    Unready,
}

/// A signer.
pub(crate) struct Instance {
    /// Global arguments of its command line.
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    pub(crate) data_dir: PathBuf,
    port: u16,
    /// Its clock's number.
    pub(crate) face: usize,
    pub(crate) control: Arc<Control>,
    pub(crate) policy: Policy,
    server: Option<Server>,
    pub(crate) starts: u64,
}

impl Instance {
    /// Describes a signer; nothing runs yet. The second argument of `arguments` is the data directory.
    pub(crate) fn new(arguments: Vec<String>, control: Arc<Control>, face: usize, port: u16, policy: Policy) -> Self {
        let environment = control.environment().to_vec();
        let data_dir = PathBuf::from(&arguments[1]);
        Self { arguments, environment, data_dir, port, face, control, policy, server: None, starts: 0 }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts it, again and again until it runs: what a supervisor does.
    ///
    /// # Errors
    /// What it said when it would not start.
    pub(crate) fn start(&mut self, traffic: &Traffic<'_>) -> Result<(), String> {
        let mut builder = self.arguments.iter().fold(Server::builder(), Builder::global).http_port(self.port);
        for (name, value) in &self.environment {
            builder = builder.env(name, value);
        }
        let policy = match self.policy {
            Policy::Freeze => "freeze",
            Policy::Fence => "fence",
        };
        builder = builder
            .env("HOLDFAST_SLASHING_ON_ROLLBACK", policy)
            .env("HOLDFAST_DATABASE_STATEMENT_TIMEOUT_MS", "400")
            .env("HOLDFAST_DATABASE_CONNECT_TIMEOUT_MS", "1000")
            .env("HOLDFAST_HTTP_DRAIN_TIMEOUT_SECONDS", "1");
        let mut said = String::new();
        let started = traffic.until("a signer starts", || match builder.try_start() {
            Ok(server) => {
                self.server = Some(server);
                true
            }
            Err(error) => {
                said = error;
                false
            }
        });
        self.starts += 1;
        traffic.totals.add(|counts| counts.starts += 1);
        started.map_err(|error| format!("{error}\n{said}"))
    }

    /// SIGKILL, if it runs.
    pub(crate) fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill9();
        }
    }

    /// SIGTERM and a graceful end.
    ///
    /// # Errors
    /// How else it ended.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let (status, log) = server.stop();
        if status.success() { Ok(()) } else { Err(format!("the signer did not stop well: {status}\n{}", tail(&log))) }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().expect("the signer runs");
        let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a process id")).expect("not 0");
        kill_process(pid, signal).expect("the signer is our child");
    }

    /// How it is now.
    pub(crate) fn state(&mut self) -> State {
        let Some(server) = &mut self.server else { return State::Ended(None) };
        if let Some(status) = server.ended() {
            return State::Ended(status.code());
        }
        let get = |path: &str| once(server.metrics_addr(), "GET", path, &[], b"");
        let Ok(metrics) = get("/metrics") else { return State::Unready };
        let text = metrics.text();
        let suspicion = RollbackKind::ALL
            .map(RollbackKind::as_str)
            .into_iter()
            .find(|reason| text.contains(&format!("holdfast_slashing_frozen_reason{{reason=\"{reason}\"}} 1")));
        if let Some(reason) = suspicion {
            return State::Suspects(reason.to_owned());
        }
        match get("/readyz") {
            Ok(response) if response.status == 200 => State::Ready,
            Ok(_) | Err(_) => State::Unready,
        }
    }

    /// Whether it signs something that cannot be slashed, which needs the database as well.
    pub(crate) fn signs(&self, traffic: &Traffic<'_>) -> bool {
        let epoch = traffic.clock.slot() / holdfast_tests::world::SLOTS_PER_EPOCH;
        self.ask(traffic, 0, Ask::Randao { epoch }) == Some(Answer::Signed)
    }

    /// Asks on a connection of its own.
    pub(crate) fn ask(&self, traffic: &Traffic<'_>, key: usize, ask: Ask) -> Option<Answer> {
        let mut connection = Client::connect(self.address()).ok()?;
        let answer = traffic.ask(&mut connection, key, ask).ok()?;
        traffic.totals.add(|counts| {
            counts.requests += 1;
            match &answer {
                Answer::Signed => counts.released += 1,
                Answer::Refused(reason) => *counts.refusals.entry(reason.clone()).or_default() += 1,
            }
        });
        Some(answer)
    }

    /// Runs `holdfast` on its data directory, with its clock.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command();
        command.args(&self.arguments).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.output().expect("the binary starts")
    }

    /// What the operator does about a freeze: stop, see that it says so, fence, start.
    ///
    /// # Errors
    /// What went otherwise than the runbook says.
    pub(crate) fn fence_and_start(&mut self, traffic: &Traffic<'_>) -> Result<(), String> {
        self.stop()?;
        let status = self.run(&["slashing", "status"]);
        if status.status.code() != Some(4) {
            return Err(format!(
                "`slashing status` of a frozen signer ended with {}\n{}",
                status.status,
                text(&status)
            ));
        }
        self.fence(traffic)?;
        self.start(traffic)
    }

    /// `holdfast slashing fence`, with the signer stopped.
    ///
    /// # Errors
    /// What it said if it failed.
    pub(crate) fn fence(&self, traffic: &Traffic<'_>) -> Result<(), String> {
        let fence = self.run(&["slashing", "fence"]);
        if !fence.status.success() {
            return Err(format!("the fence ended with {}\n{}", fence.status, text(&fence)));
        }
        traffic.totals.add(|counts| counts.fences += 1);
        Ok(())
    }

    /// The end of what it printed.
    pub(crate) fn log(&self) -> String {
        self.server.as_ref().map_or_else(String::new, |server| tail(&server.log()))
    }
}

/// The last lines.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Copies a folder with everything in it; the target must not exist.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(copied.success(), "{} cannot be copied", from.display());
}
