//! Keystores as they come in: decrypted within the budget for key derivation, journaled, registered, and answered each.
//!
//! Guarantees: one bad keystore stops no other; a key that is held already costs no key derivation; at most
//! [`TOGETHER`] keystores are in memory; who stops sending or listening ends the import, and what was answered stays.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use eth2_keystore::Keystore;
use holdfast_access::AdminArea;
use holdfast_approvals::Act as Danger;
use holdfast_domain::PublicKey;
use holdfast_enclave::import::{Finished, KeystoreInput, SealFor, decrypt};
use holdfast_enclave::{ImportError, Passphrase};
use holdfast_slashing_db::interchange::History;
use holdfast_slashing_db::{EntryWatermark, KeyOrigin, KeyState, LabelChange, Labels, RegisterError, Tombstone};
use holdfast_wire::admin::v1::import_keys_request::Part;
use holdfast_wire::admin::v1::{
    ImportKeysOptions, ImportKeysRequest, ImportKeysResponse, ImportStatus, KeystoreToImport, Watermark,
};
use holdfast_wire::admin::{Reason, refusal};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::convert::{self, Collected};
use super::desk::Desk;
use super::gate::{Act, custody_status, record_status};
use crate::callers::Principal;
use crate::keymanager::{Incoming, Stored};
use crate::outcome::chain;

/// Keystores decrypted and registered together.
const TOGETHER: usize = 1_000;
/// How long the next message may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

type Answers = mpsc::Sender<Result<ImportKeysResponse, Status>>;

/// The next message of a stream.
pub(super) async fn next<T>(parts: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(PATIENCE, parts.message()).await.unwrap_or_else(|_late| {
        Err(refusal(
            Reason::MessageOrder,
            format!("nothing came for {} s, so the stream was given up", PATIENCE.as_secs()),
        ))
    })
}

/// What is known while keystores come in.
struct Import<'a> {
    desk: &'a Desk,
    who: &'a Arc<Principal>,
    answers: &'a Answers,
    options: ImportKeysOptions,
    histories: BTreeMap<PublicKey, History>,
    /// Labels that keys get which come in, in the transaction that stores them; keys that are here keep theirs.
    labels: Labels,
    held: BTreeSet<PublicKey>,
    deleted: BTreeSet<PublicKey>,
}

