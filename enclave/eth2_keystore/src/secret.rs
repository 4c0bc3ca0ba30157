//! Private keys: checked, zeroed, derived.
//!
//! Guarantees: a [`Secret`] is a number with 0 < sk < r; it is never printed, cloned or serialized, and
//! its bytes are zeroed on drop. Derivation is EIP-2333, through blst.

use blst::min_pk::SecretKey;
use zeroize::Zeroizing;

use crate::error::{KeystoreError, SecretFlaw};
use crate::path::DerivationPath;
use crate::public_key::PublicKey;
use crate::seed::Seed;

/// A BLS12-381 private key.
///
/// ```compile_fail,E0277
/// # let secret = eth2_keystore::Secret::from_be_bytes(&[1; 32]).ok().unwrap();
/// println!("{secret:?}");
/// ```
///
/// ```compile_fail,E0599
/// # let secret = eth2_keystore::Secret::from_be_bytes(&[1; 32]).ok().unwrap();
/// let copy = secret.clone();
/// ```
pub struct Secret(SecretKey); // SecretKey zeroes itself on drop

impl Secret {
    /// Checks a big-endian private key. The caller wipes `bytes`.
    ///
    /// # Errors
    ///
    /// [`KeystoreError::BadSecret`] unless it is 32 bytes long and 0 < sk < r.
    pub fn from_be_bytes(bytes: &[u8]) -> Result<Self, KeystoreError> {
        if bytes.len() != 32 {
            return Err(KeystoreError::BadSecret(SecretFlaw::Length { bytes: bytes.len() }));
        }
        SecretKey::from_bytes(bytes).map(Self).map_err(|_| KeystoreError::BadSecret(SecretFlaw::OutOfRange))
    }

    /// The key at `path` of the tree that grows from `seed` (EIP-2333, EIP-2334).
    ///
    /// # Errors
    ///
    /// None in practice: a [`Seed`] is long enough.
    pub fn derive(seed: &Seed, path: &DerivationPath) -> Result<Self, KeystoreError> {
        let bytes = seed.as_bytes();
        let master =
            SecretKey::derive_master_eip2333(bytes).map_err(|_| KeystoreError::SeedTooShort { bytes: bytes.len() })?;
        Ok(path.indices().iter().fold(Self(master), |parent, index| parent.child(*index)))
    }

    /// The `index`th child of this key (EIP-2333 `derive_child_SK`). Takes a few milliseconds.
    #[must_use]
    pub fn child(&self, index: u32) -> Self {
        Self(self.0.derive_child_eip2333(index))
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.sk_to_pk().to_bytes())
    }

    /// Lends the 32 big-endian bytes of the key. The copy is wiped when `f` returns or panics.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8; 32]) -> R) -> R {
        f(&Zeroizing::new(self.0.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: the range of keys. Derivation is tested against vectors in tests/vectors.rs.

    use super::*;

    /// r of BLS12-381.
    const ORDER: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";

    fn flaw(bytes: &[u8]) -> Option<SecretFlaw> {
        match Secret::from_be_bytes(bytes) {
            Err(KeystoreError::BadSecret(flaw)) => Some(flaw),
            Err(error) => panic!("{error}"),
            Ok(secret) => {
                secret.expose(|exposed| assert_eq!(exposed.as_slice(), bytes));
                None
            }
        }
    }

    #[test]
    fn keys_lie_between_zero_and_the_group_order() {
        let mut order = hex::decode(ORDER).unwrap();
        assert_eq!(flaw(&order), Some(SecretFlaw::OutOfRange));
        order[31] = 0;
        assert_eq!(flaw(&order), None);
        assert_eq!(flaw(&[0xff; 32]), Some(SecretFlaw::OutOfRange));
        let mut small = [0; 32];
        assert_eq!(flaw(&small), Some(SecretFlaw::OutOfRange));
        small[31] = 1;
        assert_eq!(flaw(&small), None);
        for bytes in [0, 31, 33, 64] {
            assert_eq!(flaw(&vec![1; bytes]), Some(SecretFlaw::Length { bytes }));
        }
    }
}
