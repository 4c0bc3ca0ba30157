//! What every backend must do: one suite, for the one in this process, for a vault process and for a vault in a machine
//! that was really booted (tests/enclave includes this file too).

use std::sync::Arc;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::backend::{Held, KeyBackend, OpenError};
use holdfast_enclave::{
    ActiveKey, DataKey, Keyring, ProcessBackend, SealError, SecretKey, SignError, SignErrorClass, generate, seal,
};
use holdfast_slashing_db::SealedKey;

use super::support::{self, Bench, NETWORK, attestation, block};

/// The data key of these tests, known so that a place can have it encrypted. Nowhere before it is asked for, so that it
/// can be looked for.
pub(crate) fn plain() -> [u8; 32] {
    let first = std::hint::black_box(0x91_u8);
    std::array::from_fn(|index| first.wrapping_add(u8::try_from(index).unwrap().wrapping_mul(37)))
}

/// The same as a data key.
pub(crate) fn data_key() -> DataKey {
    DataKey::take(&mut plain()).unwrap()
}

/// A backend, and what is peculiar to where it computes.
pub(crate) trait Place {
    fn backend(&self) -> Arc<dyn KeyBackend>;

    /// Makes keys ready that are sealed under the data key.
    fn open(&self, chain: GenesisValidatorsRoot, keys: &[(PublicKey, &SealedKey)]) -> Vec<Result<Held, OpenError>> {
        self.backend().open(&data_key(), chain, keys).unwrap()
    }

    /// A number that stands for a slot and a target epoch that may be signed now: behind every fence set before, and higher
    /// than the last.
    fn next(&self) -> u64;
}

/// A place that can be lost, and found again.
pub(crate) trait Mortal: Place {
    fn vault(&self) -> &ProcessBackend;

    /// The present, as a number of [`Place::next`].
    fn present(&self) -> u64;

    /// Ends the vault where it stands.
    fn kill(&self);

    /// Brings another, where it does not come by itself. What waits for that may block.
    fn revive(&self) {}
}

/// The signature blst makes in one go, without any of our code.
pub(crate) fn reference(secret: &SecretKey, root: &[u8]) -> [u8; 96] {
    const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
    secret.expose_be_bytes(|bytes| blst::min_pk::SecretKey::from_bytes(bytes).unwrap().sign(root, DST, &[]).to_bytes())
}

/// Keys that the place opened.
pub(crate) fn hold(place: &dyn Place, chain: GenesisValidatorsRoot, secrets: &[SecretKey]) -> Vec<Held> {
    let data_key = data_key();
    let sealed: Vec<(PublicKey, SealedKey)> =
        secrets.iter().map(|key| (*key.public_key(), seal::seal(&data_key, chain, key).unwrap())).collect();
    let keys: Vec<(PublicKey, &SealedKey)> = sealed.iter().map(|(key, sealed)| (*key, sealed)).collect();
    place.open(chain, &keys).into_iter().map(Result::unwrap).collect()
}

/// The same, registered with the guard of `bench`.
pub(crate) async fn open(place: &dyn Place, bench: &Bench, secrets: &[SecretKey]) -> Vec<ActiveKey> {
    let mut keys = Vec::new();
    for held in hold(place, NETWORK, secrets) {
        let registration = bench.register(*held.public_key()).await;
        keys.push(ActiveKey::held(registration, held, place.backend()).unwrap());
    }
    keys
}

/// Everything that a backend must do while nothing is lost.
pub(crate) async fn backend(place: &dyn Place) {
    let bench = Bench::new();
    bad_keys(place);
    let secrets: Vec<SecretKey> = (0..20).map(|_| generate::secret_key().unwrap()).collect();
    let keyring = Keyring::new();
    for key in open(place, &bench, &secrets).await {
        assert_eq!(key.backend_name(), place.backend().name());
        assert!(keyring.insert(key).is_none());
    }

    // All keys sign the same attestation at the same time, and each its own proposal.
    let (message, proposal) = (attestation(place.next()), block(place.next()));
    let mut signing = tokio::task::JoinSet::new();
    for secret in &secrets {
        for message in [&message, &proposal] {
            let permit = bench.permit(secret.public_key(), message).await;
            let root = permit.root();
            let expected = reference(secret, root.as_bytes());
            let active = keyring.get(secret.public_key()).unwrap();
            signing.spawn(async move {
                let signature = active.sign(permit).await.unwrap().signature;
                assert_eq!(*signature.as_bytes(), expected);
                assert!(holdfast_enclave_sys::verify(active.key().as_bytes(), root.as_bytes(), signature.as_bytes()));
            });
        }
    }
    let mut count = 0;
    while let Some(done) = signing.join_next().await {
        done.unwrap();
        count += 1;
    }
    assert_eq!(count, 40);

    // The same again is signed again, and is the same.
    let permit = bench.permit(secrets[0].public_key(), &message).await;
    let again = keyring.get(secrets[0].public_key()).unwrap().sign(permit).await.unwrap().signature;
    assert_eq!(*again.as_bytes(), reference(&secrets[0], support::root(&message).as_bytes()));

    // A permit is good for its own key only.
    let (first, second) = (secrets[0].public_key(), secrets[1].public_key());
    let permit = bench.permit(first, &attestation(place.next())).await;
    let error = keyring.get(second).unwrap().sign(permit).await.unwrap_err();
    assert!(matches!(&error, SignError::WrongKey { key, permit } if key == second && permit == first));
    assert_eq!((error.class(), error.reason()), (SignErrorClass::Bug, "wrong_key"));

    // A removed key is not found, and whoever holds it still can sign what was permitted.
    let permit = bench.permit(first, &attestation(place.next())).await;
    let removed = keyring.remove(first).unwrap();
    assert!(keyring.get(first).is_none() && keyring.len() == 19);
    assert!(removed.sign(permit).await.is_ok());
}

