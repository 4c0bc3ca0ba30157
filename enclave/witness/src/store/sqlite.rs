//! A witness's memory in an SQLite file on a local disk.
//!
//! Guarantees: the filesystem is local, the file is this user's alone, and the settings that a durable commit rests on
//! are made and read back; triggers refuse any change of what was written.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::{Appended, Store, Versioned, group, number, versioned};
use crate::error::StoreError;
use crate::message::Group;

/// Marks a file as a witness's in SQLite's header: "HfWt" in ASCII.
const APPLICATION_ID: i64 = 0x4866_5774;
/// How long to wait for another program that writes.
const BUSY: Duration = Duration::from_secs(2);
/// Settings: name, value to set, value to read back.
const SETTINGS: [(&str, &str, &str); 3] =
    [("journal_mode", "WAL", "wal"), ("synchronous", "FULL", "2"), ("foreign_keys", "ON", "1")];
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS record (
        grp TEXT NOT NULL, version INTEGER NOT NULL CHECK (version > 0), content BLOB NOT NULL,
        PRIMARY KEY (grp, version)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER IF NOT EXISTS record_in_order BEFORE INSERT ON record
    WHEN NEW.version <> 1 + coalesce((SELECT max(version) FROM record WHERE grp = NEW.grp), 0)
    BEGIN SELECT raise(ABORT, 'versions follow one another'); END;
    CREATE TRIGGER IF NOT EXISTS record_stays BEFORE UPDATE ON record
    BEGIN SELECT raise(ABORT, 'nothing is ever changed'); END;
    CREATE TRIGGER IF NOT EXISTS record_is_kept BEFORE DELETE ON record
    BEGIN SELECT raise(ABORT, 'nothing is ever deleted'); END;";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The filesystem.
    #[error(transparent)]
    Filesystem(#[from] holdfast_slashing_db::OpenError),
    /// The system refused.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others may read or write it.
    #[error("others may use {0}; run: chmod 600 {0}", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another program.
    #[error("{} is no witness's database; give a path of its own", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A setting that durability rests on cannot be had.
    #[error("{}: {name} is {found:?} where {wanted:?} is needed", path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        name: &'static str,
        /// Value needed.
        wanted: &'static str,
        /// Value found.
        found: String,
    },
    /// SQLite refused.
    #[error("cannot open the database {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// The file.
pub struct SqliteStore(Arc<Mutex<Connection>>);

impl SqliteStore {
    /// Opens a file, made if it is not there.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        holdfast_slashing_db::require_local_filesystem(path)?;
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mode = made.and_then(|file| file.metadata()).map_err(io)?.mode();
        if mode & 0o077 != 0 {
            return Err(OpenError::Permissions { path: path.to_owned() });
        }
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.busy_timeout(BUSY).map_err(failed)?;
        let owner = |db: &Connection| {
            let id: i64 = db.query_row("PRAGMA application_id", [], |row| row.get(0))?;
            let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            Ok((id, tables))
        };
        match owner(&db) {
            Ok((APPLICATION_ID, _) | (0, 0)) => {}
            Ok(_) => return Err(OpenError::Foreign { path: path.to_owned() }),
            Err(error) if sqlite_code(&error) == Some(ErrorCode::NotADatabase) => {
                return Err(OpenError::Foreign { path: path.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        }
        for (name, wanted, expected) in SETTINGS {
            db.pragma_update(None, name, wanted).map_err(failed)?;
            let found = db.pragma_query_value(None, name, |row| {
                let value = row.get_ref(0)?;
                Ok(value.as_i64().map_or_else(|_| value.as_str().unwrap_or_default().to_owned(), |n| n.to_string()))
            });
            let found = found.map_err(failed)?;
            if found != expected {
                return Err(OpenError::Setting { path: path.to_owned(), name, wanted, found });
            }
        }
        db.execute_batch(&format!("BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {SCHEMA} COMMIT;"))
            .map_err(failed)?;
        Ok(Self(Arc::new(Mutex::new(db))))
    }

    /// Does something with the connection on a thread that may wait for the disk.
    async fn with<R: Send + 'static>(
        &self,
        f: impl FnOnce(&Connection) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let db = Arc::clone(&self.0);
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        let done = tokio::task::spawn_blocking(move || f(&db.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.map_err(StoreError::database("finish a query"))?
    }
}

fn sqlite_code(error: &rusqlite::Error) -> Option<ErrorCode> {
    error.sqlite_error_code()
}

impl Store for SqliteStore {
    async fn latest(&self, name: &Group) -> Result<Versioned, StoreError> {
        let name = name.clone();
        self.with(move |db| {
            let row = db
                .query_row(
                    "SELECT version, content FROM record WHERE grp = ?1 ORDER BY version DESC LIMIT 1",
                    [name.as_str()],
                    |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)),
                )
                .optional()
                .map_err(StoreError::database("read a record"))?;
            row.map_or_else(|| Ok(Versioned::default()), |(version, content)| versioned(version, &content))
        })
        .await
    }

    async fn append(&self, name: &Group, next: &Versioned) -> Result<Appended, StoreError> {
        let (name, version, content) = (name.clone(), number(next.version)?, next.record.encode());
        self.with(move |db| {
            let added = db.execute(
                "INSERT INTO record (grp, version, content) VALUES (?1, ?2, ?3)",
                params![name.as_str(), version, content],
            );
            match added {
                Ok(_) => Ok(Appended::Yes),
                // The key, or the trigger: another version came first.
                Err(error) if sqlite_code(&error) == Some(ErrorCode::ConstraintViolation) => Ok(Appended::TooLate),
                Err(error) => Err(StoreError::database("write a record")(error)),
            }
        })
        .await
    }

    async fn groups(&self) -> Result<Vec<Group>, StoreError> {
        self.with(|db| {
            let read = |db: &Connection| {
                let mut query = db.prepare("SELECT DISTINCT grp FROM record ORDER BY grp")?;
                query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
            };
            let names = read(db).map_err(StoreError::database("list groups"))?;
            names.iter().map(|name| group(name)).collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: what is written stays over a new start, one of two writers of a version wins, nothing can be changed,
    //! and files that are not a witness's are refused.

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::key::SigningKey;

    fn versioned_with(version: u64, seed: u8) -> Versioned {
        let members = vec![SigningKey::from_seed(&[seed; 32]).public()];
        Versioned { version, record: crate::rules::Record { members, lease: None } }
    }

    #[tokio::test]
    async fn versions_stay_and_one_writer_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness.db");
        let name: Group = "a".parse().unwrap();
        {
            let (one, two) = (SqliteStore::open(&path).unwrap(), SqliteStore::open(&path).unwrap());
            assert_eq!(one.latest(&name).await.unwrap(), Versioned::default());
            assert_eq!(one.append(&name, &versioned_with(1, 1)).await.unwrap(), Appended::Yes);
            assert_eq!(two.append(&name, &versioned_with(1, 2)).await.unwrap(), Appended::TooLate);
            assert_eq!(two.append(&name, &versioned_with(3, 2)).await.unwrap(), Appended::TooLate, "no gaps");
            assert_eq!(two.append(&name, &versioned_with(2, 2)).await.unwrap(), Appended::Yes);
            for sql in ["UPDATE record SET version = 9", "DELETE FROM record"] {
                let refused = one.0.lock().unwrap().execute(sql, []).unwrap_err();
                assert!(refused.to_string().contains("nothing is ever"), "{refused}");
            }
        }
        let again = SqliteStore::open(&path).unwrap();
        assert_eq!(again.latest(&name).await.unwrap(), versioned_with(2, 2));
        assert_eq!(again.groups().await.unwrap(), [name]);
    }

    #[test]
    fn files_of_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.db");
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(SqliteStore::open(&path), Err(OpenError::Foreign { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SqliteStore::open(&path), Err(OpenError::Permissions { .. })));
        let nowhere = dir.path().join("absent").join("witness.db");
        assert!(matches!(SqliteStore::open(&nowhere), Err(OpenError::Filesystem(_))));
    }
}
