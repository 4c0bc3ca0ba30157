//! SQLite as the store: WAL, `synchronous=FULL`, one writing connection, one exclusive file lock.
//!
//! Failure semantics. An error before `COMMIT` after which the rollback succeeded wrote nothing: the
//! request can be repeated. An error *at* `COMMIT` leaves the outcome unknown and freezes, with one
//! exception that SQLite's own code settles: in WAL mode `SQLITE_FULL` means that a frame could not be
//! written, and the commit frame is the last one, so a full disk never commits; it is undone like an
//! earlier error, and the journal head is read again to be sure. Anything below SQLite (`SQLITE_IOERR`),
//! damage, or a violated constraint freezes wherever it happens.

mod approvals;
pub(crate) mod backup;
mod journal;
mod labels;
mod open;
mod overview;
mod read;
mod reseal;
mod values;
mod watch;

use std::path::{Path, PathBuf};

use holdfast_domain::{GenesisValidatorsRoot, PublicKey, UnixMillis};
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, params};

use super::{
    Committed, DecideEntry, Enrolled, Judge, KeyRow, Load, Merge, Merged, Planned, Pruned, ReadStore, Record, Row,
    RowId, Store,
};
use crate::anchor::DatabaseIdentity;
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, Spent};
use crate::error::{FreezeReason, OpenError, RegisterError, StoreError};
use crate::guard::{Replaced, Resealed};
use crate::identity::CallerId;
use crate::journal::{Hash, Head, InstanceId};
use crate::labels::{LabelChange, Labelled};
use crate::registry::{
    DataKeyId, DataKeyRecord, Entry, KeyState, NewKey, Registered, Registration, Switch, Withdraw, Withdrawn,
};
use crate::rules::Watermarks;
use crate::watch::Judged;

pub(crate) use journal::open_journal;
use open::open_read_only;
pub(crate) use overview::{labels as labels_of_file, overview};
use values::{Signed, blob};

/// Pages written since the last checkpoint after which a quiet moment is used for the next.
const CHECKPOINT_WHEN_IDLE_PAGES: u64 = 1_000;
/// The same under load: bounds the size of the WAL file.
const CHECKPOINT_WHEN_BUSY_PAGES: u64 = 16_000;

const SELECT_ROW: &str = "SELECT id, state, max_slot, max_slot_root, max_source, max_target, attestation_root, \
     watch FROM validators WHERE pubkey = ?1";
const SELECT_HEAD: &str = "SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1";
const UPDATE_MARKS: &str = "UPDATE validators SET max_slot = ?2, max_slot_root = ?3, max_source = ?4, \
     max_target = ?5, attestation_root = ?6 WHERE id = ?1";
const INSERT_BATCH: &str = "INSERT INTO journal (seq, instance, time_ms, prev_hash, merkle_root, hash, count, entries) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// The writing side of a database. Field order matters: the connection closes before the lock is released.
pub(crate) struct SqliteStore {
    db: Connection,
    lock: open::FileLock,
    path: PathBuf,
    instance: InstanceId,
    pinned: Option<GenesisValidatorsRoot>,
    /// The end of the chain as this process left it.
    head: Head,
    pages_since_checkpoint: u64,
}

