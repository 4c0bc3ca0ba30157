//! The hot path's two messages. Each is one round trip, whatever the size of the batch: the first begins the
//! transaction, locks the rows in the order of their ids and reads them and the end of the chain; the second
//! writes and commits. They are sent as text, because only then does one message hold several statements; all
//! that is put into them are digits and hexadecimal letters made here.

use core::fmt::Write;
use std::collections::HashMap;

use holdfast_domain::{ObservedRoot, PublicKey, UnixMillis};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _, raw_sql};

use super::server::{MARK, Mark, SUSPECTED};
use super::session::BEGIN;
use super::values::{self, MARKS};
use crate::journal::{Hash, Head, InstanceId};
use crate::rules::Watermarks;
use crate::store::{Planned, Row, RowId};

/// What the first message brought.
pub(super) struct Loaded {
    pub(super) head: Head,
    /// Number of the transaction that holds the locks.
    pub(super) transaction: String,
    /// Which server this was.
    pub(super) mark: Mark,
    /// Since when an instance suspects the database; the newest moment.
    pub(super) suspected: Option<UnixMillis>,
    pub(super) rows: HashMap<PublicKey, Row>,
}

pub(super) fn load_sql(keys: &[PublicKey], instance: InstanceId) -> String {
    let mut sql = String::with_capacity(keys.len().saturating_mul(104).saturating_add(512));
    let _ = write!(
        sql,
        "{BEGIN}; SELECT v.id, v.pubkey, v.state, {MARKS}, v.watch FROM holdfast.validators v WHERE v.pubkey = ANY ('"
    );
    list(&mut sql, keys, |sql, key| quoted_hex(sql, key.as_bytes()));
    let _ = write!(
        sql,
        "'::bytea[]) ORDER BY v.id FOR UPDATE; \
         SELECT pg_current_xact_id()::text, h.seq, h.hash, {MARK}, {SUSPECTED} FROM (SELECT 1) one LEFT JOIN LATERAL \
         (SELECT seq, hash FROM holdfast.journal WHERE instance = '\\x{instance}' ORDER BY seq DESC LIMIT 1) h ON true"
    );
    sql
}

pub(super) async fn load(db: &mut PgConnection, sql: &str) -> sqlx::Result<Loaded> {
    let mut found = None;
    let mut rows = HashMap::new();
    for row in raw_sql(AssertSqlSafe(sql)).fetch_all(db).await? {
        // The rows of both statements come in one list; they differ in width.
        if row.len() == 6 {
            let head = match row.try_get::<Option<i64>, _>(1)? {
                Some(_) => Head { seq: values::natural(&row, 1)?, hash: Hash(values::bytes(&row, 2)?) },
                None => Head::EMPTY,
            };
            found = Some((head, row.try_get(0)?, Mark::read(&row, 3)?, values::moment(&row, 5)?));
        } else {
            let loaded = Row {
                id: RowId(values::natural(&row, 0)?),
                state: values::state(&row, 2)?,
                marks: values::watermarks(&row, 3)?,
                watch: values::watch(&row, 8)?,
                changed: false,
            };
            rows.insert(values::key(&row, 1)?, loaded);
        }
    }
    let (head, transaction, mark, suspected) = found.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Loaded { head, transaction, mark, suspected, rows })
}

pub(super) fn write_sql(transaction: &str, rows: &[Option<Row>], planned: &Planned) -> String {
    let changed: Vec<(RowId, Watermarks)> =
        rows.iter().flatten().filter(|row| row.changed).map(|row| (row.id, row.marks)).collect();
    let room = changed.len().saturating_mul(220).saturating_add(planned.entries.len().saturating_mul(2));
    let mut sql = String::with_capacity(room.saturating_add(1_024));
    // Digits only, as the server made it; anything else would not be a number.
    let transaction: String = transaction.chars().filter(char::is_ascii_digit).collect();
    let _ = write!(sql, "SELECT holdfast.commit_batch('{transaction}', '");
    list(&mut sql, &changed, |sql, (id, _)| digits(sql, Some(id.0)));
    sql.push_str("', '");
    list(&mut sql, &changed, |sql, (_, marks)| digits(sql, marks.block.map(|mark| mark.slot.0)));
    sql.push_str("', '");
    list(&mut sql, &changed, |sql, (_, marks)| optional_root(sql, marks.block.and_then(|mark| mark.root)));
    sql.push_str("', '");
    list(&mut sql, &changed, |sql, (_, marks)| digits(sql, marks.attestation.map(|mark| mark.source.0)));
    sql.push_str("', '");
    list(&mut sql, &changed, |sql, (_, marks)| digits(sql, marks.attestation.map(|mark| mark.target.0)));
    sql.push_str("', '");
    list(&mut sql, &changed, |sql, (_, marks)| optional_root(sql, marks.attestation.and_then(|mark| mark.root)));
    let header = &planned.header;
    let _ = write!(
        sql,
        "', '\\x{}', {}, {}, '\\x{}', '\\x{}', '\\x{}', {}, '\\x",
        header.instance,
        header.seq.cast_signed(),
        header.time.0.cast_signed(),
        header.prev_hash,
        header.merkle_root,
        header.hash,
        header.count.cast_signed(),
    );
    hex(&mut sql, &planned.entries);
    sql.push_str("'); COMMIT");
    sql
}

/// An array as PostgreSQL reads it.
fn list<T>(sql: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    sql.push('{');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            sql.push(',');
        }
        write(sql, item);
    }
    sql.push('}');
}

fn hex(sql: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        let nibbles = [byte >> 4, byte & 0x0f];
        sql.extend(nibbles.iter().filter_map(|nibble| DIGITS.get(usize::from(*nibble))));
    }
}

/// Bytes as an element of an array.
fn quoted_hex(sql: &mut String, bytes: &[u8]) {
    sql.push_str("\"\\\\x");
    hex(sql, bytes);
    sql.push('"');
}

fn optional_root(sql: &mut String, root: Option<ObservedRoot>) {
    match root {
        Some(root) => quoted_hex(sql, root.as_bytes()),
        None => sql.push_str("NULL"),
    }
}

fn digits(sql: &mut String, number: Option<u64>) {
    let _ = match number {
        Some(number) => write!(sql, "{number}"),
        None => write!(sql, "NULL"),
    };
}
