//! The Web3Signer-compatible HTTP API: paths, methods and status codes as validator clients know
//! them. A handler only translates; what happens to a request is in [`crate::pipeline`].
//!
//! Requests are matched by hand: there are a handful of paths, and the one that matters is
//! answered thousands of times in the first moments of a slot.

mod accept;
mod alone;
mod batch;
mod body;
mod error;
mod health;
mod host;
mod io;
mod keymanager;
mod keys;
mod peer;
mod rate;
pub(crate) mod reply;
pub(crate) mod server;
mod sign;
pub(crate) mod socket;
mod status;
mod throttle;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::{Body, Bytes};
use hyper::header::HeaderMap;
use hyper::{Method, Request};

pub(crate) use alone::{AloneProbes, render};
pub(crate) use body::BodyBounds;
pub(crate) use health::Probes;
pub(crate) use host::HostPolicy;
pub(crate) use peer::{Peer, Proof};

use crate::callers::{Callers, Door, Principal};
use crate::keymanager::KeyManager;
use crate::loader::KeyLoader;
use crate::metrics::{Metrics, Outcome};
use crate::outcome::chain;
use crate::pipeline::Signer;
use crate::traces::Course;
use error::ApiError;
use rate::RateLimit;
use reply::Reply;
use throttle::Throttle;

/// Everything the handlers need; one per listener.
pub(crate) struct Api {
    /// The request walk.
    signer: Arc<Signer>,
    /// Loads keys and knows how that went.
    loader: Arc<KeyLoader>,
    metrics: Arc<Metrics>,
    /// Accepted `Host` headers.
    hosts: HostPolicy,
    body_bounds: BodyBounds,
    /// Bounds the signing requests in progress.
    throttle: Throttle,
    /// Bounds the requests of one address per second; `None` costs nothing.
    rate: Option<RateLimit>,
    /// Knows the callers.
    callers: Arc<Callers>,
    /// What is asked of those who come.
    door: Door,
    /// Keys in and out; `None` if that is switched off.
    keymanager: Option<Arc<KeyManager>>,
}

/// Bounds and rules of one listener.
pub(crate) struct ApiOptions {
    /// Accepted `Host` headers.
    pub(crate) hosts: HostPolicy,
    /// Bounds of a request's body.
    pub(crate) body_bounds: BodyBounds,
    /// Most signing requests in progress at once.
    pub(crate) max_requests: usize,
    /// Most requests per second from one address; `None` for no limit.
    pub(crate) max_rate: Option<NonZeroU32>,
    /// Knows the callers.
    pub(crate) callers: Arc<Callers>,
    /// What is asked of those who come.
    pub(crate) door: Door,
    /// Keys in and out; `None` if that is switched off.
    pub(crate) keymanager: Option<Arc<KeyManager>>,
}

/// What a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Sign,
    SignBatch,
    PublicKeys,
    HighWatermark,
    Upcheck,
    Healthcheck,
    Reload,
}

impl Resource {
    fn at(path: &str) -> Option<Self> {
        if let Some(identifier) = path.strip_prefix("/api/v1/eth2/sign/") {
            return (!identifier.contains('/')).then_some(Self::Sign);
        }
        match path {
            "/api/v1/eth2/sign" => Some(Self::SignBatch),
            "/api/v1/eth2/publicKeys" => Some(Self::PublicKeys),
            "/api/v1/eth2/highWatermark" => Some(Self::HighWatermark),
            "/upcheck" => Some(Self::Upcheck),
            "/healthcheck" => Some(Self::Healthcheck),
            "/reload" => Some(Self::Reload),
            _ => None,
        }
    }
}

impl Api {
    /// An API over a signer.
    pub(crate) fn new(signer: Arc<Signer>, loader: Arc<KeyLoader>, metrics: Arc<Metrics>, options: ApiOptions) -> Self {
        let throttle = Throttle::new(options.max_requests, metrics.in_flight.clone());
        let rate = options.max_rate.map(RateLimit::new);
        let ApiOptions { hosts, body_bounds, max_requests: _, max_rate: _, callers, door, keymanager } = options;
        Self { signer, loader, metrics, hosts, body_bounds, throttle, rate, callers, door, keymanager }
    }

    /// How many signing requests are in progress.
    pub(crate) fn in_flight(&self) -> usize {
        self.throttle.in_flight()
    }

    /// Who sends a request: the one place where a request on this listener gets its caller. One that gets none is
    /// answered late.
    async fn resolve(&self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Principal>, ApiError> {
        match self.callers.resolve(&self.door, peer, headers) {
            Ok(principal) => Ok(principal),
            Err(denial) => Err(self.callers.turn_away(&self.door, peer, denial).await.into()),
        }
    }

    async fn route<B>(self: &Arc<Self>, peer: &Peer, request: Request<B>, course: &Course) -> Result<Reply, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.hosts.check(request.uri(), request.headers())?;
        if let (Some(manager), Some(resource)) = (&self.keymanager, keymanager::Resource::at(request.uri().path())) {
            return keymanager::answer(self, manager, resource, request).await.map(server::wanted);
        }
        let resource = Resource::at(request.uri().path()).ok_or(ApiError::NotFound)?;
        self.admit(resource, peer)?;
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        if let (Resource::Upcheck, true) = (resource, read) {
            // For everybody, and so no sign that a connection is wanted.
            return health::upcheck(self, request.headers());
        }
        let principal = self.resolve(peer, request.headers()).await?;
        self.serve(resource, &principal, request, course).await.map(server::wanted)
    }

