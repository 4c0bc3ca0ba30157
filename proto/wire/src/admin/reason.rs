//! Why something was refused, for programs: a stable word beside gRPC's code.
//!
//! It travels as `google.rpc.ErrorInfo` in the standard details of a status (`grpc-status-details-bin`), with the domain
//! `holdfast`, so that libraries of every language find it without anything of ours.

use std::collections::BTreeMap;

use prost::Message;
use tonic::{Code, Status};

/// Whose words the reasons are.
const DOMAIN: &str = "holdfast";
/// The type of the detail, as `google.protobuf.Any` names it.
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A field holds what it cannot hold.
    InvalidArgument,
    /// Messages of a stream came in an order that means nothing.
    MessageOrder,
    /// The caller may not do this.
    Denied,
    /// The act needs approvals that were not given.
    ApprovalRequired,
    /// The act could not be written into the journal, so it did not happen.
    NotJournaled,
    /// No such key.
    UnknownKey,
    /// The key was deleted.
    KeyDeleted,
    /// Only the history of the key is here.
    KeyWithoutSecret,
    /// For another chain.
    WrongChain,
    /// The database may have lost writes, and what it says must not be handed on.
    Suspect,
    /// Protection gives no permits until a restart.
    Frozen,
    /// The database, a provider or the journal cannot be reached.
    Unavailable,
    /// What is there is not what the caller expected: somebody else changed it meanwhile.
    Stale,
    /// The configuration must be changed for this.
    Configuration,
    /// There is nothing like that here.
    NotFound,
    /// It cannot be done now, or was not done in full.
    Refused,
    /// A bug.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::InvalidArgument,
        Self::MessageOrder,
        Self::Denied,
        Self::ApprovalRequired,
        Self::NotJournaled,
        Self::UnknownKey,
        Self::KeyDeleted,
        Self::KeyWithoutSecret,
        Self::WrongChain,
        Self::Suspect,
        Self::Frozen,
        Self::Unavailable,
        Self::Stale,
        Self::Configuration,
        Self::NotFound,
        Self::Refused,
        Self::Internal,
    ];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::MessageOrder => "message_order",
            Self::Denied => "denied",
            Self::ApprovalRequired => "approval_required",
            Self::NotJournaled => "not_journaled",
            Self::UnknownKey => "unknown_key",
            Self::KeyDeleted => "key_deleted",
            Self::KeyWithoutSecret => "key_without_secret",
            Self::WrongChain => "wrong_chain",
            Self::Suspect => "suspect",
            Self::Frozen => "frozen",
            Self::Unavailable => "unavailable",
            Self::Stale => "stale",
            Self::Configuration => "configuration",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Internal => "internal",
        }
    }

    /// The gRPC code it goes with.
    pub const fn code(self) -> Code {
        match self {
            Self::InvalidArgument | Self::MessageOrder | Self::WrongChain => Code::InvalidArgument,
            Self::Denied | Self::ApprovalRequired => Code::PermissionDenied,
            Self::UnknownKey | Self::NotFound => Code::NotFound,
            Self::KeyDeleted
            | Self::KeyWithoutSecret
            | Self::Suspect
            | Self::Frozen
            | Self::Configuration
            | Self::Refused => Code::FailedPrecondition,
            Self::Stale => Code::Aborted,
            Self::NotJournaled | Self::Unavailable => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// The status that says `text` to people and `reason` to programs.
pub fn refusal(reason: Reason, text: impl Into<String>) -> Status {
    refusal_about(reason, text, [])
}

/// The same with facts for programs, each under its name. They travel in the head of an answer, so they must be short.
pub fn refusal_about<const N: usize>(reason: Reason, text: impl Into<String>, facts: [(&str, String); N]) -> Status {
    let (code, message) = (reason.code(), text.into());
    let metadata = facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect();
    let info = ErrorInfo { reason: reason.as_str().to_owned(), domain: DOMAIN.to_owned(), metadata };
    let details = vec![Any { type_url: ERROR_INFO.to_owned(), value: info.encode_to_vec() }];
    let status = RpcStatus { code: code.into(), message: message.clone(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// The reason in a status, if it carries one of ours.
pub fn reason_of(status: &Status) -> Option<Reason> {
    let info = info_of(status)?;
    Reason::ALL.into_iter().find(|reason| reason.as_str() == info.reason)
}

/// What a status says for programs beside its reason; nothing, if that is none of ours.
pub fn facts_of(status: &Status) -> BTreeMap<String, String> {
    info_of(status).map(|info| info.metadata).unwrap_or_default()
}

fn info_of(status: &Status) -> Option<ErrorInfo> {
    let status = RpcStatus::decode(status.details()).ok()?;
    let detail = status.details.iter().find(|detail| detail.type_url == ERROR_INFO)?;
    ErrorInfo::decode(detail.value.as_slice()).ok().filter(|info| info.domain == DOMAIN)
}

#[cfg(test)]
mod tests {
    //! Proves: reasons travel, and their words differ.
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reason_comes_back_out_of_its_status() {
        for reason in Reason::ALL {
            let status = refusal(reason, "why");
            assert_eq!((status.code(), status.message(), reason_of(&status)), (reason.code(), "why", Some(reason)));
        }
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }

    #[test]
    fn facts_travel_beside_the_reason() {
        let status = refusal_about(Reason::ApprovalRequired, "why", [("request", "1f".to_owned())]);
        let facts = BTreeMap::from([("request".to_owned(), "1f".to_owned())]);
        assert_eq!((reason_of(&status), facts_of(&status)), (Some(Reason::ApprovalRequired), facts));
        assert!(facts_of(&refusal(Reason::Refused, "why")).is_empty());
    }

    #[test]
    fn a_status_of_others_has_none() {
        assert!(facts_of(&Status::not_found("x")).is_empty());
        assert_eq!(reason_of(&Status::not_found("x")), None);
        assert_eq!(reason_of(&Status::with_details(Code::Internal, "x", vec![0xff; 9].into())), None);
    }
}
