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
    pub(super) restarts: Counter,
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
        for reason in Reason::ALL {
            // Shown as 0 until there is one, so that an alert sees the first.
            drop(self.refusals.get_or_create(&ReasonLabel(*reason)));
        }
        let area = registry.sub_registry_with_prefix("vault");
        area.register("starts", "Times a vault process was started", self.starts.clone());
        let help = "Times the vault was started, or connected to, again after it had ended";
        area.register("restarts", help, self.restarts.clone());
        area.register("refusals", "Signatures the vault refused by its own rules", self.refusals.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alerts_wait_for_is_there_from_the_start() {
        let metrics = VaultMetrics::default();
        let mut registry = Registry::with_prefix("holdfast");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for reason in Reason::ALL {
            let line = format!("holdfast_vault_refusals_total{{reason=\"{}\"}} 0\n", reason.as_str());
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("holdfast_vault_restarts_total 0\n"), "{text}");
    }
}