    /// The course of a request for signatures; others are not followed.
    fn follow<B>(&self, request: &Request<B>) -> Course {
        match Resource::at(request.uri().path()) {
            Some(Resource::Sign) => {
                Course::begin(&self.signer.tracer, request.headers(), "POST /api/v1/eth2/sign/{identifier}")
            }
            Some(Resource::SignBatch) => {
                Course::begin(&self.signer.tracer, request.headers(), "POST /api/v1/eth2/sign")
            }
            Some(_) | None => Course::default(),
        }
    }

    /// Answers a request whose caller is known.
    async fn serve<B>(
        self: &Arc<Self>,
        resource: Resource,
        principal: &Arc<Principal>,
        request: Request<B>,
        course: &Course,
    ) -> Result<Reply, ApiError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let method = request.method();
        let read = method == Method::GET || method == Method::HEAD;
        let post = method == Method::POST;
        match resource {
            Resource::Sign if post => {
                let _place = self.throttle.enter().ok_or(ApiError::Busy)?;
                sign::sign(self, principal, request, course).await
            }
            Resource::SignBatch if post => {
                let _place = self.throttle.enter().ok_or(ApiError::Busy)?;
                batch::sign(self, principal, request, course).await
            }
            Resource::PublicKeys if read => keys::public_keys(self, principal),
            Resource::HighWatermark if read => Ok(keys::high_watermark()),
            Resource::Upcheck if read => health::upcheck(self, request.headers()),
            Resource::Healthcheck if read => Ok(health::healthcheck(self)),
            Resource::Reload if read => keys::reload_state(self, principal),
            Resource::Reload if post => keys::reload(self, principal),
            Resource::Sign | Resource::SignBatch => Err(ApiError::MethodNotAllowed { allow: "POST" }),
            Resource::PublicKeys | Resource::HighWatermark | Resource::Upcheck | Resource::Healthcheck => {
                Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" })
            }
            Resource::Reload => Err(ApiError::MethodNotAllowed { allow: "GET, HEAD, POST" }),
        }
    }

    /// Refuses who sends too much, before anything of the request but its head is read. Health checks
    /// are answered all the same: a busy signer must not look like a dead one.
    fn admit(&self, resource: Resource, peer: &Peer) -> Result<(), ApiError> {
        let Some(rate) = &self.rate else { return Ok(()) };
        let signing = match resource {
            Resource::Upcheck | Resource::Healthcheck => return Ok(()),
            Resource::Sign | Resource::SignBatch => true,
            Resource::PublicKeys | Resource::HighWatermark | Resource::Reload => false,
        };
        if rate.admit(peer.address, Instant::now()) {
            return Ok(());
        }
        let error = ApiError::RateLimited { limit: rate.limit() };
        self.metrics.rate_limited.inc();
        if signing {
            self.metrics.unsigned(None, Outcome::Unavailable, error.verdict().reason);
        }
        Err(error)
    }

    /// Counts and logs what the request walk has not counted and logged itself.
    fn account(&self, error: &ApiError) {
        let reason = error.verdict().reason;
        let outcome = match error {
            // Rate limits and refused credentials are counted where they are applied, and logged once for each
            // address: a flood must not fill the disk.
            ApiError::Rejected(_) | ApiError::RateLimited { .. } | ApiError::Denied(_) => return,
            ApiError::Malformed(_)
            | ApiError::BodyTooLarge { .. }
            | ApiError::BodyTimeout { .. }
            | ApiError::BodyUnreadable => {
                self.metrics.malformed();
                Outcome::Invalid
            }
            ApiError::NotAKey(_) => {
                self.metrics.missing_identifier();
                Outcome::Invalid
            }
            ApiError::Busy => Outcome::Unavailable,
            ApiError::Internal => Outcome::Failed,
            ApiError::NotFound
            | ApiError::MethodNotAllowed { .. }
            | ApiError::HostNotAllowed { .. }
            | ApiError::CrossOrigin
            | ApiError::TooManyViewers { .. }
            | ApiError::Keymanager(_)
            | ApiError::ReloadRunning => {
                tracing::info!(reason, "not served: {error}");
                return;
            }
        };
        self.metrics.unsigned(None, outcome, reason);
        tracing::info!(reason, "not signed: {}", chain(error));
    }
}

impl server::Service for Api {
    async fn answer(self: Arc<Self>, peer: Arc<Peer>, request: Request<hyper::body::Incoming>) -> Reply {
        let mut course = self.follow(&request);
        let reply = self.route(&peer, request, &course).await.unwrap_or_else(|error| {
            self.account(&error);
            course.fail(error.verdict().reason);
            error.reply()
        });
        course.set("http.response.status_code", || u64::from(reply.status().as_u16()));
        reply
    }
}

#[cfg(test)]
mod tests {
    //! Proves: which paths exist.
    use super::*;

    #[test]
    fn paths() {
        let table = [
            ("/upcheck", Some(Resource::Upcheck)),
            ("/healthcheck", Some(Resource::Healthcheck)),
            ("/reload", Some(Resource::Reload)),
            ("/api/v1/eth2/publicKeys", Some(Resource::PublicKeys)),
            ("/api/v1/eth2/highWatermark", Some(Resource::HighWatermark)),
            ("/api/v1/eth2/sign", Some(Resource::SignBatch)),
            ("/api/v1/eth2/sign/0xab", Some(Resource::Sign)),
            ("/api/v1/eth2/sign/", Some(Resource::Sign)),
            ("/api/v1/eth2/sign/0xab/more", None),
            ("/api/v1/eth2/publickeys", None),
            ("/upcheck/", None),
            ("/", None),
            ("", None),
            ("*", None),
        ];
        for (path, resource) in table {
            assert_eq!(Resource::at(path), resource, "{path}");
        }
    }
}
