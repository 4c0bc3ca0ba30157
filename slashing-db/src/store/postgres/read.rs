//! The reading side: a connection of its own, made when it is needed, so that a long listing never delays a
//! commit.

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{Epoch, PublicKey, Slot, UnixMillis};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row as _};

use super::engine::{Engine, Trouble, classify};
use super::session::{Dial, Session};
use super::values::{self, LABELS, MARKS};
use super::{approvals, watch};
use crate::approvals::ApprovalPolicy;
use crate::error::StoreError;
use crate::identity::CallerId;
use crate::journal::{Hash, Head, InstanceId, StoredBatch};
use crate::labels::Label;
use crate::registry::{
    DataKeyId, DataKeyRecord, HighWatermarks, InstanceInfo, KeyChanges, KeyInfo, Registration, SealedKey, ServerInfo,
    StoredKey,
};
use crate::store::{Enrolled, ReadStore, RowId};
use crate::watch::NewlyEnabled;

/// Listings of 100,000 keys take a second or two.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection for reading, if there is one at the moment.
pub(crate) struct PostgresReader {
    engine: Arc<Engine>,
    dial: Dial,
    session: Option<Session>,
}

/// A statement with its values.
type Statement = Query<'static, Postgres, PgArguments>;

impl PostgresReader {
    pub(super) fn new(engine: Arc<Engine>, dial: &Dial) -> Self {
        Self { engine, dial: dial.patient(STATEMENT_TIMEOUT), session: None }
    }

    /// Runs a statement; once more on a new connection if the one at hand turns out to be dead.
    pub(super) fn all<T>(
        &mut self,
        action: &'static str,
        statement: impl Fn() -> Statement,
        map: impl Fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = match self.session.take() {
            None => self.fetch(None, statement()),
            Some(session) => match self.fetch(Some(session), statement()) {
                Ok(Err(Trouble::Sql(_))) | Err(_) if self.session.is_none() => self.fetch(None, statement()),
                done => done,
            },
        };
        let rows = rows?.map_err(|trouble| classify(action, trouble))?;
        let mapped: sqlx::Result<Vec<T>> = rows.iter().map(map).collect();
        mapped.map_err(|error| classify(action, Trouble::Sql(error)))
    }

    fn fetch(
        &mut self,
        session: Option<Session>,
        statement: Statement,
    ) -> Result<Result<Vec<PgRow>, Trouble>, StoreError> {
        let mut session = if let Some(session) = session {
            session
        } else {
            let connected = self.engine.wait(self.dial.connect());
            connected.map_err(|error| StoreError::retryable("answer", error))?
        };
        let done = self.engine.within(self.dial.deadline(), async {
            let rows = statement.fetch_all(&mut session.db).await;
            Ok((session, rows))
        });
        match done {
            Ok((session, Ok(rows))) => {
                self.session = Some(session);
                Ok(Ok(rows))
            }
            Ok((_, Err(error))) => Ok(Err(Trouble::Sql(error))),
            Err(trouble) => Ok(Err(trouble)),
        }
    }
}

impl ReadStore for PostgresReader {
    fn stored_keys(&mut self) -> Result<Vec<StoredKey>, StoreError> {
        let sql = "SELECT v.pubkey, v.state, s.sealed FROM holdfast.sealed_keys s \
             JOIN holdfast.validators v ON v.id = s.id ORDER BY s.id";
        self.all(
            "load the keys",
            || sqlx::query(sql),
            |row| {
                Ok(StoredKey {
                    registration: Registration::new(Enrolled { key: values::key(row, 0)? }),
                    state: values::state(row, 1)?,
                    sealed: SealedKey::new(row.try_get(2)?),
                })
            },
        )
    }

    fn key_infos(&mut self, only: Option<&PublicKey>) -> Result<Vec<KeyInfo>, StoreError> {
        let columns = format!(
            "SELECT v.pubkey, v.state, {MARKS}, r.origin, r.label, r.created_ms, r.created_by, r.changed_ms, r.changed_by, {LABELS} \
             FROM holdfast.validators v LEFT JOIN holdfast.key_records r ON r.id = v.id"
        );
        let action = "read what is known about keys";
        if let Some(key) = only {
            let sql = format!("{columns} WHERE v.pubkey = $1");
            let key = key.as_bytes().to_vec();
            self.all(action, || sqlx::query(AssertSqlSafe(sql.clone())).bind(key.clone()), key_info)
        } else {
            let sql = format!("{columns} ORDER BY v.id");
            self.all(action, || sqlx::query(AssertSqlSafe(sql.clone())), key_info)
        }
    }

    fn labels(&mut self) -> Result<Vec<(PublicKey, Label)>, StoreError> {
        let sql = "SELECT v.pubkey, l.label FROM holdfast.key_labels l JOIN holdfast.validators v ON v.id = l.id";
        self.all(
            "read the labels of keys",
            || sqlx::query(sql),
            |row| Ok((values::key(row, 0)?, values::label(&row.try_get::<String, _>(1)?)?)),
        )
    }

