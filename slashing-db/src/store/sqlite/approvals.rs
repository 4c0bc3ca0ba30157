//! Approvals in SQLite.

use holdfast_domain::UnixMillis;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::values::{Signed, blob};
use super::{classify, prepare, write};
use crate::approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, REMEMBERED_MILLIS, Spent};
use crate::error::StoreError;
use crate::identity::CallerId;

const SELECT_POLICY: &str = "SELECT document, digest, pinned_ms, pinned_by FROM approval_policy WHERE id = 1";

/// See [`Store::use_approval`](crate::store::Store::use_approval).
pub(super) fn spend(
    db: &Connection,
    id: ApprovalId,
    expires: UnixMillis,
    now: UnixMillis,
) -> Result<Spent, StoreError> {
    let action = "use an approval";
    let forgotten = now.0.saturating_sub(REMEMBERED_MILLIS);
    write(db, action, "DELETE FROM used_approvals WHERE expires_ms < ?1", params![forgotten.cast_signed()])?;
    let sql = "INSERT INTO used_approvals (id, expires_ms, used_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING";
    let count = write(db, action, sql, params![id.0, expires.0.cast_signed(), now.0.cast_signed()])?;
    Ok(if count == 1 { Spent::Now } else { Spent::Before })
}

/// See [`Store::pin_approval_policy`](crate::store::Store::pin_approval_policy).
pub(super) fn pin(
    db: &Connection,
    seen: Option<PolicyHash>,
    new: Option<&ApprovalPolicy>,
) -> Result<Pinned, StoreError> {
    let action = "change the approvers";
    if policy(db)?.map(|policy| policy.hash) != seen {
        return Ok(Pinned::Moved);
    }
    write(db, action, "DELETE FROM approval_policy", [])?;
    if let Some(policy) = new {
        let sql = "INSERT INTO approval_policy (id, document, digest, pinned_ms, pinned_by) VALUES (1, ?1, ?2, ?3, ?4)";
        let (at, by) = (policy.pinned.0.cast_signed(), policy.pinned_by.as_str());
        write(db, action, sql, params![policy.document, policy.hash.0, at, by])?;
    }
    Ok(Pinned::Done)
}

/// The approvers in force.
pub(super) fn policy(db: &Connection) -> Result<Option<ApprovalPolicy>, StoreError> {
    let found = prepare(db, SELECT_POLICY)?.query_row([], read).optional();
    found.map_err(|error| classify("read the approvers", error))
}

fn read(row: &Row<'_>) -> rusqlite::Result<ApprovalPolicy> {
    Ok(ApprovalPolicy {
        document: row.get(0)?,
        hash: PolicyHash(blob(row, 1)?),
        pinned: UnixMillis(row.get::<_, Signed>(2)?.0),
        pinned_by: CallerId::new(&row.get::<_, String>(3)?),
    })
}
