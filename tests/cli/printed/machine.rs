//! A machine on which commands are typed as they are printed: a folder, a server, and what is put in the place of the
//! reader's own names.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::harness::binary;
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Limit for a server to be ready, and for anything else that is waited for.
const LIMIT: Duration = Duration::from_secs(30);

/// What ends with the test.
struct Running(Child);

impl Running {
    /// How it ended, if it does within this time.
    fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + time;
        loop {
            let status = self.0.try_wait().expect("it is a child of this process");
            if status.is_some() || Instant::now() >= end {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The machine.
pub(super) struct Machine {
    folder: TempDir,
    /// Of the signing API, the metrics and the switcher: those of the documentation belong to whoever runs this test.
    ports: [u16; 3],
    /// What is printed, and what stands for it here.
    own: Vec<(String, String)>,
    server: Option<Running>,
    /// Every line that was typed, as it is printed.
    typed: BTreeSet<String>,
    pub(super) keys: Vec<TestKey>,
}

impl Machine {
    /// With three keystores in `validator_keys`, as a deposit tool leaves them, and their password.
    pub(super) fn new() -> Self {
        let keys: Vec<TestKey> = (0..3).map(TestKey::interop).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let ports = [free_port(), free_port(), free_port()];
        let mut own = vec![
            ("0x8f…".to_owned(), keys[0].public.clone()),
            ("0x7e…".to_owned(), keys[1].public.clone()),
            ("PUBKEY".to_owned(), keys[0].public.clone()),
        ];
        for (printed, port) in [9000, 9001, 5052].into_iter().zip(ports) {
            own.push((format!("127.0.0.1:{printed}"), format!("127.0.0.1:{port}")));
        }
        let machine = Self { folder, ports, own, server: None, typed: BTreeSet::new(), keys };
        for name in ["bin", "validator_keys", ".ssh"] {
            std::fs::create_dir(machine.at(name)).expect("a folder");
        }
        std::os::unix::fs::symlink(binary(), machine.at("bin/holdfast")).expect("the program on the path");
        for key in &machine.keys {
            key.write_keystore(&machine.at("validator_keys"), "correct horse");
        }
        for name in ["password.txt", "pw", "passphrase.txt"] {
            machine.write(name, "correct horse");
        }
        machine
    }

    /// Puts something of its own in the place of what is printed, from now on.
    pub(super) fn puts(&mut self, own: &str, printed: &str) {
        // The newest counts, also for what another one would change.
        self.own.insert(0, (printed.to_owned(), own.to_owned()));
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only this user may read.
    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).expect("a file");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.at(name), private).expect("chmod");
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The line that begins so, as the document prints it in a block or within a line.
    #[track_caller]
    fn printed(&mut self, document: &str, begins: &str) -> String {
        let (_, lines) = super::pages().get(document).unwrap_or_else(|| panic!("there is no {document}"));
        let mut found: Vec<String> =
            lines.iter().map(|line| line.text.clone()).filter(|line| line.starts_with(begins)).collect();
        // The one that is just this, if there is one.
        let whole = found.iter().position(|line| line == begins).unwrap_or(0);
        assert!(!found.is_empty(), "{document} prints no line that begins with {begins:?}");
        let line = found.swap_remove(whole);
        self.typed.insert(line.clone());
        self.own.iter().fold(line, |line, (printed, own)| line.replace(printed, own))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").expect("a path");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        command
            .args(["-euc", line])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("HOME", self.folder.path())
            .env("HOLDFAST_NETWORK_NAME", "hoodi")
            .env("HOLDFAST_HTTP_LISTEN", format!("127.0.0.1:{}", self.ports[0]))
            .env("HOLDFAST_METRICS_LISTEN", format!("127.0.0.1:{}", self.ports[1]))
            .stdin(Stdio::null());
        command
    }

    /// Types something of the test's own.
    #[track_caller]
    pub(super) fn own(&self, line: &str) -> String {
        said(line, &self.command(line).output().expect("bash starts"), &[0])
    }

    /// Types what a document prints.
    #[track_caller]
    pub(super) fn types(&mut self, document: &str, begins: &str) -> String {
        self.ends(document, begins, &[0])
    }

    /// Types each of them.
    #[track_caller]
    pub(super) fn types_all(&mut self, document: &str, all: &[&str]) {
        for begins in all {
            self.types(document, begins);
        }
    }

    /// Types what may end so.
    #[track_caller]
    pub(super) fn ends(&mut self, document: &str, begins: &str, codes: &[i32]) -> String {
        let line = self.printed(document, begins);
        println!("$ {line}");
        let began = Instant::now();
        let output = self.command(&line).output().expect("bash starts");
        println!("  {} ms", began.elapsed().as_millis());
        said(&line, &output, codes)
    }

    /// Types a command that keeps running until it is ended, and waits until it has said this.
    #[track_caller]
    fn starts(&mut self, document: &str, begins: &str, until: &str) -> Running {
        let line = self.printed(document, begins);
        println!("$ {line} &");
        let log = std::fs::File::create(self.at("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        let mut command = self.command(&format!("exec {line}"));
        let mut running = Running(command.stdout(log).stderr(errors).spawn().expect("bash starts"));
        let end = Instant::now() + LIMIT;
        while !self.read("log").contains(until) {
            let ended = running.0.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < end, "{line}: {ended:?}: no {until:?}:\n{}", self.read("log"));
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    /// Types a command that runs until Ctrl-C, which ends it in good order or, before it listens for that, at once.
    #[track_caller]
    pub(super) fn watches(&mut self, document: &str, begins: &str, until: &str) {
        let mut running = self.starts(document, begins, until);
        // Ctrl-C is lost before the program listens for it, where whoever runs the tests has it ignored, as shells do for
        // what they put into the background: so it is typed again.
        let end = Instant::now() + LIMIT;
        let status = loop {
            signal(&running, Signal::INT);
            if let Some(status) = running.ends_within(Duration::from_millis(500)) {
                break status;
            }
            assert!(Instant::now() < end, "{begins} does not end");
        };
        let at_once = status.signal() == Some(Signal::INT.as_raw());
        assert!(status.success() || at_once, "{begins} ended with {status}");
    }

    /// Types a command that serves, whatever serves there ends first.
    #[track_caller]
    pub(super) fn serves(&mut self, document: &str, begins: &str, until: &str) {
        self.stops();
        self.server = Some(self.starts(document, begins, until));
    }

    /// Types a command that keeps running, and kills it once it has said this.
    #[track_caller]
    pub(super) fn begins(&mut self, document: &str, begins: &str, until: &str) {
        drop(self.starts(document, begins, until));
    }

    /// Ends what serves in good order, if anything does.
    #[track_caller]
    pub(super) fn stops(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(&server, Signal::TERM);
            let status = server.ends_within(LIMIT).expect("the server ends");
            assert!(status.success(), "the server ended with {status}");
        }
    }

    /// Lines that were typed, as they are printed.
    pub(super) fn typed(mut self) -> BTreeSet<String> {
        self.stops();
        std::mem::take(&mut self.typed)
    }
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.0), signal).expect("the signal is delivered");
}

#[track_caller]
fn said(line: &str, output: &Output, codes: &[i32]) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(code.is_some_and(|code| codes.contains(&code)), "$ {line}\n{text}\nended with {code:?}, not {codes:?}");
    text
}
