//! Passwords as EIP-2335 wants them, so that the same password typed on different systems opens the
//! same file.
//!
//! Guarantees: a [`Password`] is normalised, and its bytes are zeroed on drop.

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::error::KeystoreError;

/// A password: NFKD-normalised, without control characters, as UTF-8 (EIP-2335, "Password requirements").
///
/// Line feeds are control characters, so a password file with a trailing newline needs no trimming.
/// Spaces stay. The empty password is legal.
///
/// ```compile_fail,E0277
/// println!("{:?}", eth2_keystore::Password::new("secret"));
/// ```
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Normalises a password. The caller wipes `text`.
    pub fn new(text: &str) -> Self {
        // Two passes: the first finds the length, so that the second never has to move the secret.
        let normalised = || text.nfkd().filter(|character| !is_control(*character));
        let length = normalised().map(char::len_utf8).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        let mut utf8 = Zeroizing::new([0; 4]);
        for character in normalised() {
            bytes.extend_from_slice(character.encode_utf8(utf8.as_mut_slice()).as_bytes());
        }
        Self(bytes)
    }

    /// Normalises a password given as UTF-8, such as the content of a password file. The caller wipes
    /// `bytes`.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::PasswordNotUtf8`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeystoreError> {
        std::str::from_utf8(bytes).map(Self::new).map_err(|_| KeystoreError::PasswordNotUtf8)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// C0, DEL and C1, which the EIP strips.
fn is_control(character: char) -> bool {
    matches!(character, '\0'..='\x1f' | '\x7f'..='\u{9f}')
}

#[cfg(test)]
mod tests {
    //! Proved here: normalisation, by the cases of the EIP and its edges.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normalises_like_the_eip() {
        for (text, expected) in [
            ("𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑", "testpassword🔑"),
            ("", ""),
            (" pass ", " pass "),
            ("pass\r\n", "pass"),
            ("p\0a\x1f\x7fs\u{80}\u{9f}s", "pass"),
            ("a\u{a0}b", "a b"),
            ("\u{fb01}anc\u{e9}", "fiance\u{301}"),
            ("\u{fdfa}", "صلى الله عليه وسلم"), // the longest expansion: 18 characters
        ] {
            assert_eq!(Password::new(text).as_bytes(), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn control_codes_end_where_the_eip_says() {
        for kept in [' ', '~', '\u{a1}'] {
            assert_eq!(Password::new(&kept.to_string()).as_bytes(), kept.to_string().as_bytes());
        }
    }

    #[test]
    fn other_encodings_are_refused() {
        let latin_1 = b"caf\xe9";
        assert!(matches!(Password::from_bytes(latin_1), Err(KeystoreError::PasswordNotUtf8)));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in any::<String>()) {
            let once = Password::new(&text);
            let twice = Password::from_bytes(once.as_bytes()).unwrap();
            prop_assert_eq!(once.as_bytes(), twice.as_bytes());
            prop_assert!(once.0.capacity() >= once.0.len());
        }
    }
}
