//! Which certificates of clients are accepted, and why.
//!
//! Three roads lead in: an authority signed it; it stands in the file of known clients; a caller lists its fingerprint.
//! A certificate that an authority has revoked comes in on none of them. The key is proved in every handshake.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::certificate::{Dates, common_name};
use super::known::KnownClients;
use super::{Pins, Voucher};
use crate::config::Fingerprint;

/// Those who sign certificates of clients.
#[derive(Debug)]
pub(super) struct Authorities {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// When the first of them ends, in Unix seconds.
    pub(super) first_ends: i64,
    /// And the last.
    pub(super) last_ends: i64,
}

/// Judges certificates of clients.
pub(super) struct ClientVerifier {
    authorities: Option<Authorities>,
    known: KnownClients,
    pins: Arc<dyn Pins>,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").field("mandatory", &self.mandatory).finish_non_exhaustive()
    }
}

impl ClientVerifier {
    pub(super) fn new(
        authorities: Option<Authorities>,
        known: KnownClients,
        pins: Arc<dyn Pins>,
        mandatory: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { authorities, known, pins, mandatory, algorithms }
    }

    /// Why a certificate is accepted at this time.
    ///
    /// # Errors
    /// Why it is not, as rustls says it.
    pub(super) fn voucher(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Voucher, Error> {
        let refused = match self.by_authority(own, between, now) {
            Ok(()) => return Ok(Voucher::Authority),
            Err(error @ Error::InvalidCertificate(CertificateError::Revoked)) => return Err(error),
            Err(error) => error,
        };
        let fingerprint = Fingerprint::of(own);
        let voucher = if self.known.has(name_of(own).as_deref(), fingerprint) {
            Voucher::KnownClient
        } else if self.pins.is_pinned(&fingerprint) {
            Voucher::Fingerprint
        } else {
            return Err(refused);
        };
        let dates = Dates::of(own).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if dates.hold(now.as_secs().cast_signed()) {
            Ok(voucher)
        } else {
            Err(Error::InvalidCertificate(CertificateError::Expired))
        }
    }

    fn by_authority(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let Some(authorities) = &self.authorities else { return Err(unknown) };
        // The library takes authorities for what they are, without looking at their dates.
        if authorities.last_ends < now.as_secs().cast_signed() {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        authorities.verifier.verify_client_cert(own, between, now).map(|_| ())
    }
}

fn name_of(certificate: &CertificateDer<'_>) -> Option<String> {
    X509Certificate::from_der(certificate).ok().and_then(|(_, parsed)| common_name(&parsed))
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.authorities.is_some() || !self.known.is_empty() || self.mandatory || self.pins.any()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: clients then show what they have, whoever signed it, and known clients need nobody's signature.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.voucher(own, between, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