impl SqliteStore {
    /// Opens, locks and migrates.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        open::open(path)
    }

    pub(crate) fn pinned(&self) -> Option<GenesisValidatorsRoot> {
        self.pinned
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Runs `body` in one immediate transaction. See the module's failure semantics.
    fn transaction<T>(&mut self, body: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        run(&self.db, "BEGIN IMMEDIATE", "begin a transaction")?;
        match body(&self.db) {
            Err(error) => Err(self.undo(error)),
            Ok(value) => match execute(&self.db, "COMMIT") {
                Ok(()) => Ok(value),
                Err(source) => Err(self.commit_failed(source)),
            },
        }
    }

    fn commit_failed(&self, source: rusqlite::Error) -> StoreError {
        let certain = matches!(source.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy));
        let error = classify("commit", source);
        self.undo(if certain { error } else { error.or_fatal(FreezeReason::CommitOutcomeUnknown) })
    }

    /// Rolls back after `error`. Only a rollback that leaves the journal head in place proves that nothing was kept.
    fn undo(&self, error: StoreError) -> StoreError {
        // SQLite rolls back by itself on some errors; a second ROLLBACK would then be an error of its own.
        let undone = self.db.is_autocommit() || execute(&self.db, "ROLLBACK").is_ok();
        let head = if undone { read_head(&self.db).ok() } else { None };
        if head == Some(self.head) { error } else { error.or_fatal(FreezeReason::CommitOutcomeUnknown) }
    }

    fn checkpoint(&mut self) {
        self.pages_since_checkpoint = 0;
        let done = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = done {
            // Nothing is lost: the WAL keeps every commit, and the next checkpoint writes the same pages again.
            tracing::warn!(%error, "cannot move committed pages from the WAL into the database; will try again");
        }
    }
}

impl Store for SqliteStore {
    fn commit_batch(&mut self, keys: &[PublicKey], judge: Judge<'_>) -> Result<Committed, StoreError> {
        let expected = self.head;
        let (head, pages) = self.transaction(|db| {
            let head = read_head(db)?;
            if head != expected {
                let found = format!("journal head is batch {} but {} was written last", head.seq, expected.seq);
                return Err(StoreError::fatal("find its journal head", FreezeReason::JournalHeadMoved, found));
            }
            let mut rows = load_rows(db, keys)?;
            let planned = judge(&head, None, &mut rows);
            let changed = write_rows(db, &rows)?;
            write_batch(db, &planned)?;
            Ok((planned.header.as_head(), changed.saturating_add(2)))
        })?;
        self.head = head;
        self.pages_since_checkpoint = self.pages_since_checkpoint.saturating_add(pages);
        // The line above this comment is reached only when COMMIT came back with success.
        Ok(Committed { seq: head.seq })
    }

    fn register(
        &mut self,
        keys: &[NewKey],
        at: UnixMillis,
        decide: DecideEntry<'_>,
    ) -> Result<Vec<Result<Registered, RegisterError>>, StoreError> {
        self.pages_since_checkpoint = self.pages_since_checkpoint.saturating_add(keys.len() as u64);
        self.transaction(|db| {
            keys.iter()
                .enumerate()
                .map(|(index, key)| {
                    let found = find_key(db, &key.key)?;
                    match decide(index, found.as_ref().map(|(_, row)| row)) {
                        Err(refused) => Ok(Err(refused)),
                        Ok(entry) => enter(db, key, found.map(|(id, _)| id), entry, at).map(Ok),
                    }
                })
                .collect()
        })
    }

