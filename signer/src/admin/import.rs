//! Keystores as they come in: decrypted within the budget for key derivation, journaled, registered, and answered each.
//!
//! Guarantees: one bad keystore stops no other; a key that is held already costs no key derivation; at most
//! [`TOGETHER`] keystores are in memory; who stops sending or listening ends the import, and what was answered stays. Where
//! people approved, only the keys that they read come in, each where they read that its protection begins. What a key that
//! is held already signed elsewhere is merged into what is known of it, upward only, and changes nothing else: that needs
//! nobody's approval.

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
use holdfast_slashing_db::interchange::{History, Interchange};
use holdfast_slashing_db::{
    EntryWatermark, ImportMode, KeyOrigin, KeyState, LabelChange, Labels, RegisterError, Tombstone,
};
use holdfast_wire::admin::v1::import_keys_request::Part;
use holdfast_wire::admin::v1::{
    ImportKeysOptions, ImportKeysRequest, ImportKeysResponse, ImportStatus, KeystoreToImport, Watermark,
};
use holdfast_wire::admin::{Reason, refusal};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::convert::{self, Collected};
use super::danger::{self, Carried};
use super::desk::Desk;
use super::gate::{Act, custody_status, record_status};
use crate::approval::{Cleared, Examined};
use crate::callers::Principal;
use crate::keymanager::{Incoming, Stored, after_merge};
use crate::outcome::chain;

/// Keystores decrypted and registered together.
const TOGETHER: usize = 1_000;
/// Keys that are named before, at most; an import holds as many histories.
const MAX_NAMED: usize = holdfast_slashing_db::interchange::MAX_VALIDATORS;
/// How long the next message may take.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Said of a keystore without a public key.
const NAMELESS: &str = "the keystore does not name its key, and only keys that are named can be approved; import it without \
     --replace-tombstone and with --watermark now";
/// Said of a key that people did not read.
const NOT_APPROVED: &str = "this key is not among those that were approved; import it by itself";

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
    /// Keys that are held already and have a history, with the numbers of their keystores.
    known: Vec<(u64, PublicKey)>,
    /// By whose leave; before the first keystore nobody's.
    leave: Option<Leave>,
}

/// Leave to import.
struct Leave {
    /// It is for this import, and for no longer than people approved.
    cleared: Cleared,
    /// The keys that people approved, if they had to.
    only: Option<BTreeSet<PublicKey>>,
}

/// What comes before the first keystore.
#[derive(Default)]
struct Before {
    collected: Collected,
    named: BTreeSet<PublicKey>,
    carried: Carried,
}

impl Before {
    fn take(&mut self, part: Part) -> Result<(), Status> {
        match part {
            Part::Histories(histories) => histories.histories.iter().try_for_each(|one| self.collected.add(one)),
            Part::Keys(keys) => {
                self.named.extend(convert::keys(&keys.pubkeys)?);
                if self.named.len() > MAX_NAMED {
                    return Err(refusal(Reason::InvalidArgument, "too many keys in one import"));
                }
                Ok(())
            }
            Part::Approval(piece) => self.carried.add(&piece),
            Part::Options(_) | Part::Keystore(_) => Err(disorder()),
        }
    }
}

fn disorder() -> Status {
    let text = "after the options come histories, keys and an approval, then keystores, and nothing else";
    refusal(Reason::MessageOrder, text)
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
    if Watermark::try_from(options.watermark).is_err() {
        return Err(refusal(Reason::InvalidArgument, format!("there is no watermark {}", options.watermark)));
    }
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
    let histories = BTreeMap::new();
    let known = Vec::new();
    let mut import = Import { desk, who, answers, options, histories, labels, held, deleted, known, leave: None };
    let (mut before, mut batch) = (Before::default(), Vec::new());
    while let Some(message) = next(&mut parts).await? {
        match message.part {
            Some(Part::Keystore(keystore)) => {
                if import.leave.is_none() {
                    import.begin(std::mem::take(&mut before)).await?;
                }
                import.take(keystore, &mut batch).await?;
                if batch.len() >= TOGETHER || import.known.len() >= TOGETHER {
                    import.settle(std::mem::take(&mut batch)).await?;
                }
            }
            Some(part) if import.leave.is_none() => before.take(part)?,
            Some(_) | None => return Err(disorder()),
        }
    }
    if import.leave.is_none() {
        // Whoever only asks hears whether people must approve; nothing is used up without a keystore.
        return import.examine(before).await.map(|_| ());
    }
    import.settle(batch).await
}

