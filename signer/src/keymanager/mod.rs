//! Keys in and out of a running signer: what the Keymanager API does, without HTTP.
//!
//! Guarantees: a key is sealed before it is stored and registered with its history before it can sign; what a key that is
//! here already signed elsewhere is merged in, upward only, whether it is switched off or not; a
//! key whose import failed is in no file and in no memory; deleting and reading out what was signed are
//! one transaction; a client that leaves half-way finds either no key brought in or all of them. Each import and deletion is
//! in the journal before it begins, and does not begin if that fails.

mod intake;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use eth2_keystore::Keystore;
use holdfast_access::{AdminArea, Builtin, Operation};
use holdfast_approvals::Act;
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave::import::{Imported, KeystoreInput, SealFor, decrypt};
use holdfast_enclave::{DataKey, Passphrase};
use holdfast_slashing_db::interchange::{Change, ImportReport, Interchange, ValidatorFloor};
use holdfast_slashing_db::{
    AdminError, EntryWatermark, ImportMode, KeyInfo, KeyOrigin, KeyState, Labels, Tombstone, Withdrawn,
};
use holdfast_wire::admin::{Reason, refusal};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tracing::warn;

pub(crate) use intake::{Incoming, Intake, Stored};
pub(crate) use token::{Access, Token};

use crate::admin::{self, Gate};
use crate::approval;
use crate::callers::Principal;
use crate::config::{ApprovalsConfig, Config};
use crate::loader::KeyLoader;
use crate::outcome::chain;
use crate::pipeline::Signer;

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
    /// It was here already; at most its history was taken in, which the text says.
    Duplicate(&'static str),
    /// It is not here.
    Error(String),
}

