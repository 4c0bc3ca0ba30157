//! The guard: the only road from an intent to a permit.
//!
//! It exists only for a database that is open, locked and pinned to one chain. `release` below holds the
//! one call to `SigningPermit::mint`.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use holdfast_domain::{PublicKey, SigningIntent};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use crate::anchor::Suspicion;
use crate::committer::{Asked, Command, Core, Note, Request};
use crate::error::{AdminError, FreezeReason, Refusal, RegisterError, StoreError};
use crate::identity::CallerId;
use crate::journal::{Event, Head};
use crate::metrics::Metrics;
use crate::permit::{PermitTimes, SigningPermit};
use crate::registry::{
    DataKeyRecord, EntryWatermark, HighWatermarks, InstanceInfo, KeyChanges, KeyInfo, KeyState, NewKey, Registered,
    ServerInfo, StoredKey, Switch, Switched, Tombstone, decide_entry,
};
use crate::rules::{Approved, Objection, Watermarks};
use crate::store::{Committed, ReadStore, Store};
use crate::watch::{Judged, NewlyEnabled};

mod approvals;
mod labels;
mod reseal;
mod transfer;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use reseal::DataKeyReplaced;
pub use reseal::{Replaced, Resealed};
pub use transfer::{ImportMode, Then};

/// Whether permits are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardHealth {
    /// They are.
    Serving,
    /// Only of messages that cannot be slashed, and for keys fenced since: the database may have lost writes. Who noticed
    /// is this instance or, with [`RollbackKind::PeerSuspects`](crate::RollbackKind::PeerSuspects), another one.
    Suspect(Suspicion),
    /// No more, until the process restarts. It should exit with the code for a database failure.
    Frozen {
        /// Why.
        reason: FreezeReason,
    },
}

/// Judges intents, records them durably, and hands out permits. Cheap to clone.
///
/// Dropping the last clone stops the database threads and releases the lock; [`Guard::shutdown`] does the
/// same and waits without blocking.
#[derive(Clone)]
pub struct Guard {
    core: Arc<Core>,
}

/// Where a recorded event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Sequence number of the journal batch that holds it.
    pub commit_seq: u64,
}

/// Turns a committed approval into the permit it earned. Called by the committer, after the commit.
pub(crate) fn release(
    intent: &SigningIntent,
    approved: &Approved,
    committed: &Committed,
    times: PermitTimes,
) -> SigningPermit {
    let kind = intent.subject().kind();
    SigningPermit::mint(*intent.key(), intent.root(), kind, Arc::clone(intent.statement()), approved, committed, times)
}

impl Guard {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    /// Judges an intent of any kind and records the answer. The permit comes after the durable commit.
    ///
    /// The request is queued before this returns, so requests made in order are judged in order. Dropping
    /// the future before the committer takes the request withdraws it unrecorded; later, the record
    /// stays and the same request is permitted again as identical data.
    ///
    /// # Errors
    /// [`Refusal`]: a denial is in the journal; an overload or unavailability is not.
    pub fn authorize(
        &self,
        intent: SigningIntent,
        caller: CallerId,
    ) -> impl Future<Output = Result<SigningPermit, Refusal>> + Send + use<> {
        self.authorize_unless(None, intent, caller)
    }