    fn newly_enabled(&mut self) -> Result<Vec<NewlyEnabled>, StoreError> {
        let sql = watch::list();
        self.all("list the newly enabled keys", || sqlx::query(AssertSqlSafe(sql.clone())), watch::read)
    }

    fn high_watermarks(&mut self) -> Result<HighWatermarks, StoreError> {
        let sql = "SELECT max(max_slot)::text, max(max_source)::text, max(max_target)::text FROM holdfast.validators";
        let found = self.all(
            "read the highest watermarks",
            || sqlx::query(sql),
            |row| {
                Ok(HighWatermarks {
                    block: values::number(row, 0)?.map(Slot),
                    source: values::number(row, 1)?.map(Epoch),
                    target: values::number(row, 2)?.map(Epoch),
                })
            },
        )?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    fn data_keys(&mut self) -> Result<Vec<DataKeyRecord>, StoreError> {
        let sql = "SELECT id, provider, wrapped, stored_ms FROM holdfast.data_keys ORDER BY id";
        self.all(
            "read the data keys",
            || sqlx::query(sql),
            |row| {
                let id: i32 = row.try_get(0)?;
                Ok(DataKeyRecord {
                    id: DataKeyId(u32::try_from(id).map_err(|_| values::unknown())?),
                    provider: row.try_get(1)?,
                    wrapped: row.try_get(2)?,
                    stored: values::time(row, 3)?,
                })
            },
        )
    }

    fn approval_policy(&mut self) -> Result<Option<ApprovalPolicy>, StoreError> {
        Ok(self.all("read the approvers", || sqlx::query(approvals::SELECT_POLICY), approvals::read)?.pop())
    }

    fn key_changes(&mut self) -> Result<Option<KeyChanges>, StoreError> {
        let sql = "SELECT key_changes FROM holdfast.meta WHERE id = 1";
        let found = self.all("count the changes of keys", || sqlx::query(sql), |row| values::natural(row, 0))?;
        Ok(found.into_iter().next().map(KeyChanges))
    }

    fn journal_base(&mut self, chain: InstanceId) -> Result<Head, StoreError> {
        self.base_of(chain)
    }

    fn journal_head(&mut self, chain: InstanceId) -> Result<Head, StoreError> {
        self.head_of(chain)
    }

    fn batches_after(&mut self, chain: InstanceId, seq: u64, limit: usize) -> Result<Vec<StoredBatch>, StoreError> {
        self.after(chain, seq, limit)
    }

    fn last_before(
        &mut self,
        chain: InstanceId,
        seq: u64,
        limit: u64,
        cutoff: UnixMillis,
    ) -> Result<Option<u64>, StoreError> {
        self.old_until(chain, seq, limit, cutoff)
    }

    fn keys_from(&mut self, id: RowId, limit: usize) -> Result<Vec<(RowId, PublicKey)>, StoreError> {
        self.keys_after(id, limit)
    }

    fn server(&mut self) -> Result<Option<ServerInfo>, StoreError> {
        let sql = "SELECT current_setting('server_version'), nullif(current_setting('synchronous_standby_names'), '')";
        let map = |row: &PgRow| Ok(ServerInfo { version: row.try_get(0)?, synchronous_standbys: row.try_get(1)? });
        Ok(self.all("ask for its version", || sqlx::query(sql), map)?.pop())
    }

    fn instances(&mut self) -> Result<Vec<InstanceInfo>, StoreError> {
        let sql = "SELECT i.id, i.host, i.version, i.started_ms, i.last_seen_ms, h.seq, h.hash, i.suspect_since_ms \
             FROM holdfast.instances i LEFT JOIN LATERAL \
             (SELECT seq, hash FROM holdfast.journal j WHERE j.instance = i.id ORDER BY seq DESC LIMIT 1) h ON true \
             ORDER BY i.last_seen_ms DESC, i.id";
        self.all(
            "list the instances",
            || sqlx::query(sql),
            |row| {
                let head = match row.try_get::<Option<i64>, _>(5)? {
                    Some(_) => Head { seq: values::natural(row, 5)?, hash: Hash(values::bytes(row, 6)?) },
                    None => Head::EMPTY,
                };
                Ok(InstanceInfo {
                    id: InstanceId(values::bytes(row, 0)?),
                    host: row.try_get(1)?,
                    version: row.try_get(2)?,
                    started: values::time(row, 3)?,
                    last_seen: values::time(row, 4)?,
                    head,
                    suspects: values::moment(row, 7)?,
                })
            },
        )
    }
}

fn key_info(row: &PgRow) -> sqlx::Result<KeyInfo> {
    let name = |column: usize| {
        let name = row.try_get::<Option<String>, _>(column)?;
        Ok::<_, sqlx::Error>(CallerId::new(name.as_deref().unwrap_or_default()))
    };
    Ok(KeyInfo {
        key: values::key(row, 0)?,
        state: values::state(row, 1)?,
        watermarks: values::watermarks(row, 2)?,
        origin: values::origin(row, 7)?,
        label: row.try_get(8)?,
        labels: values::labels(row, 13)?,
        created: values::time(row, 9)?,
        created_by: name(10)?,
        changed: values::time(row, 11)?,
        changed_by: name(12)?,
    })
}
