//! Who a request says it is for. A web page can make a browser send requests to 127.0.0.1; it
//! cannot choose the `Host` header (a rebound DNS name shows there) nor leave out `Origin`.
//! Checking both keeps pages out. It is no substitute for authentication: any local program
//! can send any header.

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::uri::Uri;

use super::error::ApiError;

/// What a machine calls itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Names accepted in the `Host` header.
#[derive(Debug, Clone)]
pub(crate) enum HostPolicy {
    /// Any name, or none.
    Any,
    /// These names, lower case, without port.
    Only(Vec<Box<str>>),
}

impl HostPolicy {
    /// From the configured list: `*` or `all` accepts any name.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut accepted: Vec<Box<str>> = Vec::new();
        for name in names {
            if name == "*" || name.eq_ignore_ascii_case("all") {
                return Self::Any;
            }
            accepted.push(host_part(name).to_ascii_lowercase().into_boxed_str());
        }
        Self::Only(accepted)
    }

    /// The same, and this machine by its own names: a listener on loopback has no others, whatever clients call the API.
    pub(crate) fn with_loopback(self) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Only(mut names) => {
                names.extend(LOOPBACK.map(Into::into));
                Self::Only(names)
            }
        }
    }

    /// Checks one request's target and headers.
    ///
    /// # Errors
    /// [`ApiError::CrossOrigin`] for a browser's cross-origin request, [`ApiError::HostNotAllowed`] otherwise.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        if headers.contains_key(ORIGIN) {
            return Err(ApiError::CrossOrigin);
        }
        let Self::Only(names) = self else { return Ok(()) };
        // A request in absolute form names its host in the target, and that one counts (RFC 9112 §3.2.2).
        let named = match uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => headers.get(HOST).and_then(|value| value.to_str().ok()),
        };
        let host = named.map(host_part).unwrap_or_default();
        if !host.is_empty() && names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        Err(ApiError::HostNotAllowed { host: host.chars().take(255).collect() })
    }
}

/// `host:port` without the port; brackets of an IPv6 address are dropped too.
fn host_part(authority: &str) -> &str {
    if let Some((address, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match authority.split_once(':') {
        // More than one colon: a bare IPv6 address.
        Some((_, rest)) if rest.contains(':') => authority,
        Some((host, _)) => host,
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    //! Proves: which Host headers pass, and that a browser's Origin never does.
    use super::*;

    fn ask(policy: &HostPolicy, target: &str, headers: &[(&'static str, &str)]) -> Result<(), ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        policy.check(&target.parse().expect("a target"), &map)
    }

    #[test]
    fn the_default_list() {
        let policy = HostPolicy::new(["localhost", "127.0.0.1", "[::1]"]);
        for good in ["localhost", "LOCALHOST:9000", "127.0.0.1:9000", "[::1]:9000", "[::1]", "::1"] {
            assert!(ask(&policy, "/upcheck", &[("host", good)]).is_ok(), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example:9000", "127.0.0.1.evil.example", "", ":9000", "[::2]:9000"]
        {
            assert!(
                matches!(ask(&policy, "/upcheck", &[("host", bad)]), Err(ApiError::HostNotAllowed { .. })),
                "{bad}"
            );
        }
        assert!(ask(&policy, "/upcheck", &[]).is_err(), "no Host header");
    }

    #[test]
    fn a_machine_is_reached_by_its_own_names() {
        let policy = HostPolicy::new(["signer.example"]).with_loopback();
        for good in ["signer.example", "localhost:9001", "127.0.0.1:9001", "[::1]:9001"] {
            assert!(ask(&policy, "/readyz", &[("host", good)]).is_ok(), "{good}");
        }
        assert!(ask(&policy, "/readyz", &[("host", "evil.example")]).is_err());
        let page = [("host", "localhost"), ("origin", "https://evil.example")];
        assert!(matches!(ask(&policy, "/readyz", &page), Err(ApiError::CrossOrigin)));
    }

    #[test]
    fn the_target_wins_over_the_header() {
        let policy = HostPolicy::new(["localhost"]);
        assert!(ask(&policy, "http://evil.example/upcheck", &[("host", "localhost")]).is_err());
        assert!(ask(&policy, "http://localhost:9000/upcheck", &[("host", "evil.example")]).is_ok());
    }

    #[test]
    fn any_host_and_still_no_browser() {
        for word in ["*", "all", "ALL"] {
            let policy = HostPolicy::new(["localhost", word]);
            assert!(ask(&policy, "/upcheck", &[("host", "signer.internal")]).is_ok());
            assert!(ask(&policy, "/upcheck", &[]).is_ok());
            let page = [("host", "localhost"), ("origin", "https://evil.example")];
            assert!(matches!(ask(&policy, "/upcheck", &page), Err(ApiError::CrossOrigin)));
        }
    }
}
