//! Approvals: signatures over a request's bytes, in OpenSSH's format for files (PROTOCOL.sshsig).
//!
//! Guarantees: an [`Approval`] is read only if it is written exactly as `ssh-keygen -Y sign` writes it, so each has one
//! form; [`Approval::verify`] accepts it only for the very bytes that were signed, under our namespace.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256, Sha512};

use crate::key::{ApproverKey, SigningKey};
use crate::wire::{Reader, put};

/// What the signature is for: a signature that somebody made for another purpose approves nothing.
pub const NAMESPACE: &str = "holdfast-approval";

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";
/// Characters of a line, as OpenSSH wraps them.
const LINE: usize = 70;
/// Longest block that is read: a signature has under 400 bytes.
const MAX_BLOCK_BYTES: usize = 4_096;
/// The flag by which a token says that somebody touched it.
const TOUCHED: u8 = 0x01;

/// A signature over a request, not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    key: ApproverKey,
    namespace: String,
    hash: Hash,
    signature: [u8; 64],
    /// What a token adds: its flags and its counter.
    token: Option<(u8, u32)>,
}

/// How the request was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// Why a text is no approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an approval: expected a signature as `holdfast approve` or `ssh-keygen -Y sign` writes it, from \
     -----BEGIN SSH SIGNATURE----- on, by an Ed25519 key, and not changed since"
)]
pub struct ApprovalError;

/// Why a signature approves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It was made for something else.
    #[error("it was made for another purpose; sign with -n {NAMESPACE}")]
    Namespace,
    /// The bytes are others, or the key is.
    #[error("it is not a signature over this request: the request was changed, or another one was signed")]
    Mismatch,
    /// Nobody touched the token.
    #[error("the token signed without being touched; sign again with a key that asks for that")]
    NotTouched,
}

impl Approval {
    /// Approves a request.
    pub fn sign(request: &[u8], key: &SigningKey) -> Self {
        let hash = Hash::Sha512;
        let signature = key.sign(&signed_data(NAMESPACE, hash, request));
        Self { key: key.public(), namespace: NAMESPACE.to_owned(), hash, signature, token: None }
    }

    /// Who signed, if the signature holds.
    pub fn key(&self) -> &ApproverKey {
        &self.key
    }

    /// Whether the key signed these bytes, to approve them.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify(&self, request: &[u8]) -> Result<(), BadSignature> {
        if self.namespace != NAMESPACE {
            return Err(BadSignature::Namespace);
        }
        let data = signed_data(&self.namespace, self.hash, request);
        let message = match (self.key.application_hash(), self.token) {
            (Some(application), Some((flags, counter))) => {
                if flags & TOUCHED == 0 {
                    return Err(BadSignature::NotTouched);
                }
                let hash = Sha256::digest(&data);
                [application.as_slice(), &[flags], &counter.to_be_bytes(), &hash].concat()
            }
            (None, None) => data,
            (Some(_), None) | (None, Some(_)) => return Err(BadSignature::Mismatch),
        };
        if self.key.signed(&message, &self.signature) { Ok(()) } else { Err(BadSignature::Mismatch) }
    }

    /// The text of the approval, a file of its own or part of one.
    pub fn to_text(&self) -> String {
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&VERSION.to_be_bytes());
        put(&mut blob, &self.key.wire());
        put(&mut blob, self.namespace.as_bytes());
        put(&mut blob, b"");
        put(&mut blob, self.hash.as_str().as_bytes());
        let mut signature = Vec::new();
        put(&mut signature, self.key.kind().as_bytes());
        put(&mut signature, &self.signature);
        if let Some((flags, counter)) = self.token {
            signature.push(flags);
            signature.extend_from_slice(&counter.to_be_bytes());
        }
        put(&mut blob, &signature);
        let mut text = String::from(BEGIN);
        for (place, character) in BASE64.encode(blob).chars().enumerate() {
            if place > 0 && place % LINE == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push('\n');
        text.push_str(END);
        text
    }

    /// Reads approvals, one after the other and nothing between them.
    ///
    /// # Errors
    /// [`ApprovalError`] if anything else is there, or nothing.
    pub fn all_from(text: &str) -> Result<Vec<Self>, ApprovalError> {
        let mut rest = text;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let end = rest.find(END).ok_or(ApprovalError)?.saturating_add(END.len());
            let (block, after) = rest.split_at_checked(end).ok_or(ApprovalError)?;
            found.push(Self::from_block(block).ok_or(ApprovalError)?);
            rest = after;
        }
        if found.is_empty() { Err(ApprovalError) } else { Ok(found) }
    }

    /// Where approvals begin in a text that begins with something else.
    pub(crate) fn begins_at(text: &str) -> Option<usize> {
        text.find(BEGIN)
    }

    fn from_block(block: &str) -> Option<Self> {
        if block.len() > MAX_BLOCK_BYTES {
            return None;
        }
        let body = block.strip_prefix(BEGIN)?.strip_suffix(END)?;
        let encoded: String = body.chars().filter(|character| *character != '\n').collect();
        let blob = BASE64.decode(encoded).ok()?;
        let read = Self::from_blob(&blob)?;
        // One form only: a changed line break is a changed approval.
        (read.to_text() == block).then_some(read)
    }

    fn from_blob(blob: &[u8]) -> Option<Self> {
        let mut read = Reader(blob.strip_prefix(MAGIC)?);
        if read.number()? != VERSION {
            return None;
        }
        let key = ApproverKey::from_wire(read.string()?)?;
        let namespace = core::str::from_utf8(read.string()?).ok()?.to_owned();
        if !read.string()?.is_empty() {
            return None;
        }
        let hash = match read.string()? {
            b"sha256" => Hash::Sha256,
            b"sha512" => Hash::Sha512,
            _ => return None,
        };
        let mut signature = Reader(read.string()?);
        read.end()?;
        if signature.string()? != key.kind().as_bytes() {
            return None;
        }
        let bytes = signature.string()?.try_into().ok()?;
        let token = match key.application_hash() {
            Some(_) => Some((signature.byte()?, signature.number()?)),
            None => None,
        };
        signature.end()?;
        Some(Self { key, namespace, hash, signature: bytes, token })
    }
}

