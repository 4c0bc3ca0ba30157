//! Proves: the journeys of an operator work as the documentation prints them. Every command below is taken out of a
//! document by its first words, the rest of it comes from there; what a test must put in the place of something is in
//! [`PUT_IN_PLACE`], and nothing else is changed.
//!
//! Elsewhere, also with printed commands or the real thing: packages and `install.sh` come and go (`deploy/packages.rs`),
//! the backup runbook (`tests/ceremony/backup.rs`), restarts in turn under load with the documented nginx and a real
//! validator client (`tests/e2e`), failing nodes (`tests/real_nodes`), the road from a bare Debian (`tests/bare_root/run`).

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::documented::shell_output;
use holdfast_tests::harness::{binary, workspace};
use holdfast_tests::keys::TestKey;
use holdfast_tests::postgres::free_port;
use tempfile::TempDir;

/// What stands in the documentation for something of the reader's own, and what this test puts there.
const PUT_IN_PLACE: [(&str, &str); 8] = [
    // The list of the exits names index and key of everybody, so no node is asked.
    ("--beacon http://127.0.0.1:5052 ", ""),
    ("--batch N --index I --to FILE", "--batch 1 --index 0 --to proof.jsonl"),
    ("--format jsonl --to FILE", "--format jsonl --to last.jsonl"),
    ("OLD NEW", "journal.jsonl last.jsonl"),
    ("--to DIRECTORY", "--to backup"),
    // A tool's answer to the question for a password, as `keys export` takes it without a terminal.
    ("--to out --i-", "--to out --password-file password.txt --i-"),
    (" --password-file pw", ""),
    // A yes on the terminal.
    ("keys delete PUBKEY", "keys delete --yes PUBKEY"),
];

/// Limit for a server to be ready.
const LIMIT: Duration = Duration::from_secs(30);

/// The command that begins so, as the document prints it in a block or within a line.
#[track_caller]
fn printed(document: &str, begins: &str) -> String {
    let text = std::fs::read_to_string(workspace().join(document)).expect("the document");
    let of_line = |line: &str| line.trim().split("  #").next().unwrap_or_default().trim().to_owned();
    let found = text
        .lines()
        .map(of_line)
        .find(|line| line.starts_with(begins))
        .or_else(|| text.split('`').skip(1).step_by(2).map(of_line).find(|code| code.starts_with(begins)));
    let found = found.unwrap_or_else(|| panic!("{document} prints no command that begins with {begins:?}"));
    PUT_IN_PLACE.iter().fold(found, |line, (printed, own)| line.replace(printed, own))
}

/// A machine of an operator: a folder in which commands are typed.
struct Machine {
    folder: TempDir,
    /// Of the signing API and of the metrics: those of the documentation belong to whoever runs this test.
    ports: [u16; 2],
    server: Option<Child>,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("a folder");
        std::os::unix::fs::symlink(binary(), folder.path().join("bin/holdfast")).expect("the program on the path");
        Self { folder, ports: [free_port(), free_port()], server: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As typed, in this folder; ports of its own, so that several machines are one.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").expect("a path");
        command
            .args(["-euc", line])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("HOLDFAST_NETWORK_NAME", "hoodi")
            .env("HOLDFAST_HTTP_LISTEN", format!("127.0.0.1:{}", self.ports[0]))
            .env("HOLDFAST_METRICS_LISTEN", format!("127.0.0.1:{}", self.ports[1]))
            .env_remove("HOLDFAST_BIN")
            .stdin(Stdio::null());
        command
    }

    /// Types what a document prints.
    #[track_caller]
    fn types(&self, document: &str, begins: &str) -> String {
        let line = printed(document, begins);
        println!("$ {line}");
        shell_output(&mut self.command(&line))
    }

