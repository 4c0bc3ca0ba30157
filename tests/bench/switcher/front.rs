//! What stands in front of the nodes: nothing, the switcher, nginx, HAProxy. The proxies are set up as an operator
//! would: connections to the nodes kept alive and reused, another node on errors, no access log, event streams and
//! states not buffered. nginx has a worker per core, its packaged default; HAProxy has one thread, because two of them spin on
//! their locks when the cores have other work, which cost it ten times the CPU.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::beacon_nodes::Nodes;
use holdfast_tests::harness::{Server, holdfast_ok};
use holdfast_tests::http::once;
use tempfile::TempDir;

use crate::measure::{cpu_of, memory_now};

/// How long a front may take to serve.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One of the things compared.
pub(super) struct Front {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    running: Running,
    processes: Vec<u32>,
}

enum Running {
    /// The client talks to the first node.
    Direct,
    Switcher(Server, TempDir),
    /// Runs for as long as this exists.
    Proxy {
        _process: Proxy,
    },
}

/// A process that ends with this.
struct Proxy {
    child: Child,
    _folder: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not gracefully: that would wait for the clients of this process.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

impl Front {
    /// Direct, switcher, nginx, HAProxy, in this order, ready to serve.
    pub(super) fn start_all(nodes: &Nodes) -> Vec<Self> {
        let direct =
            Self { name: "direct", address: nodes.addresses()[0], running: Running::Direct, processes: Vec::new() };
        vec![direct, Self::switcher(nodes), Self::nginx(nodes), Self::haproxy(nodes)]
    }

    /// The real binary, alone, with every node judged good.
    pub(super) fn switcher(nodes: &Nodes) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let builder = Server::builder().data_dir(&data);
        let builder = nodes.urls().into_iter().fold(builder, |builder, url| builder.global("--beacon").global(url));
        let server = builder
            .arg("--no-signer")
            .arg("--switcher-listen")
            .arg("127.0.0.1:0")
            .env("HOLDFAST_SWITCHER_HEAVY_ROUTES", "allow")
            .start();
        server.wait_ready();
        wait_until("every node is good", || {
            let status = holdfast_ok(&["--data-dir", text(&data), "--json", "switcher", "status"]).stdout;
            let status: serde_json::Value = serde_json::from_slice(&status).expect("status is JSON");
            let upstreams = status["switcher"]["upstreams"].as_array().expect("a list");
            upstreams.iter().filter(|node| node["health"] == "good").count() == nodes.addresses().len()
        });
        let (address, processes) = (server.switcher_addr(), vec![server.pid()]);
        Self { name: "switcher", address, running: Running::Switcher(server, folder), processes }
    }

    fn nginx(nodes: &Nodes) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let path = folder.path().join("nginx.conf");
        fs::write(&path, nginx_conf(folder.path(), address, nodes)).expect("nginx.conf can be written");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path).arg("-p").arg(folder.path());
        Self::proxy("nginx", "nginx", command, address, folder)
    }

    fn haproxy(nodes: &Nodes) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, haproxy_cfg(address, nodes)).expect("haproxy.cfg can be written");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&path);
        Self::proxy("HAProxy", "haproxy", command, address, folder)
    }

    fn proxy(name: &'static str, package: &str, mut command: Command, address: SocketAddr, folder: TempDir) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start ({error}): install Debian's {package}"));
        let running = Proxy { child, _folder: folder };
        wait_until(name, || {
            once(address, "GET", "/eth/v1/node/version", &[], b"").is_ok_and(|answer| answer.status == 200)
        });
        let main = running.child.id();
        let processes = std::iter::once(main).chain(children(main)).collect();
        Self { name, address, running: Running::Proxy { _process: running }, processes }
    }

    /// CPU time of all its processes so far.
    pub(super) fn cpu(&self) -> Duration {
        self.processes.iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// Resident memory of all its processes now, in KiB.
    pub(super) fn memory(&self) -> u64 {
        self.processes.iter().filter_map(|pid| memory_now(*pid)).sum()
    }

    /// Whether there is a process to be measured.
    pub(super) fn is_process(&self) -> bool {
        !self.processes.is_empty()
    }

    /// Whether it is the switcher.
    pub(super) fn is_switcher(&self) -> bool {
        matches!(self.running, Running::Switcher(..))
    }

    /// Ends it; the switcher must end well.
    pub(super) fn stop(self) {
        if let Running::Switcher(server, _folder) = self.running {
            let (ended, log) = server.stop();
            assert!(ended.success(), "the switcher ended with {ended}\n{log}");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// An address nobody uses now: the proxies cannot be asked what they were given.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

/// Waits for something that takes a moment, and gives up with its name.
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + START_LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "not within {START_LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").expect("/proc");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        line.and_then(|text| text.trim().parse::<u32>().ok()) == Some(parent)
    })
    .collect()
}

fn nginx_conf(dir: &Path, address: SocketAddr, nodes: &Nodes) -> String {
    let mut servers = String::new();
    for node in nodes.addresses() {
        servers.push_str(&format!("    server {node};\n"));
    }
    let dir = text(dir);
    format!(
        r#"daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
worker_processes auto;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy;
  fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi;
  scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000;
  upstream nodes {{
{servers}    keepalive 32;
    keepalive_requests 1000000;
  }}
  server {{
    listen {address};
    client_max_body_size 64m;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_connect_timeout 1s;
    proxy_next_upstream error timeout http_500 http_502 http_503 http_504;
    location / {{ proxy_pass http://nodes; }}
    location /eth/v1/events {{ proxy_pass http://nodes; proxy_buffering off; proxy_read_timeout 1h; }}
    location /eth/v2/debug/ {{ proxy_pass http://nodes; proxy_buffering off; }}
  }}
}}
"#
    )
}

fn haproxy_cfg(address: SocketAddr, nodes: &Nodes) -> String {
    let mut servers = String::new();
    for (number, node) in nodes.addresses().iter().enumerate() {
        servers.push_str(&format!("  server n{number} {node} check inter 2s\n"));
    }
    format!(
        "global
  maxconn 8192
  nbthread 1
defaults
  mode http
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  http-reuse always
  option http-no-delay
  retries 2
  option redispatch
frontend beacon
  bind {address}
  default_backend nodes
backend nodes
  balance roundrobin
  option httpchk GET /eth/v1/node/health
{servers}"
    )
}
