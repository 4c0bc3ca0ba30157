//! A new data key: every stored key is opened with the old one and sealed under the new one.
//!
//! Guarantees: nothing is stored before every key was sealed anew and seen to open, and before each provider was seen to
//! open the new data key; then everything is exchanged in one transaction, or nothing. Servers on the same database go on
//! signing, and open the new data key when they next need one.

use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_enclave::provider::Opened;
use holdfast_enclave::{DataKey, SealError, seal};
use holdfast_slashing_db::{DataKeyId, Replaced, Resealed, StoredKey};

use super::{Custody, CustodyError};
use crate::config::Config;

/// How often it is begun anew when other signers change keys meanwhile.
const ATTEMPTS: u32 = 5;

/// What replacing a data key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDataKey {
    /// The number of the data key that is gone.
    pub(crate) before: DataKeyId,
    /// The number of the new one.
    pub(crate) now: DataKeyId,
    /// Which provider opened the old one.
    pub(crate) opened_by: String,
    /// Who wraps the new one.
    pub(crate) protected_by: String,
    /// How many keys are sealed under it.
    pub(crate) keys: usize,
}

impl Custody {
    /// Makes a new data key, wrapped as `wrap` says, and seals every stored key under it. `open` is the configuration that
    /// opens the present one. `None` if there is none. `progress` hears of each key sealed: how many are, of how many.
    ///
    /// # Errors
    /// [`CustodyError`]; unless the database failed in the last step, everything is then as it was.
    pub(crate) async fn replace_data_key(
        &mut self,
        open: &Config,
        wrap: &Config,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Option<NewDataKey>, CustodyError> {
        for _ in 0..ATTEMPTS {
            let Some(before) = self.record().await? else { return Ok(None) };
            let Opened { key: old, by, .. } = self.unwrap_record(open, &before)?;
            let now = DataKeyId(before.id.0.saturating_add(1));
            let new = DataKey::generate()?.numbered(now);
            let record = self.wrap(wrap, now, &new)?;
            let stored = self.guard.active_keys().await?;
            let keys = stored.len();
            let mut resealed = Vec::with_capacity(keys);
            for key in &stored {
                resealed.push(self.reseal(key, &old, &new)?);
                progress(resealed.len(), keys);
            }
            self.prepare_checkpoint_key(open, &old, &new)?;
            let replaced = self.guard.replace_data_key(before.id, record.clone(), resealed).await;
            // An answer that got lost, or came twice, is told by the record.
            let done = match replaced {
                Ok(Replaced::Done) => true,
                Ok(Replaced::Moved) => self.record().await?.as_ref() == Some(&record),
                Err(error) => self.record().await.ok().flatten().as_ref() == Some(&record) || Err(error)?,
            };
            if done {
                self.data_key = Some(Arc::new(new));
                if let Some(key) = self.checkpoint_key(open)? {
                    self.settle_checkpoint_key(open, &key)?;
                }
                let protected_by = self.protected_by.clone().unwrap_or_default();
                return Ok(Some(NewDataKey { before: before.id, now, opened_by: by, protected_by, keys }));
            }
        }
        Err(CustodyError::KeysKeepChanging)
    }

    fn reseal(&self, stored: &StoredKey, old: &DataKey, new: &DataKey) -> Result<Resealed, CustodyError> {
        let (key, network): (PublicKey, _) = (*stored.registration.key(), self.genesis_validators_root);
        let anew = || -> Result<_, SealError> {
            let secret = seal::open(old, &key, network, &stored.sealed)?;
            let after = seal::seal(new, network, &secret)?;
            let again = seal::open(new, &key, network, &after)?;
            let same = secret.expose_be_bytes(|a| again.expose_be_bytes(|b| a == b));
            if same { Ok(after) } else { Err(SealError::Damaged { public_key: key }) }
        };
        let after = anew().map_err(CustodyError::CannotReseal)?;
        Ok(Resealed { key, before: stored.sealed.clone(), after })
    }
}
