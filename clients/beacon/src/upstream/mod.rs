//! One node: where it is, how it is spoken to, and what its answers say about it.
//!
//! Why it exists: every call goes through [`Upstream::call`], so every call is bounded in time, carries
//! the upstream's own credentials and nobody else's, and is counted for or against the node. What it
//! guarantees: a call whose future is dropped (a lost race) is counted neither way; whoever drops it may tell how
//! long it had taken, which balancing by response time goes by.

mod answer;
mod config;
mod connect;
mod tls;
mod url;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_traces::{Kind, Span, TRACEPARENT, TraceParent};
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::connect::HttpInfo;
use tokio::time::Instant;

pub use answer::{AnswerBody, CollectedAnswer, UpstreamAnswer, UpstreamRequest};
pub use config::{
    Auth, PriorityTier, Resolve, Role, Roles, TlsOptions, TrustRoots, UpstreamConfig, UpstreamId, UpstreamName,
    UpstreamUrl, Weight,
};
pub use url::Transport;
pub(crate) use url::without_credentials;

use crate::class::EndpointClass;
use crate::deadline::Deadline;
use crate::error::{CallError, Fault, UpstreamConfigError};
use crate::health::{Breaker, BreakerState, LateShare, Performance, PerformanceTier};
use crate::metrics::UpstreamMetrics;
use crate::signal::Signal;

/// A body that brings nothing for this long has stopped coming.
const STALL: Duration = Duration::from_secs(10);

/// Headers that belong to one connection or one recipient (RFC 9110, section 7.6.1).
const NOT_PASSED_ON: [HeaderName; 12] = [
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::COOKIE,
    header::EXPECT,
];

/// What calls have shown so far.
#[derive(Debug)]
struct Record {
    performance: Performance,
    breaker: Breaker,
    /// Our end of the connection the last probe used.
    probe_connection: Option<SocketAddr>,
}

