//! Callers: none, the first, tokens that are exchanged while all runs, Unix users, and what is open without any.

use std::os::unix::fs::PermissionsExt as _;

use holdfast_tests::finished::run;
use holdfast_tests::harness::Server;
use holdfast_tests::http::once;
use holdfast_tests::world::World;

use crate::stage::{curl, metric, wait_for};

const LIST: &str = "/api/v1/eth2/publicKeys";

/// `holdfast callers …`, with its JSON.
fn callers(world: &World, arguments: &[&str]) -> serde_json::Value {
    let mut all = vec!["--json", "callers"];
    all.extend(arguments);
    serde_json::from_str(&run(&world.with(&all)).expect(0, &[]).stdout).expect("JSON")
}

fn status(server: &Server, user: &str, path: &str) -> u16 {
    let url = format!("http://{user}{}{path}", server.http_addr());
    curl(std::path::Path::new("/"), &[&url]).status
}

fn token(value: &serde_json::Value, kind: &str) -> String {
    value[kind].as_str().unwrap_or_else(|| panic!("no {kind} in {value}")).to_owned()
}

#[test]
fn the_first_caller_closes_the_door_and_tokens_are_exchanged_while_all_runs() {
    let world = World::new(1);
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(status(&server, "", LIST), 200, "without callers, as ever");

    let first = token(&callers(&world, &["add", "vc-1"]), "basic_token");
    let stored = std::fs::read_to_string(world.data_dir().join("callers.toml")).expect("callers.toml");
    assert!(!stored.contains(&first), "only the hash is kept");
    let mode = std::fs::metadata(world.data_dir().join("callers.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    wait_for("the first caller", || status(&server, "", LIST) == 401);
    let old = format!("vc-1:{first}@");
    assert_eq!(status(&server, &old, LIST), 200);

    // Nothing but the health of the process is for everybody.
    let key = &world.keys[0].public;
    let sign = format!("/api/v1/eth2/sign/{key}");
    for (method, path, expected) in [
        ("GET", "/upcheck", 200),
        ("GET", "/healthcheck", 401),
        ("GET", LIST, 401),
        ("GET", "/api/v1/eth2/highWatermark", 401),
        ("GET", "/reload", 401),
        ("POST", "/reload", 401),
        ("POST", "/api/v1/eth2/sign", 401),
        ("POST", &sign, 401),
        ("GET", "/eth/v1/keystores", 401),
        ("DELETE", "/eth/v1/keystores", 401),
        ("POST", "/upcheck", 401),
    ] {
        let answer = once(server.http_addr(), method, path, &[], b"").expect("an answer");
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
        if expected == 401 && !path.starts_with("/eth/") {
            assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"holdfast\", charset=\"UTF-8\""));
            assert_eq!(answer.reason(), "credentials_missing");
        }
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(server.get_metrics(path).status, 200, "{path}");
    }

    let second = format!("vc-1:{}@", token(&callers(&world, &["rotate", "vc-1"]), "basic_token"));
    wait_for("the second token", || status(&server, &second, LIST) == 200);
    assert_eq!(status(&server, &old, LIST), 200, "both are valid meanwhile");
    callers(&world, &["rotate", "vc-1", "--expire-old"]);
    wait_for("the end of the first token", || status(&server, &old, LIST) == 401);
    assert_eq!(status(&server, &second, LIST), 200);

    let bearer = token(&callers(&world, &["add", "monitor", "--bearer"]), "bearer_token");
    let header = format!("Bearer {bearer}");
    let ask = || once(server.http_addr(), "GET", LIST, &[("Authorization", &header)], b"").expect("an answer").status;
    wait_for("the bearer token", || ask() == 200);
    callers(&world, &["remove", "monitor"]);
    wait_for("the end of the caller", || ask() == 401);
    let listed = callers(&world, &["list"]);
    assert_eq!(listed["callers"][0]["name"], "vc-1");
    assert_eq!(listed["callers"].as_array().map(Vec::len), Some(1));

    // A file that cannot be used opens no door.
    std::fs::write(world.data_dir().join("callers.toml"), "callers = 7").expect("a bad file");
    wait_for("a line in the log", || server.log().contains("cannot be used; those of before stay"));
    assert_eq!((status(&server, "", LIST), status(&server, &second, LIST)), (401, 200));
    let series = "holdfast_authentication_failures_total{listener=\"http\",reason=\"credentials_missing\"}";
    assert!(metric(&server, series) >= 9.0);
    run(&world.with(&["callers", "add", "http"])).expect(2, &["callers.toml"]);
    let log = server.stop().1;
    assert!(!log.contains(&first) && !log.contains(&bearer), "no token is logged");
    run(&world.with(&["serve"])).expect(2, &["callers.toml", "cannot be used"]);
}

