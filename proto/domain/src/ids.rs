//! Who is signing: public keys and validator indices as types of their own, so that neither can
//! be taken for other bytes or numbers.

use core::fmt;

/// A validator's BLS12-381 public key: 48 bytes, compressed G1, as it stands on the wire.
///
/// Only the length is checked here; whether the bytes are a point is a matter for the crate that
/// holds keys. Ordering is byte order, which is also the order rows are locked in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 48]);

/// Why a text is not a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a BLS public key: expected 96 hexadecimal digits, with or without 0x")]
pub struct PublicKeyParseError;

impl PublicKey {
    /// Wraps 48 compressed bytes.
    pub const fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The 48 compressed bytes.
    pub const fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// The first four bytes as `0x` hex with an ellipsis, for logs and spans.
    pub fn short(&self) -> ShortKey<'_> {
        ShortKey(self)
    }
}

impl core::str::FromStr for PublicKey {
    type Err = PublicKeyParseError;

    /// Accepts any letter case, with or without `0x` (as Web3Signer does for the path parameter).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::root::parse_hex::<48>(text).map(Self).ok_or(PublicKeyParseError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::root::write_hex(f, &self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows a public key as `0x` and eight digits.
#[derive(Clone, Copy)]
pub struct ShortKey<'a>(&'a PublicKey);

impl fmt::Display for ShortKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, _) = self.0.0.split_at(4);
        crate::root::write_hex(f, head)?;
        f.write_str("…")
    }
}

/// A validator's index in the beacon state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValidatorIndex(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_with_and_without_prefix_and_written_in_lower_case() {
        let digits = "AB".repeat(48);
        let key: PublicKey = digits.parse().unwrap();
        assert_eq!(key, PublicKey::from_bytes([0xab; 48]));
        assert_eq!(format!("0x{digits}").parse(), Ok(key));
        assert_eq!(key.to_string(), format!("0x{}", "ab".repeat(48)));
        assert_eq!(key.short().to_string(), "0xabababab…");
        assert_eq!("0xab".parse::<PublicKey>(), Err(PublicKeyParseError));
        assert_eq!("zz".repeat(48).parse::<PublicKey>(), Err(PublicKeyParseError));
    }
}