/// One node.
pub struct Upstream {
    id: UpstreamId,
    config: UpstreamConfig,
    traffic: connect::HttpClient,
    probes: connect::HttpClient,
    fixed_headers: Vec<(HeaderName, HeaderValue)>,
    /// Shared with whoever it is configured anew as.
    record: Arc<Mutex<Record>>,
    in_flight: Arc<AtomicUsize>,
    signal: Arc<Signal>,
    metrics: UpstreamMetrics,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("id", &self.id).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Upstream {
    /// An upstream by itself, outside a pool: for one question at start.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if it cannot be used as configured.
    pub fn standalone(config: UpstreamConfig) -> Result<Arc<Self>, UpstreamConfigError> {
        let metrics = UpstreamMetrics::unregistered(&config.name);
        Self::new(UpstreamId(0), config, None, Arc::new(Signal::default()), metrics)
    }

    pub(crate) fn new(
        id: UpstreamId,
        config: UpstreamConfig,
        address: Option<SocketAddr>,
        signal: Arc<Signal>,
        metrics: UpstreamMetrics,
    ) -> Result<Arc<Self>, UpstreamConfigError> {
        let fixed_headers = config.fixed_headers()?;
        let (traffic, probes) = connect::clients(config.url.transport(), &config.tls, address)?;
        let record = Arc::new(Mutex::new(Record {
            performance: Performance::default(),
            breaker: Breaker::default(),
            probe_connection: None,
        }));
        let in_flight = Arc::new(AtomicUsize::new(0));
        Ok(Arc::new(Self { id, config, traffic, probes, fixed_headers, record, in_flight, signal, metrics }))
    }

    /// The same node at the same place, configured anew: connections, what calls have shown, and calls in progress are those
    /// of this one, which goes on to serve whoever holds it.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if it cannot be used as configured.
    pub(crate) fn reconfigured(
        &self,
        config: UpstreamConfig,
        metrics: UpstreamMetrics,
    ) -> Result<Arc<Self>, UpstreamConfigError> {
        Ok(Arc::new(Self {
            id: self.id,
            fixed_headers: config.fixed_headers()?,
            config,
            traffic: self.traffic.clone(),
            probes: self.probes.clone(),
            record: Arc::clone(&self.record),
            in_flight: Arc::clone(&self.in_flight),
            signal: Arc::clone(&self.signal),
            metrics,
        }))
    }

    /// Its identity in this process.
    pub fn id(&self) -> UpstreamId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &UpstreamName {
        &self.config.name
    }

    /// How it is configured.
    pub fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// Calls in progress, including answers still streaming.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The 90th percentile of this class's recent answers; `None` before there are enough of them.
    pub fn p90(&self, class: EndpointClass) -> Option<Duration> {
        self.lock().performance.p90(class)
    }

    /// Average time of this class's recent answers, of all classes' if this one has none.
    pub fn mean(&self, class: EndpointClass) -> Option<Duration> {
        self.lock().performance.mean(class)
    }

    /// A call was given up after `elapsed`, because another node had answered.
    pub(crate) fn outpaced(&self, class: EndpointClass, elapsed: Duration) {
        self.lock().performance.outpaced(class, elapsed);
    }

    /// Whether duties' answers came too late too often.
    pub(crate) fn performance(&self) -> PerformanceTier {
        self.lock().performance.tier(self.signal.slot())
    }

    /// As if duties had been answered too late, often enough to count.
    #[cfg(test)]
    pub(crate) fn be_late(&self) {
        let slot = self.signal.slot();
        (0..10).for_each(|_| self.lock().performance.missed(EndpointClass::AttestationData, slot));
    }

    /// Late calls of one class in the last slots.
    pub(crate) fn late(&self, class: EndpointClass) -> LateShare {
        self.lock().performance.late(class, self.signal.slot())
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.lock().breaker.state()
    }

    /// When a probe should follow the last failure; `None` while the breaker is closed.
    pub(crate) fn half_open_at(&self) -> Option<Instant> {
        self.lock().breaker.half_open_at()
    }

    /// Our end of the connection the last probe used.
    pub(crate) fn probe_connection(&self) -> Option<SocketAddr> {
        self.lock().probe_connection
    }

    pub(crate) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Asks this node. Completes with the head of the answer; the body streams. Any status is an answer.
    ///
    /// # Errors
    /// [`CallError`]. Dropping the future cancels the call and records nothing but that it was late, if it was.
    pub async fn call(
        self: &Arc<Self>,
        request: UpstreamRequest,
        deadline: impl Into<Deadline>,
    ) -> Result<UpstreamAnswer, CallError> {
        let in_flight = answer::InFlight::new(&self.in_flight);
        self.exchange(&self.traffic, request, deadline.into(), in_flight).await
    }

    /// As [`Self::call`], on the connection kept for probes.
    pub(crate) async fn probe(
        self: &Arc<Self>,
        request: UpstreamRequest,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, CallError> {
        let answer = self.exchange(&self.probes, request, deadline.into(), answer::InFlight::default()).await?;
        self.lock().probe_connection = answer.body.local_address();
        Ok(answer)
    }

    async fn exchange(
        self: &Arc<Self>,
        client: &connect::HttpClient,
        request: UpstreamRequest,
        deadline: Deadline,
        in_flight: answer::InFlight,
    ) -> Result<UpstreamAnswer, CallError> {
        let class = request.class;
        let mut request = self.prepare(request)?;
        // Ends when the head of the answer is here, and also when the call is given up because another node was faster.
        let mut span = self.follow(&mut request, class);
        let began = Instant::now();
        let fair = began + deadline.fair <= deadline.due;
        let mut calling = std::pin::pin!(client.request(request));
        let mut outcome = tokio::time::timeout_at(deadline.due, &mut calling).await;
        let punctual = outcome.is_ok();
        if !punctual {
            // Said at once, so that others are asked first from now on; the answer may still be of use.
            self.overdue(class, began.elapsed(), fair);
            if deadline.end > deadline.due {
                outcome = tokio::time::timeout_at(deadline.end, &mut calling).await;
            }
        }
        let elapsed = began.elapsed();
        let mut failed = |error: CallError| {
            self.failed(class, &error);
            note(&mut span, |span| span.fail(error.to_string()));
            error
        };
        let response = match outcome {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(failed(CallError::Connect(Box::new(error)))),
            Ok(Err(error)) => return Err(failed(CallError::Exchange(Box::new(error)))),
            Err(_late) => {
                let error = CallError::Deadline(elapsed);
                note(&mut span, |span| span.fail(error.to_string()));
                return Err(error);
            }
        };
        note(&mut span, |span| span.set("http.response.status_code", u64::from(response.status().as_u16())));
        let connection = response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr);
        let (head, body) = response.into_parts();
        if punctual {
            self.answered(class, head.status, elapsed);
        } else {
            self.answered_late(class, head.status, elapsed);
        }
        // Between two events nothing comes; whoever reads events has a watchdog of their own.
        let stall = (class != EndpointClass::Events).then_some(STALL);
        Ok(UpstreamAnswer {
            upstream: self.id,
            status: head.status,
            headers: end_to_end(head.headers),
            body: AnswerBody::new(body, Arc::clone(self), class, stall, in_flight).on(connection),
            first_byte: elapsed,
        })
    }

    /// The span of a call that belongs to a recorded trace. The node is told that it was asked in the course of that.
    fn follow(&self, request: &mut Request<Full<hyper::body::Bytes>>, class: EndpointClass) -> Option<Span> {
        let asked = request.headers().get(TRACEPARENT)?.to_str().ok().and_then(TraceParent::parse)?;
        let mut span = self.signal.tracer().begin(Some(asked), "ask node", Kind::Client)?;
        span.set("holdfast.node", self.config.name.to_string());
        span.set("holdfast.class", class.as_str());
        let context = HeaderValue::try_from(span.context().to_string()).ok()?;
        request.headers_mut().insert(TRACEPARENT, context);
        Some(span)
    }

    fn prepare(&self, request: UpstreamRequest) -> Result<Request<Full<hyper::body::Bytes>>, CallError> {
        let uri = self.config.url.with_path(&request.path_and_query).ok_or(CallError::Request)?;
        let mut headers = request.headers;
        strip(&mut headers);
        for (name, value) in &self.fixed_headers {
            headers.insert(name.clone(), value.clone());
        }
        let mut out = Request::new(Full::new(request.body));
        *out.method_mut() = request.method;
        *out.uri_mut() = uri;
        *out.headers_mut() = headers;
        Ok(out)
    }
}

/// Does something to a span, if there is one.
fn note(span: &mut Option<Span>, what: impl FnOnce(&mut Span)) {
    if let Some(span) = span {
        what(span);
    }
}

impl Upstream {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer. A status that says the node itself is broken speaks against it like a late
    /// answer does, but its connection works.
    fn answered(&self, class: EndpointClass, status: StatusCode, elapsed: Duration) {
        let slot = self.signal.slot();
        let mut record = self.lock();
        let was = record.breaker.state();
        record.breaker.succeeded();
        match (own_trouble(status), class) {
            // Some clients answer 500 for what gossip has brought them already: whoever reads it judges.
            (true, EndpointClass::Submit | EndpointClass::Publish) => record.performance.took(class, elapsed),
            (true, _) => record.performance.missed(class, slot),
            (false, _) => record.performance.answered(class, slot, elapsed),
        }
        drop(record);
        self.metrics.answered(class, status, elapsed);
        if was != BreakerState::CLEAN {
            self.signal.notify();
        }
    }

