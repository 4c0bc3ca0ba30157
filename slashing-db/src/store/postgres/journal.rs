//! One instance's journal, read some batches at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use holdfast_domain::PublicKey;
use sqlx::Row as _;

use super::engine::Engine;
use super::read::PostgresReader;
use super::session::{Dial, PostgresOptions};
use super::values;
use crate::error::{OpenError, StoreError};
use crate::journal::{BatchHeader, Hash, InstanceId, StoredBatch};
use crate::store::RowId;

/// Batches fetched at once; each is a quarter of a megabyte at most.
const AT_ONCE: i64 = 64;

/// Batches as stored, not verified yet.
pub(crate) struct PostgresJournal {
    reader: PostgresReader,
    instance: InstanceId,
    waiting: VecDeque<StoredBatch>,
}

impl PostgresJournal {
    pub(crate) fn open(options: &PostgresOptions, instance: InstanceId) -> Result<Self, OpenError> {
        let engine = Arc::new(Engine::new()?);
        let reader = PostgresReader::new(engine, &Dial::new(options)?);
        Ok(Self { reader, instance, waiting: VecDeque::new() })
    }

    /// The batch after `seq`. To be asked in order.
    pub(crate) fn after(&mut self, seq: u64) -> Result<Option<StoredBatch>, StoreError> {
        if self.waiting.is_empty() {
            let instance = self.instance;
            let sql = "SELECT seq, time_ms, prev_hash, merkle_root, hash, count, entries FROM holdfast.journal \
                 WHERE instance = $1 AND seq > $2 ORDER BY seq LIMIT $3";
            let statement = || sqlx::query(sql).bind(instance.0.to_vec()).bind(seq.cast_signed()).bind(AT_ONCE);
            let found = self.reader.all("read its journal", statement, |row| {
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
            })?;
            self.waiting.extend(found);
        }
        Ok(self.waiting.pop_front())
    }

    /// The key of a row.
    pub(crate) fn key(&mut self, id: RowId) -> Result<Option<PublicKey>, StoreError> {
        let sql = "SELECT pubkey FROM holdfast.validators WHERE id = $1";
        let statement = || sqlx::query(sql).bind(id.0.cast_signed());
        Ok(self.reader.all("look up a key", statement, |row| values::key(row, 0))?.pop())
    }
}
