//! Keeps the vault's lease: asks the witnesses in time, carries what they grant, and gives it back at the end.
//!
//! Guarantees: nothing here is trusted; whatever it does, the vault signs only in epochs it holds. What it is for is that
//! there is a lease when it is needed: extended for the next epoch from the middle of each, asked for at least once a slot
//! while there is none, and given back when the process stops, so that the next start goes on at once. Where the vault
//! outlives this process it keeps the lease, and its marks, so the next signer goes on at once as well.
//!
//! Why requests are refused here, before the vault would: what is refused before protection permits it leaves no mark in
//! the database, and is in the journal with its reason.

mod client;
mod file;
mod metrics;
mod tls;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_domain::{Clock, Epoch, SlotClock, Subject};
use holdfast_enclave::{LeaseNews, LeaseReport, ProcessBackend, SignError};
use holdfast_slashing_db::Objection;
use holdfast_witness::Grant;
use prometheus_client::registry::Registry;
use tracing::{info, warn};

use crate::config::{Config, WitnessConfig};
use crate::drain::Stopping;
use crate::loader::KeyLoader;
use crate::outcome::chain;
use client::{Said, Secure};
use metrics::LeaseMetrics;
pub(crate) use tls::of_witnesses;

/// How often a request is made anew at once, because the record had moved.
const ROUNDS: usize = 3;
/// Bounds of the wait between two looks.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Keeps a lease.
pub(crate) struct Lease {
    backend: ProcessBackend,
    witness: WitnessConfig,
    timeout: Duration,
    slots: SlotClock,
    clock: Arc<dyn Clock>,
    file: PathBuf,
    metrics: LeaseMetrics,
    /// What the vault said it holds: the epochs after the first up to the second; equal if none.
    after: AtomicU64,
    until: AtomicU64,
    known: Mutex<Known>,
}

/// What is remembered between two rounds.
struct Known {
    /// Versions of the witnesses' records.
    versions: Vec<u64>,
    /// The vault that this is about.
    generation: u64,
    /// What was last said of it in the log.
    said: Standing,
}

/// How the lease stands, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    Unknown,
    Held,
    /// Somebody else holds it.
    Elsewhere,
    /// Too few witnesses grant, and why.
    Wanting(String),
}

/// What came of asking every witness.
struct Carried {
    grants: Vec<Vec<u8>>,
    /// Whether a record had only moved on.
    again: bool,
    standing: Standing,
    /// Witnesses that did what was asked, or had done it before.
    settled: usize,
}

impl Lease {
    /// For a vault that signs by leases; `None` where it needs none.
    pub(crate) fn new(
        config: &Config,
        backend: &ProcessBackend,
        slots: SlotClock,
        clock: Arc<dyn Clock>,
    ) -> Option<Arc<Self>> {
        let witness = config.witness.clone();
        if witness.servers.is_empty() {
            return None;
        }
        for server in witness.servers.iter().filter(|server| !server.secure && !server.is_here()) {
            let witness = &server.authority;
            warn!(
                witness,
                "this witness is asked without TLS: whoever is on the way sees which group signs and can lose requests, but \
                 forge none, as both sides sign; write https:// where the network is not yours (docs/witness.md)"
            );
        }
        let known = Known { versions: vec![0; witness.servers.len()], generation: 0, said: Standing::Unknown };
        Some(Arc::new(Self {
            backend: backend.clone(),
            witness,
            timeout: Duration::from_millis(config.witness.timeout_ms.get()),
            slots,
            clock,
            file: config.data_dir().join("checkpoint"),
            metrics: LeaseMetrics::default(),
            after: AtomicU64::new(0),
            until: AtomicU64::new(0),
            known: Mutex::new(known),
        }))
    }

