//! A symmetric key of AWS KMS.
//!
//! Guarantees: the key is named in every call, also to decrypt, so a ciphertext made with a key of somebody else is
//! refused; network and data key are the encryption context, which the service authenticates, logs in CloudTrail and
//! lets key policies require. Credentials come from the platform's own chain: environment, shared files, web
//! identity of a pod, container, instance. The service needs `kms:Encrypt` and `kms:Decrypt` on this key, no more.

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use holdfast_enclave::DataKey;
use holdfast_enclave::provider::{
    GuardKey, KeyService, ProviderKind, Remote, ServiceError, ServiceFailure, WrapContext,
};

use crate::runtime;

/// A connection is made or never will be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Which key, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsOptions {
    /// ARN, or key id or "alias/NAME" in the region.
    pub key: String,
    /// Region of a key that is no ARN; otherwise, and without one, from the platform.
    pub region: Option<String>,
    /// Address of the service instead of the region's.
    pub endpoint: Option<String>,
    /// How long one call may take, with finding credentials.
    pub timeout: Duration,
}

/// A key of AWS KMS.
pub struct AwsKms(AwsOptions);

impl AwsKms {
    /// The provider of this key.
    pub fn provider(options: AwsOptions) -> Remote<Self> {
        let limit = options.timeout.saturating_add(Duration::from_secs(1));
        Remote::new(Self(options), limit)
    }

    /// This key itself.
    pub const fn new(options: AwsOptions) -> Self {
        Self(options)
    }

    /// Encrypts a data key for enclaves, to be decrypted by [`Self::decrypt_for_recipient`]. Blocks likewise.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub fn encrypt_data_key(&self, key: &DataKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        self.encrypt(&GuardKey::of_data_key(key)?, context)
    }

    /// Has a ciphertext decrypted for an enclave: the service encrypts the plaintext to the public key in the enclave's
    /// attestation `document`, if the key's policy accepts that enclave. What comes back is CMS that only the enclave
    /// opens; no plaintext is ever here. Blocks like the calls of a [`KeyService`], and makes one attempt.
    ///
    /// # Errors
    /// [`ServiceError`]; [`ServiceFailure::Denied`] if the policy wants another enclave;
    /// [`ServiceFailure::Protocol`] if the service ignores recipients and answered in the clear.
    pub fn decrypt_for_recipient(
        &self,
        ciphertext: &[u8],
        context: &WrapContext,
        document: &[u8],
    ) -> Result<Vec<u8>, ServiceError> {
        let recipient = RecipientInfo::builder()
            .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
            .attestation_document(Blob::new(document))
            .build();
        runtime::block_on(self.0.timeout, async {
            let mut call = self.client().await.decrypt().key_id(&self.0.key).ciphertext_blob(Blob::new(ciphertext));
            for (name, value) in context.pairs() {
                call = call.encryption_context(name, value);
            }
            let answer = call.recipient(recipient).send().await.map_err(|error| failed(&error))?;
            // Emulators do this. A key that was in the clear here is not the enclave's alone.
            if let Some(plaintext) = answer.plaintext.filter(|plaintext| !plaintext.as_ref().is_empty()) {
                drop(zeroize::Zeroizing::new(plaintext.into_inner()));
                return Err(protocol("a plaintext, where it should have encrypted for the enclave"));
            }
            let envelope = answer.ciphertext_for_recipient.map(Blob::into_inner);
            envelope.ok_or_else(|| protocol("an answer without a ciphertext for the enclave"))
        })
    }

    async fn client(&self) -> Client {
        let AwsOptions { key, region, endpoint, timeout } = &self.0;
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT.min(*timeout)).operation_timeout(*timeout).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            // Attempts are ours to count: one here.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(region) = region_of(key).or(region.as_deref()) {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Client::new(&loader.load().await)
    }
}

/// The region in an ARN.
fn region_of(key: &str) -> Option<&str> {
    let mut parts = key.split(':');
    (parts.next() == Some("arn")).then_some(())?;
    parts.nth(2).filter(|region| !region.is_empty())
}

impl KeyService for AwsKms {
    fn kind(&self) -> ProviderKind {
        ProviderKind::AwsKms
    }

    fn key(&self) -> &str {
        &self.0.key
    }

