//! Roots: what is hashed, what is signed, and what somebody merely claims.
//!
//! The three are different types because confusing them is how a signer signs something it never
//! looked at. A [`SigningRoot`] has no public constructor.

use core::fmt;

/// `hash_tree_root` of a message: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectRoot(pub(crate) [u8; 32]);

/// The 32 bytes a BLS signature is made over. Computed from a typed message and its domain by
/// [`crate::intent::SigningIntent`], never parsed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SigningRoot(pub(crate) [u8; 32]);

/// A signing root that came from outside: a client's claim, an imported history, a stored row.
/// It can be compared with a [`SigningRoot`] and written down, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObservedRoot([u8; 32]);

macro_rules! root_fmt {
    ($name:ident) => {
        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
    };
}
root_fmt!(ObjectRoot);
root_fmt!(SigningRoot);
root_fmt!(ObservedRoot);

impl ObservedRoot {
    /// Takes 32 bytes from outside.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether the claim equals the computed root.
    pub fn matches(&self, computed: &SigningRoot) -> bool {
        self.0 == computed.0
    }
}

impl From<SigningRoot> for ObservedRoot {
    fn from(root: SigningRoot) -> Self {
        Self(root.0)
    }
}

/// Writes `0x` and lower-case digits.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// Parses exactly `N` bytes of hex, any case, `0x` optional. `None` if it is anything else.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text).as_bytes();
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let mut out = [0u8; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(out)
}

/// Parses any even number of hex digits, any case, `0x` optional.
pub fn parse_hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text).as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some((nibble(*high)? << 4) | nibble(*low)?),
            _ => None,
        })
        .collect()
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_length_and_any_case() {
        assert_eq!(parse_hex("0x01fF"), Some([0x01, 0xff]));
        assert_eq!(parse_hex("01ff"), Some([0x01, 0xff]));
        assert_eq!(parse_hex("0X01FF"), Some([0x01, 0xff]));
        for text in ["0x01f", "0x01", "0x01ff00", "0x01fg", "0x0x01", "", " 01ff", "0x+1ff", "0x01é"] {
            assert_eq!(parse_hex::<2>(text), None, "{text:?}");
        }
        assert_eq!(parse_hex::<0>("0x"), Some([]));
        assert_eq!(parse_hex_bytes("0x"), Some(vec![]));
        assert_eq!(parse_hex_bytes("0xAb12"), Some(vec![0xab, 0x12]));
        assert_eq!((parse_hex_bytes("0x1"), parse_hex_bytes("0xzz")), (None, None));
    }

    #[test]
    fn a_claim_matches_only_its_root() {
        let root = SigningRoot([5; 32]);
        assert!(ObservedRoot::from(root).matches(&root));
        assert!(!ObservedRoot::new([4; 32]).matches(&root));
        assert_eq!(root.to_string(), format!("0x{}", "05".repeat(32)));
    }
}
