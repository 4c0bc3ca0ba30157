//! What can go wrong between this program and its upstreams. No message carries an address with
//! credentials or the text of an upstream's answer.

use std::time::Duration;

use crate::upstream::UpstreamName;

/// Why an upstream cannot be used as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamConfigError {
    /// Not an address.
    #[error("not an address of a node; write it like http://127.0.0.1:5052 or https://user:password@host/prefix")]
    Address,
    /// Not a name.
    #[error("not a name for an upstream; use 1 to 64 letters, digits and . - _ : / [ ]")]
    Name,
    /// Two upstreams of one name.
    #[error("two upstreams are called {0}; give each its own name")]
    Duplicate(UpstreamName),
    /// A header that cannot be sent.
    #[error("header {name} cannot be sent; names are tokens, values are visible ASCII")]
    Header {
        /// Its name.
        name: String,
    },
    /// A token or password that cannot be sent.
    #[error("the user, password or token contains characters that cannot be sent in a header")]
    Token,
    /// The certificates cannot be read.
    #[error("the CA file holds no usable certificate; give it in PEM, or leave it out to trust the public authorities")]
    Certificates,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// No name is left.
    #[error("65,536 upstreams have been added since the start; restart to go on")]
    Exhausted,
}

/// Why an upstream gave no usable answer to one call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection: refused, unreachable, unknown host, TLS refused.
    #[error("no connection")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The exchange broke, or was not HTTP.
    #[error("the connection broke before the answer was complete")]
    Exchange(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer, or no complete answer, by the deadline.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// A body that stopped coming.
    #[error("the answer stopped coming for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The answer is longer than the caller's bound.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// The request cannot be sent at all; the upstream is not at fault.
    #[error("the request cannot be sent: address and path together are not one")]
    Request,
}

/// What a failed call says about the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Nothing.
    None,
    /// Late.
    Late,
    /// The connection failed.
    Transport,
}

impl CallError {
    /// What it says about the upstream.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Connect(_) | Self::Exchange(_) | Self::Stalled(_) => Fault::Transport,
            Self::Deadline(_) => Fault::Late,
            Self::TooLong { .. } | Self::Request => Fault::None,
        }
    }

    /// Every value of [`Self::label`].
    pub const LABELS: [&'static str; 6] = ["connect", "broken", "deadline", "stalled", "too_long", "request"];

    /// Short name for labels.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Exchange(_) => "broken",
            Self::Deadline(_) => "deadline",
            Self::Stalled(_) => "stalled",
            Self::TooLong { .. } => "too_long",
            Self::Request => "request",
        }
    }
}

/// Why there is no understood answer from a beacon node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// It is not configured usably.
    #[error("the upstream cannot be used as configured")]
    Config(#[source] UpstreamConfigError),
    /// It did not answer.
    #[error("no answer to {path}")]
    Call {
        /// What was asked.
        path: &'static str,
        /// Why.
        #[source]
        source: CallError,
    },
    /// It answered with an error; 404 before genesis is known.
    #[error("answered {status} to {path}; {}", hint(*.status))]
    Status {
        /// HTTP status.
        status: u16,
        /// What was asked.
        path: &'static str,
    },
    /// The answer is not what the Beacon API says.
    #[error("the answer to {path} is not what the Beacon API says; is this a beacon node?")]
    Content {
        /// What was asked.
        path: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

const fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => "check the user, password or token of this upstream",
        404 => "a node answers so before its genesis is known; otherwise check the path of the address",
        300..=399 => "the address redirects: give the final one",
        503 => "the node is starting or syncing",
        _ => "check that the address is a beacon node's",
    }
}

/// Why the pool cannot start or do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Nothing to switch between.
    #[error("no upstream is configured; give at least one with --beacon URL")]
    Empty,
    /// One upstream cannot be used.
    #[error("upstream {name} cannot be used")]
    Upstream {
        /// Which.
        name: UpstreamName,
        /// Why.
        #[source]
        source: UpstreamConfigError,
    },
    /// No such upstream.
    #[error("there is no upstream called {0}; `holdfast switcher status` lists them")]
    Unknown(String),
    /// The last one cannot be removed.
    #[error("{0} is the last upstream; add another before removing it")]
    Last(UpstreamName),
}

/// An error with its causes, in one line. None of them carries an address or credentials.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
