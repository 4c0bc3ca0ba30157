//! What can go wrong, in types that tell whoever decides.

use holdfast_domain::Epoch;

use crate::key::VerifyingKey;

/// Bytes that are no message of this protocol, or not from whom they say.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// Not the bytes of a message of this version.
    #[error("not a message of this protocol and version")]
    Malformed,
    /// A name of a group that cannot be one.
    #[error("a group's name has 1 to 64 characters out of a-z, 0-9, '-', '_' and '.'")]
    Group,
    /// Not a public key.
    #[error("not an Ed25519 public key: 0x and 64 hexadecimal digits, as `holdfast witness init` prints them")]
    Key,
    /// A signature that does not verify.
    #[error("a signature does not verify")]
    Signature,
}

/// Why a witness does not grant.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// The record changed since.
    #[error("the record has changed meanwhile; ask again")]
    Moved,
    /// Somebody else holds a lease that is not over.
    #[error("another signer of the group holds the lease up to epoch {until}, and may extend it until then")]
    Held {
        /// Its last epoch.
        until: Epoch,
    },
    /// The holder has said that it signs no more.
    #[error("this vault has given its lease back for good; start another")]
    Released,
    /// The epochs wanted are over.
    #[error("the epochs asked for are over; check the clocks of signer and witness")]
    Past,
    /// Only the holder can give its lease back.
    #[error("only the holder of a lease can give it back")]
    NotHolder,
    /// A checkpoint must be later than the last.
    #[error("the checkpoint is not later than the last one")]
    Backwards,
}

impl Denied {
    /// A stable word for metrics and clients.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Held { .. } => "held",
            Self::Released => "released",
            Self::Past => "past",
            Self::NotHolder => "not_holder",
            Self::Backwards => "backwards",
        }
    }
}

/// Why witnesses cannot be relied on together.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinsError {
    /// None, or too many.
    #[error("1 to {max} witnesses are needed, not {found}")]
    Count {
        /// How many there are.
        found: usize,
        /// How many there may be.
        max: usize,
    },
    /// The same witness twice.
    #[error("the same witness is named twice")]
    Twice,
    /// Two vaults could have a quorum each.
    #[error("a quorum of {quorum} out of {count} is not more than half and at most all of them")]
    Quorum {
        /// Grants needed.
        quorum: usize,
        /// Witnesses.
        count: usize,
    },
}

/// What went wrong in a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database refused or broke.
    #[error("cannot {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record that is none.
    #[error("the record of a group cannot be understood: the database is damaged, or of a later version")]
    Damaged,
}

impl StoreError {
    /// For whatever a driver says.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn database<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Database { action, source: source.into() }
    }
}

/// Why a request got no grant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It is not understood, or not from whom it says.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It is for another witness.
    #[error(
        "the request is for the witness {asked}; this one is {this}: correct the public key in the signer's configuration"
    )]
    OtherWitness {
        /// The one it is for.
        asked: VerifyingKey,
        /// This one.
        this: VerifyingKey,
    },
    /// It is for another chain.
    #[error("the request is for another network; this witness serves one: start it with the network of the signer")]
    OtherChain,
    /// Before genesis there is nothing to grant.
    #[error("the network has not begun; check this machine's clock")]
    BeforeGenesis,
    /// The member is not enrolled.
    #[error(
        "the key {member} is not enrolled in group {group}; if this signer belongs to it, run on the witness: \
         holdfast witness enroll --group {group} --key {member}"
    )]
    NotEnrolled {
        /// Who asks.
        member: VerifyingKey,
        /// For which group.
        group: crate::message::Group,
    },
    /// The rules.
    #[error("{denied}")]
    Denied {
        /// Which.
        denied: Denied,
        /// Number of the record's present version, for the next request.
        version: u64,
    },
    /// Others change the record all the time.
    #[error("the record is being changed by others; ask again")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// A stable word for metrics and clients.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Message(MessageError::Signature) => "bad_signature",
            Self::Message(_) => "malformed",
            Self::OtherWitness { .. } => "other_witness",
            Self::OtherChain => "other_chain",
            Self::BeforeGenesis => "before_genesis",
            Self::NotEnrolled { .. } => "not_enrolled",
            Self::Denied { denied, .. } => denied.as_str(),
            Self::Busy => "busy",
            Self::Store(_) => "store_failed",
        }
    }
}
