//! A data key for a vault in an AWS Nitro enclave: its document is checked here, and AWS KMS encrypts for it.
//!
//! Guarantees: KMS is asked only for an enclave that the document proves to be an expected one, for this chain; the data
//! key is never in this process, neither before nor after. That KMS agrees about the enclave is its key's policy; the check here is
//! what tells an operator what is wrong, and keeps this signer from serving keys through a vault that is another.

use std::sync::Arc;
use std::time::Duration;

use holdfast_enclave::generate::Origin;
use holdfast_enclave::provider::{ProviderKind, ServiceError, ServiceFailure, WrapContext};
use holdfast_enclave::vault::enclave::{ImportKeyError, encrypt_for_import};
use holdfast_enclave::vault::generate::encrypt_seed;
use holdfast_enclave::{DataKeyCommitment, EncryptedKey, EncryptedSeed, SecretKey};
use holdfast_nitro::attestation::{AttestationError, PcrPolicy, Timestamp, Verifier};
use holdfast_nitro::cms::wrap::wrap;

use crate::aws::{AwsKms, AwsOptions};

/// Why no data key was encrypted for a vault.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Its document does not prove what is expected.
    #[error("the vault does not prove to be an expected enclave; nothing was asked of AWS KMS for it")]
    Attestation(#[source] AttestationError),
    /// It is an expected enclave, and serves another chain or speaks another version.
    #[error("the enclave's vault serves another chain than this signer, or is of another version")]
    OtherVault,
    /// The document names no key to encrypt to.
    #[error("the enclave's document has no public key to encrypt to")]
    NoPublicKey,
    /// AWS KMS did not do it.
    #[error("{} key {key}: {failure}", ProviderKind::AwsKms)]
    Service {
        /// The key.
        key: String,
        /// What kind of failure it was.
        failure: ServiceFailure,
        /// What was said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no thread for the call.
    #[error("cannot start a thread for the call of AWS KMS")]
    Thread(#[source] std::io::Error),
}

impl ReleaseError {
    /// Whether the same may work later without anybody changing anything here.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Service { failure, .. } => !matches!(failure.recovery(), holdfast_enclave::provider::Recovery::Never),
            Self::Attestation(_) | Self::OtherVault | Self::NoPublicKey | Self::Thread(_) => false,
        }
    }
}

/// What a document has to answer and to say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// What it was asked with.
    pub nonce: &'a [u8],
    /// What the vault has attested besides its key: version and chain.
    pub user_data: &'a [u8],
    /// The time now.
    pub now: Timestamp,
}

/// An enclave whose document says what was expected, and the key of its boot.
#[derive(Debug)]
pub struct Proven {
    boot_key: Vec<u8>,
}

impl Proven {
    /// Checks a document.
    ///
    /// # Errors
    /// [`ReleaseError::Attestation`], [`ReleaseError::OtherVault`] or [`ReleaseError::NoPublicKey`].
    pub fn new(
        verifier: &Verifier,
        images: &PcrPolicy,
        document: &[u8],
        expected: &Expected<'_>,
    ) -> Result<Self, ReleaseError> {
        let attested =
            verifier.verify(document, expected.nonce, images, expected.now).map_err(ReleaseError::Attestation)?;
        if attested.user_data() != Some(expected.user_data) {
            return Err(ReleaseError::OtherVault);
        }
        let boot_key = attested.public_key().ok_or(ReleaseError::NoPublicKey)?.to_vec();
        Ok(Self { boot_key })
    }

    /// Encrypts a private key of the chain of `context` for this boot of the enclave, to be sealed under the data key with
    /// this commitment.
    ///
    /// # Errors
    /// [`ImportKeyError`].
    pub fn encrypt(
        &self,
        secret: &SecretKey,
        context: &WrapContext,
        data_key: DataKeyCommitment,
    ) -> Result<EncryptedKey, ImportKeyError> {
        encrypt_for_import(secret, context.network, data_key, |wrapping| wrap(&self.boot_key, wrapping))
    }

    /// Encrypts the seed of a tree for this boot of the enclave, to make keys of it; `None` for random keys. It can be used with
    /// no other data key than the one with this commitment, and for no other chain.
    ///
    /// # Errors
    /// [`ImportKeyError::Wrap`].
    pub fn encrypt_seed(
        &self,
        origin: Origin<'_>,
        context: &WrapContext,
        data_key: DataKeyCommitment,
    ) -> Result<Option<EncryptedSeed>, ImportKeyError> {
        let sealed = encrypt_seed(origin, data_key, context.network, |plain| wrap(&self.boot_key, plain));
        sealed.map_err(|error| ImportKeyError::Wrap(error.into()))
    }
}

/// A key of AWS KMS that encrypts for enclaves.
pub struct EnclaveKey {
    verifier: Verifier,
    images: PcrPolicy,
    kms: Arc<AwsKms>,
    key: String,
    limit: Duration,
}

impl EnclaveKey {
    /// For enclaves of AWS with one of these images.
    pub fn new(kms: AwsOptions, images: PcrPolicy) -> Self {
        Self::with_verifier(Verifier::aws(), kms, images)
    }

    /// For enclaves that another authority attests: for tests.
    pub fn with_verifier(verifier: Verifier, kms: AwsOptions, images: PcrPolicy) -> Self {
        let (key, limit) = (kms.key.clone(), kms.timeout);
        Self { verifier, images, kms: Arc::new(AwsKms::new(kms)), key, limit }
    }

    /// Has the data key encrypted for the enclave that made this document. `wrapped` is what AWS KMS made of the data key.
    /// Blocks, on a thread of its own.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub fn release(
        &self,
        wrapped: &[u8],
        context: &WrapContext,
        document: &[u8],
        expected: &Expected<'_>,
    ) -> Result<Vec<u8>, ReleaseError> {
        Proven::new(&self.verifier, &self.images, document, expected)?;
        let (kms, context) = (Arc::clone(&self.kms), *context);
        let (wrapped, document) = (wrapped.to_vec(), document.to_vec());
        // The library must find no runtime around it.
        let thread = std::thread::Builder::new()
            .name("holdfast-enclave-kms".to_owned())
            .spawn(move || kms.decrypt_for_recipient(&wrapped, &context, &document))
            .map_err(ReleaseError::Thread)?;
        let answered = thread.join().unwrap_or_else(|_| {
            Err(ServiceError::new(ServiceFailure::Protocol, format!("no answer within {:?}", self.limit)))
        });
        answered.map_err(|ServiceError { failure, source }| ReleaseError::Service {
            key: self.key.clone(),
            failure,
            source,
        })
    }
}
