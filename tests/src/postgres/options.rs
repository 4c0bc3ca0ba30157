//! What a test chooses about a cluster, and making one of it.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::programs::run;
use super::tls::Certificates;
use super::{ADMIN, Cluster, Credentials, SERVICE};

/// Free bytes from which on a cluster may lie in memory.
const MEMORY_ROOM: u64 = 1 << 30;

/// Whether clients can use TLS.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain connections only.
    #[default]
    Off,
    /// TLS is offered, with a certificate for `localhost` and 127.0.0.1; plain connections still work.
    Offered,
    /// Plain TCP connections are refused.
    Required,
}

/// Where the data lies. A killed server loses nothing on any of them: what PostgreSQL wrote is the
/// operating system's. They differ in what an fsync costs, and in room.
#[derive(Clone, Copy, Default)]
pub enum Disk {
    /// In memory if `/dev/shm` has room for it, else like [`Disk::Temporary`]: an fsync costs nothing.
    #[default]
    Memory,
    /// In the system's temporary folder: for measurements, an fsync costs what it costs.
    Temporary,
    /// On a file system of its own of this many mebibytes, in memory, which can be filled (needs
    /// root or sudo without a password; 96 or more).
    Small(u32),
}

impl Disk {
    /// Where a cluster's folder is made.
    pub(super) fn parent(self) -> PathBuf {
        let memory = PathBuf::from("/dev/shm");
        let room = |memory: &PathBuf| {
            rustix::fs::statvfs(memory).is_ok_and(|disk| disk.f_bavail * disk.f_frsize > MEMORY_ROOM)
        };
        match self {
            // Of a small disk this is what lies beside it: the server's log and copies of the data.
            Self::Memory | Self::Small(_) if room(&memory) => memory,
            Self::Memory | Self::Temporary | Self::Small(_) => std::env::temp_dir(),
        }
    }
}

/// How to make a cluster. Settings not named keep PostgreSQL's defaults, `fsync = on` among them.
#[derive(Clone, Default)]
pub struct Builder {
    tls: Tls,
    pub(super) disk: Disk,
    pub(super) settings: Vec<(String, String)>,
    pub(super) environment: Vec<(String, String)>,
}

impl Builder {
    /// Chooses TLS.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }
    /// Chooses the disk.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disk = disk;
        self
    }
    /// Adds a line to `postgresql.conf`, for example `fsync` = `off`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
    /// Gives the server's processes, and those of its replicas, an environment variable, for example `LD_PRELOAD`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
    /// Makes and starts it.
    pub fn start(self) -> Cluster {
        let cluster =
            Cluster::lay_out(self.disk, self.environment.clone(), Credentials::generate(), |root, programs| {
                (self.tls != Tls::Off).then(|| Certificates::make(&root.join("tls"), programs))
            });
        cluster.initialise(&self);
        cluster.start_again();
        let password = &cluster.credentials.service;
        let mut session = cluster.session_on(&cluster.local_url(ADMIN, &cluster.credentials.admin, "postgres"));
        session.run(&format!("CREATE ROLE {SERVICE} LOGIN PASSWORD '{password}'")).expect("the role is new");
        session.run(&format!("CREATE DATABASE {SERVICE} OWNER {SERVICE}")).expect("the database is new");
        cluster
    }
}

impl Cluster {
    /// Runs `initdb` and writes the configuration.
    fn initialise(&self, builder: &Builder) {
        let password_file = self.reaper.root.join("password");
        std::fs::write(&password_file, &self.credentials.admin).expect("the folder is writable");
        self.programs.own(&password_file);
        let mut initdb = self.programs.command("initdb", &self.reaper.root);
        initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", "--username", ADMIN]);
        initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password_file);
        if let Disk::Small(_) = self.disk {
            initdb.arg("--wal-segsize=1");
        }
        run(&mut initdb);
        std::fs::remove_file(&password_file).expect("the file is there");

        let mut text = String::from("\nshared_buffers = 32MB\njit = off\n");
        text.push_str(match self.disk {
            Disk::Memory | Disk::Temporary => "wal_keep_size = 256MB\n",
            Disk::Small(_) => "min_wal_size = 2MB\nmax_wal_size = 8MB\n",
        });
        for (name, value) in &builder.settings {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        self.append("postgresql.conf", &text);
        if builder.tls == Tls::Required {
            let rules = self.data().join("pg_hba.conf");
            let text = std::fs::read_to_string(&rules).expect("initdb wrote it");
            let strict: Vec<String> = text
                .lines()
                .map(|line| {
                    line.strip_prefix("host ").map_or_else(|| line.to_owned(), |rest| format!("hostssl {rest}"))
                })
                .collect();
            std::fs::write(&rules, strict.join("\n") + "\n").expect("the file is writable");
        }
    }
}
