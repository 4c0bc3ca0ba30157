//! From files to what does handshakes: all of it, or an error that names the file.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::certificate::Dates;
use super::known::KnownClients;
use super::pem::{self, Identity};
use super::verify::{Authorities, ClientVerifier};
use super::{Pins, Protocol, TlsError};
use crate::config::{MinVersion, TlsConfig};
use crate::outcome::chain;

/// What handshakes are done with.
pub(super) struct Loaded {
    /// Of rustls.
    pub(super) server: Arc<ServerConfig>,
    /// Accepts certificates of clients.
    pub(super) clients: Arc<ClientVerifier>,
    /// Name of the certificate.
    pub(super) subject: String,
    /// When it ends, in Unix seconds.
    pub(super) expiry: i64,
    /// When the first authority ends.
    pub(super) authorities_expiry: Option<i64>,
    /// When the first list of revoked certificates is out of date.
    pub(super) revocations_due: Option<i64>,
}

impl Loaded {
    /// Reads all files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn read(
        config: &TlsConfig,
        protocol: Protocol,
        pins: &Arc<dyn Pins>,
        now: UnixTime,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let (certified, dates) = identity(config, &provider)?;
        let (authorities, revocations_due) = match &config.client_ca {
            Some(path) => {
                let (authorities, due) = authorities(path, config.crl.as_deref(), &provider, now)?;
                (Some(authorities), due)
            }
            None => (None, None),
        };
        let known = match &config.known_clients {
            Some(path) => KnownClients::parse(&String::from_utf8_lossy(&pem::read(path)?), path)?,
            None => KnownClients::default(),
        };
        let authorities_expiry = authorities.as_ref().map(|authorities| authorities.first_ends);
        let clients = Arc::new(ClientVerifier::new(
            authorities,
            known,
            Arc::clone(pins),
            config.proves_clients(),
            provider.signature_verification_algorithms,
        ));
        let versions = match config.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12][..],
            MinVersion::Tls13 => &[&TLS13],
        };
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(Arc::clone(&clients) as _)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        server.alpn_protocols = protocol.alpn();
        Ok(Self {
            server: Arc::new(server),
            clients,
            subject: dates.subject,
            expiry: dates.to,
            authorities_expiry,
            revocations_due,
        })
    }
}

/// The server's own certificate and key, which belong together.
fn identity(config: &TlsConfig, provider: &CryptoProvider) -> Result<(CertifiedKey, Dates), TlsError> {
    let (identity, certificate, key) = match (&config.certificate, &config.pkcs12, &config.pkcs12_password_file) {
        (Some(certificate), _, _) => {
            let key = config.key.as_ref();
            (pem::from_pem(certificate, key.map(std::path::PathBuf::as_path))?, certificate, key.unwrap_or(certificate))
        }
        (None, Some(pkcs12), Some(password)) => (pem::from_pkcs12(pkcs12, password)?, pkcs12, pkcs12),
        (None, _, _) => return Err(TlsError::Setup(rustls::Error::General("no certificate is configured".to_owned()))),
    };
    if config.pkcs12.is_none()
        && let Err(open) = holdfast_enclave::durable::check_private_permissions(key)
    {
        tracing::warn!("the private key of TLS can be read by others: {}", chain(&open));
    }
    let Identity { chain: certificates, key: private } = identity;
    let mut first = None;
    for (index, one) in certificates.iter().enumerate() {
        let dates = Dates::of(one);
        let dates =
            dates.ok_or(TlsError::Certificate { path: certificate.clone(), number: index.saturating_add(1) })?;
        first.get_or_insert(dates);
    }
    let dates = first.ok_or(TlsError::NoCertificate { path: certificate.clone() })?;
    let certified = CertifiedKey::from_der(certificates, private, provider).map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { certificate: certificate.clone(), key: key.clone() }
        }
        source => TlsError::Key { path: key.clone(), source },
    })?;
    Ok((certified, dates))
}

/// The authorities of clients, without those that have ended, and when their lists of revoked certificates are due.
fn authorities(
    path: &Path,
    crl: Option<&Path>,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Result<(Authorities, Option<i64>), TlsError> {
    let mut roots = RootCertStore::empty();
    let seconds = now.as_secs().cast_signed();
    let mut ends: Vec<i64> = Vec::new();
    let mut ended: Option<i64> = None;
    for (index, certificate) in pem::certificates(path)?.into_iter().enumerate() {
        let number = index.saturating_add(1);
        let Some(dates) = Dates::of(&certificate) else {
            return Err(TlsError::Certificate { path: path.to_owned(), number });
        };
        if dates.to < seconds {
            tracing::warn!(authority = dates.subject, "an authority for client certificates has ended and is left out");
            ended = ended.max(Some(dates.to));
            continue;
        }
        add(&mut roots, certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), number, source })?;
        ends.push(dates.to);
    }
    let (Some(first_ends), Some(last_ends)) = (ends.iter().min().copied(), ends.iter().max().copied()) else {
        let since = u64::try_from(ended.unwrap_or_default()).unwrap_or_default().saturating_mul(1_000);
        let since = holdfast_domain::UnixMillis(since).rfc3339();
        return Err(TlsError::AuthorityExpired { path: path.to_owned(), since });
    };
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let mut due = None;
    if let Some(crl) = crl {
        let lists = pem::revocations(crl)?;
        for list in &lists {
            let parsed = CertificateRevocationList::from_der(list);
            let (_, parsed) = parsed.map_err(|_| TlsError::NoRevocations { path: crl.to_owned() })?;
            let next = parsed.next_update().map(|time| time.timestamp());
            due = [due, next].into_iter().flatten().min();
        }
        // An authority without a list revokes nothing. A list that is out of date still counts: refusing everybody
        // would stop validators because a file was not fetched; it is logged and measured instead.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    // Whether anybody must show a certificate is decided by what is around this.
    let verifier = builder.allow_unauthenticated().build();
    let verifier = verifier.map_err(|source| TlsError::Verifier { path: path.to_owned(), source })?;
    Ok((Authorities { verifier, first_ends, last_ends }, due))
}

fn add(roots: &mut RootCertStore, certificate: CertificateDer<'static>) -> Result<(), rustls::Error> {
    roots.add(certificate)
}
