//! Writes envelopes as KMS does, for servers that stand in for it in tests.
//!
//! Guarantees: the same structure, the same forms of lengths and, for a 32-byte plaintext, the same 493 bytes as an
//! envelope of the real service. Nothing in a product has a use for it: the feature `test-kms` keeps it out.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::fill;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};

use super::{BLOCK, oid, tag};

/// How the content is written; the real service uses both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As one primitive value.
    Primitive,
    /// As octet strings in a value of indefinite length, each of at most this many bytes.
    Pieces(usize),
}

/// An envelope could not be made: the public key is none, or not RSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot seal to this public key: an RSA key as SubjectPublicKeyInfo in DER is needed")]
pub struct SealError;

impl From<Unspecified> for SealError {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// Seals `plaintext` to a public key (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// If the public key is none.
pub fn seal(public_key: &[u8], plaintext: &[u8], form: Form) -> Result<Vec<u8>, SealError> {
    let public = PublicEncryptingKey::from_der(public_key).map_err(|_| SealError)?;
    let mut key = [0; 32];
    let mut iv = [0; BLOCK];
    fill(&mut key)?;
    fill(&mut iv)?;
    let mut content = plaintext.to_vec();
    PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &key)?)?
        .less_safe_encrypt(&mut content, EncryptionContext::Iv128(FixedLength::from(iv)))?;
    let oaep = OaepPublicEncryptingKey::new(public)?;
    let mut wrapped = vec![0; oaep.ciphertext_size()];
    let wrapped = oaep.encrypt(&OAEP_SHA256_MGF1SHA256, &key, &mut wrapped, None)?;
    Ok(envelope(digest(&SHA256, public_key).as_ref(), wrapped, &iv, &content, form))
}

fn envelope(identifier: &[u8], wrapped: &[u8], iv: &[u8], content: &[u8], form: Form) -> Vec<u8> {
    let sha256 = value(tag::SEQUENCE, &[value(tag::OID, &[oid::SHA256]), vec![tag::NULL, 0]]);
    let mask = value(tag::SEQUENCE, &[value(tag::OID, &[oid::MGF1]), sha256.clone()]);
    let parameters = [value(tag::IN_CONTEXT_0, &[sha256]), value(tag::IN_CONTEXT_1, &[mask])];
    let algorithm = [value(tag::OID, &[oid::RSAES_OAEP]), value(tag::SEQUENCE, &parameters)];
    let version = value(tag::INTEGER, &[[2]]);
    let recipient = [
        version.clone(),
        value(tag::CONTEXT_0, &[identifier]),
        value(tag::SEQUENCE, &algorithm),
        value(tag::OCTETS, &[wrapped]),
    ];
    let cipher = [value(tag::OID, &[oid::AES256_CBC]), value(tag::OCTETS, &[iv])];
    let content = match form {
        Form::Primitive => value(tag::CONTEXT_0, &[content]),
        Form::Pieces(size) => {
            let pieces: Vec<_> = content.chunks(size.max(1)).map(|piece| value(tag::OCTETS, &[piece])).collect();
            open_ended(tag::IN_CONTEXT_0, &pieces)
        }
    };
    let info = [value(tag::OID, &[oid::DATA]), value(tag::SEQUENCE, &cipher), content];
    let recipients = value(tag::SET, &[value(tag::SEQUENCE, &recipient)]);
    let data = open_ended(tag::SEQUENCE, &[version, recipients, open_ended(tag::SEQUENCE, &info)]);
    open_ended(tag::SEQUENCE, &[value(tag::OID, &[oid::ENVELOPED_DATA]), open_ended(tag::IN_CONTEXT_0, &[data])])
}

/// A value of definite length in its shortest form.
fn value<T: AsRef<[u8]>>(tag: u8, parts: &[T]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.as_ref().len()).sum();
    let mut bytes = vec![tag];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=0x7f), _) => bytes.push(short),
        (Ok(long), _) => bytes.extend_from_slice(&[0x81, long]),
        (_, Ok(long)) => {
            bytes.push(0x82);
            bytes.extend_from_slice(&long.to_be_bytes());
        }
        // A plaintext of more than 64 KiB, which KMS does not take either; written so that no reader accepts it.
        _ => bytes.push(0xff),
    }
    for part in parts {
        bytes.extend_from_slice(part.as_ref());
    }
    bytes
}

/// A value of indefinite length.
fn open_ended<T: AsRef<[u8]>>(tag: u8, parts: &[T]) -> Vec<u8> {
    let mut bytes = vec![tag, 0x80];
    for part in parts {
        bytes.extend_from_slice(part.as_ref());
    }
    bytes.extend_from_slice(&[0, 0]);
    bytes
}
