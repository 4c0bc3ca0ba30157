//! BLS public keys as the crate shows them: 48 bytes, compared and printed.

use std::fmt;
use std::str::FromStr;

use crate::error::Flaw;

/// A compressed BLS12-381 public key. From a file it is only a claim: it may not even be a point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 48]);

impl PublicKey {
    /// Wraps a compressed public key, unchecked.
    pub const fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The compressed public key.
    pub const fn to_bytes(self) -> [u8; 48] {
        self.0
    }

    /// 96 lower-case hex digits without prefix, as keystores write it.
    pub(crate) fn to_bare_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for PublicKey {
    type Err = Flaw;

    /// Reads 96 hex digits of any case, with or without `0x`: both are found in the wild.
    fn from_str(text: &str) -> Result<Self, Flaw> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let bytes = hex::decode(digits).map_err(|_| Flaw::NotHex)?;
        let found = bytes.len();
        bytes.try_into().map(Self).map_err(|_| Flaw::Length { expected: 48, found })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", self.to_bare_hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: both spellings are read, everything else is refused.

    use super::*;

    #[test]
    fn prefix_and_case_do_not_matter() {
        let key = PublicKey::from_bytes([0xab; 48]);
        for text in [key.to_string(), key.to_bare_hex(), key.to_bare_hex().to_uppercase()] {
            assert_eq!(text.parse(), Ok(key));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!("".parse::<PublicKey>(), Err(Flaw::Length { expected: 48, found: 0 }));
        assert_eq!("0xabab".parse::<PublicKey>(), Err(Flaw::Length { expected: 48, found: 2 }));
        assert_eq!("g".repeat(96).parse::<PublicKey>(), Err(Flaw::NotHex));
        assert_eq!("a".repeat(95).parse::<PublicKey>(), Err(Flaw::NotHex));
    }
}
