//! A copy of the whole database at one moment, taken while somebody writes to it, and a look at every page of a copy.
//!
//! Guarantees: a copy is the state after some commit, never a mixture of two; the writer is not waited for and does not
//! wait; when [`copy`] returns the copy is on disk. Nothing says that a copy is *up to date*: that is what the fence is
//! for when one is put to use.

use std::fs::File;
use std::path::Path;

use super::open::{check_owner, create, database, directory_of, io, open_read_only};
use crate::error::OpenError;

/// Copies the database in `from` into the new file `to`, mode 0600.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    let action = "copy the database";
    // SQLite would make a database of nothing.
    drop(File::open(from).map_err(io("open", from))?);
    let db = open_read_only(from).map_err(database(action, from))?;
    check_owner(&db, from)?;
    create(to)?;
    // The connection cannot write to the database it has opened; what it is to write is another one.
    db.pragma_update(None, "query_only", false).map_err(database(action, from))?;
    let target = to.to_str().ok_or_else(|| OpenError::Database {
        action,
        path: to.to_owned(),
        source: "the name of the copy is not UTF-8; choose another one".into(),
    })?;
    db.execute("VACUUM INTO ?1", [target]).map_err(database(action, to))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io("sync", to))?;
    let directory = directory_of(to);
    File::open(&directory).and_then(|open| open.sync_all()).map_err(io("sync", &directory))
}

/// Reads every page and every index of a database that nobody writes to.
pub(crate) fn check(path: &Path) -> Result<(), OpenError> {
    let action = "verify every page of the database";
    drop(File::open(path).map_err(io("open", path))?);
    let db = open_read_only(path).map_err(database(action, path))?;
    check_owner(&db, path)?;
    let found: String =
        db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(database(action, path))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(OpenError::Database { action, path: path.to_owned(), source: found.into() })
    }
}
