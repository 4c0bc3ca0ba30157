//! The other end: how a command reaches the process that runs.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use holdfast_wire::admin::v1::switcher_client::SwitcherClient;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::body::Body;

/// Longest time for a command.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a running process was not reached, or what it answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody serves the socket.
    #[error(
        "no process answers at {}; is `holdfast serve` running, with the switcher and with this --data-dir?", path.display()
    )]
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
    /// The process said no, with the reason as text.
    #[error("{0}")]
    Refused(String),
    /// The process did not answer.
    #[error("the running process did not answer within {} s", TIMEOUT.as_secs())]
    Late,
}

/// A connection to the admin socket.
#[derive(Clone)]
pub(crate) struct Channel(SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Speaks to the process that runs with a data directory.
pub(crate) struct AdminClient {
    /// The switcher's methods.
    pub(crate) switcher: SwitcherClient<Channel>,
}

impl AdminClient {
    /// Runs `command` on a connection to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn run<T>(
        path: &Path,
        command: impl AsyncFnOnce(Self) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, ClientError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::NotRunning { path: path.to_owned(), source })?;
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(ClientError::Broken)?;
        // The name only fills a field that HTTP/2 requires.
        let origin = Uri::from_static("http://admin");
        let client = Self { switcher: SwitcherClient::with_origin(Channel(sender), origin) };
        let drive = async {
            let ended: Result<Infallible, hyper::Error> = match connection.await {
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            };
            ended
        };
        tokio::select! {
            answer = tokio::time::timeout(TIMEOUT, command(client)) => match answer {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) => Err(ClientError::Refused(status.message().to_owned())),
                Err(_late) => Err(ClientError::Late),
            },
            Err(error) = drive => Err(ClientError::Broken(error)),
        }
    }
}
