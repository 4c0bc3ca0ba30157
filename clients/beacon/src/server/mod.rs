//! The switcher's listener: HTTP/1.1, bounded in connections, time and size.
//!
//! Why it exists: one validator client, or anything else that can reach the port, must not be able to exhaust it.
//! What it guarantees: every request ends in an answer or a closed connection within bounded time; errors are
//! the Beacon API's JSON; a client that left takes its reads with it, but not its submissions.

mod io;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use holdfast_traces::{Kind, Span, TRACEPARENT, TraceParent};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use self::io::ClientIo;
use crate::accept::{Serve, Through, accept, see_out};
use crate::door::{ByteStream, Door};
use crate::route::Switcher;
use crate::route::request::{ClientAnswer, ClientBody, ClientRequest};
use crate::tasks::Tasks;

/// Bounds of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerBounds {
    /// Most connections open at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Longest body of a request: a block with its blobs in JSON has tens of megabytes.
    pub max_body_bytes: usize,
    /// Longest time for a request's head, and for a connection to be idle.
    pub head_timeout: Duration,
    /// Longest time for a request's body.
    pub body_timeout: Duration,
    /// Longest time a client may not read its answer.
    pub write_timeout: Duration,
    /// Most bytes of a request's head.
    pub max_head_bytes: usize,
}

impl Default for ServerBounds {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            max_body_bytes: 64 * 1024 * 1024,
            head_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            max_head_bytes: 256 * 1024,
        }
    }
}

/// Accepts connections, through the door if there is one, and serves them until the tasks are stopped.
pub fn serve(
    listener: TcpListener,
    door: Option<Arc<dyn Door>>,
    switcher: Arc<Switcher>,
    bounds: ServerBounds,
    tasks: &Tasks,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head_timeout)
        // Smaller is not possible with this library; the default is larger.
        .max_buf_size(bounds.max_head_bytes.max(8192));
    let server = Arc::new(Server { http, switcher, bounds });
    tasks.spawn(accept(listener, door, server, bounds.max_connections, tasks.clone()));
}

struct Server {
    http: http1::Builder,
    switcher: Arc<Switcher>,
    bounds: ServerBounds,
}

impl Serve for Server {
    async fn connection(&self, stream: impl ByteStream, _: Through, tasks: &Tasks) {
        let io = ClientIo::new(TokioIo::new(stream), self.bounds.write_timeout);
        let service = service_fn(|request| async move { Ok::<_, Infallible>(self.respond(request).await) });
        let connection = self.http.serve_connection(io, service);
        if let Err(error) = see_out(connection, http1::Connection::graceful_shutdown, tasks).await {
            // Clients come and go; an answer that broke off at a node ends here, too.
            tracing::debug!(%error, "a client's connection ended early");
        }
    }
}

impl Server {
    async fn respond(&self, request: Request<Incoming>) -> Response<ClientBody> {
        let mut span = self.follow(&request);
        let answer = match self.read(request).await {
            Ok(mut request) => {
                let context = span.as_ref().map(|span| HeaderValue::try_from(span.context().to_string()));
                if let Some(Ok(context)) = context {
                    // Whoever is asked because of this request is asked in the course of it.
                    request.headers.insert(TRACEPARENT, context);
                }
                self.switcher.answer(request).await
            }
            Err(answer) => *answer,
        };
        if let Some(span) = &mut span {
            span.set("http.response.status_code", u64::from(answer.status.as_u16()));
        }
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }

    /// The span of a request, if it is recorded: until the head of its answer.
    fn follow(&self, request: &Request<Incoming>) -> Option<Span> {
        let brought = request.headers().get(TRACEPARENT).and_then(|value| TraceParent::parse(value.to_str().ok()?));
        let mut span = self.switcher.pool().tracer().begin(brought, "Beacon API", Kind::Server)?;
        span.set("http.request.method", request.method().to_string());
        // Its path may name validators, which logs do, too; the query is left out.
        span.set("url.path", request.uri().path().to_owned());
        Some(span)
    }

    /// Reads the request whole.
    async fn read(&self, request: Request<Incoming>) -> Result<ClientRequest, Box<ClientAnswer>> {
        let (head, body) = request.into_parts();
        let too_large = || {
            let message = format!("the body is longer than {} bytes; send it in parts", self.bounds.max_body_bytes);
            Box::new(ClientAnswer::error(StatusCode::PAYLOAD_TOO_LARGE, message))
        };
        let limit = self.bounds.max_body_bytes;
        if body.size_hint().lower() > limit as u64 {
            return Err(too_large());
        }
        let body = if body.is_end_stream() {
            hyper::body::Bytes::new()
        } else {
            match tokio::time::timeout(self.bounds.body_timeout, Limited::new(body, limit).collect()).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
                Ok(Err(_)) => return Err(refuse(StatusCode::BAD_REQUEST, "the body broke off")),
                Err(_late) => {
                    return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly; send it again"));
                }
            }
        };
        let target = match (head.uri.path_and_query(), &head.method) {
            (Some(target), _) => target.clone(),
            (None, &Method::OPTIONS) => PathAndQuery::from_static("/"),
            (None, _) => return Err(refuse(StatusCode::BAD_REQUEST, "there is no path in the request")),
        };
        Ok(ClientRequest { method: head.method, target, headers: head.headers, body })
    }
}

fn refuse(status: StatusCode, message: &str) -> Box<ClientAnswer> {
    Box::new(ClientAnswer::error(status, message))
}
