#![doc = include_str!("../README.md")]
//!
//! # Why it exists
//!
//! The registry has no maintained crate for these formats, and a signer must not trust the cost, the claimed
//! public key or the secret of a file it is handed. The crate knows nothing of the program around it.

mod error;
mod json;
mod kdf;
mod keystore;
mod message;
mod mnemonic;
mod password;
mod path;
mod public_key;
mod secret;
mod seed;
mod wallet;

pub use error::{Flaw, KdfCost, KeystoreError, Quoted, SecretFlaw};
pub use kdf::{KdfChoice, KdfLimits};
pub use keystore::{Keystore, MAX_FILE_BYTES};
pub use message::EncryptedMessage;
pub use mnemonic::{Mnemonic, MnemonicError, Positions, WordCount};
pub use password::Password;
pub use path::{AccountIndex, DerivationPath, PathError};
pub use public_key::PublicKey;
pub use secret::Secret;
pub use seed::Seed;
pub use wallet::{MAX_WALLET_BYTES, PrysmWallet};
