//! Keys that another place seals: the vault of an enclave, whose data key is not in this process.
//!
//! Why it exists: a keystore is decrypted here and its key sealed at once, so that no key waits in the clear. Where the data
//! key is elsewhere, a key of this run takes its place until the other sealed each. Nobody keeps that one.
//! What it guarantees: what is stored was sealed there; a key that was not is answered with the reason, and is not stored.

use std::sync::Arc;

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave::import::Imported;
use holdfast_enclave::{DataKey, SecretKey, seal};
use holdfast_slashing_db::SealedKey;

use crate::custody::CustodyError;
use crate::keymanager::Incoming;
use crate::outcome::chain;

/// Has one key sealed. Blocks.
type Seal = Box<dyn Fn(&SecretKey) -> Result<SealedKey, CustodyError> + Send + Sync>;

/// The other place.
pub(crate) struct Elsewhere {
    meanwhile: Arc<DataKey>,
    seal: Seal,
}

impl Elsewhere {
    /// A place that seals so.
    ///
    /// # Errors
    /// [`CustodyError`] without randomness or memory.
    pub(crate) fn new(
        seal: impl Fn(&SecretKey) -> Result<SealedKey, CustodyError> + Send + Sync + 'static,
    ) -> Result<Self, CustodyError> {
        Ok(Self { meanwhile: Arc::new(DataKey::generate()?), seal: Box::new(seal) })
    }

    /// What keys are sealed under here until the other place seals them.
    pub(super) fn meanwhile(&self) -> Arc<DataKey> {
        Arc::clone(&self.meanwhile)
    }

    /// Has keys sealed there, in their order; or why one was not. Blocks.
    pub(super) fn seal_all(
        &self,
        keys: Vec<Incoming>,
        network: GenesisValidatorsRoot,
    ) -> Vec<Result<Incoming, String>> {
        let one = |incoming: Incoming| {
            let Imported { public_key, sealed } = &incoming.key;
            let secret = seal::open(&self.meanwhile, public_key, network, sealed).map_err(CustodyError::Seal)?;
            let key = Imported { public_key: *public_key, sealed: (self.seal)(&secret)? };
            Ok(Incoming { key, ..incoming })
        };
        keys.into_iter().map(|key| one(key).map_err(|error: CustodyError| chain(&error))).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what is stored is what the other place sealed, and what it did not seal is not.
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

    use holdfast_enclave::generate;
    use holdfast_slashing_db::{EntryWatermark, KeyOrigin, Labels};

    use super::*;

    const NETWORK: GenesisValidatorsRoot = GenesisValidatorsRoot([7; 32]);

    #[test]
    fn keys_are_sealed_there_and_nothing_else_is_kept() {
        let theirs = Arc::new(DataKey::generate().unwrap());
        let [good, bad] = [(); 2].map(|()| generate::secret_key().unwrap());
        let refused = *bad.public_key();
        let place = {
            let theirs = Arc::clone(&theirs);
            Elsewhere::new(move |secret| {
                if *secret.public_key() == refused {
                    return Err(CustodyError::NoPassphrase);
                }
                Ok(seal::seal(&theirs, NETWORK, secret)?)
            })
            .unwrap()
        };
        let meanwhile = place.meanwhile();
        let incoming = |secret: &SecretKey| Incoming {
            key: Imported {
                public_key: *secret.public_key(),
                sealed: seal::seal(&meanwhile, NETWORK, secret).unwrap(),
            },
            entry: EntryWatermark::Now,
            origin: KeyOrigin::Imported,
            labels: Labels::new(),
        };
        let (first, mut damaged) = (incoming(&good), incoming(&good));
        damaged.key.public_key = refused;
        let answers = place.seal_all(vec![first, incoming(&bad), damaged], NETWORK);
        let [Ok(stored), Err(reason), Err(_)] = answers.as_slice() else { panic!("{} answers", answers.len()) };
        assert_eq!(*reason, chain(&CustodyError::NoPassphrase));
        let opened = seal::open(&theirs, good.public_key(), NETWORK, &stored.key.sealed).unwrap();
        assert_eq!(opened.public_key(), good.public_key());
        assert!(seal::open(&meanwhile, good.public_key(), NETWORK, &stored.key.sealed).is_err());
    }
}
