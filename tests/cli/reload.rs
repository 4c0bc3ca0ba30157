//! `holdfast reload`: what changes is printed with both values, what needs a restart is named, a dry run and a mistake change
//! nothing, and what is done is in the journal first. SIGHUP answers the same into the log.

use holdfast_tests::finished::{Finished, run};
use holdfast_tests::harness::{Server, holdfast_ok};
use holdfast_tests::journal;
use holdfast_tests::world::{CHAIN, World};
use serde_json::{Value, json};

use crate::policy::{config, hang_up};

/// SHA-256 of `token`.
const TOKEN: &str = "3c469e9d6c5875d37a43f353d4f88e61fcf812c66eee3457465a40b0da4153e0";
/// `vc-1` and that token, for HTTP.
const BASIC: (&str, &str) = ("Authorization", "Basic dmMtMTp0b2tlbg==");

/// The command, which knows where the server is and not what is configured there.
fn reload(world: &World, arguments: &[&str]) -> Finished {
    let mut all = vec!["reload"];
    all.extend(arguments);
    run(&world.with(&all))
}

fn number(server: &Server, name: &str) -> f64 {
    let text = server.get_metrics("/metrics").text();
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().expect("a number").parse().expect("a number")
}

#[test]
fn what_changes_is_printed_then_done_and_journaled_first() {
    let world = World::new(1);
    let path = config(world.path(), "[telemetry]\nlog = \"info\"\n");
    let server = world.server().global("--config").global(&path).start();
    server.wait_ready();
    let key = &world.keys[0].public;
    let ask = |headers: &[(&str, &str)]| {
        let body = CHAIN.randao(4).0.to_string();
        let path = format!("/api/v1/eth2/sign/{key}");
        holdfast_tests::http::once(server.http_addr(), "POST", &path, headers, body.as_bytes())
            .expect("an answer")
            .status
    };
    let json_body = ("Content-Type", "application/json");
    assert_eq!(ask(&[json_body]), 200);
    reload(&world, &["--dry-run"]).expect(0, &["dry run: nothing would change"]);

    let rule = "[[policy]]\neffect = \"allow\"\ncallers = [\"vc-1\"]\noperations = [\"randao\"]\n";
    let caller = format!("[[callers]]\nname = \"vc-1\"\nbasic_token_sha256 = [\"{TOKEN}\"]\n");
    let waits = "[http]\nmax_requests = 77\n[network]\nbeacon = [\"http://u:hunter2@node:5052\"]\n";
    config(world.path(), &format!("[telemetry]\nlog = \"debug\"\n{waits}{caller}{rule}"));
    let dry = reload(&world, &["--dry-run"]).expect(
        0,
        &[
            "would change without a restart",
            "telemetry.log: \"info\" -> \"debug\"",
            "callers[vc-1]: - -> ",
            "policy",
            "needs a restart; until then the old value stays\n",
            "http.max_requests: 16384 -> 77",
            "node:5052",
        ],
    );
    assert!(!dry.text().contains("hunter2"), "{}", dry.text());
    assert_eq!(ask(&[json_body]), 200, "a dry run changes nothing");
    assert!(!server.log().contains("DEBUG"), "{}", server.log());
    let dry = reload(&world, &["--dry-run", "--json"]).expect(0, &[]).lines().remove(0);

    let done = reload(&world, &["--json"]).expect(0, &[]).lines().remove(0);
    assert_eq!((&dry["changed"], &dry["needs_restart"]), (&done["changed"], &done["needs_restart"]));
    assert_eq!(dry["configuration_sha256"], done["configuration_sha256"]);
    assert_eq!((&dry["dry_run"], &done["dry_run"]), (&Value::Bool(true), &Value::Bool(false)));
    let log_level = json!({ "setting": "telemetry.log", "old": "\"info\"", "new": "\"debug\"" });
    assert!(done["changed"].as_array().expect("a list").contains(&log_level), "{done}");
    assert_eq!(
        (ask(&[json_body]), ask(&[json_body, BASIC])),
        (401, 200),
        "the caller of the configuration counts at once"
    );
    assert!(server.log().contains("\"level\":\"DEBUG\""), "{}", server.log());
    let digest = done["configuration_sha256"].as_str().expect("a digest");
    assert!((number(&server, &format!("holdfast_configuration_digest{{sha256=\"{digest}\"}}")) - 1.0).abs() < 0.1);
    assert!((number(&server, "holdfast_configuration_restart_needed_settings") - 2.0).abs() < 0.1);
    assert!((number(&server, "holdfast_configuration_reloads_total{result=\"done\"}") - 1.0).abs() < 0.1);
    assert!(number(&server, "holdfast_configuration_reload_success_timestamp_seconds") > 1e9);

    // Once more there is nothing to change, and the same still waits.
    let again = reload(&world, &["--json"]).expect(0, &[]).lines().remove(0);
    assert_eq!((&again["changed"], &again["needs_restart"]), (&json!([]), &done["needs_restart"]));
    // The other caller goes by signal, and the log says it.
    config(world.path(), rule);
    hang_up(&server, "SIGHUP: callers[vc-1] is in force", 1);
    hang_up(&server, "SIGHUP: the configuration was read again", 2);
    assert_eq!(ask(&[json_body, BASIC]), 401, "nobody without proof comes in although no caller is left");
    assert!(server.stop().0.success());

    let events = journal::read(&world.data_dir()).events;
    let of = |kind: &str| {
        events.iter().position(|event| event.kind().as_str() == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    let reloaded = &events[of("admin.configuration.reloaded")];
    assert!(of("admin.configuration.reloaded") < of("policy.replaced"), "before it takes effect");
    assert!(reloaded.caller().as_str().starts_with("uid/"), "{reloaded:?}");
    assert!(reloaded.why().contains("callers[vc-1]") && reloaded.why().contains("SHA-256"), "{reloaded:?}");
    let by_signal = events.iter().filter(|event| event.caller().as_str() == "sighup");
    assert!(by_signal.filter(|event| event.kind().as_str() == "admin.configuration.reloaded").count() >= 2);
}

#[test]
fn a_mistake_anywhere_changes_nothing_and_is_named_with_its_place() {
    let world = World::new(1);
    let group = world.path().join("keys.txt");
    std::fs::write(&group, format!("{}\n", world.keys[0].public)).expect("a file");
    let in_group = format!("[[groups]]\nname = \"g\"\nfile = \"{}\"\n", group.display());
    let rule = "[[policy]]\neffect = \"allow\"\ngroups = [\"g\"]\noperations = [\"signing\"]\n";
    let good = format!("{in_group}{rule}");
    let path = config(world.path(), &good);
    let server = world.server().global("--config").global(&path).start();
    server.wait_ready();
    let signs = || server.sign(&world.keys[0].public, &CHAIN.randao(4).0).status;
    assert_eq!(signs(), 200);

    // Each beside a rule that would refuse everything.
    let shut = "[[policy]]\neffect = \"deny\"\noperations = [\"signing\"]\n";
    let twice = "[[callers]]\nname = \"a\"\nunix_uids = [1]\n[[callers]]\nname = \"b\"\nunix_uids = [1]\n";
    for (mistake, place) in [
        ("[http]\nlistn = \"x\"\n", "holdfast.toml:2"),
        ("[[policy]]\neffect = \"deny\"\noperations = [\"everything\"]\n", "holdfast.toml:3"),
        ("[telemetry]\nlog = \"holdfast=loud\"\n", "telemetry.log"),
        (twice, "user 1"),
    ] {
        config(world.path(), &format!("{mistake}{shut}{good}"));
        for arguments in [&["--dry-run"][..], &[]] {
            reload(&world, arguments).expect(2, &["nothing changes", place]);
        }
        assert_eq!(signs(), 200, "{mistake}");
    }
    hang_up(&server, "SIGHUP: nothing changes", 1);
    assert!((number(&server, "holdfast_configuration_reloads_total{result=\"failed\"}") - 5.0).abs() < 0.1);

    // A mistake in a file of keys has its own line; a good change of it is told although the configuration is the same.
    config(world.path(), &good);
    std::fs::write(&group, "# none\nnonsense\n").expect("a file");
    reload(&world, &[]).expect(2, &["keys.txt:2", "nothing changes"]);
    assert_eq!(signs(), 200);
    std::fs::write(&group, "# none\n").expect("a file");
    reload(&world, &[]).expect(0, &["policy (SHA-256, with the files of groups): "]);
    assert_eq!(signs(), 403);

    // Callers of the file and of the configuration are judged together.
    config(world.path(), &format!("[[callers]]\nname = \"vc-1\"\nunix_uids = [7]\n{good}"));
    holdfast_ok(&world.with(&["callers", "add", "vc-1", "--basic"]));
    reload(&world, &[]).expect(2, &["vc-1", "callers.toml", "nothing changes"]);
    assert!(server.stop().0.success());
    let events = journal::read(&world.data_dir()).events;
    let reloaded = events.iter().filter(|event| event.kind().as_str() == "admin.configuration.reloaded").count();
    assert_eq!(reloaded, 1, "what failed was not begun");
    reload(&world, &[]).expect(3, &["is `holdfast serve` running"]);
}

#[test]
fn an_administrator_needs_leave_for_what_a_reload_changes() {
    let world = World::new(0);
    let uid =
        String::from_utf8(std::process::Command::new("id").arg("-u").output().expect("id").stdout).expect("a number");
    let named = format!("[[callers]]\nname = \"ops\"\nunix_uids = [{}]\n", uid.trim());
    let rule = |operations: &str| {
        format!("[[policy]]\neffect = \"allow\"\ncallers = [\"ops\"]\noperations = [{operations}]\n")
    };
    let path = config(world.path(), &(named.clone() + &rule("\"admin.status.write\"")));
    let server = world.server().global("--config").global(&path).start();
    server.wait_ready();
    let debug = "[telemetry]\nlog = \"debug\"\n";
    config(world.path(), &(debug.to_owned() + &named + &rule("\"admin.*.write\"")));
    // The rules would change with it, which it may not.
    reload(&world, &[]).expect(1, &["admin.policy.write"]);
    reload(&world, &["--dry-run"]).expect(1, &["admin.status.read"]);
    config(world.path(), &(debug.to_owned() + &named + &rule("\"admin.status.write\"")));
    reload(&world, &[]).expect(0, &["telemetry.log"]);
    config(world.path(), &(named + &rule("\"admin.status.read\"")));
    hang_up(&server, "SIGHUP: the configuration was read again", 1);
    reload(&world, &["--dry-run"]).expect(0, &["nothing would change"]);
    reload(&world, &[]).expect(1, &["admin.status.write"]);
    assert!(server.stop().0.success());
}
