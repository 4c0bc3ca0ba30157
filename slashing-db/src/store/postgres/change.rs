//! Administrative transactions: lock and read rows, decide in Rust, write. A constant number of round trips,
//! with array parameters.

use std::collections::HashMap;

use holdfast_domain::{PublicKey, UnixMillis};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _, raw_sql};

use super::server::{MARK, Mark};
use super::session::BEGIN;
use super::values::{self, LABELS, MARKS};
use super::watch::Findings;
use crate::identity::CallerId;
use crate::journal::InstanceId;
use crate::labels::{Label, Labels};
use crate::registry::{DataKeyId, KeyState, NewKey};
use crate::rules::Watermarks;
use crate::store::{KeyRow, RowId};

/// Number of the advisory lock under which rows are made, so that two signers that import the same keys in
/// different orders do not wait for each other in a circle.
pub(super) const ENTRY_LOCK: i64 = 0x486f_6c65;

/// Whose rows.
pub(super) enum Whose {
    /// Every row there is.
    All,
    /// These keys', as far as they have rows.
    Of(Vec<PublicKey>),
    /// These keys', made now if they are not there.
    OfOrNew(Vec<PublicKey>),
    /// These keys', as far as they have rows, with their labels.
    LabelsOf(Vec<PublicKey>),
}

/// A row under lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) id: RowId,
    pub(super) row: KeyRow,
    /// Made by this transaction.
    pub(super) new: bool,
}

/// Rows under lock, in order of entry.
pub(super) struct Rows {
    /// Which server this was.
    pub(super) mark: Mark,
    pub(super) order: Vec<PublicKey>,
    pub(super) by_key: HashMap<PublicKey, Held>,
    /// Labels of those that have any; empty unless they were asked for.
    pub(super) labels: HashMap<PublicKey, Labels>,
}

/// What to write.
#[derive(Default)]
pub(super) struct Changes<'a> {
    ids: Vec<i64>,
    states: Vec<i16>,
    slots: Vec<Option<String>>,
    slot_roots: Vec<Option<Vec<u8>>>,
    sources: Vec<Option<String>>,
    targets: Vec<Option<String>>,
    vote_roots: Vec<Option<Vec<u8>>>,
    touched: Vec<i64>,
    without_secret: Vec<i64>,
    recorded: Vec<i64>,
    labelled: Vec<(i64, Label)>,
    unlabelled: Vec<(i64, Label)>,
    enrolled: Vec<(i64, &'a NewKey)>,
    findings: Findings,
    fencing: Option<InstanceId>,
}

impl<'a> Changes<'a> {
    /// Writes state and watermarks of a row back. Once for each row.
    pub(super) fn set(&mut self, held: &Held) {
        let marks: &Watermarks = &held.row.marks;
        self.ids.push(held.id.0.cast_signed());
        self.states.push(values::state_code(held.row.state));
        self.slots.push(marks.block.map(|mark| mark.slot.0.to_string()));
        self.slot_roots.push(marks.block.and_then(|mark| mark.root).map(|root| root.as_bytes().to_vec()));
        self.sources.push(marks.attestation.map(|mark| mark.source.0.to_string()));
        self.targets.push(marks.attestation.map(|mark| mark.target.0.to_string()));
        self.vote_roots.push(marks.attestation.and_then(|mark| mark.root).map(|root| root.as_bytes().to_vec()));
    }

    /// Notes who and when.
    pub(super) fn touch(&mut self, id: RowId) {
        self.touched.push(id.0.cast_signed());
    }

    /// Sees to it that who and when are on record.
    pub(super) fn ensure_record(&mut self, id: RowId) {
        self.recorded.push(id.0.cast_signed());
    }

    pub(super) fn delete_secret(&mut self, id: RowId) {
        self.without_secret.push(id.0.cast_signed());
    }

    /// Gives a key labels, and takes others from it.
    pub(super) fn label<'l>(
        &mut self,
        id: RowId,
        add: impl Iterator<Item = &'l Label>,
        remove: impl Iterator<Item = &'l Label>,
    ) {
        let id = id.0.cast_signed();
        self.labelled.extend(add.map(|label| (id, label.clone())));
        self.unlabelled.extend(remove.map(|label| (id, label.clone())));
    }

    /// Notes what was found out about newly enabled keys.
    pub(super) fn note(&mut self, findings: Findings) {
        self.findings = findings;
    }

    /// Ends what instances wrote about suspecting the database, as this one fences every key.
    pub(super) fn end_suspicion(&mut self, fencing: InstanceId) {
        self.fencing = Some(fencing);
    }

    /// The data keys that secrets to be stored are noted to be sealed under.
    pub(super) fn data_keys(&self) -> impl Iterator<Item = DataKeyId> + use<> {
        let noted: Vec<_> = self.enrolled.iter().filter_map(|(_, key)| key.sealed.data_key()).collect();
        noted.into_iter()
    }

    /// Stores a secret and its record.
    pub(super) fn enroll(&mut self, id: RowId, key: &'a NewKey) {
        self.label(id, key.labels.iter(), std::iter::empty());
        self.enrolled.push((id.0.cast_signed(), key));
    }
}