/// What was deleted, and what it had signed.
pub(crate) struct Deleted {
    /// Keys that are known here, with their state before, ascending.
    pub(crate) known: BTreeMap<PublicKey, Withdrawn>,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    /// The journal did not take it.
    #[error("{}", .0.message())]
    NotJournaled(Status),
    /// The record failed.
    #[error(transparent)]
    Record(#[from] AdminError),
}

/// Manages keys. One per process.
pub(crate) struct KeyManager {
    signer: Arc<Signer>,
    loader: Arc<KeyLoader>,
    /// Writes acts into the journal. It judges nothing here: the policy was asked for `keymanager.write`.
    gate: Gate,
    network: GenesisValidatorsRoot,
    intake: Arc<Intake>,
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
        intake: Arc<Intake>,
        gate: Gate,
        token: Token,
    ) -> Self {
        let principal = Principal::builtin(Builtin::Keymanager);
        let (approvals, importing) = (config.approvals.clone(), tokio::sync::Mutex::new(()));
        Self { signer, loader, gate, network, intake, token, principal, approvals, importing }
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
    /// other at the present. What `histories` say of keys that are here already is merged in first.
    ///
    /// Dropping the future while keystores are decrypted ends the import without a key brought in; once keys are
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
        let (mut places, mut inputs, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for (place, Wanted { keystore, password }) in wanted.into_iter().enumerate() {
            let status = match Keystore::from_json(keystore.as_bytes()) {
                Err(error) => Some(ImportStatus::Error(chain(&error))),
                Ok(keystore) => {
                    let claimed = keystore.pubkey().map(|key| PublicKey::from_bytes(key.to_bytes()));
                    let listed = |key: &PublicKey| histories.as_ref().is_some_and(|all| all.get(key).is_some());
                    if let Some(refusal) = claimed.and_then(|key| self.may_not_import(principal, &key)) {
                        // Before it is said whether the key is here, and before anything is decrypted.
                        Some(ImportStatus::Error(refusal))
                    } else if let Some(key) = claimed.filter(|key| held.contains(key)) {
                        if listed(&key) {
                            known.push((place, key));
                        }
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
        if let Some(histories) = histories.as_ref().filter(|_| !known.is_empty()) {
            for (place, status) in self.take_in(&known, histories, principal).await {
                if let Some(slot) = statuses.get_mut(place) {
                    *slot = Some(status);
                }
            }
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

    /// Merges histories into what is known of keys that are here already, after that is in the journal. It is done to its
    /// end, also if nobody waits for it any more. The answer has the places of the keys.
    async fn take_in(
        self: &Arc<Self>,
        known: &[(usize, PublicKey)],
        histories: &Interchange,
        principal: &Arc<Principal>,
    ) -> Vec<(usize, ImportStatus)> {
        let keys: BTreeSet<PublicKey> = known.iter().map(|(_, key)| *key).collect();
        let mut theirs = histories.clone();
        theirs.retain(|key| keys.contains(key));
        let act = act(HISTORY_IMPORTED, principal, &keys.into_iter().collect::<Vec<_>>());
        let (guard, by) = (self.signer.guard.clone(), Arc::clone(principal));
        let (reply, answer) = oneshot::channel();
        let manager = Arc::clone(self);
        self.gate.tasks().spawn(async move {
            let merged = match manager.gate.record(&by, &act).await {
                Err(status) => Err(status.message().to_owned()),
                Ok(()) => match guard.import(theirs, ImportMode::Commit, by.id()).await {
                    Ok(report) => Ok(report),
                    Err(error) => {
                        let reason = chain(&error);
                        manager.gate.failed(&by, &act, &refusal(Reason::Refused, reason.clone())).await;
                        Err(reason)
                    }
                },
            };
            // Whoever asked may have gone; it is done all the same.
            drop(reply.send(merged));
        });
        let stopping = |_| Err("the signer is stopping; send the request again".to_owned());
        let merged = answer.await.unwrap_or_else(stopping);
        let status = |key: &PublicKey| match &merged {
            Ok(report) => ImportStatus::Duplicate(after_merge(report, key)),
            Err(reason) => ImportStatus::Error(format!("its history was not taken in: {reason}")),
        };
        known.iter().map(|(place, key)| (*place, status(key))).collect()
    }

    async fn open_and_store(
        self: &Arc<Self>,
        inputs: Vec<KeystoreInput>,
        histories: Option<Interchange>,
        terms: Terms,
        principal: &Arc<Principal>,
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
        let (opened, by): (Vec<_>, _) = (judged.collect(), Arc::clone(principal));
        let (reply, answer) = oneshot::channel();
        let manager = Arc::clone(self);
        self.gate.tasks().spawn(async move {
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
        let (data_key, budget, network) = (Arc::clone(data_key), Arc::clone(&self.intake.budget), self.network);
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

    /// Registers what was opened in one transaction and lets it sign, after all of it is in the journal.
    async fn store(
        &self,
        opened: Vec<Result<Imported, String>>,
        data_key: Arc<DataKey>,
        histories: Option<&Interchange>,
        terms: Terms,
        by: &Principal,
    ) -> Vec<ImportStatus> {
        let (mut statuses, sealed) = sort_out(opened);
        let (places, keys): (Vec<usize>, Vec<Incoming>) = sealed
            .into_iter()
            .map(|(place, key)| {
                let entry = terms.entry(histories, &key.public_key);
                (place, Incoming { key, entry, origin: KeyOrigin::Imported, labels: Labels::new() })
            })
            .unzip();
        let wanted: Vec<PublicKey> = keys.iter().map(|one| one.key.public_key).collect();
        if wanted.is_empty() {
            return statuses;
        }
        let stored = match self.gate.record(by, &act(IMPORTED, by, &wanted)).await {
            Ok(()) => self.intake.store(data_key, keys, terms.tombstone, by.id()).await,
            Err(status) => {
                for place in places {
                    if let Some(slot) = statuses.get_mut(place) {
                        *slot = ImportStatus::Error(status.message().to_owned());
                    }
                }
                return statuses;
            }
        };
        for ((place, key), stored) in places.into_iter().zip(wanted).zip(stored) {
            let listed = histories.is_some_and(|histories| histories.get(&key).is_some());
            let status = match stored {
                Stored::Imported | Stored::SwitchedOff => ImportStatus::Imported,
                Stored::Duplicate => ImportStatus::Duplicate(if listed { HISTORY_TAKEN_IN } else { HELD }),
                Stored::Refused(error) => ImportStatus::Error(format!("{}{}", chain(&error), terms.hint(&error))),
                Stored::Failed(reason) => ImportStatus::Error(reason),
            };
            if let ImportStatus::Error(reason) = &status {
                let failure = refusal(Reason::Refused, reason.clone());
                self.gate.failed(by, &act(IMPORTED, by, &[key]), &failure).await;
            }
            if let Some(slot) = statuses.get_mut(place) {
                *slot = status;
            }
        }
        statuses
    }

    /// Deletes keys and reads out what they have signed, in one transaction, and returns when no signature
    /// of theirs is under way any more. All of it is in the journal before.
    ///
    /// # Errors
    /// [`DeleteError`]: nothing is deleted.
    pub(crate) async fn delete(
        self: &Arc<Self>,
        keys: Vec<PublicKey>,
        by: &Arc<Principal>,
    ) -> Result<Deleted, DeleteError> {
        let (reply, answer) = oneshot::channel();
        let (manager, by) = (Arc::clone(self), Arc::clone(by));
        self.gate.tasks().spawn(async move {
            // Whoever asked may have gone; asking again gives the history again.
            drop(reply.send(manager.delete_journaled(keys, &by).await));
        });
        answer.await.unwrap_or(Err(AdminError::ShutDown.into()))
    }

    async fn delete_journaled(&self, keys: Vec<PublicKey>, by: &Principal) -> Result<Deleted, DeleteError> {
        let once: Vec<PublicKey> = keys.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        if once.is_empty() {
            return Ok(Deleted { known: BTreeMap::new() });
        }
        let act = act(DELETED, by, &once);
        self.gate.record(by, &act).await.map_err(DeleteError::NotJournaled)?;
        match self.intake.delete(keys, by.id()).await {
            Ok(gone) => Ok(Deleted { known: gone.into_iter().map(|one| (one.key, one)).collect() }),
            Err(error) => {
                self.gate.failed(by, &act, &refusal(Reason::Refused, chain(&error))).await;
                Err(error.into())
            }
        }
    }
}

/// Events of the admin API, which these acts are as well (docs/admin.md).
const IMPORTED: &str = "admin.key.imported";
const DELETED: &str = "admin.key.deleted";
const HISTORY_IMPORTED: &str = "admin.slashing.imported";

/// An act as the journal has it.
fn act(kind: &'static str, by: &Principal, keys: &[PublicKey]) -> admin::Act {
    admin::Act::new(AdminArea::Keys, kind).of_keys(keys).detail(format!("through the Keymanager API by {by}"))
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
const HISTORY_TAKEN_IN: &str = "this key is held already; its history was taken in, and nothing else was changed";
const HISTORY_KNOWN: &str = "this key is held already; what its history says was known here, so nothing was changed";

/// What to say of a key that was held already when its history was merged in.
pub(crate) fn after_merge(report: &ImportReport, key: &PublicKey) -> &'static str {
    let of_key = report.validators.iter().find(|one| one.key == *key);
    match of_key.map(|one| one.change) {
        Some(Change::New | Change::Raised) => HISTORY_TAKEN_IN,
        Some(Change::Unchanged) => HISTORY_KNOWN,
        None => HELD,
    }
}

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
    /// With a history that says something about the key: from there, if nobody has to approve that. Otherwise at the
    /// present: a key that is only named may have signed anything, and nobody here said that it never did.
    fn entry(self, histories: Option<&Interchange>, key: &PublicKey) -> EntryWatermark {
        let history = histories.and_then(|histories| histories.get(key));
        history.map_or(EntryWatermark::Now, |history| {
            let floor = history.floor.into();
            let says_nothing = history.floor == ValidatorFloor::default();
            if self.less_needs_people || says_nothing {
                EntryWatermark::NowAnd(floor)
            } else {
                EntryWatermark::AtLeast(floor)
            }
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
