//! The keys and the signers of the database, read for the status page.
//!
//! Guarantees: one read at a time, on the thread for reading, at most every few seconds and only while somebody looks.
//! A database that does not answer holds up nobody: what was read last is shown, with its age.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_domain::{Clock, UnixMillis};
use holdfast_slashing_db::{Guard, InstanceInfo, KeyState, Labels, ServerInfo};
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::clock::Stopwatch;
use crate::drain::Stopping;
use crate::outcome::chain;
use crate::pipeline::Signer;

/// Least time between two reads.
const PAUSE: Duration = Duration::from_secs(10);
/// Target epochs that a key may lag behind the others before it is pointed out.
const LAG_EPOCHS: u64 = 2;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyView {
    /// The public key.
    pub(crate) pubkey: String,
    /// The operator's name for it.
    pub(crate) label: Option<String>,
    /// A word: `signing`, `behind`, `not_loaded`, `disabled` or `deleted`.
    pub(crate) state: &'static str,
    /// Highest block slot signed or fenced.
    pub(crate) block_slot: Option<u64>,
    /// Highest source epoch signed or fenced.
    pub(crate) source_epoch: Option<u64>,
    /// Highest target epoch signed or fenced.
    pub(crate) target_epoch: Option<u64>,
}

/// What a key is called on the page: the operator's name for it, and its labels.
fn named(name: Option<String>, labels: &Labels) -> Option<String> {
    let words: Vec<String> = name.into_iter().chain(labels.iter().map(ToString::to_string)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

impl KeyView {
    /// The state in the words of the page.
    pub(super) fn state_word(&self) -> &'static str {
        match self.state {
            "signing" => "signing",
            "behind" => "behind the others",
            "not_loaded" => "not loaded",
            "disabled" => "switched off",
            _ => "deleted",
        }
    }

    /// Whether somebody should look: these come first.
    pub(super) fn needs_a_look(&self) -> bool {
        matches!(self.state, "behind" | "not_loaded")
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The keys, those that need a look first, then in order of entry.
    pub(super) keys: Vec<KeyView>,
    /// The signers that share the database; none with SQLite.
    pub(super) instances: Vec<InstanceInfo>,
    /// The server of the database; `None` with SQLite.
    pub(super) server: Option<ServerInfo>,
}

/// How reading goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// What was read last; `None` before the first time.
    pub(super) table: Option<Arc<Table>>,
    /// When.
    pub(super) at: Option<UnixMillis>,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// Why the last attempt failed; `None` if it did not.
    pub(super) error: Option<String>,
}

/// Reads when it is asked to.
pub(super) struct KeyReader {
    signer: Arc<Signer>,
    clock: Arc<dyn Clock>,
    wanted: Notify,
    reading: watch::Sender<Reading>,
    /// Set while the database is being asked.
    asking: Mutex<Option<Stopwatch>>,
}

impl KeyReader {
    /// Has read nothing yet.
    pub(super) fn new(signer: Arc<Signer>, clock: Arc<dyn Clock>) -> Self {
        Self {
            signer,
            clock,
            wanted: Notify::new(),
            reading: watch::Sender::new(Reading::default()),
            asking: Mutex::default(),
        }
    }

    /// Somebody looks.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// What is known.
    pub(super) fn reading(&self) -> Reading {
        self.reading.borrow().clone()
    }

    /// Waits until something was read, or could not be, at most this long.
    pub(super) async fn first(&self, limit: Duration) {
        let mut reading = self.reading.subscribe();
        let known = reading.wait_for(|reading| reading.table.is_some() || reading.error.is_some());
        let _ = tokio::time::timeout(limit, known).await;
    }

    /// Seconds for which the database has been asked and has not answered; `None` if it is not being asked.
    pub(super) fn waiting(&self) -> Option<f64> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner).map(Stopwatch::seconds)
    }

    /// Reads whenever somebody looks, until stopping begins.
    pub(super) async fn run(&self, mut stopping: Stopping) {
        tokio::select! {
            () = stopping.begun() => {}
            () = async { loop {
                self.wanted.notified().await;
                self.read().await;
                tokio::time::sleep(PAUSE).await;
            } } => {}
        }
    }

    async fn read(&self) {
        let watch = Stopwatch::start();
        *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        let read = self.table().await;
        *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (seconds, now) = (watch.seconds(), self.clock.now());
        self.reading.send_modify(|reading| match read {
            Ok(table) => {
                *reading = Reading { table: Some(Arc::new(table)), at: Some(now), seconds, error: None };
            }
            Err(error) => reading.error = Some(chain(&error)),
        });
    }

    async fn table(&self) -> Result<Table, holdfast_slashing_db::AdminError> {
        let guard: &Guard = &self.signer.guard;
        let infos = guard.list().await?;
        let keyring = self.signer.keyring.load_full();
        let highest = infos.iter().filter_map(|info| info.watermarks.attestation).map(|mark| mark.target.0).max();
        let lagging = |target: Option<u64>| match (target, highest) {
            (Some(target), Some(highest)) => target.saturating_add(LAG_EPOCHS) < highest,
            (None, _) | (_, None) => false,
        };
        let mut keys: Vec<KeyView> = infos
            .into_iter()
            .map(|info| {
                let attestation = info.watermarks.attestation;
                let target_epoch = attestation.map(|mark| mark.target.0);
                let state = match info.state {
                    KeyState::Tombstoned => "deleted",
                    KeyState::Disabled => "disabled",
                    KeyState::Enabled if keyring.get(&info.key).is_none() => "not_loaded",
                    KeyState::Enabled if lagging(target_epoch) => "behind",
                    KeyState::Enabled => "signing",
                };
                KeyView {
                    pubkey: info.key.to_string(),
                    label: named(info.label, &info.labels),
                    state,
                    block_slot: info.watermarks.block.map(|mark| mark.slot.0),
                    source_epoch: attestation.map(|mark| mark.source.0),
                    target_epoch,
                }
            })
            .collect();
        // Stable: within each half the order of entry stays.
        keys.sort_by_key(|key| !key.needs_a_look());
        Ok(Table { keys, instances: guard.instances().await?, server: guard.server().await? })
    }
}
