//! What operators can measure: Holdfast's own names, and Web3Signer's names as aliases so that
//! existing dashboards keep working. Labels come from enums and static words only.
//!
//! The metrics of a successful request are looked up once at start and reached by index, so a
//! signature costs a few atomic additions here and no map lookup.

use holdfast_domain::{MessageKind, SlashableKind, UnslashableKind};
use holdfast_enclave::{SignError, SignTimes};
use holdfast_slashing_db::PermitTimes;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Content type of [`Metrics::render`].
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Reason of a defect that is no error of signing.
pub(crate) const BUG: &str = "bug";

/// From 50 µs (a cached root and an idle queue) to 10 s (a disk that hangs).
const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Type of a message that could not be read.
const UNKNOWN: &str = "unknown";

/// Labels of `holdfast_signing_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RequestLabels {
    kind: &'static str,
    result: Outcome,
    reason: &'static str,
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("type", self.kind), ("result", self.result.as_str()), ("reason", self.reason)].encode(encoder)
    }
}

/// Labels of `holdfast_signing_stage_seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct StageLabels {
    stage: &'static str,
    kind: &'static str,
}

impl EncodeLabelSet for StageLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("stage", self.stage), ("type", self.kind)].encode(encoder)
    }
}

/// How a signing request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// A signature was returned.
    Signed,
    /// The request itself is at fault: unreadable, unknown key, wrong root.
    Invalid,
    /// Slashing protection said no.
    Refused,
    /// Nothing wrong with the request, but it cannot be served now.
    Unavailable,
    /// A fault of this program.
    Failed,
}

impl Outcome {
    /// Label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Invalid => "invalid",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }
}

/// What is measured for each kind of message.
struct KindMetrics {
    signed: Counter,
    queue: Histogram,
    commit: Histogram,
    hash: Histogram,
    sign: Histogram,
    total: Histogram,
}

