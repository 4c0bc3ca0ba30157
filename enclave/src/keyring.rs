//! The keys that sign, and the one road from a permit to a signature.
//!
//! Guarantees: an [`ActiveKey`] exists only for a registered key, as it holds the [`Registration`]; it
//! signs only what a [`SigningPermit`] for this very key names, and uses the permit up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use holdfast_domain::PublicKey;
use holdfast_slashing_db::{Registration, SigningPermit};

use crate::backend::{Held, KeyBackend, SignJob};
use crate::error::{KeyError, SignError};
use crate::secret::SecretKey;
use crate::signature::Signed;

/// A registered key that can sign.
pub struct ActiveKey {
    registration: Registration,
    held: Held,
    backend: Arc<dyn KeyBackend>,
}

impl ActiveKey {
    /// Joins a registration, its private key and the place where signatures are computed.
    ///
    /// # Errors
    ///
    /// [`KeyError::Mismatch`] if the private key is not that of the registered public key.
    pub fn new(
        registration: Registration,
        secret: SecretKey,
        backend: impl Into<Arc<dyn KeyBackend>>,
    ) -> Result<Self, KeyError> {
        Self::held(registration, Held::here(secret), backend)
    }

    /// The same for a key that the backend opened itself.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn held(
        registration: Registration,
        held: Held,
        backend: impl Into<Arc<dyn KeyBackend>>,
    ) -> Result<Self, KeyError> {
        if registration.key() != held.public_key() {
            return Err(KeyError::Mismatch { registered: *registration.key(), secret: *held.public_key() });
        }
        Ok(Self { registration, held, backend: backend.into() })
    }

    /// The name of the place where it signs.
    pub fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    /// The public key.
    pub fn key(&self) -> &PublicKey {
        self.registration.key()
    }

    /// Signs what the permit names. Dropping the future before it is done drops the work as well.
    ///
    /// ```compile_fail,E0382
    /// # async fn twice(key: holdfast_enclave::ActiveKey, permit: holdfast_slashing_db::SigningPermit) {
    /// let first = key.sign(permit).await;
    /// let second = key.sign(permit).await; // a permit is good for one signature
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SignError::WrongKey`] if the permit is for another key; [`SignError::Overloaded`] if too many
    /// signatures wait already; [`SignError::Stopped`] during shutdown; [`SignError::Invalid`] if the
    /// result was checked and is wrong. The permit is used up in any case.
    pub async fn sign(&self, permit: SigningPermit) -> Result<Signed, SignError> {
        let job = SignJob::new(&self.held, permit)?;
        self.backend.submit(job)?.wait().await
    }
}

/// All keys that sign, by public key.
///
/// Looking up takes no lock and never waits for a change. A change copies the table, so add many keys
/// with one [`Self::insert_all`].
#[derive(Default)]
pub struct Keyring {
    keys: ArcSwap<HashMap<PublicKey, Arc<ActiveKey>>>,
    /// Held while the table is copied, so that no change is lost.
    changing: Mutex<()>,
}

impl Keyring {
    /// An empty keyring.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key with this public key.
    pub fn get(&self, key: &PublicKey) -> Option<Arc<ActiveKey>> {
        self.keys.load().get(key).cloned()
    }

    /// Adds a key, and returns the one it replaces.
    pub fn insert(&self, key: ActiveKey) -> Option<Arc<ActiveKey>> {
        self.change(|keys| keys.insert(*key.key(), Arc::new(key)))
    }

    /// Adds many keys at once. Each replaces one with the same public key.
    pub fn insert_all(&self, added: impl IntoIterator<Item = ActiveKey>) {
        self.change(|keys| keys.extend(added.into_iter().map(|key| (*key.key(), Arc::new(key)))));
    }

    /// Removes a key: from now on it is not found. Signatures already asked of it are still made.
    pub fn remove(&self, key: &PublicKey) -> Option<Arc<ActiveKey>> {
        self.change(|keys| keys.remove(key))
    }

    /// Removes many keys at once, and returns those that were there.
    pub fn remove_all<'a>(&self, removed: impl IntoIterator<Item = &'a PublicKey>) -> Vec<Arc<ActiveKey>> {
        self.change(|keys| removed.into_iter().filter_map(|key| keys.remove(key)).collect())
    }

    /// All public keys, in byte order.
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = self.keys.load().keys().copied().collect();
        keys.sort_unstable();
        keys
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.load().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.load().is_empty()
    }

    fn change<R>(&self, f: impl FnOnce(&mut HashMap<PublicKey, Arc<ActiveKey>>) -> R) -> R {
        // A panic while it is held leaves the old table in place.
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = HashMap::clone(&self.keys.load());
        let result = f(&mut keys);
        self.keys.store(Arc::new(keys));
        result
    }
}
