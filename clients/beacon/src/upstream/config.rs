//! How one upstream is configured, with everything secret in it kept out of sight.
//!
//! What it guarantees: neither `Debug` nor `Display` of anything here shows a password, a token or a
//! header's value, and an [`UpstreamConfig`] has been parsed: its address can be connected to.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;

use holdfast_secret::SecretText;
use hyper::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::url::Transport;
pub use super::url::UpstreamUrl;
use crate::error::UpstreamConfigError;

/// Identifies an upstream within this process; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(pub u16);

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A unique name, safe to show in logs, labels and status.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamName(String);

impl UpstreamName {
    /// 1 to 64 letters, digits and `.-_:/[]`.
    ///
    /// # Errors
    /// [`UpstreamConfigError::Name`] for anything else.
    pub fn new(text: impl Into<String>) -> Result<Self, UpstreamConfigError> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:/[]".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            Err(UpstreamConfigError::Name)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of one address behind this name.
    pub(crate) fn member(&self, address: std::net::SocketAddr) -> Self {
        Self(format!("{}/{address}", self.0))
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How this program identifies itself to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// User and password (RFC 7617).
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: SecretText,
    },
    /// A bearer token (RFC 6750).
    Bearer(SecretText),
}

/// Which certificate authorities vouch for an upstream over `https`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TrustRoots {
    /// Mozilla's list, and [`TlsOptions::own_ca_pem`] if given.
    #[default]
    Mozilla,
    /// Only [`TlsOptions::own_ca_pem`].
    OwnOnly,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// Whom to trust.
    pub roots: TrustRoots,
    /// Own certificate authorities, as PEM text; empty for none.
    pub own_ca_pem: Vec<u8>,
}

/// Share of traffic relative to others under weighted balancing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub NonZeroU16);

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

/// Operators' order among equally healthy nodes: 0 is asked first, higher numbers are spares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PriorityTier(pub u8);

/// One thing an upstream may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Attestation data, aggregates.
    Attestation,
    /// Block production, and the preparations for it.
    Proposal,
    /// Sync committee contributions.
    Sync,
    /// Broadcasts: submissions, publishing, subscriptions.
    Submit,
    /// Builder requests and blinded blocks.
    Builder,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Attestation, Self::Proposal, Self::Sync, Self::Submit, Self::Builder];

    /// Name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attestation => "attestation",
            Self::Proposal => "proposal",
            Self::Sync => "sync",
            Self::Submit => "submit",
            Self::Builder => "builder",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Attestation => 1,
            Self::Proposal => 2,
            Self::Sync => 4,
            Self::Submit => 8,
            Self::Builder => 16,
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);
    /// Every role but `builder`, which needs a node with a builder configured.
    pub const DEFAULT: Self =
        Self(Role::Attestation.bit() | Role::Proposal.bit() | Role::Sync.bit() | Role::Submit.bit());

    /// Adds a role.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    /// Whether the sets have a role in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a role is in the set.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        roles.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Role::ALL.iter().filter(|role| self.contains(**role)).map(|role| role.as_str())).finish()
    }
}

/// What to do with a host name that has several addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolve {
    /// One node: any address will do, resolved anew for each new connection.
    #[default]
    AsOne,
    /// Every address is a node of its own (a headless service); resolved anew at intervals.
    EachAddress,
}

/// One upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Unique name.
    pub name: UpstreamName,
    /// Where it listens.
    pub url: UpstreamUrl,
    /// Headers added to every request; values are never shown.
    pub headers: BTreeMap<String, SecretText>,
    /// Identification; overrides user and password in the URL.
    pub auth: Option<Auth>,
    /// TLS, for `https`.
    pub tls: TlsOptions,
    /// Weight under weighted balancing.
    pub weight: Weight,
    /// Order among equally healthy nodes.
    pub tier: PriorityTier,
    /// What it may be used for.
    pub roles: Roles,
    /// What to do with several addresses.
    pub resolve: Resolve,
}

impl UpstreamConfig {
    /// An upstream with everything at its default, named by its address.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if the address is not usable.
    pub fn from_url(url: &str) -> Result<Self, UpstreamConfigError> {
        let url: UpstreamUrl = url.parse()?;
        Ok(Self::new(UpstreamName::new(url.host_and_port())?, url))
    }

    /// An upstream with everything else at its default.
    pub fn new(name: UpstreamName, url: UpstreamUrl) -> Self {
        Self {
            name,
            url,
            headers: BTreeMap::new(),
            auth: None,
            tls: TlsOptions::default(),
            weight: Weight::default(),
            tier: PriorityTier::default(),
            roles: Roles::default(),
            resolve: Resolve::default(),
        }
    }

