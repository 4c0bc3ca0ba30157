//! The data key that seals all stored keys: opened by any of those who wrapped it, made once.
//!
//! Guarantees: a key-encryption key is recorded after it is durable; nothing that is there already is
//! ever overwritten; a database with sealed keys and no data key never gets a new one; new wrappings replace
//! the old ones all at once, after each was seen to open.

use std::sync::Arc;

use holdfast_enclave::DataKey;
use holdfast_enclave::provider::retry::Retry;
use holdfast_enclave::provider::{self, Checked, Opened, Provider, ProviderKind, WrapContext, WrappedSet};
use holdfast_slashing_db::{DataKeyId, DataKeyRecord};
use tracing::warn;

use super::providers::{self, Asking};
use super::{Custody, CustodyError};
use crate::config::Config;
use crate::outcome::chain;

/// The one data key there is so far.
const FIRST_DATA_KEY: DataKeyId = DataKeyId(1);

/// Whether a passphrase may be asked for on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// It may.
    MayAsk,
    /// Nobody is there to answer, or not now.
    Leave,
}

impl Custody {
    /// The record of the data key in use.
    ///
    /// # Errors
    /// [`CustodyError::Database`].
    pub(crate) async fn record(&self) -> Result<Option<DataKeyRecord>, CustodyError> {
        let records = self.guard.data_keys().await?;
        Ok(records.into_iter().max_by_key(|record| record.id))
    }

    pub(super) fn wrap_context(&self, id: DataKeyId) -> WrapContext {
        WrapContext { network: self.genesis_validators_root, data_key: provider::DataKeyId(id.0) }
    }

    /// Opens the data key with any provider that wrapped it, if there is one.
    ///
    /// # Errors
    /// [`CustodyError`] if no provider can be had, or all refuse.
    pub(crate) async fn open_data_key(&mut self, config: &Config) -> Result<(), CustodyError> {
        let Some(record) = self.record().await? else { return Ok(()) };
        let Opened { key, by, failed } = self.unwrap_record(config, &record)?;
        for failure in &failed {
            warn!("opened the data key with another provider: {}", chain(failure));
        }
        self.data_key = Some(Arc::new(key));
        self.protected_by = Some(by);
        Ok(())
    }

    fn unwrap_record(&mut self, config: &Config, record: &DataKeyRecord) -> Result<Opened, CustodyError> {
        let set = WrappedSet::from_bytes(&record.wrapped)?;
        let context = self.wrap_context(record.id);
        let kinds = set.kinds()?;
        let unattended = providers::unattended(config, &kinds, self.caller)?;
        let must_ask = kinds.contains(&ProviderKind::Passphrase) && config.keys.passphrase_file.is_none();
        let opened = if unattended.is_empty() && must_ask {
            Err(CustodyError::NoPassphrase)
        } else {
            set.open(&unattended, &context, Retry::default()).map_err(CustodyError::from)
        };
        match (opened, self.terminal) {
            (Err(_), Terminal::MayAsk) if must_ask => {
                let provider: Box<dyn Provider> = Box::new(providers::asked_passphrase(config, Asking::Once)?);
                self.typed = true;
                Ok(set.open(&[provider], &context, Retry::ONCE)?)
            }
            (opened, _) => opened,
        }
    }

    /// Wipes the data key, which is opened again when it is needed. One that somebody typed a passphrase for stays.
    pub(crate) fn forget_data_key(&mut self) {
        if !self.typed {
            self.data_key = None;
        }
    }

    /// Asks every provider that needs nobody to type something to open the data key. What they give out is dropped.
    ///
    /// # Errors
    /// [`CustodyError`] if the record or a passphrase file cannot be read.
    pub(crate) async fn check_providers(&self, config: &Config) -> Result<Vec<Checked>, CustodyError> {
        let Some(record) = self.record().await? else { return Ok(Vec::new()) };
        let set = WrappedSet::from_bytes(&record.wrapped)?;
        let providers = providers::unattended(config, &set.kinds()?, self.caller)?;
        let typed = config.keys.passphrase_file.is_none();
        let mut checked = set.check(&providers, &self.wrap_context(record.id));
        checked.retain(|member| !(typed && member.provider == ProviderKind::Passphrase));
        Ok(checked)
    }

    /// The data key; made, wrapped by the configured providers and recorded if there is none yet.
    ///
    /// # Errors
    /// [`CustodyError`] if a provider cannot be had, or if keys are stored whose data key is gone.
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
        let key = Arc::new(DataKey::generate()?);
        self.wrap_and_record(config, FIRST_DATA_KEY, &key).await?;
        self.data_key = Some(Arc::clone(&key));
        Ok(key)
    }

    /// Wraps the data key with the configured providers instead of those that wrap it now. `open` is the
    /// configuration that opens it. Validator keys are not touched.
    ///
    /// # Errors
    /// [`CustodyError`]; the wrappings are then what they were.
    pub(crate) async fn rotate(&mut self, open: &Config, wrap: &Config) -> Result<Option<Rotated>, CustodyError> {
        let Some(before) = self.record().await? else { return Ok(None) };
        let Opened { key, by, .. } = self.unwrap_record(open, &before)?;
        self.wrap_and_record(wrap, before.id, &key).await?;
        Ok(Some(Rotated { before: before.provider, opened_by: by, now: self.protected_by.clone().unwrap_or_default() }))
    }

    async fn wrap_and_record(&mut self, config: &Config, id: DataKeyId, key: &DataKey) -> Result<(), CustodyError> {
        if self.caller == providers::Caller::Server && config.keys.provider.0.iter().any(|p| p.kind().is_remote()) {
            return Err(CustodyError::WrapInCommand);
        }
        let typed = config.keys.passphrase_file.is_none();
        let asks = typed && config.keys.provider.0.iter().any(|one| one.kind() == ProviderKind::Passphrase);
        if asks && self.terminal == Terminal::Leave {
            return Err(CustodyError::NoPassphrase);
        }
        let providers = providers::for_wrapping(config, Asking::Twice)?;
        let set = WrappedSet::wrap(key, &providers, &self.wrap_context(id), Retry::default())?;
        let names: Vec<_> = set.kinds()?.into_iter().map(ProviderKind::name).collect();
        let record =
            DataKeyRecord { id, provider: names.join(","), wrapped: set.to_bytes()?, stored: self.clock.now() };
        self.guard.put_data_key(record).await?;
        let described: Vec<_> = providers.iter().map(|provider| provider.describe()).collect();
        self.protected_by = Some(described.join("; "));
        Ok(())
    }
}

/// What a rotation changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// The kinds of provider that wrapped the data key before.
    pub(crate) before: String,
    /// Which of them opened it.
    pub(crate) opened_by: String,
    /// Who wraps it now.
    pub(crate) now: String,
}
