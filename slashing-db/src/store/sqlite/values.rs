//! Between SQLite's values and ours. Every stored value is checked when it is read: a wrong length or code
//! means a damaged database and is never guessed at.

use holdfast_domain::{Epoch, ObservedRoot, Slot};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlResult, Type, ValueRef};

use crate::registry::{KeyOrigin, KeyState};
use crate::rules::{AttestationMark, BlockMark, Watermarks};
use crate::watch::Watch;

/// An unsigned number stored as the signed integer with the same bits.
pub(super) struct Signed(pub(super) u64);

impl FromSql for Signed {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|number| Self(number.cast_unsigned()))
    }
}

/// Why a stored value cannot be right.
#[derive(Debug, thiserror::Error)]
#[error("the stored value is not one this program writes")]
struct Unknown;

pub(super) fn unknown(column: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(Unknown))
}

/// Reads a blob of exactly `N` bytes.
pub(super) fn blob<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    let bytes = row.get_ref(column)?.as_blob().map_err(|_| unknown(column, Type::Blob))?;
    bytes.try_into().map_err(|_| unknown(column, Type::Blob))
}

fn optional_root(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<ObservedRoot>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) | ValueRef::Blob(_) => {
            blob(row, column).map(|bytes| Some(ObservedRoot::new(bytes)))
        }
    }
}

/// Reads the five watermark columns that start at `first`.
pub(super) fn watermarks(row: &Row<'_>, first: usize) -> rusqlite::Result<Watermarks> {
    let [slot_root, source, target, vote_root] = [1, 2, 3, 4].map(|step: usize| first.saturating_add(step));
    let block = match row.get::<_, Option<Signed>>(first)? {
        Some(Signed(slot)) => Some(BlockMark { slot: Slot(slot), root: optional_root(row, slot_root)? }),
        None => None,
    };
    let epochs = (row.get::<_, Option<Signed>>(source)?, row.get::<_, Option<Signed>>(target)?);
    let attestation = match epochs {
        (Some(Signed(source)), Some(Signed(target))) => {
            Some(AttestationMark { source: Epoch(source), target: Epoch(target), root: optional_root(row, vote_root)? })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(unknown(source, Type::Null)),
    };
    Ok(Watermarks { block, attestation })
}

/// How a state is stored.
pub(super) fn state_code(state: KeyState) -> i64 {
    match state {
        KeyState::Enabled => 0,
        KeyState::Disabled => 1,
        KeyState::Tombstoned => 2,
    }
}

/// Reads a state.
pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<KeyState> {
    let code: i64 = row.get(column)?;
    [KeyState::Enabled, KeyState::Disabled, KeyState::Tombstoned]
        .into_iter()
        .find(|state| state_code(*state) == code)
        .ok_or_else(|| unknown(column, Type::Integer))
}

/// Reads what a row says about watching its key.
pub(super) fn watch(row: &Row<'_>, column: usize) -> rusqlite::Result<Watch> {
    let code: i64 = row.get(column)?;
    let watch = u8::try_from(code).ok().and_then(Watch::from_code);
    watch.ok_or_else(|| unknown(column, Type::Integer))
}

/// How an origin is stored.
pub(super) fn origin_code(origin: KeyOrigin) -> i64 {
    match origin {
        KeyOrigin::Imported => 0,
        KeyOrigin::Generated => 1,
    }
}

/// Reads an origin.
pub(super) fn origin(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<KeyOrigin>> {
    let Some(code) = row.get::<_, Option<i64>>(column)? else { return Ok(None) };
    let known = [KeyOrigin::Imported, KeyOrigin::Generated].into_iter().find(|origin| origin_code(*origin) == code);
    known.map(Some).ok_or_else(|| unknown(column, Type::Integer))
}

/// A whole number that must not be negative and fits in 32 bits.
pub(super) fn small(row: &Row<'_>, column: usize) -> rusqlite::Result<u32> {
    let number: i64 = row.get(column)?;
    u32::try_from(number).map_err(|_| unknown(column, Type::Integer))
}
