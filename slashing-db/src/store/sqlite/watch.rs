//! A key's state, and with it the note that it was enabled a short while ago: one place, so that no road to a signature
//! leaves the note out.

use holdfast_domain::{Epoch, PublicKey, UnixMillis};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::values::{self, Signed, blob};
use super::{classify, prepare, write};
use crate::error::StoreError;
use crate::registry::KeyState;
use crate::store::RowId;
use crate::watch::{Finding, Judged, NewlyEnabled, Watch};

/// Changes a key's state. A key that was off and is on now is watched from `at`; one that is off is not watched.
pub(super) fn set_state(db: &Connection, id: RowId, state: KeyState, at: UnixMillis) -> Result<(), StoreError> {
    let action = "change a key's state";
    let enabled = values::state_code(KeyState::Enabled);
    match state {
        KeyState::Enabled => {
            let note = "INSERT INTO newly_enabled (id, enabled_ms) SELECT id, ?2 FROM validators WHERE id = ?1 AND state <> ?3 \
                 ON CONFLICT (id) DO UPDATE SET enabled_ms = ?2, quiet_epochs = 0, own_epochs = 0, \
                 judged_through = NULL, seen_epoch = NULL";
            write(db, action, note, params![id.signed(), at.0.cast_signed(), enabled])?;
            let change = "UPDATE validators SET watch = iif(state = ?2, watch, ?3), state = ?2 WHERE id = ?1";
            write(db, action, change, params![id.signed(), enabled, Watch::New.code()]).map(drop)
        }
        KeyState::Disabled | KeyState::Tombstoned => {
            write(db, action, "DELETE FROM newly_enabled WHERE id = ?1", params![id.signed()])?;
            let change = "UPDATE validators SET watch = ?3, state = ?2 WHERE id = ?1";
            write(db, action, change, params![id.signed(), values::state_code(state), Watch::Off.code()]).map(drop)
        }
    }
}

/// See [`Store::judge_newly_enabled`](crate::store::Store::judge_newly_enabled).
pub(super) fn judge(db: &Connection, judged: &[Judged]) -> Result<(), StoreError> {
    const ACTION: &str = "note what was found out about a newly enabled key";
    const COUNT: &str = "judged_through = ?2 WHERE id = ?1 AND (judged_through IS NULL OR judged_through < ?2)";
    let mut find = prepare(
        db,
        "SELECT v.id FROM validators v JOIN newly_enabled n ON n.id = v.id WHERE v.pubkey = ?1 AND n.enabled_ms = ?2",
    )?;
    for Judged { key, enabled, finding } in judged {
        let found = find.query_row(params![key.as_bytes(), enabled.0.cast_signed()], |row| row.get::<_, i64>(0));
        let Some(id) = found.optional().map_err(|error| classify(ACTION, error))? else { continue };
        let counted = |column: &str| format!("UPDATE newly_enabled SET {column} = {column} + 1, {COUNT}");
        let (sql, epoch) = match finding {
            Finding::Quiet(epoch) => (counted("quiet_epochs"), *epoch),
            Finding::Own(epoch) => (counted("own_epochs"), *epoch),
            Finding::Seen(epoch) => {
                ("UPDATE newly_enabled SET seen_epoch = ?2 WHERE id = ?1 AND seen_epoch IS NULL".to_owned(), *epoch)
            }
            Finding::Over => ("DELETE FROM newly_enabled WHERE id = ?1 AND ?2 = 0".to_owned(), Epoch(0)),
        };
        write(db, ACTION, &sql, params![id, epoch.0.cast_signed()])?;
        let shown = "UPDATE validators SET watch = coalesce((SELECT iif(n.seen_epoch IS NULL, ?2, ?3) \
             FROM newly_enabled n WHERE n.id = validators.id), ?4) WHERE id = ?1";
        write(db, ACTION, shown, params![id, Watch::New.code(), Watch::Seen.code(), Watch::Off.code()])?;
    }
    Ok(())
}

/// What [`read`] reads, in its order.
pub(super) const LIST: &str = "SELECT v.pubkey, v.max_slot, v.max_slot_root, v.max_source, v.max_target, v.attestation_root, \
     n.enabled_ms, n.quiet_epochs, n.own_epochs, n.judged_through, n.seen_epoch \
     FROM newly_enabled n JOIN validators v ON v.id = n.id ORDER BY n.id";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<NewlyEnabled> {
    let number = |column| row.get::<_, Signed>(column).map(|number| number.0);
    let epoch = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<Signed>>(column)?.map(|number| Epoch(number.0)));
    Ok(NewlyEnabled {
        key: PublicKey::from_bytes(blob(row, 0)?),
        watermarks: values::watermarks(row, 1)?,
        enabled: UnixMillis(number(6)?),
        quiet_epochs: number(7)?,
        own_epochs: number(8)?,
        judged_through: epoch(9)?,
        seen: epoch(10)?,
    })
}
