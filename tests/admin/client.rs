//! A real gRPC client of the admin socket, independent of the command line's.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use holdfast_wire::admin::v1::approvals_client::ApprovalsClient;
use holdfast_wire::admin::v1::keys_client::KeysClient;
use holdfast_wire::admin::v1::policy_client::PolicyClient;
use holdfast_wire::admin::v1::slashing_client::SlashingClient;
use holdfast_wire::admin::{Reason, reason_of};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

/// A connection.
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

/// A client with a runtime of its own.
pub(crate) struct Admin {
    pub(crate) runtime: Runtime,
    channel: Channel,
}

fn origin() -> Uri {
    Uri::from_static("http://admin")
}

impl Admin {
    pub(crate) fn connect(data_dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let channel = runtime.block_on(async {
            let stream = UnixStream::connect(data_dir.join("admin.sock")).await.expect("the admin socket");
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
            tokio::spawn(connection);
            Channel(sender)
        });
        Self { runtime, channel }
    }

    pub(crate) fn keys(&self) -> KeysClient<Channel> {
        KeysClient::with_origin(self.channel.clone(), origin())
    }

    pub(crate) fn slashing(&self) -> SlashingClient<Channel> {
        SlashingClient::with_origin(self.channel.clone(), origin())
    }

    pub(crate) fn approvals(&self) -> ApprovalsClient<Channel> {
        ApprovalsClient::with_origin(self.channel.clone(), origin())
    }

    pub(crate) fn policy(&self) -> PolicyClient<Channel> {
        PolicyClient::with_origin(self.channel.clone(), origin())
    }

    pub(crate) fn health(&self) -> HealthClient<Channel> {
        HealthClient::with_origin(self.channel.clone(), origin())
    }

    pub(crate) fn reflection(&self) -> ServerReflectionClient<Channel> {
        ServerReflectionClient::with_origin(self.channel.clone(), origin())
    }
}

/// The machine-readable reason of a refusal.
#[track_caller]
pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> Reason {
    let status = answer.expect_err("it is refused");
    reason_of(&status).unwrap_or_else(|| panic!("no reason in {status:?}"))
}
