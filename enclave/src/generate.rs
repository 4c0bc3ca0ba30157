//! New private keys from the operating system's randomness.
//!
//! Guarantees: 256 random bits become a key by EIP-2333's `derive_master_SK`, so keys are uniform and
//! never zero; the random bits are wiped.

use eth2_keystore::{DerivationPath, PathError, Secret, Seed};
use zeroize::Zeroizing;

use crate::error::KeyError;
use crate::secret::SecretKey;

/// A new private key. It is derived from no mnemonic: what is not backed up is lost.
///
/// # Errors
///
/// [`KeyError::Random`] without randomness; [`KeyError::Unusable`] without memory.
pub fn secret_key() -> Result<SecretKey, KeyError> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice()).map_err(KeyError::Random)?;
    let seed = Seed::from_bytes(random.as_slice()).map_err(KeyError::Generate)?;
    let root: DerivationPath = "m".parse().map_err(|error: PathError| KeyError::Generate(error.into()))?;
    let secret = Secret::derive(&seed, &root).map_err(KeyError::Generate)?;
    let mut bytes = Zeroizing::new(secret.expose(|bytes| *bytes));
    SecretKey::from_be_bytes(&mut bytes)
}

#[cfg(test)]
mod tests {
    //! Proved here: keys differ, and belong to their public keys.

    use super::*;

    #[test]
    fn keys_differ_and_sign() {
        let (a, b) = (secret_key().unwrap(), secret_key().unwrap());
        assert_ne!(a.public_key(), b.public_key());
        let root = [7; 32];
        let signature = a.scalar().sign(&holdfast_enclave_sys::hash_to_g2(&root));
        assert!(holdfast_enclave_sys::verify(a.public_key().as_bytes(), &root, &signature));
        assert!(!holdfast_enclave_sys::verify(b.public_key().as_bytes(), &root, &signature));
    }
}