    /// Types a command that keeps running.
    #[track_caller]
    fn serves(&mut self, document: &str, begins: &str) {
        let line = printed(document, begins);
        println!("$ {line} &");
        let log = std::fs::File::create(self.at("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        // The signer itself, so that it is the signer that ends with this process.
        let mut command = self.command(&format!("exec {line}"));
        self.server = Some(command.stdout(log).stderr(errors).process_group(0).spawn().expect("bash starts"));
        let end = Instant::now() + LIMIT;
        while !self.command("holdfast status --ready").output().expect("bash starts").status.success() {
            let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < end, "{line}: never ready:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stops(&mut self) {
        let mut child = self.server.take().expect("it serves");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM is delivered");
        let status = child.wait().expect("it ends");
        assert!(status.success(), "the signer ended with {status}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.server.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Keystores and their password, as a deposit tool leaves them.
fn keystores(folder: &Path, keys: &[TestKey]) {
    let validators = folder.join("validator_keys");
    std::fs::create_dir(&validators).expect("a folder");
    for key in keys {
        key.write_keystore(&validators, "correct horse");
    }
    let password = folder.join("password.txt");
    std::fs::write(&password, "correct horse").expect("a password");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, private).expect("chmod");
}

/// The address in what `connect` prints.
fn address(text: &str) -> String {
    let from = text.find("http://127.0.0.1:").unwrap_or_else(|| panic!("no address in {text}"));
    text[from..].chars().take_while(|c| c.is_ascii_alphanumeric() || ":/.".contains(*c)).collect()
}

#[test]
fn an_operator_gets_from_import_to_uninstall_with_what_is_printed() {
    let keys: Vec<TestKey> = (0..3).map(TestKey::interop).collect();
    let mut machine = Machine::new();
    keystores(machine.folder.path(), &keys);
    let list: Vec<String> = keys.iter().zip(700_000..).map(|(key, index)| format!("{index},{}", key.public)).collect();
    std::fs::write(machine.at("validators.txt"), list.join("\n")).expect("a list");

    // Import, start, connect.
    machine.types("README.md", "holdfast --network hoodi keys import");
    machine.serves("README.md", "holdfast --network hoodi serve");
    let all = ["lighthouse", "prysm", "teku", "nimbus", "lodestar", "grandine", "vero"];
    let line = printed("README.md", "holdfast connect lighthouse");
    let documented = std::fs::read_to_string(workspace().join("README.md")).expect("the README");
    for client in all {
        assert!(documented.contains(client), "the README does not name {client}");
        let line = line.replace("lighthouse", client);
        let signer = address(&shell_output(&mut machine.command(&line)));
        let signer = signer.trim_end_matches('/');
        let served = shell_output(&mut machine.command(&format!("curl --fail -s {signer}/api/v1/eth2/publicKeys")));
        assert!(keys.iter().all(|key| served.contains(&key.public)), "{client}: {signer} serves {served}");
    }

    // Watch.
    let status = machine.types("docs/monitoring.md", "holdfast status");
    assert!(status.contains("hoodi"), "{status}");
    assert!(!machine.types("docs/monitoring.md", "holdfast top --once").is_empty());

    // Evidence, for somebody who has the export and the key alone.
    machine.types("docs/audit.md", "holdfast audit key");
    machine.types("docs/audit.md", "holdfast audit export --to");
    let verified =
        machine.types("docs/audit.md", "holdfast audit verify journal.jsonl --checkpoint-key checkpoint-key");
    println!("{verified}");
    let prove = printed("docs/audit.md", "audit prove --batch");
    shell_output(&mut machine.command(&format!("holdfast {prove}")));
    shell_output(&mut machine.command("holdfast audit verify proof.jsonl --checkpoint-key checkpoint-key"));

    // Exits, with the server stopped.
    machine.stops();
    machine.types("docs/exits.md", "holdfast --beacon http://127.0.0.1:5052 exits sign");
    let exits = std::fs::read_dir(machine.at("exits")).expect("the exits").count();
    assert_eq!(exits, keys.len(), "exits");
    machine.types("docs/exits.md", "holdfast exits verify exits --from");

    moves_a_key(&machine, &keys[0]);

    // Away with it: the record stays.
    machine.types("docs/runbooks/uninstall.md", "holdfast backup create");
    machine.types("docs/runbooks/uninstall.md", "holdfast audit export --format jsonl");
    let consistency = printed("docs/audit.md", "audit consistency");
    shell_output(&mut machine.command(&format!("holdfast {consistency}")));
    let last = shell_output(&mut machine.command("holdfast audit verify last.jsonl --checkpoint-key checkpoint-key"));
    assert!(last.contains("3 signed"), "the exits are not in the evidence: {last}");
    assert!(machine.at("backup/manifest.json").is_file() && machine.at("holdfast-data/holdfast.db").is_file());
}

/// The runbook about moving a key, to a second machine.
fn moves_a_key(old: &Machine, key: &TestKey) {
    const RUNBOOK: &str = "docs/runbooks/move-a-key.md";
    let export = printed(RUNBOOK, "holdfast keys export PUBKEY").replace("PUBKEY", &key.public);
    shell_output(&mut old.command(&export));
    let new = Machine::new();
    shell_output(old.command("cp -r out password.txt \"$NEW\"").env("NEW", new.folder.path()));
    new.types(RUNBOOK, "holdfast keys import --from out");
    let marks = new.types(RUNBOOK, "holdfast slashing status");
    assert!(marks.contains(&key.public[..10]), "{marks}");
    let listed = shell_output(&mut old.command("holdfast --json keys list"));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert!(listed.to_string().contains(&key.public), "{listed}");
    let delete = printed(RUNBOOK, "holdfast keys delete").replace("PUBKEY", &key.public);
    shell_output(&mut old.command(&delete));
    // Here it is a tombstone now, and does not come back by itself.
    let again =
        old.command(&printed("README.md", "holdfast --network hoodi keys import")).output().expect("bash starts");
    let said = String::from_utf8_lossy(&again.stdout).into_owned() + &String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && said.contains("tombstone"), "{said}");
}
