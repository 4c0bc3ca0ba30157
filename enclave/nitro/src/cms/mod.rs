//! `CiphertextForRecipient` of KMS: an envelope that only the enclave can open whose attestation document was in the
//! request.
//!
//! Why it exists: KMS writes CMS (RFC 5652) in BER with indefinite lengths, which readers of DER refuse. This one reads
//! the shape that KMS sends and nothing else: version 2, one recipient that is named by 32 bytes, RSAES-OAEP
//! with SHA-256, AES-256-CBC, content in one piece or in several.
//!
//! What it does *not* guarantee: that KMS made the envelope. Anybody can encrypt to a public key, and CBC authenticates
//! nothing. The plaintext is a candidate; an AEAD that it opens decides. Never encrypt anything new under it.

mod ber;
mod open;
#[cfg(feature = "test-kms")]
pub mod seal;
pub mod wrap;

use ber::Reader;
pub use open::{OpenError, RecipientKey};

/// Longest envelope that is read, in bytes. KMS sends about 500, and at most 4096 bytes of plaintext.
pub const MAX_ENVELOPE: usize = 8192;
/// Length of an identifier of the recipient's key.
const KEY_IDENTIFIER: usize = 32;
/// Length of a content key wrapped by RSA-2048.
const WRAPPED_KEY: usize = 256;
/// Length of AES's block, and of the initialisation vector.
const BLOCK: usize = 16;

mod tag {
    //! Tags of ASN.1 that occur.
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const OCTETS: u8 = 0x04;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const OID: u8 = 0x06;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    /// `[0]`, a primitive.
    pub(super) const CONTEXT_0: u8 = 0x80;
    /// `[0]`, made of values.
    pub(super) const IN_CONTEXT_0: u8 = 0xa0;
    /// `[1]`, made of values.
    pub(super) const IN_CONTEXT_1: u8 = 0xa1;
}

mod oid {
    //! Object identifiers that occur (RFC 5652, RFC 8017, NIST).
    pub(super) const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    pub(super) const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
    pub(super) const RSAES_OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
    pub(super) const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    pub(super) const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
}

/// Why bytes are not an envelope of KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    /// More than [`MAX_ENVELOPE`] bytes.
    #[error("the envelope is longer than any that KMS sends")]
    TooLong,
    /// It ends within a value.
    #[error("the envelope is cut off")]
    Truncated,
    /// Something follows a value that was complete.
    #[error("the envelope has bytes that belong to nothing")]
    TrailingBytes,
    /// A length that KMS does not write.
    #[error("the envelope has a length in a form that KMS does not use")]
    BadLength,
    /// Another structure than EnvelopedData version 2 with one recipient.
    #[error("the envelope has another structure than those of KMS")]
    OtherShape,
    /// Another algorithm than those that were asked for.
    #[error("the envelope uses another algorithm than RSAES-OAEP with SHA-256 and AES-256-CBC")]
    OtherAlgorithm,
    /// A field of another size than its algorithm has.
    #[error("the envelope has a field of the wrong size")]
    BadSize,
}

/// An envelope of KMS, read but not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CiphertextForRecipient<'a> {
    key_identifier: &'a [u8],
    wrapped_key: &'a [u8],
    iv: [u8; BLOCK],
    content: Vec<u8>,
}

impl<'a> CiphertextForRecipient<'a> {
    /// Reads an envelope.
    ///
    /// # Errors
    /// Anything that is not exactly the shape that KMS sends.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CmsError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(CmsError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let envelope = reader.inside(tag::SEQUENCE, |info| {
            info.exactly(tag::OID, oid::ENVELOPED_DATA)?;
            info.inside(tag::IN_CONTEXT_0, |explicit| explicit.inside(tag::SEQUENCE, enveloped_data))
        })?;
        reader.finish()?;
        Ok(envelope)
    }

    /// The 32 bytes that name the recipient's key.
    pub const fn key_identifier(&self) -> &[u8] {
        self.key_identifier
    }

    /// The content key, encrypted to the recipient.
    pub const fn wrapped_key(&self) -> &[u8] {
        self.wrapped_key
    }

    /// The initialisation vector of the content.
    pub const fn iv(&self) -> &[u8; BLOCK] {
        &self.iv
    }

    /// The encrypted content, joined if it came in pieces.
    pub fn content(&self) -> &[u8] {
        &self.content
    }
}

