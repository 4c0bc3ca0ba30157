//! What is measured of a vault, besides what every backend measures.

use holdfast_vault_proto::Reason;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Metrics of the vault.
#[derive(Debug, Default)]
pub(super) struct VaultMetrics {
    pub(super) starts: Counter,
    refusals: Family<ReasonLabel, Counter>,
}

/// Why it refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ReasonLabel(Reason);

impl EncodeLabelSet for ReasonLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("reason", self.0.as_str()).encode(encoder.encode_label())
    }
}

impl VaultMetrics {
    pub(super) fn refused(&self, reason: Reason) {
        self.refusals.get_or_create(&ReasonLabel(reason)).inc();
    }

    /// Registers everything; names come out as `<prefix>_vault_…`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let area = registry.sub_registry_with_prefix("vault");
        area.register("starts", "Times a vault process was started", self.starts.clone());
        area.register("refusals", "Signatures the vault refused by its own rules", self.refusals.clone());
    }
}