    /// Registers what is measured.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// What speaks against a message: that the vault would refuse it for want of a lease.
    pub(crate) fn objection(&self, subject: &Subject) -> Option<Objection> {
        let epoch = match *subject {
            Subject::Unslashable { .. } => return None,
            Subject::Block { slot } => slot.epoch(self.slots.slots_per_epoch),
            Subject::Attestation { target, .. } => target,
        };
        (!self.covers(epoch)).then_some(Objection::NoLease)
    }

    fn covers(&self, epoch: Epoch) -> bool {
        self.after.load(Ordering::Acquire) < epoch.0 && epoch.0 <= self.until.load(Ordering::Acquire)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the lease until the process stops.
    pub(crate) async fn watch(self: Arc<Self>, loader: Arc<KeyLoader>, mut stopping: Stopping) {
        let keep = async {
            // A key that comes in after the lease is behind a fence that one of a checkpoint does not need.
            loader.loaded().await;
            self.offer().await;
            loop {
                self.look().await;
                let slot = Duration::from_millis(self.slots.slot_millis.get());
                tokio::time::sleep((slot / 4).clamp(SHORTEST, LONGEST)).await;
            }
        };
        tokio::select! {
            () = stopping.begun() => {}
            () = keep => {}
        }
    }

    /// Runs what asks the vault on a thread that may wait.
    async fn vault<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&ProcessBackend) -> Result<R, SignError> + Send + 'static,
    ) -> Result<R, SignError> {
        let backend = self.backend.clone();
        tokio::task::spawn_blocking(move || ask(&backend)).await.unwrap_or(Err(SignError::VaultDown))
    }

    /// Gives the vault the checkpoint that an earlier one left, if there is one.
    async fn offer(&self) {
        let path = self.file.clone();
        match tokio::task::spawn_blocking(move || file::read(&path)).await {
            Ok(Ok(Some(pages))) => {
                if let Err(error) = self.vault(move |vault| vault.offer_checkpoint(pages)).await {
                    warn!(file = %self.file.display(), "the checkpoint is of no use to this vault: {}", chain(&error));
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => warn!(file = %self.file.display(), %error, "the checkpoint cannot be read"),
            Err(error) => warn!(%error, "the checkpoint was not read: report this as a bug"),
        }
    }

    /// The last epoch that is wanted now: the next one from the middle of each.
    fn wanted(&self) -> Option<(Epoch, Epoch)> {
        let slot = self.slots.slot_at(self.clock.now())?;
        let now = slot.epoch(self.slots.slots_per_epoch);
        let into = slot.0.checked_rem(self.slots.slots_per_epoch.get())?;
        let late = into.saturating_mul(2) >= self.slots.slots_per_epoch.get();
        Some((now, Epoch(now.0.saturating_add(u64::from(late)))))
    }

    /// Extends the lease if it is time.
    async fn look(&self) {
        let Some((now, wanted)) = self.wanted() else { return };
        let generation = *self.backend.generations().borrow();
        let another = core::mem::replace(&mut self.known().generation, generation) != generation;
        if another {
            self.until.store(0, Ordering::Release);
            self.after.store(0, Ordering::Release);
            // One that outlives its signers may hold a lease already, whoever asked for it.
            if let Ok(report) = self.vault(|vault| vault.take_lease(Vec::new())).await {
                self.took(report);
            }
        }
        if self.until.load(Ordering::Acquire) < wanted.0 {
            self.extend(wanted).await;
        }
        let held = self.covers(now);
        self.metrics.held.set(i64::from(held));
        self.metrics.until.set(self.until.load(Ordering::Acquire));
    }

    async fn extend(&self, wanted: Epoch) {
        let mut standing = Standing::Unknown;
        for _ in 0..ROUNDS {
            let versions = self.known().versions.clone();
            let requests = match self.vault(move |vault| vault.ask_lease(wanted, versions)).await {
                Ok(requests) => requests,
                // It is starting, and its keys are on their way.
                Err(error) => return self.say(Standing::Wanting(chain(&error)), None),
            };
            let Carried { grants, again, standing: said, settled: _ } = self.carry(requests).await;
            standing = said;
            if !grants.is_empty() {
                match self.vault(move |vault| vault.take_lease(grants)).await {
                    Ok(report) => self.took(report),
                    Err(error) => return self.say(Standing::Wanting(chain(&error)), None),
                }
            }
            if self.until.load(Ordering::Acquire) >= wanted.0 {
                return;
            }
            if !again {
                break;
            }
        }
        self.say(standing, None);
    }

    /// How witnesses are spoken to with TLS: the files as they are now.
    async fn secure(&self) -> Secure {
        let (config, shows) = (self.witness.clone(), self.witness.certificate.is_some());
        let read = tokio::task::spawn_blocking(move || tls::of_witnesses(&config)).await;
        let client = match read {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                warn!("certificates for witnesses cannot be used: {}", chain(&error));
                None
            }
            // The process is stopping.
            Err(_) => None,
        };
        Secure { client, shows }
    }

    /// Asks every witness at once.
    async fn carry(&self, requests: Vec<Vec<u8>>) -> Carried {
        let secure = self.secure().await;
        let asked = self.witness.servers.iter().cloned().zip(requests).map(|(server, request)| {
            let (limit, secure) = (self.timeout, secure.clone());
            async move { client::ask(&server, &secure, &request, limit).await }
        });
        let answers = all(asked).await;
        let (mut grants, mut again, mut elsewhere, mut problems) = (Vec::new(), false, false, Vec::new());
        let mut settled = 0_usize;
        for (index, (server, answer)) in self.witness.servers.iter().zip(answers).enumerate() {
            match answer {
                Said::Granted(grant) => {
                    self.metrics.answered("granted");
                    settled = settled.saturating_add(1);
                    // Only for the version; the vault verifies it for itself.
                    let version = Grant::verify(&grant, &server.key).map(|grant| grant.version);
                    if let (Ok(version), Some(place)) = (version, self.known().versions.get_mut(index)) {
                        *place = version;
                    }
                    grants.push(grant);
                }
                Said::Refused { reason, message, version } => {
                    self.metrics.answered(&reason);
                    if let Some((version, place)) = version.zip(self.known().versions.get_mut(index)) {
                        *place = version;
                    }
                    match reason.as_str() {
                        "moved" => again = true,
                        "held" => elsewhere = true,
                        "released" => settled = settled.saturating_add(1),
                        _ => problems.push(format!("{}: {message}", server.authority)),
                    }
                }
                Said::Silent(problem) => {
                    self.metrics.answered("silent");
                    problems.push(format!("{}: {problem}", server.authority));
                }
            }
        }
        let standing = match (elsewhere, problems.is_empty()) {
            (true, true) => Standing::Elsewhere,
            (_, false) => Standing::Wanting(problems.join("; ")),
            (false, true) => Standing::Unknown,
        };
        Carried { grants, again, standing, settled }
    }

    /// The vault took grants.
    fn took(&self, report: LeaseReport) {
        let Some((after, until)) = report.held else { return };
        self.metrics.changed(report.news.as_str());
        if report.news == LeaseNews::Nothing && self.until.load(Ordering::Acquire) >= until.0 {
            return;
        }
        // In this order nothing is covered for a moment, rather than too much.
        self.until.store(0, Ordering::Release);
        self.after.store(after.0, Ordering::Release);
        self.until.store(until.0, Ordering::Release);
        self.say(Standing::Held, Some(report));
        if matches!(report.news, LeaseNews::Begun | LeaseNews::Resumed) {
            // It is used up, or not the last.
            if let Err(error) = std::fs::remove_file(&self.file)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                warn!(file = %self.file.display(), %error, "an old checkpoint stays; it is of no use to anybody");
            }
        }
    }

    /// One line for each change.
    fn say(&self, standing: Standing, report: Option<LeaseReport>) {
        let mut known = self.known();
        // What is wanting changes its words all the time.
        let same = core::mem::discriminant(&known.said) == core::mem::discriminant(&standing);
        let begun = report.filter(|report| report.news != LeaseNews::Extended);
        match (&standing, begun) {
            (Standing::Unknown, _) => return,
            (Standing::Held, Some(LeaseReport { news: LeaseNews::Resumed, held, resumed, .. })) => {
                let until = held.map(|(_, until)| until.0).unwrap_or_default();
                info!(until, keys = resumed, "the lease goes on where the last vault stopped, with the same marks");
            }
            (Standing::Held, Some(LeaseReport { news: LeaseNews::Nothing, held, .. })) => {
                let until = held.map(|(_, until)| until.0).unwrap_or_default();
                info!(until, "the vault holds its lease still, and goes on with its own marks");
            }
            (Standing::Held, Some(LeaseReport { held, .. })) => {
                let (after, until) = held.map(|(after, until)| (after.0, until.0)).unwrap_or_default();
                info!(
                    after,
                    until, "the lease begins: the vault signs blocks and attestations of the epochs after that"
                );
            }
            (Standing::Held, None) if !same => info!("the lease is extended again"),
            (Standing::Elsewhere, _) if !same => {
                info!(
                    "another signer of the group holds the lease; this one stands by, and takes over when it is over"
                );
            }
            (Standing::Wanting(problem), _) if !same => {
                warn!(
                    "the lease is not extended, trying on; without one no block and no attestation is signed: {problem}"
                );
            }
            (Standing::Held | Standing::Elsewhere | Standing::Wanting(_), _) => {}
        }
        known.said = standing;
    }

    /// Gives the lease back, with a checkpoint, once nothing more is to be signed. Takes no longer than a few answers of
    /// witnesses. A vault that outlives this signer keeps its lease: giving it back is for good.
    pub(crate) async fn release(&self) {
        self.until.store(0, Ordering::Release);
        if self.backend.outlives_its_signer() {
            return info!("the vault keeps its lease; the next signer that connects to it goes on with it");
        }
        for _ in 0..ROUNDS {
            let versions = self.known().versions.clone();
            let released = match self.vault(move |vault| vault.release_lease(versions)).await {
                Ok(released) => released,
                Err(SignError::Lease("no_lease" | "no_keys")) => return,
                Err(error) => return warn!("the lease is not given back: {}", chain(&error)),
            };
            let (path, pages) = (self.file.clone(), released.pages);
            // Before the witnesses know: from then on it is the only way to go on at once.
            match tokio::task::spawn_blocking(move || file::write(&path, &pages)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return warn!("the checkpoint is not written: {}", chain(&error)),
                Err(error) => return warn!(%error, "the checkpoint is not written: report this as a bug"),
            }
            let Carried { settled, again, standing, grants: _ } = self.carry(released.requests).await;
            if settled == self.witness.servers.len() {
                return info!("the lease is given back; the next start goes on at once");
            }
            if !again {
                return warn!(confirmed = settled, ?standing, "not every witness knows that the lease is given back");
            }
        }
        warn!("the lease is not given back: its record changes all the time");
    }
}

/// Waits for all of these at once.
async fn all<F: Future<Output = Said> + Send + 'static>(futures: impl Iterator<Item = F>) -> Vec<Said> {
    let mut set = tokio::task::JoinSet::new();
    let mut count = 0_usize;
    for (index, future) in futures.enumerate() {
        count = index.saturating_add(1);
        set.spawn(async move { (index, future.await) });
    }
    let mut answers: Vec<Said> = (0..count).map(|_| Said::Silent("it was not asked".to_owned())).collect();
    while let Some(done) = set.join_next().await {
        if let Ok((index, said)) = done
            && let Some(place) = answers.get_mut(index)
        {
            *place = said;
        }
    }
    answers
}
