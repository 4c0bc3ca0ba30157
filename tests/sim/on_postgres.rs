//! Several signers with the same keys on one real PostgreSQL, each with its own data directory and clock, all through
//! the fault proxy, with a streaming replica behind the server.
//!
//! A restored or promoted server is started where signers cannot reach it first, so that the journals can be read
//! as the lost server had kept them: what was acknowledged and is lost afterwards is known exactly.

use std::sync::Arc;
use std::time::Duration;

use holdfast_slashing_db::PostgresOptions;
use holdfast_slashing_db::journal::{InstanceId, Reader};
use holdfast_tests::postgres::{Cluster, Snapshot};
use holdfast_tests::proxy::{Cut, Flow, Listening, Proxy};
use holdfast_tests::shim::{Control, DiskFault};
use rand::RngExt;

use crate::plan::Kind;
use crate::stage::{Cast, Stage};

/// New signatures that must be lost by a rollback, at least.
const SIGNED_BEFORE_A_ROLLBACK: u64 = 15;
/// How long others sign before a loss that an idle signer must notice although the timeline stays: it looks at the server
/// every second, and what came and went between two looks only the one who wrote it notices (ADR 0009).
const LOOKS_OF_AN_IDLE_SIGNER: Duration = Duration::from_millis(2_500);
/// Refusals that a closed port must cause.
const REFUSALS_OF_A_CLOSED_PORT: u64 = 5;

/// The stage.
pub(crate) struct OnPostgres<'a> {
    pub(crate) cast: Cast<'a>,
    /// The server in use; gone only while it is replaced.
    pub(crate) cluster: Cluster,
    pub(crate) replica: Option<Cluster>,
    pub(crate) proxy: Proxy,
    /// Steers the disks of the servers.
    pub(crate) control: Arc<Control>,
}

impl OnPostgres<'_> {
    fn recover(&mut self) -> Result<(), String> {
        let cluster = &self.cluster;
        // PostgreSQL recovers from most by itself; when it gives up, whoever supervises it starts it again.
        self.cast.recover(|| {
            if !cluster.is_running() {
                let _ = cluster.try_start_again();
            }
        })
    }

    /// The journals of all signers as the server has them.
    fn journals(&self) -> Result<Vec<(String, Reader)>, String> {
        let rows = self.cluster.try_psql("SELECT encode(id, 'hex') FROM holdfast.instances ORDER BY id")?;
        let options = PostgresOptions::new(self.cluster.url());
        rows.iter()
            .map(|row| {
                let mut id = [0; 16];
                hex::decode_to_slice(&row[0], &mut id).map_err(|error| error.to_string())?;
                let reader = Reader::open_postgres(&options, InstanceId(id));
                Ok((row[0].clone(), reader.map_err(|error| format!("no journal of {}: {error:?}", row[0]))?))
            })
            .collect()
    }

    /// Kills the server with requests on their way, and reads its journals where nobody else can reach it.
    fn last_words(&mut self) -> Result<(), String> {
        self.proxy.set_listening(Listening::Refuse);
        self.cluster.kill9();
        self.proxy.cut_all();
        self.cluster.start_again();
        let journals = self.journals()?;
        self.cast.audit(journals, None)?;
        self.cluster.kill9();
        Ok(())
    }

    /// Opens the way to a server that may lack commits, settles, and compares the journals with what they were.
    fn go_on_after_rollback(&mut self) -> Result<(), String> {
        self.cast.chains.expect_cut();
        self.proxy.set_listening(Listening::Accept);
        let froze = self.cast.settle_rollback()?;
        let journals = self.journals()?;
        self.cast.audit(journals, Some(&froze))?;
        self.recover()
    }

    fn go_on(&self) -> Result<(), String> {
        self.cast.traffic.progress(self.cast.plan.requests_between / 4, SIGNED_BEFORE_A_ROLLBACK)
    }

    /// Half of the time one signer stands idle from here on, so that only the others' commits will be lost.
    fn idle(&mut self) -> Option<usize> {
        let number = self.cast.any();
        if self.cast.rng.random_bool(0.5) {
            return None;
        }
        self.cast.door(number, false);
        Some(number)
    }

    fn roll_back_to(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        self.go_on()?;
        self.last_words()?;
        self.cluster.restore(snapshot);
        self.replica = None;
        self.cluster.start_again();
        self.go_on_after_rollback()
    }

    fn older_copy(&mut self) -> Result<(), String> {
        self.cluster.kill9();
        let snapshot = self.cluster.snapshot();
        self.cluster.start_again();
        self.recover()?;
        self.roll_back_to(&snapshot)
    }

    fn older_backup(&mut self) -> Result<(), String> {
        let idle = self.idle();
        let snapshot = self.cluster.base_backup();
        if idle.is_some() {
            std::thread::sleep(LOOKS_OF_AN_IDLE_SIGNER);
        }
        let went = self.roll_back_to(&snapshot);
        self.busy(idle);
        went
    }

    fn promotion(&mut self) -> Result<(), String> {
        let replica = match self.replica.take() {
            Some(replica) => replica,
            None => self.cluster.replica(),
        };
        let idle = self.idle();
        replica.catch_up_with(&self.cluster);
        replica.pause_replication();
        let went = self.promote(replica);
        self.busy(idle);
        went
    }

    /// Makes a replica that lags behind the server.
    fn promote(&mut self, replica: Cluster) -> Result<(), String> {
        self.go_on()?;
        self.last_words()?;
        replica.promote();
        self.proxy.set_target(replica.addr());
        self.cluster = replica;
        self.go_on_after_rollback()
    }

    fn busy(&self, idle: Option<usize>) {
        if let Some(number) = idle {
            self.cast.door(number, true);
        }
    }

    fn cut(&mut self) -> Result<(), String> {
        let cut = self.proxy.counters().cut;
        if self.cast.rng.random_bool(0.5) {
            self.proxy.set_listening(Listening::Refuse);
            self.proxy.cut_all();
            let before = self.cast.traffic.mark();
            let refused = self.cast.wait_for("a closed port refuses", || {
                self.cast.traffic.mark().unavailable >= before.unavailable + REFUSALS_OF_A_CLOSED_PORT
            });
            self.proxy.set_listening(Listening::Accept);
            refused?;
        } else {
            self.proxy.cut_all();
        }
        if self.proxy.counters().cut == cut {
            return Err("there was no connection to cut".to_owned());
        }
        self.recover()
    }

    fn commit_cut(&mut self, cut: Cut) -> Result<(), String> {
        self.proxy.arm(cut);
        self.cast.wait_for("a commit is cut", || !self.proxy.is_armed())?;
        self.recover()
    }

    fn disk_full(&mut self) -> Result<(), String> {
        let before = self.cast.traffic.mark();
        self.cluster.fill_disk();
        let refused =
            self.cast.wait_for("a full disk refuses", || self.cast.traffic.mark().unavailable > before.unavailable + 3);
        self.cluster.free_disk();
        refused?;
        self.recover()
    }

    fn flush_lost(&mut self) -> Result<(), String> {
        let before = self.control.hits();
        let fault =
            if self.cast.rng.random_bool(0.5) { DiskFault::FlushFailsAndLoses } else { DiskFault::FlushFailsButIsKept };
        self.control.arm(fault, "pg_wal/");
        self.cast.wait_for("the disk fails", || self.control.hits() > before)?;
        self.control.disarm();
        self.recover()
    }
}

