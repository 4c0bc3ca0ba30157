//! Everything that can go wrong in this crate: a value outside its type's limits, a request that
//! cannot become an intent, a network file that cannot be read.

use core::num::NonZeroU64;

use crate::fork::{ForkName, ForkVersion};
use crate::message::MessageKind;
use crate::root::{ObservedRoot, SigningRoot};

/// A value that has no root because it breaks the limits of its SSZ type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A list or byte list has more elements than its type allows.
    #[error("{field} has {got} elements: send at most {limit}")]
    TooLong {
        /// Path of the field inside the message.
        field: &'static str,
        /// Elements present.
        got: usize,
        /// Elements allowed.
        limit: usize,
    },
    /// A byte list that must not be empty is.
    #[error("{field} is empty: send at least one byte")]
    Empty {
        /// Path of the field inside the message.
        field: &'static str,
    },
    /// A bit list ends in a zero byte or has no bytes: its length is unknowable.
    #[error("{field} has no delimiter bit: send the SSZ serialisation of the bit list, whose last byte is not zero")]
    NoDelimiter {
        /// Path of the field inside the message.
        field: &'static str,
    },
    /// A bit list has more bits than its type allows.
    #[error("{field} has {got} bits, the limit is {limit}: check the preset of the configured network")]
    TooManyBits {
        /// Path of the field inside the message.
        field: &'static str,
        /// Bits present, without the delimiter.
        got: usize,
        /// Bits allowed.
        limit: usize,
    },
    /// A bit vector has the wrong number of bytes.
    #[error("{field} has {got} bytes, expected {expected} ({bits} bits): check the preset of the configured network")]
    WrongLength {
        /// Path of the field inside the message.
        field: &'static str,
        /// Bytes present.
        got: usize,
        /// Bytes of the type.
        expected: usize,
        /// Bits of the type.
        bits: usize,
    },
    /// A bit vector sets bits beyond its length.
    #[error("{field} sets bits beyond its {bits} bits: the rest of its last byte must be zero")]
    PaddingSet {
        /// Path of the field inside the message.
        field: &'static str,
        /// Bits of the type.
        bits: usize,
    },
}

/// Why a request cannot become a [`crate::intent::SigningIntent`].
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// The message type needs `fork_info` and the request has none.
    #[error("fork_info is required for {}: send fork and genesis_validators_root", .0.as_str())]
    MissingForkInfo(MessageKind),
    /// The client's signing root is not the one of its message.
    #[error(
        "signingRoot {claimed} does not belong to this message, its signing root is {computed}: \
         check that client and signer are configured for the same network, or leave signingRoot out"
    )]
    SigningRootMismatch {
        /// The client's claim.
        claimed: ObservedRoot,
        /// The root computed here.
        computed: SigningRoot,
    },
    /// A voluntary exit names a fork the configured network does not have (EIP-7044 needs to know
    /// whether Deneb is active).
    #[error(
        "fork version {version} is not a fork of the configured network {network}: \
         configure the network the validator client is on, or send a signingRoot with the exit"
    )]
    UnknownForkVersion {
        /// `fork_info.fork.current_version` of the request.
        version: ForkVersion,
        /// Name of the configured network.
        network: String,
    },
    /// The configured network knows Deneb but not the Capella version its exits are signed with.
    #[error("the configured network {network} has Deneb but no CAPELLA_FORK_VERSION: add it to the network file")]
    NoCapellaVersion {
        /// Name of the configured network.
        network: String,
    },
    /// A value of the message breaks the limits of its type.
    #[error(transparent)]
    Malformed(#[from] TreeError),
}

impl IntentError {
    /// Stable word for responses, logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::MissingForkInfo(_) => "missing_fork_info",
            Self::SigningRootMismatch { .. } => "signing_root_mismatch",
            Self::UnknownForkVersion { .. } | Self::NoCapellaVersion { .. } => "unknown_fork_version",
            Self::Malformed(_) => "malformed_request",
        }
    }
}

/// Why a network description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text is not YAML.
    #[error("the network file is not valid YAML: correct it at the place named below")]
    Yaml(#[source] Box<saphyr_parser::ScanError>),
    /// The file does not hold exactly one document.
    #[error("the network file holds {0} YAML documents: it must hold one map of KEY: value lines")]
    Documents(u32),
    /// The document is not a map with plain keys.
    #[error("line {line} of the network file: expected a map of KEY: value lines")]
    NotAMap {
        /// Line, from 1.
        line: usize,
    },
    /// A key appears twice with different values.
    #[error("line {line} of the network file gives {key} a second value: keep one of them")]
    Repeated {
        /// The key.
        key: String,
        /// Line of the second value, from 1.
        line: usize,
    },
    /// A required key is missing.
    #[error("{key} is missing from the network file: add it with {expected}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What its value looks like.
        expected: &'static str,
    },
    /// A value cannot be read.
    #[error("{key} is {value:?} in the network file: expected {expected}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// The value found.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// The two spellings of the slot duration disagree.
    #[error(
        "SLOT_DURATION_MS is {millis} but SECONDS_PER_SLOT makes {seconds_as_millis} ms: \
         make them agree or remove one from the network file"
    )]
    SlotDurations {
        /// SLOT_DURATION_MS.
        millis: NonZeroU64,
        /// SECONDS_PER_SLOT in milliseconds.
        seconds_as_millis: NonZeroU64,
    },
    /// The forks are not in order.
    #[error(
        "{} cannot follow {}: every fork between them must be present and none may start before the one \
         it follows; correct the *_FORK_VERSION and *_FORK_EPOCH keys", .fork.as_str(), .after.as_str()
    )]
    ForkOrder {
        /// The fork at fault.
        fork: ForkName,
        /// The fork before it in the file.
        after: ForkName,
    },
}
