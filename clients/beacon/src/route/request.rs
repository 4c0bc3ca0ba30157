//! A client's request and what it gets: the vocabulary between the server and the routes.
//!
//! What it guarantees: an error is always the Beacon API's JSON with a message that says what to do; a
//! streamed body ends with an error, never silently short, and gives way to other requests after each piece.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use holdfast_traces::{TRACEPARENT, TRACESTATE};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::attestation::Form;
use super::path::query_value;
use crate::EndpointClass;
use crate::error::CallError;
use crate::events::ClientStream;
use crate::upstream::{AnswerBody, CollectedAnswer, UpstreamAnswer, UpstreamRequest};

/// A request, read whole within the server's bounds.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl ClientRequest {
    /// The path.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query, empty if there is none.
    pub fn query(&self) -> &str {
        self.target.query().unwrap_or_default()
    }

    /// One value of the query.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        query_value(self.query(), name)
    }

    /// A header as text.
    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The form of the body; JSON if it does not say.
    pub fn form(&self) -> Option<Form> {
        self.header(header::CONTENT_TYPE).map_or(Some(Form::Json), Form::of_content_type)
    }

    /// Whether the client takes answers of this form, and how gladly: its q-value in thousandths.
    pub fn accepts(&self, form: Form) -> u16 {
        self.header(header::ACCEPT).map_or(if form == Form::Json { 1000 } else { 0 }, |accept| quality(accept, form))
    }

    /// The same request for a node.
    pub fn to_upstream(&self, class: EndpointClass) -> UpstreamRequest {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            if passed_up(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        // HEAD is answered from GET: nodes need not know it.
        let method = if self.method == Method::HEAD { Method::GET } else { self.method.clone() };
        UpstreamRequest { method, path_and_query: self.target.clone(), headers, body: self.body.clone(), class }
    }
}

/// Negotiation, the API's own headers, who asks, and in which trace; nothing else of a client is a node's business.
fn passed_up(name: &HeaderName) -> bool {
    // Not `Accept-Encoding`: answers have to be read here, and the way to the nodes is short.
    matches!(*name, header::ACCEPT | header::CONTENT_TYPE | header::CONTENT_ENCODING | header::USER_AGENT)
        || matches!(name.as_str(), TRACEPARENT | TRACESTATE)
        || name.as_str().starts_with("eth-")
}

/// The q-value of a form in an `Accept` header, in thousandths; the most specific range counts.
fn quality(accept: &str, form: Form) -> u16 {
    let (kind, _) = form.media_type().split_once('/').unwrap_or_default();
    let mut best: (u8, u16) = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let specificity = match parts.next().unwrap_or_default() {
            "*/*" => 1,
            name if name.strip_suffix("/*") == Some(kind) => 2,
            name if name.eq_ignore_ascii_case(form.media_type()) => 3,
            _ => continue,
        };
        let q = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
        if specificity > best.0 {
            best = (specificity, q);
        }
    }
    best.1
}

fn thousandths(q: &str) -> u16 {
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    if whole == "1" {
        return 1000;
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    digits.parse().unwrap_or(0)
}

/// A body on its way to the client.
pub enum ClientBody {
    /// Here already.
    Whole(Option<Bytes>),
    /// As it comes from a node.
    Stream(Box<Streamed>),
    /// Events.
    Events(Box<ClientStream>),
}

/// A node's body, passed on as it comes.
pub struct Streamed {
    /// Frames read while judging the answer.
    first: Option<Bytes>,
    body: AnswerBody,
    pace: Pace,
    /// Held until the body ends.
    _permit: Option<OwnedSemaphorePermit>,
}

/// After so many bytes a streamed body gives way. A state whose bytes are always there would otherwise keep its thread
/// from looking for duties' requests and answers for many milliseconds at a time.
const PIECE: usize = 64 * 1024;

/// Bytes passed on since a body last gave way.
#[derive(Default)]
struct Pace(usize);

impl Pace {
    fn passed(&mut self, bytes: usize) {
        self.0 = self.0.saturating_add(bytes);
    }

    /// Pending after each piece, until others have had their turn.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.0 < PIECE {
            return Poll::Ready(());
        }
        self.0 = 0;
        // Polled once, it has the task woken after the runtime has looked at all sockets.
        std::pin::pin!(tokio::task::yield_now()).poll(context)
    }
}

