//! What a client is told when it gets no answer: one exhaustive match from each error to its
//! status, its stable reason word and whether to come back later. Validator clients act on the
//! status (412 and 404 have fixed meanings), operators and dashboards on the reason.

use std::num::NonZeroU32;

use holdfast_enclave::SignErrorClass;
use holdfast_slashing_db::Class;
use holdfast_wire::web3signer::BadIdentifier;
use holdfast_wire::{ErrorBody, WireError};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::callers::Denial;
use crate::outcome::chain;
use crate::pipeline::Rejection;

use super::keymanager::KeymanagerError;
use super::reply::{Reply, json};

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request walk ended without a signature.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The body is not a signing request.
    #[error("the request body cannot be understood")]
    Malformed(#[from] WireError),
    /// The path does not name a public key, so no such key is loaded.
    #[error("no such key")]
    NotAKey(#[source] BadIdentifier),
    /// The body exceeds the bound.
    #[error("the request body is larger than {limit} bytes; raise http.max_body_bytes if this request is legitimate")]
    BodyTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the request body did not arrive within {seconds} s; send the request again")]
    BodyTimeout {
        /// The bound in seconds.
        seconds: u64,
    },
    /// The connection broke, or the framing is wrong.
    #[error("the request body could not be read to its end; check Content-Length and Transfer-Encoding")]
    BodyUnreadable,
    /// No such path.
    #[error("no such path; see the Web3Signer API: /api/v1/eth2/sign/{{pubkey}}, /api/v1/eth2/publicKeys, /upcheck")]
    NotFound,
    /// The path exists, with other methods.
    #[error("this path answers only {allow}")]
    MethodNotAllowed {
        /// Methods it has.
        allow: &'static str,
    },
    /// The `Host` header names somebody else.
    #[error("host {host:?} is not allowed; add it to http.allowed_hosts if clients reach this signer under that name")]
    HostNotAllowed {
        /// The name, without port.
        host: String,
    },
    /// A browser sent this for a web page.
    #[error("cross-origin requests are not served: this API is for validator clients, not for web pages")]
    CrossOrigin,
    /// More requests are in progress than the bound allows.
    #[error("too many requests in progress; send this one again in a moment")]
    Busy,
    /// More people watch the status page than the bound allows.
    #[error("{limit} viewers watch the status page already; close one, or read status.json now and then instead")]
    TooManyViewers {
        /// The bound.
        limit: usize,
    },
    /// One address sends more than its share.
    #[error(
        "more than {limit} requests per second from this address; send this one again in a second, \
         or raise http.max_requests_per_second"
    )]
    RateLimited {
        /// The bound, in requests per second.
        limit: NonZeroU32,
    },
    /// A fault of this program.
    #[error("internal error; the log of the signer says more")]
    Internal,
    /// Nobody knows who sent it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The Keymanager API refuses.
    #[error(transparent)]
    Keymanager(#[from] KeymanagerError),
    /// A reload is already running.
    #[error("a reload is already running; GET /reload shows its state")]
    ReloadRunning,
}

/// Whether and when the same request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would get the same answer.
    Pointless,
    /// After this many seconds.
    After(&'static str),
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Stable word.
    pub(crate) reason: &'static str,
    /// When to come back.
    pub(crate) retry: Retry,
}

impl ApiError {
    /// The decision for every error.
    pub(crate) fn verdict(&self) -> Verdict {
        let (status, reason, retry) = match self {
            Self::Rejected(rejection) => return rejection_verdict(rejection),
            Self::Keymanager(error) => return error.verdict(),
            // Whoever has the right credentials is answered at any time.
            Self::Denied(denial @ Denial::TooMany) => {
                (StatusCode::TOO_MANY_REQUESTS, denial.reason(), Retry::After(LATER))
            }
            Self::Denied(denial) => (StatusCode::UNAUTHORIZED, denial.reason(), Retry::Pointless),
            Self::Malformed(error) => (StatusCode::BAD_REQUEST, error.reason(), Retry::Pointless),
            Self::NotAKey(_) => (StatusCode::NOT_FOUND, UNKNOWN_KEY, Retry::Pointless),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", Retry::Pointless),
            Self::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, "body_timeout", Retry::Pointless),
            Self::BodyUnreadable => (StatusCode::BAD_REQUEST, "malformed_request", Retry::Pointless),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", Retry::Pointless),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", Retry::Pointless),
            Self::HostNotAllowed { .. } => (StatusCode::FORBIDDEN, "host_not_allowed", Retry::Pointless),
            Self::CrossOrigin => (StatusCode::FORBIDDEN, "cross_origin", Retry::Pointless),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, OVERLOADED, Retry::After(SOON)),
            Self::TooManyViewers { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_viewers", Retry::After(LATER)),
            // A token comes back within a second, however low the limit is.
            Self::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", Retry::After(SOON)),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, crate::metrics::BUG, Retry::Pointless),
            Self::ReloadRunning => (StatusCode::CONFLICT, "reload_running", Retry::Pointless),
        };
        Verdict { status, reason, retry }
    }

    /// What the client reads: the body of a response, or the `error` of a batch item.
    pub(crate) fn body(&self) -> ErrorBody {
        let verdict = self.verdict();
        ErrorBody { code: verdict.status.as_u16(), message: chain(self).into(), reason: verdict.reason }
    }

    /// The response: `{"code","message","reason"}` and the headers that go with the status.
    pub(crate) fn reply(&self) -> Reply {
        let verdict = self.verdict();
        let mut reply = json(verdict.status, &self.body());
        let headers = reply.headers_mut();
        if let Retry::After(seconds) = verdict.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Denied(denial) if *denial != Denial::TooMany => {
                for challenge in CHALLENGES {
                    headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            // What is left of the body is not worth reading.
            Self::Denied(_) | Self::BodyTooLarge { .. } | Self::BodyTimeout { .. } | Self::BodyUnreadable => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::Rejected(_)
            | Self::Malformed(_)
            | Self::NotAKey(_)
            | Self::NotFound
            | Self::HostNotAllowed { .. }
            | Self::CrossOrigin
            | Self::Busy
            | Self::TooManyViewers { .. }
            | Self::RateLimited { .. }
            | Self::Internal
            | Self::Keymanager(_)
            | Self::ReloadRunning => {}
        }
        reply
    }
}

