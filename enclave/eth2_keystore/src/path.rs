//! EIP-2334: which key of the tree is for what.
//!
//! Guarantees: a [`DerivationPath`] has at most [`DerivationPath::MAX_DEPTH`] levels, each an index below
//! 2^32, and prints exactly as it is read.

use std::fmt;
use std::str::FromStr;

/// The account level of EIP-2334: validator 0 of a mnemonic, validator 1, and so on. Not the index the
/// chain gives a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountIndex(u32);

impl AccountIndex {
    /// The `index`th account, from 0.
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The index, from 0.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A path from the master key to a key: `m`, then indices separated by slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DerivationPath(Vec<u32>);

/// Purpose of all BLS12-381 keys (EIP-2334).
const PURPOSE: u32 = 12381;
/// Coin type of Ethereum's consensus layer (EIP-2334).
const COIN_TYPE: u32 = 3600;

impl DerivationPath {
    /// Most levels below the master key. EIP-2334 uses five.
    pub const MAX_DEPTH: usize = 16;

    /// `m/12381/3600/account/0/0`: the key that signs a validator's duties.
    pub fn validator_signing(account: AccountIndex) -> Self {
        Self(vec![PURPOSE, COIN_TYPE, account.get(), 0, 0])
    }

    /// `m/12381/3600/account/0`: the key of a validator's BLS withdrawal credentials.
    pub fn validator_withdrawal(account: AccountIndex) -> Self {
        Self(vec![PURPOSE, COIN_TYPE, account.get(), 0])
    }

    /// The indices from the master key down.
    pub fn indices(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for DerivationPath {
    type Err = PathError;

    /// Reads `m` or `m/a/b/...`. Every child of EIP-2333 is hardened, so there are no `'` marks.
    fn from_str(text: &str) -> Result<Self, PathError> {
        let mut parts = text.split('/');
        if parts.next() != Some("m") {
            return Err(PathError::NoMaster);
        }
        let mut indices = Vec::new();
        for part in parts {
            let level = indices.len() + 1;
            if level > Self::MAX_DEPTH {
                return Err(PathError::TooDeep);
            }
            // Digits only, no sign; one spelling per number, so that printing gives the same text.
            let canonical = part == "0" || !part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let index = part.parse().ok().filter(|_| canonical && digits);
            indices.push(index.ok_or(PathError::NotAnIndex { level })?);
        }
        Ok(Self(indices))
    }
}

impl fmt::Display for DerivationPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        self.0.iter().try_for_each(|index| write!(f, "/{index}"))
    }
}

/// Why a text is not a derivation path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not start at the master key.
    #[error("it does not start with m")]
    NoMaster,
    /// A level is not a plain decimal number below 2^32.
    #[error("level {level} is not a number from 0 to 4294967295 without leading zeros or marks")]
    NotAnIndex {
        /// Which one, from 1.
        level: usize,
    },
    /// More levels than [`DerivationPath::MAX_DEPTH`].
    #[error("it has more than 16 levels")]
    TooDeep,
}

#[cfg(test)]
mod tests {
    //! Proved here: paths of EIP-2334 are built right; printing inverts reading; the rest is refused.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn validators_have_the_paths_of_eip_2334() {
        let account = AccountIndex::new(7);
        assert_eq!(DerivationPath::validator_signing(account).to_string(), "m/12381/3600/7/0/0");
        assert_eq!(DerivationPath::validator_withdrawal(account).to_string(), "m/12381/3600/7/0");
    }

    #[test]
    fn malformed_paths_are_refused() {
        for text in ["", "/", "M/1", "12381/3600", " m/1", "n", "mm/1"] {
            assert_eq!(text.parse::<DerivationPath>(), Err(PathError::NoMaster), "{text:?}");
        }
        for text in ["m/", "m//1", "m/0'", "m/+1", "m/-1", "m/01", "m/00", "m/ 1", "m/4294967296", "m/x", "m/1_0"] {
            assert_eq!(text.parse::<DerivationPath>(), Err(PathError::NotAnIndex { level: 1 }), "{text:?}");
        }
        let deepest = format!("m{}", "/1".repeat(DerivationPath::MAX_DEPTH));
        assert!(deepest.parse::<DerivationPath>().is_ok());
        assert_eq!(format!("{deepest}/1").parse::<DerivationPath>(), Err(PathError::TooDeep));
    }

    proptest! {
        #[test]
        fn printing_inverts_reading(indices in proptest::collection::vec(any::<u32>(), 0..=DerivationPath::MAX_DEPTH)) {
            let path = DerivationPath(indices.clone());
            let read: DerivationPath = path.to_string().parse().unwrap();
            prop_assert_eq!(read.indices(), &indices[..]);
        }

        #[test]
        fn what_is_read_prints_the_same(text in "m(/[0-9+' x]{1,11}){0,4}") {
            if let Ok(path) = text.parse::<DerivationPath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
