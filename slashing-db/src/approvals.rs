//! What the database remembers of approvals: which were used, and who may approve.
//!
//! Guarantees: an approval is used once, whatever crashes and whoever asks at the same time; the approvers change only from
//! what somebody saw to what somebody wants, or not at all. What an approval is, and whether it is good, is not known here.

use holdfast_domain::UnixMillis;

use crate::identity::CallerId;

/// How long a used approval is remembered after it expired: clocks are wrong by less.
pub(crate) const REMEMBERED_MILLIS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The number of an approval request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApprovalId(pub [u8; 16]);

/// What became of using an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Spent {
    /// It is used from now on, durably.
    Now,
    /// It was used before.
    Before,
}

/// SHA-256 of the text of an [`ApprovalPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyHash(pub [u8; 32]);

/// Who may approve, as text that this crate does not look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalPolicy {
    /// The text.
    pub document: String,
    /// Its hash.
    pub hash: PolicyHash,
    /// Since when.
    pub pinned: UnixMillis,
    /// By whom it was brought in.
    pub pinned_by: CallerId,
}

/// What became of changing the approvers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Pinned {
    /// They are in force.
    Done,
    /// Others are in force than whoever asked had seen. Nothing was changed.
    Moved,
}