const UNKNOWN_KEY: &str = "unknown_key";
const OVERLOADED: &str = "overloaded";
/// Clients that retry do so within the duty's slot, so "soon" is a second.
const SOON: &str = "1";
/// Wrong credentials do not become right soon.
const LATER: &str = "5";
/// How to say who one is (RFC 9110 section 11.6.1).
const CHALLENGES: [&str; 2] = ["Basic realm=\"holdfast\", charset=\"UTF-8\"", "Bearer realm=\"holdfast\""];

fn rejection_verdict(rejection: &Rejection) -> Verdict {
    let (status, retry) = match rejection {
        Rejection::Denied(refusal) if refusal.is_passing() => (StatusCode::TOO_MANY_REQUESTS, Retry::After(SOON)),
        Rejection::Denied(_) => (StatusCode::FORBIDDEN, Retry::Pointless),
        Rejection::Intent(_) => (StatusCode::BAD_REQUEST, Retry::Pointless),
        Rejection::UnknownKey(_) => (StatusCode::NOT_FOUND, Retry::Pointless),
        Rejection::KeysLoading | Rejection::TimedOut { .. } => (StatusCode::SERVICE_UNAVAILABLE, Retry::After(SOON)),
        Rejection::Refused(refusal) | Rejection::Held { refusal, .. } => match refusal.class() {
            Class::Refused => (StatusCode::PRECONDITION_FAILED, Retry::Pointless),
            Class::Overloaded | Class::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Retry::After(SOON)),
        },
        Rejection::Backend(error) => match error.class() {
            SignErrorClass::Refused => (StatusCode::PRECONDITION_FAILED, Retry::Pointless),
            SignErrorClass::Overloaded | SignErrorClass::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, Retry::After(SOON))
            }
            SignErrorClass::Bug => (StatusCode::INTERNAL_SERVER_ERROR, Retry::Pointless),
        },
    };
    Verdict { status, reason: rejection.reason(), retry }
}

#[cfg(test)]
mod tests {
    //! Proves: statuses, reason words and headers of the errors that need no other crate to make.
    use holdfast_access::{Operation, RuleName};
    use holdfast_domain::{IntentError, MessageKind, PublicKey, SlashableKind};
    use holdfast_enclave::SignError;
    use holdfast_slashing_db::{FreezeReason, Objection, Refusal, SlashingReason};
    use holdfast_wire::Excerpt;
    use http_body_util::BodyExt;

    use super::*;
    use crate::policy::{PolicyRefusal, Why};

    #[test]
    fn statuses_and_reasons() {
        let key = PublicKey::from_bytes([0xab; 48]);
        let table: [(ApiError, u16, &str, Retry); 17] = [
            (Denial::Missing.into(), 401, "credentials_missing", Retry::Pointless),
            (Denial::TooMany.into(), 429, "too_many_failures", Retry::After("5")),
            (ApiError::NotAKey(BadIdentifier(Excerpt::of("x"))), 404, "unknown_key", Retry::Pointless),
            (Rejection::UnknownKey(key).into(), 404, "unknown_key", Retry::Pointless),
            (Rejection::KeysLoading.into(), 503, "keys_loading", Retry::After("1")),
            (Rejection::TimedOut { seconds: 3 }.into(), 503, "timed_out", Retry::After("1")),
            (ApiError::BodyTooLarge { limit: 1 }, 413, "body_too_large", Retry::Pointless),
            (ApiError::BodyTimeout { seconds: 1 }, 408, "body_timeout", Retry::Pointless),
            (ApiError::BodyUnreadable, 400, "malformed_request", Retry::Pointless),
            (ApiError::NotFound, 404, "not_found", Retry::Pointless),
            (ApiError::MethodNotAllowed { allow: "POST" }, 405, "method_not_allowed", Retry::Pointless),
            (ApiError::HostNotAllowed { host: "x".into() }, 403, "host_not_allowed", Retry::Pointless),
            (ApiError::CrossOrigin, 403, "cross_origin", Retry::Pointless),
            (ApiError::RateLimited { limit: NonZeroU32::MIN }, 429, "rate_limited", Retry::After("1")),
            (ApiError::Busy, 503, "overloaded", Retry::After("1")),
            (ApiError::Internal, 500, "bug", Retry::Pointless),
            (ApiError::ReloadRunning, 409, "reload_running", Retry::Pointless),
        ];
        for (error, status, reason, retry) in table {
            let verdict = error.verdict();
            assert_eq!((verdict.status.as_u16(), verdict.reason, verdict.retry), (status, reason, retry), "{error:?}");
        }
    }

