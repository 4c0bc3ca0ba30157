//! The status page on the metrics listener: which paths it has, and who may read it.
//!
//! Guarantees: the listener's rule about `Host` headers holds, a browser's cross-origin requests are refused, and every
//! answer carries the headers that keep other pages out.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::error::ApiError;
use super::host::HostPolicy;
use super::reply::{self, Reply, ReplyBody, json, of};
use crate::status::{Board, HEADERS, KeyQuery, MAX_STREAMS, Resource};

/// Content type of the page.
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// Content type of the stream.
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Answers a request for the status page; `None` if the path is none of its own.
pub(super) async fn status(hosts: &HostPolicy, board: &Arc<Board>, request: &Request<Incoming>) -> Option<Reply> {
    let resource = Resource::at(request.uri().path())?;
    let answered = answer(hosts, board, resource, request).await;
    let mut reply = answered.unwrap_or_else(|error| error.reply());
    for (name, value) in HEADERS {
        reply.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Some(reply)
}

async fn answer(
    hosts: &HostPolicy,
    board: &Arc<Board>,
    resource: Resource,
    request: &Request<Incoming>,
) -> Result<Reply, ApiError> {
    hosts.check(request.uri(), request.headers())?;
    let method = request.method();
    if resource == Resource::Events && method != Method::GET {
        return Err(ApiError::MethodNotAllowed { allow: "GET" });
    }
    if method != Method::GET && method != Method::HEAD {
        return Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" });
    }
    let keys = || KeyQuery::parse(request.uri().query());
    Ok(match resource {
        Resource::Page => of(StatusCode::OK, HTML, board.page().await),
        Resource::Document => of(StatusCode::OK, reply::JSON, board.json().await),
        Resource::Keys => of(StatusCode::OK, HTML, board.keys_page(keys()).await),
        Resource::KeysDocument => json(StatusCode::OK, &board.keys_json(keys()).await),
        Resource::Asset(asset) => {
            of(StatusCode::OK, HeaderValue::from_static(asset.content_type), asset.content.as_bytes())
        }
        Resource::Events => {
            let mut reply = Response::new(ReplyBody::Events(
                board.stream().ok_or(ApiError::TooManyViewers { limit: MAX_STREAMS })?,
            ));
            reply.headers_mut().insert(hyper::header::CONTENT_TYPE, EVENTS);
            reply
        }
    })
}
