//! Servers that are known by the fingerprints of their certificates, as another signer keeps them: vaults often have a
//! certificate of their own making.
//!
//! Guarantees: a certificate is good if an authority vouches for it and the name, or if its SHA-256 stands in the file for
//! this host and port; the handshake's signature is checked in both cases.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use holdfast_enclave::provider::{ServiceError, ServiceFailure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// Bytes of a fingerprint.
const LEN: usize = 32;

/// The fingerprints of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownServers(Vec<[u8; LEN]>);

impl KnownServers {
    /// Reads the file: `host:port fingerprint` lines, the fingerprint in hexadecimal with or without colons.
    ///
    /// # Errors
    /// [`ServiceFailure::Unusable`] if it cannot be read, or a line is of another form.
    pub(super) fn read(path: &Path, address: &str) -> Result<Self, ServiceError> {
        let unusable = |text: String| {
            ServiceError::new(ServiceFailure::Unusable, format!("the known servers in {}: {text}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        Self::parse(&text, address).map_err(|line| unusable(format!("line {line} is not: host:port fingerprint")))
    }

    fn parse(text: &str, address: &str) -> Result<Self, usize> {
        let server = address.split_once("://").map_or(address, |(_, server)| server);
        let mut known = Vec::new();
        for (line, number) in text.lines().zip(1_usize..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, print) = line.split_once(char::is_whitespace).ok_or(number)?;
            let print = fingerprint(print).ok_or(number)?;
            if name.eq_ignore_ascii_case(server) {
                known.push(print);
            }
        }
        Ok(Self(known))
    }

    /// What checks certificates: `usual`, and these fingerprints besides.
    pub(crate) fn verifier(self, usual: Arc<WebPkiServerVerifier>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Known { usual, known: self })
    }

    fn has(&self, certificate: &[u8]) -> bool {
        let print = digest(&SHA256, certificate);
        self.0.iter().any(|known| known.as_slice() == print.as_ref())
    }
}

fn fingerprint(text: &str) -> Option<[u8; LEN]> {
    let digits: Vec<u32> =
        text.trim().chars().filter(|letter| *letter != ':').map(|l| l.to_digit(16)).collect::<Option<_>>()?;
    let bytes = digits.chunks_exact(2).filter_map(|pair| match pair {
        [high, low] => u8::try_from(high.saturating_mul(16).saturating_add(*low)).ok(),
        _ => None,
    });
    let bytes: Vec<u8> = bytes.collect();
    if digits.len() == LEN.saturating_mul(2) { bytes.try_into().ok() } else { None }
}

#[derive(Debug)]
struct Known {
    usual: Arc<WebPkiServerVerifier>,
    known: KnownServers,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.has(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_for_this_server_alone() {
        let (one, other) = ("ab:".repeat(31) + "AB", "CD".repeat(32));
        let text = format!("# known\n\nVault:8200 {one}\nvault:8201 {other}\nvault:8200\t{other}\n");
        let known = KnownServers::parse(&text, "https://vault:8200").unwrap();
        assert_eq!(known.0, [[0xab; LEN], [0xcd; LEN]]);
        assert!(KnownServers::parse(&text, "https://elsewhere:8200").unwrap().0.is_empty());
        for bad in ["x", "vault:8200 abcd", "vault:8200 zz", &format!("vault:8200 {other}00")] {
            assert_eq!(KnownServers::parse(&format!("# c\n{bad}\n"), "https://vault:8200"), Err(2), "{bad}");
        }
        let known = KnownServers(vec![digest(&SHA256, b"certificate").as_ref().try_into().unwrap()]);
        assert!(known.has(b"certificate") && !known.has(b"another"));
    }
}
