//! The age format, version 1 (age-encryption.org/v1), as far as a short text to one recipient needs it.
//!
//! A file key of 16 bytes encrypts the text; it is wrapped for the recipient in the header, which is authenticated under it.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use zeroize::Zeroizing;

use super::{montgomery, ssh};

const INTRO: &str = "age-encryption.org/v1\n";
const X25519_INFO: &[u8] = b"age-encryption.org/v1/X25519";
const SSH_INFO: &[u8] = b"age-encryption.org/v1/ssh-ed25519";
/// Bytes of a file key.
const FILE_KEY: usize = 16;
/// Bytes of the nonce before the text.
const NONCE: usize = 16;
/// The nonce of the only piece of a text that has one: number 0, and the last.
const ONLY_PIECE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// Longest text in one piece.
const PIECE: usize = 64 * 1024;

/// A public key.
pub(super) enum Key {
    /// age's own.
    X25519([u8; 32]),
    /// OpenSSH's, as it goes over the wire.
    Ssh(Vec<u8>),
}

/// A private key.
pub(super) enum Secret {
    /// age's own.
    X25519(Zeroizing<[u8; 32]>),
    /// OpenSSH's: the public key as it goes over the wire, and the scalar.
    Ssh {
        /// The public key.
        wire: Vec<u8>,
        /// The scalar.
        scalar: Zeroizing<[u8; 32]>,
    },
}

type Bytes32 = Zeroizing<[u8; 32]>;

/// A key of this many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256 to 32 bytes.
fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> Result<Bytes32, &'static str> {
    let mut out = Zeroizing::new([0; 32]);
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let filled = derived.expand(&[info], Length(32)).and_then(|key| key.fill(out.as_mut_slice()));
    filled.map(|()| out).map_err(|_| "a key cannot be derived")
}

/// X25519 of a scalar and a point. That of a point of small order is an error.
fn shared(scalar: &[u8; 32], point: &[u8; 32]) -> Result<Bytes32, &'static str> {
    const WEAK: &str = "the public key is a weak one";
    let private = PrivateKey::from_private_key(&X25519, scalar).map_err(|_| "the private key is none")?;
    agree(&private, UnparsedPublicKey::new(&X25519, point), WEAK, |bytes| {
        bytes.try_into().map(Zeroizing::new).map_err(|_| WEAK)
    })
}

fn public_of(scalar: &[u8; 32]) -> Result<[u8; 32], &'static str> {
    const NONE: &str = "the private key is none";
    let private = PrivateKey::from_private_key(&X25519, scalar).map_err(|_| NONE)?;
    private.compute_public_key().map_err(|_| NONE)?.as_ref().try_into().map_err(|_| NONE)
}

fn seal(key: &Bytes32, nonce: [u8; 12], text: &[u8]) -> Result<Vec<u8>, &'static str> {
    const FAILED: &str = "the text cannot be encrypted";
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| FAILED)?);
    // With room for the tag, so that the plain text is not left behind by growing.
    let mut buffer = Vec::with_capacity(text.len().saturating_add(16));
    buffer.extend_from_slice(text);
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut buffer).map_err(|_| FAILED)?;
    Ok(buffer)
}

fn open(key: &Bytes32, nonce: [u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).ok()?);
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, &'static str> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map(|()| bytes).map_err(|_| "the operating system gave no randomness")
}

/// What multiplies the secret shared with an OpenSSH key, so that it is good for nothing else.
fn tweak(wire: &[u8]) -> Result<Bytes32, &'static str> {
    derive(&[], wire, SSH_INFO)
}

/// The arguments of the line about a recipient, and the key that wraps the file key.
fn wrap_for(key: &Key, ephemeral: &[u8; 32]) -> Result<(String, Bytes32), &'static str> {
    let share = public_of(ephemeral)?;
    match key {
        Key::X25519(point) => {
            let secret = shared(ephemeral, point)?;
            let wrapping = derive(secret.as_slice(), &[share, *point].concat(), X25519_INFO)?;
            Ok((format!("X25519 {}", BASE64.encode(share)), wrapping))
        }
        Key::Ssh(wire) => {
            let point = montgomery::from_edwards(&ssh::point(wire).ok_or("the public key is none")?);
            let secret = shared(&*tweak(wire)?, &*shared(ephemeral, &point)?)?;
            let wrapping = derive(secret.as_slice(), &[share, point].concat(), SSH_INFO)?;
            Ok((format!("ssh-ed25519 {} {}", tag(wire), BASE64.encode(share)), wrapping))
        }
    }
}

/// Four bytes that tell keys apart.
fn tag(wire: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, wire);
    BASE64.encode(hash.as_ref().first_chunk::<4>().copied().unwrap_or_default())
}

fn mac(file_key: &[u8], header: &str) -> Result<hmac::Tag, &'static str> {
    let key = derive(file_key, &[], b"header")?;
    Ok(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()), header.as_bytes()))
}

