//! Whether the process is alive, ready and well: Web3Signer's `/upcheck` and `/healthcheck` beside
//! the API, and `/livez`, `/readyz`, `/metrics` on the metrics listener, beside the status page.
//!
//! A key that cannot be unsealed is reported and counted, and never makes the process unhealthy:
//! the other keys have duties to do.

use std::sync::Arc;

use holdfast_slashing_db::GuardHealth;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json as value};

use super::accept::Form;
use super::error::ApiError;
use super::host::HostPolicy;
use super::peer::Peer;
use super::reply::{self, Reply, json, text};
use super::{Api, server, status};
use crate::callers::{Callers, Door};
use crate::drain::Tasks;
use crate::loader::KeyLoader;
use crate::metrics::{Metrics, OPENMETRICS};
use crate::pipeline::{Rejection, Signer};
use crate::status::Board;

/// `GET /upcheck`: 200 as soon as requests can be signed, whatever the client accepts.
pub(super) fn upcheck(api: &Api, headers: &HeaderMap) -> Result<Reply, ApiError> {
    if api.loader.is_loading() {
        return Err(Rejection::KeysLoading.into());
    }
    Ok(match Form::of_upcheck(headers) {
        Form::Text => text(StatusCode::OK, &b"OK"[..]),
        Form::Json => reply::of(StatusCode::OK, reply::JSON, &br#"{"status":"OK"}"#[..]),
    })
}

/// `GET /healthcheck`: Vert.x health JSON, 200 if all is well and 503 otherwise.
pub(super) fn healthcheck(api: &Api) -> Reply {
    let protection = api.signer.guard.health();
    let loading = api.loader.is_loading();
    let (health, up) = describe(protection, loading, api.signer.keyring.load().len(), api.loader.failed());
    if up {
        return json(StatusCode::OK, &health);
    }
    let mut reply = json(StatusCode::SERVICE_UNAVAILABLE, &health);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

fn describe(protection: GuardHealth, loading: bool, loaded: usize, failed: usize) -> (Value, bool) {
    let word = |up: bool| if up { "UP" } else { "DOWN" };
    let (serving, database) = match protection {
        GuardHealth::Serving => (true, value!({ "id": DATABASE, "status": "UP" })),
        GuardHealth::Suspect(suspicion) => {
            (false, value!({ "id": DATABASE, "status": "DOWN", "data": { "reason": suspicion.kind.to_string() } }))
        }
        GuardHealth::Frozen { reason } => {
            (false, value!({ "id": DATABASE, "status": "DOWN", "data": { "reason": reason.to_string() } }))
        }
    };
    let keys = value!({
        "id": "keys-check/sealed-keys",
        "status": word(!loading),
        "data": { "keys-loaded": loaded, "error-count": failed, "loading": loading },
    });
    let up = serving && !loading;
    let health = value!({
        "status": word(up),
        "checks": [{ "id": "default-check", "status": "UP" }, database, keys],
        "outcome": word(up),
    });
    (health, up)
}

/// Web3Signer's name of the check of the slashing protection database.
const DATABASE: &str = "slashing-protection-db-health-check";

/// The metrics listener.
pub(crate) struct Probes {
    /// The request walk, for the state of protection.
    pub(crate) signer: Arc<Signer>,
    /// How loading keys goes.
    pub(crate) loader: Arc<KeyLoader>,
    /// What is shown at `/metrics`.
    pub(crate) metrics: Arc<Metrics>,
    /// Knows when the process is stopping.
    pub(crate) tasks: Tasks,
    /// Accepted `Host` headers.
    pub(crate) hosts: HostPolicy,
    /// Knows the callers.
    pub(crate) callers: Arc<Callers>,
    /// What `/metrics` asks of those who come; `None` if nothing.
    pub(crate) door: Option<Door>,
    /// The status page.
    pub(crate) board: Arc<Board>,
}

impl Probes {
    /// Why traffic should go elsewhere; `None` if it should come here.
    fn unready(&self) -> Option<String> {
        if self.tasks.is_leaving() {
            return Some("shutting down".to_owned());
        }
        if self.loader.is_loading() {
            return Some(self.loader.sealed().unwrap_or_else(|| "keys are loading".to_owned()));
        }
        match self.signer.guard.health() {
            GuardHealth::Serving => None,
            GuardHealth::Suspect(suspicion) => Some(format!("blocks and attestations are refused: {}", suspicion.kind)),
            GuardHealth::Frozen { reason } => Some(format!("protection froze signing: {reason}")),
        }
    }
}

/// Lets callers alone see `/metrics`, where that is asked for; the probes are for everybody.
///
/// # Errors
/// [`ApiError::Denied`].
pub(super) async fn admit(
    callers: &Callers,
    door: Option<&Door>,
    peer: &Peer,
    request: &Request<Incoming>,
) -> Result<(), ApiError> {
    match door {
        Some(door) if !matches!(request.uri().path(), "/livez" | "/readyz") => {
            match callers.resolve(door, peer, request.headers()) {
                Ok(_) => Ok(()),
                Err(denial) => Err(callers.turn_away(door, peer, denial).await.into()),
            }
        }
        Some(_) | None => Ok(()),
    }
}

/// Answers `/metrics`, `/livez` and `/readyz`, whatever it is that is measured and may be unready.
pub(super) fn probe(
    hosts: &HostPolicy,
    request: &Request<Incoming>,
    render: impl FnOnce() -> Result<String, std::fmt::Error>,
    unready: impl FnOnce() -> Option<String>,
) -> Result<Reply, ApiError> {
    hosts.check(request.uri(), request.headers())?;
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/livez" | "/readyz") {
        return Err(ApiError::NotFound);
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" });
    }
    Ok(match path {
        "/metrics" => {
            let rendered = render().map_err(|_| ApiError::Internal)?;
            reply::of(StatusCode::OK, HeaderValue::from_static(OPENMETRICS), rendered)
        }
        "/livez" => text(StatusCode::OK, &b"alive\n"[..]),
        _ => match unready() {
            None => text(StatusCode::OK, &b"ready\n"[..]),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
    })
}

impl server::Service for Probes {
    async fn answer(self: Arc<Self>, peer: Arc<Peer>, request: Request<Incoming>) -> Reply {
        if let Err(error) = admit(&self.callers, self.door.as_ref(), &peer, &request).await {
            return error.reply();
        }
        if let Some(reply) = status::status(&self.hosts, &self.board, &request).await {
            return reply;
        }
        probe(&self.hosts, &request, || self.metrics.render(), || self.unready()).unwrap_or_else(|error| error.reply())
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the shape of the health answer, and what makes it unhealthy.
    use super::*;

    #[test]
    fn healthy_even_with_a_bad_key() {
        let (health, up) = describe(GuardHealth::Serving, false, 7, 1);
        assert!(up);
        assert_eq!(health["status"], "UP");
        assert_eq!(health["outcome"], "UP");
        let ids: Vec<_> =
            health["checks"].as_array().expect("checks").iter().map(|check| check["id"].clone()).collect();
        assert_eq!(ids, ["default-check", "slashing-protection-db-health-check", "keys-check/sealed-keys"]);
        assert_eq!(health["checks"][2]["data"]["keys-loaded"], 7);
        assert_eq!(health["checks"][2]["data"]["error-count"], 1);
    }

    #[test]
    fn loading_is_not_healthy_and_says_so() {
        let (health, up) = describe(GuardHealth::Serving, true, 0, 0);
        assert!(!up);
        assert_eq!(health["status"], "DOWN");
        assert_eq!(health["checks"][1]["status"], "UP");
        assert_eq!(health["checks"][2]["status"], "DOWN");
        assert_eq!(health["checks"][2]["data"]["loading"], true);
    }
}
