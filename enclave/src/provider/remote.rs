//! Providers whose guarding key never leaves the place it is in.
//!
//! Every data key gets a fresh random *guard* of 32 bytes. The service encrypts the guard, the guard seals the
//! data key in an [envelope](super), and the guard is wiped. So a service needs no more than "encrypt 32 bytes",
//! one that cannot bind a ciphertext to a context is as good as one that can, and one that answers with a
//! chosen plaintext (a false server, a host in front of an enclave) opens nothing: the seal does not fit.
//!
//! Guarantees: a call ends within its time limit, also where the code that is called hangs; the guard exists
//! only during a call, in memory that is wiped.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use holdfast_enclave_sys::LockedBytes;

use super::envelope::{Envelope, count, counted, counted_long, seal_with};
use super::{Provider, ProviderKind, ServiceError, ServiceFailure, WrapContext, Wrapped};
use crate::aead::SECRET_LEN;
use crate::error::ProviderError;
use crate::secret::{self, DataKey};

/// 32 random bytes that seal one data key, in locked memory.
///
/// ```compile_fail,E0277
/// # let guard = holdfast_enclave::provider::GuardKey::take(&mut [1; 32]).ok().unwrap();
/// println!("{guard:?}"); // secrets are never printed
/// ```
pub struct GuardKey(LockedBytes);

impl GuardKey {
    /// Bytes of a guard.
    pub const LEN: usize = SECRET_LEN;

    /// Takes over what a service decrypted and wipes `bytes`, also on failure.
    ///
    /// # Errors
    ///
    /// [`ServiceFailure::Rejected`] if it is not 32 bytes, so no guard; [`ServiceFailure::Unusable`] without memory.
    pub fn take(bytes: &mut [u8]) -> Result<Self, ServiceError> {
        let fits = bytes.len() == Self::LEN;
        // Wipes them in any case.
        let taken = LockedBytes::take(bytes).map_err(|error| ServiceError::new(ServiceFailure::Unusable, error))?;
        if fits {
            Ok(Self(taken))
        } else {
            Err(ServiceError::new(ServiceFailure::Rejected, "what it decrypted to is not 32 bytes"))
        }
    }

    /// A data key in the place of a guard: for a key service that decrypts for an enclave only. What comes of it needs no
    /// envelope, as the enclave believes a data key only as far as it opens sealed keys.
    ///
    /// # Errors
    ///
    /// [`ServiceFailure::Unusable`] without memory.
    pub fn of_data_key(key: &DataKey) -> Result<Self, ServiceError> {
        key.bytes().expose(|bytes| Self::take(&mut zeroize::Zeroizing::new(bytes.to_vec())))
    }

    /// Lends the bytes.
    pub fn expose<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.0.expose(f)
    }
}

/// A key elsewhere that encrypts and decrypts guards.
///
/// Calls block until the service has answered or the limit it was given has passed, and are made on threads of
/// their own, outside of any async runtime. They make one attempt.
pub trait KeyService: Send + Sync + 'static {
    /// Which provider it is.
    fn kind(&self) -> ProviderKind;

    /// The name of the key, as configured: at most 255 bytes.
    fn key(&self) -> &str;

    /// Encrypts a guard, bound to `context` if the service can do that.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError>;

    /// Decrypts a guard. Always with the configured key: a ciphertext that names another one is refused.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError>;
}

/// The provider that a key service makes.
pub struct Remote<S> {
    service: Arc<S>,
    limit: Duration,
}

impl<S: KeyService> Remote<S> {
    /// `limit` is how long one call may take in all.
    pub fn new(service: S, limit: Duration) -> Self {
        Self { service: Arc::new(service), limit }
    }

    fn failed(&self, error: ServiceError) -> ProviderError {
        let ServiceError { failure, source } = error;
        ProviderError::Service { provider: self.service.kind(), key: self.service.key().to_owned(), failure, source }
    }

    /// Calls on a thread of its own: async libraries find no runtime around them, what they leave on their stack
    /// goes with the thread, and a C library that hangs does not hold up its caller.
    fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&S) -> Result<R, ServiceError> + Send + 'static,
    ) -> Result<R, ProviderError> {
        let (answer, answered) = sync_channel(1);
        let service = Arc::clone(&self.service);
        let name = format!("holdfast-{}", self.service.kind());
        thread::Builder::new()
            .name(name)
            .spawn(move || {
                // Nobody listens any more if the limit has passed.
                let _ = answer.send(f(&service));
            })
            .map_err(|error| self.failed(ServiceError::new(ServiceFailure::Unusable, error)))?;
        let result = answered.recv_timeout(self.limit).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => {
                    ServiceError::new(ServiceFailure::TimedOut, format!("no answer within {:?}", self.limit))
                }
                RecvTimeoutError::Disconnected => {
                    ServiceError::new(ServiceFailure::Protocol, "the call ended without an answer")
                }
            })
        });
        result.map_err(|error| self.failed(error))
    }
}

impl<S: KeyService> Provider for Remote<S> {
    fn kind(&self) -> ProviderKind {
        self.service.kind()
    }

    fn wrap(&self, key: &DataKey, context: &WrapContext) -> Result<Wrapped, ProviderError> {
        let guard = Arc::new(GuardKey(secret::random_bytes()?));
        let (lent, bound) = (Arc::clone(&guard), *context);
        let ciphertext = self.call(move |service| service.encrypt(&lent, &bound))?;
        let mut parameters = Vec::new();
        count(&mut parameters, self.service.key().as_bytes())?;
        let length = u16::try_from(ciphertext.len()).map_err(|_| ProviderError::Malformed)?;
        parameters.extend_from_slice(&length.to_be_bytes());
        parameters.extend_from_slice(&ciphertext);
        seal_with(&guard.0, self.kind(), &parameters, key, context)
    }

    fn unwrap(&self, wrapped: &Wrapped, context: &WrapContext) -> Result<DataKey, ProviderError> {
        let envelope = Envelope::parse_own(wrapped, self.kind())?;
        envelope.check_network(context)?;
        let (_, ciphertext) = parameters(&envelope)?;
        let (ciphertext, bound) = (ciphertext.to_vec(), *context);
        let guard = self.call(move |service| service.decrypt(&ciphertext, &bound))?;
        envelope.open(&guard.0, context)
    }

    fn describe(&self) -> String {
        format!("{} key {}", self.kind(), self.service.key())
    }

    fn key(&self) -> Option<&str> {
        Some(self.service.key())
    }
}

/// The name of the key in a wrapped data key, and the ciphertext of the guard.
fn parameters<'a>(envelope: &Envelope<'a>) -> Result<(&'a [u8], &'a [u8]), ProviderError> {
    let (key, rest) = counted(envelope.parameters)?;
    let (ciphertext, rest) = counted_long(rest)?;
    if rest.is_empty() { Ok((key, ciphertext)) } else { Err(ProviderError::Malformed) }
}

/// The name of the key in a wrapped data key.
pub(super) fn key_name(envelope: &Envelope<'_>) -> Result<String, ProviderError> {
    parameters(envelope).map(|(key, _)| String::from_utf8_lossy(key).into_owned())
}
