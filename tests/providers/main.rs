//! Key-encryption keys that live elsewhere, with the real binary: every provider goes through the same suite against
//! the server or module named in `holdfast_tests::elsewhere`, and then through what is its own.
//!
//! What is real here: AWS's client library against moto, SoftHSM's PKCS#11 module, swtpm. What is a fake, written from API
//! documents: AWS KMS with key states, Google Cloud KMS, Azure Key Vault, the transit engine.

mod aws;
mod azure;
mod data_key;
mod enclave;
mod gcp;
mod memory;
mod pkcs11;
mod recipient;
mod several;
mod shares;
mod stage;
mod start;
mod suite;
mod tpm;
mod transit;
