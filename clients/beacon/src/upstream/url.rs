//! The address of an upstream: `http[s]://[user[:password]@]host[:port][/prefix]`.
//!
//! What it guarantees: user and password are taken out when it is parsed, so whatever shows the address
//! cannot show them.

use std::fmt;
use std::str::FromStr;

use holdfast_secret::{SecretText, SecretUrl};
use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};

use super::config::Auth;
use crate::error::UpstreamConfigError;

/// Whether the exchange is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `http`.
    Plain,
    /// `https`.
    Tls,
}

/// A parsed address. `Display` and `Debug` show it without user and password, and without long parts of its path.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    transport: Transport,
    authority: Authority,
    /// What stands before every path, without a slash at its end.
    prefix: String,
    auth: Option<Auth>,
}

impl UpstreamUrl {
    /// Encrypted or not.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Host name or address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Port, 80 or 443 unless given.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(match self.transport {
            Transport::Plain => 80,
            Transport::Tls => 443,
        })
    }

    /// `host:port`, IPv6 in brackets.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.authority.host(), self.port())
    }

    /// Whether it is the same but for user and password.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        (self.transport, &self.authority, &self.prefix) == (other.transport, &other.authority, &other.prefix)
    }

    /// User and password that stood in the address.
    pub(crate) fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    /// The whole address of a path; `None` if both together are not one. The path `/` is the address itself:
    /// JSON-RPC has no paths, and `/key/` is not what `/key` is.
    pub(crate) fn with_path(&self, path: &PathAndQuery) -> Option<Uri> {
        let path = match (self.prefix.as_str(), path.as_str()) {
            ("", _) => path.clone(),
            (prefix, "/") => PathAndQuery::try_from(prefix).ok()?,
            (prefix, path) => PathAndQuery::try_from(format!("{prefix}{path}")).ok()?,
        };
        let scheme = match self.transport {
            Transport::Plain => Scheme::HTTP,
            Transport::Tls => Scheme::HTTPS,
        };
        Uri::builder().scheme(scheme).authority(self.authority.clone()).path_and_query(path).build().ok()
    }
}

impl FromStr for UpstreamUrl {
    type Err = UpstreamConfigError;

    fn from_str(text: &str) -> Result<Self, UpstreamConfigError> {
        let uri: Uri = text.trim().parse().map_err(|_| UpstreamConfigError::Address)?;
        let transport = match uri.scheme_str() {
            Some("http") => Transport::Plain,
            Some("https") => Transport::Tls,
            _ => return Err(UpstreamConfigError::Address),
        };
        if uri.query().is_some() {
            return Err(UpstreamConfigError::Address);
        }
        let (authority, auth) = without_credentials(uri.authority().ok_or(UpstreamConfigError::Address)?)?;
        Ok(Self { transport, authority, prefix: uri.path().trim_end_matches('/').to_owned(), auth })
    }
}

/// Splits `[user[:password]@]host[:port]`.
///
/// # Errors
/// [`UpstreamConfigError::Address`] if either half is none.
pub(crate) fn without_credentials(authority: &Authority) -> Result<(Authority, Option<Auth>), UpstreamConfigError> {
    let (user, host) = match authority.as_str().rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority.as_str()),
    };
    let authority: Authority = host.parse().map_err(|_| UpstreamConfigError::Address)?;
    if authority.host().is_empty() || (host.contains(':') && !host.ends_with(']') && authority.port_u16().is_none()) {
        return Err(UpstreamConfigError::Address);
    }
    Ok((authority, user.map(credentials).transpose()?))
}

fn credentials(text: &str) -> Result<Auth, UpstreamConfigError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text| percent_decoded(text).ok_or(UpstreamConfigError::Address);
    Ok(Auth::Basic { user: decode(user)?, password: SecretText::new(decode(password)?) })
}

/// `%41` is `A`; `None` if it is not UTF-8 or a sequence is incomplete.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let pair = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Plain => "http",
            Transport::Tls => "https",
        };
        // Hosted nodes have the account's key in the path.
        SecretUrl::new(format!("{scheme}://{}{}", self.authority, self.prefix)).fmt(f)
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_whole() {
        let url: UpstreamUrl = "https://u:p%40%2f@node.example/base/".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.transport()), ("node.example", 443, Transport::Tls));
        assert_eq!(url.to_string(), "https://node.example/base");
        let Some(Auth::Basic { user, password }) = url.auth() else { panic!("credentials are kept") };
        assert_eq!((user.as_str(), password.expose()), ("u", "p@/"));
        let uri = url.with_path(&PathAndQuery::from_static("/eth/v1/node/syncing?x=1")).unwrap();
        assert_eq!(uri.to_string(), "https://node.example/base/eth/v1/node/syncing?x=1");
        let root = PathAndQuery::from_static("/");
        assert_eq!(url.with_path(&root).unwrap().to_string(), "https://node.example/base");
        let url: UpstreamUrl = "http://[::1]:5052".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.host_and_port()), ("::1", 5052, "[::1]:5052".to_owned()));
        let url: UpstreamUrl = "https://node.example/v3/0123456789abcdef0123".parse().unwrap();
        assert_eq!(url.to_string(), "https://node.example/v3/***");
        let url: UpstreamUrl = "http://node".parse().unwrap();
        assert_eq!((url.port(), url.with_path(&root).unwrap().to_string().as_str()), (80, "http://node/"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "node:5052",
            "http://",
            "ftp://node",
            "http://node:port",
            "http://node:99999",
            "http://n?q=1",
            "http://u:%zz@n",
        ] {
            assert!(text.parse::<UpstreamUrl>().is_err(), "{text:?}");
        }
    }
}