    fn switch(
        &mut self,
        key: &PublicKey,
        to: Switch,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Option<KeyState>, StoreError> {
        self.transaction(|db| {
            let Some((id, row)) = find_key(db, key)? else { return Ok(None) };
            let state = match (row.state, to) {
                (KeyState::Tombstoned, _) => return Ok(Some(KeyState::Tombstoned)),
                (KeyState::Enabled | KeyState::Disabled, Switch::Enable | Switch::EnableUnfenced) => KeyState::Enabled,
                (KeyState::Enabled | KeyState::Disabled, Switch::Disable) => KeyState::Disabled,
            };
            if row.state == KeyState::Disabled && state == KeyState::Enabled {
                write_marks(&mut prepare(db, UPDATE_MARKS)?, id, &row.marks.raised_to(floor))?;
            }
            watch::set_state(db, id, state, at)?;
            touch(db, id, by, at)?;
            Ok(Some(row.state))
        })
    }

    fn label(
        &mut self,
        keys: &[PublicKey],
        change: &LabelChange,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Labelled>, StoreError> {
        self.transaction(|db| labels::change(db, keys, change, by, at))
    }

    fn tombstone(&mut self, key: &PublicKey, by: &CallerId, at: UnixMillis) -> Result<Option<KeyState>, StoreError> {
        self.transaction(|db| {
            let Some((id, row)) = find_key(db, key)? else { return Ok(None) };
            watch::set_state(db, id, KeyState::Tombstoned, at)?;
            delete_secret(db, id)?;
            touch(db, id, by, at)?;
            Ok(Some(row.state))
        })
    }

    fn raise(
        &mut self,
        keys: Option<&[PublicKey]>,
        floor: &Watermarks,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<u64, StoreError> {
        self.transaction(|db| {
            let all = if keys.is_none() { all_keys(db)? } else { Vec::new() };
            let keys = keys.unwrap_or(&all);
            let mut found = 0u64;
            for row in load_rows(db, keys)?.into_iter().flatten() {
                found = found.saturating_add(1);
                let marks = row.marks.raised_to(floor);
                write_marks(&mut prepare(db, UPDATE_MARKS)?, row.id, &marks)?;
                touch(db, row.id, by, at)?;
            }
            Ok(found)
        })
    }

    fn merge(&mut self, keys: &[PublicKey], merge: Merge<'_>, by: &CallerId, at: UnixMillis) -> Result<(), StoreError> {
        let changed = self.transaction(|db| {
            let mut changed = 0u64;
            for (index, key) in keys.iter().enumerate() {
                let found = find_key(db, key)?;
                let Merged { marks, state, record } = merge(index, found.as_ref().map(|(_, row)| row));
                let id = match found {
                    Some((_, row)) if row.marks == marks && row.state == state && record == Record::Leave => continue,
                    Some((id, _)) => id,
                    None => insert_row(db, key)?,
                };
                write_marks(&mut prepare(db, UPDATE_MARKS)?, id, &marks)?;
                watch::set_state(db, id, state, at)?;
                if record == Record::Ensure {
                    ensure_record(db, id, by, at)?;
                }
                touch(db, id, by, at)?;
                changed = changed.saturating_add(1);
            }
            Ok(changed)
        })?;
        self.pages_since_checkpoint = self.pages_since_checkpoint.saturating_add(changed);
        Ok(())
    }

    fn withdraw(
        &mut self,
        keys: Option<&[PublicKey]>,
        how: Withdraw,
        by: &CallerId,
        at: UnixMillis,
    ) -> Result<Vec<Withdrawn>, StoreError> {
        self.transaction(|db| {
            let all = if keys.is_none() { all_keys(db)? } else { Vec::new() };
            let keys = keys.unwrap_or(&all);
            let mut withdrawn = Vec::with_capacity(keys.len());
            for key in keys {
                let Some((id, row)) = find_key(db, key)? else { continue };
                let to = how.state_after(&row);
                if to != row.state {
                    watch::set_state(db, id, to, at)?;
                    touch(db, id, by, at)?;
                }
                if to == KeyState::Tombstoned && row.has_secret {
                    delete_secret(db, id)?;
                }
                withdrawn.push(Withdrawn {
                    key: *key,
                    before: row.state,
                    had_secret: row.has_secret,
                    watermarks: row.marks,
                });
            }
            Ok(withdrawn)
        })
    }

    fn judge_newly_enabled(&mut self, judged: &[Judged]) -> Result<(), StoreError> {
        self.transaction(|db| watch::judge(db, judged))
    }

    fn put_data_key(&mut self, record: &DataKeyRecord) -> Result<(), StoreError> {
        self.transaction(|db| {
            let sql = "INSERT INTO data_keys (id, provider, wrapped, stored_ms) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (id) DO UPDATE SET provider = ?2, wrapped = ?3, stored_ms = ?4";
            let values = params![record.id.0, record.provider, record.wrapped, record.stored.0.cast_signed()];
            write(db, "store a data key", sql, values).map(drop)
        })
    }

    fn replace_data_key(
        &mut self,
        old: DataKeyId,
        new: &DataKeyRecord,
        keys: &[Resealed],
    ) -> Result<Replaced, StoreError> {
        run(&self.db, "BEGIN IMMEDIATE", "begin a transaction")?;
        match reseal::replace(&self.db, old, new, keys) {
            Ok(Replaced::Done) => match execute(&self.db, "COMMIT") {
                Ok(()) => Ok(Replaced::Done),
                Err(source) => Err(self.commit_failed(source)),
            },
            Ok(Replaced::Moved) => run(&self.db, "ROLLBACK", "roll back").map(|()| Replaced::Moved),
            Err(error) => Err(self.undo(error)),
        }
    }

    fn use_approval(&mut self, id: ApprovalId, expires: UnixMillis, now: UnixMillis) -> Result<Spent, StoreError> {
        self.transaction(|db| approvals::spend(db, id, expires, now))
    }

    fn pin_approval_policy(
        &mut self,
        seen: Option<PolicyHash>,
        new: Option<&ApprovalPolicy>,
    ) -> Result<Pinned, StoreError> {
        self.transaction(|db| approvals::pin(db, seen, new))
    }

    fn pin(&mut self, root: GenesisValidatorsRoot) -> Result<GenesisValidatorsRoot, StoreError> {
        if let Some(pinned) = self.pinned {
            return Ok(pinned);
        }
        self.transaction(|db| {
            let sql = "UPDATE meta SET genesis_validators_root = ?1 WHERE id = 1";
            write(db, "pin the chain", sql, params![root.0]).map(drop)
        })?;
        self.pinned = Some(root);
        Ok(root)
    }

    fn head(&self) -> Head {
        self.head
    }

    fn accept_head(&mut self) -> Result<Head, StoreError> {
        self.head = read_head(&self.db)?;
        Ok(self.head)
    }

    fn batch_hash(&mut self, seq: u64) -> Result<Option<Hash>, StoreError> {
        let sql = "SELECT hash FROM journal WHERE seq = ?1 AND instance = ?2";
        let found = prepare(&self.db, sql)?.query_row(params![seq.cast_signed(), self.instance.0], |row| blob(row, 0));
        let found = found.optional().map_err(|error| classify("look up a journal batch", error))?;
        Ok(found.map(Hash))
    }

    fn is_pristine(&mut self) -> Result<bool, StoreError> {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM journal) AND NOT EXISTS (SELECT 1 FROM validators)";
        prepare(&self.db, sql)?
            .query_row([], |row| row.get(0))
            .map_err(|error| classify("see whether the database is new", error))
    }

    fn identity(&self) -> Result<DatabaseIdentity, StoreError> {
        self.lock.describe().map_err(|error| StoreError::retryable("examine its own file", error))
    }

    fn prune(&mut self, chain: InstanceId, from: Head, upto: Head) -> Result<Pruned, StoreError> {
        let (pruned, pages) = self.transaction(|db| journal::prune(db, chain, from, upto))?;
        self.pages_since_checkpoint = self.pages_since_checkpoint.saturating_add(pages);
        Ok(pruned)
    }

    fn tidy(&mut self, load: Load) {
        let bound = match load {
            Load::Idle => CHECKPOINT_WHEN_IDLE_PAGES,
            Load::Busy => CHECKPOINT_WHEN_BUSY_PAGES,
        };
        if self.pages_since_checkpoint >= bound {
            self.checkpoint();
        }
    }

    fn reader(&self) -> Result<Box<dyn ReadStore>, StoreError> {
        let db = open_read_only(&self.path).map_err(|error| classify("open a reader", error))?;
        Ok(Box::new(read::SqliteReader::new(db)))
    }

    fn close(self: Box<Self>) {
        let this = *self;
        if let Err((_, error)) = this.db.close() {
            tracing::warn!(%error, "the database did not close cleanly; nothing is lost");
        }
    }
}

/// What an SQLite error means for protection.
pub(super) fn classify(action: &'static str, source: rusqlite::Error) -> StoreError {
    let reason = match &source {
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => Some(FreezeReason::DatabaseDamaged),
        other => match other.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) => Some(FreezeReason::StorageFailed),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Some(FreezeReason::DatabaseDamaged),
            Some(ErrorCode::ConstraintViolation) => Some(FreezeReason::InvariantViolated),
            Some(_) | None => None,
        },
    };
    match reason {
        Some(reason) => StoreError::fatal(action, reason, source),
        None => StoreError::retryable(action, source),
    }
}

