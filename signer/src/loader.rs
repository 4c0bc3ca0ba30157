//! Bringing keys from the database into memory: at start, after the listeners are up, again on request, and
//! when another signer on the same database changed them.
//!
//! A load replaces the whole keyring at once, so a request sees the keys of one load or of the
//! next. A key that cannot be opened is reported and left out; the others sign. A load that fails
//! as a whole leaves the keys that were there: an outage never takes keys away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_audit::checkpoint::CheckpointKey;
use holdfast_domain::{Clock, PublicKey};
use holdfast_enclave::backend::KeyBackend;
use holdfast_enclave::provider::Checked;
use holdfast_enclave::provider::retry::Backoff;
use holdfast_enclave::{DataKey, LockStatus, lock_status};
use holdfast_slashing_db::KeyChanges;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::clock::{Stopwatch, rfc3339};
use crate::config::Config;
use crate::custody::{self, Caller, Custody, CustodyError, Difference, ProviderMetrics, Terminal, Unsealed};
use crate::drain::Tasks;
use crate::outcome::chain;
use crate::pipeline::Signer;
use crate::unseal::{Door, Waiting};

/// How long to wait before keys are brought back once more.
const AGAIN: Duration = Duration::from_secs(2);
/// Keys that cannot be opened are named one by one up to this many.
const NAMED_FAILURES: usize = 20;

/// How long a start waits before it asks the providers of the data key again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How the last reload went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadState {
    /// None was asked for.
    Idle,
    /// One is running.
    Running,
    /// All keys were opened.
    Completed {
        /// When it ended, RFC 3339.
        at: String,
    },
    /// Some keys could not be opened.
    CompletedWithErrors {
        /// When it ended, RFC 3339.
        at: String,
        /// What was wrong.
        error: String,
    },
    /// Nothing was changed.
    Failed {
        /// When it ended, RFC 3339.
        at: String,
        /// What was wrong.
        error: String,
    },
}

/// What became of a request to reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// It has begun.
    Started,
    /// One was running already.
    AlreadyRunning,
}

/// What became of a look for changes that others made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// Nobody else can change keys.
    Alone,
    /// The keys are those that are loaded.
    Unchanged,
    /// They were others.
    Changed {
        /// Keys opened.
        added: usize,
        /// Keys dropped, because they were deleted.
        removed: usize,
        /// Keys that cannot be opened.
        failed: usize,
    },
}

/// Loads keys.
pub(crate) struct KeyLoader {
    /// Locked while keys load.
    custody: tokio::sync::Mutex<Custody>,
    /// Held while the keyring and the database change together, so that a load which read the database
    /// before such a change does not undo it in memory.
    changing: tokio::sync::Mutex<()>,
    config: Config,
    signer: Arc<Signer>,
    backend: Arc<dyn KeyBackend>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    failed: AtomicUsize,
    running: AtomicBool,
    state: Mutex<ReloadState>,
    /// How often keys had been changed when the loaded ones were read.
    seen: Mutex<Option<KeyChanges>>,
    /// Whether the first load is over, for those who wait for it.
    loaded: watch::Sender<bool>,
    /// What the first load waits for, if it is people.
    sealed: Mutex<Option<Waiting>>,
    providers: Arc<ProviderMetrics>,
    /// Opened together with the keys: it is sealed under the same data key.
    checkpoint_key: Mutex<Option<Arc<CheckpointKey>>>,
}

impl KeyLoader {
    /// A loader of the keys in `custody` into the keyring of `signer`.
    pub(crate) fn new(
        mut custody: Custody,
        config: Config,
        signer: Arc<Signer>,
        backend: Arc<dyn KeyBackend>,
        clock: Arc<dyn Clock>,
        (tasks, providers): (Tasks, Arc<ProviderMetrics>),
    ) -> Self {
        custody.caller = Caller::Server;
        Self {
            custody: tokio::sync::Mutex::new(custody),
            changing: tokio::sync::Mutex::new(()),
            config,
            signer,
            backend,
            clock,
            tasks,
            failed: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            state: Mutex::new(ReloadState::Idle),
            seen: Mutex::new(None),
            loaded: watch::Sender::new(false),
            sealed: Mutex::new(None),
            providers,
            checkpoint_key: Mutex::new(None),
        }
    }

