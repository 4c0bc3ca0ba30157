//! A real PostgreSQL server for the length of a test program: private directory, Unix socket, no TCP port.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "shared with the test programs, which may stop at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Ends the server and removes its directory when its standard input closes, which it does however the test
/// program ends.
const SCRIPT: &str = r#"
set -eu
dir=$(mktemp -d /tmp/holdfast-pg.XXXXXX)
"$BIN/initdb" --pgdata "$dir/data" --username postgres --auth trust --no-sync --encoding UTF8 --locale C >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
"$BIN/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=60 -c log_min_messages=error >>"$dir/log" 2>&1 &
server=$!
until "$BIN/pg_isready" -q -h "$dir" -U postgres; do
    kill -0 $server 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
done
echo "$dir $server"
cat >/dev/null || true
kill -QUIT $server 2>/dev/null || true
wait $server || true
rm -rf "$dir"
"#;

/// A running server.
pub struct Cluster {
    pub socket_dir: PathBuf,
    pub server: u32,
    _process: Mutex<(Child, ChildStdin)>,
}

/// Where the newest installed server's programs are.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres").exists().then(|| (version, path.join("bin")))
        })
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, path)| path);
    newest.expect("no PostgreSQL server below /usr/lib/postgresql; install one: apt-get install postgresql")
}

impl Cluster {
    /// The server of this test program, started with its first test.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server of its own, for a test that stops it.
    pub fn start() -> Self {
        let mut command = if rustix::process::geteuid().is_root() {
            // The server refuses to run as root.
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh", "-c", SCRIPT]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", SCRIPT]);
            command
        };
        let started =
            command.env("BIN", programs()).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.expect("cannot start a PostgreSQL server; is there a user `postgres`?");
        let stdin = process.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (directory, server) = line.trim().split_once(' ').expect("the PostgreSQL server did not start");
        Self { socket_dir: directory.into(), server: server.parse().unwrap(), _process: Mutex::new((process, stdin)) }
    }

    /// Makes an empty database and returns its name.
    pub fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        name
    }

    /// The address of a database, by way of the server's socket.
    pub fn url(&self, database: &str) -> String {
        url_at(&self.socket_dir, database)
    }

    /// Runs SQL; the answer without headings, or the server's complaint.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let ran = Command::new(programs().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql])
            .arg("-h")
            .arg(&self.socket_dir)
            .output()
            .expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if ran.status.success() { Ok(text(&ran.stdout)) } else { Err(text(&ran.stderr)) }
    }
}

/// The address of a database whose server listens on a socket in `directory`.
pub fn url_at(directory: &Path, database: &str) -> String {
    let directory = directory.to_str().unwrap().replace('/', "%2F");
    format!("postgres://postgres@{directory}/{database}")
}
