//! The permit: the only thing a key signs.
//!
//! Guarantees: a permit names the one key and the one root it is good for; it cannot be copied,
//! cloned, defaulted or deserialised; its one constructor is crate-private and demands a
//! [`Committed`], which only a store can make, and an [`Approved`], which only the rules can make.
//! `guard.rs` holds the one call.

use std::sync::Arc;
use std::time::Duration;

use holdfast_domain::{MessageKind, PublicKey, SigningRoot, SlashableKind, Statement};

use crate::rules::{Approval, Approved};
use crate::store::Committed;

/// Permission to sign one root with one key, earned by a durable commit.
///
/// Consumed by the signature. Dropping it unused is safe: the record stays, and the same message is
/// permitted again as identical data.
#[derive(Debug)]
#[must_use = "a permit is a recorded promise to sign: pass it to the key, or drop it knowingly"]
pub struct SigningPermit {
    key: PublicKey,
    root: SigningRoot,
    kind: MessageKind,
    statement: Arc<Statement>,
    basis: Basis,
    times: PermitTimes,
}

/// How long the steps to a permit took. For measurements only: nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermitTimes {
    /// Waiting until the committer took the request.
    pub queue: Duration,
    /// Judging and durably committing the batch the request was in.
    pub commit: Duration,
}

/// Why the permit exists.
#[derive(Debug)]
struct Basis {
    approval: Approval,
    commit_seq: u64,
}

impl SigningPermit {
    /// Makes a permit. Called by `guard::release` and from nowhere else.
    pub(crate) fn mint(
        key: PublicKey,
        root: SigningRoot,
        kind: MessageKind,
        statement: Arc<Statement>,
        approved: &Approved,
        committed: &Committed,
        times: PermitTimes,
    ) -> Self {
        let basis = Basis { approval: approved.approval(), commit_seq: committed.seq() };
        Self { key, root, kind, statement, basis, times }
    }

    /// The key that may sign.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The root that may be signed.
    pub fn root(&self) -> SigningRoot {
        self.root
    }

    /// The kind of message behind the root.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// What was permitted, for a vault that computes the root itself.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Whether this is a block proposal, which goes first wherever work queues.
    pub fn is_block_proposal(&self) -> bool {
        match self.kind {
            MessageKind::Slashable(SlashableKind::Block) => true,
            MessageKind::Slashable(SlashableKind::Attestation) | MessageKind::Unslashable(_) => false,
        }
    }

    /// What the rules said: new data, identical data, or not slashable.
    pub fn approval(&self) -> Approval {
        self.basis.approval
    }

    /// How long it took to earn.
    pub fn times(&self) -> PermitTimes {
        self.times
    }

    /// Sequence number of the journal batch that recorded this permit.
    pub fn commit_seq(&self) -> u64 {
        self.basis.commit_seq
    }
}
