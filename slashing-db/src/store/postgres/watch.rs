//! What was found out about newly enabled keys. That a key was enabled is noted by a trigger of the schema.

use holdfast_domain::{Epoch, UnixMillis};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::change::Rows;
use super::values::{self, MARKS};
use crate::watch::{Finding, Judged, NewlyEnabled};

/// Findings, as columns.
#[derive(Default)]
pub(super) struct Findings {
    ids: Vec<i64>,
    enabled: Vec<i64>,
    codes: Vec<i16>,
    epochs: Vec<String>,
}

impl Findings {
    /// Findings about rows under lock.
    pub(super) fn of(judged: &[Judged], rows: &Rows) -> Self {
        let mut findings = Self::default();
        for Judged { key, enabled, finding } in judged {
            let Some(held) = rows.by_key.get(key) else { continue };
            let (code, Epoch(epoch)) = match finding {
                Finding::Quiet(epoch) => (0, *epoch),
                Finding::Own(epoch) => (1, *epoch),
                Finding::Seen(epoch) => (2, *epoch),
                Finding::Over => (3, Epoch(0)),
            };
            findings.ids.push(held.id.0.cast_signed());
            findings.enabled.push(enabled.0.cast_signed());
            findings.codes.push(code);
            findings.epochs.push(epoch.to_string());
        }
        findings
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Writes them; the transaction stays open.
    pub(super) async fn write(self, db: &mut PgConnection) -> sqlx::Result<()> {
        const FOUND: &str = "unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::text[]) AS u (id, enabled_ms, code, epoch) \
             WHERE n.id = u.id AND n.enabled_ms = u.enabled_ms AND u.code";
        let counted = format!(
            "UPDATE holdfast.newly_enabled n SET quiet_epochs = n.quiet_epochs + 1 - u.code, own_epochs = n.own_epochs + u.code, \
             judged_through = u.epoch::numeric FROM {FOUND} IN (0, 1) \
             AND (n.judged_through IS NULL OR n.judged_through < u.epoch::numeric)"
        );
        let seen = format!(
            "UPDATE holdfast.newly_enabled n SET seen_epoch = u.epoch::numeric FROM {FOUND} = 2 AND n.seen_epoch IS NULL"
        );
        let over = format!("DELETE FROM holdfast.newly_enabled n USING {FOUND} = 3");
        for sql in [counted, seen, over] {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(self.ids.clone()).bind(self.enabled.clone());
            query.bind(self.codes.clone()).bind(self.epochs.clone()).execute(&mut *db).await?;
        }
        let shown = "UPDATE holdfast.validators v SET watch = w.watch FROM \
             (SELECT u.id, CASE WHEN n.id IS NULL THEN 0 WHEN n.seen_epoch IS NULL THEN 1 ELSE 2 END AS watch \
             FROM unnest($1::bigint[]) AS u (id) LEFT JOIN holdfast.newly_enabled n ON n.id = u.id) w \
             WHERE v.id = w.id AND v.watch <> w.watch";
        sqlx::query(shown).bind(self.ids).execute(db).await.map(drop)
    }
}

/// What [`read`] reads, in its order.
pub(super) fn list() -> String {
    format!(
        "SELECT v.pubkey, {MARKS}, n.enabled_ms, n.quiet_epochs, n.own_epochs, n.judged_through::text, n.seen_epoch::text \
         FROM holdfast.newly_enabled n JOIN holdfast.validators v ON v.id = n.id ORDER BY n.id"
    )
}

pub(super) fn read(row: &PgRow) -> sqlx::Result<NewlyEnabled> {
    Ok(NewlyEnabled {
        key: values::key(row, 0)?,
        watermarks: values::watermarks(row, 1)?,
        enabled: UnixMillis(row.try_get::<i64, _>(6)?.cast_unsigned()),
        quiet_epochs: values::natural(row, 7)?,
        own_epochs: values::natural(row, 8)?,
        judged_through: values::number(row, 9)?.map(Epoch),
        seen: values::number(row, 10)?.map(Epoch),
    })
}
