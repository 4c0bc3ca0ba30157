//! Labels of keys in SQLite.

use holdfast_domain::{PublicKey, UnixMillis};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::values::{blob, unknown};
use super::{classify, find_key, prepare, touch, write};
use crate::error::StoreError;
use crate::identity::CallerId;
use crate::labels::{Label, LabelChange, Labelled, Labels};
use crate::registry::KeyState;
use crate::store::RowId;

/// Every label of every key.
pub(super) const LIST: &str = "SELECT v.pubkey, l.label FROM key_labels l JOIN validators v ON v.id = l.id";

fn label(text: &str, column: usize) -> rusqlite::Result<Label> {
    text.parse().map_err(|_| unknown(column, Type::Text))
}

/// Reads a row of [`LIST`].
pub(super) fn listed(row: &Row<'_>) -> rusqlite::Result<(PublicKey, Label)> {
    Ok((PublicKey::from_bytes(blob(row, 0)?), label(&row.get::<_, String>(1)?, 1)?))
}

/// Reads the labels of a key, with spaces between them.
pub(super) fn read(row: &Row<'_>, column: usize) -> rusqlite::Result<Labels> {
    let text = row.get::<_, Option<String>>(column)?.unwrap_or_default();
    text.split_ascii_whitespace().map(|word| label(word, column)).collect()
}

/// Gives a key labels that it does not have.
pub(super) fn add<'a>(
    db: &Connection,
    id: RowId,
    labels: impl IntoIterator<Item = &'a Label>,
) -> Result<(), StoreError> {
    for label in labels {
        let sql = "INSERT INTO key_labels (id, label) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        write(db, "label a key", sql, params![id.signed(), label.as_str()])?;
    }
    Ok(())
}

/// See [`Store::label`](crate::store::Store::label).
pub(super) fn change(
    db: &Connection,
    keys: &[PublicKey],
    change: &LabelChange,
    by: &CallerId,
    at: UnixMillis,
) -> Result<Vec<Labelled>, StoreError> {
    let one = |key: &PublicKey| {
        let id = match find_key(db, key)? {
            None => return Ok(Labelled::Unknown),
            Some((_, row)) if row.state == KeyState::Tombstoned => return Ok(Labelled::Deleted),
            Some((id, _)) => id,
        };
        let sql = "SELECT group_concat(label, ' ') FROM key_labels WHERE id = ?1";
        let before = prepare(db, sql)?.query_row(params![id.signed()], |row| read(row, 0));
        let before = before.map_err(|error| classify("read the labels of a key", error))?;
        let Some(after) = change.of(&before) else { return Ok(Labelled::TooMany) };
        for label in before.difference(&after) {
            let sql = "DELETE FROM key_labels WHERE id = ?1 AND label = ?2";
            write(db, "take a label from a key", sql, params![id.signed(), label.as_str()])?;
        }
        add(db, id, after.difference(&before))?;
        if before != after {
            touch(db, id, by, at)?;
        }
        Ok(Labelled::Done { before, after })
    };
    keys.iter().map(one).collect()
}
