//! The data key that seals all stored keys: opened by whoever wrapped it, made once.
//!
//! Guarantees: a key-encryption key is recorded after it is durable; nothing that is there already is
//! ever overwritten; a database with sealed keys and no data key never gets a new one.

use std::io::IsTerminal as _;
use std::sync::Arc;

use holdfast_enclave::provider::file::FileProvider;
use holdfast_enclave::provider::passphrase::PassphraseProvider;
use holdfast_enclave::provider::{self, Provider, ProviderKind, WrapContext, Wrapped};
use holdfast_enclave::secret::FilePrivacy;
use holdfast_enclave::{DataKey, Passphrase};
use holdfast_slashing_db::{DataKeyId, DataKeyRecord};

use super::{Custody, CustodyError};
use crate::config::{Config, KeyProvider};

/// The one data key there is so far.
const FIRST_DATA_KEY: DataKeyId = DataKeyId(1);

impl Custody {
    /// The record of the data key in use.
    ///
    /// # Errors
    /// [`CustodyError::Database`].
    pub(crate) async fn record(&self) -> Result<Option<DataKeyRecord>, CustodyError> {
        let records = self.guard.data_keys().await?;
        Ok(records.into_iter().max_by_key(|record| record.id))
    }

    fn wrap_context(&self, id: DataKeyId) -> WrapContext {
        WrapContext { network: self.genesis_validators_root, data_key: provider::DataKeyId(id.0) }
    }

    /// Opens the data key with the provider that wrapped it, if there is one.
    ///
    /// # Errors
    /// [`CustodyError`] if the provider cannot be had or refuses.
    pub(crate) async fn open_data_key(&mut self, config: &Config) -> Result<(), CustodyError> {
        let Some(record) = self.record().await? else { return Ok(()) };
        let provider: Box<dyn Provider> = match record.provider.parse::<ProviderKind>()? {
            ProviderKind::File => Box::new(FileProvider::new(FileProvider::default_path(config.data_dir()))),
            ProviderKind::Passphrase => Box::new(PassphraseProvider::new(passphrase(config, Asking::Once)?)?),
        };
        let key = provider.unwrap(&Wrapped::from_bytes(record.wrapped), &self.wrap_context(record.id))?;
        self.data_key = Some(Arc::new(key));
        self.protected_by = Some(provider.describe());
        Ok(())
    }

    /// Whether the data key can be opened again without asking anybody.
    ///
    /// # Errors
    /// [`CustodyError::Database`].
    pub(crate) async fn opens_unasked(&self, config: &Config) -> Result<bool, CustodyError> {
        Ok(match self.record().await? {
            None => true,
            Some(record) => match record.provider.parse::<ProviderKind>()? {
                ProviderKind::File => true,
                ProviderKind::Passphrase => config.keys.passphrase_file.is_some(),
            },
        })
    }

    /// The data key; made, wrapped by the configured provider and recorded if there is none yet.
    ///
    /// # Errors
    /// [`CustodyError`] if the provider cannot be had, or if keys are stored whose data key is gone.
    pub(crate) async fn ensure_data_key(&mut self, config: &Config) -> Result<Arc<DataKey>, CustodyError> {
        if self.data_key.is_none() {
            self.open_data_key(config).await?;
        }
        if let Some(key) = &self.data_key {
            return Ok(Arc::clone(key));
        }
        let keys = self.guard.active_keys().await?.len();
        if keys > 0 {
            return Err(CustodyError::DataKeyLost { keys });
        }
        let provider = new_provider(config)?;
        let key = DataKey::generate()?;
        let wrapped = provider.wrap(&key, &self.wrap_context(FIRST_DATA_KEY))?;
        let record = DataKeyRecord {
            id: FIRST_DATA_KEY,
            provider: provider.kind().name().to_owned(),
            wrapped: wrapped.as_bytes().to_vec(),
            stored: self.clock.now(),
        };
        self.guard.put_data_key(record).await?;
        let key = Arc::new(key);
        self.data_key = Some(Arc::clone(&key));
        self.protected_by = Some(provider.describe());
        Ok(key)
    }
}

/// The provider for a new data key.
fn new_provider(config: &Config) -> Result<Box<dyn Provider>, CustodyError> {
    Ok(match config.keys.provider {
        KeyProvider::File => {
            let path = FileProvider::default_path(config.data_dir());
            // A key file without a recorded data key is left from a start that was cut short.
            if path.exists() { Box::new(FileProvider::new(path)) } else { Box::new(FileProvider::create(path)?) }
        }
        KeyProvider::Passphrase => Box::new(PassphraseProvider::new(passphrase(config, Asking::Twice)?)?),
    })
}

/// How often a passphrase is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// To open something with it.
    Once,
    /// To protect something with it, where a slip would lock its owner out.
    Twice,
}

/// The passphrase from the configured file, or from the terminal.
fn passphrase(config: &Config, asking: Asking) -> Result<Passphrase, CustodyError> {
    if let Some(path) = &config.keys.passphrase_file {
        return Ok(Passphrase::read_file(path, FilePrivacy::Required)?);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CustodyError::NoPassphrase);
    }
    let ask = |prompt: &str| -> Result<Passphrase, CustodyError> {
        Ok(Passphrase::new(rpassword::prompt_password(prompt).map_err(CustodyError::Prompt)?)?)
    };
    let first = ask("Passphrase that protects the stored keys: ")?;
    match asking {
        Asking::Once => Ok(first),
        Asking::Twice => {
            let second = ask("The same passphrase again: ")?;
            if first.matches(&second) { Ok(first) } else { Err(CustodyError::PassphrasesDiffer) }
        }
    }
}