    /// Whether connections to the one are connections to the other: the same address, and the same authorities vouch for it.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.url.is_same_place(&other.url) && self.tls == other.tls && self.resolve == other.resolve
    }

    /// Checks what is only used later: headers, credentials, certificates of authorities.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if it cannot be used as configured.
    pub fn check(&self) -> Result<(), UpstreamConfigError> {
        self.fixed_headers()?;
        if self.url.transport() == Transport::Tls {
            self.tls_client()?;
        }
        Ok(())
    }

    /// The headers every request carries, parsed and marked sensitive.
    pub(crate) fn fixed_headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, UpstreamConfigError> {
        self.fixed_headers_at(None)
    }

    /// As [`Self::fixed_headers`], for a second address of the node that may hold user and password of its own.
    pub(crate) fn fixed_headers_at(
        &self,
        address: Option<&Auth>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, UpstreamConfigError> {
        let sensitive = |text: &str| {
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let bad = || UpstreamConfigError::Header { name: name.clone() };
            let header: HeaderName = name.parse().map_err(|_| bad())?;
            headers.push((header, sensitive(value.expose()).ok_or_else(bad)?));
        }
        if let Some(auth) = self.auth.as_ref().or(address).or(self.url.auth()) {
            let text = match auth {
                Auth::Basic { user, password } => {
                    use base64::Engine as _;
                    let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
                    Zeroizing::new(format!(
                        "Basic {}",
                        base64::engine::general_purpose::STANDARD.encode(pair.as_bytes())
                    ))
                }
                Auth::Bearer(token) => Zeroizing::new(format!("Bearer {}", token.expose())),
            };
            headers.push((hyper::header::AUTHORIZATION, sensitive(&text).ok_or(UpstreamConfigError::Token)?));
        }
        Ok(headers)
    }
}

impl UpstreamConfig {
    /// TLS towards this node, for connections that are not HTTP.
    pub(crate) fn tls_client(&self) -> Result<rustls::ClientConfig, UpstreamConfigError> {
        super::tls::client_config(&self.tls)
    }
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("headers", &self.headers.keys())
            .field("weight", &self.weight)
            .field("tier", &self.tier)
            .field("roles", &self.roles)
            .field("resolve", &self.resolve)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown_and_everything_is_sent() {
        let mut config = UpstreamConfig::from_url("http://user:planted%3Apw@node:5052/base/").unwrap();
        config.headers.insert("X-Key".to_owned(), SecretText::new("planted-key"));
        let shown = format!("{config:?} {} {:?}", config.url, config.headers);
        assert!(!shown.contains("planted"), "{shown}");
        let headers = config.fixed_headers().unwrap();
        assert_eq!(headers[0].1, "planted-key");
        assert_eq!(headers[1].1, "Basic dXNlcjpwbGFudGVkOnB3", "user:planted:pw");
        assert!(!format!("{headers:?}").contains("planted"), "{headers:?}");
        config.auth = Some(Auth::Bearer(SecretText::new("planted-token")));
        assert_eq!(config.fixed_headers().unwrap()[1].1, "Bearer planted-token");
        assert!(!format!("{:?}", config.auth).contains("planted"));
    }

    #[test]
    fn unusable_headers_and_names_are_refused() {
        let mut config = UpstreamConfig::from_url("http://node").unwrap();
        config.headers.insert("bad name".to_owned(), SecretText::new("x"));
        assert!(matches!(config.fixed_headers(), Err(UpstreamConfigError::Header { .. })));
        config.headers.clear();
        config.auth = Some(Auth::Bearer(SecretText::new("a\nb")));
        assert!(matches!(config.fixed_headers(), Err(UpstreamConfigError::Token)));
        for name in ["", "with space", "ümlaut", &"x".repeat(65)] {
            assert!(UpstreamName::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn roles_are_a_set() {
        assert!(Roles::DEFAULT.contains(Role::Proposal) && !Roles::DEFAULT.contains(Role::Builder));
        assert!(Roles::DEFAULT.with(Role::Builder).contains(Role::Builder));
        let all: Roles = Role::ALL.into_iter().collect();
        assert!(Role::ALL.iter().all(|role| all.contains(*role)));
        assert_eq!(format!("{:?}", Roles::NONE.with(Role::Sync)), r#"{"sync"}"#);
    }
}
