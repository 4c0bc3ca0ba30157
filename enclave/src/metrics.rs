//! What the signing threads measure. Labels come from closed enums only, so their number is bounded.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::backend::Urgency;

/// Metrics of one backend. Register them once, in a registry with the product's prefix.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) queue_wait_seconds: Histogram,
    pub(crate) hash_seconds: Histogram,
    pub(crate) sign_seconds: Histogram,
    pub(crate) verify_seconds: Histogram,
    pub(crate) signatures: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_misses: Counter,
    pub(crate) roots_hashed: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) overloaded: Counter,
    queue_depth: Family<QueueLabel, Gauge>,
}

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct QueueLabel(Urgency);

impl EncodeLabelSet for QueueLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        let queue = match self.0 {
            Urgency::Block => "block",
            Urgency::Normal => "normal",
        };
        ("queue", queue).encode(encoder.encode_label())
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        // From 10 microseconds to about 5 seconds.
        let times = || Histogram::new(exponential_buckets(1e-5, 2.0, 20));
        Self {
            queue_wait_seconds: times(),
            hash_seconds: times(),
            sign_seconds: times(),
            verify_seconds: times(),
            signatures: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            roots_hashed: Counter::default(),
            abandoned: Counter::default(),
            overloaded: Counter::default(),
            queue_depth: Family::default(),
        }
    }

    pub(crate) fn waiting(&self, urgency: Urgency, count: usize) {
        self.queue_depth.get_or_create(&QueueLabel(urgency)).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.queue_wait_seconds.observe(time.as_secs_f64());
    }

    /// Registers everything; names come out as `<prefix>_enclave_…`.
    pub fn register(&self, registry: &mut Registry) {
        let area = registry.sub_registry_with_prefix("enclave");
        for (name, help, metric) in [
            ("queue_wait", "Time a signature waited for a thread", &self.queue_wait_seconds),
            ("hash", "Time to hash one root to the curve", &self.hash_seconds),
            ("sign", "Time to multiply one hashed root by one key", &self.sign_seconds),
            ("verify", "Time to verify what came together, before release", &self.verify_seconds),
        ] {
            area.register_with_unit(name, help, Unit::Seconds, metric.clone());
        }
        for (name, help, metric) in [
            ("signatures", "Signatures made", &self.signatures),
            ("hash_cache_hits", "Signatures whose root was in the cache", &self.cache_hits),
            ("hash_cache_misses", "Signatures whose root was not in the cache", &self.cache_misses),
            ("roots_hashed", "Roots hashed to the curve", &self.roots_hashed),
            ("abandoned_requests", "Signatures not made because their client had gone", &self.abandoned),
            ("overloaded_requests", "Signatures refused because the queue was full", &self.overloaded),
        ] {
            area.register(name, help, metric.clone());
        }
        area.register("queue_depth", "Signatures waiting for a thread", self.queue_depth.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_appears_under_its_name() {
        let metrics = Metrics::new();
        let mut registry = Registry::with_prefix("holdfast");
        metrics.register(&mut registry);
        metrics.waited(Duration::from_millis(1));
        metrics.waiting(Urgency::Block, 3);
        metrics.cache_hits.inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "holdfast_enclave_queue_wait_seconds_count 1",
            "holdfast_enclave_sign_seconds_count 0",
            r#"holdfast_enclave_queue_depth{queue="block"} 3"#,
            "holdfast_enclave_hash_cache_hits_total 1",
            "holdfast_enclave_roots_hashed_total 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
