//! Keys of approvers: Ed25519, as OpenSSH writes them, on disk or on a FIDO token.
//!
//! Guarantees: a secret key is wiped when it is dropped and never shown; a key in another form is refused with what to do.

use core::fmt;
use core::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as UNPADDED};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::wire::{Reader, put};

/// The two kinds of keys, as OpenSSH names them (RFC 8709; PROTOCOL.u2f).
const ED25519_KIND: &str = "ssh-ed25519";
const TOKEN_KIND: &str = "sk-ssh-ed25519@openssh.com";
/// What begins OpenSSH's file of a private key (PROTOCOL.key).
const OPENSSH_MAGIC: &[u8] = b"openssh-key-v1\0";
const OPENSSH_LABEL: &str = "OPENSSH PRIVATE KEY";
/// Longest name that a token binds a key to; OpenSSH's is `ssh:`.
const MAX_APPLICATION_BYTES: usize = 255;
/// Characters of a line in OpenSSH's files of keys.
const KEY_LINE: usize = 70;

/// The public key of somebody who approves.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApproverKey {
    point: [u8; 32],
    /// The application a token binds the key to; `None` for a key on disk.
    application: Option<String>,
}

/// What `ssh-keygen -l` shows of a key: `SHA256:` and the hash of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no key that can approve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A public key of another kind or in another form.
    #[error(
        "not a key that can approve: expected `ssh-ed25519 AAAA…` or `sk-ssh-ed25519@openssh.com AAAA…`, as in a file \
         ending in .pub; make one with `ssh-keygen -t ed25519` or `holdfast approvals keygen`"
    )]
    Public,
    /// A file that holds no private key.
    #[error(
        "not a private key: expected an Ed25519 key as ssh-keygen, `openssl genpkey` or `holdfast approvals keygen` write it"
    )]
    Private,
    /// A private key that asks for a passphrase, or lives in a token.
    #[error(
        "this key is protected by a passphrase or lives in a token: sign with \
         `ssh-keygen -Y sign -n holdfast-approval -f KEY REQUEST`, which asks for it, or asks your agent; the file \
         REQUEST.sig that it writes is the approval"
    )]
    Protected,
    /// A private key of another kind.
    #[error("this is no Ed25519 key; make one with `ssh-keygen -t ed25519` or `holdfast approvals keygen`")]
    Kind,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl ApproverKey {
    /// Reads the key as it goes over the wire.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut read = Reader(wire);
        let kind = read.string()?;
        let point = read.string()?.try_into().ok()?;
        let application = if kind == ED25519_KIND.as_bytes() {
            None
        } else if kind == TOKEN_KIND.as_bytes() {
            let application = core::str::from_utf8(read.string()?).ok()?;
            (application.len() <= MAX_APPLICATION_BYTES).then(|| Some(application.to_owned()))?
        } else {
            return None;
        };
        read.end()?;
        Some(Self { point, application })
    }

    /// The key as it goes over the wire.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        put(&mut wire, self.kind().as_bytes());
        put(&mut wire, &self.point);
        if let Some(application) = &self.application {
            put(&mut wire, application.as_bytes());
        }
        wire
    }

    /// The kind of key and of its signatures.
    pub(crate) fn kind(&self) -> &'static str {
        if self.application.is_some() { TOKEN_KIND } else { ED25519_KIND }
    }

    /// What a token hashes of the application; `None` for a key on disk.
    pub(crate) fn application_hash(&self) -> Option<[u8; 32]> {
        self.application.as_ref().map(|application| Sha256::digest(application.as_bytes()).into())
    }

    /// Whether the holder signed exactly these bytes.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.point).verify(message, signature).is_ok()
    }

    /// What `ssh-keygen -l` shows of it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(format!("SHA256:{}", UNPADDED.encode(Sha256::digest(self.wire()))))
    }

    /// The same key without what a token adds: two names of it are one key.
    pub(crate) fn point(&self) -> [u8; 32] {
        self.point
    }
}

impl fmt::Display for ApproverKey {
    /// As in OpenSSH's files, without a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), BASE64.encode(self.wire()))
    }
}

impl fmt::Debug for ApproverKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApproverKey({self})")
    }
}

impl FromStr for ApproverKey {
    type Err = KeyError;

    /// A line of a public key file; what follows the key is a comment.
    fn from_str(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_ascii_whitespace();
        let (kind, encoded) = (words.next().ok_or(KeyError::Public)?, words.next().ok_or(KeyError::Public)?);
        let wire = BASE64.decode(encoded).map_err(|_| KeyError::Public)?;
        Self::from_wire(&wire).filter(|key| key.kind() == kind).ok_or(KeyError::Public)
    }
}

