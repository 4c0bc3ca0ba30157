//! Which listener of a server is asked, and how, from the configuration that this command and the server share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_secret::SecretText;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::tls::{Trust, connector};
use super::{Answer, AskError, Target, Tls, get};
use crate::config::{Config, TlsConfig, web_place};
use crate::tls::own_certificate;

/// How long one of several addresses may take to answer.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest token, with its name.
const MAX_TOKEN: usize = 4_096;

/// A listener that commands ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The signing API.
    Http,
    /// Metrics, probes and the status page.
    Metrics,
}

impl Listener {
    fn tls(self, config: &Config) -> &TlsConfig {
        match self {
            Self::Http => &config.http.tls,
            Self::Metrics => &config.metrics.tls,
        }
    }
}

/// How listeners of a server are spoken to.
#[derive(Clone)]
pub(crate) struct How {
    host: Option<String>,
    tls: Option<Arc<Tls>>,
    authorization: Option<SecretText>,
}

impl How {
    /// As this configuration says of the listener.
    ///
    /// # Errors
    /// [`AskError`], which names the file or the setting.
    pub(crate) fn of(listener: Listener, config: &Config) -> Result<Self, AskError> {
        let tls = listener.tls(config);
        let name = config.ask.name.as_deref().or_else(|| known_name(config));
        let tls = if tls.is_on() {
            let trust = if config.ask.ca.is_some() {
                Trust::Authorities
            } else {
                Trust::Its(own_certificate(tls).map_err(AskError::Files)?)
            };
            Some(Arc::new(with_tls(trust, name.unwrap_or("localhost"), config)?))
        } else {
            None
        };
        Ok(Self { host: known_name(config).map(str::to_owned), tls, authorization: authorization(config)? })
    }

    /// At this address.
    pub(crate) fn at(&self, address: SocketAddr) -> Target {
        Target {
            address,
            host: self.host.clone(),
            tls: self.tls.as_deref().cloned(),
            authorization: self.authorization.clone(),
        }
    }
}

impl Target {
    /// A listener of the server that has this configuration.
    ///
    /// # Errors
    /// [`AskError`], which names the file or the setting.
    pub(crate) fn of(listener: Listener, address: SocketAddr, config: &Config) -> Result<Self, AskError> {
        Ok(How::of(listener, config)?.at(address))
    }

    /// The metrics listener that `ask.metrics` names; `None` if it names none.
    ///
    /// # Errors
    /// [`AskError`], which says what to do.
    pub(crate) async fn named(config: &Config) -> Result<Option<Self>, AskError> {
        let Some(url) = &config.ask.metrics else { return Ok(None) };
        // Loading has checked it.
        let Some((secure, host, port)) = web_place(url) else { return Ok(None) };
        let unknown = |source| AskError::Lookup { host: format!("{host}:{port}"), source };
        let found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(unknown)?;
        let address = first_that_answers(found).await.ok_or_else(|| unknown(std::io::ErrorKind::NotFound.into()))?;
        let name = config.ask.name.as_deref().unwrap_or(&host);
        let tls = secure.then(|| with_tls(Trust::Authorities, name, config)).transpose()?;
        let bare = host.parse::<std::net::Ipv6Addr>().map_or_else(|_| host.clone(), |ip| format!("[{ip}]"));
        Ok(Some(Self { address, host: Some(bare), tls, authorization: authorization(config)? }))
    }

    /// `GET` of something that only an answer of 200 has.
    ///
    /// # Errors
    /// [`AskError`], also if the answer is another.
    pub(crate) async fn fetch(&self, path: &str) -> Result<String, AskError> {
        let address = self.address();
        match get(self, path).await? {
            Answer { status: 200, body } => Ok(body),
            Answer { status: 401, .. } => Err(AskError::Denied { address }),
            Answer { status, body } => {
                let text = body.trim().chars().take(200).collect();
                Err(AskError::Status { address, status, text })
            }
        }
    }
}

/// Of several addresses the first on which somebody listens; without one, the last.
async fn first_that_answers(addresses: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let mut last = None;
    for address in addresses {
        last = Some(address);
        let connected = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(address)).await;
        if matches!(connected, Ok(Ok(_))) {
            break;
        }
    }
    last
}

/// A name that the server accepts in requests, which should be in its certificate.
fn known_name(config: &Config) -> Option<&str> {
    let mut names = config.http.allowed_hosts.iter();
    names.find(|name| *name != "*" && !name.eq_ignore_ascii_case("all")).map(String::as_str)
}

fn with_tls(trust: Trust, name: &str, config: &Config) -> Result<Tls, AskError> {
    let plain = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(plain).map_err(|_| AskError::Name { name: name.to_owned() })?;
    let (connector, shows) = connector(trust, &config.ask)?;
    Ok(Tls { connector, name, shows })
}

/// The header of the token, if there is one.
fn authorization(config: &Config) -> Result<Option<SecretText>, AskError> {
    let Some(path) = &config.ask.token_file else { return Ok(None) };
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|source| AskError::Token { path: path.clone(), source })?;
    header(text.trim()).map(Some).ok_or_else(|| AskError::NoToken { path: path.clone() })
}

/// `NAME:TOKEN` is Basic, as in an address; a token alone is a bearer's.
fn header(text: &str) -> Option<SecretText> {
    let good = !text.is_empty() && text.len() <= MAX_TOKEN && text.chars().all(|c| c.is_ascii_graphic());
    if !good {
        return None;
    }
    Some(SecretText::new(if text.contains(':') {
        format!("Basic {}", STANDARD.encode(text))
    } else {
        format!("Bearer {text}")
    }))
}

#[cfg(test)]
mod tests {
    //! Proves: which tokens are sent, and how; by which name a server is called.
    use super::*;

    #[test]
    fn tokens_are_bearers_or_belong_to_a_name() {
        let read = |text: &str| header(text).map(|header| header.expose().to_owned());
        assert_eq!(read("abc").as_deref(), Some("Bearer abc"));
        assert_eq!(read("vc-1:abc").as_deref(), Some("Basic dmMtMTphYmM="));
        for bad in ["", "a b", "a\r\nX: y", "a\u{e9}", &"a".repeat(MAX_TOKEN + 1)] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_server_is_called_by_a_name_that_it_accepts() {
        let mut config = Config::default();
        assert_eq!(known_name(&config), Some("localhost"));
        config.http.allowed_hosts = vec!["*".to_owned(), "signer.example".to_owned()];
        assert_eq!(known_name(&config), Some("signer.example"));
        config.http.allowed_hosts = vec!["ALL".to_owned()];
        assert_eq!(known_name(&config), None);
    }
}
