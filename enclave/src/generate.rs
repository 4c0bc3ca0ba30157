//! New private keys: of the operating system's randomness, or of a tree; and sealed before anybody has them.
//!
//! Guarantees: 256 random bits become a key by EIP-2333's `derive_master_SK`, so keys are uniform and
//! never zero; the random bits are wiped; of [`sealed`] keys only the public part is returned.

use eth2_keystore::{AccountIndex, DerivationPath, PathError, Secret, Seed};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::SealedKey;
use zeroize::Zeroizing;

use crate::ceremony::KeyTree;
use crate::error::{KeyError, SealError};
use crate::import::SealFor;
use crate::seal;
use crate::secret::SecretKey;

/// What new keys are made of.
#[derive(Clone, Copy)]
pub enum Origin<'a> {
    /// Randomness: what is not backed up is lost.
    Random,
    /// The tree of a mnemonic.
    Tree {
        /// The tree.
        tree: &'a KeyTree,
        /// The place of the first key; the others follow.
        first: AccountIndex,
    },
}

impl Origin<'_> {
    /// `count` keys in parts of at most `at_once`: what each part is made of, how many come before it, and how many it is.
    pub fn parts(self, count: u32, at_once: u32) -> impl Iterator<Item = (Self, u32, u32)> {
        let step = usize::try_from(at_once.max(1)).unwrap_or(usize::MAX);
        (0..count)
            .step_by(step)
            .map(move |done| (self.after(done), done, count.saturating_sub(done).min(at_once.max(1))))
    }

    /// What the keys are made of that come after so many. Beyond the last place of a tree it stays there, and making fails.
    fn after(self, done: u32) -> Self {
        match self {
            Self::Random => Self::Random,
            Self::Tree { tree, first } => {
                Self::Tree { tree, first: AccountIndex::new(first.get().saturating_add(done)) }
            }
        }
    }
}

/// A new key, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The public key.
    pub key: PublicKey,
    /// The private key, sealed.
    pub sealed: SealedKey,
    /// In a tree, the public key of BLS withdrawal credentials at the same place.
    pub withdrawal_key: Option<PublicKey>,
}

/// A new key could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The key itself.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The tree ends before the last of them.
    #[error("there are not that many places in a mnemonic")]
    NoPlace,
}

/// Makes keys and seals each at once, in the order of their places.
///
/// # Errors
/// [`GenerateError`]; then none was made.
pub fn sealed(origin: Origin<'_>, count: u32, sealed_for: SealFor<'_>) -> Result<Vec<Generated>, GenerateError> {
    let SealFor { data_key, network } = sealed_for;
    let one = |place: u32| {
        let (secret, withdrawal_key) = match origin {
            Origin::Random => (secret_key()?, None),
            Origin::Tree { tree, first } => {
                let account = first.get().checked_add(place).ok_or(GenerateError::NoPlace)?;
                let (secret, withdrawal_key) = tree.keys_at(AccountIndex::new(account))?;
                (secret, Some(withdrawal_key))
            }
        };
        Ok(Generated { key: *secret.public_key(), sealed: seal::seal(data_key, network, &secret)?, withdrawal_key })
    };
    (0..count).map(one).collect()
}

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
    //! Proved here: keys differ, and belong to their public keys; sealed ones are those of the tree, in order.

    #![allow(clippy::panic, reason = "a test fails by panicking")]

    use eth2_keystore::Mnemonic;
    use holdfast_domain::GenesisValidatorsRoot;

    use super::*;
    use crate::secret::DataKey;

    #[test]
    fn sealed_keys_are_those_of_the_tree() {
        const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([3; 32]);
        let mnemonic = Mnemonic::parse(&format!("{}about", "abandon ".repeat(11))).unwrap();
        let tree = KeyTree::new(&mnemonic, None).unwrap();
        let data_key = DataKey::generate().unwrap();
        let sealed_for = SealFor { data_key: &data_key, network: NETWORK };
        let first = AccountIndex::new(5);
        let made = sealed(Origin::Tree { tree: &tree, first }, 2, sealed_for).unwrap();
        assert_eq!(made.len(), 2);
        for (one, place) in made.iter().zip(5..) {
            let account = AccountIndex::new(place);
            assert_eq!(one.key, *tree.signing_key(account).unwrap().public_key());
            assert_eq!(one.withdrawal_key, Some(tree.withdrawal_public_key(account).unwrap()));
            assert_eq!(seal::open(&data_key, &one.key, NETWORK, &one.sealed).unwrap().public_key(), &one.key);
        }
        let places = |(origin, done, some)| match origin {
            Origin::Tree { first, .. } => (first.get(), done, some),
            Origin::Random => panic!("another origin"),
        };
        let parts: Vec<_> = Origin::Tree { tree: &tree, first }.parts(7, 3).map(places).collect();
        assert_eq!(parts, [(5, 0, 3), (8, 3, 3), (11, 6, 1)]);
        assert_eq!(Origin::Random.parts(0, 3).count(), 0);
        let random = sealed(Origin::Random, 3, sealed_for).unwrap();
        assert!(random.iter().all(|one| one.withdrawal_key.is_none()));
        assert_ne!(random[0].key, random[1].key);
        let last = AccountIndex::new(u32::MAX);
        let beyond = sealed(Origin::Tree { tree: &tree, first: last }, 2, sealed_for);
        assert!(matches!(beyond, Err(GenerateError::NoPlace)));
    }

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
