//! Short messages encrypted the way EIP-2335 encrypts keys: the form in which ejector services keep signed exits.
//!
//! Guarantees: as for keystores, a file's cost is bounded before it is paid, and a message comes out only after the checksum
//! matched. The message is not a key, so nothing is derived from it, and the file names no public key.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::KeystoreError;
use crate::json;
use crate::kdf::{KdfChoice, KdfLimits};
use crate::keystore::Fields;
use crate::password::Password;

/// An encrypted message, as in a file.
#[derive(Clone)]
pub struct EncryptedMessage(Fields);

impl EncryptedMessage {
    /// Reads a file within the default [`KdfLimits`]. A keystore is one, too: its message is the key.
    ///
    /// # Errors
    /// As [`Keystore::from_json`](crate::Keystore::from_json), but for the length of the ciphertext.
    pub fn from_json(file: &[u8]) -> Result<Self, KeystoreError> {
        json::read(file, &KdfLimits::default()).map(Self)
    }

    /// Writes a file: indented JSON with a line feed at the end.
    pub fn to_json(&self) -> String {
        json::write(&self.0)
    }

    /// Encrypts a message with a random salt, vector and identifier.
    ///
    /// # Errors
    /// As [`Keystore::encrypt`](crate::Keystore::encrypt).
    pub fn encrypt(message: &[u8], password: &Password, kdf: KdfChoice) -> Result<Self, KeystoreError> {
        Fields::seal(message, password, kdf).map(Self)
    }

    /// Decrypts the message. As slow as the key derivation.
    ///
    /// # Errors
    /// [`KeystoreError::WrongPassword`] if the checksum does not match.
    pub fn decrypt(&self, password: &Password) -> Result<Zeroizing<Vec<u8>>, KeystoreError> {
        self.0.open(password)
    }
}

impl fmt::Debug for EncryptedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedMessage")
            .field("uuid", &self.0.uuid)
            .field("kdf", &self.0.kdf.choice())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_wrong_passwords_do_not_open() {
        let password = Password::new("a password");
        for message in [&b""[..], b"x", &[7; 33], &[9; 1_000]] {
            let file = EncryptedMessage::encrypt(message, &password, KdfChoice::Pbkdf2 { c: 2 }).unwrap().to_json();
            let read = EncryptedMessage::from_json(file.as_bytes()).unwrap();
            assert_eq!(read.decrypt(&password).unwrap().as_slice(), message);
            assert!(matches!(read.decrypt(&Password::new("another")), Err(KeystoreError::WrongPassword)));
            assert!(!file.contains("pubkey"), "{file}");
        }
    }
}
