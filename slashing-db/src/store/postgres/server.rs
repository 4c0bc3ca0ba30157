//! Whether the server is the one that was used before, with everything it acknowledged: to this instance and to
//! every other one.
//!
//! A running server loses nothing. So each locked read brings the moment at which the server process was started;
//! when that is another one, and with every heartbeat, the server is compared with what is remembered of it.

use core::fmt::Write as _;

use holdfast_domain::UnixMillis;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _, raw_sql};

use super::engine::classify;
use super::{PostgresStore, values};
use crate::anchor::{DatabaseIdentity, Landmarks, Peer, RollbackKind};
use crate::error::{FreezeReason, StoreError};
use crate::journal::{Hash, Head, InstanceId};

/// The columns of a [`Mark`].
pub(super) const MARK: &str = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, \
     CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint END";

/// The column that says since when an instance suspects the database; of several the newest moment.
pub(super) const SUSPECTED: &str = "(SELECT max(suspect_since_ms) FROM holdfast.instances)";

/// Which run of the server answered, and up to where its log was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    started: i64,
    wal: u64,
}

impl Mark {
    /// Reads the columns of [`MARK`] from `first` on.
    pub(super) fn read(row: &PgRow, first: usize) -> sqlx::Result<Self> {
        Ok(Self { started: row.try_get(first)?, wal: values::natural(row, first.saturating_add(1))? })
    }
}

/// A server as this instance knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) identity: DatabaseIdentity,
    pub(super) landmarks: Landmarks,
    started: i64,
}

/// A look at a server.
pub(super) struct Observed {
    /// Where this instance's journal ends.
    pub(super) own: Head,
    /// Since when an instance suspects the database.
    pub(super) suspected: Option<UnixMillis>,
    present: Known,
    /// Whether it would still not lose what it acknowledges.
    durable: bool,
    /// How many of the batches asked about it does not hold.
    missing: u64,
}

impl Known {
    /// Takes the server as it is.
    pub(super) fn accept(observed: Observed) -> Self {
        observed.present
    }

    /// Whether the same run of the server answered, in which nothing can have been lost.
    pub(super) fn is_running_on(&mut self, mark: Mark) -> bool {
        let same = mark.started == self.started && mark.wal >= self.landmarks.wal;
        if same {
            self.landmarks.wal = mark.wal;
        }
        same
    }

    /// Takes over what was observed, unless it shows that the server lacks something. `first` was read when the
    /// connection was made: a server that lost commits makes up for them in length.
    pub(super) fn compare(&mut self, observed: Observed, first: Mark) -> Option<RollbackKind> {
        let noticed = if observed.present.identity != self.identity {
            Some(RollbackKind::Copied)
        } else if observed.present.started == self.started {
            self.landmarks.lacked_by(&observed.present.landmarks, observed.missing)
        } else {
            observed.lacks(&self.landmarks, first)
        };
        if noticed.is_none() {
            *self = observed.present;
        }
        noticed
    }
}

impl Observed {
    /// What shows that this server lacks something that one with the remembered landmarks had.
    pub(super) fn lacks(&self, remembered: &Landmarks, first: Mark) -> Option<RollbackKind> {
        let mut present = self.present.landmarks.clone();
        if first.started == self.present.started {
            present.wal = present.wal.min(first.wal);
        }
        remembered.lacked_by(&present, self.missing)
    }
}

/// One message of two statements: the server, with how many of the remembered batches of others it lacks, and
/// where this instance's journal and the others' end. A batch older than the oldest that is kept of its journal is not missed.
pub(super) fn observe_sql(instance: InstanceId, remembered: &Landmarks) -> String {
    let mut sql = format!(
        "SELECT {MARK}, (SELECT system_identifier::text FROM pg_control_system()), \
         (SELECT oid::text FROM pg_database WHERE datname = current_database()), \
         CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, \
         current_setting('synchronous_standby_names') <> '', (SELECT count(*) FROM (VALUES (''::bytea, 0::bigint, ''::bytea)"
    );
    for peer in &remembered.peers {
        let (instance, head) = (peer.instance, peer.head);
        let _ = write!(sql, ", ('\\x{instance}', {}, '\\x{}')", head.seq.cast_signed(), head.hash);
    }
    let _ = write!(
        sql,
        ") AS r (instance, seq, hash) WHERE r.seq > 0 AND NOT EXISTS (SELECT 1 FROM holdfast.journal j \
         WHERE j.instance = r.instance AND j.seq = r.seq AND j.hash = r.hash) \
         AND coalesce((SELECT min(j.seq) FROM holdfast.journal j WHERE j.instance = r.instance), 0) <= r.seq), \
         current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on', {SUSPECTED}; \
         SELECT i.id, h.seq, h.hash FROM holdfast.instances i JOIN LATERAL (SELECT seq, hash FROM holdfast.journal j \
         WHERE j.instance = i.id ORDER BY seq DESC LIMIT 1) h ON true \
         ORDER BY i.id = '\\x{instance}' DESC, i.last_seen_ms DESC, i.id LIMIT {}",
        Landmarks::MAX_PEERS.saturating_add(1)
    );
    sql
}

