//! Opening an SQLite file so that a commit means what the guard needs it to mean.
//!
//! In order: the filesystem must be local; the file is made private and locked by this process alone,
//! before SQLite sees it; the header must be ours; settings are made *and read back*; what an earlier run
//! left in the WAL is written into the database and synced again, because after a failed `fsync` it may
//! exist in the page cache only; then the schema is brought up to date.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_domain::GenesisValidatorsRoot;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::values::{blob, small};
use super::{SqliteStore, read_head};
use crate::anchor::DatabaseIdentity;
use crate::error::OpenError;
use crate::journal::InstanceId;
use crate::locks;
use crate::store::filesystem;

/// Marks a file as ours in SQLite's header: "Hold" in ASCII.
const APPLICATION_ID: u32 = 0x486f_6c64;
/// First bytes of every SQLite file.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How long to wait for another program that reads or writes the file for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements kept prepared.
const STATEMENT_CACHE: usize = 64;

/// Migrations in order; the position is the version minus one. Never change one that was released.
pub(super) const MIGRATIONS: [&str; 5] = [
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../../migrations/sqlite/0002_journal_base.sql"),
    include_str!("../../../migrations/sqlite/0003_newly_enabled.sql"),
    include_str!("../../../migrations/sqlite/0004_approvals.sql"),
    include_str!("../../../migrations/sqlite/0005_labels.sql"),
];

/// Settings that durability and integrity rest on: name, value to set, value to read back.
const SETTINGS: [(&str, &str, &str); 6] = [
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("recursive_triggers", "ON", "1"),
    ("secure_delete", "ON", "1"),
    // Checkpoints are ours to time: after replies, never inside a commit.
    ("wal_autocheckpoint", "0", "0"),
];

pub(super) fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    filesystem::require_local(path)?;
    let lock = FileLock::acquire(path)?;
    check_header(&lock, path)?;
    let mut db = connect(path)?;
    if identity(&std::fs::metadata(path).map_err(io("examine", path))?) != lock.identity {
        return Err(OpenError::Replaced { path: path.to_owned() });
    }
    check_owner(&db, path)?;
    let version = check_version(&db, path)?;
    configure(&db, path)?;
    settle_wal(&db, path)?;
    migrate(&mut db, version, path)?;
    let (instance, pinned) = read_meta(&db).map_err(database("read the database's identity", path))?;
    let head = read_head(&db).map_err(|source| OpenError::Database {
        action: "read the journal head",
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    Ok(SqliteStore { db, lock, path: path.to_owned(), instance, pinned, head, pages_since_checkpoint: 0 })
}

/// Opens for reading only. Needs no lock: SQLite lets readers see the last commit while somebody writes.
pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "query_only", true)?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(db)
}

pub(super) fn io<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(std::io::Error) -> OpenError + 'p {
    move |source| OpenError::Io { action, path: path.to_owned(), source }
}

pub(super) fn database<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(rusqlite::Error) -> OpenError + 'p {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path: path.to_owned() },
        Some(_) | None => OpenError::Database { action, path: path.to_owned(), source: Box::new(source) },
    }
}

type Identity = (u64, u64);

fn identity(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// Files locked by this process. Closing any descriptor of a file drops all POSIX locks that SQLite holds
/// on it in this process, so a second opening must be refused before it opens a descriptor.
static LOCKED: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

fn locked_files() -> MutexGuard<'static, BTreeSet<Identity>> {
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An exclusive `flock` on the database file itself, held until dropped or until the process ends.
pub(super) struct FileLock {
    file: File,
    identity: Identity,
}

impl FileLock {
    /// Makes the file if needed, and locks it without waiting.
    fn acquire(path: &Path) -> Result<Self, OpenError> {
        let mut locked = locked_files();
        match std::fs::metadata(path) {
            Ok(found) if locked.contains(&identity(&found)) => {
                return Err(OpenError::Locked { path: path.to_owned(), holder: Some(std::process::id()) });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path)?,
            Err(error) => return Err(io("examine", path)(error)),
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(io("open", path))?;
        let metadata = file.metadata().map_err(io("examine", path))?;
        let identity = identity(&metadata);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked { path: path.to_owned(), holder: locks::holder(&metadata) });
            }
            Err(error) => return Err(io("lock", path)(error.into())),
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(OpenError::Permissions { path: path.to_owned(), mode });
        }
        locked.insert(identity);
        Ok(Self { file, identity })
    }

    /// What tells the file from a copy: its inode, and when that was made. The device number is left out: it
    /// may change with a reboot. Filesystems that keep no creation time have the inode alone.
    pub(super) fn describe(&self) -> std::io::Result<DatabaseIdentity> {
        let metadata = self.file.metadata()?;
        let born = metadata.created().ok().and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(DatabaseIdentity::new(match born {
            Some(born) => format!("sqlite inode {} made {}.{:09}", metadata.ino(), born.as_secs(), born.subsec_nanos()),
            None => format!("sqlite inode {}", metadata.ino()),
        }))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let mut locked = locked_files();
        // Closing the descriptor releases the lock in any case; this keeps the order.
        let _ = flock(&self.file, FlockOperation::Unlock);
        locked.remove(&self.identity);
    }
}