/// Encrypts a short text.
pub(super) fn encrypt(key: &Key, text: &[u8]) -> Result<Vec<u8>, &'static str> {
    if text.len() > PIECE {
        return Err("the text is too long");
    }
    let (file_key, ephemeral, nonce) = (random::<FILE_KEY>()?, random::<32>()?, random::<NONCE>()?);
    let (arguments, wrapping) = wrap_for(key, &ephemeral)?;
    let wrapped = BASE64.encode(seal(&wrapping, [0; 12], file_key.as_slice())?);
    let header = format!("{INTRO}-> {arguments}\n{wrapped}\n---");
    let mac = mac(file_key.as_slice(), &header)?;
    let payload = derive(file_key.as_slice(), nonce.as_slice(), b"payload")?;
    let header = format!("{header} {}\n", BASE64.encode(mac));
    Ok([header.as_bytes(), nonce.as_slice(), &seal(&payload, ONLY_PIECE, text)?].concat())
}

/// Decrypts a short text; `None` if it is for somebody else.
pub(super) fn decrypt(secret: &Secret, file: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, &'static str> {
    const BROKEN: &str = "it is no age file of a short text, or was changed (an armored one: `age --decrypt` reads it)";
    let end = file.windows(4).position(|bytes| bytes == b"\n---").ok_or(BROKEN)?;
    let (header, rest) = file.split_at_checked(end.saturating_add(4)).ok_or(BROKEN)?;
    let header = core::str::from_utf8(header).map_err(|_| BROKEN)?;
    let line = rest.iter().position(|byte| *byte == b'\n').ok_or(BROKEN)?;
    let (said, rest) = rest.split_at_checked(line.saturating_add(1)).ok_or(BROKEN)?;
    let said = BASE64.decode(said.trim_ascii()).map_err(|_| BROKEN)?;
    let stanzas = header.strip_prefix(INTRO).and_then(|rest| rest.strip_suffix("---")).ok_or(BROKEN)?;
    let mut lines = stanzas.lines();
    while let Some(first) = lines.next() {
        let arguments: Vec<&str> = first.strip_prefix("-> ").ok_or(BROKEN)?.split(' ').collect();
        let mut body = String::new();
        for line in lines.by_ref() {
            body.push_str(line);
            if line.len() < 64 {
                break;
            }
        }
        let Some(file_key) = unwrap(secret, &arguments, &body)? else { continue };
        let key = hmac::Key::new(hmac::HMAC_SHA256, derive(&file_key, &[], b"header")?.as_slice());
        hmac::verify(&key, header.as_bytes(), &said).map_err(|_| BROKEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(BROKEN)?;
        let payload = derive(&file_key, nonce, b"payload")?;
        return open(&payload, ONLY_PIECE, sealed).map(Some).ok_or(BROKEN);
    }
    Ok(None)
}

/// The file key, if these lines wrap it for this key.
fn unwrap(secret: &Secret, arguments: &[&str], body: &str) -> Result<Option<Zeroizing<Vec<u8>>>, &'static str> {
    let share = |text: &str| BASE64.decode(text).ok().and_then(|share| <[u8; 32]>::try_from(share).ok());
    let wrapping = match (secret, arguments) {
        (Secret::X25519(scalar), ["X25519", text]) => {
            let Some(share) = share(text) else { return Ok(None) };
            let salt = [share, public_of(scalar)?].concat();
            derive(shared(scalar, &share)?.as_slice(), &salt, X25519_INFO)?
        }
        (Secret::Ssh { wire, scalar }, ["ssh-ed25519", of, text]) if *of == tag(wire) => {
            let Some(share) = share(text) else { return Ok(None) };
            let salt = [share, public_of(scalar)?].concat();
            derive(shared(&*tweak(wire)?, &*shared(scalar, &share)?)?.as_slice(), &salt, SSH_INFO)?
        }
        _ => return Ok(None),
    };
    let Ok(body) = BASE64.decode(body) else { return Ok(None) };
    Ok(open(&wrapping, [0; 12], &body).filter(|key| key.len() == FILE_KEY))
}

#[cfg(test)]
mod tests {
    //! Proved here: a round trip for both kinds, nobody else reads it, no changed byte opens. That others read it, and this
    //! reads theirs, is tested with the `age` tool.

    use super::*;

    fn pair(seed: u8) -> (Key, Secret) {
        let scalar = [seed; 32];
        (Key::X25519(public_of(&scalar).unwrap()), Secret::X25519(Zeroizing::new(scalar)))
    }

    #[test]
    fn what_was_encrypted_is_read_by_its_recipient_alone() {
        let ((key, secret), (_, other)) = (pair(1), pair(2));
        let file = encrypt(&key, b"a share\n").unwrap();
        assert_eq!(decrypt(&secret, &file).unwrap().unwrap().as_slice(), b"a share\n");
        assert!(decrypt(&other, &file).unwrap().is_none());
        assert_ne!(file, encrypt(&key, b"a share\n").unwrap());
        for place in 0..file.len() {
            let mut changed = file.clone();
            changed[place] ^= 1;
            assert!(!matches!(decrypt(&secret, &changed), Ok(Some(_))), "byte {place}");
        }
        for cut in 0..file.len() {
            assert!(!matches!(decrypt(&secret, &file[..cut]), Ok(Some(_))), "{cut} bytes");
        }
    }

    #[test]
    fn a_weak_public_key_is_refused() {
        assert!(encrypt(&Key::X25519([0; 32]), b"x").is_err());
    }
}
