//! Between PostgreSQL's values and ours. Every stored value is checked when it is read.

use holdfast_domain::{Epoch, ObservedRoot, PublicKey, Slot, UnixMillis};
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::labels::{Label, Labels};
use crate::registry::{KeyOrigin, KeyState};
use crate::rules::{AttestationMark, BlockMark, Watermarks};
use crate::watch::Watch;

/// The columns of a row's watermarks, in the order [`watermarks`] reads them.
pub(super) const MARKS: &str =
    "v.max_slot::text, v.max_slot_root, v.max_source::text, v.max_target::text, v.attestation_root";

/// The column of a row's labels, as [`labels`] reads it.
pub(super) const LABELS: &str = "(SELECT string_agg(l.label, ' ') FROM holdfast.key_labels l WHERE l.id = v.id)";

/// Why a stored value cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("the stored value is not one this program writes")]
struct Unknown;

pub(super) fn unknown() -> sqlx::Error {
    sqlx::Error::Decode(Box::new(Unknown))
}

/// Reads exactly `N` bytes.
pub(super) fn bytes<const N: usize>(row: &PgRow, column: usize) -> sqlx::Result<[u8; N]> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map_err(|_| unknown())
}

pub(super) fn key(row: &PgRow, column: usize) -> sqlx::Result<PublicKey> {
    bytes(row, column).map(PublicKey::from_bytes)
}

fn root(row: &PgRow, column: usize) -> sqlx::Result<Option<ObservedRoot>> {
    let bytes = row.try_get::<Option<Vec<u8>>, _>(column)?;
    bytes.map(|bytes| bytes.try_into().map(ObservedRoot::new).map_err(|_| unknown())).transpose()
}

/// A label as stored.
pub(super) fn label(text: &str) -> sqlx::Result<Label> {
    text.parse().map_err(|_| unknown())
}

/// Reads the labels of a key, with spaces between them.
pub(super) fn labels(row: &PgRow, column: usize) -> sqlx::Result<Labels> {
    let text = row.try_get::<Option<String>, _>(column)?.unwrap_or_default();
    text.split_ascii_whitespace().map(label).collect()
}

/// Reads an unsigned number written as text.
pub(super) fn number(row: &PgRow, column: usize) -> sqlx::Result<Option<u64>> {
    let text = row.try_get::<Option<String>, _>(column)?;
    text.map(|text| text.parse().map_err(|_| unknown())).transpose()
}

/// Reads a number that is never negative.
pub(super) fn natural(row: &PgRow, column: usize) -> sqlx::Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| unknown())
}

pub(super) fn time(row: &PgRow, column: usize) -> sqlx::Result<UnixMillis> {
    // A key known only by its history has no record: nobody brought it in.
    row.try_get::<Option<i64>, _>(column).map(|time| UnixMillis(time.map_or(0, i64::cast_unsigned)))
}

/// Reads a moment that there need not be.
pub(super) fn moment(row: &PgRow, column: usize) -> sqlx::Result<Option<UnixMillis>> {
    row.try_get::<Option<i64>, _>(column).map(|time| time.map(|time| UnixMillis(time.cast_unsigned())))
}

/// Reads the five columns of [`MARKS`] from `first` on.
pub(super) fn watermarks(row: &PgRow, first: usize) -> sqlx::Result<Watermarks> {
    let [slot_root, source, target, vote_root] = [1, 2, 3, 4].map(|step: usize| first.saturating_add(step));
    let block = match number(row, first)? {
        Some(slot) => Some(BlockMark { slot: Slot(slot), root: root(row, slot_root)? }),
        None => None,
    };
    let attestation = match (number(row, source)?, number(row, target)?) {
        (Some(source), Some(target)) => {
            Some(AttestationMark { source: Epoch(source), target: Epoch(target), root: root(row, vote_root)? })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(unknown()),
    };
    Ok(Watermarks { block, attestation })
}

/// How a state is stored.
pub(super) fn state_code(state: KeyState) -> i16 {
    match state {
        KeyState::Enabled => 0,
        KeyState::Disabled => 1,
        KeyState::Tombstoned => 2,
    }
}

pub(super) fn state(row: &PgRow, column: usize) -> sqlx::Result<KeyState> {
    let code: i16 = row.try_get(column)?;
    let states = [KeyState::Enabled, KeyState::Disabled, KeyState::Tombstoned];
    states.into_iter().find(|state| state_code(*state) == code).ok_or_else(unknown)
}

/// Reads what a row says about watching its key.
pub(super) fn watch(row: &PgRow, column: usize) -> sqlx::Result<Watch> {
    let code: i16 = row.try_get(column)?;
    u8::try_from(code).ok().and_then(Watch::from_code).ok_or_else(unknown)
}

/// How an origin is stored.
pub(super) fn origin_code(origin: KeyOrigin) -> i16 {
    match origin {
        KeyOrigin::Imported => 0,
        KeyOrigin::Generated => 1,
    }
}

pub(super) fn origin(row: &PgRow, column: usize) -> sqlx::Result<Option<KeyOrigin>> {
    let Some(code) = row.try_get::<Option<i16>, _>(column)? else { return Ok(None) };
    let known = [KeyOrigin::Imported, KeyOrigin::Generated].into_iter().find(|origin| origin_code(*origin) == code);
    known.map(Some).ok_or_else(unknown)
}
