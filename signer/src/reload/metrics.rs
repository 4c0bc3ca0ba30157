//! Numbers about reloads.

use std::sync::{Mutex, PoisonError};

use holdfast_domain::UnixMillis;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One label: how a reload ended, or a digest. One digest at a time is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Label(&'static str, String);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [(self.0, self.1.as_str())].encode(encoder)
    }
}

/// What is counted.
#[derive(Default)]
pub(super) struct ReloadMetrics {
    reloads: Family<Label, Counter>,
    last_good: Gauge,
    waiting: Gauge,
    digest: Family<Label, Gauge>,
    shown: Mutex<Option<Label>>,
}

impl ReloadMetrics {
    /// Adds the numbers to a registry with the prefix `holdfast`.
    pub(super) fn register(&self, registry: &mut Registry) {
        for result in ["done", "failed"] {
            // Shown as 0 until there is one.
            drop(self.reloads.get_or_create(&Label("result", result.to_owned())));
        }
        let registry = registry.sub_registry_with_prefix("configuration");
        let help = "Times the configuration was read again, by result";
        registry.register("reloads", help, self.reloads.clone());
        let help = "When the configuration was last read again with success, Unix time; 0: not since the start";
        registry.register("reload_success_timestamp_seconds", help, self.last_good.clone());
        let help = "Settings that were changed since the start and need a restart, as of the last reload";
        registry.register("restart_needed_settings", help, self.waiting.clone());
        let help = "1 for the SHA-256 of the configuration in force, as it prints without secrets";
        registry.register("digest", help, self.digest.clone());
    }

    /// This configuration is in force, and so many settings wait for a restart.
    pub(super) fn in_force(&self, digest: &str, waiting: usize) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let new = Label("sha256", digest.to_owned());
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = shown.replace(new.clone()).filter(|old| *old != new) {
            self.digest.remove(&old);
        }
        self.digest.get_or_create(&new).set(1);
    }

    /// A reload ended.
    pub(super) fn reloaded(&self, good: bool, now: UnixMillis) {
        let result = if good { "done" } else { "failed" };
        self.reloads.get_or_create(&Label("result", result.to_owned())).inc();
        if good {
            self.last_good.set(i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX));
        }
    }
}
