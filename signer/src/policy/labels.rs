//! The labels of keys as the rules in force know them.
//!
//! Guarantees: every decision is by the labels of all keys at one moment; what was read or changed later is in force later;
//! a change that is stored is in force when whoever made it hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_slashing_db::{AdminError, CallerId, Guard, Label, LabelChange, Labelled};
use tracing::{info, warn};

use super::PolicyStore;
use crate::outcome::chain;

/// The keys that have each label.
pub(crate) type KeysOfLabels = BTreeMap<String, BTreeSet<PublicKey>>;

/// The keys that have each label, as the database says.
///
/// # Errors
/// [`AdminError`].
pub(crate) async fn keys_of_labels(guard: &Guard) -> Result<KeysOfLabels, AdminError> {
    Ok(guard.labels().await?.into_iter().map(|(label, keys)| (label.to_string(), keys)).collect())
}

/// What a change made of the labels of keys.
fn changed(mut labels: KeysOfLabels, keys: &[PublicKey], labelled: &[Labelled]) -> KeysOfLabels {
    for (key, one) in keys.iter().zip(labelled) {
        let Labelled::Done { before, after } = one else { continue };
        for gone in before.difference(after) {
            if let Some(keys) = labels.get_mut(gone.as_str()) {
                keys.remove(key);
            }
        }
        for label in after {
            labels.entry(label.to_string()).or_default().insert(*key);
        }
    }
    labels.retain(|_, keys| !keys.is_empty());
    labels
}

impl PolicyStore {
    /// Whether a rule in force is about keys that have this label.
    pub(crate) fn names_label(&self, label: &Label) -> bool {
        self.current.load().policy().names_label(label.as_str())
    }

    /// Reads the labels of keys from the database, all of one moment, and judges by these from the next request on. Keys
    /// that come in are not let sign before this.
    ///
    /// # Errors
    /// [`AdminError`]: the labels known before stay in use.
    pub(crate) async fn relabel(&self, guard: &Guard) -> Result<(), AdminError> {
        let _turn = self.replacing.lock().await;
        // Read in turn, so that what was read later is in use later.
        let labels = keys_of_labels(guard).await?;
        self.put_labels(&labels);
        Ok(())
    }

    /// Changes labels in the database, and judges by what they are then from the next request on; until then by what they
    /// were. Nothing else changes labels or rules in between.
    ///
    /// # Errors
    /// [`AdminError`]: nothing is changed.
    pub(crate) async fn label(
        &self,
        guard: &Guard,
        keys: Vec<PublicKey>,
        change: LabelChange,
        by: &CallerId,
    ) -> Result<Vec<Labelled>, AdminError> {
        let _turn = self.replacing.lock().await;
        let labelled = guard.label(keys.clone(), change, by).await?;
        let labels = match keys_of_labels(guard).await {
            Ok(labels) => labels,
            Err(error) => {
                // What was stored holds all the same, and of these keys it is known.
                warn!("the labels of other keys stay as they were last read: {}", chain(&error));
                let before = self.current.load();
                changed(before.policy().directory().labels.clone(), &keys, &labelled)
            }
        };
        self.put_labels(&labels);
        Ok(labelled)
    }

    /// Puts labels in force, all at once, in turn.
    fn put_labels(&self, labels: &KeysOfLabels) {
        let before = self.current.load_full();
        if before.policy().directory().labels != *labels {
            info!(labels = labels.len(), "the labels of keys are other ones");
            self.current.store(Arc::new(before.with_labels(labels)));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what a change answered is what the rules are told where labels cannot be read.
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    fn known(all: &[(&str, &[u8])]) -> KeysOfLabels {
        let key = |byte: &u8| PublicKey::from_bytes([*byte; 48]);
        all.iter().map(|(label, keys)| ((*label).to_owned(), keys.iter().map(key).collect())).collect()
    }

    #[test]
    fn a_change_is_applied_to_its_keys_and_to_no_others() {
        let labels = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect();
        let keys = [1, 2, 3].map(|byte| PublicKey::from_bytes([byte; 48]));
        let labelled = [
            Labelled::Done { before: labels(&["a", "b"]), after: labels(&["b", "c"]) },
            Labelled::TooMany,
            Labelled::Done { before: labels(&[]), after: labels(&["c"]) },
        ];
        let before = known(&[("a", &[1]), ("b", &[1, 2]), ("d", &[9])]);
        let after = known(&[("b", &[1, 2]), ("c", &[1, 3]), ("d", &[9])]);
        assert_eq!(changed(before, &keys, &labelled), after);
    }
}
