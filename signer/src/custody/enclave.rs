//! The data key of a vault in an enclave, which never is in this process: AWS KMS encrypts it for the enclave, and this
//! signer carries the envelope.
//!
//! Guarantees: each opening asks the vault for a new document with a nonce of its own; nothing is asked of AWS KMS for a
//! vault that does not prove to be an expected enclave for this chain, and no key of an administrator is encrypted for one.

use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_enclave::backend::{Held, KeyBackend, OpenError};
use holdfast_enclave::generate::{Generated, Origin};
use holdfast_enclave::provider::{ServiceError, WrapContext};
use holdfast_enclave::vault::enclave::commitment;
use holdfast_enclave::vault::generate::{MAX_GENERATED, bound};
use holdfast_enclave::{
    ActiveKey, AttestedOrder, AttestedVault, DataKeyCommitment, GeneratedKey, ProcessBackend, SecretError, SecretKey,
    SignError,
};
use holdfast_nitro::Pcr;
use holdfast_nitro::attestation::{PcrIndex, PcrPolicy, Timestamp, Verifier};
use holdfast_providers::aws::{AwsKms, AwsOptions};
use holdfast_providers::nitro::{EnclaveKey, Expected, Proven, ReleaseError};
use holdfast_slashing_db::{SealedKey, StoredKey};

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
    let cms = envelope(vault, custody, config, &custody.wrap_context(record.id))?;
    vault.open_attested(&cms, custody.genesis_validators_root, keys).map_err(CustodyError::Backend)
}

/// The data key, encrypted for this boot of an enclave that proves to be an expected one.
fn envelope(
    vault: &dyn AttestedVault,
    custody: &Custody,
    config: &Config,
    context: &WrapContext,
) -> Result<Vec<u8>, CustodyError> {
    let missing = || CustodyError::EnclaveNotConfigured;
    let path = config.enclave.data_key_file.as_ref().ok_or_else(missing)?;
    let wrapped = std::fs::read(path)
        .and_then(|bytes| {
            let fits = (1..=MAX_WRAPPED).contains(&bytes.len());
            fits.then_some(bytes).ok_or_else(|| std::io::Error::other("it holds no encrypted data key"))
        })
        .map_err(|source| CustodyError::EnclaveDataKey { path: path.clone(), source })?;
    let key = EnclaveKey::new(options(config).ok_or_else(missing)?, images(config));
    let asked = Asked::new(vault, custody)?;
    Ok(key.release(&wrapped, context, &asked.document, &asked.expected(custody))?)
}

/// A vault in an enclave that proved itself and holds its data key, ready for keys of an administrator.
pub(crate) struct EnclaveSeal {
    backend: ProcessBackend,
    proven: Proven,
    context: WrapContext,
    data_key: DataKeyCommitment,
    /// The data key for this boot.
    envelope: Vec<u8>,
}

impl EnclaveSeal {
    /// Has a key sealed inside, and what came back opened there. The key leaves this process encrypted for the enclave only.
    /// Blocks.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub(crate) fn seal(&self, secret: &SecretKey) -> Result<SealedKey, CustodyError> {
        let place: Arc<dyn KeyBackend> = self.backend.clone().into();
        let vault = place.attested().ok_or(CustodyError::EnclaveNotConfigured)?;
        let encrypted = self.proven.encrypt(secret, &self.context, self.data_key)?;
        let sealed = vault.import(encrypted).map_err(CustodyError::EnclaveSeal)?;
        // What is stored can sign: a damage on the way back is noticed while the keystore is at hand.
        let keys = [(*secret.public_key(), &sealed)];
        let opened = self.open(&keys)?;
        opened.into_iter().try_for_each(|held| held.map(drop)).map_err(CustodyError::EnclaveReopen)?;
        Ok(sealed)
    }
}

impl EnclaveSeal {
    /// Has keys made inside, and believes it only with a document that says so: the host, which carries the answer, could put
    /// keys of its own into it. What came is opened there as well. Blocks.
    ///
    /// # Errors
    /// [`CustodyError`]; then none is used.
    pub(crate) fn generate(
        &self,
        custody: &Custody,
        config: &Config,
        origin: Origin<'_>,
        count: u32,
    ) -> Result<Vec<Generated>, CustodyError> {
        let at_once = u32::try_from(MAX_GENERATED).unwrap_or(u32::MAX);
        let mut made = Vec::new();
        for (origin, _, some) in origin.parts(count, at_once) {
            made.extend(self.generate_some(custody, config, origin, some)?);
        }
        let sealed: Vec<_> = made.iter().map(|one: &Generated| (one.key, &one.sealed)).collect();
        self.open(&sealed)?.into_iter().try_for_each(|held| held.map(drop)).map_err(CustodyError::EnclaveReopen)?;
        Ok(made)
    }

