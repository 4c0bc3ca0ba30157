//! Approvals in PostgreSQL.

use holdfast_domain::UnixMillis;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row as _, raw_sql};

use super::session::BEGIN;
use super::values;
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, REMEMBERED_MILLIS, Spent};
use crate::identity::CallerId;

/// What [`read`] reads, in its order.
pub(super) const SELECT_POLICY: &str =
    "SELECT document, digest, pinned_ms, pinned_by FROM holdfast.approval_policy WHERE id = 1";

/// See [`Store::use_approval`](crate::store::Store::use_approval). If the connection breaks and this runs again, an approval
/// that was used up by the first attempt counts as used before: that refuses an act, and never allows one twice.
pub(super) async fn spend(
    db: &mut PgConnection,
    id: ApprovalId,
    expires: UnixMillis,
    now: UnixMillis,
) -> sqlx::Result<Spent> {
    let forgotten = now.0.saturating_sub(REMEMBERED_MILLIS);
    let sql = "DELETE FROM holdfast.used_approvals WHERE expires_ms < $1";
    sqlx::query(sql).bind(forgotten.cast_signed()).execute(&mut *db).await?;
    let sql = "INSERT INTO holdfast.used_approvals (id, expires_ms, used_ms) VALUES ($1, $2, $3) \
         ON CONFLICT (id) DO NOTHING";
    let query = sqlx::query(sql).bind(id.0.to_vec()).bind(expires.0.cast_signed()).bind(now.0.cast_signed());
    let done = query.execute(db).await?;
    Ok(if done.rows_affected() == 1 { Spent::Now } else { Spent::Before })
}

/// See [`Store::pin_approval_policy`](crate::store::Store::pin_approval_policy).
pub(super) async fn pin(
    db: &mut PgConnection,
    seen: Option<PolicyHash>,
    new: Option<&ApprovalPolicy>,
) -> sqlx::Result<Pinned> {
    // The lock lets readers read, and keeps every other change away until the end of the transaction.
    let begin = format!("{BEGIN}; LOCK TABLE holdfast.approval_policy IN SHARE ROW EXCLUSIVE MODE");
    raw_sql(AssertSqlSafe(begin)).execute(&mut *db).await?;
    let found = sqlx::query(SELECT_POLICY).fetch_optional(&mut *db).await?;
    let found = found.map(|row| read(&row)).transpose()?;
    if found.map(|policy| policy.hash) != seen {
        raw_sql("ROLLBACK").execute(db).await?;
        return Ok(Pinned::Moved);
    }
    raw_sql("DELETE FROM holdfast.approval_policy").execute(&mut *db).await?;
    if let Some(policy) = new {
        let sql = "INSERT INTO holdfast.approval_policy (id, document, digest, pinned_ms, pinned_by) \
             VALUES (1, $1, $2, $3, $4)";
        let query = sqlx::query(sql).bind(policy.document.clone()).bind(policy.hash.0.to_vec());
        let query = query.bind(policy.pinned.0.cast_signed()).bind(policy.pinned_by.as_str().to_owned());
        query.execute(&mut *db).await?;
    }
    raw_sql("COMMIT").execute(db).await?;
    Ok(Pinned::Done)
}

pub(super) fn read(row: &PgRow) -> sqlx::Result<ApprovalPolicy> {
    Ok(ApprovalPolicy {
        document: row.try_get(0)?,
        hash: PolicyHash(values::bytes(row, 1)?),
        pinned: values::time(row, 2)?,
        pinned_by: CallerId::new(&row.try_get::<String, _>(3)?),
    })
}
