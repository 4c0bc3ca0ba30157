//! Secret keys: where they rest, how they are opened, and the only road from a permit to a signature.
//!
//! Why it exists: everything that touches a private key is in this crate (and in `holdfast-enclave-sys`,
//! which holds the unsafe code it needs), so whoever audits key handling reads these two.
//!
//! What it guarantees:
//! - a signature is made only from a [`SigningPermit`], which is consumed, for the key the permit names
//!   ([`keyring`]); the crate cannot make a permit;
//! - private keys, data keys and passphrases are in locked memory, have no `Debug`, `Clone` or
//!   serialization, and never appear in an error ([`secret`]);
//! - at rest a private key is sealed under a data key, bound to its public key and its network
//!   ([`seal`]), and the data key is wrapped by a provider ([`provider`]);
//! - what it writes to disk is private and durable before the call returns ([`durable`]).
//!
//! [`SigningPermit`]: holdfast_slashing_db::SigningPermit
#![cfg_attr(
    not(any(feature = "backend-local", feature = "backend-process")),
    expect(dead_code, reason = "without a backend, what it uses of secrets is idle")
)]

mod aead;
pub mod backend;
pub mod ceremony;
pub mod durable;
mod error;
pub mod generate;
pub mod import;
pub mod kdf;
pub mod keyring;
pub mod metrics;
pub mod provider;
pub mod seal;
pub mod secret;
pub mod seed;
mod shamir;
pub mod signature;
pub mod stack;
#[cfg(feature = "backend-process")]
pub mod vault;

#[cfg(all(test, any(feature = "backend-local", feature = "backend-process")))]
#[path = "../tests/support/mod.rs"]
mod support;

pub use backend::VerifyPolicy;
#[cfg(feature = "backend-local")]
pub use backend::local::{LocalBackend, LocalOptions};
#[cfg(feature = "backend-process")]
pub use backend::process::enclave::{AttestedVault, EnclaveAddress, NotAnAddress};
#[cfg(feature = "backend-process")]
pub use backend::process::lease::{LeaseNews, LeaseReport, Released};
#[cfg(feature = "backend-process")]
pub use backend::process::{ProcessBackend, ProcessOptions, Unprotected, VaultPlace, VaultProgram};
pub use error::{
    DurableError, ExportError, Failures, ImportError, KeyError, MnemonicInputError, PermissionError, ProviderError,
    SealError, SecretError, SignError, SignErrorClass,
};
pub use generate::{GenerateError, Generated};
pub use holdfast_enclave_sys::{LockFailure, LockStatus, harden_process, lock_status};
#[cfg(feature = "backend-process")]
pub use holdfast_vault_proto::{AttestedOrder, DataKeyCommitment, EncryptedKey, EncryptedSeed, GeneratedKey};
pub use keyring::{ActiveKey, Keyring};
pub use secret::{DataKey, Passphrase, SecretKey};
pub use signature::{SignTimes, Signature, Signed};
