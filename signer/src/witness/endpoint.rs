//! The witness's HTTP: `POST /v1/lease` with the bytes of a request, `GET /livez` and `GET /metrics`.

use std::sync::Arc;

use holdfast_witness::service::Witness;
use holdfast_witness::store::Store;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde_json::json;
use tracing::{error, info};

use crate::http::reply::{self, Reply};
use crate::http::{Peer, server};
use crate::outcome::chain;
use crate::tls::TlsMetrics;

/// Longest request, in bytes.
const MAX_BODY: usize = 1_024;
/// Content type of a grant.
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What serves requests.
pub(super) struct Endpoint<S> {
    witness: Witness<S>,
    registry: Registry,
    answers: Family<Word, Counter>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelSet for Word {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("outcome", self.0).encode(encoder.encode_label())
    }
}

impl<S: Store> Endpoint<S> {
    /// Serves this witness; `tls` is what is measured of its listener, if that speaks TLS.
    pub(super) fn new(witness: Witness<S>, tls: Option<&TlsMetrics>) -> Self {
        let (mut registry, answers) = (Registry::default(), Family::default());
        let area = registry.sub_registry_with_prefix("holdfast_witness");
        area.register("requests", "Requests for leases, by outcome", Family::clone(&answers));
        if let Some(tls) = tls {
            tls.register(registry.sub_registry_with_prefix("holdfast"));
        }
        Self { witness, registry, answers }
    }

    async fn lease(&self, peer: &Peer, body: Incoming) -> Reply {
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            self.answers.get_or_create(&Word("malformed")).inc();
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "malformed", "the body is cut short, or too long", None);
        };
        match self.witness.answer(&body.to_bytes()).await {
            Ok(grant) => {
                self.answers.get_or_create(&Word("granted")).inc();
                reply::of(StatusCode::OK, BYTES, grant)
            }
            Err(problem) => {
                let word = problem.as_str();
                self.answers.get_or_create(&Word(word)).inc();
                let text = chain(&problem);
                let peer = peer.address;
                if problem.is_callers() {
                    info!(%peer, reason = word, "not granted: {text}");
                } else {
                    error!(%peer, reason = word, "not granted: {text}");
                }
                let status = match word {
                    "malformed" => StatusCode::BAD_REQUEST,
                    "bad_signature" | "not_enrolled" | "other_witness" | "other_chain" => StatusCode::FORBIDDEN,
                    _ if problem.is_callers() => StatusCode::CONFLICT,
                    _ => StatusCode::SERVICE_UNAVAILABLE,
                };
                refused(status, word, &text, problem.version())
            }
        }
    }

    fn metrics(&self) -> Reply {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => reply::text(StatusCode::OK, text),
            Err(_) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, "no metrics"),
        }
    }
}

fn refused(status: StatusCode, reason: &str, message: &str, version: Option<u64>) -> Reply {
    reply::json(status, &json!({ "reason": reason, "message": message, "version": version }))
}

impl<S: Store> server::Service for Endpoint<S> {
    async fn answer(self: Arc<Self>, peer: Arc<Peer>, request: Request<Incoming>) -> Reply {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/lease") => self.lease(&peer, request.into_body()).await,
            (&Method::GET, "/livez") => reply::text(StatusCode::OK, "OK"),
            (&Method::GET, "/metrics") => self.metrics(),
            _ => refused(
                StatusCode::NOT_FOUND,
                "not_found",
                "here are POST /v1/lease, GET /livez and GET /metrics",
                None,
            ),
        }
    }
}