fn enveloped_data<'a>(data: &mut Reader<'a>) -> Result<CiphertextForRecipient<'a>, CmsError> {
    version_two(data)?;
    let (key_identifier, wrapped_key) = data.inside(tag::SET, |all| all.inside(tag::SEQUENCE, recipient))?;
    let (iv, content) = data.inside(tag::SEQUENCE, encrypted_content)?;
    Ok(CiphertextForRecipient { key_identifier, wrapped_key, iv, content })
}

fn version_two(reader: &mut Reader<'_>) -> Result<(), CmsError> {
    if reader.primitive(tag::INTEGER)? == [2] { Ok(()) } else { Err(CmsError::OtherShape) }
}

/// KeyTransRecipientInfo: who it is for, and the content key.
fn recipient<'a>(info: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), CmsError> {
    version_two(info)?;
    let identifier = of_size(info.primitive(tag::CONTEXT_0)?, KEY_IDENTIFIER)?;
    info.inside(tag::SEQUENCE, |algorithm| {
        algorithm.exactly(tag::OID, oid::RSAES_OAEP)?;
        // Of the parameters, the label has its default and must be absent: `inside` refuses what follows.
        algorithm.inside(tag::SEQUENCE, |parameters| {
            parameters.inside(tag::IN_CONTEXT_0, sha256)?;
            parameters.inside(tag::IN_CONTEXT_1, |mask| {
                mask.inside(tag::SEQUENCE, |mask| {
                    mask.exactly(tag::OID, oid::MGF1)?;
                    sha256(mask)
                })
            })
        })
    })?;
    let key = of_size(info.primitive(tag::OCTETS)?, WRAPPED_KEY)?;
    Ok((identifier, key))
}

/// AlgorithmIdentifier of SHA-256; its parameters are NULL or absent (RFC 4055, section 2.1).
fn sha256(reader: &mut Reader<'_>) -> Result<(), CmsError> {
    reader.inside(tag::SEQUENCE, |algorithm| {
        algorithm.exactly(tag::OID, oid::SHA256)?;
        if algorithm.is_at_end() { Ok(()) } else { algorithm.exactly(tag::NULL, &[]) }
    })
}

/// EncryptedContentInfo: initialisation vector and content.
fn encrypted_content(info: &mut Reader<'_>) -> Result<([u8; BLOCK], Vec<u8>), CmsError> {
    info.exactly(tag::OID, oid::DATA)?;
    let iv = info.inside(tag::SEQUENCE, |algorithm| {
        algorithm.exactly(tag::OID, oid::AES256_CBC)?;
        algorithm.primitive(tag::OCTETS)
    })?;
    let content = if info.peek() == Some(tag::CONTEXT_0) {
        info.primitive(tag::CONTEXT_0)?.to_vec()
    } else {
        info.inside(tag::IN_CONTEXT_0, |pieces| {
            let mut content = Vec::new();
            while !pieces.is_at_end() {
                content.extend_from_slice(pieces.primitive(tag::OCTETS)?);
            }
            Ok(content)
        })?
    };
    // Padding makes it at least one block.
    if content.is_empty() || !content.len().is_multiple_of(BLOCK) {
        return Err(CmsError::BadSize);
    }
    Ok((iv.try_into().map_err(|_| CmsError::BadSize)?, content))
}

fn of_size(bytes: &[u8], size: usize) -> Result<&[u8], CmsError> {
    if bytes.len() == size { Ok(bytes) } else { Err(CmsError::BadSize) }
}
