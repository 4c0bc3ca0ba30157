//! The data key and what is sealed under it, in SQLite.

use rusqlite::{Connection, params};

use super::{classify, prepare, write};
use crate::error::StoreError;
use crate::guard::{DataKeyReplaced, Replaced, Resealed};
use crate::registry::{DataKeyId, DataKeyRecord, SealedKey};

const ACTION: &str = "replace the data key";

/// See [`Store::replace_data_key`](crate::store::Store::replace_data_key). An `Ok` other than [`Replaced::Done`] has
/// written something: the caller rolls back.
pub(super) fn replace(
    db: &Connection,
    old: DataKeyId,
    new: &DataKeyRecord,
    keys: &[Resealed],
) -> Result<Replaced, StoreError> {
    let stored: i64 = prepare(db, "SELECT count(*) FROM sealed_keys")?
        .query_row([], |row| row.get(0))
        .map_err(|error| classify(ACTION, error))?;
    if newest(db)? != Some(old) || usize::try_from(stored).ok() != Some(keys.len()) {
        return Ok(Replaced::Moved);
    }
    let sql =
        "UPDATE sealed_keys SET sealed = ?3 WHERE id = (SELECT id FROM validators WHERE pubkey = ?1) AND sealed = ?2";
    let mut exchange = prepare(db, sql)?;
    for Resealed { key, before, after } in keys {
        let values = params![key.as_bytes(), before.as_bytes(), after.as_bytes()];
        if exchange.execute(values).map_err(|error| classify(ACTION, error))? != 1 {
            return Ok(Replaced::Moved);
        }
    }
    write(db, ACTION, "DELETE FROM data_keys", [])?;
    let sql = "INSERT INTO data_keys (id, provider, wrapped, stored_ms) VALUES (?1, ?2, ?3, ?4)";
    write(db, ACTION, sql, params![new.id.0, new.provider, new.wrapped, new.stored.0.cast_signed()])?;
    Ok(Replaced::Done)
}

/// Refuses a key that was sealed under a data key which is no longer the present one.
pub(super) fn check(db: &Connection, sealed: &SealedKey) -> Result<(), StoreError> {
    match sealed.data_key() {
        Some(under) if newest(db)?.is_some_and(|newest| newest != under) => {
            Err(StoreError::retryable("store a sealed key", DataKeyReplaced))
        }
        Some(_) | None => Ok(()),
    }
}

fn newest(db: &Connection) -> Result<Option<DataKeyId>, StoreError> {
    let found: Result<Option<u32>, _> = prepare(db, "SELECT max(id) FROM data_keys")?.query_row([], |row| row.get(0));
    Ok(found.map_err(|error| classify("read the number of the data key", error))?.map(DataKeyId))
}