fn raw_keys(keys: &[PublicKey]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.as_bytes().to_vec()).collect()
}

/// Begins a transaction and locks rows in the order of their ids. `millis` bounds each of its statements; `at` is the
/// time that the schema's triggers note.
pub(super) async fn hold(db: &mut PgConnection, whose: &Whose, millis: u128, at: UnixMillis) -> sqlx::Result<Rows> {
    let begin = format!(
        "{BEGIN}; SET LOCAL statement_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}; \
         SET LOCAL holdfast.now_ms = {at}; SELECT {MARK}",
        at = at.0.cast_signed()
    );
    let mark = Mark::read(&raw_sql(AssertSqlSafe(begin)).fetch_one(&mut *db).await?, 0)?;
    let made = match whose {
        Whose::All | Whose::Of(_) | Whose::LabelsOf(_) => Vec::new(),
        Whose::OfOrNew(keys) => {
            let sql = "WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock($3)), \
                 wanted AS (SELECT w.key, min(w.place) AS place FROM locked, unnest($1::bytea[]) WITH ORDINALITY w (key, place) GROUP BY w.key) \
                 INSERT INTO holdfast.validators (pubkey, state) SELECT key, $2 FROM wanted ORDER BY place \
                 ON CONFLICT (pubkey) DO NOTHING RETURNING pubkey";
            let disabled = values::state_code(KeyState::Disabled);
            let rows =
                sqlx::query(sql).bind(raw_keys(keys)).bind(disabled).bind(ENTRY_LOCK).fetch_all(&mut *db).await?;
            rows.iter().map(|row| values::key(row, 0)).collect::<sqlx::Result<_>>()?
        }
    };
    let select = format!(
        "SELECT v.id, v.pubkey, v.state, {MARKS}, EXISTS (SELECT 1 FROM holdfast.sealed_keys s WHERE s.id = v.id), \
         EXISTS (SELECT 1 FROM holdfast.key_records r WHERE r.id = v.id) FROM holdfast.validators v"
    );
    let found: Vec<PgRow> = match whose {
        Whose::All => {
            let sql = format!("{select} ORDER BY v.id FOR UPDATE OF v");
            sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut *db).await?
        }
        Whose::Of(keys) | Whose::OfOrNew(keys) | Whose::LabelsOf(keys) => {
            let sql = format!("{select} WHERE v.pubkey = ANY ($1) ORDER BY v.id FOR UPDATE OF v");
            sqlx::query(AssertSqlSafe(sql)).bind(raw_keys(keys)).fetch_all(&mut *db).await?
        }
    };
    let mut rows = Rows {
        mark,
        order: Vec::with_capacity(found.len()),
        by_key: HashMap::with_capacity(found.len()),
        labels: match whose {
            Whose::LabelsOf(keys) => labels_of(db, keys).await?,
            Whose::All | Whose::Of(_) | Whose::OfOrNew(_) => HashMap::new(),
        },
    };
    for row in &found {
        let key = values::key(row, 1)?;
        let (state, marks) = (values::state(row, 2)?, values::watermarks(row, 3)?);
        let key_row = KeyRow { state, marks, has_secret: row.try_get(8)?, recorded: row.try_get(9)? };
        rows.order.push(key);
        rows.by_key.insert(key, Held { id: RowId(values::natural(row, 0)?), row: key_row, new: false });
    }
    for key in &made {
        if let Some(held) = rows.by_key.get_mut(key) {
            held.new = true;
        }
    }
    Ok(rows)
}

/// The labels of keys whose rows are locked. A statement of its own, so that it sees what others committed while the locks
/// were waited for.
async fn labels_of(db: &mut PgConnection, keys: &[PublicKey]) -> sqlx::Result<HashMap<PublicKey, Labels>> {
    let sql = format!("SELECT v.pubkey, {LABELS} FROM holdfast.validators v WHERE v.pubkey = ANY ($1)");
    let found = sqlx::query(AssertSqlSafe(sql)).bind(raw_keys(keys)).fetch_all(db).await?;
    found.iter().map(|row| Ok((values::key(row, 0)?, values::labels(row, 1)?))).collect()
}

