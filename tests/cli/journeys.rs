//! Proves: the journeys of an operator work as the documentation prints them. Every command below is taken out of a
//! document by its first words, the rest of it comes from there; what a test must put in the place of something is in
//! [`PUT_IN_PLACE`], and nothing else is changed.
//!
//! Here: import, connect, monitor, audit proof, exits, host migration, uninstall. Which test is which journey, and what of it is
//! not executed, is in `docs/journeys.md`.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::auditor::Chain;
use holdfast_tests::documented::{self, shell_output};
use holdfast_tests::harness::{binary, workspace};
use holdfast_tests::http::once;
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

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The command that begins so, as the document prints it, with what is this test's own in its place.
#[track_caller]
fn printed(document: &str, begins: &str) -> String {
    let line = documented::printed(document, begins);
    PUT_IN_PLACE.iter().fold(line, |line, (printed, own)| line.replace(printed, own))
}

/// A machine of an operator: a folder in which commands are typed.
pub(crate) struct Machine {
    folder: TempDir,
    network: &'static str,
    /// Of the signing API, the metrics and the switcher: those of the documentation belong to whoever runs this test.
    pub(crate) ports: [u16; 3],
    server: Option<Child>,
}

impl Machine {
    fn new() -> Self {
        Self::of("hoodi")
    }

