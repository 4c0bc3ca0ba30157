//! What stands between the validator client and the nodes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{server, text};
use crate::devnet::Network;
use crate::harness::{Server, holdfast, holdfast_ok};
use crate::http::once;

/// Limit for nginx to answer.
const NGINX_LIMIT: Duration = Duration::from_secs(10);

/// What stands between the validator client and the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The switcher, on one address.
    Switcher,
    /// Nothing: the client has the list of nodes.
    OwnList,
    /// nginx as operators set it up: the next node on errors and timeouts.
    Nginx,
}

impl Front {
    /// Name in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Switcher => "switcher",
            Self::OwnList => "own list",
            Self::Nginx => "nginx",
        }
    }
}

/// A front and the signer.
pub struct Running {
    server: Server,
    data: PathBuf,
    nginx: Option<Nginx>,
}

impl Running {
    /// Starts the signer, and the front.
    pub fn start(front: Front, folder: &Path, data: &Path, network: &Network) -> Self {
        let builder = server(data, network);
        let (builder, nginx) = match front {
            Front::Switcher => {
                let builder =
                    network.beacons().iter().fold(builder, |builder, url| builder.global("--beacon").global(url));
                (builder.arg("--switcher-listen").arg("127.0.0.1:0"), None)
            }
            Front::OwnList => (builder, None),
            Front::Nginx => (builder, Some(Nginx::start(&folder.join("nginx"), network.beacons()))),
        };
        let server = builder.start();
        server.wait_ready();
        Self { server, data: data.to_owned(), nginx }
    }

    /// Where the client signs.
    pub fn signer(&self) -> SocketAddr {
        self.server.http_addr()
    }

    /// What the client gets as its Beacon API, separated by commas.
    pub fn beacons(&self, network: &Network) -> String {
        match (&self.nginx, self.is_switcher()) {
            (Some(nginx), _) => format!("http://127.0.0.1:{}", nginx.port),
            (None, true) => format!("http://{}", self.server.switcher_addr()),
            (None, false) => network.beacons().join(","),
        }
    }

    fn is_switcher(&self) -> bool {
        self.server.has_switcher()
    }

    /// The node that serves duties, counted from 1: the one worth hitting.
    pub fn node_in_use(&self, network: &Network) -> usize {
        if !self.is_switcher() {
            return 1;
        }
        let status = self.status();
        let first =
            status["switcher"]["serving"]["duty"][0].as_str().unwrap_or_else(|| panic!("nobody serves: {status}"));
        1 + network.beacons().iter().position(|url| url.ends_with(first)).expect("the name is the address")
    }

    /// What `holdfast switcher status` says.
    pub fn status(&self) -> Value {
        let answer = holdfast_ok(&["--data-dir", text(&self.data), "--json", "switcher", "status"]);
        serde_json::from_slice(&answer.stdout).expect("status is JSON")
    }

    /// Runs `holdfast switcher` and says whether it went well.
    pub fn control(&self, arguments: &[&str]) -> bool {
        let mut all = vec!["--data-dir", text(&self.data), "--json", "switcher"];
        all.extend(arguments);
        holdfast(&all).status.success()
    }

    /// Adds a node. Gives the client's new list if the client itself must be started again for it.
    pub fn add(&mut self, network: &Network, address: &str) -> Option<String> {
        if let Some(nginx) = &mut self.nginx {
            let mut nodes = network.beacons().to_vec();
            nodes.push(address.to_owned());
            nginx.reload(&nodes);
            return None;
        }
        if self.is_switcher() {
            assert!(self.control(&["add", address]), "the switcher refused to add {address}");
            return None;
        }
        Some(format!("{},{address}", network.beacons().join(",")))
    }

    /// Ends everything; returns what Holdfast printed.
    pub fn stop(self) -> String {
        let (ended, log) = self.server.stop();
        assert!(ended.success(), "Holdfast ended with {ended}:\n{log}");
        log
    }
}

/// A running nginx in front of the nodes.
struct Nginx {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Nginx {
    fn start(dir: &Path, nodes: &[String]) -> Self {
        fs::create_dir_all(dir).expect("a folder for nginx");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        configure(dir, port, nodes);
        let child = Command::new("nginx")
            .args(["-c", "nginx.conf", "-p"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`nginx` is installed (Debian: nginx-light)");
        let nginx = Self { child, dir: dir.to_owned(), port };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let end = Instant::now() + NGINX_LIMIT;
        while once(address, "GET", "/eth/v1/node/version", &[], b"").map_or(0, |answer| answer.status) != 200 {
            assert!(Instant::now() < end, "nginx does not answer; see {}/error.log", dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        nginx
    }

    fn reload(&mut self, nodes: &[String]) {
        configure(&self.dir, self.port, nodes);
        let reloaded = Command::new("nginx").args(["-c", "nginx.conf", "-s", "reload", "-p"]).arg(&self.dir).status();
        assert!(
            reloaded.is_ok_and(|status| status.success()),
            "nginx did not reload; see {}/error.log",
            self.dir.display()
        );
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // SIGQUIT ends the workers, too.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}

/// Round robin, the next node on errors and on silence, event streams unbuffered.
fn configure(dir: &Path, port: u16, nodes: &[String]) {
    let mut servers = String::new();
    for url in nodes {
        servers.push_str(&format!("    server {} max_fails=1 fail_timeout=5s;\n", url.trim_start_matches("http://")));
    }
    let dir_text = text(dir);
    let config = format!(
        "daemon off;\npid {dir_text}/nginx.pid;\nerror_log {dir_text}/error.log;\nworker_processes 1;\n\
         events {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n  client_body_temp_path {dir_text}/body;\n  \
         proxy_temp_path {dir_text}/proxy;\n  fastcgi_temp_path {dir_text}/f;\n  uwsgi_temp_path {dir_text}/u;\n  \
         scgi_temp_path {dir_text}/s;\n  upstream nodes {{\n{servers}  }}\n  server {{\n    listen 127.0.0.1:{port};\n    \
         client_max_body_size 64m;\n    location / {{\n      proxy_pass http://nodes;\n      proxy_http_version 1.1;\n      \
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n      proxy_connect_timeout 1s;\n      \
         proxy_read_timeout 5s;\n      proxy_next_upstream error timeout http_500 http_502 http_503 http_504 non_idempotent;\n    }}\n  }}\n}}\n"
    );
    fs::write(dir.join("nginx.conf"), config).expect("nginx.conf can be written");
}
