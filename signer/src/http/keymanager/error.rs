//! Why the Keymanager API refuses, and with which status.

use holdfast_enclave::SecretError;
use holdfast_slashing_db::AdminError;
use holdfast_slashing_db::interchange::ReadError;
use hyper::StatusCode;

use super::super::error::{Retry, Verdict};

/// Why a request is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeymanagerError {
    /// No `Authorization: Bearer` header.
    #[error("a token is needed: send Authorization: Bearer and the content of keymanager-token in the data directory")]
    TokenMissing,
    /// Not the token.
    #[error("the token is wrong; the right one is in keymanager-token in the data directory")]
    TokenWrong,
    /// Guessing is slowed down.
    #[error("too many requests with a wrong token or none; wait a moment")]
    TooManyFailures,
    /// The body is not what this path takes.
    #[error("the request body is not understood at line {line}, column {column}; expected {expected}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A public key is none.
    #[error("entry {index} is not a public key; expected {expected}")]
    NotAKey {
        /// Its place in the list, from 0.
        index: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A keystore without password, or the other way round.
    #[error("there are {keystores} keystores but {passwords} passwords; send one for each, in the same order")]
    LengthsDiffer {
        /// Keystores found.
        keystores: usize,
        /// Passwords found.
        passwords: usize,
    },
    /// A password cannot be held.
    #[error("a password cannot be taken; nothing was imported")]
    Password(#[source] SecretError),
    /// The slashing protection that came along is not usable.
    #[error("slashing_protection cannot be used; nothing was imported")]
    SlashingProtection(#[source] ReadError),
    /// The database failed.
    #[error("the request was not carried out")]
    Database(#[source] AdminError),
    /// A route of validator clients.
    #[error(
        "a signer has no fee recipient, gas limit, graffiti or exits of its own: they are set in the validator client"
    )]
    NotASigners,
}

impl KeymanagerError {
    /// Status, reason word and whether to come back.
    pub(crate) fn verdict(&self) -> Verdict {
        let (status, reason, retry) = match self {
            Self::TokenMissing => (StatusCode::UNAUTHORIZED, "token_missing", Retry::Pointless),
            Self::TokenWrong => (StatusCode::FORBIDDEN, "token_wrong", Retry::Pointless),
            Self::TooManyFailures => (StatusCode::TOO_MANY_REQUESTS, "too_many_failures", Retry::After("1")),
            Self::Malformed { .. } | Self::NotAKey { .. } | Self::LengthsDiffer { .. } | Self::Password(_) => {
                (StatusCode::BAD_REQUEST, "malformed_request", Retry::Pointless)
            }
            Self::SlashingProtection(_) => (StatusCode::BAD_REQUEST, "bad_slashing_protection", Retry::Pointless),
            Self::Database(_) => (StatusCode::INTERNAL_SERVER_ERROR, "database_unavailable", Retry::Pointless),
            Self::NotASigners => (StatusCode::NOT_IMPLEMENTED, "not_supported", Retry::Pointless),
        };
        Verdict { status, reason, retry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let table = [
            (KeymanagerError::TokenMissing, 401),
            (KeymanagerError::TokenWrong, 403),
            (KeymanagerError::TooManyFailures, 429),
            (KeymanagerError::LengthsDiffer { keystores: 1, passwords: 2 }, 400),
            (KeymanagerError::Database(AdminError::ShutDown), 500),
            (KeymanagerError::NotASigners, 501),
        ];
        for (error, status) in table {
            assert_eq!(error.verdict().status.as_u16(), status, "{error:?}");
        }
    }
}
