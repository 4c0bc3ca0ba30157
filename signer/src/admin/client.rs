//! The other end: how a command reaches the services of a running process, or those it has itself.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_wire::admin::v1::approvals_client::ApprovalsClient;
use holdfast_wire::admin::v1::audit_client::AuditClient;
use holdfast_wire::admin::v1::configuration_client::ConfigurationClient;
use holdfast_wire::admin::v1::kek_client::KekClient;
use holdfast_wire::admin::v1::keys_client::KeysClient;
use holdfast_wire::admin::v1::policy_client::PolicyClient;
use holdfast_wire::admin::v1::slashing_client::SlashingClient;
use holdfast_wire::admin::v1::status_client::StatusClient;
use holdfast_wire::admin::v1::switcher_client::SwitcherClient;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tonic::Code;
use tonic::body::Body;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::routes::Routes;
use crate::callers::Principal;
use crate::drain::Tasks;

/// Longest time until a process that accepts connections says something.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// Longest list or report that is taken.
const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;

/// Why a running process was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody serves the socket.
    #[error("no process answers at {}; is `holdfast serve` running, with this --data-dir?", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the running process broke")]
    Broken(#[source] hyper::Error),
    /// The process did not answer.
    #[error("the running process did not answer within {} s", FIRST_WORD.as_secs())]
    Late,
}

/// Where services are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a running server, at this address.
    Server(String),
    /// Here, on this database.
    Database(String),
}

/// A way to services.
#[derive(Clone)]
pub(crate) enum Channel {
    /// A connection to a process.
    Wire(SendRequest<Body>),
    /// Services of this process, which know who asks.
    Here(Arc<Routes>, Arc<Principal>),
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        match self {
            Self::Wire(sender) => sender.poll_ready(context),
            Self::Here(..) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self {
            Self::Wire(sender) => {
                let answer = sender.send_request(request);
                Box::pin(async move { Ok(answer.await?.map(Body::new)) })
            }
            Self::Here(routes, who) => {
                request.extensions_mut().insert(Arc::clone(who));
                let answer = routes.call(request);
                Box::pin(async move {
                    let Ok(answer) = answer.await;
                    Ok(answer)
                })
            }
        }
    }
}

/// The services, and where they are.
pub(crate) struct Admin {
    channel: Channel,
    /// Where they are.
    pub(crate) place: Place,
}

/// The name only fills a field that HTTP/2 requires.
fn origin() -> Uri {
    Uri::from_static("http://admin")
}

impl Admin {
    /// Services of this process.
    pub(crate) fn here(routes: Routes, who: Arc<Principal>, database: String) -> Self {
        Self { channel: Channel::Here(Arc::new(routes), who), place: Place::Database(database) }
    }

    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::NotRunning { path: path.to_owned(), source })?;
        Self::over(stream, format!("unix:{}", path.display())).await
    }

    /// Speaks over a connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: String,
    ) -> Result<Self, ClientError> {
        let greeting = handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = tokio::time::timeout(FIRST_WORD, greeting)
            .await
            .map_err(|_| ClientError::Late)?
            .map_err(ClientError::Broken)?;
        // It ends with this process, or when the other end does; calls then fail.
        Tasks::new().spawn(async move { drop(connection.await) });
        Ok(Self { channel: Channel::Wire(sender), place: Place::Server(address) })
    }

    /// Whether there is a signer behind this, and not a switcher alone.
    ///
    /// # Errors
    /// [`ClientError::Late`].
    pub(crate) async fn has_signer(&self) -> Result<bool, ClientError> {
        let request = HealthCheckRequest { service: "holdfast.signer".to_owned() };
        let mut health = HealthClient::with_origin(self.channel.clone(), origin());
        let answer = tokio::time::timeout(FIRST_WORD, health.check(request)).await.map_err(|_| ClientError::Late)?;
        // A server that has no health at all is one of before, with a switcher only.
        Ok(!answer.is_err_and(|status| matches!(status.code(), Code::NotFound | Code::Unimplemented)))
    }

    /// Whether the other end ends the connection instead of answering.
    ///
    /// # Errors
    /// [`ClientError::Late`].
    pub(crate) async fn is_silent(&self) -> Result<bool, ClientError> {
        let mut health = HealthClient::with_origin(self.channel.clone(), origin());
        let asked = health.check(HealthCheckRequest::default());
        let answer = tokio::time::timeout(FIRST_WORD, asked).await.map_err(|_| ClientError::Late)?;
        // A status from there has no error of this side's connection below it.
        Ok(answer.is_err_and(|status| std::error::Error::source(&status).is_some()))
    }

    /// Keys.
    pub(crate) fn keys(&self) -> KeysClient<Channel> {
        KeysClient::with_origin(self.channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Slashing protection.
    pub(crate) fn slashing(&self) -> SlashingClient<Channel> {
        SlashingClient::with_origin(self.channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Key-encryption keys.
    pub(crate) fn kek(&self) -> KekClient<Channel> {
        KekClient::with_origin(self.channel.clone(), origin())
    }

    /// Approvals.
    pub(crate) fn approvals(&self) -> ApprovalsClient<Channel> {
        ApprovalsClient::with_origin(self.channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The journal.
    pub(crate) fn audit(&self) -> AuditClient<Channel> {
        AuditClient::with_origin(self.channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The state of the process.
    pub(crate) fn status(&self) -> StatusClient<Channel> {
        StatusClient::with_origin(self.channel.clone(), origin())
    }

    /// The configuration of the process.
    pub(crate) fn configuration(&self) -> ConfigurationClient<Channel> {
        ConfigurationClient::with_origin(self.channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The policy.
    pub(crate) fn policy(&self) -> PolicyClient<Channel> {
        PolicyClient::with_origin(self.channel.clone(), origin()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The switcher.
    pub(crate) fn switcher(&self) -> SwitcherClient<Channel> {
        SwitcherClient::with_origin(self.channel.clone(), origin())
    }
}