/// What is signed of a file (PROTOCOL.sshsig, section 3).
fn signed_data(namespace: &str, hash: Hash, message: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    put(&mut data, namespace.as_bytes());
    put(&mut data, b"");
    put(&mut data, hash.as_str().as_bytes());
    put(&mut data, &hash.of(message));
    data
}

#[cfg(test)]
mod tests {
    //! Proves: signatures of tokens hold only with a touch, and only for their application.
    use zeroize::Zeroizing;

    use super::*;

    /// What a token would sign.
    fn by_token(seed: u8, request: &[u8], flags: u8) -> Approval {
        let secret = SigningKey::from_seed(Zeroizing::new([seed; 32])).unwrap();
        let mut wire = Vec::new();
        put(&mut wire, b"sk-ssh-ed25519@openssh.com");
        put(&mut wire, &secret.public().point());
        put(&mut wire, b"ssh:");
        let key = ApproverKey::from_wire(&wire).unwrap();
        let hash = Sha256::digest(signed_data(NAMESPACE, Hash::Sha512, request));
        let message = [key.application_hash().unwrap().as_slice(), &[flags], &7_u32.to_be_bytes(), &hash].concat();
        let signature = secret.sign(&message);
        Approval { key, namespace: NAMESPACE.to_owned(), hash: Hash::Sha512, signature, token: Some((flags, 7)) }
    }

    #[test]
    fn tokens_sign_when_touched() {
        let good = by_token(1, b"request", TOUCHED);
        assert_eq!(good.verify(b"request"), Ok(()));
        assert_eq!(good.verify(b"requesT"), Err(BadSignature::Mismatch));
        assert_eq!(by_token(1, b"request", 0).verify(b"request"), Err(BadSignature::NotTouched));
        let mut counted = good.clone();
        counted.token = Some((TOUCHED, 8));
        assert_eq!(counted.verify(b"request"), Err(BadSignature::Mismatch));
        assert_eq!(Approval::all_from(&good.to_text()).unwrap(), [good]);
    }

    #[test]
    fn a_signature_for_another_purpose_approves_nothing() {
        let key = SigningKey::from_seed(Zeroizing::new([2; 32])).unwrap();
        let mut other = Approval::sign(b"request", &key);
        other.namespace = "file".to_owned();
        other.signature = key.sign(&signed_data("file", Hash::Sha512, b"request"));
        assert_eq!(other.verify(b"request"), Err(BadSignature::Namespace));
    }
}