    /// As [`Self::authorize`], for a caller who may know a reason against it that the rules do not know. The rules
    /// judge first. If they deny, that is the answer; if they approve and there is an objection, the answer is the
    /// objection: it is in the journal, the watermarks stay and there is no permit.
    ///
    /// # Errors
    /// [`Refusal`]: a denial is in the journal; an overload or unavailability is not.
    pub fn authorize_unless(
        &self,
        objection: Option<Objection>,
        intent: SigningIntent,
        caller: CallerId,
    ) -> impl Future<Output = Result<SigningPermit, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Permit(Request { intent, caller, objection, reply, queued: Instant::now() }), answer)
    }

    /// Writes an event into the journal. Returns after the durable commit, so that an act can be journaled before it
    /// takes effect, and not happen if it cannot be. Events share batches with whatever is queued at the same time.
    ///
    /// The event is queued before this returns; the queue is the one of requests, and bounded like it. Dropping the
    /// future before the committer takes the event withdraws it.
    ///
    /// # Errors
    /// [`Refusal`] of the classes [`Overloaded`](crate::Class::Overloaded) and
    /// [`Unavailable`](crate::Class::Unavailable): the event is then not in the journal, or, if it was a commit whose
    /// outcome is unknown, it may be.
    pub fn record(&self, event: Event) -> impl Future<Output = Result<Recorded, Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.ask(Asked::Note(Note { event, reply }), answer)
    }

    /// Queues something for the next batch.
    fn ask<T: Send + 'static>(
        &self,
        asked: Asked,
        answer: oneshot::Receiver<Result<T, Refusal>>,
    ) -> impl Future<Output = Result<T, Refusal>> + Send + use<T> {
        let queued = self.core.commands().try_send(Command::Ask(asked)).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.core.shared.metrics.overloaded.inc();
                Refusal::Overloaded
            }
            TrySendError::Closed(_) => self.core.shared.gone(),
        });
        let shared = Arc::clone(&self.core.shared);
        async move {
            queued?;
            answer.await.unwrap_or_else(|_| Err(shared.gone()))
        }
    }

    /// Whether permits are given.
    pub fn health(&self) -> GuardHealth {
        *self.core.shared.health.borrow()
    }

    /// Waits until protection freezes, which in good times is never.
    pub async fn frozen(&self) -> FreezeReason {
        let mut health = self.core.shared.health.subscribe();
        loop {
            if let GuardHealth::Frozen { reason } = *health.borrow_and_update() {
                return reason;
            }
            if health.changed().await.is_err() {
                return FreezeReason::CommitterGone;
            }
        }
    }

    /// Waits until the database comes under suspicion; at once if it is.
    pub async fn suspected(&self) -> Suspicion {
        let mut health = self.core.shared.health.subscribe();
        loop {
            if let GuardHealth::Suspect(suspicion) = *health.borrow_and_update() {
                return suspicion;
            }
            if health.changed().await.is_err() {
                // The committer is gone, so nothing will be noticed any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The guard's metrics, to be registered once.
    pub fn metrics(&self) -> &Metrics {
        &self.core.shared.metrics
    }

    /// Registers one key.
    ///
    /// # Errors
    /// [`RegisterError`]; the key is then not registered.
    pub async fn register(
        &self,
        key: NewKey,
        entry: EntryWatermark,
        tombstone: Tombstone,
    ) -> Result<Registered, RegisterError> {
        let mut results = self.register_many(vec![(key, entry)], tombstone).await?;
        results.pop().unwrap_or(Err(RegisterError::Admin(AdminError::ShutDown)))
    }

    /// Registers many keys in one transaction; results are in the order of the keys.
    ///
    /// # Errors
    /// [`AdminError`] if the transaction failed: then no key is registered.
    pub async fn register_many(
        &self,
        keys: Vec<(NewKey, EntryWatermark)>,
        tombstone: Tombstone,
    ) -> Result<Vec<Result<Registered, RegisterError>>, AdminError> {
        let shared = Arc::clone(&self.core.shared);
        let fenced = keys.iter().any(|(_, entry)| matches!(entry, EntryWatermark::Now | EntryWatermark::NowAnd(_)));
        let (keys, entries): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        self.write(move |store| {
            // Read here, on the thread that also commits permits: nothing is signed after this moment
            // and before the row is written.
            let now = shared.settings.clock.now();
            let fence = if fenced { shared.fence(now)? } else { Watermarks::default() };
            let mut decide = |index: usize, row: Option<&crate::store::KeyRow>| {
                let entry = entries.get(index).copied().unwrap_or(EntryWatermark::Now);
                decide_entry(row, entry, tombstone, &fence)
            };
            Ok(store.register(&keys, now, &mut decide)?)
        })
        .await
    }

    /// Enables or disables a key. Once this returns, a disabled key earns no more permits, and one that
    /// [`Switch::Enable`] found switched off earns them only behind a fence of that moment; a key that was on already
    /// keeps its watermarks.
    ///
    /// # Errors
    /// [`AdminError::UnknownKey`], [`AdminError::Tombstoned`] or a failure; the state is then unchanged.
    pub async fn switch(&self, key: &PublicKey, to: Switch, by: &CallerId) -> Result<Switched, AdminError> {
        let (shared, key, by) = (Arc::clone(&self.core.shared), *key, by.clone());
        let before = self
            .write(move |store| {
                // Read here, on the thread that also commits permits. The store raises the watermarks and changes the
                // state in one transaction, under the row's lock.
                let now = shared.settings.clock.now();
                let floor = match to {
                    Switch::Enable => shared.fence(now)?,
                    Switch::EnableUnfenced | Switch::Disable => Watermarks::default(),
                };
                Ok(store.switch(&key, to, &floor, &by, now)?)
            })
            .await?;
        match (before.ok_or(AdminError::UnknownKey)?, to) {
            (KeyState::Tombstoned, _) => Err(AdminError::Tombstoned),
            (KeyState::Disabled, Switch::Enable) => {
                self.core.shared.metrics.fences.inc();
                Ok(Switched::Fenced)
            }
            (KeyState::Disabled, Switch::EnableUnfenced | Switch::Disable) | (KeyState::Enabled, _) => {
                Ok(Switched::Plainly)
            }
        }
    }

    /// Deletes a key's secret and leaves a tombstone with its watermarks. Returns the state it had before.
    ///
    /// # Errors
    /// [`AdminError::UnknownKey`] or a failure; the key is then unchanged.
    pub async fn tombstone(&self, key: &PublicKey, by: &CallerId) -> Result<KeyState, AdminError> {
        let (shared, key, by) = (Arc::clone(&self.core.shared), *key, by.clone());
        let before = self.write(move |store| Ok(store.tombstone(&key, &by, shared.settings.clock.now())?)).await?;
        before.ok_or(AdminError::UnknownKey)
    }

    /// Fences keys (all, if `None`) at the present, as after a restore, and journals that. Returns how many rows
    /// there were. A fence of all keys ends suspicion of the database, and what other instances wrote about theirs into
    /// a shared one; a fence of some lets those sign again.
    ///
    /// # Errors
    /// [`AdminError`]; suspicion then stays. Keys may have been fenced all the same, which is safe.
    pub async fn fence(&self, keys: Option<Vec<PublicKey>>, by: &CallerId) -> Result<u64, AdminError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Fence { keys, by: by.clone(), reply };
        if self.core.commands().send(command).await.is_err() {
            return Err(self.core.shared.admin_gone());
        }
        answer.await.unwrap_or_else(|_| Err(self.core.shared.admin_gone()))
    }

    /// From now on, and until the process ends, keys that were enabled a short while ago get no permits for blocks,
    /// attestations and aggregates: [`Objection::DoppelgangerPending`], or [`Objection::DoppelgangerDetected`] once
    /// somebody else was seen. Somebody must look, and say what was found with [`Self::judge_newly_enabled`].
    pub fn hold_newly_enabled(&self) {
        self.core.shared.holds_new_keys.store(true, std::sync::atomic::Ordering::Release);
    }

    /// The keys that were enabled a short while ago, by whatever road and whichever signer, and of which nobody has
    /// said yet that nothing is to be watched for; in order of entry. Keys that were enabled before the database knew
    /// of this are not among them.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn newly_enabled(&self) -> Result<Vec<NewlyEnabled>, AdminError> {
        self.read(|store| store.newly_enabled()).await
    }

    /// Notes findings about such keys, durably and in one transaction. An epoch not after the last one counted, and a
    /// finding about an earlier time of a key, change nothing.
    ///
    /// # Errors
    /// [`AdminError`]; nothing is noted then.
    pub async fn judge_newly_enabled(&self, judged: Vec<Judged>) -> Result<(), AdminError> {
        self.write(move |store| Ok(store.judge_newly_enabled(&judged)?)).await
    }

    /// Every key that has a sealed secret, enabled or not, with its proof of registration.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn active_keys(&self) -> Result<Vec<StoredKey>, AdminError> {
        self.read(|store| store.stored_keys()).await
    }

    /// What is known about a key, tombstoned or not; `None` without a row.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn key_info(&self, key: &PublicKey) -> Result<Option<KeyInfo>, AdminError> {
        let key = *key;
        Ok(self.read(move |store| store.key_infos(Some(&key))).await?.pop())
    }

    /// What is known about every key, in order of entry.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn list(&self) -> Result<Vec<KeyInfo>, AdminError> {
        self.read(|store| store.key_infos(None)).await
    }

    /// A key's watermarks; `None` without a row.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn watermark(&self, key: &PublicKey) -> Result<Option<Watermarks>, AdminError> {
        Ok(self.key_info(key).await?.map(|info| info.watermarks))
    }

    /// The highest watermarks over all keys.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn high_watermarks(&self) -> Result<HighWatermarks, AdminError> {
        self.read(|store| store.high_watermarks()).await
    }

    /// How often the keys of a shared database were changed so far, by any signer: switched, brought in or deleted.
    /// `None` with SQLite, where nobody else changes keys. Read it before the keys it is to be compared for.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn key_changes(&self) -> Result<Option<KeyChanges>, AdminError> {
        self.read(|store| store.key_changes()).await
    }

    /// The signers that share the database, last seen first; none with SQLite, where there is only this one.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn instances(&self) -> Result<Vec<InstanceInfo>, AdminError> {
        self.read(|store| store.instances()).await
    }

    /// The server of the database; `None` with SQLite, which has none.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn server(&self) -> Result<Option<ServerInfo>, AdminError> {
        self.read(|store| store.server()).await
    }

    /// The end of this instance's journal as this process left it, or found it when it opened the database. Nothing
    /// is read or verified for it.
    ///
    /// # Errors
    /// [`AdminError`] if there is nobody left who knows.
    pub async fn journal_head(&self) -> Result<Head, AdminError> {
        self.write(|store| Ok(store.head())).await
    }

    /// Stores a wrapped data key, replacing the one with the same id.
    ///
    /// # Errors
    /// [`AdminError`]; nothing is then stored.
    pub async fn put_data_key(&self, record: DataKeyRecord) -> Result<(), AdminError> {
        self.write(move |store| Ok(store.put_data_key(&record)?)).await
    }

    /// The wrapped data keys, by id.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn data_keys(&self) -> Result<Vec<DataKeyRecord>, AdminError> {
        self.read(|store| store.data_keys()).await
    }

    /// Looks for old journal batches now and archives them, as happens by itself every hour. Takes its time: it
    /// leaves most of the machine and of the database to others.
    ///
    /// # Errors
    /// [`ArchiveError`](crate::ArchiveError); nothing is lost then.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub async fn archive(&self) -> Result<crate::journal::Archived, crate::ArchiveError> {
        let Some(archiver) = &self.core.archiver else { return Err(crate::ArchiveError::KeptForEver) };
        let (reply, answer) = oneshot::channel();
        let asked = archiver.send(crate::journal::retention::Wake::Look(reply)).is_ok();
        let gone = || Err(crate::ArchiveError::ShutDown);
        if asked { answer.await.unwrap_or_else(|_| gone()) } else { gone() }
    }

    /// Finishes what is queued, closes the database and releases its lock. Later requests are refused.
    pub async fn shutdown(&self) {
        let (reply, closed) = oneshot::channel();
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        if let Some(archiver) = &self.core.archiver {
            let (stopped, end) = oneshot::channel();
            if archiver.send(crate::journal::retention::Wake::Stop(stopped)).is_ok() {
                drop(end.await);
            }
        }
        // A reader that is gone already, or a committer that is, has nothing left to close.
        let (stopped, reader) = oneshot::channel();
        if self.core.reads().send(crate::committer::Read::Stop(stopped)).await.is_ok() {
            drop(reader.await);
        }
        if self.core.commands().send(Command::Stop(reply)).await.is_ok() {
            drop(closed.await);
        }
    }

    /// Runs `work` on the committer thread, between batches.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |store: Result<&mut dyn Store, FreezeReason>| {
            let result = store.map_err(AdminError::Frozen).and_then(work);
            let freezes = match &result {
                Err(AdminError::Store(error)) => error.freezes(),
                Ok(_) | Err(_) => None,
            };
            // Whoever asked may have gone; the work is done all the same.
            drop(reply.send(result));
            freezes
        });
        if self.core.commands().send(Command::Admin(job)).await.is_err() {
            return Err(self.core.shared.admin_gone());
        }
        answer.await.unwrap_or_else(|_| Err(self.core.shared.admin_gone()))
    }

    /// Runs `work` on the reader thread.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn ReadStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |store: &mut dyn ReadStore| {
            drop(reply.send(work(store).map_err(AdminError::Store)));
        });
        if self.core.reads().send(crate::committer::Read::Job(job)).await.is_err() {
            return Err(self.core.shared.admin_gone());
        }
        answer.await.unwrap_or_else(|_| Err(self.core.shared.admin_gone()))
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("health", &self.health()).finish_non_exhaustive()
    }
}