    fn generate_some(
        &self,
        custody: &Custody,
        config: &Config,
        origin: Origin<'_>,
        count: u32,
    ) -> Result<Vec<Generated>, CustodyError> {
        let seed = self.proven.encrypt_seed(origin, &self.context, self.data_key)?;
        let nonce = nonce()?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let order = AttestedOrder { nonce: nonce.to_vec(), data_key: self.data_key, count, seed };
        let place: Arc<dyn KeyBackend> = self.backend.clone().into();
        let vault = place.attested().ok_or(CustodyError::EnclaveNotConfigured)?;
        let (keys, document) = vault.generate(order).map_err(CustodyError::EnclaveSeal)?;
        let user_data = bound(self.context.network, self.data_key, &keys).filter(|_| keys.len() == count);
        let user_data = user_data.ok_or(CustodyError::Generate(SignError::VaultDown))?;
        let now = Timestamp::from_millis(custody.clock.now().0);
        let expected = Expected { nonce: &nonce, user_data: &user_data, now };
        Proven::new(&Verifier::aws(), &images(config), &document, &expected).map_err(CustodyError::EnclaveKeys)?;
        let stored = |one: GeneratedKey| Generated {
            key: one.key.public_key,
            sealed: SealedKey::new(one.key.sealed).under(Some(self.context.data_key)),
            withdrawal_key: one.withdrawal_key,
        };
        Ok(keys.into_iter().map(stored).collect())
    }

    fn open(&self, keys: &[(PublicKey, &SealedKey)]) -> Result<Vec<Result<Held, OpenError>>, CustodyError> {
        let place: Arc<dyn KeyBackend> = self.backend.clone().into();
        let vault = place.attested().ok_or(CustodyError::EnclaveNotConfigured)?;
        vault.open_attested(&self.envelope, self.context.network, keys).map_err(CustodyError::Backend)
    }

    /// A stored key, ready to sign there. Blocks.
    ///
    /// # Errors
    /// [`CustodyError`] if the vault cannot be had, or the key does not open there.
    pub(crate) fn ready(&self, stored: StoredKey) -> Result<ActiveKey, CustodyError> {
        let opened = self.open(&[(*stored.registration.key(), &stored.sealed)])?;
        let held = opened.into_iter().next().ok_or(CustodyError::Backend(SignError::VaultDown))??;
        Ok(ActiveKey::held(stored.registration, held, self.backend.clone())?)
    }
}

fn nonce() -> Result<[u8; 32], CustodyError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| CustodyError::Secret(SecretError::Random(error)))?;
    Ok(nonce)
}

/// A document of the vault with a nonce of its own, and what it has to say.
struct Asked {
    document: Vec<u8>,
    nonce: [u8; 32],
    user_data: Vec<u8>,
}

impl Asked {
    fn new(vault: &dyn AttestedVault, custody: &Custody) -> Result<Self, CustodyError> {
        let nonce = nonce()?;
        let document = vault.attest(&nonce).map_err(CustodyError::Backend)?;
        Ok(Self { document, nonce, user_data: vault.user_data(custody.genesis_validators_root) })
    }

    fn expected(&self, custody: &Custody) -> Expected<'_> {
        let now = Timestamp::from_millis(custody.clock.now().0);
        Expected { nonce: &self.nonce, user_data: &self.user_data, now }
    }
}

impl Custody {
    /// The vault in the enclave, with its data key, to seal keys under the one that is named.
    ///
    /// # Errors
    /// [`CustodyError`]: the vault cannot be had, does not prove to be an expected enclave, or gets no data key.
    pub(crate) async fn enclave_seal(
        &self,
        backend: ProcessBackend,
        config: &Config,
        data_key: DataKeyCommitment,
    ) -> Result<EnclaveSeal, CustodyError> {
        let record = self.record().await?.ok_or(CustodyError::NoDataKey)?;
        let place: Arc<dyn KeyBackend> = backend.clone().into();
        let vault = place.attested().ok_or(CustodyError::EnclaveNotConfigured)?;
        let context = self.wrap_context(record.id);
        let envelope = envelope(vault, self, config, &context)?;
        vault.hold_data_key(&envelope).map_err(CustodyError::Backend)?;
        // Another document than the one that AWS KMS saw: this one is for us.
        let asked = Asked::new(vault, self)?;
        let proven = Proven::new(&Verifier::aws(), &images(config), &asked.document, &asked.expected(self))?;
        Ok(EnclaveSeal { backend, proven, context, data_key, envelope })
    }

    /// The data key as AWS KMS encrypts it for enclaves, and what an import names it by. Opens it here, for once.
    ///
    /// # Errors
    /// [`CustodyError`]; [`CustodyError::EnclaveNotConfigured`] without `enclave.key`.
    pub(crate) async fn wrap_for_enclave(
        &mut self,
        config: &Config,
    ) -> Result<Option<(Vec<u8>, DataKeyCommitment)>, CustodyError> {
        let options = options(config).ok_or(CustodyError::EnclaveNotConfigured)?;
        let Some(record) = self.record().await? else { return Ok(None) };
        self.open_data_key(config).await?;
        let Some(data_key) = self.data_key.clone() else { return Ok(None) };
        let named = commitment(&data_key);
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
        Ok(Some((wrapped, named)))
    }
}
