//! Two signers on machines of their own behind nginx, as docs/rolling-restart.md has it: its settings, its nginx
//! configuration, TLS on every way, and callers by tokens that nginx passes on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::documented;
use holdfast_tests::finished::run;
use holdfast_tests::harness::{Builder, Server, workspace};
use holdfast_tests::postgres::Cluster;
use holdfast_tests::world::{CHAIN, World, copy_private};

use crate::balancer::Balancer;

const DOCUMENT: &str = "docs/rolling-restart.md";
const LIMIT: Duration = Duration::from_secs(30);

/// The documented settings of a signer at an address.
fn settings(files: &Path, address: SocketAddr) -> String {
    let text = std::fs::read_to_string(workspace().join(DOCUMENT)).expect("the document");
    let rest = text.split_once("<!-- test: two machines -->").expect("the settings").1;
    let block = rest.split_once("```toml\n").expect("a block").1.split_once("```").expect("its end").0;
    for one in ["10.0.0.11:9000", "signer.example", "/etc/holdfast/"] {
        assert!(block.contains(one), "{block}");
    }
    block
        .replace("10.0.0.11:9000", &address.to_string())
        .replace("signer.example", "localhost")
        .replace("/etc/holdfast", &files.display().to_string())
}

/// Asks through nginx, as a caller if there is a name and token; returns the status.
fn asks(files: &Path, nginx: SocketAddr, user: &str, path: &str, body: Option<&str>) -> u16 {
    let url = format!("https://{user}localhost:{}{path}", nginx.port());
    let mut command = Command::new("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20"]);
    command.args(["--cacert", "ca.pem", "-H", "Content-Type: application/json"]).current_dir(files);
    if let Some(body) = body {
        command.args(["--data", body]);
    }
    let output = command.arg(url).output().expect("curl is installed (apt-get install curl)");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("a status")
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn signers_on_two_machines_serve_callers_behind_nginx_over_tls() {
    let cluster = Cluster::start();
    let world = World::with_database(&cluster.url(), 1);
    let key = &world.keys[0].public;
    let files = world.path().join("tls");
    std::fs::create_dir(&files).expect("a folder");
    documented::run("docs/tls.md", "server", &files);
    // What nginx and the client have of it.
    let theirs = world.path().join("theirs");
    copy_private(&files, &theirs);
    let dirs = [world.data_dir(), world.second_data_dir("second")];
    // An address each, as two machines have, and the same port.
    let start = |number: usize, port: u16| {
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, if number == 0 { 1 } else { 2 }), port));
        let config = world.path().join(format!("{number}.toml"));
        std::fs::write(&config, settings(&files, address)).expect("a configuration");
        // The harness gives a loopback port as a flag, which would go before the file's.
        let builder = world.arguments_in(&dirs[number]).into_iter().fold(Server::builder(), Builder::global);
        let server = builder
            .global("--config")
            .global(&config)
            .command_line(&["--json", "serve", "--metrics-listen", "127.0.0.1:0"])
            .start();
        server.wait_ready();
        server
    };
    let [first, second] = [0, 1].map(|number| start(number, 0));
    let signers = [first.http_addr().to_string(), second.http_addr().to_string()];
    let [certificate, private, authority] =
        ["tls.pem", "tls.key", "ca.pem"].map(|name| theirs.join(name).display().to_string());
    let own = [
        ("10.0.0.11:9000", signers[0].as_str()),
        ("10.0.0.12:9000", signers[1].as_str()),
        ("/etc/nginx/holdfast/tls.pem", certificate.as_str()),
        ("/etc/nginx/holdfast/tls.key", private.as_str()),
        ("/etc/nginx/holdfast/ca.pem", authority.as_str()),
        ("proxy_ssl_name signer.example", "proxy_ssl_name localhost"),
        ("Host signer.example", "Host localhost"),
    ];
    let nginx = Balancer::start_as(world.path(), "docs/nginx-tls.conf", "10.0.0.10:9100", &own);

    // The caller is made at one of them, and its file is copied, as printed.
    let add = documented::printed(DOCUMENT, "holdfast callers add");
    let words: Vec<&str> = add.split_whitespace().skip(1).collect();
    let made = run(&world.with(&words)).expect(0, &["Its address of this signer"]).text();
    let user = made.split_once("http://").expect("an address").1.split_once('@').expect("a token").0;
    let user = format!("{user}@");
    std::fs::copy(dirs[0].join("callers.toml"), dirs[1].join("callers.toml")).expect("the callers are copied");
    let list = "/api/v1/eth2/publicKeys";
    // Four requests in turn reach both.
    let all = |user: &str, status: u16| (0..4).all(|_| asks(&theirs, nginx.address(), user, list, None) == status);
    wait_until("the caller is served", || all(&user, 200));
    wait_until("nobody else is served", || all("", 401));
    let sign = format!("/api/v1/eth2/sign/{key}");
    let mut target = 100;
    let mut attests = || {
        target += 1;
        let (body, _) = CHAIN.attestation(target * 8, target - 1, target, 1);
        asks(&theirs, nginx.address(), &user, &sign, Some(&body.to_string()))
    };
    assert_eq!([(); 4].map(|()| attests()), [200; 4], "{}\n{}", first.log(), second.log());

    // Either of them is enough.
    second.kill9();
    assert_eq!([(); 4].map(|()| attests()), [200; 4], "{}", first.log());
    let status = run(&world.with(&["--json", "status"])).expect(0, &[]).lines();
    let instance = status[0]["instance"].as_str().expect("an instance").to_owned();
    let tail = run(&world.with(&["audit", "tail", "--instance", &instance])).expect(0, &[]).text();
    assert!(tail.contains("vc-1"), "the journal does not know the caller: {tail}");

    // nginx gives no token to whoever has a certificate of another authority.
    documented::run("docs/tls.md", "server", &files);
    let port = first.http_addr().port();
    assert!(first.stop().0.success());
    let stranger = start(0, port);
    assert_eq!([(); 4].map(|()| attests()), [502; 4], "{}", stranger.log());
}