impl Stage for OnPostgres<'_> {
    fn hurt(&mut self, kind: Kind) -> Result<(), String> {
        match kind {
            Kind::KillSigner => self.cast.kill_signer(),
            Kind::HangSigner => self.cast.hang_signer(),
            Kind::ClockForward => self.cast.clock_forward(),
            Kind::ClockBack => self.cast.clock_back(),
            Kind::KillDatabase => {
                self.cluster.kill9();
                self.cluster.start_again();
                self.recover()
            }
            Kind::KillBackend => {
                self.cast.wait_for("a process of PostgreSQL is killed", || self.cluster.kill_backend())?;
                self.recover()
            }
            Kind::Cut => self.cut(),
            Kind::HangNetwork => {
                let flow = if self.cast.rng.random_bool(0.5) { Flow::HoldAll } else { Flow::HoldAnswers };
                self.proxy.set_flow(flow);
                self.cast.hold();
                self.proxy.set_flow(Flow::Open);
                self.recover()
            }
            Kind::HangDatabase => {
                self.cluster.pause();
                self.cast.hold();
                self.cluster.resume();
                self.recover()
            }
            Kind::CommitNotKept => self.commit_cut(Cut::Before(b"; COMMIT".to_vec())),
            Kind::CommitKept => self.commit_cut(Cut::AnswerTo(b"; COMMIT".to_vec())),
            Kind::DiskFull => self.disk_full(),
            Kind::FlushLost => self.flush_lost(),
            Kind::OlderCopy => self.older_copy(),
            Kind::OlderBackup => self.older_backup(),
            Kind::Promotion => self.promotion(),
            Kind::LogDeleted | Kind::AnchorDeleted | Kind::CopiedDirectory | Kind::MachineSnapshot => {
                Err(format!("{} needs a database in a file", kind.name()))
            }
        }
    }

    fn end(&mut self) -> Result<(), String> {
        for instance in &mut self.cast.instances {
            instance.stop()?;
        }
        let journals = self.journals()?;
        self.cast.audit(journals, None)
    }

    fn logs(&self) -> String {
        self.cast.instances.iter().map(crate::instance::Instance::log).collect::<Vec<_>>().join("\n---\n")
    }
}
