//! Keys that are born in the vault.
//!
//! Why it exists: a key that was made elsewhere was in the clear elsewhere once. What it guarantees: a private key that is
//! made here leaves sealed, under a data key that whoever asked named; in an enclave what leaves is attested, because whoever
//! carries the answer could put keys of his own in its place, and somebody would deposit for them.

use eth2_keystore::AccountIndex;
use holdfast_domain::GenesisValidatorsRoot;
pub use holdfast_vault_proto::limits::MAX_GENERATED;
use holdfast_vault_proto::limits::SEED;
use holdfast_vault_proto::{
    Answer, AttestedOrder, BoundKeys, DataKeyBytes, DataKeyCommitment, EncryptedSeed, Failure, GeneratedKey, Origin,
    SealedKeyBytes, VERSION,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::core::{Home, Vault};
use super::sandbox;
use crate::ceremony::KeyTree;
use crate::generate;
use crate::import::SealFor;
use crate::secret::DataKey;

/// Length of what is encrypted with a seed: the seed, the commitment of the data key, and the chain.
const WITH_SEED: usize = SEED + 32 + 32;

impl Vault {
    /// Makes keys and seals them under a data key that came in the clear.
    ///
    /// # Errors
    /// [`Failure::NotPinned`] before a chain is; [`Failure::PlainDataKey`] in an enclave; [`Failure::Internal`] without
    /// memory or randomness.
    pub(super) fn generate(
        &self,
        data_key: &mut DataKeyBytes,
        origin: &Origin,
        count: usize,
    ) -> Result<Vec<GeneratedKey>, Failure> {
        match &self.home {
            Home::Process => {}
            Home::Enclave(_) => return Err(Failure::PlainDataKey),
        }
        let network = self.genesis().ok_or(Failure::NotPinned)?;
        let data_key = DataKey::take(data_key.as_bytes_mut()).map_err(|_| Failure::Internal)?;
        let grown = match origin {
            Origin::Random => None,
            Origin::Tree { seed, first } => Some((KeyTree::of_seed(seed.as_bytes()), *first)),
        };
        make(grown, count, SealFor { data_key: &data_key, network })
    }

    /// Makes keys in an enclave, seals them under the data key that was named, and has that attested.
    ///
    /// # Errors
    /// [`Failure::OtherDataKey`] if that is not the one held; [`Failure::NotForThisBoot`] if the seed does not open, or was
    /// encrypted together with another data key or chain.
    pub(super) fn generate_attested(&mut self, order: &AttestedOrder) -> Result<(Vec<GeneratedKey>, Vec<u8>), Failure> {
        let network = self.genesis().ok_or(Failure::NotPinned)?;
        let inside = self.inside_mut()?;
        inside.holds(order.data_key)?;
        let grown = match &order.seed {
            None => None,
            Some(EncryptedSeed { first, wrapped }) => {
                let plain = inside.decrypt(WITH_SEED, |enclave| enclave.unwrap(wrapped))?;
                let (seed, context) = plain.split_at_checked(SEED).ok_or(Failure::NotForThisBoot)?;
                if *context != *seed_context(order.data_key, network) {
                    return Err(Failure::NotForThisBoot);
                }
                Some((KeyTree::of_seed(seed), *first))
            }
        };
        let data_key = inside.held().ok_or(Failure::OtherDataKey)?;
        let keys = make(grown, order.count, SealFor { data_key, network })?;
        let bound = bound(network, order.data_key, &keys).ok_or(Failure::Internal)?;
        let document = inside.attest(&order.nonce, &bound)?;
        Ok((keys, document))
    }
}

fn make<E>(
    grown: Option<(Result<KeyTree, E>, u32)>,
    count: usize,
    sealed_for: SealFor<'_>,
) -> Result<Vec<GeneratedKey>, Failure> {
    let count = u32::try_from(count).map_err(|_| Failure::Internal)?;
    let made = match grown {
        None => generate::sealed(generate::Origin::Random, count, sealed_for),
        Some((tree, first)) => {
            let tree = tree.map_err(|_| Failure::Internal)?;
            generate::sealed(generate::Origin::Tree { tree: &tree, first: AccountIndex::new(first) }, count, sealed_for)
        }
    };
    let wire = |one: generate::Generated| GeneratedKey {
        key: SealedKeyBytes { public_key: one.key, sealed: one.sealed.as_bytes().to_vec() },
        withdrawal_key: one.withdrawal_key,
    };
    let made = made.map_err(|error| internal(&error))?;
    Ok(made.into_iter().map(wire).collect())
}

/// The log has what the answer does not say.
fn internal(error: &generate::GenerateError) -> Failure {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    sandbox::say(&format!("a key was not made: {text}"));
    Failure::Internal
}

/// What is encrypted with a seed besides it: a host that carries it can have it used with no other data key.
fn seed_context(data_key: DataKeyCommitment, network: GenesisValidatorsRoot) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([data_key.0, network.0].concat())
}

/// A seed as an administrator sends it to an enclave; `None` for random keys. `wrap` encrypts to the enclave's key.
///
/// # Errors
/// Those of `wrap`.
pub fn encrypt_seed<E>(
    origin: generate::Origin<'_>,
    data_key: DataKeyCommitment,
    network: GenesisValidatorsRoot,
    wrap: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Option<EncryptedSeed>, E> {
    let generate::Origin::Tree { tree, first } = origin else { return Ok(None) };
    let plain = tree.expose_seed(|seed| {
        let mut plain = Zeroizing::new(Vec::with_capacity(WITH_SEED));
        plain.extend_from_slice(seed);
        plain.extend_from_slice(&seed_context(data_key, network));
        plain
    });
    Ok(Some(EncryptedSeed { first: first.get(), wrapped: wrap(&plain)? }))
}

/// The user data of the document that comes with these keys. `None` if they are more than one answer holds.
pub fn bound(network: GenesisValidatorsRoot, data_key: DataKeyCommitment, keys: &[GeneratedKey]) -> Option<Vec<u8>> {
    let frame = Answer::Generated(keys.to_vec()).frame(1)?;
    let digest = Sha256::digest(frame.body()).into();
    Some(BoundKeys { version: VERSION, chain: network, data_key, digest }.encode())
}
