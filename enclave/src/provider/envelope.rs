//! A wrapped data key as bytes: who guards it, what it is bound to, and the box around it.
//!
//! Guarantees: what [`Envelope::open`] returns is the data key given to [`seal_with`] under the same guarding
//! key, network and identifier, or an error that says which of them differs; every byte is authenticated.
//!
//! ```text
//! version | name length 1 | provider name | parameter length | parameters
//!   | network 8 | fingerprint of the guarding key 8 | nonce 12 | ciphertext 32 | tag 16
//! ```
//!
//! Version 1 has parameters of up to 255 bytes, behind one length byte; version 2, of providers whose
//! guarding key is elsewhere, up to 64 KiB behind two. The associated data is a label, everything before the
//! nonce, the full network root and the identifier of the data key.

use holdfast_enclave_sys::LockedBytes;

use super::{ProviderKind, WrapContext, Wrapped};
use crate::aead::{self, BOX_LEN, BoxError, FINGERPRINT_LEN, Fingerprint};
use crate::error::ProviderError;
use crate::secret::DataKey;

/// Written by providers whose secret is here.
const LOCAL: u8 = 1;
/// Written by providers whose guarding key is elsewhere.
const REMOTE: u8 = 2;
const LABEL: &[u8] = b"holdfast wrapped data key";

/// A wrapped key, taken apart.
pub(super) struct Envelope<'a> {
    pub(super) provider: ProviderKind,
    pub(super) parameters: &'a [u8],
    network: Fingerprint,
    guard: Fingerprint,
    /// Everything before the box.
    header: &'a [u8],
    boxed: &'a [u8; BOX_LEN],
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ProviderError> {
        let (version, rest) = bytes.split_first().ok_or(ProviderError::Malformed)?;
        let remote = match *version {
            LOCAL => false,
            REMOTE => true,
            version => return Err(ProviderError::UnknownVersion { version }),
        };
        let (name, rest) = counted(rest)?;
        let provider: ProviderKind = String::from_utf8_lossy(name).parse()?;
        if provider.is_remote() != remote {
            return Err(ProviderError::Malformed);
        }
        let (parameters, rest) = if remote { counted_long(rest)? } else { counted(rest)? };
        let (network, rest) = rest.split_first_chunk().ok_or(ProviderError::Malformed)?;
        let (guard, rest) = rest.split_first_chunk().ok_or(ProviderError::Malformed)?;
        let boxed = rest.try_into().map_err(|_| ProviderError::Malformed)?;
        let (header, _) =
            bytes.split_at_checked(bytes.len().saturating_sub(BOX_LEN)).ok_or(ProviderError::Malformed)?;
        Ok(Self { provider, parameters, network: *network, guard: *guard, header, boxed })
    }

    /// As [`Self::parse`], of this provider only.
    pub(super) fn parse_own(wrapped: &'a Wrapped, expected: ProviderKind) -> Result<Self, ProviderError> {
        let envelope = Self::parse(&wrapped.0)?;
        if envelope.provider == expected {
            Ok(envelope)
        } else {
            Err(ProviderError::OtherProvider { found: envelope.provider, asked: expected })
        }
    }

    /// Whether it is for this network, before anybody is asked to decrypt.
    pub(super) fn check_network(&self, context: &WrapContext) -> Result<(), ProviderError> {
        if self.network == aead::short(&context.network.0) {
            Ok(())
        } else {
            Err(ProviderError::WrongNetwork { expected: context.network })
        }
    }

    pub(super) fn open(&self, guard: &LockedBytes, context: &WrapContext) -> Result<DataKey, ProviderError> {
        self.check_network(context)?;
        if self.guard != guard_fingerprint(guard) {
            return Err(match self.provider {
                ProviderKind::File => ProviderError::WrongKeyFile,
                ProviderKind::Passphrase => ProviderError::WrongPassphrase,
                // The service authenticated its own part and gave out another guarding key than was sealed with.
                ProviderKind::AwsKms
                | ProviderKind::VaultTransit
                | ProviderKind::Pkcs11
                | ProviderKind::GcpKms
                | ProviderKind::AzureKeyVault
                | ProviderKind::Tpm
                | ProviderKind::Shares => ProviderError::Damaged,
            });
        }
        let aad = associated_data(self.header, context);
        let plain = aead::decrypt(guard, &aad, self.boxed).ok_or(ProviderError::Damaged)?;
        Ok(DataKey::from_plain(plain)?)
    }
}

pub(super) fn seal_with(
    guard: &LockedBytes,
    provider: ProviderKind,
    parameters: &[u8],
    key: &DataKey,
    context: &WrapContext,
) -> Result<Wrapped, ProviderError> {
    let mut out = vec![if provider.is_remote() { REMOTE } else { LOCAL }];
    count(&mut out, provider.name().as_bytes())?;
    if provider.is_remote() {
        let length = u16::try_from(parameters.len()).map_err(|_| ProviderError::Malformed)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(parameters);
    } else {
        count(&mut out, parameters)?;
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
pub(super) fn counted(bytes: &[u8]) -> Result<(&[u8], &[u8]), ProviderError> {
    let (len, rest) = bytes.split_first().ok_or(ProviderError::Malformed)?;
    rest.split_at_checked(usize::from(*len)).ok_or(ProviderError::Malformed)
}

/// A field after two length bytes, and the rest.
pub(super) fn counted_long(bytes: &[u8]) -> Result<(&[u8], &[u8]), ProviderError> {
    let (len, rest) = bytes.split_first_chunk().ok_or(ProviderError::Malformed)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(ProviderError::Malformed)
}

/// Appends a field after its length byte.
pub(super) fn count(out: &mut Vec<u8>, field: &[u8]) -> Result<(), ProviderError> {
    out.push(u8::try_from(field.len()).map_err(|_| ProviderError::Malformed)?);
    out.extend_from_slice(field);
    Ok(())
}

fn guard_fingerprint(guard: &LockedBytes) -> [u8; FINGERPRINT_LEN] {
    aead::fingerprint(b"holdfast key-encryption key", guard)
}

fn associated_data(header: &[u8], context: &WrapContext) -> Vec<u8> {
    [LABEL, header, &context.network.0, &context.data_key.0.to_be_bytes()].concat()
}