/// Imports what comes in.
pub(super) async fn run(
    desk: &Desk,
    who: &Arc<Principal>,
    mut parts: Streaming<ImportKeysRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let first = next(&mut parts).await?.and_then(|message| message.part);
    let Some(Part::Options(options)) = first else {
        return Err(refusal(Reason::MessageOrder, "the first message of an import holds its options"));
    };
    let Ok(watermark) = Watermark::try_from(options.watermark) else {
        return Err(refusal(Reason::InvalidArgument, format!("there is no watermark {}", options.watermark)));
    };
    desk.may(&dangers(options.replace_tombstone, watermark), who.id()).await?;
    let known = desk.guard.list().await.map_err(record_status)?;
    let (mut held, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for info in known {
        match (info.state, info.origin) {
            (KeyState::Tombstoned, _) => {
                deleted.insert(info.key);
            }
            (KeyState::Enabled | KeyState::Disabled, Some(_)) => {
                held.insert(info.key);
            }
            (KeyState::Enabled | KeyState::Disabled, None) => {}
        }
    }
    let labels = convert::labels(&options.labels)?;
    let mut import = Import { desk, who, answers, labels, options, histories: BTreeMap::new(), held, deleted };
    let (mut collected, mut batch) = (Collected::default(), Vec::new());
    while let Some(message) = next(&mut parts).await? {
        match message.part {
            Some(Part::Histories(histories)) if import.histories.is_empty() && batch.is_empty() => {
                for history in &histories.histories {
                    collected.add(history)?;
                }
            }
            Some(Part::Keystore(keystore)) => {
                if !collected.validators.is_empty() {
                    import.histories = std::mem::take(&mut collected.validators);
                }
                import.take(keystore, &mut batch).await?;
                if batch.len() >= TOGETHER {
                    import.settle(std::mem::take(&mut batch)).await?;
                }
            }
            Some(Part::Options(_) | Part::Histories(_)) | None => {
                let text = "after the options come histories, then keystores, and nothing else";
                return Err(refusal(Reason::MessageOrder, text));
            }
        }
    }
    import.settle(batch).await
}

/// What about an import may need approvals: all but the default.
fn dangers(replace_tombstone: bool, watermark: Watermark) -> Vec<Danger> {
    let back = replace_tombstone.then_some(Danger::ReplaceTombstone);
    let lower = match watermark {
        Watermark::Now => None,
        Watermark::NeverSigned | Watermark::Interchange => Some(Danger::LowerProtection),
    };
    back.into_iter().chain(lower).collect()
}

impl Import<'_> {
    async fn answer(
        &self,
        index: u64,
        status: ImportStatus,
        key: Option<&PublicKey>,
        reason: Option<String>,
    ) -> Result<(), Status> {
        let pubkey = key.map(ToString::to_string);
        let answer = ImportKeysResponse { index, status: status.into(), pubkey, reason };
        let gone = |_| refusal(Reason::Refused, "nobody hears the answers any more");
        self.answers.send(Ok(answer)).await.map_err(gone)
    }

    fn tombstone(&self) -> Tombstone {
        if self.options.replace_tombstone { Tombstone::Replace } else { Tombstone::Refuse }
    }

    /// Takes a keystore in, unless it is answered without a look inside.
    async fn take(&self, keystore: KeystoreToImport, batch: &mut Vec<(u64, KeystoreInput)>) -> Result<(), Status> {
        let KeystoreToImport { index, json, password } = keystore;
        let opened = Keystore::from_json(json.as_bytes())
            .map_err(|error| chain(&error))
            .and_then(|keystore| Ok((keystore, Passphrase::of_bytes(password).map_err(|error| chain(&error))?)));
        let (keystore, password) = match opened {
            Ok(opened) => opened,
            Err(reason) => return self.answer(index, ImportStatus::Error, None, Some(reason)).await,
        };
        let claimed = keystore.pubkey().map(|key| PublicKey::from_bytes(key.to_bytes()));
        match claimed {
            Some(key) if self.held.contains(&key) => {
                self.answer(index, ImportStatus::Duplicate, Some(&key), None).await
            }
            Some(key) if self.deleted.contains(&key) && self.tombstone() == Tombstone::Refuse => {
                self.answer(index, ImportStatus::Tombstoned, Some(&key), None).await
            }
            Some(_) | None => {
                batch.push((index, KeystoreInput { keystore, password: Arc::new(password) }));
                Ok(())
            }
        }
    }

    /// Where protection of a key begins; `None` if only a history may say and there is none.
    fn entry(&self, key: &PublicKey) -> Option<EntryWatermark> {
        let history = self.histories.get(key).map(|history| history.floor);
        let watermark = Watermark::try_from(self.options.watermark).unwrap_or(Watermark::Now);
        match (watermark, history) {
            (Watermark::NeverSigned, _) => Some(EntryWatermark::NeverSigned),
            (Watermark::Now, None) => Some(EntryWatermark::Now),
            (Watermark::Now, Some(floor)) => Some(EntryWatermark::NowAnd(floor.into())),
            (Watermark::Interchange, Some(floor)) => Some(EntryWatermark::AtLeast(floor.into())),
            (Watermark::Interchange, None) => None,
        }
    }

    /// Decrypts, journals and registers.
    async fn settle(&mut self, batch: Vec<(u64, KeystoreInput)>) -> Result<(), Status> {
        if batch.is_empty() {
            return Ok(());
        }
        let data_key = self.desk.data_key().await.map_err(|error| custody_status(&error))?;
        let (indexes, inputs): (Vec<u64>, Vec<KeystoreInput>) = batch.into_iter().unzip();
        let mut finished = self.decrypt(inputs, &data_key);
        let mut incoming: BTreeMap<PublicKey, (u64, Incoming)> = BTreeMap::new();
        while let Some(Finished { index, outcome, .. }) = finished.recv().await {
            let Some(&index) = indexes.get(index) else { continue };
            match outcome {
                Err(error) => self.answer(index, ImportStatus::Error, None, Some(complaint(&error))).await?,
                Ok(key) if incoming.contains_key(&key.public_key) || self.held.contains(&key.public_key) => {
                    self.answer(index, ImportStatus::Duplicate, Some(&key.public_key), None).await?;
                }
                Ok(key) => match self.entry(&key.public_key) {
                    None => self.answer(index, ImportStatus::NoHistory, Some(&key.public_key), None).await?,
                    Some(entry) => {
                        let public_key = key.public_key;
                        incoming.insert(
                            public_key,
                            (index, Incoming { key, entry, origin: KeyOrigin::Imported, labels: self.labels.clone() }),
                        );
                    }
                },
            }
        }
        self.register(data_key, incoming).await
    }

    fn decrypt(
        &self,
        inputs: Vec<KeystoreInput>,
        data_key: &Arc<holdfast_enclave::DataKey>,
    ) -> mpsc::Receiver<Finished> {
        let (sender, receiver) = mpsc::channel(1);
        let (data_key, budget, network) = (Arc::clone(data_key), self.desk.budget(), self.desk.root);
        // It ends when nobody receives any more; that it cannot begin is said by no answer coming.
        drop(tokio::task::spawn_blocking(move || {
            let ended = decrypt(&inputs, SealFor { data_key: &data_key, network }, &budget, |finished| {
                if sender.blocking_send(finished).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if let Err(error) = ended {
                tracing::warn!("keystores not decrypted: {}", chain(&error));
            }
        }));
        receiver
    }

    async fn register(
        &mut self,
        data_key: Arc<holdfast_enclave::DataKey>,
        incoming: BTreeMap<PublicKey, (u64, Incoming)>,
    ) -> Result<(), Status> {
        let keys: Vec<PublicKey> = incoming.keys().copied().collect();
        if keys.is_empty() {
            return Ok(());
        }
        let labels = LabelChange { add: self.labels.clone(), ..LabelChange::default() };
        let act = Act::new(AdminArea::Keys, "admin.key.imported").of_keys(&keys).detail(labels.to_string());
        self.desk.gate.admit(self.who, &act).await?;
        let (indexes, news): (Vec<u64>, Vec<Incoming>) = incoming.into_values().unzip();
        let stored = self.desk.store(data_key, news, self.tombstone(), self.who.id()).await;
        for ((key, index), stored) in keys.iter().zip(indexes).zip(stored) {
            let (status, reason) = match stored {
                Stored::Imported => (ImportStatus::Imported, None),
                Stored::SwitchedOff => (ImportStatus::SwitchedOff, None),
                Stored::Duplicate => (ImportStatus::Duplicate, None),
                Stored::Refused(RegisterError::Tombstoned) => (ImportStatus::Tombstoned, None),
                Stored::Refused(RegisterError::AlreadySeen) => (ImportStatus::AlreadySeen, None),
                Stored::Refused(error) => (ImportStatus::Error, Some(chain(&error))),
                Stored::Failed(reason) => (ImportStatus::Error, Some(reason)),
            };
            if let Some(reason) = &reason {
                let act = Act::new(AdminArea::Keys, "admin.key.imported").of_keys(&[*key]);
                self.desk.gate.failed(self.who, &act, &refusal(Reason::Refused, reason.clone())).await;
            }
            if matches!(status, ImportStatus::Imported | ImportStatus::SwitchedOff | ImportStatus::Duplicate) {
                self.held.insert(*key);
            }
            self.answer(index, status, Some(key), reason).await?;
        }
        Ok(())
    }
}

/// The keystore's own complaint without "cannot decrypt the keystore" in front of it.
fn complaint(error: &ImportError) -> String {
    match error {
        ImportError::Keystore(error) => chain(error),
        error => chain(error),
    }
}
