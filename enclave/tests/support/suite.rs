//! What every backend must do: one suite, for the one in this process and for those elsewhere.

use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_enclave::backend::{KeyBackend, OpenError};
use holdfast_enclave::{ActiveKey, DataKey, Keyring, SealError, SecretKey, SignError, SignErrorClass, generate, seal};
use holdfast_slashing_db::SealedKey;

use crate::support::{self, Bench, NETWORK, attestation, block};

/// The signature blst makes in one go, without any of our code.
pub(crate) fn reference(secret: &SecretKey, root: &[u8]) -> [u8; 96] {
    const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
    secret.expose_be_bytes(|bytes| blst::min_pk::SecretKey::from_bytes(bytes).unwrap().sign(root, DST, &[]).to_bytes())
}

/// Keys that the backend opened, registered with the guard of `bench`.
pub(crate) async fn open(
    backend: &Arc<dyn KeyBackend>,
    bench: &Bench,
    data_key: &Arc<DataKey>,
    secrets: &[SecretKey],
) -> Vec<ActiveKey> {
    let sealed: Vec<(PublicKey, SealedKey)> =
        secrets.iter().map(|key| (*key.public_key(), seal::seal(data_key, NETWORK, key).unwrap())).collect();
    let (place, data_key) = (Arc::clone(backend), Arc::clone(data_key));
    let opened = tokio::task::spawn_blocking(move || {
        let keys: Vec<(PublicKey, &SealedKey)> = sealed.iter().map(|(key, sealed)| (*key, sealed)).collect();
        place.open(&data_key, NETWORK, &keys).unwrap()
    });
    let mut keys = Vec::new();
    for (held, secret) in opened.await.unwrap().into_iter().zip(secrets) {
        let registration = bench.register(*secret.public_key()).await;
        keys.push(ActiveKey::held(registration, held.unwrap(), Arc::clone(backend)).unwrap());
    }
    keys
}

/// `next` gives numbers that stand for a slot and a target epoch which may be signed now, each higher than the last.
pub(crate) async fn backend(backend: &Arc<dyn KeyBackend>, mut next: impl FnMut() -> u64) {
    let bench = Bench::new();
    let data_key = Arc::new(DataKey::generate().unwrap());
    bad_keys(backend, &data_key).await;
    let secrets: Vec<SecretKey> = (0..20).map(|_| generate::secret_key().unwrap()).collect();
    let keyring = Keyring::new();
    for key in open(backend, &bench, &data_key, &secrets).await {
        assert_eq!(key.backend_name(), backend.name());
        assert!(keyring.insert(key).is_none());
    }

    // All keys sign the same attestation at the same time, and each its own proposal.
    let (message, proposal) = (attestation(next()), block(next()));
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
    let permit = bench.permit(first, &attestation(next())).await;
    let error = keyring.get(second).unwrap().sign(permit).await.unwrap_err();
    assert!(matches!(&error, SignError::WrongKey { key, permit } if key == second && permit == first));
    assert_eq!((error.class(), error.reason()), (SignErrorClass::Bug, "wrong_key"));

    // A removed key is not found, and whoever holds it still can sign what was permitted.
    let permit = bench.permit(first, &attestation(next())).await;
    let removed = keyring.remove(first).unwrap();
    assert!(keyring.get(first).is_none() && keyring.len() == 19);
    assert!(removed.sign(permit).await.is_ok());
}

/// What is wrong with a sealed key is said in the same words, wherever it is opened; the others open.
async fn bad_keys(backend: &Arc<dyn KeyBackend>, data_key: &Arc<DataKey>) {
    let [one, two] = [(); 2].map(|()| generate::secret_key().unwrap());
    let good = seal::seal(data_key, NETWORK, &one).unwrap();
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
        (*two.public_key(), seal::seal(data_key, NETWORK, &two).unwrap()),
    ];
    let (backend, data_key) = (Arc::clone(backend), Arc::clone(data_key));
    let opened = tokio::task::spawn_blocking(move || {
        let keys: Vec<(PublicKey, &SealedKey)> = keys.iter().map(|(key, sealed)| (*key, sealed)).collect();
        let opened = backend.open(&data_key, NETWORK, &keys).unwrap();
        backend.forget(&[*two.public_key()]);
        opened
    });
    let opened = opened.await.unwrap();
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
