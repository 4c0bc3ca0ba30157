//! What every provider and every backend must do, as one suite each. A new one is one line at the end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::provider::file::FileProvider;
use holdfast_enclave::provider::passphrase::{Argon2Cost, PassphraseProvider};
use holdfast_enclave::provider::{DataKeyId, Provider, ProviderKind, WrapContext, Wrapped};
use holdfast_enclave::{
    ActiveKey, DataKey, KeyError, Keyring, LocalBackend, LocalOptions, Passphrase, ProviderError, SecretKey, SignError,
    SignErrorClass, VerifyPolicy, generate,
};
use support::{Bench, NETWORK, attestation, block};

const CONTEXT: WrapContext = WrapContext { network: NETWORK, data_key: DataKeyId(7) };

/// A provider, and another of the same kind with another secret.
struct Providers {
    ours: Box<dyn Provider>,
    theirs: Box<dyn Provider>,
}

fn refusal(provider: &dyn Provider, bytes: Vec<u8>, context: &WrapContext) -> ProviderError {
    match provider.unwrap(&Wrapped::from_bytes(bytes), context) {
        Ok(_) => panic!("it unwrapped"),
        Err(error) => error,
    }
}

fn provider_suite(Providers { ours, theirs }: &Providers) {
    let key = DataKey::generate().unwrap();
    let wrapped = ours.wrap(&key, &CONTEXT).unwrap();
    let bytes = wrapped.as_bytes().to_vec();
    let refusal = |bytes: &[u8], context| refusal(ours.as_ref(), bytes.to_vec(), context);

    assert_eq!(wrapped.provider().unwrap(), ours.kind());
    assert!(ours.unwrap(&wrapped, &CONTEXT).unwrap().matches(&key));
    assert_ne!(ours.wrap(&key, &CONTEXT).unwrap(), wrapped, "wrapping twice never repeats");

    let elsewhere = WrapContext { network: GenesisValidatorsRoot([1; 32]), ..CONTEXT };
    assert!(matches!(refusal(&bytes, &elsewhere), ProviderError::WrongNetwork { .. }));
    let mut near = CONTEXT;
    near.network.0[31] ^= 1;
    assert!(matches!(refusal(&bytes, &near), ProviderError::Damaged), "the whole root counts");
    let renamed = WrapContext { data_key: DataKeyId(8), ..CONTEXT };
    assert!(matches!(refusal(&bytes, &renamed), ProviderError::Damaged));
    assert!(matches!(
        theirs.unwrap(&wrapped, &CONTEXT).map(|_| ()),
        Err(ProviderError::WrongKeyFile | ProviderError::WrongPassphrase)
    ));

    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        refusal(&changed, &CONTEXT);
    }
    for len in (0..bytes.len()).step_by(5) {
        refusal(&bytes[..len], &CONTEXT);
    }
    refusal(&[bytes.as_slice(), &[0]].concat(), &CONTEXT);
}

#[test]
fn provider_file() {
    let dir = tempfile::tempdir().unwrap();
    let provider = |name: &str| Box::new(FileProvider::create(dir.path().join(name).join("file.key")).unwrap());
    provider_suite(&Providers { ours: provider("ours"), theirs: provider("theirs") });
}

fn passphrase_provider(text: &str) -> Box<dyn Provider> {
    let passphrase = Passphrase::new(text.to_owned()).unwrap();
    Box::new(PassphraseProvider::with_cost(passphrase, Argon2Cost::new(8 * 1024, 1, 1).unwrap()).unwrap())
}

#[test]
fn provider_passphrase() {
    provider_suite(&Providers {
        ours: passphrase_provider("correct horse battery staple"),
        theirs: passphrase_provider("incorrect horse"),
    });
}

#[test]
fn providers_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let file = FileProvider::create(FileProvider::default_path(dir.path())).unwrap();
    let passphrase = passphrase_provider("correct horse");
    let wrapped = file.wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
    let error = refusal(passphrase.as_ref(), wrapped.as_bytes().to_vec(), &CONTEXT);
    assert!(matches!(
        error,
        ProviderError::OtherProvider { found: ProviderKind::File, asked: ProviderKind::Passphrase }
    ));
    for kind in ProviderKind::ALL {
        assert_eq!(kind.name().parse::<ProviderKind>().unwrap(), kind);
    }
    assert!(matches!("kms".parse::<ProviderKind>(), Err(ProviderError::UnknownProvider { .. })));
}

#[test]
fn no_error_or_description_shows_the_passphrase() {
    let provider = passphrase_provider("planted secret");
    let wrapped = passphrase_provider("another").wrap(&DataKey::generate().unwrap(), &CONTEXT).unwrap();
    let error = refusal(provider.as_ref(), wrapped.as_bytes().to_vec(), &CONTEXT);
    for shown in [error.to_string(), format!("{error:?}"), provider.describe()] {
        assert!(!shown.contains("planted"), "{shown}");
    }
}

