//! Proved here: what is sealed in one run opens in the next, with either provider; a key file is
//! never replaced; a directory open to others, a second opener and another chain are refused; a key that
//! is switched off is known and refused.

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arc_swap::ArcSwap;
use holdfast_domain::{Epoch, Fork, ForkInfo, Message, PublicKey, UnixMillis, Unslashable};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::provider::file::FileProvider;
use holdfast_enclave::{LocalBackend, LocalOptions, ProviderError, generate, seal};
use holdfast_slashing_db::{CallerId, EntryWatermark, KeyOrigin, NewKey, Refusal, Switch, Tombstone};
use holdfast_wire::web3signer::SignRequest;

use super::*;
use crate::config::{KeyProvider, KeyProviders, NetworkChoice};
use crate::metrics::Metrics;
use crate::outcome::Exit;
use crate::pipeline::{KeysReady, Rejection, Signer};
use crate::policy::{Given, KeysOfLabels, PolicyStore, RuleSources};
use crate::traces::Course;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_750_000_000_000)
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.data.dir = dir.join("data");
    config
}

async fn opened(config: &Config) -> Result<Custody, CustodyError> {
    let mut custody = open_sealed(config, Arc::new(Noon)).await?;
    custody.open_data_key(config).await?;
    Ok(custody)
}

/// Makes a key and puts it into custody.
async fn add_key(custody: &Custody, data_key: &DataKey) -> PublicKey {
    let secret = generate::secret_key().unwrap();
    let key = NewKey {
        key: *secret.public_key(),
        sealed: seal::seal(data_key, custody.genesis_validators_root, &secret).unwrap(),
        origin: KeyOrigin::Generated,
        label: None,
        labels: holdfast_slashing_db::Labels::new(),
        registered_by: CallerId::new("test"),
    };
    custody.guard.register(key, EntryWatermark::NeverSigned, Tombstone::Refuse).await.unwrap();
    *secret.public_key()
}

fn backend() -> Arc<dyn KeyBackend> {
    let options = LocalOptions { threads: NonZeroUsize::MIN, ..LocalOptions::default() };
    LocalBackend::start(options).unwrap().into()
}

fn error(result: Result<Custody, CustodyError>) -> CustodyError {
    result.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn what_is_sealed_in_one_run_opens_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut custody = opened(&config).await.unwrap();
    assert!(custody.data_key.is_none() && custody.protected_by.is_none());
    let data_key = custody.ensure_data_key(&config).await.unwrap();
    let key = add_key(&custody, &data_key).await;
    custody.guard.shutdown().await;
    drop(custody);

    let mut custody = opened(&config).await.unwrap();
    let again = custody.ensure_data_key(&config).await.unwrap();
    assert!(again.matches(&data_key), "the data key was made anew");
    let unsealed = unseal_all(&mut custody, &config, &backend()).await.unwrap();
    assert_eq!(unsealed.keyring.public_keys(), [key]);
    assert!(unsealed.failed.is_empty());
    custody.guard.shutdown().await;
}

#[tokio::test]
async fn a_passphrase_file_protects_and_a_wrong_one_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let passphrase = |name: &str, text: &str| {
        let path = dir.path().join(name);
        durable::write_private_file(&path, text.as_bytes(), durable::Existing::Refuse).unwrap();
        Some(path)
    };
    config.keys.provider = KeyProviders(vec![KeyProvider::Passphrase]);
    config.keys.passphrase_file = passphrase("right", "correct horse\n");
    let mut custody = opened(&config).await.unwrap();
    custody.ensure_data_key(&config).await.unwrap();
    assert!(!config.kek_dir().exists(), "a key file was made beside the passphrase");
    custody.guard.shutdown().await;
    drop(custody);

    // The database says what protects the data key, whatever the configuration says by then.
    config.keys.provider = KeyProviders::default();
    let custody = opened(&config).await.unwrap();
    assert!(custody.protected_by.as_deref().is_some_and(|by| by.starts_with("passphrase")));
    custody.guard.shutdown().await;
    drop(custody);

    config.keys.passphrase_file = passphrase("wrong", "battery staple");
    let error = error(opened(&config).await);
    assert!(matches!(error, CustodyError::Provider(ProviderError::WrongPassphrase)), "{error}");
    assert_eq!(error.exit(), Exit::Unreachable);
}

#[tokio::test]
async fn an_interrupted_start_leaves_a_key_file_that_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let custody = opened(&config).await.unwrap();
    custody.guard.shutdown().await;
    drop(custody);
    let path = FileProvider::default_path(config.data_dir());
    FileProvider::create(path.clone()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut custody = opened(&config).await.unwrap();
    custody.ensure_data_key(&config).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    custody.guard.shutdown().await;
}

#[tokio::test]
async fn keys_without_their_data_key_are_an_error_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut custody = opened(&config).await.unwrap();
    let foreign = DataKey::generate().unwrap();
    add_key(&custody, &foreign).await;
    let lost = custody.ensure_data_key(&config).await.map(|_| ()).unwrap_err();
    assert!(matches!(lost, CustodyError::DataKeyLost { keys: 1 }), "{lost}");
    assert!(unseal_all(&mut custody, &config, &backend()).await.is_err());
    assert!(!config.kek_dir().exists());
    custody.guard.shutdown().await;
}

