//! What a certificate says: names, and when it ends. Whether it is true is checked elsewhere.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::Fingerprint;

/// Why a client's certificate is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voucher {
    /// An authority signed it, and with it all of its names.
    Authority,
    /// It is in the file of known clients, under its common name.
    KnownClient,
    /// A caller lists its fingerprint. Nobody vouches for what it says.
    Fingerprint,
}

/// The certificate of a client, whose key the client has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// SHA-256 of it.
    pub(crate) fingerprint: Fingerprint,
    /// The first common name of its subject.
    pub(crate) common_name: Option<String>,
    /// That, and its alternative names: DNS, e-mail, URI and IP addresses.
    pub(crate) names: Vec<String>,
    /// Why it is accepted.
    pub(crate) voucher: Voucher,
}

impl ClientCertificate {
    /// Reads what it says.
    pub(super) fn read(der: &CertificateDer<'_>, voucher: Voucher) -> Self {
        let fingerprint = Fingerprint::of(der);
        let parsed = X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed);
        let common_name = parsed.as_ref().and_then(common_name);
        let mut names: Vec<String> = common_name.iter().cloned().collect();
        names.extend(parsed.iter().flat_map(alternative_names));
        Self { fingerprint, common_name, names, voucher }
    }
}

/// The dates of a certificate, and the name to show.
pub(super) struct Dates {
    /// Not valid before, in Unix seconds.
    pub(super) from: i64,
    /// Not valid after, in Unix seconds.
    pub(super) to: i64,
    /// Its common name, or its whole subject.
    pub(super) subject: String,
}

impl Dates {
    /// Of a certificate; `None` if it cannot be read.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let validity = parsed.validity();
        let subject = common_name(&parsed).unwrap_or_else(|| parsed.subject().to_string());
        Some(Self { from: validity.not_before.timestamp(), to: validity.not_after.timestamp(), subject })
    }

    /// Whether it is valid at a time in Unix seconds.
    pub(super) fn hold(&self, now: i64) -> bool {
        (self.from..=self.to).contains(&now)
    }
}

/// The first common name of the subject.
pub(super) fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            bytes => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
