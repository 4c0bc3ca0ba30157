//! Stored keys made ready to sign, and what doing so may use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_enclave::backend::{Held, KeyBackend, OpenError};
use holdfast_enclave::kdf::{KdfBudget, MemorySize};
use holdfast_enclave::{ActiveKey, Keyring};
use holdfast_slashing_db::{SealedKey, StoredKey};

use super::{Custody, CustodyError, Terminal};
use crate::config::Config;

/// What decrypting keystores may use, as configured or found.
pub(crate) fn kdf_budget(config: &Config) -> KdfBudget {
    let detected = KdfBudget::detect();
    match config.keys.kdf_memory_mib {
        Some(mib) => {
            let mib = u64::try_from(mib.get()).unwrap_or(u64::MAX);
            KdfBudget::new(MemorySize::mebibytes(mib), detected.threads())
        }
        None => detected,
    }
}

/// The keys that are loaded, and what is wrong with the others.
pub(crate) struct Unsealed {
    /// Keys that can be asked for. Whether one may sign is for protection to say, at each request.
    pub(crate) keyring: Keyring,
    /// Keys that could not be opened. The others sign nevertheless.
    pub(crate) failed: BTreeMap<PublicKey, CustodyError>,
    /// How many of the keys in the keyring are switched off.
    pub(crate) disabled: usize,
}

/// How the stored keys differ from those loaded.
pub(crate) struct Difference {
    /// Keys that were not loaded.
    pub(crate) added: Vec<ActiveKey>,
    /// Keys that are loaded and no longer stored.
    pub(crate) gone: Vec<PublicKey>,
    /// Keys that are not loaded and could not be opened.
    pub(crate) failed: BTreeMap<PublicKey, CustodyError>,
    /// How many of the stored keys that are open now are switched off.
    pub(crate) disabled: usize,
}

/// Opens every stored key, also those switched off: a request for one of these is then refused by
/// protection and recorded, as any other refusal, instead of looking like a key nobody has.
/// Deleted keys have no secret left to open.
///
/// # Errors
/// [`CustodyError`] if the record cannot be read, or if there are keys but no data key, or none that opens. A single
/// key that cannot be opened is no error: it is listed in [`Unsealed::failed`].
pub(crate) async fn unseal_all(
    custody: &mut Custody,
    config: &Config,
    backend: &Arc<dyn KeyBackend>,
) -> Result<Unsealed, CustodyError> {
    // At a start, also without keys: a passphrase is typed now or never.
    if custody.data_key.is_none() && custody.terminal == Terminal::MayAsk && !takes_no_data_key(backend) {
        custody.open_data_key(config).await?;
    }
    let keyring = Keyring::new();
    let Difference { added, gone: _, failed, disabled } = unseal_new(custody, config, backend, &keyring).await?;
    keyring.insert_all(added);
    Ok(Unsealed { keyring, failed, disabled })
}

/// How often keys are read again whose data key was replaced while they were opened.
const AGAIN: u32 = 4;
/// Whether keys are opened by a vault that gets its data key from elsewhere.
#[cfg(feature = "backend-enclave")]
fn takes_no_data_key(backend: &Arc<dyn KeyBackend>) -> bool {
    backend.attested().is_some()
}

/// No backend of this build is such a vault.
#[cfg(not(feature = "backend-enclave"))]
fn takes_no_data_key(_: &Arc<dyn KeyBackend>) -> bool {
    false
}

/// Has the backend open keys, with the data key here or with one that was encrypted for it.
#[cfg_attr(
    not(feature = "backend-enclave"),
    expect(unused_variables, clippy::unused_async, reason = "only for a vault in an enclave is anything asked")
)]
async fn open(
    custody: &Custody,
    config: &Config,
    backend: &Arc<dyn KeyBackend>,
    sealed: &[(PublicKey, &SealedKey)],
    stored: usize,
) -> Result<Vec<Result<Held, OpenError>>, CustodyError> {
    #[cfg(feature = "backend-enclave")]
    if let Some(vault) = backend.attested() {
        return super::enclave::open(vault, custody, config, sealed).await;
    }
    let Some(data_key) = &custody.data_key else { return Err(CustodyError::DataKeyLost { keys: stored }) };
    backend.open(data_key, custody.genesis_validators_root, sealed).map_err(CustodyError::Backend)
}

/// The same for keys that are not in `loaded`; says also which of those are no longer stored. The data key is opened
/// if there is something to open with it.
///
/// # Errors
/// As [`unseal_all`].
pub(crate) async fn unseal_new(
    custody: &mut Custody,
    config: &Config,
    backend: &Arc<dyn KeyBackend>,
    loaded: &Keyring,
) -> Result<Difference, CustodyError> {
    let mut again = AGAIN;
    loop {
        let difference = unseal_once(custody, config, backend, loaded).await?;
        // Keys read before and a data key read after its replacement do not fit, and nothing is wrong with either.
        if difference.failed.is_empty() || again == 0 || !custody.drop_replaced_data_key().await? {
            return Ok(difference);
        }
        again = again.saturating_sub(1);
    }
}

async fn unseal_once(
    custody: &mut Custody,
    config: &Config,
    backend: &Arc<dyn KeyBackend>,
    loaded: &Keyring,
) -> Result<Difference, CustodyError> {
    custody.drop_replaced_data_key().await?;
    let stored = custody.guard.active_keys().await?;
    let elsewhere = takes_no_data_key(backend);
    if !elsewhere && custody.data_key.is_none() && stored.iter().any(|key| loaded.get(key.registration.key()).is_none())
    {
        custody.open_data_key(config).await?;
    }
    let mut gone: BTreeSet<PublicKey> = loaded.public_keys().into_iter().collect();
    let mut difference = Difference { added: Vec::new(), gone: Vec::new(), failed: BTreeMap::new(), disabled: 0 };
    let count = stored.len();
    let mut new: Vec<StoredKey> = Vec::new();
    for key in stored {
        if gone.remove(key.registration.key()) {
            difference.disabled = difference.disabled.saturating_add(usize::from(!key.enabled()));
        } else {
            new.push(key);
        }
    }
    difference.gone = gone.into_iter().collect();
    if new.is_empty() {
        return Ok(difference);
    }
    let sealed: Vec<(PublicKey, &SealedKey)> = new.iter().map(|key| (*key.registration.key(), &key.sealed)).collect();
    let opened = open(custody, config, backend, &sealed, count).await?;
    for (key, held) in new.into_iter().zip(opened) {
        let (public_key, enabled) = (*key.registration.key(), key.enabled());
        let active = held
            .map_err(CustodyError::from)
            .and_then(|held| Ok(ActiveKey::held(key.registration, held, Arc::clone(backend))?));
        match active {
            Ok(active) => {
                difference.added.push(active);
                difference.disabled = difference.disabled.saturating_add(usize::from(!enabled));
            }
            Err(error) => drop(difference.failed.insert(public_key, error)),
        }
    }
    Ok(difference)
}
