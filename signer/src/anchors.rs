//! Checkpoints on their way out of the operator's reach (`holdfast_anchors`), one task for each place.
//!
//! Guarantees: a checkpoint goes out after it is in the journal, and nothing waits for that but, for a few seconds, the
//! end of the program; what fails is tried again with growing waits, and at once when there is a newer checkpoint,
//! which covers the older one; how far each place is stands in metrics and, for `holdfast doctor`, in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_anchors::{
    Anchor, AnchorError, FileAnchor, Note, SyslogAnchor, SyslogOptions, WebhookAnchor, WebhookOptions,
};
use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_domain::{Clock, UnixMillis};
use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{self, Existing};
use holdfast_enclave::provider::retry::Backoff;
use holdfast_secret::SecretText;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::config::Config;
use crate::drain::{Stopping, Tasks};
use crate::outcome::chain;

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// How long the end of the program waits for the last checkpoint to be kept.
const FAREWELL: Duration = Duration::from_secs(5);
/// Name of the file with the state of all, in the data directory.
const FILE: &str = "anchored.json";

/// Why the places cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnchorsError {
    /// A setting.
    #[error("checkpoints cannot be kept elsewhere as configured")]
    Setting(#[source] AnchorError),
    /// A file with a secret.
    #[error("{setting}: {} cannot be used", path.display())]
    Secret {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How far a place is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// Which place, as it may be shown.
    pub(crate) place: String,
    /// The last batch that a checkpoint kept there signs; 0 for none.
    pub(crate) batch: u64,
    /// When that checkpoint was signed, Unix time in milliseconds.
    pub(crate) signed: u64,
    /// What the last attempt failed with, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Since when attempts fail, Unix time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failing_since: Option<u64>,
}

/// How far each kind of place is.
pub(crate) type State = BTreeMap<String, Kept>;

/// Reads how far each is; nothing if nothing was ever kept.
pub(crate) fn state(config: &Config) -> State {
    let text = std::fs::read(config.data_dir().join(FILE)).unwrap_or_default();
    // Whatever does not parse is written anew with the next checkpoint.
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind(&'static str);

impl EncodeLabelSet for Kind {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("anchor", self.0)].encode(encoder)
    }
}

/// What is measured of each place.
#[derive(Default)]
pub(crate) struct AnchorMetrics {
    batch: Family<Kind, Gauge>,
    signed: Family<Kind, Gauge>,
    failed: Family<Kind, Counter>,
}

impl AnchorMetrics {
    /// Registers everything in the area of the audit log.
    pub(crate) fn register(&self, area: &mut Registry) {
        let batch = "The last batch that a checkpoint kept by this anchor signs";
        area.register("anchored_batch", batch, self.batch.clone());
        let signed = "When the last checkpoint kept by this anchor was signed, Unix time; 0 if none was";
        area.register("anchored_timestamp_seconds", signed, self.signed.clone());
        area.register("anchor_failures", "Attempts to keep a checkpoint that failed", self.failed.clone());
    }

    fn show(&self, kind: Kind, kept: &Kept) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.batch.get_or_create(&kind).set(number(kept.batch));
        self.signed.get_or_create(&kind).set(number(kept.signed / 1_000));
        // Shows zero before the first failure, so that a rule can see the first.
        let _ = self.failed.get_or_create(&kind);
    }
}

/// A checkpoint on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Going {
    note: Note,
    signed: UnixMillis,
}

/// All configured places.
pub(crate) struct Anchors {
    next: watch::Sender<Option<Arc<Going>>>,
    /// For each place, the batch of the last checkpoint it keeps.
    kept: Vec<watch::Sender<u64>>,
    places: Vec<Anchor>,
    shared: Shared,
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    file: PathBuf,
    clock: Arc<dyn Clock>,
    metrics: Arc<AnchorMetrics>,
}

impl Anchors {
    /// As configured.
    ///
    /// # Errors
    /// [`AnchorsError`].
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, AnchorsError> {
        let (places, metrics) = (places(config)?, Arc::<AnchorMetrics>::default());
        let mut state = state(config);
        for place in &places {
            let kept = state.entry(place.kind().to_owned()).or_default();
            if kept.place != place.to_string() {
                *kept = Kept { place: place.to_string(), ..Kept::default() };
            }
            metrics.show(Kind(place.kind()), kept);
        }
        state.retain(|kind, _| places.iter().any(|place| place.kind() == kind));
        let file = config.data_dir().join(FILE);
        let shared = Shared { state: Arc::new(Mutex::new(state)), file, clock, metrics };
        let kept = places.iter().map(|_| watch::Sender::new(0)).collect();
        Ok(Self { next: watch::Sender::new(None), kept, places, shared })
    }

    /// What is measured of them.
    pub(crate) fn metrics(&self) -> Arc<AnchorMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Starts a task for each place.
    pub(crate) fn start(mut self, tasks: &Tasks) -> Self {
        for (place, kept) in self.places.drain(..).zip(&self.kept) {
            let work = Work { place, kept: kept.clone(), shared: self.shared.clone(), next: self.next.subscribe() };
            tasks.spawn(work.run(tasks.stopping()));
        }
        self
    }

    /// Hands on what is in the journal now. Never waits.
    pub(crate) fn keep(&self, signed: &SignedCheckpoint) {
        let checkpoint = signed.checkpoint;
        let note =
            Note { instance: checkpoint.instance.to_string(), batch: checkpoint.head.seq, text: signed.to_note() };
        self.next.send_replace(Some(Arc::new(Going { note, signed: checkpoint.time })));
    }

