//! TLS of whoever asks: what is trusted, and what is shown.
//!
//! Why a certificate may be pinned: a command beside the server reads the same configuration, so it knows the very
//! certificate that the listener shows. That needs no authority and no name, and leaves nothing to configure.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::AskError;
use crate::config::AskConfig;
use crate::tls::{client_identity, trusted};

/// What vouches for a server.
pub(super) enum Trust {
    /// That it has the key of this certificate.
    Its(CertificateDer<'static>),
    /// The authorities of the configuration, or the public ones, for the name that is expected.
    Authorities,
}

/// What connections are made with, and whether a certificate is shown where the server asks for one.
///
/// # Errors
/// [`AskError`] of the files.
pub(super) fn connector(trust: Trust, config: &AskConfig) -> Result<(TlsConnector, bool), AskError> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    // Only a provider without ciphers is refused here.
    let builder = builder.map_err(|error| AskError::Files(crate::tls::TlsError::Setup(error)))?;
    let builder = match trust {
        Trust::Its(certificate) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { certificate, provider }))
        }
        Trust::Authorities => builder.with_root_certificates(trusted(config.ca.as_deref()).map_err(AskError::Files)?),
    };
    let Some(path) = &config.certificate else {
        return Ok((TlsConnector::from(Arc::new(builder.with_no_client_auth())), false));
    };
    let (chain, key) = client_identity(path, config.key.as_deref()).map_err(AskError::Files)?;
    let client = builder.with_client_auth_cert(chain, key);
    let client = client.map_err(|source| AskError::Identity { path: path.clone(), source })?;
    Ok((TlsConnector::from(Arc::new(client)), true))
}

/// Accepts one certificate, whoever signed it and whatever its names.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *own == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