pub(super) async fn observe(db: &mut PgConnection, instance: InstanceId, sql: &str) -> sqlx::Result<Observed> {
    let (mut server, mut own) = (None, Head::EMPTY);
    let mut peers = Vec::new();
    for row in raw_sql(AssertSqlSafe(sql)).fetch_all(db).await? {
        // The rows of both statements come in one list; they differ in width.
        if row.len() == 3 {
            let head = Head { seq: values::natural(&row, 1)?, hash: Hash(values::bytes(&row, 2)?) };
            let peer = Peer { instance: InstanceId(values::bytes(&row, 0)?), head };
            if peer.instance == instance {
                own = head;
            } else if peers.len() < Landmarks::MAX_PEERS {
                peers.push(peer);
            }
        } else {
            server = Some(row);
        }
    }
    let row = server.ok_or(sqlx::Error::RowNotFound)?;
    let (mark, text) = (Mark::read(&row, 0)?, |column: usize| row.try_get::<String, _>(column));
    let identity = DatabaseIdentity::new(format!("postgres system {} database {}", text(2)?, text(3)?));
    let landmarks = Landmarks { timeline: text(4)?, synchronous: row.try_get(5)?, wal: mark.wal, peers };
    Ok(Observed {
        own,
        suspected: values::moment(&row, 8)?,
        present: Known { identity, landmarks, started: mark.started },
        missing: values::natural(&row, 6)?,
        durable: row.try_get(7)?,
    })
}

impl PostgresStore {
    /// Looks at the server: what it is, what others wrote, and what it lacks of what is remembered.
    pub(super) fn observe(&mut self, action: &'static str, remembered: &Landmarks) -> Result<Observed, StoreError> {
        let (instance, sql) = (self.instance, observe_sql(self.instance, remembered));
        let sql = sql.as_str();
        let observed = self.link.ask(action, |mut session| async move {
            let observed = observe(&mut session.db, instance, sql).await;
            (session, observed)
        })?;
        self.suspected = observed.suspected;
        Ok(observed)
    }

    /// Makes sure that the server of the open transaction is still the one that was used before, or has all of it.
    pub(super) fn recognise(&mut self, mark: Mark) -> Result<(), StoreError> {
        if self.known.is_running_on(mark) {
            return Ok(());
        }
        let (instance, sql) = (self.instance, observe_sql(self.instance, &self.known.landmarks));
        let sql = sql.as_str();
        // Not `ask`: on another connection the locks would be gone.
        let observed = self.link.run(self.link.dial.deadline(), |mut session| async move {
            let observed = observe(&mut session.db, instance, sql).await;
            (session, observed)
        });
        let observed = observed?.map_err(|trouble| classify("compare its server with the one before", trouble))?;
        let judged = self.judge_server(observed);
        if judged.is_err() {
            self.link.abandon();
        }
        judged
    }

    /// Takes the server as it is now for the one that was used before, unless it lacks something.
    pub(super) fn judge_server(&mut self, observed: Observed) -> Result<(), StoreError> {
        if !observed.durable {
            // The next connection says which setting it is, and waits until it is mended.
            self.link.lose();
            let found = "fsync or full_page_writes was switched off while it was running";
            return Err(StoreError::retryable("rely on its server", found));
        }
        self.noticed = self.known.compare(observed, self.link.facts().mark);
        match self.noticed {
            None => Ok(()),
            Some(kind) => Err(StoreError::fatal("trust its server", FreezeReason::JournalHeadMoved, kind.to_string())),
        }
    }
}
