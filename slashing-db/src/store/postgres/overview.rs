//! The whole database at a glance, on one connection that only reads.

use std::sync::Arc;

use holdfast_domain::PublicKey;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::engine::{Engine, Trouble};
use super::instance::pinned_root;
use super::read::PostgresReader;
use super::session::{Dial, PostgresOptions, application_name};
use super::{schema, values};
use crate::error::{OpenError, StoreError};
use crate::journal::{Hash, Head, InstanceId};
use crate::labels::Label;
use crate::overview::{Durability, InstanceView, KeyCounts, Overview, Presence};
use crate::registry::HighWatermarks;
use crate::store::ReadStore as _;

/// The first schema that has labels.
const FIRST_WITH_LABELS: u32 = 6;
/// The first schema in which an instance says that it suspects the database.
const FIRST_WITH_SUSPICION: u32 = 7;

/// Looks at a database. Changes nothing.
pub(crate) fn overview(options: &PostgresOptions) -> Result<Overview, OpenError> {
    let dial = Dial::new(options)?;
    let engine = Arc::new(Engine::new()?);
    let mut session = engine.wait(dial.connect())?;
    let path = dial.address.clone();
    let failed = |trouble: Trouble| OpenError::Database {
        action: "look at the database",
        path: path.clone().into(),
        source: trouble.into_source(),
    };
    let store_failed = |error: StoreError| OpenError::Database {
        action: "look at the database",
        path: path.clone().into(),
        source: Box::new(error),
    };
    let schema = engine.within(dial.deadline(), schema::version(&mut session.db)).map_err(failed)?;
    let durability = engine.within(dial.deadline(), durability(&mut session.db)).map_err(failed)?;
    let mut overview = Overview {
        schema: schema.found,
        schema_known: schema.supported,
        durability,
        pinned: None,
        instances: Vec::new(),
        keys: KeyCounts::default(),
        highest: HighWatermarks::default(),
        data_key: None,
    };
    if schema.found == 0 {
        return Ok(overview);
    }
    let read = engine.within(dial.deadline(), async {
        let pinned = pinned_root(&mut session.db).await?;
        Ok((pinned, keys(&mut session.db).await?, instances(&mut session.db, schema.found).await?))
    });
    (overview.pinned, overview.keys, overview.instances) = read.map_err(failed)?;
    let mut reader = PostgresReader::new(engine, &dial);
    overview.highest = reader.high_watermarks().map_err(store_failed)?;
    let records = reader.data_keys().map_err(store_failed)?;
    overview.data_key = records.into_iter().max_by_key(|record| record.id);
    Ok(overview)
}

/// Reads every label. Changes nothing. A schema without labels has none.
pub(crate) fn labels(options: &PostgresOptions) -> Result<Vec<(PublicKey, Label)>, OpenError> {
    let dial = Dial::new(options)?;
    let engine = Arc::new(Engine::new()?);
    let mut session = engine.wait(dial.connect())?;
    let path: std::path::PathBuf = dial.address.clone().into();
    let action = "read the labels of keys";
    let schema = engine.within(dial.deadline(), schema::version(&mut session.db));
    let schema =
        schema.map_err(|trouble| OpenError::Database { action, path: path.clone(), source: trouble.into_source() })?;
    if schema.found < FIRST_WITH_LABELS {
        return Ok(Vec::new());
    }
    let all = PostgresReader::new(engine, &dial).labels();
    all.map_err(|error| OpenError::Database { action, path, source: Box::new(error) })
}

async fn durability(db: &mut PgConnection) -> sqlx::Result<Durability> {
    let sql = "SELECT current_setting('server_version'), current_setting('synchronous_standby_names')";
    let row = sqlx::query(sql).fetch_one(db).await?;
    let (version, names) = (row.try_get(0)?, row.try_get::<String, _>(1)?);
    Ok(if names.is_empty() { Durability::OneServer { version } } else { Durability::Standby { version, names } })
}

async fn keys(db: &mut PgConnection) -> sqlx::Result<KeyCounts> {
    let sql = "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1), \
         count(*) FILTER (WHERE state = 2) FROM holdfast.validators";
    let row = sqlx::query(sql).fetch_one(db).await?;
    Ok(KeyCounts {
        enabled: values::natural(&row, 0)?,
        disabled: values::natural(&row, 1)?,
        tombstoned: values::natural(&row, 2)?,
    })
}

async fn instances(db: &mut PgConnection, schema: u32) -> sqlx::Result<Vec<InstanceView>> {
    let suspects = if schema < FIRST_WITH_SUSPICION { "NULL::bigint" } else { "i.suspect_since_ms" };
    // Every connection of an instance bears its id, so presence costs nobody anything.
    let sql = format!(
        "SELECT i.id, i.host, i.version, i.started_ms, h.seq, h.hash, h.time_ms, EXISTS (SELECT 1 FROM pg_stat_activity a \
         WHERE a.datname = current_database() AND a.application_name = {}), {suspects} FROM holdfast.instances i LEFT JOIN LATERAL \
         (SELECT seq, hash, time_ms FROM holdfast.journal j WHERE j.instance = i.id ORDER BY seq DESC LIMIT 1) h ON true \
         ORDER BY i.last_seen_ms DESC, i.id",
        application_name("encode(i.id, 'hex')")
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(db).await?;
    let views = rows.iter().map(|row| {
        let (head, last_batch) = match row.try_get::<Option<i64>, _>(4)? {
            Some(_) => (
                Head { seq: values::natural(row, 4)?, hash: Hash(values::bytes(row, 5)?) },
                Some(values::time(row, 6)?),
            ),
            None => (Head::EMPTY, None),
        };
        Ok(InstanceView {
            id: InstanceId(values::bytes(row, 0)?),
            host: Some(row.try_get(1)?),
            version: Some(row.try_get(2)?),
            started: Some(values::time(row, 3)?),
            head,
            last_batch,
            presence: if row.try_get(7)? { Presence::Connected } else { Presence::Away },
            suspects: values::moment(row, 8)?,
        })
    });
    views.collect()
}
