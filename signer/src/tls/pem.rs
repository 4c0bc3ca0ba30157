//! Reading the files: PEM sections, and PKCS#12.

use std::path::Path;

use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::RootCertStore;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};
use zeroize::Zeroizing;

use super::TlsError;
use crate::config::TlsConfig;

/// The sections of a PEM file that matter here.
pub(super) struct Sections {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) keys: Vec<PrivateKeyDer<'static>>,
    pub(super) revocations: Vec<CertificateRevocationListDer<'static>>,
    has_encrypted_key: bool,
}

/// Certificate, those between it and its root, and the private key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// The bytes of a file, wiped when dropped.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let bytes = std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(Zeroizing::new(bytes))
}

impl Sections {
    /// Of a PEM file. Sections of other kinds, and text between them, are left alone.
    pub(super) fn read(path: &Path) -> Result<Self, TlsError> {
        let bytes = read(path)?;
        let encrypted = |text: &[u8]| {
            let lines = || text.split(|byte| *byte == b'\n');
            lines().any(|line| line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY"))
                || lines().any(|line| line.starts_with(b"Proc-Type: 4,ENCRYPTED"))
        };
        let mut sections = Self {
            certificates: Vec::new(),
            keys: Vec::new(),
            revocations: Vec::new(),
            has_encrypted_key: encrypted(&bytes),
        };
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
            let (kind, der) = section.map_err(|source| {
                let path = path.to_owned();
                // The headers of an encrypted key are no base64.
                if sections.has_encrypted_key {
                    TlsError::EncryptedKey { path }
                } else {
                    TlsError::Pem { path, source }
                }
            })?;
            match kind {
                SectionKind::Certificate => sections.certificates.push(der.into()),
                SectionKind::PrivateKey => sections.keys.push(PrivatePkcs8KeyDer::from(der).into()),
                SectionKind::RsaPrivateKey => sections.keys.push(PrivatePkcs1KeyDer::from(der).into()),
                SectionKind::EcPrivateKey => sections.keys.push(PrivateSec1KeyDer::from(der).into()),
                SectionKind::Crl => sections.revocations.push(der.into()),
                _ => {}
            }
        }
        Ok(sections)
    }

    /// The one private key.
    pub(super) fn key(mut self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        let path = path.to_owned();
        match (self.keys.pop(), self.keys.is_empty()) {
            (Some(key), true) => Ok(key),
            (Some(_), false) => Err(TlsError::SeveralKeys { path }),
            (None, _) if self.has_encrypted_key => Err(TlsError::EncryptedKey { path }),
            (None, _) => Err(TlsError::NoKey { path }),
        }
    }
}

/// Certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = Sections::read(path)?.certificates;
    if certificates.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(certificates) }
}

/// Lists of revoked certificates, PEM or DER, at least one.
pub(super) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let none = || TlsError::NoRevocations { path: path.to_owned() };
    let bytes = read(path)?;
    // DER begins with a sequence, which no PEM file does.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.to_vec().into()]);
    }
    let found = Sections::read(path)?.revocations;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// Certificate and key of PEM files. Without `key`, the file of the certificate has the key, too.
pub(super) fn from_pem(certificate: &Path, key: Option<&Path>) -> Result<Identity, TlsError> {
    let sections = Sections::read(certificate)?;
    if sections.certificates.is_empty() {
        return Err(TlsError::NoCertificate { path: certificate.to_owned() });
    }
    let chain = sections.certificates.clone();
    let key = match key {
        Some(path) => Sections::read(path)?.key(path)?,
        None => sections.key(certificate)?,
    };
    Ok(Identity { chain, key })
}

/// What a client trusts: the authorities of a PEM file, or the public ones.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn trusted(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for (index, certificate) in certificates(path)?.into_iter().enumerate() {
        let number = index.saturating_add(1);
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), number, source })?;
    }
    Ok(roots)
}

/// Certificate and key by which a client proves who it is.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn client_identity(
    certificate: &Path,
    key: Option<&Path>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let Identity { chain, key } = from_pem(certificate, key)?;
    Ok((chain, key))
}

/// The certificate that a listener with these settings shows.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn own_certificate(config: &TlsConfig) -> Result<CertificateDer<'static>, TlsError> {
    let (path, chain) = match (&config.certificate, &config.pkcs12, &config.pkcs12_password_file) {
        (Some(path), _, _) => (path, certificates(path)?),
        (None, Some(path), Some(password)) => (path, from_pkcs12(path, password)?.chain),
        (None, _, _) => return Err(TlsError::Setup(rustls::Error::General("no certificate is configured".to_owned()))),
    };
    chain.into_iter().next().ok_or_else(|| TlsError::NoCertificate { path: path.clone() })
}

/// Certificate and key of a PKCS#12 file.
pub(super) fn from_pkcs12(path: &Path, password_file: &Path) -> Result<Identity, TlsError> {
    let (bytes, password) = (read(path)?, read(password_file)?);
    let wrong = || TlsError::Password { path: path.to_owned(), password: password_file.to_owned() };
    let password = std::str::from_utf8(&password).map_err(|_| wrong())?;
    let password = password.strip_suffix('\n').map_or(password, |line| line.strip_suffix('\r').unwrap_or(line));
    let store = KeyStore::from_pkcs12(&bytes, password, Pkcs12ImportPolicy::Strict).map_err(|source| match source {
        p12_keystore::error::Error::MacError(_) => wrong(),
        source => TlsError::Pkcs12 { path: path.to_owned(), source },
    })?;
    let Some((_, chain)) = store.private_key_chain() else { return Err(TlsError::NoKey { path: path.to_owned() }) };
    let certificates: Vec<_> =
        chain.certs().iter().map(|certificate| CertificateDer::from(certificate.as_der().to_vec())).collect();
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(Identity { chain: certificates, key: PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec()).into() })
}
