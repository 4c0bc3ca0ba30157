//! Bringing keys into a running signer and taking them out again: what the Keymanager API and the admin API share.
//!
//! Guarantees: a key is opened where it will sign before it is stored, and signs only after its row is committed; a key
//! that is taken out has no signature under way any more when this returns.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::backend::Held;
use holdfast_enclave::import::Imported;
use holdfast_enclave::kdf::KdfBudget;
use holdfast_enclave::{ActiveKey, DataKey};
use holdfast_slashing_db::{
    AdminError, CallerId, EntryWatermark, KeyOrigin, Labels, NewKey, RegisterError, Registered, Then, Tombstone,
    Withdraw, Withdrawn,
};
use tracing::{info, warn};

use crate::loader::KeyLoader;
use crate::outcome::chain;
use crate::pipeline::Signer;

/// How often it is looked whether the last signature under way of a deleted key is done.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A key that is sealed and shall enter.
pub(crate) struct Incoming {
    /// It.
    pub(crate) key: Imported,
    /// Where its protection begins.
    pub(crate) entry: EntryWatermark,
    /// Where it came from.
    pub(crate) origin: KeyOrigin,
    /// The labels it enters with.
    pub(crate) labels: Labels,
}

impl Incoming {
    /// As the database takes it.
    pub(crate) fn as_new(&self, by: &CallerId) -> (NewKey, EntryWatermark) {
        let Imported { public_key, sealed } = &self.key;
        let (key, sealed, registered_by) = (*public_key, sealed.clone(), by.clone());
        (
            NewKey { key, sealed, origin: self.origin, label: None, labels: self.labels.clone(), registered_by },
            self.entry,
        )
    }
}

/// What became of one key.
#[derive(Debug)]
pub(crate) enum Stored {
    /// It signs.
    Imported,
    /// It is here, and switched off because its history says so.
    SwitchedOff,
    /// It was here already; what it is taken to have signed elsewhere was merged in, and nothing else was changed.
    Duplicate,
    /// It may not enter.
    Refused(RegisterError),
    /// It cannot be used, or could not be stored.
    Failed(String),
}

/// The way in and out. One per process.
pub(crate) struct Intake {
    signer: Arc<Signer>,
    loader: Arc<KeyLoader>,
    network: GenesisValidatorsRoot,
    /// Memory for key derivation, of all imports together.
    pub(crate) budget: Arc<KdfBudget>,
}

impl Intake {
    /// Into and out of `signer`.
    pub(crate) fn new(
        signer: Arc<Signer>,
        loader: Arc<KeyLoader>,
        network: GenesisValidatorsRoot,
        budget: Arc<KdfBudget>,
    ) -> Self {
        Self { signer, loader, network, budget }
    }

    /// Registers keys in one transaction and lets them sign; the answer is in their order. Each key comes once.
    pub(crate) async fn store(
        &self,
        data_key: Arc<DataKey>,
        keys: Vec<Incoming>,
        tombstone: Tombstone,
        by: &CallerId,
    ) -> Vec<Stored> {
        let _changing = self.loader.keep_out().await;
        let of = keys.len();
        let lost = || Stored::Failed("not registered; send the request again".to_owned());
        let mut answers: Vec<Stored> = std::iter::repeat_with(lost).take(of).collect();
        // Opened before anything is stored, so that what is stored can sign.
        let (mut waiting, mut news) = (Vec::new(), Vec::new());
        for (place, (incoming, held)) in self.make_ready(data_key, keys).await.into_iter().enumerate() {
            match held {
                Err(reason) => set(&mut answers, place, Stored::Failed(reason)),
                Ok(held) => {
                    waiting.push((place, incoming.key.public_key, held));
                    news.push(incoming.as_new(by));
                }
            }
        }
        let results = match self.signer.guard.register_many(news, tombstone).await {
            Ok(results) => results,
            Err(error) => {
                let reason = chain(&error);
                for (place, _, _) in &waiting {
                    set(&mut answers, *place, Stored::Failed(reason.clone()));
                }
                self.loader.forget(waiting.into_iter().map(|(_, key, _)| key).collect()).await;
                return answers;
            }
        };
        // After they are stored and before they sign: none is ever judged without its labels.
        let labels = self.signer.policy.relabel(&self.signer.guard).await.map_err(|error| unlabelled(&error));
        let (mut ready, mut refused) = (Vec::new(), Vec::new());
        for ((place, key, held), result) in waiting.into_iter().zip(results) {
            let (registration, enters) = match result {
                Ok(Registered::New(registration)) => (registration, Stored::Imported),
                Ok(Registered::SwitchedOff(registration)) => (registration, Stored::SwitchedOff),
                Ok(Registered::Duplicate) => {
                    set(&mut answers, place, Stored::Duplicate);
                    continue;
                }
                Err(error) => {
                    refused.push(key);
                    set(&mut answers, place, Stored::Refused(error));
                    continue;
                }
            };
            let active = ActiveKey::held(registration, held, self.loader.backend()).map_err(|error| chain(&error));
            let entered = match labels.clone().and(active) {
                Ok(active) => {
                    ready.push(active);
                    enters
                }
                Err(reason) => {
                    refused.push(key);
                    Stored::Failed(reason)
                }
            };
            set(&mut answers, place, entered);
        }
        let imported = ready.len();
        self.signer.keyring.load().insert_all(ready);
        self.loader.forget(refused).await;
        info!(imported, of, %by, "keys imported");
        answers
    }

