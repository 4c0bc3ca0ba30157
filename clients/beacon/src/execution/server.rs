//! The pool's listener: JSON-RPC over HTTP/1.1 and WebSocket, bounded in connections, time and size.
//!
//! Web pages of other sites cannot use it: requests must be JSON, which browsers ask permission for first;
//! names that are neither this machine nor an address are refused, and so are WebSocket connections that
//! come from a page.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::pool::ExecutionPool;
use super::websocket;
use crate::accept::{Serve, Through, accept, see_out};
use crate::door::{ByteStream, Door};
use crate::tasks::{Stopping, Tasks};

/// Longest time for a request's head, and for a connection to be idle.
const HEAD: Duration = Duration::from_mins(1);
/// Longest time for a request's body.
const BODY: Duration = Duration::from_secs(10);

type Reply = Response<Full<Bytes>>;

/// Bounds of the listener.
#[derive(Debug, Clone, Copy)]
pub struct ServerBounds {
    /// Most connections open at once; further ones wait to be accepted.
    pub max_connections: usize,
}

/// Accepts connections, through the door if there is one, and serves them until the tasks are stopped.
pub fn serve(
    listener: TcpListener,
    door: Option<Arc<dyn Door>>,
    pool: Arc<ExecutionPool>,
    bounds: ServerBounds,
    tasks: &Tasks,
) {
    tasks.spawn(accept(listener, door, Arc::new(Server(pool)), bounds.max_connections, tasks.clone()));
}

/// Names that a request may call this listener by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// This machine's, and addresses: a web page that makes its own name point here gives that (DNS rebinding).
    Own,
    /// All: the client has checked the name against a certificate already.
    Any,
}

struct Server(Arc<ExecutionPool>);

impl Serve for Server {
    async fn connection(&self, stream: impl ByteStream, through: Through, tasks: &Tasks) {
        let names = match through {
            Through::Nothing => Names::Own,
            Through::Door => Names::Any,
        };
        let service = service_fn(|request| {
            let (pool, tasks) = (Arc::clone(&self.0), tasks.clone());
            async move { Ok::<_, Infallible>(respond(request, names, pool, &tasks).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        if let Err(error) = see_out(connection, http1::UpgradeableConnection::graceful_shutdown, tasks).await {
            tracing::debug!(%error, "a connection of the execution pool ended early");
        }
    }
}

async fn respond(request: Request<Incoming>, names: Names, pool: Arc<ExecutionPool>, tasks: &Tasks) -> Reply {
    if names == Names::Own && !host_is_ours(request.headers()) {
        return plain(StatusCode::FORBIDDEN, "use this address by its number or as localhost\n");
    }
    if wants_websocket(request.headers()) {
        return upgrade(request, pool, tasks);
    }
    match *request.method() {
        Method::POST => call(request, &pool).await,
        Method::GET | Method::HEAD if pool.is_ready() => plain(StatusCode::OK, "send JSON-RPC by POST\n"),
        Method::GET | Method::HEAD => plain(StatusCode::SERVICE_UNAVAILABLE, "no execution client can answer now\n"),
        _ => {
            let mut reply = plain(StatusCode::METHOD_NOT_ALLOWED, "send JSON-RPC by POST\n");
            reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, GET, HEAD"));
            reply
        }
    }
}

async fn call(request: Request<Incoming>, pool: &Arc<ExecutionPool>) -> Reply {
    if !is_json(request.headers()) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON-RPC with Content-Type: application/json\n");
    }
    let body = tokio::time::timeout(BODY, Limited::new(request.into_body(), pool.config.max_body).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large; send the batch in parts\n");
        }
        Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "the body broke off\n"),
        Err(_late) => return plain(StatusCode::REQUEST_TIMEOUT, "the body came too slowly\n"),
    };
    let Some(answer) = pool.answer(&body).await else {
        return plain(StatusCode::NO_CONTENT, "");
    };
    let mut reply = Response::new(Full::new(Bytes::from(answer)));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn upgrade(mut request: Request<Incoming>, pool: Arc<ExecutionPool>, tasks: &Tasks) -> Reply {
    if request.headers().contains_key(header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN, "WebSocket connections from web pages are not accepted\n");
    }
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let (Some(b"13"), Some(key), &Method::GET) = (version, key, request.method()) else {
        let mut reply = plain(StatusCode::BAD_REQUEST, "not a WebSocket handshake of version 13\n");
        reply.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return reply;
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return plain(StatusCode::BAD_REQUEST, "not a WebSocket handshake\n");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tasks.spawn(upgraded_connection(upgraded, pool, tasks.stopping()));
    let mut reply = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = reply.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    reply
}

async fn upgraded_connection(upgraded: hyper::upgrade::OnUpgrade, pool: Arc<ExecutionPool>, stopping: Stopping) {
    match upgraded.await {
        Ok(stream) => {
            let config = websocket::config(pool.config.max_body);
            let stream = TokioIo::new(stream);
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
            websocket::talk(socket, pool, stopping).await;
        }
        Err(error) => tracing::debug!(%error, "a WebSocket handshake was not finished"),
    }
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Whether the request names this machine, or an address. A page that made a name of its own point here names
/// that (DNS rebinding). HTTP/1.0 clients may name nobody.
fn host_is_ours(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<hyper::http::uri::Authority>().ok()) else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect::<HeaderMap>()
    }

    #[test]
    fn names_of_strangers_are_refused() {
        for host in ["localhost", "LOCALHOST:8545", "127.0.0.1:1", "[::1]:8545", "10.0.0.7"] {
            assert!(host_is_ours(&headers(&[("host", host)])), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:8545", "", "a b"] {
            assert!(!host_is_ours(&headers(&[("host", host)])), "{host}");
        }
        assert!(host_is_ours(&HeaderMap::new()));
    }

    #[test]
    fn only_json_is_taken() {
        assert!(is_json(&headers(&[("content-type", "application/json; charset=utf-8")])));
        assert!(!is_json(&headers(&[("content-type", "text/plain")])));
        assert!(!is_json(&HeaderMap::new()));
    }
}
