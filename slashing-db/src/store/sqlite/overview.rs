//! The whole database at a glance, on a connection that only reads; SQLite lets it read while a signer writes.

use std::path::Path;

use holdfast_domain::{PublicKey, UnixMillis};
use rusqlite::{Connection, OptionalExtension};

use super::open::{self, MIGRATIONS, read_meta, schema_version};
use super::read::SqliteReader;
use super::values::{Signed, blob, state};
use crate::error::{OpenError, StoreError};
use crate::journal::{Hash, Head};
use crate::labels::Label;
use crate::locks;
use crate::overview::{Durability, InstanceView, KeyCounts, Overview, Presence};
use crate::registry::{HighWatermarks, KeyState};
use crate::store::ReadStore as _;

/// The first schema that has labels.
const FIRST_WITH_LABELS: u32 = 5;

/// Looks at a database file. Changes nothing.
pub(crate) fn overview(path: &Path) -> Result<Overview, OpenError> {
    let failed = |source: rusqlite::Error| OpenError::Database {
        action: "look at the database",
        path: path.to_owned(),
        source: Box::new(source),
    };
    let store_failed = |source: StoreError| OpenError::Database {
        action: "look at the database",
        path: path.to_owned(),
        source: Box::new(source),
    };
    let metadata =
        std::fs::metadata(path).map_err(|source| OpenError::Io { action: "examine", path: path.to_owned(), source })?;
    let presence = match locks::holder(&metadata) {
        Some(_) => Presence::Connected,
        None if locks::are_shown() => Presence::Away,
        None => Presence::Unknown,
    };
    let db = open::open_read_only(path).map_err(failed)?;
    let schema = schema_version(&db).map_err(failed)?;
    let mut overview = Overview {
        schema,
        schema_known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        durability: Durability::File,
        pinned: None,
        instances: Vec::new(),
        keys: KeyCounts::default(),
        highest: HighWatermarks::default(),
        data_key: None,
    };
    if schema == 0 {
        return Ok(overview);
    }
    let (id, pinned) = read_meta(&db).map_err(failed)?;
    overview.pinned = pinned;
    let (head, last_batch) = end(&db).map_err(failed)?;
    overview.instances =
        vec![InstanceView { id, host: None, version: None, started: None, head, last_batch, presence, suspects: None }];
    overview.keys = keys(&db).map_err(failed)?;
    let mut reader = SqliteReader::new(db);
    overview.highest = reader.high_watermarks().map_err(store_failed)?;
    let records = reader.data_keys().map_err(store_failed)?;
    overview.data_key = records.into_iter().max_by_key(|record| record.id);
    Ok(overview)
}

/// Reads every label of a database file. Changes nothing. A schema without labels has none.
pub(crate) fn labels(path: &Path) -> Result<Vec<(PublicKey, Label)>, OpenError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Database {
        action: "read the labels of keys",
        path: path.to_owned(),
        source,
    };
    let db = open::open_read_only(path).map_err(|error| failed(Box::new(error)))?;
    if schema_version(&db).map_err(|error| failed(Box::new(error)))? < FIRST_WITH_LABELS {
        return Ok(Vec::new());
    }
    SqliteReader::new(db).labels().map_err(|error| failed(Box::new(error)))
}

fn end(db: &Connection) -> rusqlite::Result<(Head, Option<UnixMillis>)> {
    let sql = "SELECT seq, hash, time_ms FROM journal ORDER BY seq DESC LIMIT 1";
    let found = db.query_row(sql, [], |row| {
        let head = Head { seq: row.get::<_, Signed>(0)?.0, hash: Hash(blob(row, 1)?) };
        Ok((head, Some(UnixMillis(row.get::<_, Signed>(2)?.0))))
    });
    Ok(found.optional()?.unwrap_or((Head::EMPTY, None)))
}

fn keys(db: &Connection) -> rusqlite::Result<KeyCounts> {
    let mut counts = KeyCounts::default();
    let mut statement = db.prepare("SELECT state, count(*) FROM validators GROUP BY state")?;
    let rows = statement.query_map([], |row| Ok((state(row, 0)?, row.get::<_, Signed>(1)?.0)))?;
    for row in rows {
        let (state, count) = row?;
        match state {
            KeyState::Enabled => counts.enabled = count,
            KeyState::Disabled => counts.disabled = count,
            KeyState::Tombstoned => counts.tombstoned = count,
        }
    }
    Ok(counts)
}
