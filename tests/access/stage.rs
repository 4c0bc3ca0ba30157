//! A signer with TLS, set up with the very commands of docs/tls.md, and curl.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use holdfast_tests::documented;
use holdfast_tests::harness::{Builder, Server};
use holdfast_tests::world::World;

/// Limit for a change of files to be taken over: it is looked for every two seconds.
const TAKEN_OVER: Duration = Duration::from_secs(20);

/// A world, with files of TLS in a folder of it.
pub struct Stage {
    pub world: World,
    pub files: PathBuf,
}

impl Stage {
    /// With a server's certificate, and one of a client, as documented.
    pub fn new(keys: u64) -> Self {
        let world = World::new(keys);
        let files = world.path().join("tls");
        std::fs::create_dir(&files).expect("a folder");
        let stage = Self { world, files };
        for block in ["server", "client"] {
            stage.documented(block);
        }
        stage
    }

    /// Runs the shell lines of docs/tls.md under the comment `<!-- test: NAME -->`.
    pub fn documented(&self, name: &str) {
        documented::run("docs/tls.md", name, &self.files);
    }

    /// The same of another file of the documentation.
    pub fn documented_in(&self, file: &str, name: &str) {
        documented::run(file, name, &self.files);
    }

    /// Makes a key and a certificate of one more client, by the same authority.
    pub fn client(&self, name: &str) {
        self.shell(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN={name} -keyout {name}.key -out {name}.csr
             printf extendedKeyUsage=clientAuth > {name}.ext
             openssl x509 -req -in {name}.csr -CA clients-ca.pem -CAkey clients-ca.key -CAcreateserial -days 30 \
               -extfile {name}.ext -out {name}.pem"
        ));
    }

    /// Runs shell lines in the folder of the files.
    pub fn shell(&self, lines: &str) -> String {
        documented::shell(lines, &self.files)
    }

    /// A file of TLS.
    pub fn file(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// A server with these files as settings of http.tls.
    pub fn server(&self, settings: &[(&str, &str)]) -> Builder {
        settings.iter().fold(self.world.server(), |builder, (key, name)| {
            let value = if self.files.join(name).exists() { self.file(name) } else { (*name).to_owned() };
            builder.env(format!("HOLDFAST_HTTP_TLS_{}", key.to_uppercase()), value)
        })
    }

    /// curl with these arguments; the last is a path, asked of the signing API over TLS.
    pub fn curl(&self, server: &Server, arguments: &[&str]) -> Curled {
        let (path, arguments) = arguments.split_last().expect("a path");
        let url = format!("https://localhost:{}{path}", server.http_addr().port());
        let ca = self.file("ca.pem");
        let mut all = vec!["--cacert", ca.as_str()];
        all.extend(arguments);
        all.push(&url);
        curl(&self.files, &all)
    }
}

/// What curl got.
#[derive(Debug)]
pub struct Curled {
    /// Status; 0 if there was no answer.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// Runs curl in a folder.
pub fn curl(folder: &Path, arguments: &[&str]) -> Curled {
    let Output { stdout, .. } = Command::new("curl")
        .args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("curl starts: install the package curl");
    let text = String::from_utf8_lossy(&stdout);
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    Curled { status: status.trim().parse().unwrap_or(0), body: body.to_owned() }
}

/// Waits until something holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + TAKEN_OVER;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not happen within {TAKEN_OVER:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A value of the metrics; 0 if it is not there.
pub fn metric(server: &Server, series: &str) -> f64 {
    let text = server.get_metrics("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or(0.0)
}

/// Path at which a key signs.
pub fn sign_path(key: &str) -> String {
    format!("/api/v1/eth2/sign/{key}")
}

/// Starts a server, waits until it is ready, ends it, and returns what it had to say.
pub fn first_lines(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let ready = stdout.lines().map_while(Result::ok).any(|line| line.contains("\"event\":\"ready\""));
    child.kill().expect("SIGKILL is delivered");
    let rest = child.wait_with_output().expect("it ends");
    let log = String::from_utf8_lossy(&rest.stderr).into_owned();
    assert!(ready, "{log}");
    log
}
