//! `holdfast policy`: what is hardly meant so, which rule decides, and a change while the server runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::Server;
use holdfast_tests::world::{CHAIN, World};

pub(crate) fn config(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("holdfast.toml");
    std::fs::write(&path, text).expect("a configuration");
    path
}

fn policy(path: &Path, arguments: &[&str]) -> Finished {
    let path = path.display().to_string();
    let mut all = vec!["--config", &path, "--network", "hoodi", "policy"];
    all.extend(arguments);
    run(&all)
}

const RULES: &str = "[[policy]]\nname = \"duties\"\neffect = \"allow\"\ncallers = [\"vc-*\"]\noperations = [\"duties\", \"list\"]\n\
    [[policy]]\nname = \"desk\"\neffect = \"allow\"\ncallers = [\"desk\"]\nmeans = [\"certificate\"]\noperations = [\"exit\"]\n\
    [[callers]]\nname = \"vc-1\"\nunix_uids = [1001]\n[[callers]]\nname = \"desk\"\ncertificate_subjects = [\"desk\"]\n";

/// SIGHUP, until a line has been logged so many times.
pub(crate) fn hang_up(server: &Server, line: &str, times: usize) {
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    until_said(server, line, times);
}

/// The log is read beside the test: a line may come after the answer that it is about.
fn until_said(server: &Server, line: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while server.log().matches(line).count() < times {
        assert!(Instant::now() < end, "no {line:?} in\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn check_says_what_is_hardly_meant() {
    let folder = tempfile::tempdir().expect("a folder");
    policy(&config(folder.path(), ""), &["check"]).expect(0, &["whoever may ask may do everything"]);
    policy(&config(folder.path(), RULES), &["check"]).expect(0, &["2 rules, as they should be"]);
    let shadowed = format!("{RULES}[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\n");
    let path = config(folder.path(), &shadowed);
    policy(&path, &["check"])
        .expect(1, &["holdfast.toml:6: warning: rule \"desk\": it never applies: `rule 3` denies all"]);
    let value = policy(&path, &["check", "--json"]).expect(1, &[]).lines().remove(0);
    assert_eq!((&value["ok"], &value["rules"], &value["warnings"]), (&false.into(), &3.into(), &1.into()));
    let findings = value["findings"].as_array().expect("findings");
    let warning = findings.iter().find(|one| one["severity"] == "warning").expect("a warning");
    assert_eq!((&warning["line"], &warning["rule"]), (&6.into(), &"desk".into()));
    let nobody = RULES.replace("name = \"desk\"\ncert", "name = \"desk-1\"\ncert");
    policy(&config(folder.path(), &nobody), &["check"])
        .expect(1, &["warning: rule \"desk\": no caller has the name `desk`"]);
    let misspelt = RULES.replace("\"duties\", \"list\"", "\"dutys\"");
    policy(&config(folder.path(), &misspelt), &["check"]).expect(2, &["holdfast.toml:5: ", "did you mean `duties`?"]);
}

#[test]
fn explain_says_which_rule_decides() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = config(folder.path(), RULES);
    let explain = |arguments: &[&str]| {
        let mut all = vec!["explain"];
        all.extend(arguments);
        policy(&path, &all)
    };
    explain(&["--caller", "vc-1", "--op", "block"]).expect(0, &["allowed: block for vc-1: rule \"duties\" allows it"]);
    explain(&["--caller", "vc-1", "--op", "exit"]).expect(1, &["refused: voluntary_exit for vc-1: no rule allows it"]);
    explain(&["--caller", "desk", "--op", "exit"])
        .expect(1, &["refused: voluntary_exit for desk (basic)", "(certificate): rule \"desk\" allows"]);
    explain(&["--caller", "desk", "--op", "exit", "--means", "certificate"]).expect(0, &["allowed"]);
    explain(&["--caller", "desk", "--op", "exti"]).expect(2, &["did you mean `exit`?"]);
    explain(&["--caller", "d k", "--op", "exit"]).expect(2, &["a caller's name"]);
    explain(&["--caller", "vc-1"]).expect(2, &["--op"]);
    let body = folder.path().join("body.json");
    std::fs::write(&body, CHAIN.block(9, 1).0.to_string()).expect("a request");
    let body = body.display().to_string();
    explain(&["--caller", "vc-1", "--request", &body]).expect(0, &["allowed: block for vc-1"]);
    explain(&["--caller", "x", "--request", &body, "--json"]).expect(1, &["\"allowed\":false"]);
    explain(&["--request", &body]).expect(2, &["give --caller"]);
}

const IN_FORCE: &str = "the policy of the configuration is in force";

#[test]
fn rules_change_while_the_server_runs_and_a_mistake_changes_nothing() {
    let world = World::new(1);
    let path = config(world.path(), "");
    let server = world.server().global("--config").global(&path).start();
    server.wait_ready();
    let key = world.keys[0].public.clone();
    let ask = || server.sign(&key, &CHAIN.randao(4).0);
    assert_eq!(ask().status, 200, "without rules everything is allowed");
    let hang_up = |line: &str, times: usize| hang_up(&server, line, times);
    config(world.path(), "[[policy]]\neffect = \"allow\"\ncallers = [\"http\"]\noperations = [\"attesting\"]\n");
    hang_up(IN_FORCE, 1);
    let refused = ask();
    assert_eq!((refused.status, refused.reason().as_str()), (403, "policy_denied"), "{}", refused.text());
    assert!(refused.text().contains("randao for the caller http: no rule allows it"), "{}", refused.text());
    config(world.path(), "[[policy]]\neffect = \"allow\"\noperations = [\"everything\"]\n");
    hang_up("SIGHUP: nothing changes", 1);
    assert!(server.log().contains("holdfast.toml:"), "the place of the mistake is named: {}", server.log());
    assert_eq!(ask().status, 403);
    let rated = "[[policy]]\neffect = \"allow\"\noperations = [\"randao\"]\nper_second = 1\nburst = 2\n";
    config(world.path(), rated);
    hang_up(IN_FORCE, 2);
    let mut answers: Vec<u16> = (0..20).map(|_| ask().status).collect();
    answers.sort_unstable();
    assert_eq!((answers[0], answers[19]), (200, 429), "{answers:?}");
    assert!(server.stop().0.success());
}

#[test]
fn levels_change_while_the_server_runs_and_what_needs_a_restart_is_named() {
    let world = World::new(1);
    let path = config(world.path(), "[telemetry]\nlog = \"info\"\n");
    let server = world.server().global("--config").global(&path).start();
    server.wait_ready();
    let hang_up = |line: &str, times: usize| hang_up(&server, line, times);
    let files_read = "SIGHUP: the configuration was read again";
    let level = "\"level\":\"DEBUG\"";
    assert!(!server.log().contains(level), "{}", server.log());
    // A level that is none, beside a setting that would be taken over: neither is.
    config(world.path(), "[telemetry]\nlog = \"holdfast=loud\"\n[[policy]]\neffect = \"deny\"\n");
    hang_up("SIGHUP: nothing changes", 1);
    assert_eq!(server.sign(&world.keys[0].public, &CHAIN.randao(4).0).status, 200);
    let secret = "[network]\nbeacon = [\"http://u:hunter2@node:5052\"]\n";
    config(world.path(), &format!("[telemetry]\nlog = \"debug\"\n[http]\nmax_requests = 77\n{secret}"));
    hang_up(files_read, 1);
    // Signing logs a line of that level.
    assert_eq!(server.sign(&world.keys[0].public, &CHAIN.randao(4).0).status, 200);
    for part in ["telemetry.log is in force", level, "this setting needs a restart", "http.max_requests", "16384", "77"]
    {
        until_said(&server, part, 1);
    }
    assert!(server.log().contains("node:5052") && !server.log().contains("hunter2"), "{}", server.log());
    // What waits is named each time, what is in force is not.
    hang_up(files_read, 2);
    assert_eq!(server.log().matches("telemetry.log is in force").count(), 1);
    assert!(server.log().matches("http.max_requests").count() >= 2);
    assert!(server.stop().0.success());
}