fn execute(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

fn run(db: &Connection, sql: &str, action: &'static str) -> Result<(), StoreError> {
    execute(db, sql).map_err(|error| classify(action, error))
}

fn prepare<'db>(db: &'db Connection, sql: &str) -> Result<CachedStatement<'db>, StoreError> {
    db.prepare_cached(sql).map_err(|error| classify("prepare a statement", error))
}

fn write(db: &Connection, action: &'static str, sql: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
    prepare(db, sql)?.execute(values).map_err(|error| classify(action, error))
}

pub(super) fn read_head(db: &Connection) -> Result<Head, StoreError> {
    let mut statement = prepare(db, SELECT_HEAD)?;
    let head = statement.query_row([], |row| Ok(Head { seq: row.get::<_, Signed>(0)?.0, hash: Hash(blob(row, 1)?) }));
    Ok(head.optional().map_err(|error| classify("read the journal head", error))?.unwrap_or(Head::EMPTY))
}

fn load_rows(db: &Connection, keys: &[PublicKey]) -> Result<Vec<Option<Row>>, StoreError> {
    let mut statement = prepare(db, SELECT_ROW)?;
    keys.iter()
        .map(|key| {
            let row = statement.query_row([key.as_bytes()], |row| {
                Ok(Row {
                    id: RowId(row.get::<_, Signed>(0)?.0),
                    state: values::state(row, 1)?,
                    marks: values::watermarks(row, 2)?,
                    watch: values::watch(row, 7)?,
                    changed: false,
                })
            });
            row.optional().map_err(|error| classify("read a validator's row", error))
        })
        .collect()
}

