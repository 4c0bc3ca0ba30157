//! `[ask]`: how commands on a server's machine ask its listeners.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[ask]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AskConfig {
    /// Metrics listener that `holdfast top` asks, also one of another machine: https://HOST:PORT, or http:// on this one. Default: that of the server on this data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<String>,
    /// PEM file with the authorities that vouch for the server's certificate. Default: on this machine exactly the certificate that is configured for the listener, for ask.metrics the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Name that must stand in the server's certificate, where ca is set. Default: the first name in http.allowed_hosts, or the host of ask.metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// PEM file with the client certificate that is shown where a listener asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with its private key. Default: the file of the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
    /// File with the token of a caller, where the server asks who comes: a bearer token, or NAME:TOKEN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

impl AskConfig {
    /// Checks what no single field can.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        if self.key.is_some() && self.certificate.is_none() {
            return wrong("ask.key", "is set without ask.certificate");
        }
        let Some(metrics) = &self.metrics else { return Ok(()) };
        let Some((secure, host, _)) = web_place(metrics) else {
            return wrong("ask.metrics", "is neither https://HOST:PORT nor http://HOST:PORT");
        };
        if secure {
            return Ok(());
        }
        let local = host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if self.token_file.is_some() && !local {
            return wrong(
                "ask.metrics",
                "is http:// on another machine: the token of ask.token_file is sent over https:// only",
            );
        }
        if self.ca.is_some() || self.certificate.is_some() {
            return wrong("ask.metrics", "is http://, where ask.ca and ask.certificate are of no use; write https://");
        }
        Ok(())
    }
}

/// Whether a URL without a path is https, its host, and its port, which is 9001 if it is left out; `None` if it is none.
pub(crate) fn web_place(url: &str) -> Option<(bool, String, u16)> {
    place_with(url, 9_001)
}

/// The same with another port where none is given.
pub(super) fn place_with(url: &str, default_port: u16) -> Option<(bool, String, u16)> {
    let uri: hyper::Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    let secure = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let plain = uri.path() == "/" && uri.query().is_none() && !url.contains('#');
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    // A port that is no number is none to the library.
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => default_port,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    plain.then_some((secure, host, port))
}

#[cfg(test)]
mod tests {
    //! Proves: which addresses are taken, and that no token goes out in the clear.
    use super::*;

    #[test]
    fn places() {
        let found = |url| web_place(url).map(|(secure, host, port)| format!("{secure} {host} {port}"));
        assert_eq!(found("https://signer.example").as_deref(), Some("true signer.example 9001"));
        assert_eq!(found("http://[::1]:7/").as_deref(), Some("false ::1 7"));
        for bad in ["ftp://a:1", "a:1", "https://a:1/x", "https://u:p@a:1", "https://a:x", "https://a:1?x", ""] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_go_out_over_tls_or_stay_here() {
        let file = || Some(PathBuf::from("f"));
        let with =
            |metrics: &str| AskConfig { metrics: Some(metrics.to_owned()), token_file: file(), ..AskConfig::default() };
        for good in ["https://signer.example", "http://127.0.0.1:9001", "http://localhost:9001", "http://[::1]:9001"] {
            assert!(with(good).check().is_ok(), "{good}");
        }
        assert!(AskConfig { token_file: file(), ..AskConfig::default() }.check().is_ok());
        for (bad, part) in [
            (with("http://signer.example:9001"), "over https:// only"),
            (with("http://10.0.0.7:9001"), "over https:// only"),
            (with("signer.example"), "neither https"),
            (AskConfig { key: file(), ..AskConfig::default() }, "without ask.certificate"),
            (AskConfig { ca: file(), token_file: None, ..with("http://localhost") }, "of no use"),
        ] {
            let problem = bad.check().unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        }
    }
}
