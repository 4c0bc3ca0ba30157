//! The canary: every provider of the data key is asked now and then to open it, so that an operator learns of a
//! disabled key or a withdrawn permission while another provider, or the running process, still has what it needs.
//!
//! Guarantees: what a provider gives out is dropped at once; a failing provider never stops a running server.

use std::sync::Arc;
use std::time::Duration;

use holdfast_enclave::ProviderError;
use holdfast_enclave::provider::Checked;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::{error, info, warn};

use crate::drain::Stopping;
use crate::loader::KeyLoader;
use crate::outcome::chain;

/// What a check found, by provider and place among the providers of the data key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Member {
    provider: &'static str,
    place: usize,
}

impl EncodeLabelSet for Member {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("provider", self.provider.to_owned()), ("place", self.place.to_string())].encode(encoder)
    }
}

/// How a check ended. `result` is "ok" or one of the closed set of failures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Ended {
    provider: &'static str,
    result: &'static str,
}

impl EncodeLabelSet for Ended {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("provider", self.provider), ("result", self.result)].encode(encoder)
    }
}

/// What is measured of providers.
#[derive(Default)]
pub(crate) struct ProviderMetrics {
    usable: Family<Member, Gauge>,
    checks: Family<Ended, Counter>,
    load_retries: Counter,
}

impl ProviderMetrics {
    /// Registers everything; names come out as `<prefix>_provider_…`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let area = registry.sub_registry_with_prefix("provider");
        area.register(
            "usable",
            "Whether this provider opened the data key when it was last asked: 1 or 0",
            self.usable.clone(),
        );
        area.register("checks", "Times a provider was asked to open the data key, by result", self.checks.clone());
        area.register(
            "load_retries",
            "Times loading keys was put off because no provider could open the data key",
            self.load_retries.clone(),
        );
    }

    /// Loading keys was put off.
    pub(crate) fn load_retried(&self) {
        self.load_retries.inc();
    }

    fn record(&self, checked: &[Checked]) {
        // Members of before a rotation are no longer asked.
        self.usable.clear();
        for (place, member) in checked.iter().enumerate() {
            let provider = member.provider.name();
            let result = member.result.as_ref().map_or_else(ProviderError::word, |_| "ok");
            self.usable.get_or_create(&Member { provider, place }).set(i64::from(member.result.is_ok()));
            self.checks.get_or_create(&Ended { provider, result }).inc();
        }
    }
}

/// Checks now and then until the process stops, beginning when the keys are loaded. `every` of zero never checks.
pub(crate) async fn watch(
    loader: Arc<KeyLoader>,
    metrics: Arc<ProviderMetrics>,
    every: Duration,
    mut stopping: Stopping,
) {
    if every.is_zero() {
        return;
    }
    tokio::select! {
        () = stopping.begun() => {}
        () = check_now_and_then(&loader, &metrics, every) => {}
    }
}

async fn check_now_and_then(loader: &Arc<KeyLoader>, metrics: &ProviderMetrics, every: Duration) {
    loader.loaded().await;
    let mut was_well = true;
    loop {
        match loader.check_providers().await {
            Ok(checked) => {
                metrics.record(&checked);
                was_well = report(&checked, was_well);
            }
            Err(problem) => warn!("cannot check the providers of the data key: {}", chain(&problem)),
        }
        tokio::time::sleep(every).await;
    }
}

/// Logs what is wrong, and once that it is well again. Says whether all is well.
fn report(checked: &[Checked], was_well: bool) -> bool {
    let failed: Vec<_> = checked.iter().filter_map(|member| member.result.as_ref().err()).collect();
    if !checked.is_empty() && failed.len() == checked.len() {
        error!("no provider opens the data key any more: this signer would not come back after a restart");
    }
    for problem in &failed {
        warn!("a provider of the data key fails: {}", chain(*problem));
    }
    if failed.is_empty() && !was_well {
        info!("every provider opens the data key again");
    }
    failed.is_empty()
}

#[cfg(test)]
mod tests {
    use holdfast_enclave::provider::{ProviderKind, ServiceFailure};

    use super::*;

    fn member(provider: ProviderKind, failure: Option<ServiceFailure>) -> Checked {
        let failed = |failure| ProviderError::Service { provider, key: "k".to_owned(), failure, source: "x".into() };
        Checked { provider, key: None, result: failure.map_or(Ok("fine".to_owned()), |failure| Err(failed(failure))) }
    }

    #[test]
    fn each_member_has_a_row_and_each_result_a_count() {
        let metrics = ProviderMetrics::default();
        let mut registry = Registry::with_prefix("holdfast");
        metrics.register(&mut registry);
        let (kms, file) = (ProviderKind::AwsKms, ProviderKind::File);
        let bad = [member(kms, Some(ServiceFailure::Denied)), member(kms, None), member(file, None)];
        metrics.record(&bad);
        metrics.record(&bad[1..]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"holdfast_provider_usable{provider="aws-kms",place="0"} 1"#,
            r#"holdfast_provider_usable{provider="file",place="1"} 1"#,
            r#"holdfast_provider_checks_total{provider="aws-kms",result="denied"} 1"#,
            r#"holdfast_provider_checks_total{provider="aws-kms",result="ok"} 2"#,
            "holdfast_provider_load_retries_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(!text.contains(r#"place="2""#), "{text}");
        assert!(!report(&bad, true) && report(&bad[1..], false));
    }
}
