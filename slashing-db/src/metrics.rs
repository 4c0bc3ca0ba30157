//! What the committer measures. Labels come from closed enums only, so their number is bounded.

use std::time::Duration;

use holdfast_domain::{MessageKind, SlashableKind};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::journal::Outcome;
use crate::rules::{Denial, SlashingReason};

/// Metrics of one guard. Register them once, in a registry with the product's prefix.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) queue_wait: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) batch_entries: Histogram,
    pub(crate) verdicts: Family<VerdictLabels, Counter>,
    pub(crate) journal_entries: Counter,
    pub(crate) journal_events: Counter,
    pub(crate) journal_bytes: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) failed_commits: Counter,
    pub(crate) frozen: Gauge,
    pub(crate) frozen_reason: Family<ReasonLabel, Gauge>,
    pub(crate) fences: Counter,
    pub(crate) anchor_failures: Counter,
    pub(crate) archived_batches: Counter,
    pub(crate) archive_failures: Counter,
}

/// What a slashing rule refuses, by kind.
const SLASHABLE: [(SlashableKind, SlashingReason); 7] = [
    (SlashableKind::Block, SlashingReason::BlockSlotBelowWatermark),
    (SlashableKind::Block, SlashingReason::DoubleBlock),
    (SlashableKind::Attestation, SlashingReason::SourceAfterTarget),
    (SlashableKind::Attestation, SlashingReason::SourceNotBeforeTarget),
    (SlashableKind::Attestation, SlashingReason::SourceBelowWatermark),
    (SlashableKind::Attestation, SlashingReason::TargetBelowWatermark),
    (SlashableKind::Attestation, SlashingReason::DoubleVote),
];

/// Label of a freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReasonLabel(pub(crate) &'static str);

impl EncodeLabelSet for ReasonLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("reason", self.0).encode(encoder.encode_label())
    }
}

/// Labels of one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VerdictLabels {
    pub(crate) kind: MessageKind,
    pub(crate) outcome: Outcome,
}

impl EncodeLabelSet for VerdictLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("kind", self.kind.as_str()).encode(encoder.encode_label())?;
        ("result", self.outcome.result()).encode(encoder.encode_label())?;
        ("reason", self.outcome.reason()).encode(encoder.encode_label())
    }
}

use prometheus_client::encoding::EncodeLabel;

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            queue_wait: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            commit: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch_entries: Histogram::new(exponential_buckets(1.0, 2.0, 14)),
            verdicts: Family::default(),
            journal_entries: Counter::default(),
            journal_events: Counter::default(),
            journal_bytes: Counter::default(),
            abandoned: Counter::default(),
            overloaded: Counter::default(),
            failed_commits: Counter::default(),
            frozen: Gauge::default(),
            frozen_reason: Family::default(),
            fences: Counter::default(),
            anchor_failures: Counter::default(),
            archived_batches: Counter::default(),
            archive_failures: Counter::default(),
        }
    }

    /// Registers everything; names come out as `<prefix>_slashing_…`.
    pub fn register(&self, registry: &mut Registry) {
        for (kind, reason) in SLASHABLE {
            // Shown as 0 until there is one, so that an alert sees the first.
            let outcome = Outcome::Denied(Denial::Slashable(reason));
            drop(self.verdicts.get_or_create(&VerdictLabels { kind: MessageKind::Slashable(kind), outcome }));
        }
        let area = registry.sub_registry_with_prefix("slashing");
        let wait = "Time a request waited for the committer";
        area.register_with_unit("queue_wait", wait, Unit::Seconds, self.queue_wait.clone());
        let commit = "Time to judge and durably commit one batch";
        area.register_with_unit("commit", commit, Unit::Seconds, self.commit.clone());
        area.register("batch_entries", "Requests and events committed together", self.batch_entries.clone());
        area.register("verdicts", "Committed verdicts by message kind, result and reason", self.verdicts.clone());
        let entries = "Records appended to the journal: requests and events";
        area.register("journal_entries", entries, self.journal_entries.clone());
        area.register("journal_events", "Events among the records of the journal", self.journal_events.clone());
        let bytes = "Encoded entries appended to the journal";
        area.register_with_unit("journal", bytes, Unit::Bytes, self.journal_bytes.clone());
        let abandoned = "Requests dropped unrecorded because their client had gone";
        area.register("abandoned_requests", abandoned, self.abandoned.clone());
        area.register("overloaded_requests", "Requests refused because the queue was full", self.overloaded.clone());
        area.register("failed_commits", "Batches that were not committed", self.failed_commits.clone());
        area.register("frozen_reason", "1 for the reason of the present freeze", self.frozen_reason.clone());
        area.register("fences", "Fences placed", self.fences.clone());
        let anchor = "Batches whose anchor could not be written";
        area.register("anchor_failures", anchor, self.anchor_failures.clone());
        let archived = "Journal batches taken out of the database after they were archived";
        area.register("archived_batches", archived, self.archived_batches.clone());
        let failures = "Attempts to archive journal batches that failed";
        area.register("archive_failures", failures, self.archive_failures.clone());
        area.register(
            "frozen",
            "1 if slashing protection is frozen, wholly or for slashable messages, else 0",
            self.frozen.clone(),
        );
    }

    pub(crate) fn observe_verdict(&self, kind: MessageKind, outcome: Outcome) {
        self.verdicts.get_or_create(&VerdictLabels { kind, outcome }).inc();
    }

    pub(crate) fn observe_commit(&self, took: Duration, entries: u64, bytes: usize) {
        self.commit.observe(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52 entries")]
        self.batch_entries.observe(entries as f64);
        self.journal_entries.inc_by(entries);
        self.journal_bytes.inc_by(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_appear_with_their_labels() {
        let metrics = Metrics::new();
        let mut registry = Registry::with_prefix("holdfast");
        metrics.register(&mut registry);
        let kind = MessageKind::Slashable(SlashableKind::Block);
        metrics.observe_verdict(kind, Outcome::Denied(Denial::SlotInFuture));
        metrics.observe_commit(Duration::from_millis(2), 5, 40);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(
                r#"holdfast_slashing_verdicts_total{kind="block",result="refused",reason="slot_in_future"} 1"#
            )
        );
        assert!(text.contains("holdfast_slashing_journal_bytes_total 40"));
        assert!(text.contains("holdfast_slashing_commit_seconds_count 1"));
    }

    #[test]
    fn every_slashing_rule_is_counted_from_the_start() {
        let metrics = Metrics::new();
        let mut registry = Registry::with_prefix("holdfast");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let rules = Denial::ALL.into_iter().filter(|denial| matches!(denial, Denial::Slashable(_)));
        for rule in rules.map(Denial::as_str) {
            let end = format!("result=\"refused\",reason=\"{rule}\"}} 0\n");
            assert_eq!(text.matches(&end).count(), 1, "{rule} in\n{text}");
        }
    }
}
