//! Prysm's wallet: all keys of a validator client in one file (`all-accounts.keystore.json`), encrypted together the way
//! EIP-2335 encrypts one.
//!
//! Guarantees: as for keystores, a file's cost is bounded before it is paid, and nothing comes out before the checksum
//! matched; a key comes out only if its public key is the one that stands beside it. Whatever is decrypted is wiped.
//!
//! Source of the shape: Prysm's local keymanager, and Rocket Pool's writer of the same file. Inside is a JSON object with
//! two lists of base64, `private_keys` and `public_keys`; the file has no `path` and no `pubkey`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Flaw, KeystoreError};
use crate::json::{self, Shape};
use crate::kdf::KdfLimits;
use crate::keystore::Fields;
use crate::password::Password;
use crate::public_key::PublicKey;
use crate::secret::Secret;

/// Longest file that is read as a wallet, in bytes: some 60 000 keys.
pub const MAX_WALLET_BYTES: usize = 16 * 1024 * 1024;

const PRIVATE_KEYS: &str = "private_keys";
const PUBLIC_KEYS: &str = "public_keys";

/// An encrypted wallet, as in a file.
#[derive(Clone)]
pub struct PrysmWallet(Fields);

impl PrysmWallet {
    /// Reads a file within the default [`KdfLimits`]. The key derivation is not run.
    ///
    /// # Errors
    /// As [`Keystore::from_json`](crate::Keystore::from_json), but for the length of the ciphertext, and up to
    /// [`MAX_WALLET_BYTES`].
    pub fn from_json(file: &[u8]) -> Result<Self, KeystoreError> {
        json::read_as(file, &KdfLimits::default(), Shape::Wallet).map(Self)
    }

    /// Decrypts the keys, in their order. As slow as the key derivation, once.
    ///
    /// # Errors
    /// [`KeystoreError::WrongPassword`] if the checksum does not match; [`KeystoreError::Malformed`] if what is inside is
    /// not a wallet's. For one key: [`KeystoreError::BadSecret`], or [`KeystoreError::PubkeyMismatch`] if the public key
    /// beside it is another's.
    pub fn decrypt(&self, password: &Password) -> Result<Vec<Result<Secret, KeystoreError>>, KeystoreError> {
        let plaintext = self.0.open(password)?;
        let malformed = |field, flaw| KeystoreError::Malformed { field, flaw };
        // The parser's own words could quote.
        let mut inside: Value = serde_json::from_slice(&plaintext)
            .map_err(|error| KeystoreError::NotJson { line: error.line(), column: error.column() })?;
        // Each secret text is taken out, so that it is wiped.
        let mut list = |field: &'static str| match inside.get_mut(field).map(Value::take) {
            Some(Value::Array(values)) => Ok(values
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(Zeroizing::new(text)),
                    _ => Err(malformed(field, Flaw::WrongType { expected: "base64" })),
                })
                .collect::<Vec<_>>()),
            // Go writes an empty list so.
            Some(Value::Null) => Ok(Vec::new()),
            Some(_) => Err(malformed(field, Flaw::WrongType { expected: "a list" })),
            None => Err(malformed(field, Flaw::Missing)),
        };
        let (secrets, publics) = (list(PRIVATE_KEYS)?, list(PUBLIC_KEYS)?);
        if secrets.len() != publics.len() {
            return Err(malformed(PUBLIC_KEYS, Flaw::Length { expected: secrets.len(), found: publics.len() }));
        }
        Ok(secrets.into_iter().zip(publics).map(|(secret, public)| one(&secret?, &public?)).collect())
    }
}

/// One key, and the public key that stands beside it.
fn one(secret: &str, public: &str) -> Result<Secret, KeystoreError> {
    let malformed = |field| move |_| KeystoreError::Malformed { field, flaw: Flaw::NotBase64 };
    // With room for what the decoder may write before it notices an excess.
    let (mut bytes, mut claimed) = (Zeroizing::new([0_u8; 66]), [0_u8; 66]);
    let len = BASE64.decode_slice(secret, bytes.as_mut_slice()).map_err(malformed(PRIVATE_KEYS))?;
    let secret = Secret::from_be_bytes(bytes.get(..len).unwrap_or_default())?;
    let len = BASE64.decode_slice(public, &mut claimed).map_err(malformed(PUBLIC_KEYS))?;
    let claimed: [u8; 48] = claimed
        .get(..len)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeystoreError::Malformed { field: PUBLIC_KEYS, flaw: Flaw::Length { expected: 48, found: len } })?;
    let (claimed, actual) = (PublicKey::from_bytes(claimed), secret.public_key());
    if claimed == actual { Ok(secret) } else { Err(KeystoreError::PubkeyMismatch { claimed, actual }) }
}

impl fmt::Debug for PrysmWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrysmWallet")
            .field("uuid", &self.0.uuid)
            .field("kdf", &self.0.kdf.choice())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what is inside is judged key by key. Whole files, made by another program, are in `tests/vectors.rs`.
    use super::*;
    use crate::kdf::KdfChoice;
    use crate::message::EncryptedMessage;

    fn open(inside: &str) -> Result<Vec<Result<Secret, KeystoreError>>, KeystoreError> {
        let password = Password::new("p");
        let file = EncryptedMessage::encrypt(inside.as_bytes(), &password, KdfChoice::Pbkdf2 { c: 1 }).unwrap();
        PrysmWallet::from_json(file.to_json().as_bytes()).unwrap().decrypt(&password)
    }

    #[test]
    fn a_bad_key_costs_no_other() {
        let secret = Secret::from_be_bytes(&[7; 32]).unwrap();
        let (private, public) = (BASE64.encode([7; 32]), BASE64.encode(secret.public_key().to_bytes()));
        let zero = BASE64.encode([0; 32]);
        let long = BASE64.encode([7; 99]);
        let keys = open(&format!(
            r#"{{"private_keys":["{private}","{private}","{zero}","?","{long}",7],"public_keys":["{public}","{}","{public}","{public}","{public}","{public}"]}}"#,
            BASE64.encode([1; 48])
        ))
        .unwrap();
        assert_eq!(keys[0].as_ref().ok().unwrap().public_key(), secret.public_key());
        assert!(matches!(keys[1], Err(KeystoreError::PubkeyMismatch { .. })));
        assert!(matches!(keys[2], Err(KeystoreError::BadSecret(_))));
        for key in &keys[3..] {
            assert!(matches!(key, Err(KeystoreError::Malformed { field: PRIVATE_KEYS, .. })));
        }
        assert_eq!(open(r#"{"private_keys":null,"public_keys":[]}"#).unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_wallet_is_refused_and_not_quoted() {
        for inside in
            ["", "hunter2", r#"{"private_keys":["hunter2"]}"#, r#"{"private_keys":["hunter2"],"public_keys":[]}"#, "[]"]
        {
            let error = open(inside).map(|_| ()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(PrysmWallet::from_json(&vec![b' '; MAX_WALLET_BYTES + 1]).is_err());
    }
}
