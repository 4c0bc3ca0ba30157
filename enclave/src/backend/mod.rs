//! Where a signature is computed.
//!
//! Guarantees: a backend is given a [`SignJob`], which only [`ActiveKey::sign`] makes, from a permit for
//! the very key in the job; the permit travels with the work and is gone with it.
//!
//! [`ActiveKey::sign`]: crate::keyring::ActiveKey::sign

use std::sync::Arc;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_slashing_db::{SealedKey, SigningPermit};
use tokio::sync::oneshot;

use crate::error::{SealError, SignError};
use crate::generate::{Generated, Origin};
use crate::import::SealFor;
use crate::secret::{DataKey, SecretKey};
use crate::signature::Signed;

#[cfg(any(feature = "backend-local", feature = "backend-process"))]
pub(crate) mod cache;
#[cfg(feature = "backend-local")]
pub mod local;
#[cfg(feature = "backend-process")]
pub mod process;
#[cfg(any(feature = "backend-local", feature = "backend-process"))]
pub(crate) mod queue;

/// Whether a signature is verified before it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyPolicy {
    /// No: the backend is this process, or trusted like it; verifying one costs more than two signatures.
    #[default]
    TrustBackend,
    /// Yes: a faulty processor or memory cannot make a wrong signature leave.
    BeforeRelease,
}

/// Which queue work waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Urgency {
    /// Block proposals: a late one costs a whole block.
    Block,
    /// Everything else.
    Normal,
}

/// A key that a backend can sign with: its secret, or only its name where the secret is elsewhere.
#[derive(Clone)]
pub struct Held(Place);

#[derive(Clone)]
enum Place {
    Here(Arc<SecretKey>),
    #[cfg_attr(not(feature = "backend-process"), expect(dead_code, reason = "without a vault every key is here"))]
    InVault(PublicKey),
}

impl Held {
    /// A key whose secret is in this process.
    pub fn here(secret: SecretKey) -> Self {
        Self(Place::Here(Arc::new(secret)))
    }

    /// A key whose secret is in the vault.
    #[cfg(feature = "backend-process")]
    pub(crate) const fn in_vault(key: PublicKey) -> Self {
        Self(Place::InVault(key))
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        match &self.0 {
            Place::Here(secret) => secret.public_key(),
            Place::InVault(key) => key,
        }
    }
}

/// One signature to make.
#[must_use]
pub struct SignJob {
    held: Held,
    permit: SigningPermit,
}

impl SignJob {
    /// Pairs a key with a permit for it.
    pub(crate) fn new(held: &Held, permit: SigningPermit) -> Result<Self, SignError> {
        if permit.key() == held.public_key() {
            Ok(Self { held: held.clone(), permit })
        } else {
            Err(SignError::WrongKey { key: *held.public_key(), permit: *permit.key() })
        }
    }

    /// The secret and the permit, where the secret is here.
    #[cfg_attr(not(feature = "backend-local"), expect(dead_code, reason = "only a local backend asks"))]
    pub(crate) fn into_local(self) -> Result<(Arc<SecretKey>, SigningPermit), SignError> {
        match self.held.0 {
            Place::Here(secret) => Ok((secret, self.permit)),
            Place::InVault(key) => Err(SignError::NotHere { key }),
        }
    }

    /// What is permitted.
    #[cfg(feature = "backend-process")]
    pub(crate) fn permit(&self) -> &SigningPermit {
        &self.permit
    }

    pub(crate) fn urgency(&self) -> Urgency {
        urgency(&self.permit)
    }
}

/// Which queue what this permits waits in.
pub(crate) fn urgency(permit: &SigningPermit) -> Urgency {
    if permit.is_block_proposal() { Urgency::Block } else { Urgency::Normal }
}

/// Why one sealed key cannot be signed with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no memory for it.
    #[error("the vault has no room for {public_key}: free memory, or raise its limit of locked memory")]
    NoRoom {
        /// The key.
        public_key: PublicKey,
    },
}

/// A place that computes signatures.
pub trait KeyBackend: Send + Sync {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// Makes sealed keys ready to sign; one result for each, in order. Blocks: not on an async thread.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the backend cannot be had: then nothing is known of any of them.
    fn open(
        &self,
        data_key: &DataKey,
        network: GenesisValidatorsRoot,
        keys: &[(PublicKey, &SealedKey)],
    ) -> Result<Vec<Result<Held, OpenError>>, SignError>;

    /// Makes new keys where signatures are computed, and returns them sealed: whoever asks never has one in the clear. They
    /// are not ready to sign. Blocks as [`Self::open`] does.
    ///
    /// # Errors
    ///
    /// [`SignError`] if the backend cannot be had, or cannot make them; then none was made.
    fn generate(&self, origin: Origin<'_>, count: u32, sealed_for: SealFor<'_>) -> Result<Vec<Generated>, SignError>;

    /// The vault behind it, if that takes no data key from this process: then [`Self::open`] is not for it.
    #[cfg(feature = "backend-process")]
    fn attested(&self) -> Option<&dyn process::enclave::AttestedVault> {
        None
    }

    /// Wipes secrets that nobody will ask for any more, where this backend keeps them. Blocks as [`Self::open`] does.
    fn forget(&self, keys: &[PublicKey]);

    /// Takes a job. Does not block.
    ///
    /// # Errors
    ///
    /// [`SignError::Overloaded`] or [`SignError::Stopped`]; the job is dropped then.
    fn submit(&self, job: SignJob) -> Result<PendingSignature, SignError>;
}

/// A signature being made. Dropping it tells the backend that nobody waits any more.
#[must_use = "dropping this drops the work"]
pub struct PendingSignature(oneshot::Receiver<Result<Signed, SignError>>);

/// Where a backend puts the result.
pub(crate) struct Reply(oneshot::Sender<Result<Signed, SignError>>);

impl PendingSignature {
    pub(crate) fn channel() -> (Reply, Self) {
        let (sender, receiver) = oneshot::channel();
        (Reply(sender), Self(receiver))
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`SignError::Invalid`] if it does not verify; [`SignError::Stopped`] if the backend is gone.
    pub async fn wait(self) -> Result<Signed, SignError> {
        self.0.await.unwrap_or(Err(SignError::Stopped))
    }
}

impl Reply {
    /// Whether nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }

    pub(crate) fn send(self, result: Result<Signed, SignError>) {
        // Whoever asked may have left meanwhile: then nobody gets the signature.
        let _ = self.0.send(result);
    }
}