/// Every metric of the signer. Other crates register theirs in the same registry.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    by_kind: Vec<KindMetrics>,
    bls_duration: Histogram,
    missing_identifiers: Counter,
    malformed_requests: Counter,
    permitted: Counter,
    prevented: Counter,
    block_database: Histogram,
    attestation_database: Histogram,
    keys_loaded: Gauge,
    signers_loaded: Gauge,
    keys_disabled: Gauge,
    keys_failed: Gauge,
    /// Requests answered 429.
    pub(crate) rate_limited: Counter,
    /// Open connections of the signing API.
    pub(crate) connections: Gauge,
    /// Signing requests in progress.
    pub(crate) in_flight: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// Registers everything; `others` adds the metrics of other crates to the same registry.
    pub(crate) fn new(others: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("holdfast_build", "Version of this program", build);
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("holdfast_signing_requests", "Signing requests by type, result and reason", requests.clone());
        let by_kind = Self::stages(&mut registry, &requests);
        Self::defects(&requests);

        let mut metrics = Self {
            requests,
            by_kind,
            bls_duration: seconds(),
            missing_identifiers: Counter::default(),
            malformed_requests: Counter::default(),
            permitted: Counter::default(),
            prevented: Counter::default(),
            block_database: seconds(),
            attestation_database: seconds(),
            keys_loaded: Gauge::default(),
            signers_loaded: Gauge::default(),
            keys_disabled: Gauge::default(),
            keys_failed: Gauge::default(),
            rate_limited: Counter::default(),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            registry,
        };
        metrics.register_own();
        metrics.register_aliases();
        crate::process::register(&mut metrics.registry);
        others(&mut metrics.registry);
        metrics
    }

    fn stages(registry: &mut Registry, requests: &Family<RequestLabels, Counter>) -> Vec<KindMetrics> {
        let stages = Family::<StageLabels, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "holdfast_signing_stage_seconds",
            "Time of a signature by stage: queue = waiting for the committer and for a signing thread, commit = judging \
             and recording durably, hash = hashing the root, sign = multiplying, total = all of the request once read",
            stages.clone(),
        );
        MessageKind::ALL
            .iter()
            .map(|kind| {
                let kind = kind.as_str();
                let stage = |stage| stages.get_or_create_owned(&StageLabels { stage, kind });
                KindMetrics {
                    signed: requests.get_or_create_owned(&RequestLabels { kind, result: Outcome::Signed, reason: "" }),
                    queue: stage("queue"),
                    commit: stage("commit"),
                    hash: stage("hash"),
                    sign: stage("sign"),
                    total: stage("total"),
                }
            })
            .collect()
    }

    /// Shows every defect as 0 until there is one, so that an alert sees the first.
    fn defects(requests: &Family<RequestLabels, Counter>) {
        let of = |kind, reason| {
            drop(requests.get_or_create(&RequestLabels { kind, result: Outcome::Failed, reason }));
        };
        of(UNKNOWN, BUG);
        for kind in MessageKind::ALL {
            for reason in SignError::DEFECTS {
                of(kind.as_str(), reason);
            }
        }
    }

    fn register_own(&mut self) {
        let registry = &mut self.registry;
        registry.register("holdfast_keys_loaded", "Keys loaded, those switched off included", self.keys_loaded.clone());
        registry.register(
            "holdfast_keys_disabled",
            "Keys loaded that were switched off at the last load: requests for them are refused",
            self.keys_disabled.clone(),
        );
        registry.register(
            "holdfast_keys_failed",
            "Keys that could not be unsealed at the last load",
            self.keys_failed.clone(),
        );
        registry.register("holdfast_http_connections", "Open connections of the signing API", self.connections.clone());
        registry.register(
            "holdfast_http_rate_limited_requests",
            "Requests refused because their address sent too many in a second",
            self.rate_limited.clone(),
        );
        registry.register("holdfast_http_requests_in_flight", "Signing requests in progress", self.in_flight.clone());
    }

    fn register_aliases(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "signing_bls_signing_duration",
            "Web3Signer's name: time in the sign handler",
            self.bls_duration.clone(),
        );
        registry.register(
            "signing_bls_missing_identifier_count",
            "Web3Signer's name: requests for a key that is not loaded",
            self.missing_identifiers.clone(),
        );
        registry.register(
            "http_bls_malformed_request_count",
            "Web3Signer's name: requests that could not be read",
            self.malformed_requests.clone(),
        );
        registry.register(
            "signing_signers_loaded_count",
            "Web3Signer's name: keys loaded, those switched off included",
            self.signers_loaded.clone(),
        );
        registry.register(
            "eth2_slashingprotection_permitted_signings",
            "Web3Signer's name: blocks and attestations that protection allowed",
            self.permitted.clone(),
        );
        registry.register(
            "eth2_slashingprotection_prevented_signings",
            "Web3Signer's name: blocks and attestations that protection refused",
            self.prevented.clone(),
        );
        let database = Family::<[(&str, &str); 1], Histogram>::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "eth2_slashingprotection_database_duration",
            "Web3Signer's name: time to judge and record a block or an attestation",
            database.clone(),
        );
        self.block_database = database.get_or_create_owned(&[("signingOperation", "block")]);
        self.attestation_database = database.get_or_create_owned(&[("signingOperation", "attestation")]);
    }

    /// The text Prometheus scrapes.
    ///
    /// # Errors
    /// Only if formatting fails, which a `String` never does.
    pub(crate) fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Says how many keys are loaded, how many of these are switched off, and how many could not be opened.
    pub(crate) fn set_keys(&self, loaded: usize, disabled: usize, failed: usize) {
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.keys_loaded.set(gauge(loaded));
        self.signers_loaded.set(gauge(loaded));
        self.keys_disabled.set(gauge(disabled));
        self.keys_failed.set(gauge(failed));
    }

    /// Protection allowed a request after `seconds` of waiting and committing.
    pub(crate) fn authorized(&self, kind: MessageKind, seconds: f64) {
        if let Some(database) = self.database(kind) {
            database.observe(seconds);
            self.permitted.inc();
        }
    }

    /// Protection refused a request.
    pub(crate) fn prevented(&self, kind: MessageKind, seconds: f64) {
        if let Some(database) = self.database(kind) {
            database.observe(seconds);
            self.prevented.inc();
        }
    }

    /// A signature left, `total` seconds after its request was read.
    pub(crate) fn signed(&self, kind: MessageKind, permit: PermitTimes, sign: SignTimes, total: f64) {
        if let Some(metrics) = self.kind(kind) {
            metrics.signed.inc();
            metrics.queue.observe(permit.queue.saturating_add(sign.queue).as_secs_f64());
            metrics.commit.observe(permit.commit.as_secs_f64());
            metrics.hash.observe(sign.hash.as_secs_f64());
            metrics.sign.observe(sign.sign.as_secs_f64());
            metrics.total.observe(total);
        }
        self.bls_duration.observe(total);
    }

    /// A request ended without a signature. `kind` is `None` where it could not be read.
    pub(crate) fn unsigned(&self, kind: Option<MessageKind>, result: Outcome, reason: &'static str) {
        let kind = kind.map_or(UNKNOWN, MessageKind::as_str);
        self.requests.get_or_create(&RequestLabels { kind, result, reason }).inc();
    }

    /// A request could not be read.
    pub(crate) fn malformed(&self) {
        self.malformed_requests.inc();
    }

    /// A request named a key that is not loaded.
    pub(crate) fn missing_identifier(&self) {
        self.missing_identifiers.inc();
    }

    fn kind(&self, kind: MessageKind) -> Option<&KindMetrics> {
        // Codes start at 1 and follow the order of `MessageKind::ALL`; a unit test holds them to it.
        self.by_kind.get(usize::from(kind.code()).wrapping_sub(1))
    }

    fn database(&self, kind: MessageKind) -> Option<&Histogram> {
        match kind {
            MessageKind::Slashable(SlashableKind::Block) => Some(&self.block_database),
            MessageKind::Slashable(SlashableKind::Attestation) => Some(&self.attestation_database),
            MessageKind::Unslashable(
                UnslashableKind::AggregationSlot
                | UnslashableKind::AggregateAndProof
                | UnslashableKind::RandaoReveal
                | UnslashableKind::VoluntaryExit
                | UnslashableKind::Deposit
                | UnslashableKind::SyncCommitteeMessage
                | UnslashableKind::SyncCommitteeSelectionProof
                | UnslashableKind::SyncCommitteeContributionAndProof
                | UnslashableKind::ValidatorRegistration
                | UnslashableKind::ExecutionPayloadBid
                | UnslashableKind::ExecutionPayloadEnvelope
                | UnslashableKind::PayloadAttestation
                | UnslashableKind::ProposerPreferences
                | UnslashableKind::BuilderRequestAuth,
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: each kind has its own row, each stage its own time, and the text carries our names and Web3Signer's.
    use std::time::Duration;

    use super::*;

    #[test]
    fn codes_index_the_kinds() {
        for (index, kind) in MessageKind::ALL.iter().enumerate() {
            assert_eq!(usize::from(kind.code()), index + 1, "{kind:?}");
        }
    }

    #[test]
    fn defects_are_counted_from_the_start() {
        let text = Metrics::new(|_| ()).render().expect("formatting into a string");
        let line = |kind: &str, reason: &str| {
            format!(r#"holdfast_signing_requests_total{{type="{kind}",result="failed",reason="{reason}"}} 0"#)
        };
        let of_kinds = MessageKind::ALL.iter().flat_map(|kind| SignError::DEFECTS.map(|why| line(kind.as_str(), why)));
        for line in of_kinds.chain([line("unknown", "bug")]) {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        let key = holdfast_domain::PublicKey::from_bytes([0xab; 48]);
        let invalid = SignError::Invalid { key };
        assert!(SignError::DEFECTS.contains(&invalid.reason()), "{invalid:?}");
    }

    #[test]
    fn the_text_counts_by_type_result_and_reason() {
        let metrics = Metrics::new(|_| ());
        let block = MessageKind::Slashable(SlashableKind::Block);
        metrics.authorized(block, 0.001);
        let seconds = Duration::from_secs;
        let permit = PermitTimes { queue: seconds(1), commit: seconds(2) };
        let sign = SignTimes { queue: seconds(4), hash: seconds(8), sign: seconds(16) };
        metrics.signed(block, permit, sign, 32.0);
        metrics.prevented(block, 0.001);
        metrics.unsigned(Some(block), Outcome::Refused, "double_block");
        metrics.unsigned(None, Outcome::Invalid, "malformed_request");
        metrics.malformed();
        metrics.missing_identifier();
        metrics.set_keys(3, 2, 1);
        metrics.rate_limited.inc();
        let text = metrics.render().expect("formatting into a string");
        for line in [
            r#"holdfast_signing_requests_total{type="block",result="signed",reason=""} 1"#,
            r#"holdfast_signing_requests_total{type="block",result="refused",reason="double_block"} 1"#,
            r#"holdfast_signing_requests_total{type="unknown",result="invalid",reason="malformed_request"} 1"#,
            r#"holdfast_signing_stage_seconds_count{stage="total",type="block"} 1"#,
            r#"holdfast_signing_stage_seconds_sum{stage="queue",type="block"} 5.0"#,
            r#"holdfast_signing_stage_seconds_sum{stage="commit",type="block"} 2.0"#,
            r#"holdfast_signing_stage_seconds_sum{stage="hash",type="block"} 8.0"#,
            r#"holdfast_signing_stage_seconds_sum{stage="sign",type="block"} 16.0"#,
            r#"holdfast_signing_stage_seconds_sum{stage="total",type="block"} 32.0"#,
            r#"holdfast_signing_stage_seconds_count{stage="hash",type="attestation"} 0"#,
            "holdfast_http_rate_limited_requests_total 1",
            "holdfast_keys_disabled 2",
            "holdfast_keys_loaded 3",
            "holdfast_keys_failed 1",
            "signing_signers_loaded_count 3",
            "signing_bls_missing_identifier_count_total 1",
            "http_bls_malformed_request_count_total 1",
            "signing_bls_signing_duration_count 1",
            "eth2_slashingprotection_permitted_signings_total 1",
            "eth2_slashingprotection_prevented_signings_total 1",
            r#"eth2_slashingprotection_database_duration_count{signingOperation="block"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }
}
