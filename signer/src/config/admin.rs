//! `[admin]` and `[remote]`: the admin API over TCP, and how commands reach it there.

use std::net::SocketAddr;
use std::path::PathBuf;

use holdfast_access::CallerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ask::place_with;
use super::{ConfigError, TlsConfig};

/// `[admin]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminConfig {
    /// Address and port of the admin API over TCP (gRPC), besides the Unix socket in the data directory, which is always served. It needs admin.tls with client_ca or known_clients, and administrators.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<SocketAddr>,
    /// Who may administer over TCP: names of callers, or common names of certificates. Rules of the policy count for them as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) administrators: Vec<String>,
    /// TLS of the admin API over TCP. Certificates of clients are required there.
    pub(crate) tls: TlsConfig,
}

impl AdminConfig {
    /// Checks what no single field can.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.tls.check("admin.tls")?;
        let wrong = |key, problem: String| Err(ConfigError::Setting { key, problem });
        if self.listen.is_none() {
            if self.tls.is_on() || !self.administrators.is_empty() {
                return wrong("admin", "has settings but no listen; set listen = \"HOST:9002\"".to_owned());
            }
            return Ok(());
        }
        if !self.tls.proves_clients() {
            let problem = "needs certificates on both sides: set certificate, key and client_ca (or known_clients), and leave \
                           client_auth at \"required\"";
            return wrong("admin.tls", problem.to_owned());
        }
        if self.administrators.is_empty() {
            let problem = "names nobody: list the callers, or the common names of certificates, that may administer";
            return wrong("admin.administrators", problem.to_owned());
        }
        match self.administrators.iter().find(|name| CallerName::new(name).is_err()) {
            Some(name) => wrong("admin.administrators", format!("has {name:?}, which can be no caller's name")),
            None => Ok(()),
        }
    }
}

/// `[remote]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RemoteConfig {
    /// Admin API that commands work through instead of this machine's data directory: https://HOST:PORT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// PEM file with the authorities that vouch for that server. Default: the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file with the certificate by which commands prove who you are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with its private key. Default: the file of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl RemoteConfig {
    /// Checks what no single field can.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        let Some(server) = &self.server else {
            return if *self == Self::default() {
                Ok(())
            } else {
                wrong(
                    "remote",
                    "has settings but no server; set server = \"https://HOST:PORT\", or give --admin-server",
                )
            };
        };
        if place(server).is_none() {
            return wrong("remote.server", "is not https://HOST:PORT");
        }
        if self.certificate.is_none() {
            return wrong(
                "remote.certificate",
                "is missing: the admin API over TCP takes nobody without a certificate; set it, or give --admin-certificate",
            );
        }
        Ok(())
    }
}

/// Host and port of `https://HOST:PORT`; the port is 9002 if it is left out.
pub(crate) fn place(server: &str) -> Option<(String, u16)> {
    let (secure, host, port) = place_with(server, 9_002)?;
    secure.then_some((host, port))
}

#[cfg(test)]
mod tests {
    //! Proves: what is half configured is refused by name.
    use super::*;

    #[test]
    fn places() {
        let found = |server| place(server).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(found("https://signer.example:9002").as_deref(), Some("signer.example 9002"));
        assert_eq!(found("https://[::1]/").as_deref(), Some("::1 9002"));
        for bad in ["http://a:1", "a:1", "https://a:1/x", "https://u@a:1", "https://u:p@a:1", "https://a:1?x", ""] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_sides_need_certificates() {
        let certificate = Some(PathBuf::from("c"));
        let listen = Some(SocketAddr::from(([127, 0, 0, 1], 9002)));
        let tls =
            TlsConfig { certificate: certificate.clone(), client_ca: certificate.clone(), ..TlsConfig::default() };
        let administrators = vec!["alice".to_owned()];
        let good = AdminConfig { listen, administrators, tls };
        good.check().unwrap();
        let optional = TlsConfig { client_auth: crate::config::tls::ClientAuth::Optional, ..good.tls.clone() };
        for (bad, part) in [
            (AdminConfig { listen: None, ..good.clone() }, "no listen"),
            (AdminConfig { tls: TlsConfig::default(), ..good.clone() }, "both sides"),
            (AdminConfig { tls: optional, ..good.clone() }, "both sides"),
            (AdminConfig { administrators: Vec::new(), ..good.clone() }, "names nobody"),
            (AdminConfig { administrators: vec!["a b".to_owned()], ..good.clone() }, "no caller's name"),
        ] {
            assert!(bad.check().unwrap_err().to_string().contains(part), "{part}");
        }
        let server = Some("https://a:1".to_owned());
        RemoteConfig { server: server.clone(), certificate: certificate.clone(), ..RemoteConfig::default() }
            .check()
            .unwrap();
        for bad in [
            RemoteConfig { server, ..RemoteConfig::default() },
            RemoteConfig { certificate: certificate.clone(), ..RemoteConfig::default() },
            RemoteConfig { server: Some("a:1".to_owned()), certificate, ..RemoteConfig::default() },
        ] {
            bad.check().unwrap_err();
        }
    }
}