    /// What signs checkpoints of the journal; `None` as long as there is no data key, or if it does not open.
    pub(crate) fn checkpoint_key(&self) -> Option<Arc<CheckpointKey>> {
        self.checkpoint_key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the checkpoint key while the data key is at hand. That it does not open must not keep keys from signing.
    fn open_checkpoint_key(&self, custody: &Custody) {
        if self.config.audit.checkpoint_minutes == 0 {
            return;
        }
        let opened = match self.checkpoint_key() {
            Some(key) => custody.settle_checkpoint_key(&self.config, &key),
            None => custody.checkpoint_key(&self.config).map(|key| {
                *self.checkpoint_key.lock().unwrap_or_else(PoisonError::into_inner) = key.map(Arc::new);
            }),
        };
        if let Err(problem) = opened {
            warn!("{}", chain(&problem));
        }
    }

    /// Whether the first load is still to come or running.
    pub(crate) fn is_loading(&self) -> bool {
        !self.signer.keys_ready.is_set()
    }

    /// How many keys the last load could not open.
    pub(crate) fn failed(&self) -> usize {
        self.failed.load(Ordering::Relaxed)
    }

    /// How the last reload went.
    pub(crate) fn reload_state(&self) -> ReloadState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first load: opens the data key, then every key, and lets requests in. While the providers of the data
    /// key are out of reach, it tries again and again.
    ///
    /// # Errors
    /// [`CustodyError`] if the data key cannot be had for a reason that does not pass, or the record cannot be read.
    pub(crate) async fn load_first(self: &Arc<Self>) -> Result<usize, CustodyError> {
        let watch = Stopwatch::start();
        self.running.store(true, Ordering::Release);
        let result = self.load_patiently().await;
        self.running.store(false, Ordering::Release);
        let keys = result?.0;
        // The memory of every key has been had by now, and nothing was signed yet.
        if let (true, LockStatus::Unlocked { reason }) = (self.config.signing.require_protections, lock_status()) {
            return Err(CustodyError::Unprotected { reason });
        }
        // From now on nobody sits at the terminal.
        self.custody.lock().await.terminal = Terminal::Leave;
        self.signer.keys_ready.set();
        self.loaded.send_replace(true);
        info!(keys, failed = self.failed(), seconds = watch.seconds(), "keys loaded");
        Ok(keys)
    }

    async fn load_patiently(self: &Arc<Self>) -> Result<(usize, Option<String>), CustodyError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut door = None;
        loop {
            match self.load().await {
                Err(problem) if problem.waits_for_shares() => self.wait_for_shares(&problem, &mut door).await?,
                Err(problem) if problem.may_pass() => {
                    let wait = backoff.next_wait();
                    let seconds = wait.as_secs_f64();
                    warn!(seconds, "keys are not loaded yet, and requests get 503; trying again: {}", chain(&problem));
                    self.providers.load_retried();
                    tokio::time::sleep(wait).await;
                }
                ended => return ended,
            }
        }
    }

    /// Waits until somebody brought a share, or for a while: a provider among the holders may be back. Opens the door for
    /// shares the first time, and whenever the data key was wrapped anew.
    async fn wait_for_shares(
        self: &Arc<Self>,
        problem: &CustodyError,
        door: &mut Option<Door>,
    ) -> Result<(), CustodyError> {
        let (set, brought) = {
            let custody = self.custody.lock().await;
            (custody.share_set().await?, Arc::clone(&custody.brought))
        };
        let Some(set) = set else { return Ok(()) };
        if door.as_ref().is_none_or(|door| *door.set() != set) {
            warn!("sealed, and requests get 503: {}", chain(problem));
            *door = None;
            *door = Some(Door::open(&self.config, set, brought, &self.tasks).map_err(CustodyError::Door)?);
        }
        if let Some(door) = door {
            *self.sealed.lock().unwrap_or_else(PoisonError::into_inner) = Some(door.waiting());
            let _ = tokio::time::timeout(LONGEST_WAIT, door.knock()).await;
        }
        Ok(())
    }

