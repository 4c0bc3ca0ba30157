//! Checkpoints of the journal, signed while the server runs: on a schedule and when it stops.
//!
//! Guarantees: what is signed was durable before; each checkpoint is itself an event of the journal, and is handed to
//! whatever keeps checkpoints elsewhere ([`crate::anchors`]) only then. A checkpoint that cannot be made or kept never
//! delays or stops signing: it is logged, counted, and tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_audit::checkpoint::SignedCheckpoint;
use holdfast_domain::Clock;
use holdfast_slashing_db::{AdminError, CallerId, Guard, Refusal};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{debug, warn};

use crate::anchors::{AnchorMetrics, Anchors};
use crate::config::Config;
use crate::drain::Stopping;
use crate::loader::KeyLoader;
use crate::outcome::chain;

/// How long after a failure it is tried again, if the schedule is not sooner.
const AGAIN: Duration = Duration::from_mins(1);

/// An attempt that went well.
const OK: &str = "ok";
/// One that did not.
const FAILED: &str = "failed";

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    /// The end of the journal is not known.
    #[error("the end of the journal cannot be read")]
    Head(#[source] AdminError),
    /// It could not be put into the journal.
    #[error("it could not be recorded")]
    Record(#[source] Refusal),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Ended {
    result: &'static str,
}

impl EncodeLabelSet for Ended {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("result", self.result)].encode(encoder)
    }
}

/// Signs checkpoints with the key that the loader opens.
pub(crate) struct Checkpoints {
    guard: Guard,
    loader: Arc<KeyLoader>,
    clock: Arc<dyn Clock>,
    every: Duration,
    anchors: Anchors,
    /// The batch that holds the last checkpoint.
    last: AtomicU64,
    metrics: Arc<CheckpointMetrics>,
}

/// What is measured of checkpoints.
#[derive(Default)]
pub(crate) struct CheckpointMetrics {
    ended: Family<Ended, Counter>,
    batch: Gauge,
    time: Gauge,
    /// 0 where they are switched off.
    every: Gauge,
    failing: Gauge,
    anchors: Arc<AnchorMetrics>,
}

impl CheckpointMetrics {
    /// With those of the places that keep checkpoints.
    pub(crate) fn with(anchors: &Anchors) -> Arc<Self> {
        Arc::new(Self { anchors: anchors.metrics(), ..Self::default() })
    }

    /// Registers everything; names come out as `<prefix>_audit_…`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        for result in [OK, FAILED] {
            // Shown as 0 until there is one, so that an alert sees the first.
            drop(self.ended.get_or_create(&Ended { result }));
        }
        let area = registry.sub_registry_with_prefix("audit");
        area.register("checkpoints", "Checkpoints of the journal, by result", self.ended.clone());
        area.register("checkpoint_batch", "The last batch that a checkpoint of this process signs", self.batch.clone());
        area.register(
            "checkpoint_timestamp_seconds",
            "When the last checkpoint of this process was signed, Unix time; 0: none was yet",
            self.time.clone(),
        );
        let every = "Time between checkpoints, as configured; 0: they are switched off";
        area.register("checkpoint_interval_seconds", every, self.every.clone());
        let failing = "1 if the last attempt to sign a checkpoint failed, else 0";
        area.register("checkpoint_failing", failing, self.failing.clone());
        self.anchors.register(area);
    }
}

impl Checkpoints {
    /// As configured.
    pub(crate) fn new(
        config: &Config,
        guard: Guard,
        loader: Arc<KeyLoader>,
        clock: Arc<dyn Clock>,
        (metrics, anchors): (Arc<CheckpointMetrics>, Anchors),
    ) -> Self {
        let every = Duration::from_secs(u64::from(config.audit.checkpoint_minutes).saturating_mul(60));
        metrics.every.set(i64::try_from(every.as_secs()).unwrap_or(i64::MAX));
        Self { guard, loader, clock, every, anchors, last: AtomicU64::new(0), metrics }
    }

    /// Signs on schedule until stopping begins.
    pub(crate) async fn watch(self: Arc<Self>, mut stopping: Stopping) {
        if self.every.is_zero() {
            return;
        }
        tokio::select! {
            () = stopping.begun() => {}
            () = self.keep_signing() => {}
        }
    }

    async fn keep_signing(&self) {
        self.loader.loaded().await;
        loop {
            let well = self.sign(Least::News).await;
            tokio::time::sleep(if well { self.every } else { self.every.min(AGAIN) }).await;
        }
    }

    /// Signs what was written down to the end, when nothing more will be.
    pub(crate) async fn close(&self) {
        if !self.every.is_zero() {
            self.sign(Least::Anything).await;
            self.anchors.close().await;
        }
    }

    /// Whether all went well, which it also does without a key and without news.
    async fn sign(&self, least: Least) -> bool {
        let result = match self.try_sign(least).await {
            Ok(None) => return true,
            Ok(Some(signed)) => {
                let head = signed.checkpoint.head.seq;
                debug!(batch = head, "checkpoint signed");
                self.metrics.batch.set(i64::try_from(head).unwrap_or(i64::MAX));
                self.metrics.time.set(i64::try_from(signed.checkpoint.time.0 / 1_000).unwrap_or(i64::MAX));
                OK
            }
            Err(error) => {
                warn!("no checkpoint of the journal: {}", chain(&error));
                FAILED
            }
        };
        let well = result == OK;
        self.metrics.failing.set(i64::from(!well));
        self.metrics.ended.get_or_create(&Ended { result }).inc();
        well
    }

    async fn try_sign(&self, least: Least) -> Result<Option<SignedCheckpoint>, CheckpointError> {
        let Some(key) = self.loader.checkpoint_key() else { return Ok(None) };
        let head = self.guard.journal_head().await.map_err(CheckpointError::Head)?;
        let last = self.last.load(Ordering::Relaxed);
        // The batch of a checkpoint is signed with what comes next, so that a quiet signer stays quiet.
        if head.seq == 0 || (least == Least::News && head.seq <= last) {
            return Ok(None);
        }
        let signed = key.sign(head, self.clock.now());
        let recorded = self.guard.record(signed.to_event(&CallerId::new("holdfast"))).await;
        self.last.store(recorded.map_err(CheckpointError::Record)?.commit_seq, Ordering::Relaxed);
        self.anchors.keep(&signed);
        Ok(Some(signed))
    }
}

/// What must be new for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Least {
    /// Something besides the last checkpoint.
    News,
    /// Nothing: whatever shares a batch with the last checkpoint is signed, too.
    Anything,
}
