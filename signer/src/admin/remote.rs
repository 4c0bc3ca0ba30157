//! A server on another machine: how a command gets to its admin API over TCP.
//!
//! Guarantees: nothing is said before the server has proved its name, and this side shows its own certificate; each step
//! ends within a bounded time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::{Admin, ClientError};
use crate::config::{RemoteConfig, place};
use crate::tls::{TlsError, client_identity, trusted};

/// Longest time to reach the other machine, and for the handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// A file of this side.
    #[error("the certificate for {server} cannot be used")]
    Files {
        /// Where to.
        server: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// Certificate and key of this side do not work together.
    #[error("certificate and key in {} cannot be used together", path.display())]
    Identity {
        /// The certificate.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Nobody answers.
    #[error("no server answers at {server}; is admin.listen set there, and does a firewall let this machine through?")]
    NoAnswer {
        /// Where.
        server: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// One side did not accept the other.
    #[error(
        "{server} and this command do not accept each other's certificates: --admin-ca has to vouch for the server under \
         this name, and admin.tls.client_ca there for --admin-certificate"
    )]
    Handshake {
        /// Where.
        server: String,
        /// What TLS said.
        #[source]
        source: io::Error,
    },
    /// The server ended what had begun.
    #[error(
        "{server} ended the connection before it answered: its admin.tls.client_ca does not vouch for --admin-certificate, \
         or that has ended or was revoked; or all its places for administrators are taken"
    )]
    Refused {
        /// Where.
        server: String,
    },
    /// It took too long.
    #[error("{server} did not answer within {} s", CONNECT.as_secs())]
    Late {
        /// Where.
        server: String,
    },
    /// Settings that loading has checked.
    #[error("{server} is no https://HOST:PORT with a certificate of this side")]
    Setting {
        /// Where.
        server: String,
    },
    /// The connection did not become one of the admin API.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Connects to the server of the configuration; `None` if it names none.
///
/// # Errors
/// [`RemoteError`], which says what to do.
pub(crate) async fn connect(config: &RemoteConfig) -> Result<Option<Admin>, RemoteError> {
    let Some(server) = config.server.clone() else { return Ok(None) };
    let setting = || RemoteError::Setting { server: server.clone() };
    let (host, port) = place(&server).ok_or_else(setting)?;
    let own = config.certificate.as_deref().ok_or_else(setting)?;
    let name = ServerName::try_from(host.clone()).map_err(|_| setting())?;
    let connector = TlsConnector::from(Arc::new(client(config, own, &server)?));
    let late = || RemoteError::Late { server: server.clone() };
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect((host.as_str(), port))).await.map_err(|_| late())?;
    let stream = stream.map_err(|source| RemoteError::NoAnswer { server: server.clone(), source })?;
    let stream = tokio::time::timeout(CONNECT, connector.connect(name, stream)).await.map_err(|_| late())?;
    let refused = |source| RemoteError::Handshake { server: server.clone(), source };
    let stream = stream.map_err(refused)?;
    let admin = Admin::over(stream, server.clone()).await?;
    // With TLS 1.3 this side is refused only after its own handshake, so the first answer tells.
    if admin.is_silent().await? { Err(RemoteError::Refused { server }) } else { Ok(Some(admin)) }
}

fn client(config: &RemoteConfig, own: &Path, server: &str) -> Result<ClientConfig, RemoteError> {
    let files = |source| RemoteError::Files { server: server.to_owned(), source };
    let roots: RootCertStore = trusted(config.ca.as_deref()).map_err(files)?;
    let (chain, key) = client_identity(own, config.key.as_deref()).map_err(files)?;
    let unusable = |source| RemoteError::Identity { path: own.to_owned(), source };
    let mut client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(client)
}
