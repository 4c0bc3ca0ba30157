//! The address of a node's WebSocket API: `ws[s]://[user[:password]@]host[:port][/path][?query]`.
//!
//! What it guarantees: neither `Debug` nor `Display` shows user, password or query, which may be secrets.

use std::fmt;
use std::str::FromStr;

use holdfast_secret::SecretUrl;
use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery};

use crate::upstream::{Auth, Transport, without_credentials};

/// Address of a WebSocket API.
#[derive(Clone, PartialEq, Eq)]
pub struct WebSocketUrl {
    transport: Transport,
    authority: Authority,
    path: PathAndQuery,
    auth: Option<Auth>,
}

/// An address that is none of a WebSocket API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address of a WebSocket API; write it like ws://127.0.0.1:8546 or wss://user:password@host/path")]
pub struct BadWebSocketUrl;

impl WebSocketUrl {
    /// Encrypted or not.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Host name or address, IPv6 without brackets.
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Port, 80 or 443 unless given.
    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(match self.transport {
            Transport::Plain => 80,
            Transport::Tls => 443,
        })
    }

    /// User and password that stood in the address.
    pub(super) fn auth(&self) -> Option<&Auth> {
        self.auth.as_ref()
    }

    /// The whole address without user and password, for a handshake.
    pub(super) fn for_handshake(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.path)
    }

    const fn scheme(&self) -> &'static str {
        match self.transport {
            Transport::Plain => "ws",
            Transport::Tls => "wss",
        }
    }
}

impl FromStr for WebSocketUrl {
    type Err = BadWebSocketUrl;

    fn from_str(text: &str) -> Result<Self, BadWebSocketUrl> {
        let uri: Uri = text.trim().parse().map_err(|_| BadWebSocketUrl)?;
        let transport = match uri.scheme_str() {
            Some("ws") => Transport::Plain,
            Some("wss") => Transport::Tls,
            _ => return Err(BadWebSocketUrl),
        };
        let authority = uri.authority().ok_or(BadWebSocketUrl)?;
        let (authority, auth) = without_credentials(authority).map_err(|_| BadWebSocketUrl)?;
        let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        Ok(Self { transport, authority, path, auth })
    }
}

impl fmt::Display for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SecretUrl::new(format!("{}://{}{}", self.scheme(), self.authority, self.path.path())).fmt(f)
    }
}

impl fmt::Debug for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_whole_and_shown_without_secrets() {
        let url: WebSocketUrl = "ws://node:8546/x?key=planted".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.transport()), ("node", 8546, Transport::Plain));
        assert_eq!(url.for_handshake(), "ws://node:8546/x?key=planted");
        let url: WebSocketUrl = "wss://u:planted@[::1]/x?key=planted".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.transport()), ("::1", 443, Transport::Tls));
        assert_eq!(url.for_handshake(), "wss://[::1]/x?key=planted");
        assert!(matches!(url.auth(), Some(Auth::Basic { user, .. }) if user == "u"));
        assert_eq!(format!("{url} {url:?}"), "wss://[::1]/x wss://[::1]/x");
        assert_eq!("ws://node".parse::<WebSocketUrl>().unwrap().for_handshake(), "ws://node/");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["http://node", "node:8546", "ws://", "wss://node:port", "wss://node:99999", "ws://u:%zz@n", ""] {
            assert!(text.parse::<WebSocketUrl>().is_err(), "{text:?}");
        }
    }
}
