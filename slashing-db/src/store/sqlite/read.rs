//! The reading side: its own read-only connection, so that a long listing never delays a commit.

use holdfast_domain::{PublicKey, UnixMillis};
use rusqlite::{Connection, Params, Row};

use super::values::{self, Signed, blob};
use super::{approvals, classify, journal, labels, prepare, read_head, watch};
use crate::approvals::ApprovalPolicy;
use crate::error::StoreError;
use crate::identity::CallerId;
use crate::journal::{Head, InstanceId, StoredBatch};
use crate::labels::Label;
use crate::registry::{DataKeyId, DataKeyRecord, HighWatermarks, KeyInfo, Registration, SealedKey, StoredKey};
use crate::store::{Enrolled, ReadStore, RowId};
use crate::watch::NewlyEnabled;

/// A read-only connection.
pub(super) struct SqliteReader {
    db: Connection,
}

impl SqliteReader {
    pub(super) fn new(db: Connection) -> Self {
        Self { db }
    }

    fn all<T>(
        &self,
        action: &'static str,
        sql: &str,
        values: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = prepare(&self.db, sql)?;
        let rows = statement.query_map(values, map);
        rows.and_then(Iterator::collect).map_err(|error| classify(action, error))
    }
}

impl ReadStore for SqliteReader {
    fn stored_keys(&mut self) -> Result<Vec<StoredKey>, StoreError> {
        let sql =
            "SELECT v.pubkey, v.state, s.sealed FROM sealed_keys s JOIN validators v ON v.id = s.id ORDER BY s.id";
        self.all("load the keys", sql, [], |row| {
            Ok(StoredKey {
                registration: Registration::new(Enrolled { key: PublicKey::from_bytes(blob(row, 0)?) }),
                state: values::state(row, 1)?,
                sealed: SealedKey::new(row.get(2)?),
            })
        })
    }

    fn key_infos(&mut self, only: Option<&PublicKey>) -> Result<Vec<KeyInfo>, StoreError> {
        const COLUMNS: &str = "SELECT pubkey, state, max_slot, max_slot_root, max_source, max_target, attestation_root, \
             origin, label, created_ms, created_by, changed_ms, changed_by, \
             (SELECT group_concat(l.label, ' ') FROM key_labels l WHERE l.id = v.id) \
             FROM validators v LEFT JOIN key_records r ON r.id = v.id";
        let action = "read what is known about keys";
        match only {
            Some(key) => self.all(action, &format!("{COLUMNS} WHERE pubkey = ?1"), [key.as_bytes()], key_info),
            None => self.all(action, &format!("{COLUMNS} ORDER BY v.id"), [], key_info),
        }
    }

    fn labels(&mut self) -> Result<Vec<(PublicKey, Label)>, StoreError> {
        self.all("read the labels of keys", labels::LIST, [], labels::listed)
    }

    fn newly_enabled(&mut self) -> Result<Vec<NewlyEnabled>, StoreError> {
        self.all("list the newly enabled keys", watch::LIST, [], watch::read)
    }

    fn high_watermarks(&mut self) -> Result<HighWatermarks, StoreError> {
        // Only what every schema has: a file of an older program is looked at, too.
        let sql = "SELECT max_slot, max_slot_root, max_source, max_target, attestation_root FROM validators";
        let marks = self.all("read the highest watermarks", sql, [], |row| values::watermarks(row, 0))?;
        Ok(marks.into_iter().fold(HighWatermarks::default(), |high, marks| HighWatermarks {
            block: high.block.max(marks.block.map(|mark| mark.slot)),
            source: high.source.max(marks.attestation.map(|mark| mark.source)),
            target: high.target.max(marks.attestation.map(|mark| mark.target)),
        }))
    }

    fn data_keys(&mut self) -> Result<Vec<DataKeyRecord>, StoreError> {
        let sql = "SELECT id, provider, wrapped, stored_ms FROM data_keys ORDER BY id";
        self.all("read the data keys", sql, [], |row| {
            Ok(DataKeyRecord {
                id: DataKeyId(values::small(row, 0)?),
                provider: row.get(1)?,
                wrapped: row.get(2)?,
                stored: UnixMillis(row.get::<_, Signed>(3)?.0),
            })
        })
    }

    fn approval_policy(&mut self) -> Result<Option<ApprovalPolicy>, StoreError> {
        approvals::policy(&self.db)
    }

    fn journal_base(&mut self, chain: InstanceId) -> Result<Head, StoreError> {
        journal::base(&self.db, chain)
    }

    fn journal_head(&mut self, _chain: InstanceId) -> Result<Head, StoreError> {
        read_head(&self.db)
    }

    fn batches_after(&mut self, _chain: InstanceId, seq: u64, limit: usize) -> Result<Vec<StoredBatch>, StoreError> {
        journal::after(&self.db, seq, limit)
    }

    fn last_before(
        &mut self,
        _chain: InstanceId,
        seq: u64,
        limit: u64,
        cutoff: UnixMillis,
    ) -> Result<Option<u64>, StoreError> {
        journal::last_before(&self.db, seq, limit, cutoff)
    }

    fn keys_from(&mut self, id: RowId, limit: usize) -> Result<Vec<(RowId, PublicKey)>, StoreError> {
        journal::keys_from(&self.db, id, limit)
    }
}

fn key_info(row: &Row<'_>) -> rusqlite::Result<KeyInfo> {
    // A key known only by its history has no record: nobody brought it in.
    let time = |column| Ok::<_, rusqlite::Error>(UnixMillis(row.get::<_, Option<Signed>>(column)?.map_or(0, |t| t.0)));
    let name = |column| {
        let name = row.get::<_, Option<String>>(column)?;
        Ok::<_, rusqlite::Error>(CallerId::new(name.as_deref().unwrap_or_default()))
    };
    Ok(KeyInfo {
        key: PublicKey::from_bytes(blob(row, 0)?),
        state: values::state(row, 1)?,
        watermarks: values::watermarks(row, 2)?,
        origin: values::origin(row, 7)?,
        label: row.get(8)?,
        labels: labels::read(row, 13)?,
        created: time(9)?,
        created_by: name(10)?,
        changed: time(11)?,
        changed_by: name(12)?,
    })
}
