//! Why a body is not a request. Every error names the member by its path, says what was expected
//! and repeats at most [`Excerpt::LIMIT`] characters of what the client sent, so that logs and
//! responses cannot be filled or forged by a client.

use core::fmt;
use std::borrow::Cow;

use holdfast_domain::error::TreeError;

/// Why a request body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// There is no body.
    #[error("the request body is empty: send a JSON object with `type` and the member it names")]
    Empty,
    /// The body is not JSON.
    #[error("the request body is not valid JSON: {problem}")]
    NotJson {
        /// What the JSON parser found and where (line and column).
        problem: String,
    },
    /// The body is JSON, but a member is not what the API wants there.
    #[error("`{path}` cannot be read: expected {expected}{}", Found(.found.as_ref()))]
    Malformed {
        /// Path of the member from the top of the body.
        path: String,
        /// What the API wants there.
        expected: Cow<'static, str>,
        /// Start of what was sent, where that helps.
        found: Option<Excerpt>,
    },
    /// A member that `type`, or the version, requires is absent or null.
    #[error("`{path}` is missing: expected {expected}")]
    Missing {
        /// Path of the member from the top of the body.
        path: String,
        /// What the API wants there.
        expected: Cow<'static, str>,
    },
    /// A member that is used stands in the body more than once, so that two readers could see two
    /// different messages.
    #[error("`{path}` is given more than once: send it once")]
    Repeated {
        /// Path of the member from the top of the body.
        path: String,
    },
    /// A block was read, but it breaks the limits of its type and has no root.
    #[error("`{path}` breaks the limits of its type: correct the named field")]
    Limits {
        /// Path of the block from the top of the body.
        path: String,
        /// Which limit.
        #[source]
        source: TreeError,
    },
    /// `signing_root` and `signingRoot` are both present and differ.
    #[error("`signing_root` and `signingRoot` are different: send one of them, or the same value in both")]
    ConflictingRoots,
    /// `type` is no type of the API.
    #[error(
        "type {name} is not known: expected one of the types of the remote signing API, e.g. ATTESTATION or BLOCK_V2"
    )]
    UnknownType {
        /// Start of what was sent.
        name: Excerpt,
    },
    /// `type` exists but is not served here.
    #[error("type {name} is not supported here: {instead}")]
    UnsupportedType {
        /// The type.
        name: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
}

impl WireError {
    /// Stable word for responses, logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty
            | Self::NotJson { .. }
            | Self::Malformed { .. }
            | Self::Repeated { .. }
            | Self::Limits { .. }
            | Self::ConflictingRoots => "malformed_request",
            Self::Missing { .. } => "missing_field",
            Self::UnknownType { .. } => "unknown_type",
            Self::UnsupportedType { .. } => "unsupported_type",
        }
    }

    /// The same error seen from one object further out.
    pub(crate) fn within(mut self, outer: &str) -> Self {
        match &mut self {
            Self::Malformed { path, .. }
            | Self::Missing { path, .. }
            | Self::Repeated { path }
            | Self::Limits { path, .. } => {
                *path = format!("{outer}.{path}");
            }
            Self::Empty
            | Self::NotJson { .. }
            | Self::ConflictingRoots
            | Self::UnknownType { .. }
            | Self::UnsupportedType { .. } => {}
        }
        self
    }
}

/// The start of a text a client sent: short, and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    start: String,
    length: usize,
}

impl Excerpt {
    /// Longest start that is kept, in characters.
    pub const LIMIT: usize = 20;

    /// Keeps the start of `text`.
    pub fn of(text: &str) -> Self {
        let start = text.chars().take(Self::LIMIT).flat_map(char::escape_debug).collect();
        Self { start, length: text.chars().count() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length > Self::LIMIT {
            write!(f, "\"{}…\" ({} characters)", self.start, self.length)
        } else {
            write!(f, "\"{}\"", self.start)
        }
    }
}

/// The tail of a sentence: `, got "…"`, or nothing.
struct Found<'a>(Option<&'a Excerpt>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(excerpt) => write!(f, ", got {excerpt}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(Excerpt::of("12x").to_string(), "\"12x\"");
        assert_eq!(Excerpt::of("a\nb\u{7}").to_string(), r#""a\nb\u{7}""#);
        let long = Excerpt::of(&"é".repeat(5000)).to_string();
        assert_eq!(long, format!("\"{}…\" (5000 characters)", "é".repeat(20)));
    }

    #[test]
    fn an_outer_member_is_put_before_the_path() {
        let error = WireError::Missing { path: "attestation.slot".into(), expected: "a slot".into() };
        assert_eq!(
            error.within("signing_request").to_string(),
            "`signing_request.attestation.slot` is missing: expected a slot"
        );
    }
}
