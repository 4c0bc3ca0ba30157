//! Building responses. The headers are static values: nothing here parses or formats a header
//! per request.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::status::EventBody;

/// Every response is complete in memory before it is sent, but for the status page's events.
pub(crate) type Reply = Response<ReplyBody>;

/// The body of a response.
pub(crate) enum ReplyBody {
    /// Complete.
    Whole(Full<Bytes>),
    /// Goes on until the process stops or the reader goes.
    Events(EventBody),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Events(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(body) => body.size_hint(),
        }
    }
}

/// Content type of JSON responses, as Web3Signer writes it.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Content type of text responses, as Web3Signer writes it.
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A response with this content type.
pub(crate) fn of(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(ReplyBody::Whole(Full::new(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => of(status, JSON, body),
        // Our own response types have string keys and no failing Serialize; this is not reached.
        Err(error) => {
            tracing::error!(%error, "a response could not be written as JSON");
            of(
                StatusCode::INTERNAL_SERVER_ERROR,
                JSON,
                &br#"{"code":500,"message":"internal error","reason":"bug"}"#[..],
            )
        }
    }
}

/// A text response.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    of(status, TEXT, body)
}
