//! Who guards the data key: a provider wraps it for storage and unwraps it at start.
//!
//! Guarantees: a wrapped key names its provider and format; it unwraps only with the same guarding key,
//! for the same network and data key identifier; every byte of it is authenticated. One unwrap at start
//! opens all keys, and changing the provider rewraps one key.
//!
//! Format 1:
//!
//! ```text
//! version = 1 | name length | provider name | parameter length | parameters
//!   | network 8 | fingerprint of the guarding key 8 | nonce 12 | ciphertext 32 | tag 16
//! ```
//!
//! The associated data is a label, everything before the nonce, the full network root and the
//! identifier of the data key.

use core::fmt;
use core::str::FromStr;

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave_sys::LockedBytes;
pub use holdfast_slashing_db::DataKeyId;

use crate::aead::{self, BOX_LEN, BoxError, FINGERPRINT_LEN, Fingerprint};
use crate::error::ProviderError;
use crate::secret::DataKey;

#[cfg(feature = "provider-file")]
pub mod file;
#[cfg(feature = "provider-passphrase")]
pub mod passphrase;

/// The format written.
const VERSION: u8 = 1;
const LABEL: &[u8] = b"holdfast wrapped data key";

/// The providers, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// A random key in a private file.
    File,
    /// A passphrase, stretched by Argon2id.
    Passphrase,
}

impl ProviderKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::File, Self::Passphrase];

    /// The name in configuration and in wrapped keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Passphrase => "passphrase",
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
}

/// Wraps and unwraps data keys. Calls may take a second: not on an async thread.
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
}

/// A wrapped key, taken apart.
struct Envelope<'a> {
    provider: ProviderKind,
    parameters: &'a [u8],
    network: Fingerprint,
    guard: Fingerprint,
    /// Everything before the box.
    header: &'a [u8],
    boxed: &'a [u8; BOX_LEN],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ProviderError> {
        let (version, rest) = bytes.split_first().ok_or(ProviderError::Malformed)?;
        if *version != VERSION {
            return Err(ProviderError::UnknownVersion { version: *version });
        }
        let (name, rest) = counted(rest)?;
        let provider = String::from_utf8_lossy(name).parse()?;
        let (parameters, rest) = counted(rest)?;
        let (network, rest) = rest.split_first_chunk().ok_or(ProviderError::Malformed)?;
        let (guard, rest) = rest.split_first_chunk().ok_or(ProviderError::Malformed)?;
        let boxed = rest.try_into().map_err(|_| ProviderError::Malformed)?;
        let (header, _) =
            bytes.split_at_checked(bytes.len().saturating_sub(BOX_LEN)).ok_or(ProviderError::Malformed)?;
        Ok(Self { provider, parameters, network: *network, guard: *guard, header, boxed })
    }

    /// As [`Self::parse`], of this provider only.
    fn parse_own(wrapped: &'a Wrapped, expected: ProviderKind) -> Result<Self, ProviderError> {
        let envelope = Self::parse(&wrapped.0)?;
        if envelope.provider == expected {
            Ok(envelope)
        } else {
            Err(ProviderError::OtherProvider { found: envelope.provider, asked: expected })
        }
    }

    fn open(&self, guard: &LockedBytes, context: &WrapContext) -> Result<DataKey, ProviderError> {
        if self.network != aead::short(&context.network.0) {
            return Err(ProviderError::WrongNetwork { expected: context.network });
        }
        if self.guard != guard_fingerprint(guard) {
            return Err(match self.provider {
                ProviderKind::File => ProviderError::WrongKeyFile,
                ProviderKind::Passphrase => ProviderError::WrongPassphrase,
            });
        }
        let aad = associated_data(self.header, context);
        let plain = aead::decrypt(guard, &aad, self.boxed).ok_or(ProviderError::Damaged)?;
        Ok(DataKey::from_plain(plain)?)
    }
}

fn seal_with(
    guard: &LockedBytes,
    provider: ProviderKind,
    parameters: &[u8],
    key: &DataKey,
    context: &WrapContext,
) -> Result<Wrapped, ProviderError> {
    let mut out = vec![VERSION];
    for field in [provider.name().as_bytes(), parameters] {
        out.push(u8::try_from(field.len()).map_err(|_| ProviderError::Malformed)?);
        out.extend_from_slice(field);
    }
    out.extend_from_slice(&aead::short(&context.network.0));
    out.extend_from_slice(&guard_fingerprint(guard));
    let aad = associated_data(&out, context);
    let boxed = key
        .bytes()
        .expose(|plain| match plain.try_into() {
            Ok(plain) => aead::encrypt(guard, &aad, plain),
            Err(_) => Err(BoxError::Unusable),
        })
        .map_err(|error| match error {
            BoxError::Random(source) => ProviderError::Random(source),
            BoxError::Unusable => ProviderError::Malformed,
        })?;
    out.extend_from_slice(&boxed);
    Ok(Wrapped(out))
}

/// A field after its length byte, and the rest.
fn counted(bytes: &[u8]) -> Result<(&[u8], &[u8]), ProviderError> {
    let (len, rest) = bytes.split_first().ok_or(ProviderError::Malformed)?;
    rest.split_at_checked(usize::from(*len)).ok_or(ProviderError::Malformed)
}

fn guard_fingerprint(guard: &LockedBytes) -> [u8; FINGERPRINT_LEN] {
    aead::fingerprint(b"holdfast key-encryption key", guard)
}

fn associated_data(header: &[u8], context: &WrapContext) -> Vec<u8> {
    [LABEL, header, &context.network.0, &context.data_key.0.to_be_bytes()].concat()
}
