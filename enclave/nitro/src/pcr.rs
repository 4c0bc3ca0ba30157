//! Measurements: what an enclave was started from, as SHA-384 registers.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA384, digest};

/// Length of a register in bytes.
const LENGTH: usize = 48;

/// Value of a platform configuration register: SHA-384(48 zero bytes ‖ SHA-384(what is measured)).
///
/// Shown and read as 96 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pcr([u8; LENGTH]);

/// A text or bytes that are no value of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PCR: 96 hexadecimal digits (48 bytes, SHA-384) are needed, with or without 0x")]
pub struct NotAPcr;

impl Pcr {
    /// What a register holds that nothing was measured into. As PCR0 it means an enclave in debug mode.
    pub const ZERO: Self = Self([0; LENGTH]);

    /// The register into which these parts, joined, were measured once.
    pub fn measure<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut inner = Context::new(&SHA384);
        parts.into_iter().for_each(|part| inner.update(part));
        let mut outer = Context::new(&SHA384);
        outer.update(&Self::ZERO.0);
        outer.update(inner.finish().as_ref());
        Self::of_digest(outer.finish().as_ref())
    }

    /// The register that holds this after one extension with a SHA-384 hash that was computed elsewhere.
    pub fn extended_with(hash: &[u8; LENGTH]) -> Self {
        let mut joined = [0; 2 * LENGTH];
        let (_, second) = joined.split_at_mut(LENGTH);
        second.copy_from_slice(hash);
        Self::of_digest(digest(&SHA384, &joined).as_ref())
    }

    /// PCR3 of an enclave whose parent instance has this role (its ARN, as text).
    pub fn of_role(arn: &str) -> Self {
        Self::measure([arn.as_bytes()])
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    fn of_digest(digest: &[u8]) -> Self {
        // SHA-384 has 48 bytes; anything else could not have come from it.
        Self(digest.try_into().unwrap_or([0; LENGTH]))
    }
}

impl TryFrom<&[u8]> for Pcr {
    type Error = NotAPcr;

    fn try_from(bytes: &[u8]) -> Result<Self, NotAPcr> {
        bytes.try_into().map(Self).map_err(|_| NotAPcr)
    }
}

impl FromStr for Pcr {
    type Err = NotAPcr;

    fn from_str(text: &str) -> Result<Self, NotAPcr> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mut bytes = [0; LENGTH];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NotAPcr)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Pcr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Pcr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_two_hashes() {
        let measured = Pcr::measure([b"a".as_slice(), b"bc"]);
        assert_eq!(measured, Pcr::measure([b"abc".as_slice()]), "only the joined bytes count, not the parts");
        assert_eq!(measured.to_string().len(), 96);
        let inner: [u8; LENGTH] = digest(&SHA384, b"abc").as_ref().try_into().unwrap();
        assert_eq!(measured, Pcr::extended_with(&inner));
        assert_eq!(measured.to_string(), GOLDEN);
    }

    /// SHA-384(48 zero bytes, SHA-384("abc")), computed with another library.
    const GOLDEN: &str =
        "93732e3733514a841c982cfa75ea76ab55fe011acb9cd980ef4523913c65be1b0998e04d77f8c174f81a82151619ca40";

    #[test]
    fn it_is_read_as_it_is_shown() {
        let pcr = Pcr::measure([b"x".as_slice()]);
        assert_eq!(pcr.to_string().parse(), Ok(pcr));
        assert_eq!(format!("0x{}", pcr.to_string().to_uppercase()).parse(), Ok(pcr));
        let long = format!("{pcr}00");
        for text in ["", "00", "0x", &pcr.to_string()[1..], long.as_str(), "zz"] {
            assert_eq!(text.parse::<Pcr>(), Err(NotAPcr), "{text}");
        }
    }
}