/// The secret key of somebody who approves.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Option<Zeroizing<[u8; 32]>>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

impl SigningKey {
    /// The key of a seed of 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError`] if the library does not take it.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| KeyError::Private)?;
        Ok(Self { pair, seed: Some(seed) })
    }

    /// Reads a private key: OpenSSH's format without a passphrase, or PKCS#8 (RFC 8410) in PEM.
    ///
    /// # Errors
    /// [`KeyError`], which says what to do instead.
    pub fn from_file(text: &str) -> Result<Self, KeyError> {
        if let Some(bytes) = pem(text, OPENSSH_LABEL) {
            return Self::from_openssh(&bytes);
        }
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            return Err(KeyError::Protected);
        }
        let bytes = pem(text, "PRIVATE KEY").ok_or(KeyError::Private)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map_err(|_| KeyError::Kind)?;
        Ok(Self { pair, seed: None })
    }

    fn from_openssh(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut read = Reader(bytes.strip_prefix(OPENSSH_MAGIC).ok_or(KeyError::Private)?);
        let parts = (read.string(), read.string(), read.string(), read.number(), read.string(), read.string());
        let (Some(cipher), Some(kdf), Some(_), Some(1), Some(wire), Some(private)) = parts else {
            return Err(KeyError::Private);
        };
        if cipher != b"none" || kdf != b"none" {
            return Err(KeyError::Protected);
        }
        let public = ApproverKey::from_wire(wire).ok_or(KeyError::Kind)?;
        if public.application.is_some() {
            return Err(KeyError::Protected);
        }
        let seed = openssh_seed(private).ok_or(KeyError::Private)?;
        let key = Self::from_seed(seed)?;
        if key.public() == public { Ok(key) } else { Err(KeyError::Private) }
    }

    /// The file of this key in OpenSSH's format, without a passphrase; `None` for one that was not made from its seed.
    /// `check` is a random number, by which OpenSSH tells a wrong passphrase.
    pub fn to_openssh(&self, check: u32) -> Option<Zeroizing<Vec<u8>>> {
        let seed = self.seed.as_ref()?;
        let public = self.public();
        let mut private = Zeroizing::new(Vec::with_capacity(256));
        private.extend_from_slice(&check.to_be_bytes());
        private.extend_from_slice(&check.to_be_bytes());
        put(&mut private, ED25519_KIND.as_bytes());
        put(&mut private, &public.point);
        let both = Zeroizing::new([seed.as_slice(), &public.point].concat());
        put(&mut private, &both);
        put(&mut private, b"");
        // Filled up to the block length of a cipher that is not there.
        let missing = private.len().next_multiple_of(8).saturating_sub(private.len());
        private.extend((1_u8..).take(missing));
        let mut bytes = Zeroizing::new(OPENSSH_MAGIC.to_vec());
        put(&mut bytes, b"none");
        put(&mut bytes, b"none");
        put(&mut bytes, b"");
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        put(&mut bytes, &public.wire());
        put(&mut bytes, &private);
        let encoded = Zeroizing::new(BASE64.encode(bytes.as_slice()));
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
        for (place, character) in encoded.chars().enumerate() {
            if place > 0 && place % KEY_LINE == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END OPENSSH PRIVATE KEY-----\n");
        Some(Zeroizing::new(text.as_bytes().to_vec()))
    }

    /// The public half.
    pub fn public(&self) -> ApproverKey {
        let mut point = [0; 32];
        for (to, from) in point.iter_mut().zip(self.pair.public_key().as_ref()) {
            *to = *from;
        }
        ApproverKey { point, application: None }
    }

    /// Signs bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        for (to, from) in signature.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        signature
    }
}

/// The seed in the private part of OpenSSH's file.
fn openssh_seed(private: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut read = Reader(private);
    let (check, again) = (read.number()?, read.number()?);
    if check != again || read.string()? != ED25519_KIND.as_bytes() {
        return None;
    }
    read.string()?;
    let (seed, _public) = read.string()?.split_first_chunk::<32>()?;
    Some(Zeroizing::new(*seed))
}

/// The bytes between the lines of a PEM file with this label.
fn pem(text: &str, label: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body = Zeroizing::new(body.chars().filter(|character| !character.is_ascii_whitespace()).collect::<String>());
    BASE64.decode(body.as_bytes()).ok().map(Zeroizing::new)
}
