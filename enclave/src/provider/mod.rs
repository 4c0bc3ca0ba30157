//! Who guards the data key: a provider wraps it for storage and unwraps it at start.
//!
//! Guarantees: a wrapped key names its provider and format; it unwraps only with the same guarding key,
//! for the same network and data key identifier; every byte of it is authenticated, whatever the provider
//! itself can authenticate. One unwrap at start opens all keys, and changing the provider rewraps one key.
//! Several providers may wrap the same data key ([`WrappedSet`]): any one of them opens it.
//!
//! A provider is *local* (its secret is here: a file, a passphrase) or stands for a [`KeyService`]
//! elsewhere ([`remote`]). Calls block, for a bounded time, and never retry by themselves: what is worth
//! another attempt is said by the error, and [`retry`] makes it.

use core::fmt;
use core::str::FromStr;

use holdfast_domain::GenesisValidatorsRoot;
pub use holdfast_slashing_db::DataKeyId;

use crate::error::ProviderError;
use crate::secret::DataKey;

mod envelope;
#[cfg(feature = "provider-file")]
pub mod file;
pub mod helper;
#[cfg(feature = "provider-passphrase")]
pub mod passphrase;
pub mod remote;
pub mod retry;
mod service;
mod set;
pub mod shares;

use envelope::Envelope;
#[cfg(any(feature = "provider-file", feature = "provider-passphrase"))]
use envelope::seal_with;
pub use remote::{GuardKey, KeyService, Remote};
pub use service::{Recovery, ServiceError, ServiceFailure};
pub use set::{Checked, Opened, WrappedSet};

/// The providers, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// A random key in a private file.
    File,
    /// A passphrase, stretched by Argon2id.
    Passphrase,
    /// A key of AWS KMS.
    AwsKms,
    /// A key of the transit engine of HashiCorp Vault or OpenBao.
    VaultTransit,
    /// A key in a hardware module, by PKCS#11.
    Pkcs11,
    /// A key of Google Cloud KMS.
    GcpKms,
    /// A key of Azure Key Vault.
    AzureKeyVault,
    /// The TPM 2.0 chip of this machine.
    Tpm,
    /// Several holders, of whom some number must come together.
    Shares,
}

impl ProviderKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::File,
        Self::Passphrase,
        Self::AwsKms,
        Self::VaultTransit,
        Self::Pkcs11,
        Self::GcpKms,
        Self::AzureKeyVault,
        Self::Tpm,
        Self::Shares,
    ];

    /// The name in configuration and in wrapped keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Passphrase => "passphrase",
            Self::AwsKms => "aws-kms",
            Self::VaultTransit => "vault-transit",
            Self::Pkcs11 => "pkcs11",
            Self::GcpKms => "gcp-kms",
            Self::AzureKeyVault => "azure-key-vault",
            Self::Tpm => "tpm",
            Self::Shares => "shares",
        }
    }

    /// Whether the guarding key is elsewhere, so that it may be out of reach for a while.
    pub const fn is_remote(self) -> bool {
        match self {
            Self::File | Self::Passphrase => false,
            Self::AwsKms
            | Self::VaultTransit
            | Self::Pkcs11
            | Self::GcpKms
            | Self::AzureKeyVault
            | Self::Tpm
            | Self::Shares => true,
        }
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProviderKind {
    type Err = ProviderError;

    fn from_str(text: &str) -> Result<Self, ProviderError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| ProviderError::UnknownProvider { name: text.to_owned() })
    }
}

/// What a wrapped data key is bound to besides its guarding key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapContext {
    /// The chain whose validators the data key seals.
    pub network: GenesisValidatorsRoot,
    /// Which data key it is.
    pub data_key: DataKeyId,
}

impl WrapContext {
    /// The same as names and values, none of them secret, for services that bind a ciphertext to such and
    /// write them to their audit log. Part of the format: never change one.
    pub fn pairs(&self) -> [(&'static str, String); 3] {
        [("app", APP.to_owned()), ("network", self.network.to_string()), ("data_key", self.data_key.0.to_string())]
    }

    /// The same in one line, for services that bind a ciphertext to bytes. Part of the format.
    pub fn line(&self) -> String {
        let [app, network, data_key] = self.pairs().map(|(name, value)| format!("{name}={value}"));
        [app, network, data_key].join(",")
    }
}

/// Says whose a ciphertext is, in a key service's log and policy.
const APP: &str = "holdfast/v1";

/// A data key as it is stored: encrypted, with what is needed to decrypt it again except the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped(Vec<u8>);

impl Wrapped {
    /// Takes stored bytes. They are checked when they are used.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The provider that made it.
    ///
    /// # Errors
    ///
    /// [`ProviderError::UnknownVersion`], [`ProviderError::UnknownProvider`] or
    /// [`ProviderError::Malformed`] if it was not made by a provider of this version.
    pub fn provider(&self) -> Result<ProviderKind, ProviderError> {
        Ok(Envelope::parse(&self.0)?.provider)
    }

    /// The name of the guarding key, where a provider has several: as it was configured when this was made.
    ///
    /// # Errors
    ///
    /// As [`Self::provider`].
    pub fn key(&self) -> Result<Option<String>, ProviderError> {
        let envelope = Envelope::parse(&self.0)?;
        if envelope.provider.is_remote() { Ok(Some(remote::key_name(&envelope)?)) } else { Ok(None) }
    }
}

/// Wraps and unwraps data keys. Calls may take seconds: not on an async thread.
pub trait Provider: Send + Sync {
    /// Which provider it is.
    fn kind(&self) -> ProviderKind;

    /// Encrypts a data key for storage.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] if the guarding key cannot be had, or without randomness or memory.
    fn wrap(&self, key: &DataKey, context: &WrapContext) -> Result<Wrapped, ProviderError>;

    /// Decrypts a stored data key.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] if the guarding key cannot be had or is not the one it was wrapped with, or if
    /// it was wrapped for another network or data key, or damaged.
    fn unwrap(&self, wrapped: &Wrapped, context: &WrapContext) -> Result<DataKey, ProviderError>;

    /// What guards the data key, in words for an operator. No secrets.
    fn describe(&self) -> String;

    /// The name of the guarding key, where a provider has several.
    fn key(&self) -> Option<&str> {
        None
    }
}
