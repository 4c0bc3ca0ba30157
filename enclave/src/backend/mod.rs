//! Where a signature is computed.
//!
//! Guarantees: a backend is given a [`SignJob`], which only [`ActiveKey::sign`] makes, from a permit for
//! the very key in the job; the permit travels with the work and is gone with it.
//!
//! [`ActiveKey::sign`]: crate::keyring::ActiveKey::sign

use std::sync::Arc;

use holdfast_domain::SigningRoot;
use holdfast_slashing_db::SigningPermit;
use tokio::sync::oneshot;

use crate::error::SignError;
use crate::secret::SecretKey;
use crate::signature::Signed;

#[cfg(feature = "backend-local")]
mod cache;
#[cfg(feature = "backend-local")]
pub mod local;
#[cfg(feature = "backend-local")]
mod queue;

/// Whether a signature is verified before it is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyPolicy {
    /// No: the backend is this process, and verifying costs more than two signatures.
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

/// One signature to make.
#[must_use]
pub struct SignJob {
    secret: Arc<SecretKey>,
    permit: SigningPermit,
}

impl SignJob {
    /// Pairs a key with a permit for it.
    pub(crate) fn new(secret: &Arc<SecretKey>, permit: SigningPermit) -> Result<Self, SignError> {
        if permit.key() == secret.public_key() {
            Ok(Self { secret: Arc::clone(secret), permit })
        } else {
            Err(SignError::WrongKey { key: *secret.public_key(), permit: *permit.key() })
        }
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    pub(crate) fn root(&self) -> SigningRoot {
        self.permit.root()
    }

    pub(crate) fn urgency(&self) -> Urgency {
        if self.permit.is_block_proposal() { Urgency::Block } else { Urgency::Normal }
    }
}

/// A place that computes signatures.
pub trait KeyBackend: Send + Sync {
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
