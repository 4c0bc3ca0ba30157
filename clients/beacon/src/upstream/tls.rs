//! TLS towards upstreams: who is trusted, with which library.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::config::{TlsOptions, TrustRoots};
use crate::error::UpstreamConfigError;

/// A client's configuration for one upstream.
///
/// # Errors
/// [`UpstreamConfigError::Certificates`] if the own authorities cannot be read or there is nobody to trust.
pub(super) fn client_config(options: &TlsOptions) -> Result<ClientConfig, UpstreamConfigError> {
    let mut roots = RootCertStore::empty();
    match options.roots {
        TrustRoots::Mozilla => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        TrustRoots::OwnOnly => {}
    }
    for certificate in CertificateDer::pem_slice_iter(&options.own_ca_pem) {
        let certificate = certificate.map_err(|_| UpstreamConfigError::Certificates)?;
        roots.add(certificate).map_err(|_| UpstreamConfigError::Certificates)?;
    }
    let own = match options.roots {
        TrustRoots::Mozilla => webpki_roots::TLS_SERVER_ROOTS.len(),
        TrustRoots::OwnOnly => 0,
    };
    if roots.is_empty() || (!options.own_ca_pem.is_empty() && roots.len() == own) {
        return Err(UpstreamConfigError::Certificates);
    }
    trusting(roots)
}

/// A configuration that accepts no certificate, for connections that use none.
///
/// # Errors
/// [`UpstreamConfigError::Tls`] if the library cannot be set up.
pub(super) fn nobody() -> Result<ClientConfig, UpstreamConfigError> {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, UpstreamConfigError> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamConfigError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_must_be_trusted() {
        assert!(client_config(&TlsOptions::default()).is_ok());
        let nobody = TlsOptions { roots: TrustRoots::OwnOnly, own_ca_pem: Vec::new() };
        assert!(matches!(client_config(&nobody), Err(UpstreamConfigError::Certificates)));
        let nonsense = TlsOptions { roots: TrustRoots::Mozilla, own_ca_pem: b"not PEM".to_vec() };
        assert!(matches!(client_config(&nonsense), Err(UpstreamConfigError::Certificates)));
    }
}
