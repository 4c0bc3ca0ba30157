//! The vault: keys in a place of their own, which checks for itself.
//!
//! Why it exists: whoever takes over the part of the signer that talks to the world must get neither a private key
//! nor a slashable signature. So keys are held by another process, which reads a small protocol
//! (`holdfast-vault-proto`) and believes nothing of it: it computes the signing root from the message (`core.rs`),
//! judges it by its own marks and its own clock (`rules.rs`), and only then signs (`crew.rs`).
//!
//! What it guarantees:
//! - a block or an attestation is signed only from the message itself, never from a root;
//! - of the messages it signs with a key, no two are slashable together, whatever the signer asks, in whatever order,
//!   and however often the vault is started anew: a key begins behind a fence at the present (the *time floor*);
//! - one chain, pinned by the first who names it, until the vault ends;
//! - what a frame can make it allocate is bounded; a frame that is not understood ends the connection, and in a process
//!   ([`home`]) the vault with it. In an enclave ([`enclave`]) keys and marks outlive it.
//!
//! - with witnesses it signs blocks and attestations only in epochs leased from them (`lease.rs`), so that of two vaults
//!   of a group one at a time signs; where it goes on for another it begins behind what that one may have signed.
//!
//! What it does not cover: a clock set back before a cold start; without witnesses two vaults with one key at the same
//! time (the database covers that, as long as it is not the one taken over); and root on the same machine.

mod checkpoint;
mod core;
mod crew;
pub mod enclave;
pub mod generate;
pub mod home;
mod lease;
mod rules;
mod sandbox;
mod serve;
pub mod service;

pub use self::core::Vault;
pub use serve::{Ended, Options, serve};
