//! Connections to a node's WebSocket API: plain or encrypted, with the node's credentials.
//!
//! Why it exists: subscriptions live there, and nowhere else is it noticed that the address, the certificate or
//! the password of that API is wrong. What it guarantees: connection, TLS and handshake together are bounded in
//! time; the certificate is judged as for the node's HTTP API; what went wrong last is kept for the status.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{MAX_ANSWER_BYTES, WebSocketUrl, websocket};
use crate::error::UpstreamConfigError;
use crate::upstream::{Transport, UpstreamConfig, UpstreamName};

/// Longest time to connect to a node: TCP, TLS and handshake together.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// What a WebSocket connection runs over.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}

/// A connection to a node.
pub(super) type NodeSocket = WebSocketStream<Box<dyn Duplex>>;

/// Why there is no connection. No message carries an address or credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no connection to the WebSocket API")]
    Connect(#[source] io::Error),
    #[error(
        "the certificate of the WebSocket API is not accepted; if an authority of your own signed it, give that with ca_file"
    )]
    Certificate(#[source] io::Error),
    #[error("the WebSocket API does not speak TLS as it should; is it ws:// instead of wss://?")]
    Tls(#[source] io::Error),
    #[error("answered {} to the WebSocket handshake; {}", .0.as_u16(), hint(*.0))]
    Status(StatusCode),
    #[error("the WebSocket handshake failed; is this the address of a WebSocket API?")]
    Handshake(#[source] tungstenite::Error),
    #[error("no WebSocket connection within {} s", CONNECT.as_secs())]
    Late,
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "check the user, password or token of this node",
        _ => "check that websocket_url is the address of a WebSocket API",
    }
}

/// How a node's WebSocket API is reached.
pub(crate) struct LinkSource {
    url: WebSocketUrl,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    last_error: Mutex<Option<String>>,
}

impl LinkSource {
    /// Certificates and credentials are those of the node; user and password in this address come before those in
    /// the address of its HTTP API.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if something of it cannot be used.
    pub(super) fn new(url: WebSocketUrl, node: &UpstreamConfig) -> Result<Self, UpstreamConfigError> {
        let headers = node.fixed_headers_at(url.auth())?;
        let tls = match url.transport() {
            Transport::Plain => None,
            Transport::Tls => {
                let name = ServerName::try_from(url.host().to_owned()).map_err(|_| UpstreamConfigError::Address)?;
                Some((TlsConnector::from(Arc::new(node.tls_client()?)), name))
            }
        };
        Ok(Self { url, headers, tls, last_error: Mutex::default() })
    }

    /// Its address.
    pub(super) fn url(&self) -> &WebSocketUrl {
        &self.url
    }

    /// Why the last attempt to connect failed; `None` if it did not.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connects, and remembers what came of it. Takes at most [`CONNECT`].
    pub(super) async fn open(&self, node: &UpstreamName) -> Option<NodeSocket> {
        let outcome = tokio::time::timeout(CONNECT, self.connect()).await.unwrap_or(Err(LinkError::Late));
        let error = outcome.as_ref().err().map(|error| crate::error::chain(error));
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &error
            && error != *last
        {
            tracing::warn!(upstream = %node, reason, "no WebSocket connection to an execution client");
        }
        *last = error;
        drop(last);
        outcome.ok()
    }

    async fn connect(&self) -> Result<NodeSocket, LinkError> {
        let mut request = self.url.for_handshake().into_client_request().map_err(LinkError::Handshake)?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let stream = TcpStream::connect((self.url.host(), self.url.port())).await.map_err(LinkError::Connect)?;
        // A notification is one small packet, wanted now; without it they come a little later.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await.map_err(refused)?),
        };
        let config = websocket::config(MAX_ANSWER_BYTES);
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(answer)) => Err(LinkError::Status(answer.status())),
            Err(error) => Err(LinkError::Handshake(error)),
        }
    }
}

/// What a failed TLS handshake means; the connection itself was there.
fn refused(error: io::Error) -> LinkError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => LinkError::Certificate(error),
        _ => LinkError::Tls(error),
    }
}
