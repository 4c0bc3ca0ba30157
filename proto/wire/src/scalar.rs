//! Numbers, byte strings and flags.
//!
//! Numbers are decimal strings or bare JSON integers and never pass through a float; byte strings
//! have exactly their length and are never padded.

use core::fmt;
use core::marker::PhantomData;

use holdfast_domain::gloas::{BuilderIndex, Uint256};
use holdfast_domain::message::BitlistBytes;
use holdfast_domain::root::parse_hex;
use holdfast_domain::{Epoch, ForkVersion, GenesisValidatorsRoot, ObservedRoot, PublicKey, Slot, ValidatorIndex};
use serde::de::{Deserializer, Visitor};

use crate::error::Excerpt;
use crate::json::{Expected, Trail, Wire, read_list};

/// A value written as a JSON string, or as a bare integer where it is a number.
trait Scalar: Wire {
    fn from_text(text: &str) -> Option<Self>;

    fn from_integer(_: u64) -> Option<Self> {
        None
    }
}

fn read_scalar<'de, D: Deserializer<'de>, T: Scalar>(input: D, trail: &mut Trail) -> Result<T, D::Error> {
    struct Read<'t, T>(&'t mut Trail, PhantomData<T>);

    impl<T: Scalar> Visitor<'_> for Read<'_, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&T::expected())
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text).ok_or_else(|| self.0.reject(T::expected(), Some(Excerpt::of(text))))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            T::from_integer(number).ok_or_else(|| self.0.reject(T::expected(), None))
        }
    }

    input.deserialize_any(Read(trail, PhantomData))
}

macro_rules! scalar {
    ($($name:ty, $expected:expr;)+) => {$(
        impl Wire for $name {
            fn expected() -> Expected {
                $expected.into()
            }

            fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
                read_scalar(input, trail)
            }
        }
    )+};
}

scalar! {
    u64, "a uint64 as a decimal string or a JSON integer, 0 to 18446744073709551615";
    Uint256, "a uint256 as a decimal string";
    PublicKey, "a BLS public key: 48 bytes of hex (96 digits, 0x optional)";
    ByteString, "bytes as hex (an even number of digits, 0x optional)";
}

impl Scalar for u64 {
    fn from_text(text: &str) -> Option<Self> {
        // `parse` alone would also accept a leading `+`.
        if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok() } else { None }
    }

    fn from_integer(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl Scalar for Uint256 {
    fn from_text(text: &str) -> Option<Self> {
        Self::from_decimal(text)
    }

    fn from_integer(number: u64) -> Option<Self> {
        Self::from_decimal(&number.to_string())
    }
}

impl Scalar for PublicKey {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn expected() -> Expected {
        format!("{N} bytes of hex ({} digits, 0x optional)", N * 2).into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        read_scalar(input, trail)
    }
}

impl<const N: usize> Scalar for [u8; N] {
    fn from_text(text: &str) -> Option<Self> {
        parse_hex(text)
    }
}

/// Hex of any length. Its own type because a list of numbers would be a `Vec` too.
struct ByteString(Vec<u8>);

impl Scalar for ByteString {
    fn from_text(text: &str) -> Option<Self> {
        holdfast_domain::root::parse_hex_bytes(text).map(Self)
    }
}

impl Wire for Vec<u8> {
    fn expected() -> Expected {
        ByteString::expected()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        ByteString::read(input, trail).map(|bytes| bytes.0)
    }
}

/// The Merkle proof of a deposit in a block body.
impl Wire for [[u8; 32]; 33] {
    fn expected() -> Expected {
        "a list of exactly 33 hashes".into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        let hashes: Vec<[u8; 32]> = read_list(input, trail, 33)?;
        Self::try_from(hashes).map_err(|_| trail.reject(Self::expected(), None))
    }
}

impl Wire for bool {
    fn expected() -> Expected {
        "true or false".into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, _: &mut Trail) -> Result<Self, D::Error> {
        serde::Deserialize::deserialize(input)
    }
}

/// Types that are written like the one they wrap.
macro_rules! transparent {
    ($($name:ty, $inner:ty, $wrap:expr;)+) => {$(
        impl Wire for $name {
            fn expected() -> Expected {
                <$inner>::expected()
            }

            fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
                <$inner>::read(input, trail).map($wrap)
            }
        }
    )+};
}

