//! Copies of a data folder, and going back to one: the restore of an old backup that slashing
//! protection has to notice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::processes::until;
use super::programs::run;
use super::{ADMIN, Builder, Cluster, Credentials, SERVER_LIMIT};

/// A copy of a cluster's data. It lies in the cluster's folder and ends with it at the latest.
pub struct Snapshot {
    folder: PathBuf,
    credentials: Credentials,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Cluster {
    /// Copies the data folder of a stopped (or killed) server.
    pub fn snapshot(&self) -> Snapshot {
        assert!(!self.is_running(), "stop the server before copying its files, or use base_backup");
        let snapshot = self.new_snapshot();
        copy(&self.data(), &snapshot.folder);
        snapshot
    }

    /// Takes a backup of the running server, as operators do.
    pub fn base_backup(&self) -> Snapshot {
        let snapshot = self.new_snapshot();
        self.pull_from(self, &snapshot.folder);
        snapshot
    }

    /// Replaces the data of the stopped server.
    pub fn restore(&self, snapshot: &Snapshot) {
        assert!(!self.is_running(), "stop the server before replacing its files");
        std::fs::remove_dir_all(self.data()).expect("the data folder is there");
        copy(&snapshot.folder, &self.data());
    }

    /// Replaces the data of the stopped server with a backup and starts it as point-in-time recovery does: it
    /// replays what the backup holds and goes on in a new line of history.
    pub fn recover(&self, snapshot: &Snapshot) {
        self.restore(snapshot);
        let signal = self.data().join("recovery.signal");
        std::fs::write(&signal, "").expect("the data folder is writable");
        self.programs.own(&signal);
        self.append("postgresql.conf", "restore_command = 'false'\n");
        self.start_again();
        until("the recovery has ended", SERVER_LIMIT, || {
            let rows = self.try_psql("SELECT pg_is_in_recovery()").ok()?;
            (rows[0][0] == "f").then_some(())
        });
    }

    /// Starts a second server on a copy of the data, with the same passwords and without TLS.
    pub fn start_from(snapshot: &Snapshot, builder: &Builder) -> Self {
        let cluster =
            Self::lay_out(builder.disk, builder.environment.clone(), snapshot.credentials.clone(), |_, _| None);
        copy(&snapshot.folder, &cluster.data());
        for (name, value) in &builder.settings {
            cluster.append("postgresql.conf", &format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        cluster.start_again();
        cluster
    }

    /// `pg_basebackup` from another cluster into a new folder of this one.
    pub(super) fn pull_from(&self, source: &Cluster, folder: &Path) {
        let mut command = self.programs.command("pg_basebackup", &self.reaper.root);
        command
            .args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--pgdata"])
            .arg(folder)
            .arg("--dbname")
            .arg(source.local_url(ADMIN, &source.credentials.admin, "postgres"));
        run(&mut command);
    }

    fn new_snapshot(&self) -> Snapshot {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = self.reaper.root.join(format!("snapshots/{number}"));
        Snapshot { folder, credentials: self.credentials.clone() }
    }
}

/// Copies a data folder with its owners; the target must not exist.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]));
    let _ = std::fs::remove_file(to.join("postmaster.pid"));
}