/// Writes changes; the transaction stays open.
pub(super) async fn write(
    db: &mut PgConnection,
    changes: Changes<'_>,
    by: Option<&CallerId>,
    at: UnixMillis,
) -> sqlx::Result<()> {
    if !changes.ids.is_empty() {
        let sql = "UPDATE holdfast.validators v SET state = u.state, max_slot = u.slot::numeric, max_slot_root = u.slot_root, \
             max_source = u.source::numeric, max_target = u.target::numeric, attestation_root = u.vote_root \
             FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::bytea[]) \
             AS u (id, state, slot, slot_root, source, target, vote_root) WHERE v.id = u.id";
        sqlx::query(sql)
            .bind(changes.ids)
            .bind(changes.states)
            .bind(changes.slots)
            .bind(changes.slot_roots)
            .bind(changes.sources)
            .bind(changes.targets)
            .bind(changes.vote_roots)
            .execute(&mut *db)
            .await?;
    }
    if let Some(fencing) = changes.fencing {
        // Of the others only what the fence covers: by a clock that is ahead of this one's they may have signed beyond it.
        let sql = "UPDATE holdfast.instances SET fenced_since_ms = suspect_since_ms, suspect_since_ms = NULL \
             WHERE suspect_since_ms IS NOT NULL AND (suspect_since_ms <= $1 OR id = $2)";
        sqlx::query(sql).bind(at.0.cast_signed()).bind(fencing.0.to_vec()).execute(&mut *db).await?;
    }
    if !changes.findings.is_empty() {
        changes.findings.write(&mut *db).await?;
    }
    if !changes.without_secret.is_empty() {
        let sql = "DELETE FROM holdfast.sealed_keys WHERE id = ANY ($1)";
        sqlx::query(sql).bind(changes.without_secret).execute(&mut *db).await?;
    }
    if !changes.enrolled.is_empty() {
        enroll(db, &changes.enrolled, at).await?;
    }
    label(&mut *db, &changes.labelled, &changes.unlabelled).await?;
    if let Some(by) = by
        && !changes.recorded.is_empty()
    {
        let sql = "INSERT INTO holdfast.key_records (id, created_ms, created_by, changed_ms, changed_by) \
             SELECT u.id, $2, $3, $2, $3 FROM unnest($1::bigint[]) AS u (id) ON CONFLICT (id) DO NOTHING";
        sqlx::query(sql).bind(changes.recorded).bind(at.0.cast_signed()).bind(by.as_str()).execute(&mut *db).await?;
    }
    if let Some(by) = by
        && !changes.touched.is_empty()
    {
        let sql = "UPDATE holdfast.key_records SET changed_ms = $2, changed_by = $3 WHERE id = ANY ($1)";
        sqlx::query(sql).bind(changes.touched).bind(at.0.cast_signed()).bind(by.as_str()).execute(db).await?;
    }
    Ok(())
}

async fn enroll(db: &mut PgConnection, enrolled: &[(i64, &NewKey)], at: UnixMillis) -> sqlx::Result<()> {
    let ids: Vec<i64> = enrolled.iter().map(|(id, _)| *id).collect();
    let sealed: Vec<Vec<u8>> = enrolled.iter().map(|(_, key)| key.sealed.as_bytes().to_vec()).collect();
    let sql = "INSERT INTO holdfast.sealed_keys (id, sealed) SELECT * FROM unnest($1::bigint[], $2::bytea[])";
    sqlx::query(sql).bind(ids.clone()).bind(sealed).execute(&mut *db).await?;
    let origins: Vec<i16> = enrolled.iter().map(|(_, key)| values::origin_code(key.origin)).collect();
    let labels: Vec<Option<String>> = enrolled.iter().map(|(_, key)| key.label.clone()).collect();
    let names: Vec<String> = enrolled.iter().map(|(_, key)| key.registered_by.as_str().to_owned()).collect();
    let sql = "INSERT INTO holdfast.key_records (id, origin, label, created_ms, created_by, changed_ms, changed_by) \
         SELECT u.id, u.origin, u.label, $5, u.name, $5, u.name \
         FROM unnest($1::bigint[], $2::smallint[], $3::text[], $4::text[]) AS u (id, origin, label, name) \
         ON CONFLICT (id) DO UPDATE SET origin = EXCLUDED.origin, label = EXCLUDED.label, \
         changed_ms = EXCLUDED.changed_ms, changed_by = EXCLUDED.changed_by";
    let query = sqlx::query(sql).bind(ids).bind(origins).bind(labels).bind(names).bind(at.0.cast_signed());
    query.execute(db).await?;
    Ok(())
}

async fn label(db: &mut PgConnection, add: &[(i64, Label)], remove: &[(i64, Label)]) -> sqlx::Result<()> {
    let texts = |all: &[(i64, Label)]| -> (Vec<i64>, Vec<String>) {
        all.iter().map(|(id, label)| (*id, label.to_string())).unzip()
    };
    if !remove.is_empty() {
        let (ids, labels) = texts(remove);
        let sql = "DELETE FROM holdfast.key_labels l USING unnest($1::bigint[], $2::text[]) AS u (id, label) \
             WHERE l.id = u.id AND l.label = u.label";
        sqlx::query(sql).bind(ids).bind(labels).execute(&mut *db).await?;
    }
    if !add.is_empty() {
        let (ids, labels) = texts(add);
        let sql = "INSERT INTO holdfast.key_labels (id, label) SELECT * FROM unnest($1::bigint[], $2::text[]) \
             ON CONFLICT DO NOTHING";
        sqlx::query(sql).bind(ids).bind(labels).execute(db).await?;
    }
    Ok(())
}