fn write_rows(db: &Connection, rows: &[Option<Row>]) -> Result<u64, StoreError> {
    let mut statement = prepare(db, UPDATE_MARKS)?;
    let mut changed = 0u64;
    for row in rows.iter().flatten().filter(|row| row.changed) {
        write_marks(&mut statement, row.id, &row.marks)?;
        changed = changed.saturating_add(1);
    }
    Ok(changed)
}

fn write_marks(statement: &mut CachedStatement<'_>, id: RowId, marks: &Watermarks) -> Result<(), StoreError> {
    let written = statement.execute(params![
        id.signed(),
        marks.block.map(|mark| mark.slot.0.cast_signed()),
        marks.block.and_then(|mark| mark.root).map(|root| *root.as_bytes()),
        marks.attestation.map(|mark| mark.source.0.cast_signed()),
        marks.attestation.map(|mark| mark.target.0.cast_signed()),
        marks.attestation.and_then(|mark| mark.root).map(|root| *root.as_bytes()),
    ]);
    match written {
        Ok(1) => Ok(()),
        Ok(count) => {
            let found = format!("{count} rows have the id of one validator");
            Err(StoreError::fatal("update a watermark", FreezeReason::InvariantViolated, found))
        }
        Err(error) => Err(classify("update a watermark", error)),
    }
}

fn write_batch(db: &Connection, planned: &Planned) -> Result<(), StoreError> {
    let header = &planned.header;
    let values = params![
        header.seq.cast_signed(),
        header.instance.0,
        header.time.0.cast_signed(),
        header.prev_hash.0,
        header.merkle_root.0,
        header.hash.0,
        header.count.cast_signed(),
        planned.entries,
    ];
    write(db, "append to the journal", INSERT_BATCH, values).map(drop)
}

fn find_key(db: &Connection, key: &PublicKey) -> Result<Option<(RowId, KeyRow)>, StoreError> {
    let sql = "SELECT id, state, max_slot, max_slot_root, max_source, max_target, attestation_root, \
         EXISTS (SELECT 1 FROM sealed_keys s WHERE s.id = v.id), \
         EXISTS (SELECT 1 FROM key_records r WHERE r.id = v.id) FROM validators v WHERE pubkey = ?1";
    let found = prepare(db, sql)?.query_row([key.as_bytes()], |row| {
        let (state, marks) = (values::state(row, 1)?, values::watermarks(row, 2)?);
        let key_row = KeyRow { state, marks, has_secret: row.get(7)?, recorded: row.get(8)? };
        Ok((RowId(row.get::<_, Signed>(0)?.0), key_row))
    });
    found.optional().map_err(|error| classify("read a validator's row", error))
}