transparent! {
    Slot, u64, Slot;
    Epoch, u64, Epoch;
    ValidatorIndex, u64, ValidatorIndex;
    BuilderIndex, u64, BuilderIndex;
    ForkVersion, [u8; 4], ForkVersion;
    GenesisValidatorsRoot, [u8; 32], GenesisValidatorsRoot;
    ObservedRoot, [u8; 32], ObservedRoot::new;
    BitlistBytes, Vec<u8>, BitlistBytes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WireError;
    use crate::json;

    fn read<T: Wire>(text: &str) -> Result<T, WireError> {
        json::read(serde_json::from_str(text).unwrap(), "x")
    }

    #[test]
    fn numbers_have_the_whole_range_as_string_or_integer() {
        for number in [0, 1, 9_007_199_254_740_993, u64::MAX] {
            assert_eq!(read::<u64>(&number.to_string()), Ok(number));
            assert_eq!(read::<u64>(&format!("\"{number}\"")), Ok(number));
        }
        assert_eq!(read::<u64>("\"007\""), Ok(7));
        assert_eq!(read::<u64>(r#""\u0031\u0032""#), Ok(12));
    }

    #[test]
    fn anything_else_is_no_number() {
        let overflow = ["18446744073709551616", "99999999999999999999999999"];
        let others = ["-1", "-0", "1.0", "1e3", "1E0", "0.5", "1e400", "null", "true", "[]", "{}"];
        for bare in overflow.into_iter().chain(others) {
            assert_eq!(read::<u64>(bare).unwrap_err().reason(), "malformed_request", "{bare}");
        }
        for text in ["", "+1", "-1", " 1", "1 ", "0x1", "1.0", "1e3", "1_000", "１", "18446744073709551616"] {
            let error = read::<u64>(&format!("\"{text}\"")).unwrap_err();
            assert!(error.to_string().contains("expected a uint64 as a decimal string"), "{text}: {error}");
        }
    }

    #[test]
    fn byte_strings_have_exactly_their_length() {
        let bytes = Ok([0xab, 0xcd, 0xef, 0x01]);
        for text in ["0xabcdef01", "0XABCDEF01", "abcdef01", "AbCdEf01"] {
            assert_eq!(read::<[u8; 4]>(&format!("\"{text}\"")), bytes);
        }
        for text in
            ["", "0x", "0xabcdef", "0xabcdef0", "0xabcdef0100", "0xabcdefg1", "0x0xabcdef", " abcdef01", "0xabcdéf"]
        {
            let error = read::<[u8; 4]>(&format!("\"{text}\"")).unwrap_err();
            assert!(error.to_string().contains("expected 4 bytes of hex (8 digits, 0x optional)"), "{text}: {error}");
        }
        assert!(read::<[u8; 4]>("305419896").is_err(), "a number is no byte string");
        assert_eq!(read::<Vec<u8>>("\"0x\""), Ok(Vec::new()));
        assert_eq!(read::<Vec<u8>>("\"0102\""), Ok(vec![1, 2]));
        assert!(read::<Vec<u8>>("\"0x102\"").is_err());
        assert!(read::<Vec<u8>>("[1, 2]").is_err());
    }

    #[test]
    fn uint256_is_little_endian_and_bounded() {
        let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert_eq!(read(&format!("\"{max}\"")), Ok(Uint256([0xff; 32])));
        let mut seven = [0; 32];
        seven[0] = 7;
        assert_eq!(read("\"7\""), Ok(Uint256(seven)));
        assert_eq!(read("7"), Ok(Uint256(seven)));
        let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
        for text in [over, "", "+7", "-7", "0x7", "7.0", "７"] {
            assert!(read::<Uint256>(&format!("\"{text}\"")).is_err(), "{text}");
        }
    }

    #[test]
    fn flags_are_json_booleans_only() {
        assert_eq!(read("true"), Ok(true));
        assert_eq!(read("false"), Ok(false));
        for text in ["\"true\"", "1", "0", "null"] {
            assert!(read::<bool>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_deposit_proof_has_33_hashes() {
        let list = |length| format!("[{}]", vec![format!("\"{}\"", "0b".repeat(32)); length].join(","));
        assert_eq!(read(&list(33)), Ok([[0x0b; 32]; 33]));
        for length in [0, 32, 34] {
            let error = read::<[[u8; 32]; 33]>(&list(length)).unwrap_err();
            assert!(error.to_string().contains("a list of exactly 33 hashes"), "{error}");
        }
    }
}
