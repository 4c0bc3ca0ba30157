//! Small secrets of this program's own at rest: the seed of a signing key that is no validator's.
//!
//! Guarantees: a seed opens only with the data key, the network and the purpose it was sealed for; every byte is
//! authenticated.
//!
//! Format 1, 69 bytes: `version = 1 | data key fingerprint 8 | nonce 12 | ciphertext 32 | tag 16`. The associated data
//! is a label, everything before the nonce, the network root and the purpose.

use holdfast_domain::GenesisValidatorsRoot;
use zeroize::Zeroizing;

use crate::aead::{self, BOX_LEN, BoxError, FINGERPRINT_LEN, SECRET_LEN};
use crate::secret::DataKey;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"holdfast sealed seed";

/// Length of a sealed seed in bytes.
pub const SEALED_SEED_LEN: usize = 1 + FINGERPRINT_LEN + BOX_LEN;

/// What a seed is for. Words are part of what is authenticated: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedPurpose {
    /// Signs checkpoints of the journal.
    Checkpoints,
}

impl SeedPurpose {
    const fn word(self) -> &'static [u8] {
        match self {
            Self::Checkpoints => b"checkpoints",
        }
    }
}

/// Why a seed cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: allow getrandom in the sandbox profile")]
    Random(#[source] getrandom::Error),
    /// Not a sealed seed of this version.
    #[error("it is not a sealed key of this version")]
    Format,
    /// Sealed under another data key.
    #[error("it was sealed under another data key")]
    OtherDataKey,
    /// It was changed, or sealed for another network or purpose.
    #[error("it was changed, or belongs to another network")]
    Damaged,
}

fn header(data_key: &DataKey) -> Vec<u8> {
    [&[VERSION], data_key.fingerprint().as_slice()].concat()
}

fn associated_data(header: &[u8], network: &GenesisValidatorsRoot, purpose: SeedPurpose) -> Vec<u8> {
    [LABEL, header, &network.0, purpose.word()].concat()
}

/// Encrypts a seed for storage.
///
/// # Errors
/// [`SeedError::Random`].
pub fn seal(
    data_key: &DataKey,
    network: &GenesisValidatorsRoot,
    purpose: SeedPurpose,
    seed: &[u8; SECRET_LEN],
) -> Result<Vec<u8>, SeedError> {
    let mut out = header(data_key);
    let aad = associated_data(&out, network, purpose);
    let boxed = aead::encrypt(data_key.bytes(), &aad, seed).map_err(|error| match error {
        BoxError::Random(source) => SeedError::Random(source),
        BoxError::Unusable => SeedError::Damaged,
    })?;
    out.extend_from_slice(&boxed);
    Ok(out)
}

/// Decrypts a stored seed.
///
/// # Errors
/// [`SeedError`], which says whether another data key would open it.
pub fn open(
    data_key: &DataKey,
    network: &GenesisValidatorsRoot,
    purpose: SeedPurpose,
    sealed: &[u8],
) -> Result<Zeroizing<[u8; SECRET_LEN]>, SeedError> {
    let expected = header(data_key);
    let (found, boxed) = sealed.split_at_checked(expected.len()).ok_or(SeedError::Format)?;
    let boxed: &[u8; BOX_LEN] = boxed.try_into().map_err(|_| SeedError::Format)?;
    if found.first() != Some(&VERSION) {
        return Err(SeedError::Format);
    }
    if found != expected {
        return Err(SeedError::OtherDataKey);
    }
    aead::decrypt(data_key.bytes(), &associated_data(&expected, network, purpose), boxed).ok_or(SeedError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([4; 32]);
    const PURPOSE: SeedPurpose = SeedPurpose::Checkpoints;

    #[test]
    fn a_seed_opens_only_as_it_was_sealed() {
        let (key, other) = (DataKey::generate().unwrap(), DataKey::generate().unwrap());
        let sealed = seal(&key, &NETWORK, PURPOSE, &[7; 32]).unwrap();
        assert_eq!(*open(&key, &NETWORK, PURPOSE, &sealed).unwrap(), [7; 32]);
        assert!(matches!(open(&other, &NETWORK, PURPOSE, &sealed), Err(SeedError::OtherDataKey)));
        let elsewhere = GenesisValidatorsRoot([5; 32]);
        assert!(matches!(open(&key, &elsewhere, PURPOSE, &sealed), Err(SeedError::Damaged)));
        assert!(matches!(open(&key, &NETWORK, PURPOSE, &sealed[1..]), Err(SeedError::Format)));
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(open(&key, &NETWORK, PURPOSE, &changed).is_err(), "byte {place}");
        }
    }
}
