//! Real PostgreSQL servers for tests: each cluster is its own `initdb` in a temporary folder with
//! generated passwords, is as durable as a production server unless told otherwise, and can be
//! killed, frozen, filled, copied, rolled back, replicated and promoted.
//!
//! Guarantees: no server, process or folder outlives the test process; a control that returned has
//! taken effect; a server or program that is missing stops the test with what to install.

mod faults;
mod options;
mod processes;
mod programs;
mod replica;
mod session;
mod snapshot;
mod tls;

use std::fs::File;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use processes::{Reaper, until};
use programs::{Programs, run};
use tls::Certificates;

pub use faults::{Access, Stop};
pub use options::{Builder, Disk, Tls};
pub use programs::as_root;
pub use session::{ANSWER_LIMIT, Rows, Session};
pub use snapshot::Snapshot;
pub use tls::ClientCertificate;

/// Database and role every cluster has for the service under test; the role is no superuser.
pub const SERVICE: &str = "holdfast";
const ADMIN: &str = "postgres";

/// How long a server may take to start (a replay of the journal included), stop or follow.
const SERVER_LIMIT: Duration = Duration::from_mins(1);

#[derive(Clone)]
struct Credentials {
    admin: String,
    service: String,
}

impl Credentials {
    fn generate() -> Self {
        Self { admin: random_hex(), service: random_hex() }
    }
}

/// A PostgreSQL server of its own. Dropping it kills it and removes its files.
///
/// All controls take `&self`, so a fault thread can work on a cluster that clients use.
pub struct Cluster {
    programs: Programs,
    port: u16,
    name: String,
    credentials: Credentials,
    certificates: Option<Certificates>,
    disk: Disk,
    /// Given to the server's processes.
    environment: Vec<(String, String)>,
    server: Mutex<Option<Child>>,
    // Last: the files go when everything else is gone.
    reaper: Reaper,
}

impl Cluster {
    /// Makes and starts a cluster with PostgreSQL's defaults, in memory.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Describes one first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Folders, port and names, without data.
    fn lay_out(
        disk: Disk,
        environment: Vec<(String, String)>,
        credentials: Credentials,
        certificates: impl FnOnce(&Path, &Programs) -> Option<Certificates>,
    ) -> Self {
        let programs = Programs::find();
        let reaper = Reaper::new(&disk.parent());
        let root = &reaper.root;
        programs.own(root);
        for folder in ["disk", "socket", "snapshots"] {
            std::fs::create_dir(root.join(folder)).expect("the folder is new");
            programs.own(&root.join(folder));
        }
        if let Disk::Small(mebibytes) = disk {
            let (user, group) = programs.ids();
            let options = format!("size={mebibytes}m,mode=755,uid={user},gid={group}");
            run(as_root("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(root.join("disk")));
        }
        let certificates = certificates(root, &programs);
        let port = free_port();
        let name = format!("server_{port}");
        Self { programs, port, name, credentials, certificates, disk, environment, server: Mutex::new(None), reaper }
    }

    /// Starts the stopped or killed server on the same port and returns when it takes connections.
    pub fn start_again(&self) {
        self.try_start_again().unwrap_or_else(|log| panic!("PostgreSQL did not start:\n{log}"));
    }

    /// Like [`Cluster::start_again`], for a server that may be unable to start; the error is its log.
    pub fn try_start_again(&self) -> Result<(), String> {
        let mut server = self.lock_server();
        if let Some(child) = server.as_mut() {
            assert!(child.try_wait().expect("the server is our child").is_some(), "the server runs already");
        }
        self.clear_traces();
        let log = File::options().create(true).append(true).open(self.log_file()).expect("the log is writable");
        let written = log.metadata().map_or(0, |metadata| metadata.len());
        let mut command = self.programs.command("postgres", &self.reaper.root);
        command.arg("-D").arg(self.data()).stdout(Stdio::null()).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        for setting in self.identity() {
            command.arg("-c").arg(setting);
        }
        let mut child = command.spawn().expect("postgres starts");
        let pid = child.id();
        let ready = until("PostgreSQL takes connections or ends", SERVER_LIMIT, || {
            if child.try_wait().expect("the server is our child").is_some() {
                return Some(false);
            }
            let text = std::fs::read_to_string(self.pid_file()).unwrap_or_default();
            let line = |number: usize| text.lines().nth(number).map(str::trim);
            (line(0) == Some(pid.to_string().as_str()) && line(7) == Some("ready")).then_some(true)
        });
        *server = Some(child);
        if ready {
            return Ok(());
        }
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        Err(String::from_utf8_lossy(log.get(usize::try_from(written).unwrap_or(0)..).unwrap_or_default()).into_owned())
    }

    /// What makes this server itself: given on its command line, so no copied configuration changes it.
    fn identity(&self) -> Vec<String> {
        let mut settings = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.socket_folder().display()),
            format!("cluster_name={}", self.name),
        ];
        if let Some(certificates) = &self.certificates {
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={}", certificates.certificate().display()));
            settings.push(format!("ssl_key_file={}", certificates.key().display()));
        }
        settings
    }

