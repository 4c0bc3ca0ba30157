//! Epoch leases: which vault of a group may sign blocks and attestations, epoch by epoch.
//!
//! Why it exists: a vault that checks for itself cannot know of its own copy, started twice from one image or one
//! backup. Somebody else has to: a *witness*, which remembers for each group of signers who may sign up to which epoch,
//! and signs what it grants. Hosts merely carry requests and grants.
//!
//! What it guarantees:
//! - no witness grants an epoch to two holders, unless the first has said that it signs no more ([`rules`]);
//! - so with grants of more than half of the witnesses no two holders sign in the same epoch, as long as fewer than
//!   `2k - n` of the `n` witnesses lie or lose their memory, where `k` grants are needed ([`holding`]);
//! - a request is used once, by one witness; a grant by one vault, in the conversation it was asked for in ([`message`]);
//! - a grant is signed after it is durable ([`service`], [`store`]).
//!
//! What it assumes: a witness keeps what its database acknowledged, and whoever restores one from a backup makes
//! another witness of it (`holdfast witness init`). A wrong clock of a witness costs availability only.

pub mod error;
pub mod holding;
pub mod key;
pub mod message;
pub mod rules;
pub mod service;
pub mod store;

pub use error::{Denied, MessageError, PinsError, ServiceError, StoreError};
pub use holding::{Adopted, Asks, Holding, Offered, Pins, Run, Span};
pub use key::{SigningKey, VerifyingKey};
pub use message::{CheckpointHash, Grant, Group, Nonce, Request, Wish};
