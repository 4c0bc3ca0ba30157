//! AES-256-GCM over 32-byte secrets: the one place that encrypts, shared by [`crate::seal`] and
//! [`crate::provider`].
//!
//! Guarantees: every nonce is fresh from the operating system; a plaintext that leaves here is wiped
//! when dropped; the expanded AES key is wiped after each call, also where it was moved from ([`crate::stack`]).
//!
//! Random 96-bit nonces allow 2^32 encryptions under one key (NIST SP 800-38D, section 8.3); a data key
//! seals each validator key once, far below that.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use holdfast_enclave_sys::LockedBytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::stack;

/// Bytes of a nonce.
const NONCE_LEN: usize = 12;
/// Bytes of a secret.
pub(crate) const SECRET_LEN: usize = 32;
/// Bytes of an encrypted secret: nonce, ciphertext, tag.
pub(crate) const BOX_LEN: usize = NONCE_LEN + SECRET_LEN + 16;

/// What an encryption can fail with.
pub(crate) enum BoxError {
    /// The operating system gave no randomness.
    Random(getrandom::Error),
    /// The key is not 32 bytes, or the associated data is absurdly long. Neither happens here.
    Unusable,
}

/// Encrypts a secret under a 32-byte key, authenticating `aad` with it.
pub(crate) fn encrypt(key: &LockedBytes, aad: &[u8], secret: &[u8; SECRET_LEN]) -> Result<[u8; BOX_LEN], BoxError> {
    let boxed = encrypt_once(key, aad, secret);
    stack::scrub_small();
    boxed
}

#[inline(never)]
fn encrypt_once(key: &LockedBytes, aad: &[u8], secret: &[u8; SECRET_LEN]) -> Result<[u8; BOX_LEN], BoxError> {
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(BoxError::Random)?;
    let mut body = Zeroizing::new(*secret);
    let tag = key
        .expose(|key| {
            let cipher = Aes256Gcm::new_from_slice(key).ok()?;
            cipher.encrypt_inout_detached(&Nonce::from(nonce), aad, body.as_mut_slice().into()).ok()
        })
        .ok_or(BoxError::Unusable)?;
    let mut out = [0; BOX_LEN];
    let parts = nonce.iter().chain(body.iter()).chain(tag.iter());
    for (to, from) in out.iter_mut().zip(parts) {
        *to = *from;
    }
    Ok(out)
}

/// Decrypts what [`encrypt`] made. `None` unless key, associated data and every byte are the same.
pub(crate) fn decrypt(key: &LockedBytes, aad: &[u8], boxed: &[u8; BOX_LEN]) -> Option<Zeroizing<[u8; SECRET_LEN]>> {
    let secret = decrypt_once(key, aad, boxed);
    stack::scrub_small();
    secret
}

#[inline(never)]
fn decrypt_once(key: &LockedBytes, aad: &[u8], boxed: &[u8; BOX_LEN]) -> Option<Zeroizing<[u8; SECRET_LEN]>> {
    let (nonce, rest) = boxed.split_first_chunk::<NONCE_LEN>()?;
    let (body, tag) = rest.split_first_chunk::<SECRET_LEN>()?;
    let tag = Tag::try_from(tag).ok()?;
    let mut secret = Zeroizing::new(*body);
    key.expose(|key| {
        let cipher = Aes256Gcm::new_from_slice(key).ok()?;
        cipher.decrypt_inout_detached(&Nonce::from(*nonce), aad, secret.as_mut_slice().into(), &tag).ok()
    })?;
    Some(secret)
}

/// Bytes of a [`Fingerprint`].
pub(crate) const FINGERPRINT_LEN: usize = 8;

/// Tells keys apart without saying anything useful about them: 64 bits of a hash of 256 random ones.
pub(crate) type Fingerprint = [u8; FINGERPRINT_LEN];

/// The fingerprint of a random 32-byte key. `label` keeps uses apart.
pub(crate) fn fingerprint(label: &[u8], key: &LockedBytes) -> Fingerprint {
    let digest: [u8; 32] =
        stack::apart(|| key.expose(|key| Sha256::new().chain_update(label).chain_update(key).finalize().into()));
    short(&digest)
}

/// The first eight bytes.
pub(crate) fn short(bytes: &[u8]) -> Fingerprint {
    bytes.first_chunk().copied().unwrap_or_default()
}