    /// Whether the server process runs (frozen counts as running).
    pub fn is_running(&self) -> bool {
        let mut server = self.lock_server();
        server.as_mut().is_some_and(|child| child.try_wait().expect("the server is our child").is_none())
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Folder of the Unix socket.
    pub fn socket_folder(&self) -> PathBuf {
        self.reaper.root.join("socket")
    }

    /// Connection string of the service's role and database; with TLS it demands `sslmode=verify-full`.
    pub fn url(&self) -> String {
        self.url_at(self.addr())
    }

    /// The same through another address, a proxy's for example.
    pub fn url_at(&self, addr: SocketAddr) -> String {
        self.url_for(addr, SERVICE)
    }

    /// The same for another database, made by [`Cluster::create_database`].
    pub fn url_for(&self, addr: SocketAddr, database: &str) -> String {
        let password = &self.credentials.service;
        let tls = self.certificates.as_ref().map_or_else(
            || "sslmode=disable".to_owned(),
            |certificates| format!("sslmode=verify-full&sslrootcert={}", certificates.authority().display()),
        );
        format!("postgres://{SERVICE}:{password}@{addr}/{database}?{tls}")
    }

    /// Connection string of a superuser over TCP.
    pub fn admin_url(&self) -> String {
        let service = format!("{SERVICE}:{}@", self.credentials.service);
        self.url().replacen(&service, &format!("{ADMIN}:{}@", self.credentials.admin), 1)
    }

    /// Password of the service's role, for tests that hand it over in a file.
    pub fn password(&self) -> &str {
        &self.credentials.service
    }

    /// Certificate of the authority that clients trust, if the server offers TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.certificates.as_ref().map(Certificates::authority)
    }

    /// Makes an empty database owned by the service's role, so that tests can share a server.
    pub fn create_database(&self, name: &str) {
        self.psql(&format!("CREATE DATABASE {name} OWNER {SERVICE}"));
    }

    /// Runs statements as superuser in the service's database over the Unix socket; panics if one fails.
    pub fn psql(&self, sql: &str) -> Rows {
        self.try_psql(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// The same, or why not.
    pub fn try_psql(&self, sql: &str) -> Result<Rows, String> {
        self.session_on(&self.local_url(ADMIN, &self.credentials.admin, SERVICE)).run(sql)
    }

    /// A connection as superuser in the service's database over the Unix socket.
    pub fn session(&self) -> Session {
        self.session_on(&self.local_url(ADMIN, &self.credentials.admin, SERVICE))
    }

    /// A connection on any connection string.
    pub fn session_on(&self, url: &str) -> Session {
        Session::open(self.programs.psql(), url)
    }

    /// Everything the server logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Changes a setting for good and returns when new connections have it (old ones follow at
    /// their next statement). Not for settings that need a restart.
    pub fn set(&self, name: &str, value: &str) {
        let loaded = || self.psql("SELECT pg_conf_load_time()");
        let before = loaded();
        self.psql(&format!("ALTER SYSTEM SET {name} = '{}'; SELECT pg_reload_conf()", value.replace('\'', "''")));
        until("the configuration is loaded", SERVER_LIMIT, || (loaded() != before).then_some(()));
    }

    fn local_url(&self, role: &str, password: &str, database: &str) -> String {
        format!(
            "postgres://{role}:{password}@/{database}?host={}&port={}&connect_timeout=10",
            self.socket_folder().display(),
            self.port
        )
    }

    fn data(&self) -> PathBuf {
        self.reaper.root.join("disk/data")
    }

    fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    fn log_file(&self) -> PathBuf {
        self.reaper.root.join("postgres.log")
    }

    fn append(&self, file: &str, text: &str) {
        let path = self.data().join(file);
        File::options()
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("the file is writable");
    }

    /// Id of the running server process.
    fn pid(&self) -> Pid {
        assert!(self.is_running(), "the server does not run; its log:\n{}", self.log());
        let server = self.lock_server();
        server.as_ref().map(Pid::from_child).expect("the server was started")
    }

    fn lock_server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the server process has ended by itself.
    fn reap(&self) {
        until("PostgreSQL ends", SERVER_LIMIT, || (!self.is_running()).then_some(()));
    }

    /// Removes what a killed server left behind; its processes are all gone.
    fn clear_traces(&self) {
        processes::free_shared_memory(&self.pid_file());
        let lock = self.socket_folder().join(format!(".s.PGSQL.{}.lock", self.port));
        for file in [self.pid_file(), lock] {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_running() {
            // An immediate shutdown frees the shared memory; what is left of it is killed by the reaper.
            let pid = self.pid();
            processes::signal(pid, Signal::QUIT);
            processes::thaw_all(&self.data());
        }
        let mut server = self.lock_server();
        if let Some(mut child) = server.take() {
            for _ in 0..1000 {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn random_hex() -> String {
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("the system has random bytes");
    hex::encode(bytes)
}

/// A free port below the range the system hands out by itself, so that nobody takes it while the
/// server behind it is down.
pub fn free_port() -> u16 {
    let mut bytes = [0_u8; 2];
    let mut random = File::open("/dev/urandom").expect("the system has random bytes");
    until("a free port", SERVER_LIMIT, || {
        random.read_exact(&mut bytes).expect("the system has random bytes");
        let port = 20_000 + u16::from_le_bytes(bytes) % 12_000;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}
