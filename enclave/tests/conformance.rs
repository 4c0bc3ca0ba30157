//! What every provider and every backend must do, as one suite each. A new one is one line at the end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "only a part of it is for this one")]
#[path = "support/suite.rs"]
mod suite;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::GenesisValidatorsRoot;
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::provider::file::FileProvider;
use holdfast_enclave::provider::passphrase::{Argon2Cost, PassphraseProvider};
use holdfast_enclave::provider::{DataKeyId, Provider, ProviderKind, WrapContext, Wrapped};
use holdfast_enclave::{
    ActiveKey, DataKey, KeyError, Keyring, LocalBackend, LocalOptions, Passphrase, ProviderError, SignError,
    SignErrorClass, VerifyPolicy, generate,
};
use support::{Bench, NETWORK, attestation};

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

fn local(verify: VerifyPolicy) -> LocalBackend {
    LocalBackend::start(LocalOptions { verify, ..LocalOptions::default() }).unwrap()
}

/// This process, which signs whatever is permitted.
struct Here {
    backend: LocalBackend,
    last: AtomicU64,
}

impl suite::Place for Here {
    fn backend(&self) -> Arc<dyn KeyBackend> {
        self.backend.clone().into()
    }

    fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }
}

#[tokio::test]
async fn backend_local() {
    suite::backend(&Here { backend: local(VerifyPolicy::TrustBackend), last: AtomicU64::new(100) }).await;
}

#[tokio::test]
async fn backend_local_verifying() {
    suite::backend(&Here { backend: local(VerifyPolicy::BeforeRelease), last: AtomicU64::new(100) }).await;
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
