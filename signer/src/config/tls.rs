//! `[http.tls]`, `[metrics.tls]`, `[switcher.tls]`, `[execution.tls]`, `[admin.tls]` and `[witness.tls]`: TLS of a
//! listener (ADR 0025).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, HttpConfig, check_callers};

/// Whether a client must show a certificate while it connects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuth {
    /// Without one there is no connection.
    #[default]
    Required,
    /// It may prove its name in another way.
    Optional,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum MinVersion {
    /// TLS 1.2 (RFC 5246) with forward secrecy and authenticated encryption only.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

/// TLS of a listener. Off while neither certificate nor pkcs12 is set. The files are read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// PEM file with this server's certificate and, after it, those of the authorities between it and the root. Setting it switches TLS on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with its private key: PKCS#8, SEC1 or PKCS#1, not encrypted, readable by this user alone. Default: the file of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// PKCS#12 file with certificate and key, as Web3Signer takes it, instead of the two above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pkcs12: Option<PathBuf>,
    /// File that holds the password of the PKCS#12 file; one trailing line break is not part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pkcs12_password_file: Option<PathBuf>,
    /// PEM file with the authorities whose client certificates are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<PathBuf>,
    /// File of clients that are accepted whoever signed their certificates, in Web3Signer's form: a line for each, with its common name and the SHA-256 fingerprint of its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) known_clients: Option<PathBuf>,
    /// File with lists of revoked client certificates (CRL), PEM or DER, of the authorities in client_ca.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crl: Option<PathBuf>,
    /// Whether clients must show a certificate, where client_ca or known_clients is set: "required", or "optional" for clients that prove their name with a token.
    pub(crate) client_auth: ClientAuth,
    /// The oldest version of TLS that is spoken: "1.2" or "1.3".
    pub(crate) min_version: MinVersion,
}

impl TlsConfig {
    /// Whether TLS is switched on.
    pub(crate) fn is_on(&self) -> bool {
        self.certificate.is_some() || self.pkcs12.is_some()
    }

    /// Whether certificates of clients are accepted by what is configured here.
    pub(crate) fn trusts_clients(&self) -> bool {
        self.is_on() && (self.client_ca.is_some() || self.known_clients.is_some())
    }

    /// Whether nobody connects without a certificate.
    pub(crate) fn proves_clients(&self) -> bool {
        self.trusts_clients() && self.client_auth == ClientAuth::Required
    }

    /// Checks what no single field can. `key` names the section in messages.
    pub(super) fn check(&self, key: &'static str) -> Result<(), ConfigError> {
        let wrong = |problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        if !self.is_on() && *self != Self::default() {
            return wrong("has settings but no certificate; set certificate (and key), or pkcs12");
        }
        if self.pkcs12.is_some() && (self.certificate.is_some() || self.key.is_some()) {
            return wrong("has both pkcs12 and certificate or key; leave one of them out");
        }
        if self.pkcs12_password_file.is_some() && self.pkcs12.is_none() {
            return wrong("has pkcs12_password_file without pkcs12");
        }
        if self.pkcs12.is_some() && self.pkcs12_password_file.is_none() {
            return wrong("has pkcs12 without pkcs12_password_file; name the file that holds its password");
        }
        if self.crl.is_some() && self.client_ca.is_none() {
            return wrong(
                "has crl without client_ca: a list of revoked certificates counts for the authority that signed it",
            );
        }
        Ok(())
    }
}

impl Config {
    /// Checks who gets in where: no listener is open to other machines without proof of who asks.
    pub(super) fn check_doors(&self) -> Result<(), ConfigError> {
        check_callers(self.callers.iter()).map_err(|problem| ConfigError::Setting { key: "callers", problem })?;
        self.http.tls.check("http.tls")?;
        self.metrics.tls.check("metrics.tls")?;
        self.switcher.tls.check("switcher.tls")?;
        self.execution.tls.check("execution.tls")?;
        let doors = [
            (
                "switcher.listen",
                self.switcher.enabled,
                self.switcher.listen,
                self.switcher.allow_unauthenticated || self.switcher.tls.proves_clients(),
            ),
            (
                "execution.listen",
                self.execution.enabled,
                self.execution.listen,
                self.execution.allow_unauthenticated || self.execution.tls.proves_clients(),
            ),
        ];
        for (key, enabled, address, guarded) in doors {
            if enabled && !guarded && !address.ip().is_loopback() {
                return Err(ConfigError::NotLoopback { key, address });
            }
        }
        Ok(())
    }

    /// Checks that the signing API asks who comes, if other machines can reach it. Not part of reading the
    /// configuration, as commands must work that make the first caller. `callers` says whether there is one.
    ///
    /// # Errors
    /// [`ConfigError::NotLoopback`].
    pub(crate) fn check_signing_api(&self, callers: bool) -> Result<(), ConfigError> {
        let HttpConfig { listen: address, allow_unauthenticated, tls, .. } = &self.http;
        let guarded = callers || *allow_unauthenticated || tls.trusts_clients() || address.ip().is_loopback();
        if guarded { Ok(()) } else { Err(ConfigError::NotLoopback { key: "http.listen", address: *address }) }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: which combinations are refused.
    use super::*;

    #[test]
    fn combinations() {
        let file = || Some(PathBuf::from("f"));
        let good = [
            TlsConfig::default(),
            TlsConfig { certificate: file(), ..TlsConfig::default() },
            TlsConfig { pkcs12: file(), pkcs12_password_file: file(), known_clients: file(), ..TlsConfig::default() },
            TlsConfig { certificate: file(), key: file(), client_ca: file(), crl: file(), ..TlsConfig::default() },
        ];
        for config in good {
            assert!(config.check("http.tls").is_ok(), "{config:?}");
        }
        let bad = [
            TlsConfig { key: file(), ..TlsConfig::default() },
            TlsConfig { client_ca: file(), ..TlsConfig::default() },
            TlsConfig { min_version: MinVersion::Tls13, ..TlsConfig::default() },
            TlsConfig { pkcs12: file(), ..TlsConfig::default() },
            TlsConfig { pkcs12: file(), pkcs12_password_file: file(), key: file(), ..TlsConfig::default() },
            TlsConfig { certificate: file(), pkcs12_password_file: file(), ..TlsConfig::default() },
            TlsConfig { certificate: file(), crl: file(), ..TlsConfig::default() },
        ];
        for config in bad {
            assert!(config.check("http.tls").unwrap_err().to_string().starts_with("http.tls has"), "{config:?}");
        }
    }
}
