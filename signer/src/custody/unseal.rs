//! Stored keys made ready to sign, and what doing so may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::kdf::{KdfBudget, MemorySize};
use holdfast_enclave::{ActiveKey, DataKey, Keyring, seal};
use holdfast_slashing_db::StoredKey;

use super::{Custody, CustodyError};
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

/// Opens every stored key, also those switched off: a request for one of these is then refused by
/// protection and recorded, as any other refusal, instead of looking like a key nobody has.
/// Deleted keys have no secret left to open.
///
/// # Errors
/// [`CustodyError`] if the record cannot be read, or if there are keys but no data key. A single
/// key that cannot be opened is no error: it is listed in [`Unsealed::failed`].
pub(crate) async fn unseal_all(custody: &Custody, backend: &Arc<dyn KeyBackend>) -> Result<Unsealed, CustodyError> {
    let stored = custody.guard.active_keys().await?;
    let mut unsealed = Unsealed { keyring: Keyring::new(), failed: BTreeMap::new(), disabled: 0 };
    let Some(data_key) = &custody.data_key else {
        return if stored.is_empty() { Ok(unsealed) } else { Err(CustodyError::DataKeyLost { keys: stored.len() }) };
    };
    let mut ready = Vec::with_capacity(stored.len());
    for key in stored {
        let (public_key, enabled) = (*key.registration.key(), key.enabled());
        match unseal(key, data_key, custody.genesis_validators_root, backend) {
            Ok(active) => {
                unsealed.disabled = unsealed.disabled.saturating_add(usize::from(!enabled));
                ready.push(active);
            }
            Err(error) => {
                unsealed.failed.insert(public_key, error);
            }
        }
    }
    unsealed.keyring.insert_all(ready);
    Ok(unsealed)
}

fn unseal(
    key: StoredKey,
    data_key: &DataKey,
    network: GenesisValidatorsRoot,
    backend: &Arc<dyn KeyBackend>,
) -> Result<ActiveKey, CustodyError> {
    let secret = seal::open(data_key, key.registration.key(), network, &key.sealed)?;
    Ok(ActiveKey::new(key.registration, secret, Arc::clone(backend))?)
}
