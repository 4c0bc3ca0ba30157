//! Replacing the data key: every sealed key is exchanged for the same key sealed anew, together with the record of the
//! data key, or nothing is.
//!
//! Guarantees: one transaction, so a crash leaves the old data key with what it seals, or the new one with what it seals.
//! Nothing is exchanged unless the database holds exactly what the caller sealed anew, so that no key that came in
//! meanwhile stays behind under a data key that is gone; and a key sealed under a replaced data key is not let in
//! afterwards ([`SealedKey::under`](crate::SealedKey::under)). Rows of validators are not touched: signing goes on.

use holdfast_domain::PublicKey;

use super::Guard;
use crate::error::AdminError;
use crate::registry::{DataKeyId, DataKeyRecord, SealedKey};

/// A key sealed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// Whose secret.
    pub key: PublicKey,
    /// As it is stored.
    pub before: SealedKey,
    /// As it is to be stored.
    pub after: SealedKey,
}

/// What became of replacing a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Replaced {
    /// The new data key and the keys sealed anew are stored, and the old data key is gone.
    Done,
    /// Keys or data key are no longer those that were read. Nothing was changed.
    Moved,
}

/// Why a key sealed under another data key than the present one is not stored.
#[derive(Debug, thiserror::Error)]
#[error("the data key was replaced meanwhile, and the key was sealed under the old one; do the same again")]
pub(crate) struct DataKeyReplaced;

impl Guard {
    /// Replaces the data key `old` by `new`, and every sealed key, in one transaction.
    ///
    /// # Errors
    /// [`AdminError`] if the transaction failed: its outcome may then be unknown, and [`Guard::data_keys`] tells it.
    pub async fn replace_data_key(
        &self,
        old: DataKeyId,
        new: DataKeyRecord,
        keys: Vec<Resealed>,
    ) -> Result<Replaced, AdminError> {
        self.write(move |store| Ok(store.replace_data_key(old, &new, &keys)?)).await
    }
}