    fn encrypt(&self, guard: &GuardKey, context: &WrapContext) -> Result<Vec<u8>, ServiceError> {
        runtime::block_on(self.0.timeout, async {
            let mut call = self.client().await.encrypt().key_id(&self.0.key);
            for (name, value) in context.pairs() {
                call = call.encryption_context(name, value);
            }
            // The library's copies live in its request, which goes with this thread's runtime.
            let sent = call.plaintext(Blob::new(guard.expose(<[u8]>::to_vec))).send().await;
            let ciphertext = sent.map_err(|error| failed(&error))?.ciphertext_blob;
            ciphertext.map(Blob::into_inner).ok_or_else(|| protocol("an answer without a ciphertext"))
        })
    }

    fn decrypt(&self, ciphertext: &[u8], context: &WrapContext) -> Result<GuardKey, ServiceError> {
        runtime::block_on(self.0.timeout, async {
            let mut call = self.client().await.decrypt().key_id(&self.0.key).ciphertext_blob(Blob::new(ciphertext));
            for (name, value) in context.pairs() {
                call = call.encryption_context(name, value);
            }
            let answer = call.send().await.map_err(|error| failed(&error))?;
            let plaintext = answer.plaintext.ok_or_else(|| protocol("an answer without a plaintext"))?;
            GuardKey::take(&mut plaintext.into_inner())
        })
    }
}

fn protocol(problem: &'static str) -> ServiceError {
    ServiceError::new(ServiceFailure::Protocol, problem)
}

/// What went wrong, sorted by what to do about it.
fn failed<E, R>(error: &SdkError<E, R>) -> ServiceError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let failure = match error {
        SdkError::TimeoutError(_) => ServiceFailure::TimedOut,
        SdkError::ServiceError(answer) => of_code(answer.err().code().unwrap_or_default()),
        error if lacks_credentials(error) => ServiceFailure::Credentials,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => ServiceFailure::TimedOut,
        SdkError::DispatchFailure(failure) if failure.is_user() => ServiceFailure::Unusable,
        SdkError::DispatchFailure(_) => ServiceFailure::Unreachable,
        SdkError::ConstructionFailure(_) => ServiceFailure::Unusable,
        _ => ServiceFailure::Protocol,
    };
    let text = match error {
        SdkError::ServiceError(answer) => {
            let (code, message) = (answer.err().code().unwrap_or("no code"), answer.err().message());
            format!("{code}: {}", message.unwrap_or("no message"))
        }
        error => with_causes(error),
    };
    ServiceError::new(failure, text)
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// By the code of the answer. The service's reference lists them for each operation; those about credentials are
/// common to all services.
pub(crate) fn of_code(code: &str) -> ServiceFailure {
    match code {
        "DisabledException" | "KMSInvalidStateException" => ServiceFailure::KeyDisabled,
        "NotFoundException" => ServiceFailure::KeyMissing,
        "IncorrectKeyException" => ServiceFailure::WrongKey,
        "InvalidCiphertextException" => ServiceFailure::Rejected,
        "AccessDeniedException" => ServiceFailure::Denied,
        "ExpiredTokenException"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "NotAuthorized"
        | "RequestExpired"
        | "UnrecognizedClientException" => ServiceFailure::Credentials,
        "DependencyTimeoutException"
        | "InternalFailure"
        | "KMSInternalException"
        | "KeyUnavailableException"
        | "LimitExceededException"
        | "ServiceUnavailable"
        | "ThrottlingException" => ServiceFailure::Busy,
        "InvalidArnException"
        | "InvalidKeyUsageException"
        | "UnsupportedOperationException"
        | "ValidationException" => ServiceFailure::Unusable,
        _ => ServiceFailure::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_an_arn_counts() {
        let arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        assert_eq!(region_of(arn), Some("eu-central-1"));
        for other in ["alias/holdfast", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms", "arn:aws:kms::1:key/x"] {
            assert_eq!(region_of(other), None, "{other}");
        }
    }

    #[test]
    fn codes_are_sorted() {
        assert_eq!(of_code("DisabledException"), ServiceFailure::KeyDisabled);
        assert_eq!(of_code("ExpiredTokenException"), ServiceFailure::Credentials);
        assert_eq!(of_code("ThrottlingException"), ServiceFailure::Busy);
        assert_eq!(of_code("SomethingNew"), ServiceFailure::Protocol);
    }
}