impl Streamed {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        ready!(self.pace.poll_turn(context));
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.pace.passed(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(streamed) => streamed.poll_piece(context),
            Self::Events(stream) => stream.poll_next(context).map(|next| next.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(streamed) => streamed.first.is_none() && streamed.body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(streamed) => {
                let mut hint = streamed.body.size_hint();
                let first = streamed.first.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if let Some(exact) = hint.exact() {
                    hint.set_exact(exact.saturating_add(first));
                }
                hint
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer for the client.
pub struct ClientAnswer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: ClientBody,
}

impl std::fmt::Debug for ClientAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What the length of a body passed on is told by: the body itself.
fn without_length(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::CONTENT_LENGTH);
    headers
}

impl ClientAnswer {
    /// A body with its media type.
    pub fn with_body(status: StatusCode, form: Form, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
        let body = body.into();
        Self { status, headers, body: ClientBody::Whole((!body.is_empty()).then_some(body)) }
    }

    /// JSON.
    pub fn json(body: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self::with_body(StatusCode::OK, Form::Json, body),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written; please report this");
                Self::error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the switcher could not write its answer; please report this",
                )
            }
        }
    }

    /// A status by itself.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: ClientBody::Whole(None) }
    }

    /// The Beacon API's error.
    pub fn error(status: StatusCode, message: impl AsRef<str>) -> Self {
        let body = serde_json::json!({ "code": status.as_u16(), "message": message.as_ref() }).to_string();
        Self::with_body(status, Form::Json, body)
    }

    /// The Beacon API's error of a list submission.
    pub fn failures(message: &str, failures: &[super::merge::ItemFailure]) -> Self {
        let body = serde_json::json!({ "code": 400, "message": message, "failures": failures }).to_string();
        Self::with_body(StatusCode::BAD_REQUEST, Form::Json, body)
    }

    /// A node's answer as it is.
    pub fn collected(answer: CollectedAnswer) -> Self {
        let body = (!answer.body.is_empty()).then_some(answer.body);
        Self { status: answer.status, headers: without_length(answer.headers), body: ClientBody::Whole(body) }
    }

    /// A node's answer as it comes; `first` was read of its body already, `permit` is held until its end.
    pub fn streamed(answer: UpstreamAnswer, first: Option<Bytes>, permit: Option<OwnedSemaphorePermit>) -> Self {
        let streamed = Streamed { first, body: answer.body, pace: Pace::default(), _permit: permit };
        Self {
            status: answer.status,
            headers: without_length(answer.headers),
            body: ClientBody::Stream(Box::new(streamed)),
        }
    }

    /// An event stream.
    pub fn events(stream: ClientStream) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Self { status: StatusCode::OK, headers, body: ClientBody::Events(Box::new(stream)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(accept: Option<&str>) -> ClientRequest {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        headers.insert(header::COOKIE, "secret".parse().unwrap());
        headers.insert(header::AUTHORIZATION, "secret".parse().unwrap());
        headers.insert("eth-consensus-version", "fulu".parse().unwrap());
        ClientRequest {
            method: Method::GET,
            target: PathAndQuery::from_static("/eth/v1/x?slot=1"),
            headers,
            body: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn a_body_gives_way_after_each_piece_and_only_then() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (mut pace, tasks, turns) = (Pace::default(), crate::Tasks::new(), std::sync::Arc::new(AtomicUsize::new(0)));
        for turn in 0..3 {
            for _ in 0..4 {
                let now = std::future::poll_fn(|context| Poll::Ready(pace.poll_turn(context))).await;
                assert!(now.is_ready(), "less than a piece has passed");
                pace.passed(PIECE / 4);
            }
            let counted = std::sync::Arc::clone(&turns);
            tasks.spawn(async move {
                counted.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(turns.load(Ordering::Relaxed), turn);
            std::future::poll_fn(|context| pace.poll_turn(context)).await;
            assert_eq!(turns.load(Ordering::Relaxed), turn + 1, "the other task had its turn");
        }
    }

    #[test]
    fn q_values_are_honoured() {
        let both = request(Some("application/octet-stream;q=1.0,application/json;q=0.9"));
        assert_eq!((both.accepts(Form::Ssz), both.accepts(Form::Json)), (1000, 900));
        let any = request(Some("*/*"));
        assert_eq!((any.accepts(Form::Ssz), any.accepts(Form::Json)), (1000, 1000));
        let none = request(None);
        assert_eq!((none.accepts(Form::Ssz), none.accepts(Form::Json)), (0, 1000));
        let refused = request(Some("application/*, application/octet-stream;q=0"));
        assert_eq!((refused.accepts(Form::Ssz), refused.accepts(Form::Json)), (0, 1000));
    }

    #[test]
    fn a_client_s_secrets_do_not_go_to_nodes() {
        let up = request(None).to_upstream(EndpointClass::Read);
        assert_eq!(up.headers.len(), 1);
        assert!(up.headers.contains_key("eth-consensus-version"));
    }
}
