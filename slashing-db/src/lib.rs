//! Slashing protection: the rules, the durable record, and the permit that a signature needs.
//!
//! # What is guaranteed
//!
//! A [`SigningPermit`] exists only for a key and a signing root that were judged by [`rules`] against
//! the stored watermarks of that key, *after* the new watermarks and the journal entry about it were
//! committed to disk in one transaction. There is no other constructor, no copy, and no switch that
//! turns this off. The whole argument can be read in [`permit`](SigningPermit), `guard.rs`,
//! `rules.rs`, `store/mod.rs` and one file or folder per store.
//!
//! # What is assumed
//!
//! The disk keeps what `fsync` acknowledged; the clock passed in is right to within the configured
//! tolerance when a key is fenced at "now"; nobody else signs with the same keys from another database.
//!
//! # What is not covered
//!
//! Two databases for one key: types and transactions end at this file. A database restored from an old
//! copy is noticed by the anchor (see [`Suspicion`]) unless the anchor was restored with it, in place; a fence
//! makes it harmless.
//!
//! Every operation of [`Guard`] that touches the database is `async` but needs no particular
//! runtime: the work happens on threads owned by this crate.
#![cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(
        dead_code,
        reason = "without a store feature nothing can open a database, so the machinery behind it is idle"
    )
)]

#[cfg(test)]
extern crate self as holdfast_slashing_db;
#[cfg(all(test, feature = "sqlite"))]
#[path = "../tests/support/mod.rs"]
#[allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "shared with the test programs"
)]
mod support;

mod anchor;
mod approvals;
mod committer;
mod db;
mod error;
mod guard;
mod identity;
pub mod interchange;
pub mod journal;
mod labels;
#[cfg(feature = "sqlite")]
pub mod lighthouse;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod locks;
mod metrics;
mod overview;
mod permit;
mod registry;
pub mod rules;
mod store;
mod watch;
#[cfg(feature = "postgres")]
pub mod web3signer;

pub use anchor::{RollbackKind, Suspicion};
pub use approvals::{ApprovalId, ApprovalPolicy, Pinned, PolicyHash, Spent};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use db::SlashingDb;
#[cfg(feature = "sqlite")]
pub use db::StoreOptions;
pub use db::{BindOptions, DEFAULT_FUTURE_TOLERANCE_SLOTS, DEFAULT_MAX_BATCH, DEFAULT_QUEUE_CAPACITY};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use error::ArchiveError;
pub use error::{AdminError, Class, FreezeReason, OpenError, Refusal, RegisterError, StoreError};
pub use guard::{Guard, GuardHealth, ImportMode, Recorded, Replaced, Resealed, Then};
pub use identity::CallerId;
pub use labels::{BadLabel, Label, LabelChange, Labelled, Labels};
pub use metrics::Metrics;
pub use overview::{AnchorRecord, AnchorView, Durability, InstanceView, KeyCounts, Overview, Presence};
pub use permit::{PermitTimes, SigningPermit};
pub use registry::{
    DataKeyId, DataKeyRecord, EntryWatermark, Floor, HighWatermarks, InstanceInfo, KeyChanges, KeyInfo, KeyOrigin,
    KeyState, NewKey, Registered, Registration, SealedKey, ServerInfo, StoredKey, Switch, Switched, Tombstone,
    Withdraw, Withdrawn,
};
pub use rules::{Approval, AttestationMark, BlockMark, Denial, Objection, SlashingReason, Watermarks};
#[cfg(feature = "fault-injection")]
pub use store::faulty::{Fault, FaultPlan};
#[cfg(feature = "sqlite")]
pub use store::filesystem::require_local as require_local_filesystem;
#[cfg(feature = "postgres")]
pub use store::postgres::{PasswordSource, PostgresOptions, SchemaVersion, connect_examined};
pub use watch::{Finding, Judged, NewlyEnabled};
