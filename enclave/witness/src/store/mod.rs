//! Where a witness keeps its records: every version of each group's, and nothing is ever overwritten.
//!
//! Guarantees: [`Store::append`] returns [`Appended::Yes`] only after the version is durable, and only to one of those who
//! append the same version; so of two witnesses on one database each decides on what the other has decided.

use core::future::Future;

use crate::error::StoreError;
use crate::message::Group;
use crate::rules::Record;

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// A version of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versioned {
    /// Its number; 0 before the first.
    pub version: u64,
    /// The record.
    pub record: Record,
}

/// What became of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Yes,
    /// Somebody else was first; nothing changed.
    TooLate,
}

/// A durable, append-only memory.
pub trait Store: Send + Sync + 'static {
    /// The latest version of a group's record.
    fn latest(&self, group: &Group) -> impl Future<Output = Result<Versioned, StoreError>> + Send;

    /// Adds a version; its number is one more than that of the latest.
    fn append(&self, group: &Group, next: &Versioned) -> impl Future<Output = Result<Appended, StoreError>> + Send;

    /// Every group.
    fn groups(&self) -> impl Future<Output = Result<Vec<Group>, StoreError>> + Send;
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn versioned(version: i64, record: &[u8]) -> Result<Versioned, StoreError> {
    let record = Record::decode(record).map_err(|_| StoreError::Damaged)?;
    Ok(Versioned { version: u64::try_from(version).map_err(|_| StoreError::Damaged)?, record })
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn group(name: &str) -> Result<Group, StoreError> {
    name.parse().map_err(|_| StoreError::Damaged)
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn number(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|_| StoreError::Damaged)
}
