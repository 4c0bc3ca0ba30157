//! Connections to one upstream: resolved anew for each new one, kept and reused in between.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use super::config::TlsOptions;
use super::tls;
use super::url::Transport;
use crate::error::UpstreamConfigError;

/// A TCP connection that takes longer is not worth a duty's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections are closed after this; below what most nodes keep them open for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Idle connections kept for traffic: a burst of duties reuses them.
const IDLE_CONNECTIONS: usize = 32;
/// Longest head of an answer: status line and headers together.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Silence on a connection after which the system asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

pub(super) type HttpClient = Client<HttpsConnector<HttpConnector<Addresses>>, Full<Bytes>>;

/// Where the name in the URL leads.
#[derive(Clone, Debug)]
pub(super) enum Addresses {
    /// Wherever the system's resolver says, asked for each new connection.
    System(GaiResolver),
    /// One address of several behind the name.
    Fixed(SocketAddr),
}

type Resolved = Result<std::vec::IntoIter<SocketAddr>, std::io::Error>;

impl Service<Name> for Addresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Resolved> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        match self {
            Self::System(system) => system.poll_ready(context),
            Self::Fixed(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, name: Name) -> Self::Future {
        match self {
            Self::System(system) => {
                let found = system.call(name);
                Box::pin(async move { found.await.map(|all| all.collect::<Vec<_>>().into_iter()) })
            }
            Self::Fixed(address) => {
                let address = *address;
                Box::pin(async move { Ok(vec![address].into_iter()) })
            }
        }
    }
}

/// The connections for traffic, and one of their own for probes: a probe must not queue behind a
/// download, and its connection breaking tells of a restart.
pub(super) fn clients(
    transport: Transport,
    tls: &TlsOptions,
    fixed: Option<SocketAddr>,
) -> Result<(HttpClient, HttpClient), UpstreamConfigError> {
    let mut http = HttpConnector::new_with_resolver(match fixed {
        Some(address) => Addresses::Fixed(address),
        None => Addresses::System(GaiResolver::new()),
    });
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(KEEPALIVE));
    let config = match transport {
        Transport::Tls => tls::client_config(tls)?,
        // Never used, and trusting nobody costs nothing.
        Transport::Plain => tls::nobody()?,
    };
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(http);
    let client = |idle| {
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(idle)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .http1_max_headers(128)
            .build(connector.clone())
    };
    Ok((client(IDLE_CONNECTIONS), client(1)))
}