#[tokio::test]
async fn a_key_sealed_under_another_data_key_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut custody = opened(&config).await.unwrap();
    let data_key = custody.ensure_data_key(&config).await.unwrap();
    let good = add_key(&custody, &data_key).await;
    let bad = add_key(&custody, &DataKey::generate().unwrap()).await;
    let unsealed = unseal_all(&mut custody, &config, &backend()).await.unwrap();
    assert_eq!(unsealed.keyring.public_keys(), [good]);
    assert_eq!(unsealed.failed.keys().collect::<Vec<_>>(), [&bad]);
    custody.guard.shutdown().await;
}

#[tokio::test]
async fn a_key_switched_off_is_known_and_refused_and_a_deleted_one_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut custody = opened(&config).await.unwrap();
    let data_key = custody.ensure_data_key(&config).await.unwrap();
    let on = add_key(&custody, &data_key).await;
    let off = add_key(&custody, &data_key).await;
    let deleted = add_key(&custody, &data_key).await;
    let by = CallerId::new("test");
    let http = crate::callers::Principal::builtin(holdfast_access::Builtin::Http);
    custody.guard.switch(&off, Switch::Disable, &by).await.unwrap();
    custody.guard.tombstone(&deleted, &by).await.unwrap();

    let Unsealed { keyring, failed, disabled } = unseal_all(&mut custody, &config, &backend()).await.unwrap();
    let mut known = [on, off];
    known.sort_unstable();
    assert_eq!((keyring.public_keys().as_slice(), disabled, failed.len()), (known.as_slice(), 1, 0));

    let by_test = Given { since: UnixMillis(0), by: "test".to_owned() };
    let signer = Signer {
        network: custody.network.clone(),
        policy: Arc::new(PolicyStore::new(
            RuleSources::read(&config, PathBuf::new(), KeysOfLabels::new(), by_test).unwrap(),
            Arc::new(crate::clock::SystemClock),
        )),
        guard: custody.guard.clone(),
        keyring: ArcSwap::from_pointee(keyring),
        keys_ready: KeysReady::default(),
        metrics: Arc::new(Metrics::new(|_| ())),
        cross_check: None,
        doppelganger: None,
        #[cfg(feature = "backend-process")]
        lease: None,
        timeout: std::time::Duration::from_mins(1),
        tracer: holdfast_traces::Tracer::off(),
        next_request: 0.into(),
    };
    signer.keys_ready.set();
    let version = custody.network.genesis_fork_version();
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    let request = SignRequest {
        message: Message::Unslashable(Unslashable::RandaoReveal(Epoch(1))),
        fork_info: Some(ForkInfo { fork, genesis_validators_root: custody.genesis_validators_root }),
        claimed: None,
    };
    assert!(signer.sign(&http, on, &request, Course::default()).await.is_ok());
    let refused = signer.sign(&http, off, &request, Course::default()).await.unwrap_err();
    assert!(matches!(refused, Rejection::Refused(Refusal::KeyDisabled)), "{refused:?}");
    let unknown = signer.sign(&http, deleted, &request, Course::default()).await.unwrap_err();
    assert!(matches!(unknown, Rejection::UnknownKey(key) if key == deleted), "{unknown:?}");

    // Switching takes effect at once, without loading keys again.
    custody.guard.switch(&off, Switch::Enable, &by).await.unwrap();
    assert!(signer.sign(&http, off, &request, Course::default()).await.is_ok());
    custody.guard.shutdown().await;
}

#[tokio::test]
async fn a_directory_open_to_others_is_refused_with_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    std::fs::create_dir(config.data_dir()).unwrap();
    std::fs::set_permissions(config.data_dir(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let error = error(opened(&config).await);
    assert_eq!(error.exit(), Exit::Usage);
    assert!(crate::outcome::chain(&error).contains("chmod 700"), "{error}");
    assert!(!config.data_dir().join("holdfast.db").exists());
}

#[tokio::test]
async fn one_opener_at_a_time_and_always_the_same_chain() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let custody = opened(&config).await.unwrap();
    let second = error(opened(&config).await);
    assert!(matches!(second, CustodyError::InUse { .. }), "{second}");
    assert_eq!(second.exit(), Exit::Unreachable);
    custody.guard.shutdown().await;
    drop(custody);
    config.network.name = NetworkChoice::Builtin("hoodi");
    let other = error(opened(&config).await);
    assert_eq!(other.exit(), Exit::Usage);
    assert!(other.to_string().contains("--network mainnet"), "{other}");
}

#[test]
fn a_command_that_needs_a_database_says_how_to_begin() {
    let dir = tempfile::tempdir().unwrap();
    let error = require_existing(&config(dir.path())).unwrap_err();
    assert!(error.to_string().contains("keys import"), "{error}");
    assert!(!dir.path().join("data").exists());
}