    /// Counts a submission that the node answered with an error of its own: whether it has taken it all the same.
    pub(crate) fn submitted(&self, class: EndpointClass, status: StatusCode, taken: bool) {
        if !own_trouble(status) {
            return;
        }
        let slot = self.signal.slot();
        let mut record = self.lock();
        if taken {
            record.performance.counted(class, slot);
        } else {
            record.performance.missed(class, slot);
        }
        drop(record);
        self.signal.notify();
    }

    /// Counts an answer that was called late before it came.
    fn answered_late(&self, class: EndpointClass, status: StatusCode, elapsed: Duration) {
        self.lock().performance.took(class, elapsed);
        self.metrics.answered(class, status, elapsed);
    }

    /// Counts a failure of the connection or of what came over it.
    fn failed(&self, class: EndpointClass, error: &CallError) {
        self.metrics.failed(class, error);
        match error.fault() {
            // Whoever waited has called it late when it was due.
            Fault::None | Fault::Late => return,
            Fault::Transport => {
                let slot = self.signal.slot();
                let mut record = self.lock();
                record.performance.missed(class, slot);
                record.breaker.failed(Instant::now());
            }
        }
        self.signal.notify();
    }

    /// Counts an answer that is not there although it is due. It speaks against the node if the call was given a
    /// `fair` time.
    fn overdue(&self, class: EndpointClass, waited: Duration, fair: bool) {
        self.metrics.failed(class, &CallError::Deadline(waited));
        if !fair {
            return;
        }
        let slot = self.signal.slot();
        let mut record = self.lock();
        record.performance.missed(class, slot);
        if class.has_duty_deadline() {
            record.breaker.late();
        }
        drop(record);
        self.signal.notify();
    }
}

/// Statuses that say the node itself is broken, not the request.
fn own_trouble(status: StatusCode) -> bool {
    matches!(status, StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

fn strip(headers: &mut HeaderMap) {
    // `Connection` names further headers of one connection.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in NOT_PASSED_ON.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// What is passed on of an answer. The length of the body is kept: it is the body's, not the connection's.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let length = headers.remove(header::CONTENT_LENGTH);
    strip(&mut headers);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    headers
}
