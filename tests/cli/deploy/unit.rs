//! The systemd unit: its words are known, it gives up what it should, and the program works with what is left.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use holdfast_tests::harness::{binary, workspace};
use holdfast_tests::http::once;
use holdfast_tests::world::World;

use super::{succeed, text, tool};

/// What `systemd-analyze security` may find at most, in tenths; 0 is nothing, 100 everything.
const EXPOSURE: &str = "--threshold=18";

/// The signer, a vault of its own user, a switcher without keys.
const UNITS: [&str; 3] = ["holdfast.service", "holdfast-vault.service", "holdfast-switcher.service"];

fn unit(name: &str) -> String {
    std::fs::read_to_string(workspace().join("deploy/systemd").join(name)).expect("the unit is readable")
}

#[test]
fn the_units_and_drop_ins_are_understood() {
    let folder = tempfile::tempdir().expect("a directory");
    let drop_ins = folder.path().join("holdfast.service.d");
    std::fs::create_dir(&drop_ins).expect("a directory");
    for name in UNITS {
        let runs_here = unit(name).replace("/usr/bin/holdfast", &binary().display().to_string());
        std::fs::write(folder.path().join(name), runs_here).expect("a file");
    }
    for entry in std::fs::read_dir(workspace().join("deploy/systemd/drop-ins")).expect("drop-ins") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, drop_ins.join(path.file_name().expect("a name"))).expect("a copy");
    }
    let output = succeed(
        tool("systemd-analyze", "systemd")
            .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
            .args(["verify", "--recursive-errors=no"])
            .args(UNITS),
    );
    // A word that is not known is only warned of.
    let ours: Vec<String> = text(&output).lines().filter(|line| line.contains("holdfast")).map(str::to_owned).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn the_units_give_up_what_they_do_not_need() {
    for name in UNITS {
        succeed(
            tool("systemd-analyze", "systemd")
                .args(["security", "--offline=true", "--no-pager", EXPOSURE])
                .arg(workspace().join("deploy/systemd").join(name))
                .env("SYSTEMD_COLORS", "0"),
        );
        assert!(unit(name).lines().any(|found| found == "LimitCORE=0"), "{name} lets memory be dumped");
        // What is away may stay away for longer than systemd's own limit allows.
        assert!(unit(name).lines().any(|found| found == "StartLimitIntervalSec=0"), "{name} is given up by systemd");
    }
    // What takes SIGHUP can be reloaded; a vault reads no configuration.
    for name in ["holdfast.service", "holdfast-switcher.service"] {
        let reloads = |line: &str| line == "ExecReload=/bin/kill -HUP $MAINPID";
        assert!(unit(name).lines().any(reloads), "systemctl reload does nothing with {name}");
    }
    let signer = unit("holdfast.service");
    for line in ["LimitMEMLOCK=infinity", "KillMode=mixed", "Type=notify", "RestartPreventExitStatus=2 4"] {
        assert!(signer.lines().any(|found| found == line), "no {line} in the unit");
    }
}

/// A process under the unit's filter; killed when dropped.
struct Filtered(Child);

impl Drop for Filtered {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_units_system_calls_suffice() {
    let world = World::new(2);
    // Whatever a library misses it does without, or fails: with every protection asked for, the latter.
    for backend in ["in-process", "process"] {
        let mut command = Command::new("/usr/bin/python3");
        command
            .arg(workspace().join("tests/cli/deploy/under_filter.py"))
            .arg(workspace().join("deploy/systemd/holdfast.service"))
            .arg(binary())
            .args(world.with(&["--json", "serve", "--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]))
            .env("HOLDFAST_SIGNING_BACKEND", backend)
            .env("HOLDFAST_SIGNING_REQUIRE_PROTECTIONS", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut server = Filtered(command.spawn().expect("python3 starts"));
        let lines = BufReader::new(server.0.stdout.take().expect("a pipe")).lines();
        let ready = lines
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
            .find(|value| value["event"] == "ready")
            .unwrap_or_else(|| panic!("with {backend} it does not start under the unit's filter"));
        let address = ready["http"].as_str().and_then(|address| address.parse().ok()).expect("an address");
        assert_eq!(once(address, "GET", "/upcheck", &[], b"").expect("an answer").status, 200);
        let (body, _) = holdfast_tests::world::CHAIN.randao(7);
        let path = format!("/api/v1/eth2/sign/{}", world.keys[0].public);
        let answer = once(address, "POST", &path, &[("Content-Type", "application/json")], body.to_string().as_bytes());
        assert_eq!(answer.expect("an answer").status, 200, "with {backend}");
        let filters = std::fs::read_to_string(format!("/proc/{}/status", server.0.id())).expect("it runs");
        assert!(filters.contains("Seccomp:\t2") && filters.contains("NoNewPrivs:\t1"), "it runs without the filter");
    }
}

#[test]
fn a_credential_of_systemd_opens_the_data_key() {
    // As the drop-in hands it over: a file in $CREDENTIALS_DIRECTORY that only this user reads, named by a variable.
    let folder = tempfile::tempdir().expect("a directory");
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).expect("a directory");
    let passphrase = credentials.join("passphrase");
    std::fs::write(&passphrase, "correct horse battery staple\n").expect("a file");
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o400)).expect("chmod");
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o500)).expect("chmod");
    let drop_in = std::fs::read_to_string(workspace().join("deploy/systemd/drop-ins/passphrase.conf")).expect("a file");
    let (name, value) = drop_in
        .lines()
        .find_map(|line| line.strip_prefix("Environment=")?.split_once('='))
        .expect("the drop-in sets a variable");
    let value = value.replace("%d", &credentials.display().to_string());
    let data = folder.path().join("data").display().to_string();
    let run = |arguments: &[&str]| {
        let mut command = holdfast_tests::harness::command();
        command
            .args(["--data-dir", &data])
            .args(arguments)
            .env(name, &value)
            .env("HOLDFAST_KEYS_PROVIDER", "passphrase");
        succeed(&mut command)
    };
    run(&["kek", "init"]);
    assert!(text(&run(&["kek", "status"])).contains("passphrase"));
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o700)).expect("chmod");
}
