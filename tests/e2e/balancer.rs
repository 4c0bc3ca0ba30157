//! nginx in front of two signers, with the configurations that the documentation gives to operators.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::harness::workspace;

/// How long nginx may take to listen.
const START_LIMIT: Duration = Duration::from_secs(20);
/// What the documented configuration says, each once; the test puts its own addresses there.
const DOCUMENTED: [&str; 2] = ["127.0.0.1:9000", "127.0.0.1:9010"];
/// Where the documented configuration listens.
const LISTENS: &str = "127.0.0.1:9100";

/// A request that went through, as the access log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    /// What the client got.
    pub(crate) status: u16,
    /// What each signer asked in turn answered; one that gave no answer has 502 or 504.
    pub(crate) answers: Vec<String>,
    /// Whether it was sent by the validator client, and not by the test.
    pub(crate) by_validator: bool,
}

/// A running nginx. Dropping it ends it.
pub(crate) struct Balancer {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

/// The name with which the test's own load introduces itself.
pub(crate) const LOAD_AGENT: &str = "holdfast-test-load";

impl Balancer {
    /// Starts one for two signers, its files below `folder`.
    pub(crate) fn start(folder: &Path, signers: [SocketAddr; 2]) -> Self {
        let signers = signers.map(|signer| signer.to_string());
        let own: Vec<(&str, &str)> = DOCUMENTED.into_iter().zip(signers.iter().map(String::as_str)).collect();
        Self::start_as(folder, "docs/nginx.conf", LISTENS, &own)
    }

    /// Starts one with a documented configuration, in which each of these is there once, and this test's own in its place;
    /// it listens on a port of its own instead of `listens`.
    pub(crate) fn start_as(folder: &Path, document: &str, listens: &str, own: &[(&str, &str)]) -> Self {
        let folder = folder.join("nginx");
        std::fs::create_dir(&folder).expect("a folder for nginx");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let mut site = std::fs::read_to_string(workspace().join(document)).expect("a documented configuration");
        for (name, real) in own.iter().copied().chain([(listens, address.to_string().as_str())]) {
            assert_eq!(site.matches(name).count(), 1, "{name} in {document}");
            site = site.replace(name, real);
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("    {kind}_temp_path {};\n", folder.join(kind).display()))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{}}\nhttp {{\n{temporary}    \
             log_format passed '$request_method\\t$uri\\t$status\\t$upstream_status\\t$http_user_agent';\n    \
             access_log {0}/access.log passed;\n{site}}}\n",
            folder.display()
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, configuration).expect("the configuration is written");
        let program = if Path::new("/usr/sbin/nginx").is_file() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(program)
            .arg("-e")
            .arg(folder.join("error.log"))
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed (apt-get install nginx)");
        let balancer = Self { child, address, folder };
        let end = Instant::now() + START_LIMIT;
        while TcpStream::connect(address).is_err() {
            let log = std::fs::read_to_string(balancer.folder.join("error.log")).unwrap_or_default();
            assert!(Instant::now() < end, "nginx does not listen on {address}:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        balancer
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every signing request so far, in the order of their ends.
    pub(crate) fn passed(&self) -> Vec<Passed> {
        let log = std::fs::read_to_string(self.folder.join("access.log")).expect("nginx has an access log");
        log.lines().filter_map(passed).collect()
    }
}

/// A line of the access log, if it is about a signing request.
fn passed(line: &str) -> Option<Passed> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [method, path, status, answers, agent] = fields[..] else { panic!("not a line of ours: {line:?}") };
    (method == "POST" && path.starts_with("/api/v1/eth2/sign/")).then(|| Passed {
        status: status.parse().expect("a status"),
        answers: answers.split(", ").map(str::to_owned).collect(),
        by_validator: agent != LOAD_AGENT,
    })
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
