//! What can be wrong with the files of TLS, each message naming the file and what to do, and what the other side says
//! where it wants nothing of this one.

use std::path::PathBuf;

use rustls::{AlertDescription, Error};

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A section of a PEM file is damaged.
    #[error("{} is damaged: a PEM section in it cannot be read", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// No certificate.
    #[error("{} has no certificate: it must have a section that begins with -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// No private key.
    #[error("{} has no private key: it must have a PEM section named PRIVATE KEY; name the file that has it with key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// More than one.
    #[error("{} has several private keys; leave the one of the certificate", path.display())]
    SeveralKeys {
        /// The file.
        path: PathBuf,
    },
    /// It has a password.
    #[error(
        "the private key in {} is encrypted; decrypt it (openssl pkey -in FILE -out KEY), or use pkcs12 with \
         pkcs12_password_file", path.display()
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// It is of a kind that TLS does not use, or damaged.
    #[error("the private key in {} cannot be used: it must be RSA, ECDSA (P-256, P-384, P-521) or Ed25519", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The key is of another certificate.
    #[error(
        "the private key in {} does not belong to the first certificate in {}; the server's own certificate comes \
         first, then those of the authorities", key.display(), certificate.display()
    )]
    Mismatch {
        /// File of the certificate.
        certificate: PathBuf,
        /// File of the key.
        key: PathBuf,
    },
    /// A certificate is none.
    #[error("certificate {number} in {} cannot be read: it is damaged, or no X.509", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
    },
    /// The password is wrong.
    #[error("the password in {} does not open {}", password.display(), path.display())]
    Password {
        /// The PKCS#12 file.
        path: PathBuf,
        /// The password's.
        password: PathBuf,
    },
    /// The PKCS#12 file is damaged, or of a kind that is not read.
    #[error("{} cannot be used as PKCS#12; make a new one with openssl pkcs12 -export", path.display())]
    Pkcs12 {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: p12_keystore::error::Error,
    },
    /// All authorities have ended.
    #[error("the authority in {} ended on {since}: no client certificate of it is valid; replace it", path.display())]
    AuthorityExpired {
        /// The file.
        path: PathBuf,
        /// When.
        since: String,
    },
    /// An authority is none.
    #[error("certificate {number} in {} cannot be used as an authority for client certificates", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// No list of revoked certificates.
    #[error("{} has no list of revoked certificates (-----BEGIN X509 CRL-----), neither as PEM nor as DER", path.display())]
    NoRevocations {
        /// The file.
        path: PathBuf,
    },
    /// What is made of authorities and lists cannot be used.
    #[error(
        "client certificates cannot be checked with {} and crl; a list of revoked certificates must be of version 2, with \
         a number and the authority's key identifier (docs/tls.md)", path.display()
    )]
    Verifier {
        /// The file of the authorities.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    /// A line of the known clients is wrong.
    #[error("{}:{line}: expected a common name and the SHA-256 fingerprint of a certificate, found {found:?}", path.display())]
    KnownClient {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The beginning of what stands there.
        found: String,
    },
    /// The library does not want it.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Whether the other side turned this one away: it wants a client certificate, or another one.
pub(crate) const fn turned_away(error: &Error) -> bool {
    matches!(
        error,
        Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::HandshakeFailure
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied,
        )
    )
}
