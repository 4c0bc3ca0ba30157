//! The data key that seals all stored keys: opened by any of those who wrapped it, made once.
//!
//! Guarantees: a key-encryption key is recorded after it is durable; nothing that is there already is
//! ever overwritten; a database with sealed keys and no data key never gets a new one; new wrappings replace
//! the old ones all at once, after each was seen to open.

use std::sync::Arc;

use holdfast_enclave::provider::retry::Retry;
use holdfast_enclave::provider::shares::ShareSet;
use holdfast_enclave::provider::{self, Checked, Opened, ProviderKind, WrapContext, WrappedSet};
use holdfast_enclave::{DataKey, ProviderError};
use holdfast_slashing_db::{DataKeyId, DataKeyRecord};
use tracing::warn;

use super::providers::{self, Asking};
use super::{Custody, CustodyError};
use crate::config::Config;
use crate::outcome::chain;

/// How the provider of shares describes itself when it opens.
const BY_SHARES: &str = "shares";

/// The first data key of a database.
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

    /// The split guard of the data key in use, if one of its wrappings is split.
    ///
    /// # Errors
    /// [`CustodyError`] if the record cannot be read.
    pub(crate) async fn share_set(&self) -> Result<Option<ShareSet>, CustodyError> {
        let Some(record) = self.record().await? else { return Ok(None) };
        for wrapped in WrappedSet::from_bytes(&record.wrapped)?.members() {
            if let Some(set) = ShareSet::of(wrapped)? {
                return Ok(Some(set));
            }
        }
        Ok(None)
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

    pub(super) fn unwrap_record(&mut self, config: &Config, record: &DataKeyRecord) -> Result<Opened, CustodyError> {
        let set = WrappedSet::from_bytes(&record.wrapped)?;
        let context = self.wrap_context(record.id);
        let kinds = set.kinds()?;
        let unattended = providers::unattended(config, &set, &self.brought, self.caller)?;
        let must_ask = kinds.contains(&ProviderKind::Passphrase) && config.keys.passphrase_file.is_none();
        let brought = !self.brought.is_empty();
        let opened = if unattended.is_empty() && must_ask {
            Err(CustodyError::NoPassphrase)
        } else {
            set.open(&unattended, &context, Retry::default()).map_err(CustodyError::from)
        };
        // Those who brought shares will not come again for the next import.
        self.typed |= brought && opened.as_ref().is_ok_and(|opened| opened.by == BY_SHARES);
        let opened = match (opened, self.terminal) {
            (Err(_), Terminal::MayAsk) if must_ask => {
                let provider = providers::with_passphrase(config, Asking::Once)?;
                self.typed = true;
                set.open(&[provider], &context, Retry::ONCE)?
            }
            (opened, _) => opened?,
        };
        Ok(Opened { key: opened.key.numbered(record.id), ..opened })
    }

    /// Wipes the data key if another signer on the same database replaced it. Says whether there is none now.
    ///
    /// # Errors
    /// [`CustodyError::Database`].
    pub(super) async fn drop_replaced_data_key(&mut self) -> Result<bool, CustodyError> {
        if let Some(held) = self.data_key.as_ref().and_then(|key| key.id()) {
            let present = self.record().await?.map(|record| record.id);
            if present.is_some_and(|present| present != held) {
                self.data_key = None;
            }
        }
        Ok(self.data_key.is_none())
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
        // Shares that wait for others are not used up by a check.
        let providers = providers::unattended(config, &set, &Arc::default(), self.caller)?;
        let typed = config.keys.passphrase_file.is_none();
        let mut checked = set.check(&providers, &self.wrap_context(record.id));
        checked.retain(|member| match (member.provider, &member.result) {
            (ProviderKind::Passphrase, _) => !typed,
            // People are not called together for a check.
            (ProviderKind::Shares, Err(ProviderError::SharesMissing { .. })) => false,
            _ => true,
        });
        Ok(checked)
    }

    /// The data key; made, wrapped by the configured providers and recorded if there is none yet.
    ///
    /// # Errors
    /// [`CustodyError`] if a provider cannot be had, or if keys are stored whose data key is gone.
    pub(crate) async fn ensure_data_key(&mut self, config: &Config) -> Result<Arc<DataKey>, CustodyError> {
        if self.drop_replaced_data_key().await? {
            self.open_data_key(config).await?;
        }
        if let Some(key) = &self.data_key {
            return Ok(Arc::clone(key));
        }
        let keys = self.guard.active_keys().await?.len();
        if keys > 0 {
            return Err(CustodyError::DataKeyLost { keys });
        }
        let key = Arc::new(DataKey::generate()?.numbered(FIRST_DATA_KEY));
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
        let record = self.wrap(config, id, key)?;
        self.guard.put_data_key(record).await?;
        Ok(())
    }

    /// Wraps a data key with each of the configured providers, and sees each open it. Records nothing.
    ///
    /// # Errors
    /// [`CustodyError`] if one cannot be had.
    pub(super) fn wrap(
        &mut self,
        config: &Config,
        id: DataKeyId,
        key: &DataKey,
    ) -> Result<DataKeyRecord, CustodyError> {
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
        let described: Vec<_> = providers.iter().map(|provider| provider.describe()).collect();
        self.protected_by = Some(described.join("; "));
        Ok(record)
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
