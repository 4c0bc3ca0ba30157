//! Callers: a name that was proved, and how it was proved.

use core::fmt;
use std::sync::Arc;

/// How a caller proved its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Means {
    /// Not at all: whoever reaches this listener is this caller.
    Listener,
    /// The kernel named the user of the other end of a Unix socket.
    UnixPeer,
    /// A bearer token.
    Bearer,
    /// A name and a token, by HTTP Basic authentication (RFC 7617).
    Basic,
    /// A certificate in the TLS handshake.
    Certificate,
}

impl Means {
    /// Every means, weakest first.
    pub const ALL: [Self; 5] = [Self::Listener, Self::UnixPeer, Self::Bearer, Self::Basic, Self::Certificate];

    /// Stable word for configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::UnixPeer => "unix",
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
        }
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no name of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or too much.
    #[error("a caller's name has 1 to {} characters", CallerName::MAX_CHARACTERS)]
    Length,
    /// A character that logs, URLs or lists could take for something else.
    #[error("a caller's name has only letters, digits and . _ - @ / of ASCII, and begins with a letter or a digit")]
    Character,
}

/// The name of a caller, as configured, journaled and shown. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerName(Arc<str>);

impl CallerName {
    /// Longest name.
    pub const MAX_CHARACTERS: usize = 128;

    /// Takes a name.
    ///
    /// # Errors
    /// [`NameError`], which says what a name may have.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > Self::MAX_CHARACTERS {
            return Err(NameError::Length);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b'/');
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !begins || !name.bytes().all(plain) {
            return Err(NameError::Character);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Callers that nobody configures: the listeners, and whoever has a token that is one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Builtin {
    /// Whoever reaches the signing API.
    Http,
    /// Whoever reaches the signing API's Unix socket.
    HttpUnix,
    /// Whoever has the Keymanager API's token.
    Keymanager,
    /// Whoever reaches the metrics listener.
    Metrics,
    /// Whoever reaches the admin API.
    Admin,
}

impl Builtin {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Http, Self::HttpUnix, Self::Keymanager, Self::Metrics, Self::Admin];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpUnix => "http-unix",
            Self::Keymanager => "keymanager",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

impl From<Builtin> for CallerName {
    fn from(builtin: Builtin) -> Self {
        Self(builtin.as_str().into())
    }
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    name: CallerName,
    means: Means,
}

impl Caller {
    /// A caller whose name was proved by `means`.
    pub fn new(name: CallerName, means: Means) -> Self {
        Self { name, means }
    }

    /// Its name.
    pub fn name(&self) -> &CallerName {
        &self.name
    }

    /// How the name was proved.
    pub fn means(&self) -> Means {
        self.means
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.means)
    }
}

#[cfg(test)]
mod tests {
    //! Proves: which names there are.
    use super::*;

    #[test]
    fn names() {
        for good in ["vc-1", "http", "9", "CN/vc@example.org", &"a".repeat(128)] {
            assert_eq!(CallerName::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", NameError::Length),
            (&*"a".repeat(129), NameError::Length),
            ("-a", NameError::Character),
            ("a b", NameError::Character),
            ("a:b", NameError::Character),
            ("a\n", NameError::Character),
            ("é", NameError::Character),
        ] {
            assert_eq!(CallerName::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn built_in_names_are_names() {
        for builtin in Builtin::ALL {
            assert_eq!(CallerName::new(builtin.as_str()), Ok(builtin.into()));
        }
    }
}
