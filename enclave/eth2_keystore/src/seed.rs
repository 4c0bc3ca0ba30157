//! Seeds of key trees, from bytes or a mnemonic.
//!
//! Guarantees: a [`Seed`] is long enough for EIP-2333 and zeroed on drop.

use pbkdf2::pbkdf2_hmac;
use sha2::Sha512;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::error::KeystoreError;

/// The root of a tree of keys.
///
/// ```compile_fail,E0277
/// println!("{:?}", eth2_keystore::Seed::from_bytes(&[1; 32]).ok().unwrap());
/// ```
pub struct Seed(Zeroizing<Vec<u8>>);

impl Seed {
    /// Takes a seed as it is. The caller wipes `bytes`.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::SeedTooShort`] below 32 bytes (EIP-2333 `derive_master_SK`).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeystoreError> {
        if bytes.len() < 32 {
            return Err(KeystoreError::SeedTooShort { bytes: bytes.len() });
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// The seed of a mnemonic and its passphrase, which may be empty (BIP-39, "From mnemonic to seed").
    /// The caller wipes both texts.
    ///
    /// White space around and between words does not matter. Words are not looked up in a word list, so
    /// a misspelt one gives another seed: use [`Mnemonic::parse`](crate::Mnemonic::parse) for English ones, and
    /// compare a derived public key with a known one for others.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::MnemonicLength`] if the number of words is not one of BIP-39.
    pub fn from_mnemonic(mnemonic: &str, passphrase: &str) -> Result<Self, KeystoreError> {
        let words = mnemonic.split_whitespace().count();
        if !matches!(words, 12 | 15 | 18 | 21 | 24) {
            return Err(KeystoreError::MnemonicLength { words });
        }
        let words = mnemonic.split_whitespace();
        let phrase = words.enumerate().flat_map(|(index, word)| [if index == 0 { "" } else { " " }, word]);
        let phrase = nfkd(phrase);
        let salt = nfkd(["mnemonic", passphrase].into_iter());
        let mut seed = Zeroizing::new(vec![0; 64]);
        pbkdf2_hmac::<Sha512>(phrase.as_bytes(), salt.as_bytes(), 2048, &mut seed);
        Ok(Self(seed))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Lends its bytes: 64 for the seed of a mnemonic.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(&self.0)
    }
}

/// Joins and normalises. Two passes, so that growing never leaves a copy of the secret behind.
fn nfkd<'a>(parts: impl Iterator<Item = &'a str> + Clone) -> Zeroizing<String> {
    let characters = parts.flat_map(str::chars).nfkd();
    let length = characters.clone().map(char::len_utf8).sum();
    let mut text = Zeroizing::new(String::with_capacity(length));
    text.extend(characters);
    text
}

#[cfg(test)]
mod tests {
    //! Proved here: what is refused and what does not matter. Values are tested in tests/vectors.rs.

    use super::*;

    const WORDS: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";

    fn seed(mnemonic: &str, passphrase: &str) -> Vec<u8> {
        Seed::from_mnemonic(mnemonic, passphrase).ok().unwrap().as_bytes().to_vec()
    }

    #[test]
    fn white_space_and_normal_form_do_not_matter() {
        let expected = seed(WORDS, "caf\u{e9}");
        assert_eq!(expected.len(), 64);
        assert_eq!(seed(&format!("  {}\n", WORDS.replace(' ', "\t ")), "caf\u{e9}"), expected);
        assert_eq!(seed(&WORDS.replace(' ', "\u{3000}"), "cafe\u{301}"), expected);
        assert_ne!(seed(WORDS, "cafe"), expected);
        assert_ne!(seed(&WORDS.replace("yellow", "year"), "caf\u{e9}"), expected);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for words in [0, 1, 11, 13, 23, 25] {
            let result = Seed::from_mnemonic(&"zoo ".repeat(words), "");
            assert!(matches!(result, Err(KeystoreError::MnemonicLength { words: found }) if found == words));
        }
        assert!(matches!(Seed::from_bytes(&[1; 31]), Err(KeystoreError::SeedTooShort { bytes: 31 })));
        assert!(Seed::from_bytes(&[1; 32]).is_ok());
    }
}