fn all_keys(db: &Connection) -> Result<Vec<PublicKey>, StoreError> {
    let mut statement = prepare(db, "SELECT pubkey FROM validators ORDER BY id")?;
    let keys = statement.query_map([], |row| Ok(PublicKey::from_bytes(blob(row, 0)?)));
    keys.and_then(Iterator::collect).map_err(|error| classify("list the keys", error))
}

/// Makes a row that cannot sign.
fn insert_row(db: &Connection, key: &PublicKey) -> Result<RowId, StoreError> {
    let sql = "INSERT INTO validators (pubkey, state) VALUES (?1, ?2)";
    write(db, "register a key", sql, params![key.as_bytes(), values::state_code(KeyState::Disabled)])?;
    Ok(RowId(db.last_insert_rowid().cast_unsigned()))
}

/// Carries out what `decide_entry` decided for one key.
fn enter(
    db: &Connection,
    key: &NewKey,
    found: Option<RowId>,
    entry: Entry,
    at: UnixMillis,
) -> Result<Registered, StoreError> {
    let id = if let Some(id) = found { id } else { insert_row(db, &key.key)? };
    match entry {
        Entry::Duplicate(marks) => {
            write_marks(&mut prepare(db, UPDATE_MARKS)?, id, &marks)?;
            Ok(Registered::Duplicate)
        }
        Entry::Enroll(marks, standing) => {
            write_marks(&mut prepare(db, UPDATE_MARKS)?, id, &marks)?;
            watch::set_state(db, id, standing.state(), at)?;
            reseal::check(db, &key.sealed)?;
            let sealed = "INSERT INTO sealed_keys (id, sealed) VALUES (?1, ?2)";
            write(db, "store a sealed key", sealed, params![id.signed(), key.sealed.as_bytes()])?;
            let record = "INSERT INTO key_records (id, origin, label, created_ms, created_by, changed_ms, changed_by) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?5) ON CONFLICT (id) \
                 DO UPDATE SET origin = ?2, label = ?3, changed_ms = ?4, changed_by = ?5";
            let by = key.registered_by.as_str();
            let values = params![id.signed(), values::origin_code(key.origin), key.label, at.0.cast_signed(), by];
            write(db, "register a key", record, values)?;
            labels::add(db, id, &key.labels)?;
            Ok(standing.registered(Registration::new(Enrolled { key: key.key })))
        }
    }
}

fn delete_secret(db: &Connection, id: RowId) -> Result<(), StoreError> {
    write(db, "delete a sealed key", "DELETE FROM sealed_keys WHERE id = ?1", params![id.signed()]).map(drop)
}

fn ensure_record(db: &Connection, id: RowId, by: &CallerId, at: UnixMillis) -> Result<(), StoreError> {
    let sql = "INSERT INTO key_records (id, created_ms, created_by, changed_ms, changed_by) \
         VALUES (?1, ?2, ?3, ?2, ?3) ON CONFLICT (id) DO NOTHING";
    write(db, "note who changed a key", sql, params![id.signed(), at.0.cast_signed(), by.as_str()]).map(drop)
}

fn touch(db: &Connection, id: RowId, by: &CallerId, at: UnixMillis) -> Result<(), StoreError> {
    let sql = "UPDATE key_records SET changed_ms = ?2, changed_by = ?3 WHERE id = ?1";
    write(db, "note who changed a key", sql, params![id.signed(), at.0.cast_signed(), by.as_str()]).map(drop)
}

impl RowId {
    fn signed(self) -> i64 {
        self.0.cast_signed()
    }
}

#[cfg(test)]
mod tests;