    /// One for a network.
    pub(crate) fn of(network: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bin")).expect("a folder");
        std::os::unix::fs::symlink(binary(), folder.path().join("bin/holdfast")).expect("the program on the path");
        Self { folder, network, ports: [free_port(), free_port(), free_port()], server: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As typed, in this folder; ports of its own, so that several machines are one.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").expect("a path");
        command
            .args(["-euc", line])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("HOLDFAST_NETWORK_NAME", self.network)
            .env("HOLDFAST_HTTP_LISTEN", format!("127.0.0.1:{}", self.ports[0]))
            .env("HOLDFAST_METRICS_LISTEN", format!("127.0.0.1:{}", self.ports[1]))
            .env("HOLDFAST_SWITCHER_LISTEN", format!("127.0.0.1:{}", self.ports[2]))
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
        self.serves_until(&printed(document, begins), "holdfast status --ready");
    }

    /// Types a command that keeps running, and waits until another one succeeds.
    #[track_caller]
    pub(crate) fn serves_until(&mut self, line: &str, ready: &str) {
        println!("$ {line} &");
        let log = std::fs::File::create(self.at("log")).expect("a log");
        let errors = log.try_clone().expect("a log");
        // The signer itself, so that it is the signer that ends with this process.
        let mut command = self.command(&format!("exec {line}"));
        self.server = Some(command.stdout(log).stderr(errors).process_group(0).spawn().expect("bash starts"));
        let end = Instant::now() + LIMIT;
        while !self.command(ready).output().expect("bash starts").status.success() {
            let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < end, "{line}: never ready:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    fn kills(&mut self) {
        let mut child = self.server.take().expect("it serves");
        child.kill().expect("SIGKILL is delivered");
        child.wait().expect("it is reaped");
    }

    pub(crate) fn stops(&mut self) {
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

    moves_a_key(&mut machine, &keys[0]);

    // Away with it: the record stays.
    machine.types("docs/runbooks/uninstall.md", "holdfast backup create");
    machine.types("docs/runbooks/uninstall.md", "holdfast audit export --format jsonl");
    let consistency = printed("docs/audit.md", "audit consistency");
    shell_output(&mut machine.command(&format!("holdfast {consistency}")));
    let last = shell_output(&mut machine.command("holdfast audit verify last.jsonl --checkpoint-key checkpoint-key"));
    assert!(last.contains("3 signed"), "the exits are not in the evidence: {last}");
    assert!(machine.at("backup/manifest.json").is_file() && machine.at("holdfast-data/holdfast.db").is_file());
}

/// Asks a running signer of hoodi for an attestation; gives status and reason.
fn attests(machine: &Machine, key: &TestKey) -> (u16, String) {
    let hoodi = "212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f";
    let root = hex::decode(hoodi).expect("digits").try_into().expect("32 bytes");
    let chain = Chain { version: [0x60, 0, 0x09, 0x10], genesis_validators_root: root };
    let (body, _) = chain.attestation(100_000 * 32, 99_999, 100_000, 1);
    let path = format!("/api/v1/eth2/sign/{}", key.public);
    let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
    let address = ([127, 0, 0, 1], machine.ports[0]).into();
    let answer = once(address, "POST", &path, &headers, body.to_string().as_bytes()).expect("an answer");
    (answer.status, answer.reason())
}

/// The runbook about moving a key, to a second machine; then everything by which the first could sign with it again.
fn moves_a_key(old: &mut Machine, key: &TestKey) {
    const RUNBOOK: &str = "docs/runbooks/move-a-key.md";
    shell_output(&mut old.command("cp -r holdfast-data yesterday"));
    let export = printed(RUNBOOK, "holdfast keys export PUBKEY").replace("PUBKEY", &key.public);
    shell_output(&mut old.command(&export));
    let new = Machine::new();
    shell_output(old.command("cp -r out password.txt \"$NEW\"").env("NEW", new.folder.path()));
    new.types(RUNBOOK, "holdfast keys import --from out");
    let marks = new.types(RUNBOOK, "holdfast slashing status");
    assert!(marks.contains(&key.public[..10]), "{marks}");

    // What the old signer knew, taken in once more, lowers nothing.
    shell_output(&mut new.command("holdfast slashing fence"));
    let marks = |machine: &Machine| {
        let said = shell_output(&mut machine.command("holdfast --json slashing status"));
        serde_json::from_str::<serde_json::Value>(&said).expect("JSON")["keys"].clone()
    };
    let fenced = marks(&new);
    shell_output(&mut new.command("holdfast slashing import --from out/slashing_protection.json"));
    assert_eq!(marks(&new), fenced, "an older history lowered marks");

    // The old signer signs nothing with it, before it is deleted there and after.
    old.serves("README.md", "holdfast --network hoodi serve");
    assert_eq!(attests(old, key), (412, "key_disabled".to_owned()));
    let listed = shell_output(&mut old.command("holdfast --json keys list"));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert!(listed.to_string().contains(&key.public), "{listed}");
    let delete = printed(RUNBOOK, "holdfast keys delete").replace("PUBKEY", &key.public);
    shell_output(&mut old.command(&delete));
    assert_eq!(attests(old, key).0, 404);
    old.stops();
    // It is a tombstone now, and does not come back by itself.
    let again =
        old.command(&printed("README.md", "holdfast --network hoodi keys import")).output().expect("bash starts");
    let said = String::from_utf8_lossy(&again.stdout).into_owned() + &String::from_utf8_lossy(&again.stderr);
    assert!(!again.status.success() && said.contains("tombstone"), "{said}");

    // Nor does the whole machine as it was yesterday, when the key was in force.
    shell_output(&mut old.command("mv holdfast-data today && cp -r yesterday holdfast-data"));
    let look = old.command("holdfast slashing status").output().expect("bash starts");
    assert_eq!(look.status.code(), Some(4), "{}", String::from_utf8_lossy(&look.stdout));
    let lives = format!("curl --fail --silent http://127.0.0.1:{}/livez", old.ports[1]);
    old.serves_until(&printed("README.md", "holdfast --network hoodi serve"), &lives);
    wait_until("keys are loaded", || attests(old, key).1 != "keys_loading");
    // Behind its marks of the day before, or frozen: whichever is looked at first.
    let (status, reason) = attests(old, key);
    assert!(status == 412 || (status, reason.as_str()) == (503, "protection_frozen"), "{status} {reason}");
    let runs = old.command("holdfast status").output().expect("bash starts");
    assert_eq!(runs.status.code(), Some(4), "{}", String::from_utf8_lossy(&runs.stdout));
    old.kills();
    shell_output(&mut old.command("rm -r holdfast-data && mv today holdfast-data"));
}
