//! The journal's rows for readers, and the one statement that deletes some.

use std::sync::Arc;

use holdfast_domain::{PublicKey, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::engine::Engine;
use super::read::PostgresReader;
use super::session::{Dial, PostgresOptions};
use super::values;
use crate::error::{OpenError, StoreError};
use crate::journal::{BatchHeader, Hash, Head, InstanceId, StoredBatch};
use crate::store::{Pruned, ReadStore, RowId};

/// A way to read a journal; connects when it is first asked.
pub(crate) fn open_journal(options: &PostgresOptions) -> Result<Box<dyn ReadStore>, OpenError> {
    let engine = Arc::new(Engine::new()?);
    Ok(Box::new(PostgresReader::new(engine, &Dial::new(options)?)))
}

/// See [`Store::prune`](crate::store::Store::prune). One statement, so all of it happens or nothing.
pub(super) async fn prune(db: &mut PgConnection, chain: InstanceId, from: Head, upto: Head) -> sqlx::Result<Pruned> {
    let sql = "WITH base AS ( \
             INSERT INTO holdfast.journal_base AS b (instance, seq, hash) \
             SELECT j.instance, j.seq, j.hash FROM holdfast.journal j \
             WHERE j.instance = $1 AND j.seq = $4 AND j.hash = $5 AND ($2 = 0 OR EXISTS ( \
                 SELECT 1 FROM holdfast.journal_base c WHERE c.instance = $1 AND c.seq = $2 AND c.hash = $3)) \
             ON CONFLICT (instance) DO UPDATE SET seq = EXCLUDED.seq, hash = EXCLUDED.hash \
             WHERE b.seq = $2 AND b.hash = $3 RETURNING 1), \
         deleted AS ( \
             DELETE FROM holdfast.journal WHERE instance = $1 AND seq <= $4 AND EXISTS (SELECT 1 FROM base) RETURNING 1) \
         SELECT (SELECT count(*) FROM base), (SELECT count(*) FROM deleted)";
    let query = sqlx::query(sql).bind(chain.0.to_vec()).bind(from.seq.cast_signed()).bind(from.hash.0.to_vec());
    let row = query.bind(upto.seq.cast_signed()).bind(upto.hash.0.to_vec()).fetch_one(db).await?;
    Ok(if row.try_get::<i64, _>(0)? == 1 { Pruned::Done } else { Pruned::Moved })
}

impl PostgresReader {
    fn head(&mut self, action: &'static str, sql: &'static str, chain: InstanceId) -> Result<Head, StoreError> {
        let statement = || sqlx::query(sql).bind(chain.0.to_vec());
        let found = self.all(action, statement, |row| {
            Ok(Head { seq: values::natural(row, 0)?, hash: Hash(values::bytes(row, 1)?) })
        })?;
        Ok(found.into_iter().next().unwrap_or(Head::EMPTY))
    }

    pub(super) fn base_of(&mut self, chain: InstanceId) -> Result<Head, StoreError> {
        let action = "read where a journal begins";
        // A reader may find a database that was not brought up to date yet.
        let tables = self.all(
            action,
            || sqlx::query("SELECT to_regclass('holdfast.journal_base') IS NOT NULL"),
            |row| row.try_get::<bool, _>(0),
        )?;
        if tables != [true] {
            return Ok(Head::EMPTY);
        }
        self.head(action, "SELECT seq, hash FROM holdfast.journal_base WHERE instance = $1", chain)
    }

    pub(super) fn head_of(&mut self, chain: InstanceId) -> Result<Head, StoreError> {
        let sql = "SELECT seq, hash FROM holdfast.journal WHERE instance = $1 ORDER BY seq DESC LIMIT 1";
        self.head("read a journal head", sql, chain)
    }

    pub(super) fn after(&mut self, chain: InstanceId, seq: u64, limit: usize) -> Result<Vec<StoredBatch>, StoreError> {
        let sql = "SELECT seq, time_ms, prev_hash, merkle_root, hash, count, entries FROM holdfast.journal \
             WHERE instance = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let statement = || sqlx::query(sql).bind(chain.0.to_vec()).bind(seq.cast_signed()).bind(limit);
        self.all("read a journal", statement, |row| stored(chain, row))
    }

    pub(super) fn old_until(
        &mut self,
        chain: InstanceId,
        seq: u64,
        limit: u64,
        cutoff: UnixMillis,
    ) -> Result<Option<u64>, StoreError> {
        let sql =
            "SELECT max(seq) FROM holdfast.journal WHERE instance = $1 AND seq > $2 AND seq <= $3 AND time_ms < $4";
        let statement = || {
            let query = sqlx::query(sql).bind(chain.0.to_vec()).bind(seq.cast_signed());
            query.bind(limit.cast_signed()).bind(cutoff.0.cast_signed())
        };
        let found = self.all("find old journal batches", statement, |row| row.try_get::<Option<i64>, _>(0))?;
        Ok(found.into_iter().flatten().next().map(i64::cast_unsigned))
    }

    pub(super) fn keys_after(&mut self, id: RowId, limit: usize) -> Result<Vec<(RowId, PublicKey)>, StoreError> {
        let sql = "SELECT id, pubkey FROM holdfast.validators WHERE id >= $1 ORDER BY id LIMIT $2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let statement = || sqlx::query(sql).bind(id.0.cast_signed()).bind(limit);
        self.all("look up keys", statement, |row| Ok((RowId(values::natural(row, 0)?), values::key(row, 1)?)))
    }
}

fn stored(instance: InstanceId, row: &PgRow) -> sqlx::Result<StoredBatch> {
    let header = BatchHeader {
        instance,
        seq: values::natural(row, 0)?,
        time: values::time(row, 1)?,
        prev_hash: Hash(values::bytes(row, 2)?),
        merkle_root: Hash(values::bytes(row, 3)?),
        hash: Hash(values::bytes(row, 4)?),
        count: values::natural(row, 5)?,
    };
    Ok((header, row.try_get(6)?))
}
