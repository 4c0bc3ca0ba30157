//! People as holders of shares: their public keys, and their private ones where they open a share.
//!
//! Why it exists: a share is worth something only if nobody but its holder reads it, with tools they have already. A share
//! is a file of the age format (age-encryption.org/v1) to one recipient, so the `age` tool opens it, with or without this
//! program. Two kinds of key: age's own (X25519, `age1…`) and OpenSSH's Ed25519 (`ssh-ed25519 …`).
//!
//! Why our own: the format for one recipient and one short text is small, and every primitive in it is one of the TLS
//! library's that is linked anyway. The crate for it brings 76 others along, among them RSA with a known timing leak.
//!
//! Guarantees: what is made here opens with age, and the other way round (tested against it); a private key is read from a
//! file that is its owner's alone, used, and wiped. Not read: keys behind a passphrase or in a token. Their holders decrypt with `age`
//! and hand the line it prints to `holdfast kek unseal`.

use std::path::Path;

use holdfast_enclave::provider::shares::{Identity, Recipient};
use holdfast_enclave::{ProviderError, durable};
use zeroize::Zeroizing;

mod age;
mod bech32;
mod montgomery;
mod ssh;

use age::{Key, Secret};

/// A public key of a person.
pub struct Person {
    label: String,
    key: Key,
}

impl Person {
    /// Reads `age1…`, or `ssh-ed25519 …` as it is in an `.pub` file.
    ///
    /// # Errors
    /// [`ProviderError::Person`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, ProviderError> {
        let text = text.trim();
        let unusable = |why: &str| failed(format!("the recipient {text:?}"), why);
        if text.starts_with("ssh-") {
            let wire = ssh::public_key(text).ok_or_else(|| {
                unusable("of OpenSSH's keys, \"ssh-ed25519 …\" can be used, whole and on one line; or take an age key")
            })?;
            // A comment may be anything; the key is what matters.
            let label = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            return Ok(Self { label, key: Key::Ssh(wire) });
        }
        let key = bech32::decode("age", text).ok_or_else(|| {
            unusable("it is no age key (\"age1…\", from age-keygen) and no OpenSSH key (\"ssh-ed25519 …\"), or has a slip in it")
        })?;
        Ok(Self { label: text.to_owned(), key: Key::X25519(key) })
    }
}

impl Recipient for Person {
    fn label(&self) -> &str {
        &self.label
    }

    fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, ProviderError> {
        age::encrypt(&self.key, text).map_err(|why| failed(format!("the recipient {}", self.label), why))
    }
}

/// A private key.
pub struct Private(Secret);

impl Private {
    /// Reads a file of age-keygen, or an OpenSSH private key without a passphrase.
    ///
    /// # Errors
    /// [`ProviderError::Person`] if there is none that can be used; [`ProviderError::Permissions`] if others can read it.
    pub fn read(path: &Path) -> Result<Vec<Self>, ProviderError> {
        let unusable = |why: Box<dyn std::error::Error + Send + Sync>| ProviderError::Person {
            what: format!("the identity in {}", path.display()),
            source: why,
        };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| unusable(error.into()))?);
        durable::check_private_permissions(path)?;
        if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
            return ssh::private_key(&text).map(|secret| vec![Self(secret)]).map_err(|why| unusable(why.into()));
        }
        let mut found = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key = bech32::decode("age-secret-key-", line);
            let key = key.ok_or_else(|| {
                unusable("it has a line that is no age identity (\"AGE-SECRET-KEY-1…\"); decrypt with `age`, and give what it prints to `holdfast kek unseal`".into())
            })?;
            found.push(Self(Secret::X25519(Zeroizing::new(key))));
        }
        if found.is_empty() { Err(unusable("it is empty".into())) } else { Ok(found) }
    }
}

impl Identity for Private {
    fn decrypt(&self, ciphertext: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, ProviderError> {
        age::decrypt(&self.0, ciphertext).map_err(|why| failed("the encrypted share".to_owned(), why))
    }
}

fn failed(what: String, why: &str) -> ProviderError {
    ProviderError::Person { what, source: why.into() }
}