#[test]
fn metrics_are_for_callers_alone_where_that_is_asked_for() {
    let world = World::new(1);
    let server = world.server().env("HOLDFAST_METRICS_REQUIRE_CALLER", "true").start();
    server.wait_ready();
    let status = |path: &str, user: &str| {
        let url = format!("http://{user}{}{path}", server.metrics_addr());
        curl(std::path::Path::new("/"), &[&url]).status
    };
    // Also while there is no caller yet.
    for (path, expected) in [("/livez", 200), ("/readyz", 200), ("/metrics", 401), ("/", 401), ("/status.json", 401)] {
        assert_eq!(status(path, ""), expected, "{path}");
    }
    let made = callers(&world, &["add", "monitor", "--bearer", "--basic"]);
    let bearer = format!("Authorization: Bearer {}", token(&made, "bearer_token"));
    let basic = format!("monitor:{}@", token(&made, "basic_token"));
    for path in ["/metrics", "/status.json", "/"] {
        let url = format!("http://{}{path}", server.metrics_addr());
        wait_for("the caller", || curl(std::path::Path::new("/"), &["-H", &bearer, &url]).status == 200);
        wait_for("the caller's other token", || status(path, &basic) == 200);
        assert_eq!((status(path, ""), status(path, "monitor:wrong@")), (401, 401), "{path}");
    }
    assert_eq!(status("/livez", ""), 200);
    callers(&world, &["remove", "monitor"]);
    wait_for("the end of the caller", || status("/metrics", &basic) == 401);
    assert!(server.stop().0.success());
}

#[test]
fn users_of_the_unix_socket_are_callers() {
    let world = World::new(1);
    let socket = world.path().join("http.sock");
    let path = socket.display().to_string();
    let server = world.server().env("HOLDFAST_HTTP_LISTEN_UNIX", &path).start();
    server.wait_ready();
    let ask = || curl(world.path(), &["--unix-socket", &path, "http://signer/api/v1/eth2/publicKeys"]).status;
    assert_eq!(ask(), 200, "this user's own, without callers");
    callers(&world, &["add", "other", "--unix-uid", "12345"]);
    wait_for("the first caller", || ask() == 401);
    let own = rustix::process::geteuid().as_raw().to_string();
    callers(&world, &["add", "vc-1", "--unix-uid", &own]);
    wait_for("this user's name", || ask() == 200);
    assert!(server.stop().0.success());
    assert!(!socket.exists(), "it goes with the process");
}

#[test]
fn a_door_to_other_machines_is_guarded_or_loudly_open() {
    let world = World::new(0);
    let everywhere = ["serve", "--http-listen", "0.0.0.0:0", "--metrics-listen", "127.0.0.1:0"];
    run(&world.with(&everywhere)).expect(2, &["no authentication", "holdfast callers add", "allow_unauthenticated"]);
    // The harness gives a loopback address as a flag, which would win.
    let command = |extra: &[(&str, &str)]| {
        let mut command = holdfast_tests::harness::command();
        command.args(world.with(&["--json", "serve", "--metrics-listen", "127.0.0.1:0"]));
        command.env("HOLDFAST_HTTP_LISTEN", "0.0.0.0:0").envs(extra.iter().copied());
        crate::stage::first_lines(command)
    };
    let log = command(&[("HOLDFAST_HTTP_ALLOW_UNAUTHENTICATED", "true")]);
    assert!(log.contains("WHOEVER REACHES THIS ADDRESS"), "{log}");
    callers(&world, &["add", "vc-1"]);
    let log = command(&[]);
    assert!(log.contains("without TLS"), "{log}");
    callers(&world, &["remove", "vc-1"]);
    run(&world.with(&everywhere)).expect(2, &["no authentication"]);
}