    /// Has keys opened where they will sign; each comes back with what signs with it, or why nothing does.
    async fn make_ready(&self, data_key: Arc<DataKey>, keys: Vec<Incoming>) -> Vec<(Incoming, Result<Held, String>)> {
        let (backend, network) = (self.loader.backend(), self.network);
        let work = tokio::task::spawn_blocking(move || {
            let sealed: Vec<_> = keys.iter().map(|one| (one.key.public_key, &one.key.sealed)).collect();
            let mut results: Vec<Result<Held, String>> = match backend.open(&data_key, network, &sealed) {
                Ok(opened) => opened.into_iter().map(|held| held.map_err(|error| chain(&error))).collect(),
                Err(error) => vec![Err(chain(&error)); keys.len()],
            };
            results.resize_with(keys.len(), || Err("not opened; send the request again".to_owned()));
            keys.into_iter().zip(results).collect()
        });
        // A panic there is one here.
        work.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
    }

    /// Deletes keys and reads out what they have signed, in one transaction, and returns when no signature of theirs is
    /// under way any more.
    ///
    /// # Errors
    /// [`AdminError`]: nothing is deleted.
    pub(crate) async fn delete(&self, keys: Vec<PublicKey>, by: &CallerId) -> Result<Vec<Withdrawn>, AdminError> {
        let _changing = self.loader.keep_out().await;
        let withdrawn = self.signer.guard.export(Some(keys), Then::Stop(Withdraw::Tombstone), by).await?;
        self.drop_secrets(withdrawn.iter().map(|one| one.key).collect(), by).await;
        Ok(withdrawn)
    }

    /// Deletes one key without reading out what it has signed. Returns the state it had before.
    ///
    /// # Errors
    /// [`AdminError`]: nothing is deleted.
    pub(crate) async fn erase(
        &self,
        key: &PublicKey,
        by: &CallerId,
    ) -> Result<holdfast_slashing_db::KeyState, AdminError> {
        let _changing = self.loader.keep_out().await;
        let before = self.signer.guard.tombstone(key, by).await?;
        self.drop_secrets(BTreeSet::from([*key]), by).await;
        Ok(before)
    }

    /// From the commit on there is no permit for these keys; now their secrets go as well.
    async fn drop_secrets(&self, gone: BTreeSet<PublicKey>, by: &CallerId) {
        let removed = self.signer.keyring.load().remove_all(&gone);
        let last: Vec<Weak<ActiveKey>> = removed.iter().map(Arc::downgrade).collect();
        drop(removed);
        self.wait_for(&last).await;
        self.loader.forget(gone.into_iter().collect()).await;
        info!(deleted = last.len(), %by, "keys deleted");
    }

    /// Waits until nobody holds these keys: signatures permitted earlier are done. Requests have a time
    /// limit, so this ends.
    async fn wait_for(&self, keys: &[Weak<ActiveKey>]) {
        let all_gone = async {
            while keys.iter().any(|key| key.strong_count() > 0) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(self.signer.timeout, all_gone).await.is_err() {
            warn!("signatures of deleted keys are still under way; the exported history covers them");
        }
    }
}

/// Why a key that is stored does not sign yet.
fn unlabelled(error: &AdminError) -> String {
    let text =
        "it is stored, and does not sign yet, as the labels of keys cannot be read; reload the keys (POST /reload)";
    format!("{text}: {}", chain(error))
}

fn set(answers: &mut [Stored], place: usize, answer: Stored) {
    if let Some(slot) = answers.get_mut(place) {
        *slot = answer;
    }
}