/// Makes an empty private file and makes its name durable.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|file| file.sync_all()).map_err(io("create", path))?;
    let directory = directory_of(path);
    File::open(&directory).and_then(|open| open.sync_all()).map_err(io("sync", &directory))
}

/// The directory a path is in.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Refuses what is not an SQLite file, before SQLite could write to it.
fn check_header(lock: &FileLock, path: &Path) -> Result<(), OpenError> {
    let mut start = Vec::with_capacity(SQLITE_MAGIC.len());
    let mut file = &lock.file;
    (&mut file).take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start).map_err(io("read", path))?;
    if start.is_empty() || start == SQLITE_MAGIC {
        Ok(())
    } else {
        Err(OpenError::NotADatabase { path: path.to_owned() })
    }
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(database("open the database", path))?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(database("set the lock timeout", path))?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(db)
}

/// Refuses another program's database, before any setting is changed in it.
pub(super) fn check_owner(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let asked = db.query_row("PRAGMA application_id", [], |row| small(row, 0)).and_then(|id| {
        let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| small(row, 0))?;
        Ok((id, tables))
    });
    match asked.map_err(database("read the header", path))? {
        // New, or its making was interrupted before the first commit.
        (APPLICATION_ID, _) | (0, 0) => Ok(()),
        (_, _) => Err(OpenError::ForeignDatabase { path: path.to_owned() }),
    }
}

fn configure(db: &Connection, path: &Path) -> Result<(), OpenError> {
    for (name, wanted, expected) in SETTINGS {
        let set = db.pragma_update(None, name, wanted);
        set.map_err(database("change a setting", path))?;
        let found = db.pragma_query_value(None, name, |row| {
            let value = row.get_ref(0)?;
            Ok(value.as_i64().map_or_else(|_| value.as_str().unwrap_or_default().to_owned(), |n| n.to_string()))
        });
        let found = found.map_err(database("read a setting", path))?;
        if found != expected {
            return Err(OpenError::Setting { path: path.to_owned(), name, wanted, found });
        }
    }
    let hardened = db
        .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)
        .and_then(|_| db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false))
        .and_then(|_| db.pragma_update(None, "cell_size_check", true))
        .and_then(|()| db.pragma_update(None, "temp_store", "MEMORY"))
        .and_then(|()| db.pragma_update(None, "cache_size", -16_384));
    hardened.map_err(database("change a setting", path))
}

/// Writes what an earlier run left in the WAL into the database, syncs it, and empties the WAL.
fn settle_wal(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let action = "take over what an earlier run left in the write-ahead log (is another program reading the file?)";
    let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| small(row, 0));
    match busy.map_err(database(action, path))? {
        0 => Ok(()),
        _ => Err(OpenError::Database {
            action,
            path: path.to_owned(),
            source: "a reader keeps the write-ahead log in use; stop it and try again".into(),
        }),
    }
}

/// The schema version found, 0 for a new database. Refuses one from the future, before it is touched.
fn check_version(db: &Connection, path: &Path) -> Result<u32, OpenError> {
    let supported = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = schema_version(db).map_err(database("read the schema version", path))?;
    if found > supported {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, supported });
    }
    Ok(found)
}

fn migrate(db: &mut Connection, from: u32, path: &Path) -> Result<(), OpenError> {
    let missing = MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
    for (migration, version) in missing.zip(from.saturating_add(1)..) {
        apply(db, migration, version, path)?;
    }
    Ok(())
}

pub(super) fn schema_version(db: &Connection) -> rusqlite::Result<u32> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'";
    match db.query_row(sql, [], |row| small(row, 0))? {
        0 => Ok(0),
        _ => db.query_row("SELECT max(version) FROM schema_version", [], |row| small(row, 0)),
    }
}

fn apply(db: &mut Connection, migration: &str, version: u32, path: &Path) -> Result<(), OpenError> {
    let mut instance = [0u8; 16];
    getrandom::fill(&mut instance).map_err(OpenError::Random)?;
    let applied = db.transaction().and_then(|change| {
        change.execute_batch(migration)?;
        if version == 1 {
            change.pragma_update(None, "application_id", APPLICATION_ID)?;
            change.execute("INSERT INTO meta (id, instance) VALUES (1, ?1)", [instance])?;
        }
        change.commit()
    });
    applied.map_err(database("bring the schema up to date", path))
}

pub(super) fn read_meta(db: &Connection) -> rusqlite::Result<(InstanceId, Option<GenesisValidatorsRoot>)> {
    db.query_row("SELECT instance, genesis_validators_root FROM meta WHERE id = 1", [], |row| {
        let pinned = match row.get_ref(1)? {
            rusqlite::types::ValueRef::Null => None,
            _ => Some(GenesisValidatorsRoot(blob(row, 1)?)),
        };
        Ok((InstanceId(blob(row, 0)?), pinned))
    })
}