/// The signature blst makes in one go, without any of our code.
fn reference(secret: &SecretKey, root: &[u8]) -> [u8; 96] {
    const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
    secret.expose_be_bytes(|bytes| blst::min_pk::SecretKey::from_bytes(bytes).unwrap().sign(root, DST, &[]).to_bytes())
}

async fn backend_suite(backend: &Arc<dyn KeyBackend>) {
    let bench = Bench::new();
    let keyring = Keyring::new();
    let mut expected = Vec::new();
    let message = attestation(3);
    let proposal = block(100);
    for _ in 0..20 {
        let secret = generate::secret_key().unwrap();
        let root = support::root(&message);
        expected.push((
            *secret.public_key(),
            reference(&secret, root.as_bytes()),
            reference(&secret, support::root(&proposal).as_bytes()),
        ));
        let registration = bench.register(*secret.public_key()).await;
        assert!(keyring.insert(ActiveKey::new(registration, secret, Arc::clone(backend)).unwrap()).is_none());
    }

    // All keys sign the same attestation at the same time, and each its own proposal.
    let mut signing = tokio::task::JoinSet::new();
    for (key, of_message, of_proposal) in &expected {
        for (message, expected) in [(&message, *of_message), (&proposal, *of_proposal)] {
            let permit = bench.permit(key, message).await;
            let root = permit.root();
            let active = keyring.get(key).unwrap();
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

    // A permit is good for its own key only.
    let [(first, ..), (second, ..), ..] = expected.as_slice() else { panic!("there are twenty") };
    let permit = bench.permit(first, &attestation(4)).await;
    let error = keyring.get(second).unwrap().sign(permit).await.unwrap_err();
    assert!(matches!(&error, SignError::WrongKey { key, permit } if key == second && permit == first));
    assert_eq!((error.class(), error.reason()), (SignErrorClass::Bug, "wrong_key"));

    // A removed key is not found, and whoever holds it still can sign what was permitted.
    let permit = bench.permit(first, &attestation(5)).await;
    let removed = keyring.remove(first).unwrap();
    assert!(keyring.get(first).is_none() && keyring.len() == 19);
    assert!(removed.sign(permit).await.is_ok());
}

fn local(verify: VerifyPolicy) -> LocalBackend {
    LocalBackend::start(LocalOptions { verify, ..LocalOptions::default() }).unwrap()
}

#[tokio::test]
async fn backend_local() {
    backend_suite(&local(VerifyPolicy::TrustBackend).into()).await;
}

#[tokio::test]
async fn backend_local_verifying() {
    backend_suite(&local(VerifyPolicy::BeforeRelease).into()).await;
}

#[tokio::test]
async fn a_stopped_backend_says_so() {
    let bench = Bench::new();
    let backend = local(VerifyPolicy::TrustBackend);
    let secret = generate::secret_key().unwrap();
    let registration = bench.register(*secret.public_key()).await;
    let key = ActiveKey::new(registration, secret, backend.clone()).unwrap();
    let permit = bench.permit(key.key(), &attestation(1)).await;
    backend.shutdown();
    backend.shutdown();
    let error = key.sign(permit).await.unwrap_err();
    assert!(matches!(error, SignError::Stopped));
    assert_eq!(error.class(), SignErrorClass::Unavailable);
}

#[tokio::test]
async fn a_secret_of_another_key_is_not_paired() {
    let bench = Bench::new();
    let backend = local(VerifyPolicy::TrustBackend);
    let (registered, other) = (generate::secret_key().unwrap(), generate::secret_key().unwrap());
    let registration = bench.register(*registered.public_key()).await;
    let refused = ActiveKey::new(registration, other, backend).map(|_| ());
    assert!(matches!(refused, Err(KeyError::Mismatch { .. })));
}

/// Changes from many threads are all kept, and lists are sorted.
#[tokio::test]
async fn a_keyring_loses_no_change() {
    let bench = Bench::new();
    let backend = local(VerifyPolicy::TrustBackend);
    let mut keys = Vec::new();
    for _ in 0..24 {
        let secret = generate::secret_key().unwrap();
        let registration = bench.register(*secret.public_key()).await;
        keys.push(ActiveKey::new(registration, secret, backend.clone()).unwrap());
    }
    let mut expected: Vec<_> = keys.iter().map(|key| *key.key()).collect();
    expected.sort_unstable();
    let keyring = Keyring::new();
    assert!(keyring.is_empty());
    std::thread::scope(|scope| {
        while !keys.is_empty() {
            let some = keys.split_off(keys.len() - 3);
            let keyring = &keyring;
            scope.spawn(move || {
                let mut some = some.into_iter();
                keyring.insert(some.next().unwrap());
                keyring.insert_all(some);
            });
        }
    });
    assert_eq!(keyring.public_keys(), expected);
    let (gone, kept) = expected.split_at(8);
    std::thread::scope(|scope| {
        for key in gone {
            scope.spawn(|| assert!(keyring.remove(key).is_some()));
        }
    });
    assert_eq!(keyring.public_keys(), kept);
}
