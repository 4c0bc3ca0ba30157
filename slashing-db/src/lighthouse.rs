//! Lighthouse's slashing protection database (SQLite) as a source of histories.
//!
//! Why: whoever moves from Lighthouse has it beside the keys. Reading it where it lies leaves out a file that may be old,
//! and brings along which keys are switched off.
//!
//! # What is guaranteed
//!
//! - **Nothing is written.** The file is opened for reading, and read in one transaction.
//! - **Nothing is lost.** For each validator the highest slot, source and target over every row, as
//!   [`crate::interchange`] reduces a file.
//! - **All or nothing.** One row that cannot be read fails the whole.
//! - **Not beside a Lighthouse.** It holds its database locked while it runs, so reading it then fails.
//!
//! # What is not covered
//!
//! The chain: the database does not say of which it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_domain::{Epoch, GenesisValidatorsRoot, PublicKey, Slot};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use crate::error::BoxError;
use crate::interchange::{History, Interchange, MAX_VALIDATORS, Rows};

/// How long another program may hold the file.
const PATIENCE: Duration = Duration::from_secs(2);

const TABLES: &str = "SELECT count(*) FROM sqlite_master WHERE type = 'table'
    AND name IN ('validators', 'signed_blocks', 'signed_attestations')";
const HAS_ENABLED: &str = "SELECT count(*) FROM pragma_table_info('validators') WHERE name = 'enabled'";
const BLOCKS: &str = "SELECT validator_id, count(*), min(slot), max(slot) FROM signed_blocks GROUP BY validator_id";
const VOTES: &str =
    "SELECT validator_id, count(*), min(min(source_epoch), min(target_epoch)), max(source_epoch), max(target_epoch)
    FROM signed_attestations GROUP BY validator_id";

/// Why a database gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Somebody holds it.
    #[error("{} is in use: stop Lighthouse first, and keep it from starting again", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or read.
    #[error("cannot read {}; check the path, its permissions, and that it is a whole copy", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Another program's database.
    #[error("{} is not a slashing protection database of Lighthouse: its tables are not there", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A row that is not what it should be.
    #[error(
        "the validator with id {row} in {} cannot be read: its key is no public key, or a slot or epoch is below zero; \
         export an interchange file and use that", path.display()
    )]
    Validator {
        /// The file.
        path: PathBuf,
        /// The number of its row in the table validators.
        row: i64,
    },
    /// More than there can be.
    #[error("{} lists more than {MAX_VALIDATORS} validators; check that it is the right database", path.display())]
    TooManyValidators {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the histories of a database, for the chain `network`: it does not say of which it is.
///
/// # Errors
/// [`ReadError`]; nothing was changed anywhere.
pub fn read(path: &Path, network: GenesisValidatorsRoot) -> Result<Interchange, ReadError> {
    let broken = |error: rusqlite::Error| broken(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(broken)?;
    db.busy_timeout(PATIENCE).map_err(broken)?;
    let snapshot = db.transaction().map_err(broken)?;
    let count = |sql| snapshot.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(broken);
    if count(TABLES)? != 3 {
        return Err(ReadError::Foreign { path: path.to_owned() });
    }
    let enabled = if count(HAS_ENABLED)? == 1 { "enabled" } else { "1" };
    let mut histories: BTreeMap<i64, (History, bool)> = BTreeMap::new();
    let mut blocks = snapshot.prepare(BLOCKS).map_err(broken)?;
    let mut rows = blocks.query([]).map_err(broken)?;
    while let Some(row) = rows.next().map_err(broken)? {
        add_blocks(row, &mut histories).map_err(broken)?;
    }
    let mut votes = snapshot.prepare(VOTES).map_err(broken)?;
    let mut rows = votes.query([]).map_err(broken)?;
    while let Some(row) = rows.next().map_err(broken)? {
        add_votes(row, &mut histories).map_err(broken)?;
    }
    let sql = format!("SELECT id, CAST(public_key AS TEXT), {enabled} FROM validators");
    let mut listed = snapshot.prepare(&sql).map_err(broken)?;
    let mut rows = listed.query([]).map_err(broken)?;
    let (mut validators, mut off) = (BTreeMap::new(), BTreeSet::new());
    while let Some(row) = rows.next().map_err(broken)? {
        let id: i64 = row.get(0).map_err(broken)?;
        let key: PublicKey = row
            .get::<_, String>(1)
            .map_err(broken)?
            .parse()
            .map_err(|_| ReadError::Validator { path: path.to_owned(), row: id })?;
        let (history, sound) = histories.remove(&id).unwrap_or((History::default(), true));
        if !sound {
            return Err(ReadError::Validator { path: path.to_owned(), row: id });
        }
        if !row.get::<_, bool>(2).map_err(broken)? {
            off.insert(key);
        }
        validators.insert(key, history);
        if validators.len() > MAX_VALIDATORS {
            return Err(ReadError::TooManyValidators { path: path.to_owned() });
        }
    }
    Ok(Interchange::new(network, validators).with_switched_off(off))
}

fn broken(path: &Path, error: rusqlite::Error) -> ReadError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ReadError::InUse { path },
        Some(ErrorCode::NotADatabase) => ReadError::Foreign { path },
        Some(_) | None => ReadError::Database { path, source: Box::new(error) },
    }
}