    /// What the first load waits for, if it is people with shares.
    pub(crate) fn sealed(&self) -> Option<String> {
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        sealed.as_ref().filter(|_| self.is_loading()).map(Waiting::describe)
    }

    /// Waits until the first load is over.
    pub(crate) async fn loaded(&self) {
        // The sender lives as long as this does.
        let _ = self.loaded.subscribe().wait_for(|loaded| *loaded).await;
    }

    /// Asks every provider to open the data key; see [`Custody::check_providers`].
    ///
    /// # Errors
    /// [`CustodyError`] if the record cannot be read.
    pub(crate) async fn check_providers(self: &Arc<Self>) -> Result<Vec<Checked>, CustodyError> {
        self.with_custody(|loader, custody| Handle::current().block_on(custody.check_providers(&loader.config))).await
    }

    /// Does something with what is in custody on a thread that may wait.
    pub(crate) async fn with_custody<R: Send + 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&Self, &mut Custody) -> R + Send + 'static,
    ) -> R {
        let loader = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = f(&loader, &mut loader.custody.blocking_lock());
            // The thread lives on, and with it what the data key left where it was moved from.
            holdfast_enclave::stack::scrub();
            done
        });
        // A panic there is one here.
        done.await.unwrap_or_else(|failure| std::panic::resume_unwind(failure.into_panic()))
    }

    /// Keeps loads out until dropped: for changes of the keyring together with the database.
    pub(crate) async fn keep_out(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Where signatures are computed.
    pub(crate) fn backend(&self) -> Arc<dyn KeyBackend> {
        Arc::clone(&self.backend)
    }

    /// The data key, made if there is none yet. Never asks on the terminal: a request cannot wait for that.
    ///
    /// # Errors
    /// [`CustodyError`] if no provider can be had, or all refuse.
    pub(crate) async fn data_key(self: &Arc<Self>) -> Result<Arc<DataKey>, CustodyError> {
        self.with_custody(|loader, custody| {
            let asking = std::mem::replace(&mut custody.terminal, Terminal::Leave);
            let key = Handle::current().block_on(custody.ensure_data_key(&loader.config));
            custody.terminal = asking;
            custody.forget_data_key();
            key
        })
        .await
    }

    /// Has secrets wiped that nobody will ask for any more, where they are elsewhere: those of these keys that are not
    /// in the keyring. Called while other changes are kept out.
    pub(crate) async fn forget(&self, mut keys: Vec<PublicKey>) {
        let keyring = self.signer.keyring.load_full();
        keys.retain(|key| keyring.get(key).is_none());
        if keys.is_empty() {
            return;
        }
        let backend = self.backend();
        if tokio::task::spawn_blocking(move || backend.forget(&keys)).await.is_err() {
            error!("a vault was not told to forget keys: report this as a bug");
        }
    }

    /// Takes over what other signers changed among the keys. Those that are loaded go on signing meanwhile.
    ///
    /// # Errors
    /// [`CustodyError`] if the record cannot be read or the data key cannot be had; nothing is changed then.
    pub(crate) async fn follow(self: &Arc<Self>) -> Result<Followed, CustodyError> {
        let Some(changes) = self.signer.guard.key_changes().await? else { return Ok(Followed::Alone) };
        if self.seen() == Some(changes) {
            return Ok(Followed::Unchanged);
        }
        // First, and whatever becomes of the rest, what others changed about the labels of keys.
        self.signer.policy.relabel(&self.signer.guard).await?;
        let _changing = self.changing.lock().await;
        let Difference { added, gone, failed, disabled } = self.with_custody(Self::unseal_new).await?;
        let keyring = self.signer.keyring.load_full();
        let followed = match (added.len(), gone.len(), failed.len()) {
            // A change that this process made itself, or that left the keys as they were.
            (0, 0, failed) if failed == self.failed() => Followed::Unchanged,
            (added, removed, failed) => Followed::Changed { added, removed, failed },
        };
        if !added.is_empty() {
            // Those that came in since, with their keys: none is ever judged without its labels.
            self.signer.policy.relabel(&self.signer.guard).await?;
            keyring.insert_all(added);
        }
        if !gone.is_empty() {
            keyring.remove_all(&gone);
            self.forget(gone).await;
        }
        self.account(keyring.len(), disabled, &failed);
        self.set_seen(Some(changes));
        Ok(followed)
    }

    fn unseal_new(&self, custody: &mut Custody) -> Result<Difference, CustodyError> {
        let loaded = self.signer.keyring.load();
        let opened = Handle::current().block_on(custody::unseal_new(custody, &self.config, &self.backend, &loaded));
        self.open_checkpoint_key(custody);
        custody.forget_data_key();
        opened
    }

    fn seen(&self) -> Option<KeyChanges> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_seen(&self, changes: Option<KeyChanges>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = changes;
    }

    /// Brings all keys back into a vault that was started anew, however long it takes.
    pub(crate) async fn bring_back(self: &Arc<Self>) {
        loop {
            match self.load().await {
                Ok((keys, _)) => {
                    info!(
                        keys,
                        "the vault has its keys again; it signs blocks and attestations from the next epoch on"
                    );
                    return;
                }
                Err(failure) => error!("the vault has no keys, trying on: {}", chain(&failure)),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Starts a load in the background, unless one is running.
    pub(crate) fn reload(self: &Arc<Self>) -> Reload {
        if self.running.swap(true, Ordering::AcqRel) {
            return Reload::AlreadyRunning;
        }
        self.set_state(ReloadState::Running);
        let loader = Arc::clone(self);
        self.tasks.spawn(async move {
            let result = loader.load().await;
            let at = rfc3339(loader.clock.now());
            let state = match result {
                Ok((keys, None)) => {
                    info!(keys, "keys reloaded");
                    ReloadState::Completed { at }
                }
                Ok((_, Some(error))) => ReloadState::CompletedWithErrors { at, error },
                Err(failure) => {
                    let text = chain(&failure);
                    error!("keys not reloaded, those loaded before stay: {text}");
                    ReloadState::Failed { at, error: text }
                }
            };
            loader.set_state(state);
            loader.running.store(false, Ordering::Release);
        });
        Reload::Started
    }

    fn set_state(&self, state: ReloadState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Opens all keys and puts them in place. Says how many, and what was wrong with others.
    async fn load(self: &Arc<Self>) -> Result<(usize, Option<String>), CustodyError> {
        let _changing = self.changing.lock().await;
        // Before the keys are read: what is changed meanwhile is looked at once more.
        let changes = self.signer.guard.key_changes().await?;
        let before = self.signer.keyring.load().public_keys();
        // Opening keys is work for a processor, and a provider may take its time.
        let unsealed = self.with_custody(Self::unseal).await?;
        // After the keys were read and before they sign: none is ever judged without its labels.
        self.signer.policy.relabel(&self.signer.guard).await?;
        let installed = self.install(unsealed);
        self.forget(before).await;
        self.set_seen(changes);
        Ok(installed)
    }

    fn unseal(&self, custody: &mut Custody) -> Result<Unsealed, CustodyError> {
        let opened = Handle::current().block_on(custody::unseal_all(custody, &self.config, &self.backend));
        self.open_checkpoint_key(custody);
        custody.forget_data_key();
        opened
    }

    fn install(&self, unsealed: Unsealed) -> (usize, Option<String>) {
        let Unsealed { keyring, failed, disabled } = unsealed;
        let keys = keyring.len();
        self.signer.keyring.store(Arc::new(keyring));
        if disabled > 0 {
            info!(disabled, "keys are switched off: requests for them are refused");
        }
        self.account(keys, disabled, &failed);
        let first = failed.iter().next().map(|(key, problem)| {
            format!("{} keys could not be opened; the first is {key}: {}", failed.len(), chain(problem))
        });
        if let Some(summary) = &first
            && failed.len() > NAMED_FAILURES
        {
            warn!("{summary}");
        }
        (keys, first)
    }

    /// Counts the keys, and names those that could not be opened.
    fn account(&self, keys: usize, disabled: usize, failed: &BTreeMap<PublicKey, CustodyError>) {
        self.failed.store(failed.len(), Ordering::Relaxed);
        self.signer.metrics.set_keys(keys, disabled, failed.len());
        for (key, problem) in failed.iter().take(NAMED_FAILURES) {
            warn!(pubkey = %key, "key left out: {}", chain(problem));
        }
    }
}
