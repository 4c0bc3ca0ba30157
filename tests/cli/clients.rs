//! docs/clients.md: what it says that `connect` prints is what it prints, for every client; and the way round for a client
//! that can show nothing works.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::documented;
use holdfast_tests::finished::run;
use holdfast_tests::harness::workspace;
use holdfast_tests::http::{Response, once};
use holdfast_tests::postgres::free_port;
use holdfast_tests::world::World;

const PAGE: &str = "docs/clients.md";

/// The block after the comment `<!-- connect: CLIENT -->`.
fn block(client: &str) -> String {
    let text = std::fs::read_to_string(workspace().join(PAGE)).expect("the page");
    let marker = format!("<!-- connect: {client} -->\n```text\n");
    let rest = text.split_once(&marker).unwrap_or_else(|| panic!("no block for {client} in {PAGE}")).1;
    rest.split_once("\n```").expect("its end").0.to_owned()
}

#[test]
fn the_page_prints_what_connect_prints() {
    let world = World::new(1);
    let clients = ["lighthouse", "prysm", "teku", "nimbus", "lodestar", "grandine", "vero"];
    let help = run(&["connect", "--help"]).expect(0, &[]).stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains(&format!("[possible values: {}]", clients.join(", "))), "{help}");
    for client in clients {
        let told = run(&world.with(&["connect", client])).expect(0, &[]);
        let told = told.stdout.trim().replace(&world.keys[0].public, "0x…");
        assert_eq!(told, block(client), "{PAGE}, {client}");
    }
}

#[test]
fn a_token_that_lodestar_cannot_send_is_told() {
    let world = World::new(1);
    run(&world.with(&["connect", "lodestar", "--caller", "vc-1"])).expect(0, &["http://vc-1:", "proxy"]);
    let prysm = run(&world.with(&["connect", "prysm", "--caller", "vc-2"])).expect(0, &["http://vc-2:"]);
    assert!(!prysm.text().contains("proxy"), "{}", prysm.text());
}

/// nginx with the documented lines; ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16) -> Option<Response> {
    once(([127, 0, 0, 1], port).into(), "GET", "/api/v1/eth2/publicKeys", &[], b"").ok()
}

#[test]
fn a_proxy_adds_the_token_for_a_client_that_cannot() {
    let world = World::new(1);
    let added = run(&world.with(&["--json", "callers", "add", "vc-lodestar", "--bearer"])).expect(0, &[]);
    let token = added.lines().pop().expect("JSON")["bearer_token"].as_str().expect("a token").to_owned();
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(server.get("/api/v1/eth2/publicKeys").status, 401, "nobody may ask without a token");

    let port = free_port();
    let site = documented::block(PAGE, "proxy", "nginx")
        .replace("127.0.0.1:9000", &server.http_addr().to_string())
        .replace("127.0.0.1:9100", &format!("127.0.0.1:{port}"))
        .replace("TOKEN", &token);
    let folder = world.path().join("nginx");
    std::fs::create_dir(&folder).expect("a folder");
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
        .concat();
    let config = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{places}{site}}}\n",
        folder.display()
    );
    std::fs::write(folder.join("nginx.conf"), config).expect("a configuration");
    let program = if Path::new("/usr/sbin/nginx").is_file() { "/usr/sbin/nginx" } else { "nginx" };
    let child = Command::new(program)
        .arg("-p")
        .arg(&folder)
        .args(["-c", "nginx.conf", "-e", "stderr"])
        .stdin(Stdio::null())
        .spawn()
        .expect("nginx starts: apt-get install nginx");
    let _proxy = Proxy(child);
    let end = Instant::now() + Duration::from_secs(20);
    let answer = loop {
        if let Some(answer) = get(port) {
            break answer;
        }
        assert!(Instant::now() < end, "nginx does not answer");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains(&world.keys[0].public), "{}", answer.text());
}
