//! Keys in and out of a running signer: what the Keymanager API does, without HTTP.
//!
//! Guarantees: a key is sealed before it is stored and registered with its history before it can sign; a
//! key whose import failed is in no file and in no memory; deleting and reading out what was signed are
//! one transaction; a client that leaves half-way finds either nothing done or all of it.

mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use eth2_keystore::Keystore;
use holdfast_access::{Builtin, Operation};
use holdfast_approvals::Act;
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::backend::Held;
use holdfast_enclave::import::{Imported, KeystoreInput, SealFor, decrypt};
use holdfast_enclave::kdf::KdfBudget;
use holdfast_enclave::{ActiveKey, DataKey, Passphrase};
use holdfast_slashing_db::interchange::Interchange;
use holdfast_slashing_db::{
    AdminError, CallerId, EntryWatermark, KeyInfo, KeyOrigin, KeyState, NewKey, Registered, Then, Tombstone, Withdraw,
    Withdrawn,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

pub(crate) use token::{Access, Token};

use crate::approval;
use crate::callers::Principal;
use crate::config::{ApprovalsConfig, Config};
use crate::custody;
use crate::drain::Tasks;
use crate::loader::KeyLoader;
use crate::outcome::chain;
use crate::pipeline::Signer;

/// How often it is looked whether the last signature under way of a deleted key is done.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A keystore to import.
pub(crate) struct Wanted {
    /// Its text.
    pub(crate) keystore: String,
    /// Its password.
    pub(crate) password: Passphrase,
}

/// What became of one keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImportStatus {
    /// It signs from now on.
    Imported,
    /// It was here already; nothing was changed.
    Duplicate(&'static str),
    /// It is not here.
    Error(String),
}

/// What was deleted, and what it had signed.
pub(crate) struct Deleted {
    /// Keys that are known here, with their state before, ascending.
    pub(crate) known: BTreeMap<PublicKey, Withdrawn>,
}

/// Manages keys. One per process.
pub(crate) struct KeyManager {
    signer: Arc<Signer>,
    loader: Arc<KeyLoader>,
    tasks: Tasks,
    network: GenesisValidatorsRoot,
    budget: Arc<KdfBudget>,
    token: Token,
    /// Who asks, as recorded: whoever has the token.
    principal: Arc<Principal>,
    approvals: ApprovalsConfig,
    /// One import at a time: the memory for key derivation is one budget, and so is patience.
    importing: tokio::sync::Mutex<()>,
}

impl KeyManager {
    /// A manager of the keys of `signer`.
    pub(crate) fn new(
        config: &Config,
        network: GenesisValidatorsRoot,
        signer: Arc<Signer>,
        loader: Arc<KeyLoader>,
        tasks: Tasks,
        token: Token,
    ) -> Self {
        let budget = Arc::new(custody::kdf_budget(config));
        let principal = Principal::builtin(Builtin::Keymanager);
        let (approvals, importing) = (config.approvals.clone(), tokio::sync::Mutex::new(()));
        Self { signer, loader, tasks, network, budget, token, principal, approvals, importing }
    }

    /// The token that opens all of this.
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    /// Who asks with the token.
    pub(crate) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The chain.
    pub(crate) fn network(&self) -> GenesisValidatorsRoot {
        self.network
    }

    /// The keys held here, switched off or not, ascending.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(crate) async fn list(&self) -> Result<Vec<PublicKey>, AdminError> {
        let mut keys: Vec<PublicKey> =
            self.signer.guard.list().await?.iter().filter(|info| is_held(info)).map(|info| info.key).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// Imports keystores; the answer is in their order. A key that policy does not let `principal` import is refused, by
    /// what its keystore says and again by what it turned out to be. A key that `histories` lists starts from there, any
    /// other at the present.
    ///
    /// Dropping the future while keystores are decrypted ends the import with nothing done; once keys are
    /// being stored it goes on to its end.
    ///
    /// # Errors
    /// [`AdminError`] if what is here cannot be read; nothing is imported then.
    pub(crate) async fn import(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        histories: Option<Interchange>,
        tombstone: Tombstone,
        principal: &Arc<Principal>,
    ) -> Result<Vec<ImportStatus>, AdminError> {
        let _turn = self.importing.lock().await;
        let terms = self.terms(tombstone).await;
        let held: BTreeSet<PublicKey> =
            self.signer.guard.list().await?.iter().filter(|info| is_held(info)).map(|info| info.key).collect();
        let mut statuses: Vec<Option<ImportStatus>> = Vec::with_capacity(wanted.len());
        let (mut places, mut inputs) = (Vec::new(), Vec::new());
        for (place, Wanted { keystore, password }) in wanted.into_iter().enumerate() {
            let status = match Keystore::from_json(keystore.as_bytes()) {
                Err(error) => Some(ImportStatus::Error(chain(&error))),
                Ok(keystore) => {
                    let claimed = keystore.pubkey().map(|key| PublicKey::from_bytes(key.to_bytes()));
                    if let Some(refusal) = claimed.and_then(|key| self.may_not_import(principal, &key)) {
                        // Before it is said whether the key is here, and before anything is decrypted.
                        Some(ImportStatus::Error(refusal))
                    } else if claimed.is_some_and(|key| held.contains(&key)) {
                        Some(ImportStatus::Duplicate(HELD))
                    } else {
                        places.push(place);
                        inputs.push(KeystoreInput { keystore, password: Arc::new(password) });
                        None
                    }
                }
            };
            statuses.push(status);
        }
        if !inputs.is_empty() {
            let outcome = self.open_and_store(inputs, histories, terms, principal).await;
            for (place, status) in places.into_iter().zip(outcome) {
                if let Some(slot) = statuses.get_mut(place) {
                    *slot = Some(status);
                }
            }
        }
        let lost = || ImportStatus::Error("the import was cut off; send it again".to_owned());
        Ok(statuses.into_iter().map(|status| status.unwrap_or_else(lost)).collect())
    }

    /// What of a request is done without people, who cannot approve anything here.
    async fn terms(&self, tombstone: Tombstone) -> Terms {
        let needs = async |act| approval::needs_people(&self.signer.guard, &self.approvals, act).await;
        let tombstones_need_people = needs(Act::ReplaceTombstone).await;
        let tombstone = if tombstones_need_people { Tombstone::Refuse } else { tombstone };
        Terms { tombstone, tombstones_need_people, less_needs_people: needs(Act::LowerProtection).await }
    }

    async fn open_and_store(
        self: &Arc<Self>,
        inputs: Vec<KeystoreInput>,
        histories: Option<Interchange>,
        terms: Terms,
        principal: &Principal,
    ) -> Vec<ImportStatus> {
        let count = inputs.len();
        let all = |text: String| vec![ImportStatus::Error(text); count];
        let data_key = match self.loader.data_key().await {
            Ok(data_key) => data_key,
            Err(error) => return all(chain(&error)),
        };
        let opened = self.open(inputs, &data_key).await;
        let judged = opened.into_iter().map(|one| match one {
            Ok(imported) => match self.may_not_import(principal, &imported.public_key) {
                Some(refusal) => Err(refusal),
                None => Ok(imported),
            },
            Err(reason) => Err(reason),
        });
        let (opened, by): (Vec<_>, _) = (judged.collect(), principal.id().clone());
        let (reply, answer) = oneshot::channel();
        let manager = Arc::clone(self);
        self.tasks.spawn(async move {
            let statuses = manager.store(opened, data_key, histories.as_ref(), terms, &by).await;
            // Whoever asked may have gone; the keys are here all the same.
            drop(reply.send(statuses));
        });
        answer.await.unwrap_or_else(|_| all("the signer is stopping; send the request again".to_owned()))
    }

    /// Why policy does not let `principal` import a key.
    fn may_not_import(&self, principal: &Principal, key: &PublicKey) -> Option<String> {
        let judged = self.signer.policy.judge(principal, Some(key), Operation::KeymanagerWrite);
        judged.err().map(|refusal| refusal.to_string())
    }

    /// Decrypts and seals, on threads of its own and within the memory budget.
    async fn open(&self, inputs: Vec<KeystoreInput>, data_key: &Arc<DataKey>) -> Vec<Result<Imported, String>> {
        let mut opened: Vec<Result<Imported, String>> = Vec::new();
        opened.resize_with(inputs.len(), || Err("not decrypted; send the request again".to_owned()));
        let (sender, mut receiver) = mpsc::channel(1);
        let (data_key, budget, network) = (Arc::clone(data_key), Arc::clone(&self.budget), self.network);
        let work = tokio::task::spawn_blocking(move || {
            decrypt(&inputs, SealFor { data_key: &data_key, network }, &budget, |finished| {
                // Nobody receives any more when the client has gone.
                match sender.blocking_send((finished.index, finished.outcome)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
        });
        while let Some((index, outcome)) = receiver.recv().await {
            if let Some(slot) = opened.get_mut(index) {
                *slot = outcome.map_err(|error| chain(&error));
            }
        }
        match work.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("keystores not decrypted: {}", chain(&error)),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
        opened
    }

    /// Registers what was opened in one transaction and lets it sign.
    async fn store(
        &self,
        opened: Vec<Result<Imported, String>>,
        data_key: Arc<DataKey>,
        histories: Option<&Interchange>,
        terms: Terms,
        by: &CallerId,
    ) -> Vec<ImportStatus> {
        let _changing = self.loader.keep_out().await;
        let (mut statuses, sealed) = sort_out(opened);
        // By key: its place in the answer, and what signs with it. Opened before anything is stored, so that what
        // is stored can sign.
        let mut secrets: BTreeMap<PublicKey, (usize, Held)> = BTreeMap::new();
        let mut keys = Vec::new();
        for (place, Imported { public_key, sealed }, held) in self.make_ready(data_key, sealed).await {
            match held {
                Err(reason) => set(&mut statuses, place, ImportStatus::Error(reason)),
                Ok(held) => {
                    secrets.insert(public_key, (place, held));
                    let (origin, registered_by) = (KeyOrigin::Imported, by.clone());
                    let key = NewKey { key: public_key, sealed, origin, label: None, registered_by };
                    keys.push((key, terms.entry(histories, &public_key)));
                }
            }
        }
        let order: Vec<PublicKey> = keys.iter().map(|(key, _)| key.key).collect();
        let results = match self.signer.guard.register_many(keys, terms.tombstone).await {
            Ok(results) => results,
            Err(error) => {
                let reason = chain(&error);
                for place in secrets.values().map(|(place, _)| *place) {
                    set(&mut statuses, place, ImportStatus::Error(reason.clone()));
                }
                self.loader.forget(order).await;
                return statuses;
            }
        };
        let (mut ready, mut refused) = (Vec::new(), Vec::new());
        for (key, result) in order.iter().zip(results) {
            let Some((place, held)) = secrets.remove(key) else { continue };
            let status = match result {
                Ok(Registered::Duplicate) => ImportStatus::Duplicate(HELD),
                Err(error) => {
                    refused.push(*key);
                    ImportStatus::Error(format!("{}{}", chain(&error), terms.hint(&error)))
                }
                Ok(Registered::New(registration) | Registered::SwitchedOff(registration)) => {
                    match ActiveKey::held(registration, held, self.loader.backend()) {
                        Ok(active) => {
                            ready.push(active);
                            ImportStatus::Imported
                        }
                        Err(error) => ImportStatus::Error(chain(&error)),
                    }
                }
            };
            set(&mut statuses, place, status);
        }
        let imported = ready.len();
        self.signer.keyring.load().insert_all(ready);
        self.loader.forget(refused).await;
        info!(imported, of = statuses.len(), %by, "keys imported");
        statuses
    }

    /// Has keys opened where they will sign; each comes back with what signs with it, or why nothing does.
    async fn make_ready(
        &self,
        data_key: Arc<DataKey>,
        sealed: Vec<(usize, Imported)>,
    ) -> Vec<(usize, Imported, Result<Held, String>)> {
        let (backend, network) = (self.loader.backend(), self.network);
        let work = tokio::task::spawn_blocking(move || {
            let keys: Vec<_> = sealed.iter().map(|(_, key)| (key.public_key, &key.sealed)).collect();
            let opened = backend.open(&data_key, network, &keys);
            let mut results: Vec<Result<Held, String>> = match opened {
                Ok(opened) => opened.into_iter().map(|held| held.map_err(|error| chain(&error))).collect(),
                Err(error) => vec![Err(chain(&error)); sealed.len()],
            };
            results.resize_with(sealed.len(), || Err("not opened; send the request again".to_owned()));
            sealed.into_iter().zip(results).map(|((place, key), held)| (place, key, held)).collect()
        });
        // A panic there is one here.
        work.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
    }

    /// Deletes keys and reads out what they have signed, in one transaction, and returns when no signature
    /// of theirs is under way any more.
    ///
    /// # Errors
    /// [`AdminError`]: nothing is deleted.
    pub(crate) async fn delete(self: &Arc<Self>, keys: Vec<PublicKey>, by: CallerId) -> Result<Deleted, AdminError> {
        let (reply, answer) = oneshot::channel();
        let manager = Arc::clone(self);
        self.tasks.spawn(async move {
            let deleted = manager.delete_now(keys, &by).await;
            // Whoever asked may have gone; asking again gives the history again.
            drop(reply.send(deleted));
        });
        answer.await.unwrap_or(Err(AdminError::ShutDown))
    }

    async fn delete_now(&self, keys: Vec<PublicKey>, by: &CallerId) -> Result<Deleted, AdminError> {
        let _changing = self.loader.keep_out().await;
        let withdrawn = self.signer.guard.export(Some(keys), Then::Stop(Withdraw::Tombstone), by).await?;
        let gone: BTreeSet<PublicKey> = withdrawn.iter().map(|one| one.key).collect();
        // From the commit above on there is no permit for these keys; now their secrets go as well.
        let removed = self.signer.keyring.load().remove_all(&gone);
        let last: Vec<Weak<ActiveKey>> = removed.iter().map(Arc::downgrade).collect();
        drop(removed);
        self.wait_for(&last).await;
        self.loader.forget(gone.into_iter().collect()).await;
        info!(deleted = last.len(), %by, "keys deleted");
        Ok(Deleted { known: withdrawn.into_iter().map(|one| (one.key, one)).collect() })
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

/// The answers so far, and the keys that are to be stored, each once, with their places in the answer.
fn sort_out(opened: Vec<Result<Imported, String>>) -> (Vec<ImportStatus>, Vec<(usize, Imported)>) {
    let mut seen = BTreeSet::new();
    let mut sealed = Vec::new();
    let statuses = opened.into_iter().enumerate().map(|(place, outcome)| match outcome {
        Err(reason) => ImportStatus::Error(reason),
        Ok(Imported { public_key, .. }) if !seen.insert(public_key) => {
            ImportStatus::Duplicate("the same key comes earlier in this request")
        }
        Ok(imported) => {
            sealed.push((place, imported));
            ImportStatus::Error("not registered; send the request again".to_owned())
        }
    });
    (statuses.collect(), sealed)
}

const HELD: &str = "this key is held already; nothing was changed";

/// Whether the secret is here.
fn is_held(info: &KeyInfo) -> bool {
    info.origin.is_some() && info.state != KeyState::Tombstoned
}

/// How keys enter, whoever brings them: as asked, as far as nobody has to approve that.
#[derive(Debug, Clone, Copy)]
struct Terms {
    tombstone: Tombstone,
    /// Deleted keys come back only if people approve, which they cannot here.
    tombstones_need_people: bool,
    /// So does less protection than at the present.
    less_needs_people: bool,
}

impl Terms {
    /// With a history for the key: from there, if nobody has to approve that. Otherwise at the present.
    fn entry(self, histories: Option<&Interchange>, key: &PublicKey) -> EntryWatermark {
        let history = histories.and_then(|histories| histories.get(key));
        history.map_or(EntryWatermark::Now, |history| {
            let floor = history.floor.into();
            if self.less_needs_people { EntryWatermark::NowAnd(floor) } else { EntryWatermark::AtLeast(floor) }
        })
    }

    /// What is offered beyond the error's own words.
    fn hint(self, error: &holdfast_slashing_db::RegisterError) -> &'static str {
        match error {
            holdfast_slashing_db::RegisterError::Tombstoned if self.tombstones_need_people => {
                "; it comes back only with approvals: use `holdfast keys import --replace-tombstone`"
            }
            holdfast_slashing_db::RegisterError::Tombstoned => {
                "; then send the request to /eth/v1/keystores?replace_tombstone=true"
            }
            _ => "",
        }
    }
}

fn set(statuses: &mut [ImportStatus], place: usize, status: ImportStatus) {
    if let Some(slot) = statuses.get_mut(place) {
        *slot = status;
    }
}
