//! What is measured of leases.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics of leases.
#[derive(Debug, Default)]
pub(super) struct LeaseMetrics {
    pub(super) until: Gauge<u64, AtomicU64>,
    pub(super) held: Gauge,
    answers: Family<Word, Counter>,
    changes: Family<News, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Word(String);

impl EncodeLabelSet for Word {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("answer", self.0.as_str()).encode(encoder.encode_label())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct News(&'static str);

impl EncodeLabelSet for News {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("change", self.0).encode(encoder.encode_label())
    }
}

impl LeaseMetrics {
    /// A witness said this: one of few words, whatever it calls them.
    pub(super) fn answered(&self, word: &str) {
        let known = ["granted", "moved", "held", "not_enrolled", "silent"];
        let word = if known.contains(&word) { word } else { "refused" };
        self.answers.get_or_create(&Word(word.to_owned())).inc();
    }

    /// The lease changed.
    pub(super) fn changed(&self, word: &'static str) {
        self.changes.get_or_create(&News(word)).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let area = registry.sub_registry_with_prefix("vault_lease");
        area.register("until_epoch", "Last epoch that the vault may sign in", self.until.clone());
        area.register("held", "Whether the vault holds a lease for the present epoch", self.held.clone());
        area.register("answers", "Answers of witnesses", self.answers.clone());
        area.register("changes", "Leases begun, resumed and extended", self.changes.clone());
    }
}