/// A number of SQLite's, which has a sign, as a slot or epoch.
fn number(value: i64) -> Option<u64> {
    u64::try_from(value).ok()
}

fn add_blocks(row: &Row<'_>, histories: &mut BTreeMap<i64, (History, bool)>) -> rusqlite::Result<()> {
    let (history, sound) = histories.entry(row.get(0)?).or_insert((History::default(), true));
    history.rows = Rows { blocks: number(row.get(1)?).unwrap_or(0), ..history.rows };
    match (number(row.get(2)?), number(row.get(3)?)) {
        (Some(_), Some(slot)) => history.floor.add_block(Slot(slot)),
        _ => *sound = false,
    }
    Ok(())
}

fn add_votes(row: &Row<'_>, histories: &mut BTreeMap<i64, (History, bool)>) -> rusqlite::Result<()> {
    let Some(id) = row.get::<_, Option<i64>>(0)? else { return Ok(()) };
    let (history, sound) = histories.entry(id).or_insert((History::default(), true));
    history.rows = Rows { attestations: number(row.get(1)?).unwrap_or(0), ..history.rows };
    match (number(row.get(2)?), number(row.get(3)?), number(row.get(4)?)) {
        (Some(_), Some(source), Some(target)) => {
            history.floor.add_attestation(Epoch(source), Epoch(target));
        }
        _ => *sound = false,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SCHEMA: &str = "
        CREATE TABLE validators (id INTEGER PRIMARY KEY, public_key BLOB NOT NULL UNIQUE, enabled BOOL NOT NULL DEFAULT TRUE);
        CREATE TABLE signed_blocks (validator_id INTEGER NOT NULL, slot INTEGER NOT NULL, signing_root BLOB NOT NULL);
        CREATE TABLE signed_attestations (validator_id INTEGER, source_epoch INTEGER NOT NULL,
            target_epoch INTEGER NOT NULL, signing_root BLOB NOT NULL);";

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 48])
    }

    fn made(dir: &Path, sql: &str) -> PathBuf {
        let path = dir.join("slashing_protection.sqlite");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        path
    }

    fn network() -> GenesisValidatorsRoot {
        GenesisValidatorsRoot([7; 32])
    }

    #[test]
    fn each_number_is_the_highest_of_all_rows() {
        let dir = tempfile::tempdir().unwrap();
        let path = made(
            dir.path(),
            &format!(
                "{SCHEMA} INSERT INTO validators VALUES (1, '{}', 1), (2, '{}', 0), (3, '{}', 1);
                INSERT INTO signed_blocks VALUES (1, 5, x'00'), (1, 9, x'00'), (2, 0, x'00');
                INSERT INTO signed_attestations VALUES (1, 5, 6, x'00'), (1, 2, 9, x'00');",
                key(1),
                key(2),
                key(3)
            ),
        );
        let before = std::fs::read(&path).unwrap();
        let read = read(&path, network()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let of = |byte| *read.get(&key(byte)).unwrap();
        let floor = of(1).floor;
        let epochs = floor.attestation.map(|own| (own.source.0, own.target.0));
        assert_eq!((floor.block, epochs), (Some(Slot(9)), Some((5, 9))));
        assert_eq!(of(1).rows, Rows { blocks: 2, attestations: 2 });
        assert_eq!(of(2).floor.block, Some(Slot(0)));
        assert_eq!(of(3), History::default());
        let off: Vec<bool> = [1, 2, 3].map(|byte| read.is_switched_off(&key(byte))).to_vec();
        assert_eq!(off, [false, true, false]);
    }

    #[test]
    fn a_database_without_the_column_for_switching_off_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let schema = SCHEMA.replace(", enabled BOOL NOT NULL DEFAULT TRUE", "");
        let path = made(dir.path(), &format!("{schema} INSERT INTO validators VALUES (1, '{}')", key(1)));
        assert!(!read(&path, network()).unwrap().is_switched_off(&key(1)));
    }

    #[test]
    fn what_is_damaged_foreign_or_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(&dir.path().join("gone"), network()), Err(ReadError::Database { .. })));
        let text = dir.path().join("text");
        std::fs::File::create(&text).unwrap().write_all(&[b'x'; 5_000]).unwrap();
        assert!(matches!(read(&text, network()), Err(ReadError::Foreign { .. })));
        let path = made(dir.path(), SCHEMA);
        let other = dir.path().join("other");
        Connection::open(&other).unwrap().execute_batch("CREATE TABLE validators (id INTEGER)").unwrap();
        assert!(matches!(read(&other, network()), Err(ReadError::Foreign { .. })));
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!("INSERT INTO validators VALUES (4, '{}', 1)", key(1))).unwrap();
        for (bad, good) in [
            ("INSERT INTO signed_blocks VALUES (4, -1, x'00')", "DELETE FROM signed_blocks"),
            ("INSERT INTO signed_attestations VALUES (4, -1, 3, x'00')", "DELETE FROM signed_attestations"),
            ("UPDATE validators SET public_key = 'key'", ""),
        ] {
            db.execute_batch(bad).unwrap();
            assert!(matches!(read(&path, network()), Err(ReadError::Validator { row: 4, .. })), "{bad}");
            db.execute_batch(good).unwrap();
        }
        db.execute_batch("BEGIN EXCLUSIVE").unwrap();
        assert!(matches!(read(&path, network()), Err(ReadError::InUse { .. })));
    }
}
