//! The journal's rows for readers, and the one place where they are deleted.

use std::path::Path;

use holdfast_domain::{PublicKey, UnixMillis};
use rusqlite::{Connection, OptionalExtension, params};

use super::read::SqliteReader;
use super::values::{self, Signed, blob};
use super::{classify, open_read_only, prepare, write};
use crate::error::{BoxError, StoreError};
use crate::journal::{BatchHeader, Hash, Head, InstanceId, StoredBatch};
use crate::store::{Pruned, ReadStore, RowId};

/// Opens a file for reading its journal: the store, and whose journal it is.
pub(crate) fn open_journal(path: &Path) -> Result<(Box<dyn ReadStore>, InstanceId), BoxError> {
    let db = open_read_only(path)?;
    let instance = db.query_row("SELECT instance FROM meta WHERE id = 1", [], |row| blob(row, 0).map(InstanceId))?;
    Ok((Box::new(SqliteReader::new(db)), instance))
}

/// See [`Store::prune`](crate::store::Store::prune). Also says roughly how many pages changed.
pub(super) fn prune(db: &Connection, chain: InstanceId, from: Head, upto: Head) -> Result<(Pruned, u64), StoreError> {
    let sql = "SELECT hash FROM journal WHERE seq = ?1 AND instance = ?2";
    let found = prepare(db, sql)?.query_row(params![upto.seq.cast_signed(), chain.0], |row| blob(row, 0).map(Hash));
    let found = found.optional().map_err(|error| classify("look up a journal batch", error))?;
    if base(db, chain)? != from || upto.seq <= from.seq || found != Some(upto.hash) {
        return Ok((Pruned::Moved, 0));
    }
    let sql = "DELETE FROM journal WHERE seq <= ?1";
    let deleted = write(db, "delete archived batches", sql, params![upto.seq.cast_signed()])?;
    let sql = "INSERT INTO journal_base (instance, seq, hash) VALUES (?1, ?2, ?3) \
         ON CONFLICT (instance) DO UPDATE SET seq = ?2, hash = ?3";
    write(db, "note where the journal begins", sql, params![chain.0, upto.seq.cast_signed(), upto.hash.0])?;
    Ok((Pruned::Done, (deleted as u64).saturating_mul(2)))
}

pub(super) fn base(db: &Connection, chain: InstanceId) -> Result<Head, StoreError> {
    // A reader may find a file that was not brought up to date yet.
    let action = "read where the journal begins";
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'journal_base'";
    let tables = prepare(db, sql)?.query_row([], |row| values::small(row, 0));
    if tables.map_err(|error| classify(action, error))? == 0 {
        return Ok(Head::EMPTY);
    }
    let mut statement = prepare(db, "SELECT seq, hash FROM journal_base WHERE instance = ?1")?;
    let base = statement
        .query_row([chain.0], |row| Ok(Head { seq: row.get::<_, Signed>(0)?.0, hash: Hash(blob(row, 1)?) }))
        .optional();
    Ok(base.map_err(|error| classify(action, error))?.unwrap_or(Head::EMPTY))
}

/// A file holds one chain: rows of another are reported as they are, for the reader to refuse.
pub(super) fn after(db: &Connection, seq: u64, limit: usize) -> Result<Vec<StoredBatch>, StoreError> {
    let sql = "SELECT seq, instance, time_ms, prev_hash, merkle_root, hash, count, entries \
         FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = prepare(db, sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let batches = statement.query_map(params![seq.cast_signed(), limit], |row| {
        let header = BatchHeader {
            seq: row.get::<_, Signed>(0)?.0,
            instance: InstanceId(blob(row, 1)?),
            time: UnixMillis(row.get::<_, Signed>(2)?.0),
            prev_hash: Hash(blob(row, 3)?),
            merkle_root: Hash(blob(row, 4)?),
            hash: Hash(blob(row, 5)?),
            count: row.get::<_, Signed>(6)?.0,
        };
        Ok((header, row.get(7)?))
    });
    batches.and_then(Iterator::collect).map_err(|error| classify("read the journal", error))
}

pub(super) fn last_before(
    db: &Connection,
    seq: u64,
    limit: u64,
    cutoff: UnixMillis,
) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT max(seq) FROM journal WHERE seq > ?1 AND seq <= ?2 AND time_ms < ?3";
    let values = params![seq.cast_signed(), limit.cast_signed(), cutoff.0.cast_signed()];
    let found = prepare(db, sql)?.query_row(values, |row| row.get::<_, Option<Signed>>(0));
    Ok(found.map_err(|error| classify("find old journal batches", error))?.map(|seq| seq.0))
}

pub(super) fn keys_from(db: &Connection, id: RowId, limit: usize) -> Result<Vec<(RowId, PublicKey)>, StoreError> {
    let mut statement = prepare(db, "SELECT id, pubkey FROM validators WHERE id >= ?1 ORDER BY id LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let keys = statement.query_map(params![id.signed(), limit], |row| {
        Ok((RowId(row.get::<_, Signed>(0)?.0), PublicKey::from_bytes(blob(row, 1)?)))
    });
    keys.and_then(Iterator::collect).map_err(|error| classify("look up keys", error))
}
