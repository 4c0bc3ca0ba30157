//! TLS to witnesses: what it can fail by, in words that name the setting.
//!
//! The files are read for each round of requests, once an epoch or, without a lease, once a slot: what was renewed counts
//! without a restart.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{WitnessConfig, WitnessServer};
use crate::tls::{TlsError, client_config, turned_away};

/// What connections to witnesses are made with; `None` if none of them is https.
///
/// # Errors
/// [`TlsError`], which names the file.
pub(crate) fn of_witnesses(config: &WitnessConfig) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    if !config.servers.iter().any(|server| server.secure) {
        return Ok(None);
    }
    let own = config.certificate.as_deref().map(|certificate| (certificate, config.key.as_deref()));
    client_config(config.ca.as_deref(), own).map(|client| Some(Arc::new(client)))
}

/// Does the handshake.
pub(super) async fn connect(
    server: &WitnessServer,
    client: Arc<ClientConfig>,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let host = server.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(client).connect(name, stream).await
}

/// What went wrong on a connection with TLS. `shows`: whether this side has a certificate to show.
pub(super) fn problem(error: &io::Error, shows: bool) -> String {
    let unwanted = || {
        let text = if shows {
            "it does not accept witness.certificate: its witness.tls does not vouch for it, or it has ended or was revoked"
        } else {
            "it asks for a client certificate: set witness.certificate and witness.key"
        };
        text.to_owned()
    };
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            // It may have gone before what it said was read.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => unwanted(),
            _ => error.to_string(),
        };
    };
    match inner {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "nobody that is trusted vouches for its certificate: name the authority in witness.ca".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name than its host in witness.servers".to_owned(),
        error if turned_away(error) => unwanted(),
        Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; write http:// in witness.servers".to_owned()
        }
        _ => error.to_string(),
    }
}
