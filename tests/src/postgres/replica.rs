//! Streaming replication: standbys that follow, fall behind on command and take over. Promoting a
//! standby that fell behind is how committed history is lost without anyone doing anything wrong.

use std::fs::File;
use std::net::SocketAddr;

use super::processes::until;
use super::{ADMIN, Cluster, SERVER_LIMIT};

impl Cluster {
    /// Makes and starts a streaming replica (asynchronous until [`Cluster::synchronous_standby`]);
    /// returns when it streams. Its disk is of the kind of this server's; roles, passwords and certificates are those of this server.
    pub fn replica(&self) -> Cluster {
        self.replica_through(self.addr())
    }

    /// The same, with the replication connection through another address, a proxy's for example.
    pub fn replica_through(&self, primary: SocketAddr) -> Cluster {
        let replica = Self::lay_out(self.disk, self.environment.clone(), self.credentials.clone(), |root, _| {
            self.certificates.as_ref().map(|certificates| certificates.copy_to(&root.join("tls")))
        });
        replica.pull_from(self, &replica.data());
        let password = &self.credentials.admin;
        let (host, port) = (primary.ip(), primary.port());
        replica.append(
            "postgresql.conf",
            &format!("primary_conninfo = 'host={host} port={port} user={ADMIN} password={password}'\n"),
        );
        // What `pg_basebackup -R` does, but in the file that `ALTER SYSTEM` can override and restore.
        let signal = replica.data().join("standby.signal");
        File::create(&signal).expect("the data folder is writable");
        replica.programs.own(&signal);
        replica.start_again();
        replica.wait_for_receiver(Some("streaming"));
        replica
    }

    /// Name under which this server shows in its primary's `pg_stat_replication`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cuts this replica off its primary: commits there from now on never arrive here. Returns when
    /// nothing is received any more.
    pub fn pause_replication(&self) {
        self.set("primary_conninfo", "");
        self.wait_for_receiver(None);
    }

    /// Lets the replica follow again; it catches up what it missed.
    pub fn resume_replication(&self) {
        self.psql("ALTER SYSTEM RESET primary_conninfo; SELECT pg_reload_conf()");
        self.wait_for_receiver(Some("streaming"));
    }

    /// Returns when this replica has replayed everything `primary` has committed so far.
    pub fn catch_up_with(&self, primary: &Cluster) {
        let rows = primary.psql("SELECT pg_current_wal_flush_lsn()");
        let mut session = self.session();
        let query = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", rows[0][0]);
        until("the replica has caught up", SERVER_LIMIT, || (session.run(&query).ok()?[0][0] == "t").then_some(()));
    }

    /// Makes this replica a primary, with what it has; returns when it takes writes.
    pub fn promote(&self) {
        let rows = self.psql("SELECT pg_promote(true, 60)");
        assert_eq!(rows[0][0], "t", "the replica was not promoted; its log:\n{}", self.log());
        until("the promoted server takes writes", SERVER_LIMIT, || {
            (self.psql("SELECT pg_is_in_recovery()")[0][0] == "f").then_some(())
        });
        // A replica of this server must not inherit what paused the one it was.
        self.psql("ALTER SYSTEM RESET primary_conninfo");
    }

    /// Makes commits of this server wait for a replica (`None`: for nobody) and returns when that is
    /// in force. While the replica is away, commits are kept but not acknowledged.
    pub fn synchronous_standby(&self, replica: Option<&Cluster>) {
        let Some(replica) = replica else {
            self.set("synchronous_standby_names", "");
            return;
        };
        self.set("synchronous_standby_names", &replica.name);
        let mut session = self.session();
        let query = format!(
            "SELECT 1 FROM pg_stat_replication WHERE application_name = '{}' AND sync_state = 'sync'",
            replica.name
        );
        until("the standby is synchronous", SERVER_LIMIT, || {
            (!session.run(&query).expect("the primary answers").is_empty()).then_some(())
        });
    }

    fn wait_for_receiver(&self, status: Option<&str>) {
        let mut session = self.session();
        until("the receiver of the replica is in the wanted state", SERVER_LIMIT, || {
            let rows = session.run("SELECT status FROM pg_stat_wal_receiver").expect("the replica answers");
            (rows.first().map(|row| row[0].as_str()) == status).then_some(())
        });
    }
}
