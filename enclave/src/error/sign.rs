//! Why a permit did not become a signature, and what whoever asked can do.

use std::io;

use holdfast_domain::PublicKey;

/// A permit did not become a signature. The permit is used up; the same request may be sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The permit is for another key. Nothing was signed.
    #[error("a permit for {permit} reached the key {key}; nothing was signed: report this as a bug")]
    WrongKey {
        /// The key that was asked to sign.
        key: PublicKey,
        /// The key the permit names.
        permit: PublicKey,
    },
    /// The queue is full.
    #[error("too many signatures are waiting: retry shortly, or give the signer more cores")]
    Overloaded,
    /// The signing threads have stopped.
    #[error("the signer is shutting down: retry once it runs again")]
    Stopped,
    /// The signature made does not verify, and was withheld.
    #[error(
        "the signature made with key {key} does not verify and was withheld: check this machine's memory and processor"
    )]
    Invalid {
        /// The key that signed.
        key: PublicKey,
    },
    /// A signing thread could not be started.
    #[error("cannot start a signing thread: raise the limit of threads or processes")]
    Thread(#[source] io::Error),
    /// The key's secret is not where the signature was asked for. Nothing was signed.
    #[error("the secret of {key} is not in this process; nothing was signed: report this as a bug")]
    NotHere {
        /// The key.
        key: PublicKey,
    },
    /// The vault process is gone or does not hold the key yet.
    #[error("the vault is starting again: retry in a moment; the log says why it ended")]
    VaultDown,
    /// The vault process could not be started.
    #[error("cannot start the vault process")]
    VaultStart(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The vault has no lease for the message's epoch. Nothing was signed.
    #[error(
        "no lease for this epoch: another signer of the group holds it, or too few witnesses answer; clients should ask \
         the other signer, and `holdfast_vault_lease_*` and the log say which it is"
    )]
    NoLease,
    /// The vault answered a request about leases with a failure.
    #[error("the vault does not carry out what concerns its lease: {0}")]
    Lease(&'static str),
    /// A new key could not be made.
    #[error("cannot make a key")]
    NotMade(#[source] Box<crate::generate::GenerateError>),
    /// The vault did not do what it was asked, other than signing.
    #[error("the vault does not do that: {reason}")]
    VaultFailed {
        /// Why, a stable word.
        reason: &'static str,
    },
    /// The vault, which checks for itself, does not sign this.
    #[error("the vault refuses to sign with {key}: {reason}; {hint}")]
    VaultRefused {
        /// The key.
        key: PublicKey,
        /// The rule, a stable word.
        reason: &'static str,
        /// What it means for the operator.
        hint: &'static str,
    },
}

/// What kind of failure a [`SignError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignErrorClass {
    /// A rule forbids it: the same request gets the same answer.
    Refused,
    /// Retry shortly.
    Overloaded,
    /// Retry later or elsewhere.
    Unavailable,
    /// A defect of this program or machine. A retry does no harm and little good.
    Bug,
}

impl SignError {
    /// The [words](Self::reason) of all that is [a defect](SignErrorClass::Bug).
    pub const DEFECTS: [&'static str; 3] = ["wrong_key", "signature_invalid", "key_not_here"];

    /// What kind of failure it is.
    pub const fn class(&self) -> SignErrorClass {
        match self {
            Self::Overloaded => SignErrorClass::Overloaded,
            Self::Stopped
            | Self::Thread(_)
            | Self::VaultDown
            | Self::VaultFailed { .. }
            | Self::VaultStart(_)
            | Self::NotMade(_)
            | Self::NoLease
            | Self::Lease(_) => SignErrorClass::Unavailable,
            Self::VaultRefused { .. } => SignErrorClass::Refused,
            Self::WrongKey { .. } | Self::Invalid { .. } | Self::NotHere { .. } => SignErrorClass::Bug,
        }
    }

    /// A stable word for metrics and clients.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::WrongKey { .. } => "wrong_key",
            Self::Overloaded => "overloaded",
            Self::Stopped => "backend_stopped",
            Self::Invalid { .. } => "signature_invalid",
            Self::Thread(_) | Self::VaultStart(_) => "backend_not_started",
            Self::NotHere { .. } => "key_not_here",
            Self::NotMade(_) => "not_made",
            Self::VaultDown => "vault_down",
            Self::NoLease => "no_lease",
            Self::Lease(reason) | Self::VaultRefused { reason, .. } | Self::VaultFailed { reason } => reason,
        }
    }
}