    #[test]
    fn statuses_of_what_other_crates_refuse() {
        let key = PublicKey::from_bytes([0xab; 48]);
        let block = MessageKind::Slashable(SlashableKind::Block);
        let soon = Retry::After("1");
        let denied = |why| PolicyRefusal { caller: "vc-1 (basic)".to_owned(), operation: Operation::Batch, why };
        let table: [(Rejection, u16, &str, Retry); 19] = [
            (denied(Why::Nothing).into(), 403, "policy_denied", Retry::Pointless),
            (denied(Why::Rate(RuleName::of_place(1))).into(), 429, "policy_rate", soon),
            (IntentError::MissingForkInfo(block).into(), 400, "missing_fork_info", Retry::Pointless),
            (Refusal::Slashable(SlashingReason::DoubleBlock).into(), 412, "double_block", Retry::Pointless),
            (Refusal::FutureSlot.into(), 412, "slot_in_future", Retry::Pointless),
            (Refusal::WrongGenesisValidatorsRoot.into(), 412, "wrong_genesis_validators_root", Retry::Pointless),
            (Refusal::KeyDisabled.into(), 412, "key_disabled", Retry::Pointless),
            (Refusal::KeyNotRegistered.into(), 412, "key_not_registered", Retry::Pointless),
            (Refusal::Objected(Objection::CheckpointsDisagreed).into(), 412, "checkpoints_disagreed", Retry::Pointless),
            (Refusal::Objected(Objection::CheckpointsUnknown).into(), 503, "checkpoints_unknown", soon),
            (Refusal::Objected(Objection::DoppelgangerPending).into(), 412, "doppelganger_pending", Retry::Pointless),
            (Refusal::Objected(Objection::DoppelgangerDetected).into(), 412, "doppelganger_detected", Retry::Pointless),
            (Refusal::Overloaded.into(), 503, "overloaded", soon),
            (Refusal::ShuttingDown.into(), 503, "database_unavailable", soon),
            (Refusal::Frozen(FreezeReason::StorageFailed).into(), 503, "protection_frozen", soon),
            (SignError::Overloaded.into(), 503, "overloaded", soon),
            (SignError::VaultDown.into(), 503, "vault_down", soon),
            (
                SignError::VaultRefused { key, reason: "double_vote", hint: "" }.into(),
                412,
                "double_vote",
                Retry::Pointless,
            ),
            (SignError::Invalid { key }.into(), 500, "signature_invalid", Retry::Pointless),
        ];
        for (rejection, status, reason, retry) in table {
            let error = ApiError::from(rejection);
            let verdict = error.verdict();
            assert_eq!((verdict.status.as_u16(), verdict.reason, verdict.retry), (status, reason, retry), "{error:?}");
        }
    }

    #[tokio::test]
    async fn the_body_says_code_message_and_reason() {
        let reply = ApiError::Busy.reply();
        assert_eq!(reply.headers()[RETRY_AFTER], "1");
        assert_eq!(reply.headers()["content-type"], "application/json; charset=utf-8");
        let body = reply.into_body().collect().await.expect("in memory").to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["code"], 503);
        assert_eq!(body["reason"], "overloaded");
        assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(3));
    }

    #[test]
    fn headers_that_go_with_the_status() {
        assert_eq!(ApiError::MethodNotAllowed { allow: "GET, HEAD" }.reply().headers()[ALLOW], "GET, HEAD");
        assert_eq!(ApiError::BodyTooLarge { limit: 1 }.reply().headers()[CONNECTION], "close");
        assert!(!ApiError::NotFound.reply().headers().contains_key(CONNECTION));
        let denied = ApiError::from(Denial::Wrong).reply();
        let challenges: Vec<_> = denied.headers().get_all(WWW_AUTHENTICATE).iter().collect();
        assert_eq!(challenges, CHALLENGES, "clients choose the first they know");
    }

    #[test]
    fn causes_are_told_once() {
        let text = chain(&ApiError::Malformed(WireError::Empty));
        assert_eq!(text, format!("the request body cannot be understood: {}", WireError::Empty));
        let key = PublicKey::from_bytes([0xab; 48]);
        let rejected = chain(&ApiError::from(Rejection::UnknownKey(key)));
        assert_eq!(rejected.matches("0xabab").count(), 1);
    }
}
