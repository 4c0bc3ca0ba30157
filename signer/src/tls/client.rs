//! TLS of this process where it is the client: what it trusts, and what it shows.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, Error, InconsistentKeys};

use super::TlsError;
use super::pem::{client_identity, trusted};

/// What connections are made with: `ca` vouches for the server, else the public authorities do; `own` is shown where the
/// server asks for a certificate: its file, and that of its key if it is another.
///
/// # Errors
/// [`TlsError`], which names the file.
pub(crate) fn client_config(ca: Option<&Path>, own: Option<(&Path, Option<&Path>)>) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(trusted(ca)?);
    let Some((certificate, key)) = own else { return Ok(builder.with_no_client_auth()) };
    let (chain, private) = client_identity(certificate, key)?;
    let path = key.unwrap_or(certificate).to_owned();
    builder.with_client_auth_cert(chain, private).map_err(|source| match source {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { certificate: certificate.to_owned(), key: path }
        }
        source => TlsError::Key { path, source },
    })
}