    /// Waits until every place keeps the last checkpoint, but not for long.
    pub(crate) async fn close(&self) {
        let Some(last) = self.next.borrow().clone() else { return };
        let all = async {
            for kept in &self.kept {
                // Only closed when its task is gone, and then nothing comes any more.
                let _ = kept.subscribe().wait_for(|batch| *batch >= last.note.batch).await;
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            warn!("the last checkpoint is not kept everywhere yet; the next start makes a new one");
        }
    }
}

/// The task of a place.
struct Work {
    place: Anchor,
    kept: watch::Sender<u64>,
    next: watch::Receiver<Option<Arc<Going>>>,
    shared: Shared,
}

impl Work {
    async fn run(mut self, mut stopping: Stopping) {
        tokio::select! {
            () = stopping.begun() => {}
            () = self.keep_keeping() => {}
        }
    }

    async fn keep_keeping(&mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let going = self.next.borrow_and_update().clone();
            let wait = match going {
                None => None,
                Some(going) if self.keep(&going).await => {
                    backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
                    None
                }
                Some(_) => Some(backoff.next_wait()),
            };
            let changed = self.next.changed();
            let ended = match wait {
                None => changed.await,
                Some(wait) => tokio::time::timeout(wait, changed).await.unwrap_or(Ok(())),
            };
            if ended.is_err() {
                return;
            }
        }
    }

    /// Whether it is kept.
    async fn keep(&self, going: &Going) -> bool {
        let result = self.place.keep(&going.note, self.shared.clock.now()).await;
        let kind = self.place.kind();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let kept = state.entry(kind.to_owned()).or_default();
        match &result {
            Ok(()) => {
                debug!(anchor = kind, batch = going.note.batch, "checkpoint kept");
                let place = self.place.to_string();
                *kept = Kept { place, batch: going.note.batch, signed: going.signed.0, ..Kept::default() };
            }
            Err(error) => {
                let text = chain(error);
                if kept.error.as_ref() != Some(&text) {
                    warn!(anchor = kind, "the checkpoint is not kept by {}, and is tried again: {text}", self.place);
                }
                kept.error = Some(text);
                kept.failing_since.get_or_insert(self.shared.clock.now().0);
                self.shared.metrics.failed.get_or_create(&Kind(kind)).inc();
            }
        }
        let kept = kept.clone();
        self.shared.metrics.show(Kind(kind), &kept);
        self.shared.note(kind, kept).await;
        if result.is_ok() {
            self.kept.send_replace(going.note.batch);
        }
        result.is_ok()
    }
}

impl Shared {
    /// Puts down how far a place is.
    async fn note(&self, kind: &str, kept: Kept) {
        let this = self.clone();
        let kind = kind.to_owned();
        let written = tokio::task::spawn_blocking(move || {
            // Held while writing, so that the file is never older than what was written before.
            let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.insert(kind, kept);
            write(&this.file, &state)
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("where checkpoints are kept is not put down: {}", chain(&error)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

fn write(path: &Path, state: &State) -> Result<(), DurableError> {
    let mut text = serde_json::to_vec_pretty(state).unwrap_or_default();
    text.push(b'\n');
    durable::write_private_file(path, &text, Existing::Replace)
}

/// Whether everything about them can be used, as far as it shows without asking anybody.
///
/// # Errors
/// [`AnchorsError`].
pub(crate) fn check(config: &Config) -> Result<(), AnchorsError> {
    places(config).map(|_| ())
}

fn places(config: &Config) -> Result<Vec<Anchor>, AnchorsError> {
    let audit = &config.audit;
    let mut places = Vec::new();
    if let Some(path) = &audit.checkpoint_file {
        places.push(FileAnchor::new(path.clone()).into());
    }
    #[cfg(feature = "anchor-s3")]
    if let Some(bucket) = &audit.s3_bucket {
        places.push(s3(config, bucket.clone(), audit.s3_prefix.clone().unwrap_or_default())?.into());
    }
    if let Some(address) = &audit.syslog {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let options = SyslogOptions { address: address.clone(), ca_file: audit.syslog_ca_file.clone(), host };
        places.push(SyslogAnchor::new(options).map_err(AnchorsError::Setting)?.into());
    }
    if let Some(url) = &audit.webhook_url {
        let options = WebhookOptions {
            url: url.clone(),
            ca_file: audit.webhook_ca_file.clone(),
            token: secret("audit.webhook_token_file", audit.webhook_token_file.as_deref())?,
            hmac: secret("audit.webhook_hmac_file", audit.webhook_hmac_file.as_deref())?,
        };
        places.push(WebhookAnchor::new(options).map_err(AnchorsError::Setting)?.into());
    }
    Ok(places)
}

/// The bucket of this name, reached as configured.
///
/// # Errors
/// [`AnchorsError::Setting`].
#[cfg(feature = "anchor-s3")]
pub(crate) fn s3(config: &Config, bucket: String, prefix: String) -> Result<holdfast_anchors::S3Anchor, AnchorsError> {
    let options = holdfast_anchors::S3Options {
        bucket,
        prefix,
        region: config.audit.s3_region.clone(),
        endpoint: config.audit.s3_endpoint.clone(),
        lock_days: config.audit.s3_lock_days.map(std::num::NonZeroU32::get),
    };
    holdfast_anchors::S3Anchor::new(options).map_err(AnchorsError::Setting)
}

/// What a file that only this user may read holds.
fn secret(setting: &'static str, path: Option<&Path>) -> Result<Option<SecretText>, AnchorsError> {
    let Some(path) = path else { return Ok(None) };
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| AnchorsError::Secret {
        setting,
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map(SecretText::of_file).map_err(|error| unusable(error.into()))?;
    durable::check_private_permissions(path).map_err(|error| unusable(error.into()))?;
    if text.is_empty() { Err(unusable("the file is empty".into())) } else { Ok(Some(text)) }
}
