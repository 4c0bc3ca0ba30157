//! One request to an upstream and its answer, whose body streams.
//!
//! What it guarantees: a body either ends as the upstream meant it to or ends with an error; it is never
//! silently short. A body that stops coming is noticed.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, Sleep};

use super::{Upstream, UpstreamId};
use crate::class::EndpointClass;
use crate::deadline::Deadline;
use crate::error::CallError;

/// What is asked. Cheap to clone, so that several upstreams can be asked the same.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    /// Method.
    pub method: Method,
    /// Path and query as the client sent them.
    pub path_and_query: PathAndQuery,
    /// End-to-end headers; hop-by-hop headers, `Host`, `Authorization` and `Cookie` are not passed on.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// What it is for.
    pub class: EndpointClass,
}

impl UpstreamRequest {
    /// A GET that asks for JSON.
    pub fn get_json(path: PathAndQuery, class: EndpointClass) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(hyper::header::ACCEPT, hyper::header::HeaderValue::from_static("application/json"));
        Self { method: Method::GET, path_and_query: path, headers, body: Bytes::new(), class }
    }
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct UpstreamAnswer {
    /// Who answered.
    pub upstream: UpstreamId,
    /// Status.
    pub status: StatusCode,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The body; it streams.
    pub body: AnswerBody,
    /// From sending to the head of the answer.
    pub first_byte: Duration,
}

/// An answer that is here whole.
#[derive(Debug, Clone)]
pub struct CollectedAnswer {
    /// Who answered.
    pub upstream: UpstreamId,
    /// Status.
    pub status: StatusCode,
    /// End-to-end headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// From sending to the head of the answer.
    pub first_byte: Duration,
}

impl UpstreamAnswer {
    /// Reads the whole body, at most `limit` bytes of it, until the end of `deadline`.
    ///
    /// # Errors
    /// [`CallError::TooLong`], [`CallError::Deadline`], or whatever broke the body.
    pub async fn collect(self, limit: usize, deadline: impl Into<Deadline>) -> Result<CollectedAnswer, CallError> {
        let deadline = deadline.into();
        let Self { upstream, status, headers, body, first_byte } = self;
        let owner = Arc::clone(&body.upstream);
        let class = body.class;
        let began = Instant::now();
        let punctual = began <= deadline.due;
        let waited = || first_byte.saturating_add(began.elapsed());
        let mut reading = std::pin::pin!(Limited::new(body, limit).collect());
        let mut outcome = tokio::time::timeout_at(deadline.due.max(began), &mut reading).await;
        if outcome.is_err() {
            if punctual {
                owner.overdue(class, waited(), deadline.fair <= waited());
            }
            if deadline.end > deadline.due {
                outcome = tokio::time::timeout_at(deadline.end, &mut reading).await;
            }
        }
        let body = match outcome {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(CallError::TooLong { limit }),
            Ok(Err(error)) => {
                return Err(error.downcast::<CallError>().map_or_else(CallError::Exchange, |error| *error));
            }
            Err(_late) => return Err(CallError::Deadline(waited())),
        };
        Ok(CollectedAnswer { upstream, status, headers, body, first_byte })
    }
}

/// Counts a call for as long as it, or the body of its answer, lives.
/// The default counts nowhere: for probes.
#[derive(Debug, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, as it comes.
pub struct AnswerBody {
    incoming: Incoming,
    upstream: Arc<Upstream>,
    class: EndpointClass,
    stall: Option<(Duration, Pin<Box<Sleep>>)>,
    local_address: Option<SocketAddr>,
    _in_flight: InFlight,
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").field("upstream", &self.upstream.id()).finish_non_exhaustive()
    }
}

impl AnswerBody {
    pub(super) fn new(
        incoming: Incoming,
        upstream: Arc<Upstream>,
        class: EndpointClass,
        stall: Option<Duration>,
        in_flight: InFlight,
    ) -> Self {
        let stall = stall.map(|after| (after, Box::pin(tokio::time::sleep(after))));
        Self { incoming, upstream, class, stall, local_address: None, _in_flight: in_flight }
    }

    pub(super) fn on(mut self, connection: Option<SocketAddr>) -> Self {
        self.local_address = connection;
        self
    }

    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.local_address
    }

    fn broken(&self, error: CallError) -> CallError {
        self.upstream.failed(self.class, &error);
        error
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some((after, sleep)) = &mut self.stall {
                    sleep.as_mut().reset(Instant::now() + *after);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(self.broken(CallError::Exchange(Box::new(error)))))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let Some((after, sleep)) = &mut self.stall else { return Poll::Pending };
                ready!(sleep.as_mut().poll(context));
                let after = *after;
                Poll::Ready(Some(Err(self.broken(CallError::Stalled(after)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