/// What about an import may need approvals: all but the default.
fn dangers(options: &ImportKeysOptions) -> Vec<Danger> {
    let back = options.replace_tombstone.then_some(Danger::ReplaceTombstone);
    let lower = match options.watermark() {
        Watermark::Now => None,
        Watermark::NeverSigned | Watermark::Interchange => Some(Danger::LowerProtection),
    };
    back.into_iter().chain(lower).collect()
}

impl Import<'_> {
    /// Takes in what came before the keystores, and gets leave for them.
    async fn begin(&mut self, before: Before) -> Result<(), Status> {
        let (examined, named) = self.examine(before).await?;
        let only = examined.by_people().then_some(named);
        if only.is_some() {
            // Before the approval is used up: without a data key nothing comes in.
            self.desk.data_key().await.map_err(|error| custody_status(&error))?;
        }
        self.leave = Some(Leave { cleared: self.desk.spend(examined, self.who.id()).await?, only });
        Ok(())
    }

    /// Looks whether the import may be; returns the keys that are named and would come in, too.
    async fn examine(&mut self, before: Before) -> Result<(Examined, BTreeSet<PublicKey>), Status> {
        let Before { collected, mut named, carried } = before;
        self.histories = collected.validators;
        named.retain(|key| !self.held.contains(key));
        let acts = dangers(&self.options);
        let by = self.who.id();
        if let Some(act) = self.desk.needs(&acts, by).await? {
            let keys: Vec<PublicKey> = named.iter().copied().collect();
            self.desk.gate.may_write(self.who, AdminArea::Keys, &keys)?;
            if named.is_empty() {
                let text = format!(
                    "this needs approvals ({act}), and only keys that are named can be approved: nothing names a key that is not here already"
                );
                return Err(refusal(Reason::InvalidArgument, text));
            }
        }
        let keys = named.iter().map(|key| (*key, self.deleted.contains(key))).collect();
        let payload = danger::of_keys(&self.options, &self.labels, &keys, &self.histories);
        Ok((self.desk.examine(&acts, &payload, carried.read()?.as_ref(), by).await?, named))
    }

    /// Whether people had to approve which keys come in, and this is none of them.
    fn is_stranger(&self, key: Option<&PublicKey>) -> bool {
        let only = self.leave.as_ref().and_then(|leave| leave.only.as_ref());
        only.is_some_and(|only| key.is_none_or(|key| !only.contains(key)))
    }

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
    async fn take(&mut self, keystore: KeystoreToImport, batch: &mut Vec<(u64, KeystoreInput)>) -> Result<(), Status> {
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
            Some(key) if self.held.contains(&key) => self.duplicate(index, key).await,
            Some(key) if self.deleted.contains(&key) && self.tombstone() == Tombstone::Refuse => {
                self.answer(index, ImportStatus::Tombstoned, Some(&key), None).await
            }
            None if self.is_stranger(None) => {
                self.answer(index, ImportStatus::Error, None, Some(NAMELESS.to_owned())).await
            }
            Some(key) if self.is_stranger(Some(&key)) => {
                self.answer(index, ImportStatus::Error, Some(&key), Some(NOT_APPROVED.to_owned())).await
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

    /// Answers for a key that is held already; if it has a history, once that is taken in.
    async fn duplicate(&mut self, index: u64, key: PublicKey) -> Result<(), Status> {
        if self.histories.contains_key(&key) {
            self.known.push((index, key));
            return Ok(());
        }
        self.answer(index, ImportStatus::Duplicate, Some(&key), None).await
    }

    /// Takes in what keys that are held already signed elsewhere, whatever their state: their watermarks rise or stay.
    async fn take_in(&mut self) -> Result<(), Status> {
        let (mut indexes, mut merged) = (Vec::new(), BTreeMap::new());
        for (index, key) in std::mem::take(&mut self.known) {
            match self.desk.gate.may_write(self.who, AdminArea::Keys, &[key]) {
                Ok(()) => {
                    merged.extend(self.histories.get(&key).map(|history| (key, *history)));
                    indexes.push((index, key));
                }
                Err(denied) => {
                    let reason = Some(denied.message().to_owned());
                    self.answer(index, ImportStatus::Error, Some(&key), reason).await?;
                }
            }
        }
        if merged.is_empty() {
            return Ok(());
        }
        let keys: Vec<PublicKey> = merged.keys().copied().collect();
        let act = Act::new(AdminArea::Keys, "admin.slashing.imported")
            .of_keys(&keys)
            .detail("with the keystore of a key that is held already");
        let (guard, by, root) = (self.desk.guard.clone(), self.who.id().clone(), self.desk.root);
        let work = async move {
            let histories = Interchange::new(root, merged);
            guard.import(histories, ImportMode::Commit, &by).await.map_err(record_status)
        };
        let report = self.desk.gate.act(self.who, act, work).await?;
        for (index, key) in indexes {
            let reason = Some(after_merge(&report, &key).to_owned());
            self.answer(index, ImportStatus::Duplicate, Some(&key), reason).await?;
        }
        Ok(())
    }

    /// Takes in what is known of keys that are here, then keystores, then what turned out to be known on the way.
    async fn settle(&mut self, batch: Vec<(u64, KeystoreInput)>) -> Result<(), Status> {
        self.take_in().await?;
        if batch.is_empty() {
            return Ok(());
        }
        self.bring_in(batch).await?;
        self.take_in().await
    }

    /// Decrypts, journals and registers.
    async fn bring_in(&mut self, batch: Vec<(u64, KeystoreInput)>) -> Result<(), Status> {
        // Whoever asks sends keystores as slowly as they like.
        let now = self.desk.gate.clock().now();
        if self.leave.as_ref().is_some_and(|leave| leave.cleared.expired(now)) {
            let text = "what was approved expired while keystores came in; those left need new approvals";
            return Err(refusal(Reason::Refused, text));
        }
        let data_key = self.desk.data_key().await.map_err(|error| custody_status(&error))?;
        let (indexes, inputs): (Vec<u64>, Vec<KeystoreInput>) = batch.into_iter().unzip();
        let mut finished = self.decrypt(inputs, &data_key);
        let mut incoming: BTreeMap<PublicKey, (u64, Incoming)> = BTreeMap::new();
        while let Some(Finished { index, outcome, .. }) = finished.recv().await {
            let Some(&index) = indexes.get(index) else { continue };
            match outcome {
                Err(error) => self.answer(index, ImportStatus::Error, None, Some(complaint(&error))).await?,
                Ok(key) if incoming.contains_key(&key.public_key) => {
                    self.answer(index, ImportStatus::Duplicate, Some(&key.public_key), None).await?;
                }
                Ok(key) if self.held.contains(&key.public_key) => self.duplicate(index, key.public_key).await?,
                // A keystore may name another key than the one in it.
                Ok(key) if self.is_stranger(Some(&key.public_key)) => {
                    let reason = Some(NOT_APPROVED.to_owned());
                    self.answer(index, ImportStatus::Error, Some(&key.public_key), reason).await?;
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
                Stored::Duplicate => {
                    // Somebody else brought it in meanwhile.
                    self.held.insert(*key);
                    self.duplicate(index, *key).await?;
                    continue;
                }
                Stored::Refused(RegisterError::Tombstoned) => (ImportStatus::Tombstoned, None),
                Stored::Refused(RegisterError::AlreadySeen) => (ImportStatus::AlreadySeen, None),
                Stored::Refused(error) => (ImportStatus::Error, Some(chain(&error))),
                Stored::Failed(reason) => (ImportStatus::Error, Some(reason)),
            };
            if let Some(reason) = &reason {
                let act = Act::new(AdminArea::Keys, "admin.key.imported").of_keys(&[*key]);
                self.desk.gate.failed(self.who, &act, &refusal(Reason::Refused, reason.clone())).await;
            }
            if matches!(status, ImportStatus::Imported | ImportStatus::SwitchedOff) {
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