/// A vault that is lost is missed, another one takes its place, and nothing that the first may have signed is signed again.
pub(crate) async fn loss(place: &impl Mortal) {
    let (bench, backend) = (Bench::new(), place.vault());
    let secret = generate::secret_key().unwrap();
    let generation = *backend.generations().borrow();
    let keys = open(place, &bench, std::slice::from_ref(&secret)).await;
    let key = &keys[0];
    let permit = bench.permit(key.key(), &attestation(place.next())).await;
    assert!(key.sign(permit).await.is_ok());

    place.kill();
    let permit = bench.permit(key.key(), &block(place.next())).await;
    let error = key.sign(permit).await.unwrap_err();
    assert!(matches!(error, SignError::VaultDown), "{error}");
    assert_eq!((error.class(), error.reason()), (SignErrorClass::Unavailable, "vault_down"));

    place.revive();
    backend.generations().wait_for(|now| *now > generation).await.unwrap();
    // The new one has no keys yet.
    let permit = bench.permit(key.key(), &block(place.next())).await;
    assert!(matches!(key.sign(permit).await.unwrap_err(), SignError::VaultDown));

    // With its keys it signs again, behind a fence: what the first one may have signed is out of its reach.
    let early = place.present();
    hold(place, NETWORK, std::slice::from_ref(&secret));
    let permit = bench.permit(key.key(), &attestation(early)).await;
    let error = key.sign(permit).await.unwrap_err();
    assert_eq!(error.class(), SignErrorClass::Refused, "{error}");
    assert!(error.reason().ends_with("_below_watermark"), "{error}");
    let permit = bench.permit(key.key(), &block(place.next())).await;
    assert!(key.sign(permit).await.is_ok());
}

/// What is wrong with a sealed key is said in the same words, wherever it is opened; the others open.
fn bad_keys(place: &dyn Place) {
    let data_key = data_key();
    let [one, two] = [(); 2].map(|()| generate::secret_key().unwrap());
    let good = seal::seal(&data_key, NETWORK, &one).unwrap();
    let changed = |place: usize| {
        let mut bytes = good.as_bytes().to_vec();
        bytes[place] ^= 1;
        (*one.public_key(), SealedKey::new(bytes))
    };
    let foreign = seal::seal(&DataKey::generate().unwrap(), NETWORK, &one).unwrap();
    let keys = [
        changed(0),
        changed(84),
        changed(9),
        (*two.public_key(), SealedKey::new(good.as_bytes().to_vec())),
        (*one.public_key(), foreign),
        (*two.public_key(), seal::seal(&data_key, NETWORK, &two).unwrap()),
    ];
    let keys: Vec<(PublicKey, &SealedKey)> = keys.iter().map(|(key, sealed)| (*key, sealed)).collect();
    let opened = place.open(NETWORK, &keys);
    place.backend().forget(&[*two.public_key()]);
    let errors: Vec<&SealError> = opened
        .iter()
        .filter_map(|result| match result {
            Err(OpenError::Seal(error)) => Some(error),
            Err(other) => panic!("{other}"),
            Ok(_) => None,
        })
        .collect();
    assert!(
        matches!(
            errors.as_slice(),
            [
                SealError::UnknownVersion { version: 0, .. },
                SealError::Damaged { .. },
                SealError::WrongNetwork { .. },
                SealError::WrongPublicKey { .. },
                SealError::WrongDataKey { .. },
            ]
        ),
        "{errors:?}"
    );
    assert!(opened[5].is_ok());
}
