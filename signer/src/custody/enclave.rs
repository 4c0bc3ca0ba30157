//! The data key of a vault in an enclave, which never is in this process: AWS KMS encrypts it for the enclave, and this
//! signer carries the envelope.
//!
//! Guarantees: each opening asks the vault for a new document with a nonce of its own; nothing is asked of AWS KMS for a
//! vault that does not prove to be an expected enclave for this chain.

use holdfast_domain::PublicKey;
use holdfast_enclave::AttestedVault;
use holdfast_enclave::backend::{Held, OpenError};
use holdfast_enclave::provider::ServiceError;
use holdfast_nitro::Pcr;
use holdfast_nitro::attestation::{PcrIndex, PcrPolicy, Timestamp};
use holdfast_providers::aws::{AwsKms, AwsOptions};
use holdfast_providers::nitro::{EnclaveKey, Expected, ReleaseError};
use holdfast_slashing_db::SealedKey;

use super::{Custody, CustodyError};
use crate::config::Config;

/// Longest file with an encrypted data key in bytes: AWS KMS takes no longer ciphertexts.
const MAX_WRAPPED: usize = 6144;

/// The key of AWS KMS that is configured for enclaves.
fn options(config: &Config) -> Option<AwsOptions> {
    Some(AwsOptions {
        key: config.enclave.key.clone()?,
        region: config.aws.region.clone(),
        endpoint: config.aws.endpoint.clone(),
        timeout: std::time::Duration::from_millis(config.aws.timeout_ms.get()),
    })
}

/// Which enclaves are expected. The configuration was checked, so every value is one.
fn images(config: &Config) -> PcrPolicy {
    let section = &config.enclave;
    [(PcrIndex::IMAGE, &section.pcr0), (PcrIndex::SIGNER, &section.pcr8)].into_iter().fold(
        PcrPolicy::any(),
        |policy, (index, values)| {
            values
                .iter()
                .filter_map(|value| value.parse::<Pcr>().ok())
                .fold(policy, |policy, value| policy.allow(index, value))
        },
    )
}

/// Opens stored keys in the vault of an enclave.
///
/// # Errors
/// [`CustodyError`]: the vault is another, cannot be had, or AWS KMS does not encrypt for it.
pub(super) async fn open(
    vault: &dyn AttestedVault,
    custody: &Custody,
    config: &Config,
    keys: &[(PublicKey, &SealedKey)],
) -> Result<Vec<Result<Held, OpenError>>, CustodyError> {
    let record = custody.record().await?.ok_or(CustodyError::DataKeyLost { keys: keys.len() })?;
    let missing = || CustodyError::EnclaveNotConfigured;
    let path = config.enclave.data_key_file.as_ref().ok_or_else(missing)?;
    let wrapped = std::fs::read(path)
        .and_then(|bytes| {
            let fits = (1..=MAX_WRAPPED).contains(&bytes.len());
            fits.then_some(bytes).ok_or_else(|| std::io::Error::other("it holds no encrypted data key"))
        })
        .map_err(|source| CustodyError::EnclaveDataKey { path: path.clone(), source })?;
    let key = EnclaveKey::new(options(config).ok_or_else(missing)?, images(config));
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| CustodyError::Secret(holdfast_enclave::SecretError::Random(error)))?;
    let document = vault.attest(&nonce).map_err(CustodyError::Backend)?;
    let chain = custody.genesis_validators_root;
    let user_data = vault.user_data(chain);
    let now = Timestamp::from_millis(custody.clock.now().0);
    let expected = Expected { nonce: &nonce, user_data: &user_data, now };
    let cms = key.release(&wrapped, &custody.wrap_context(record.id), &document, &expected)?;
    vault.open_attested(&cms, chain, keys).map_err(CustodyError::Backend)
}

impl Custody {
    /// The data key as AWS KMS encrypts it for enclaves. Opens it here, for once.
    ///
    /// # Errors
    /// [`CustodyError`]; [`CustodyError::EnclaveNotConfigured`] without `enclave.key`.
    pub(crate) async fn wrap_for_enclave(&mut self, config: &Config) -> Result<Option<Vec<u8>>, CustodyError> {
        let options = options(config).ok_or(CustodyError::EnclaveNotConfigured)?;
        let Some(record) = self.record().await? else { return Ok(None) };
        self.open_data_key(config).await?;
        let Some(data_key) = self.data_key.clone() else { return Ok(None) };
        let (name, context) = (options.key.clone(), self.wrap_context(record.id));
        // On a thread of its own: the library must find no runtime around it.
        let made = std::thread::spawn(move || AwsKms::new(options).encrypt_data_key(&data_key, &context));
        self.data_key = None;
        let answered = made.join().unwrap_or_else(|_| {
            Err(ServiceError::new(
                holdfast_enclave::provider::ServiceFailure::Protocol,
                "the call ended without an answer",
            ))
        });
        let wrapped = answered.map_err(|ServiceError { failure, source }| ReleaseError::Service {
            key: name,
            failure,
            source,
        })?;
        Ok(Some(wrapped))
    }
}
