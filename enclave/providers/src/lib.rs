//! Key-encryption keys that live elsewhere: in a cloud's key service, in a vault server, in a hardware module.
//!
//! Why it exists: custody itself links no transport and no vendor's library (`tests/tidy` holds it to that), so
//! whoever audits key handling need not read any of it. Here is one module for each place a key can be, each behind
//! a feature, each an implementation of [`KeyService`](holdfast_enclave::provider::KeyService): "encrypt 32 bytes".
//!
//! What it guarantees: every call ends in its time limit and makes one attempt; the key is always named, so that a
//! ciphertext cannot choose another; errors are sorted by what an operator would do about them, and carry what the
//! service said, never a secret; credentials come from files or the platform, never from the configuration itself.
//!
//! Beside them, in [`stores`]: the stores of secrets of the same services, for keys that move here from another signer.

#[cfg(feature = "aws-kms")]
pub mod aws;
#[cfg(feature = "azure-key-vault")]
pub mod azure;
#[cfg(feature = "gcp-kms")]
pub mod gcp;
#[cfg(any(feature = "aws-kms", feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
mod http;
#[cfg(feature = "nitro")]
pub mod nitro;
#[cfg(feature = "shares")]
pub mod people;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
#[cfg(any(feature = "aws-kms", feature = "vault-transit", feature = "gcp-kms", feature = "azure-key-vault"))]
mod runtime;
#[cfg(any(
    feature = "vault-transit",
    feature = "gcp-kms",
    feature = "azure-key-vault",
    feature = "pkcs11",
    feature = "tpm"
))]
mod secret_file;
pub mod stores;
#[cfg(feature = "tpm")]
pub mod tpm;
#[cfg(feature = "vault-transit")]
pub mod transit;
