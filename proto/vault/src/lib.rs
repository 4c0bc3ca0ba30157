//! What the signer and its vault say to each other.
//!
//! Why it exists: a vault holds the keys in a process (or machine) of its own, and trusts nobody who talks to it.
//! So what it reads must be simple to bound and to check, and what both sides understand by a message must be
//! one piece of code. What this crate guarantees: a closed set of operations ([`Request`], [`Answer`]); every
//! length is bounded before anything is allocated for it ([`limits`]); every value is checked once, here, and
//! arrives as a type of the domain; no bytes make it panic. It knows nothing of rules, keys in use, sockets
//! or time.

mod bound;
mod convert;
mod error;
pub mod frame;
pub mod limits;
mod message;

pub use bound::{Bound, BoundKeys};
pub use error::{FrameError, Malformed};
pub use frame::{Frame, Header, Operation};
pub use message::{
    Answer, AttestedOrder, DataKeyBytes, DataKeyCommitment, EncryptedKey, EncryptedSeed, Failure, GeneratedKey,
    HealthReport, KeyOutcome, KeyState, LeaseNews, LeaseReport, Origin, Protections, Reason, Refusal, Request,
    SealedKeyBytes, SecretBytes, SeedBytes, SignItem, Watermarks,
};

/// The version of the protocol. The two sides are parts of one program, so there is no range to agree on.
pub const VERSION: u32 = 1;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "generated"
)]
pub(crate) mod v1 {
    include!("generated/holdfast.vault.v1.rs");
}
