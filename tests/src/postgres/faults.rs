//! Faults of one server: ends of every kind, a freeze, a full disk, refused writes.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use rustix::process::{Pid, Signal};

use super::{Cluster, Disk, SERVICE, processes};

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ends connections, writes a checkpoint.
    Fast,
    /// Ends at once, without a checkpoint: the next start replays the journal.
    Immediate,
}

/// Whether sessions may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The normal state.
    ReadWrite,
    /// `default_transaction_read_only = on`: every write fails with SQLSTATE 25006.
    ReadOnly,
}

impl Cluster {
    /// SIGKILL to the server and every process of it; returns when all are gone. Data that PostgreSQL
    /// handed to the operating system survives, as in a crash of the program (not of the machine).
    pub fn kill9(&self) {
        processes::kill_all(self.pid(), &self.data());
        self.reap();
    }

    /// SIGKILL to one server process that works for the service. PostgreSQL then ends all the others and recovers by
    /// itself. False if the service has no connection.
    pub fn kill_backend(&self) -> bool {
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE usename = '{SERVICE}' ORDER BY random() LIMIT 1");
        let found = self.try_psql(&sql).unwrap_or_default();
        let Some(pid) = found.first().and_then(|row| row[0].parse().ok()).and_then(Pid::from_raw) else { return false };
        processes::signal_in(&self.data(), pid, Signal::KILL);
        true
    }

    /// Stops the server, a frozen one too, and returns when it has ended.
    pub fn stop(&self, stop: Stop) {
        let signal = match stop {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        processes::signal(self.pid(), signal);
        processes::thaw_all(&self.data());
        self.reap();
    }

    /// Freezes every process (SIGSTOP): connections stay open and nothing answers, new ones neither.
    pub fn pause(&self) {
        processes::freeze_all(self.pid(), &self.data());
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        processes::thaw_all(&self.data());
    }

    /// Allows or forbids writes, in new sessions at once and in old ones from their next transaction.
    pub fn read_only(&self, access: Access) {
        let value = match access {
            Access::ReadWrite => "off",
            Access::ReadOnly => "on",
        };
        self.set("default_transaction_read_only", value);
    }

    /// Fills the rest of a [`Disk::Small`]. Writes then fail as soon as they need new room; the
    /// server may stop altogether if that is the journal.
    pub fn fill_disk(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).expect("the disk is mounted");
        let block = vec![0_u8; 1 << 16];
        let mut size = block.len();
        while size > 0 {
            match file.write(&block[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
    }

    /// Gives the room back.
    pub fn free_disk(&self) {
        std::fs::remove_file(self.ballast()).expect("the disk was filled");
    }

    fn ballast(&self) -> PathBuf {
        assert!(matches!(self.disk, Disk::Small(_)), "only a small disk can be filled: use Disk::Small");
        self.reaper.root.join("disk/ballast")
    }
}
