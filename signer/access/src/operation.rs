//! Operations: what a caller may be allowed to do, in words that stay.

use core::fmt;

use holdfast_domain::{MessageKind, SlashableKind, UnslashableKind};

/// A part of the admin API. Reading and changing are told apart, because a dashboard needs only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AdminArea {
    /// Keys: import, label, enable, disable, delete, generate, export.
    Keys,
    /// Slashing protection: import, export, fence.
    Slashing,
    /// Key-encryption keys.
    Kek,
    /// The audit log.
    Audit,
    /// Policy and callers.
    Policy,
    /// Upstreams of the switcher.
    Switcher,
    /// Requests for approval.
    Approvals,
    /// The state of the process; reload.
    Status,
}

impl AdminArea {
    /// Every area.
    pub const ALL: [Self; 8] = [
        Self::Keys,
        Self::Slashing,
        Self::Kek,
        Self::Audit,
        Self::Policy,
        Self::Switcher,
        Self::Approvals,
        Self::Status,
    ];

    /// Stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Slashing => "slashing",
            Self::Kek => "kek",
            Self::Audit => "audit",
            Self::Policy => "policy",
            Self::Switcher => "switcher",
            Self::Approvals => "approvals",
            Self::Status => "status",
        }
    }
}

/// What a caller asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A signature over a message of a kind.
    Sign(MessageKind),
    /// The list of public keys.
    ListKeys,
    /// Reading through the Keymanager API.
    KeymanagerRead,
    /// Importing and deleting through the Keymanager API.
    KeymanagerWrite,
    /// Reading in an area of the admin API.
    AdminRead(AdminArea),
    /// Changing something in an area of the admin API.
    AdminWrite(AdminArea),
}

impl Operation {
    /// Stable word, as in policy files: `block`, `attestation`, `randao`, `list`, `admin.keys.write`.
    pub fn as_word(self) -> String {
        match self {
            Self::Sign(kind) => word_of(kind).to_owned(),
            Self::ListKeys => "list".to_owned(),
            Self::KeymanagerRead => "keymanager.read".to_owned(),
            Self::KeymanagerWrite => "keymanager.write".to_owned(),
            Self::AdminRead(area) => format!("admin.{}.read", area.as_str()),
            Self::AdminWrite(area) => format!("admin.{}.write", area.as_str()),
        }
    }

    /// Every operation.
    pub fn all() -> impl Iterator<Item = Self> {
        let signing = MessageKind::ALL.into_iter().map(Self::Sign);
        let plain = [Self::ListKeys, Self::KeymanagerRead, Self::KeymanagerWrite];
        let admin = AdminArea::ALL.into_iter().flat_map(|area| [Self::AdminRead(area), Self::AdminWrite(area)]);
        signing.chain(plain).chain(admin)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_word())
    }
}

const fn word_of(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Slashable(SlashableKind::Block) => "block",
        MessageKind::Slashable(SlashableKind::Attestation) => "attestation",
        MessageKind::Unslashable(kind) => match kind {
            UnslashableKind::AggregationSlot => "aggregation_slot",
            UnslashableKind::AggregateAndProof => "aggregate_and_proof",
            UnslashableKind::RandaoReveal => "randao",
            UnslashableKind::VoluntaryExit => "voluntary_exit",
            UnslashableKind::Deposit => "deposit",
            UnslashableKind::SyncCommitteeMessage => "sync_committee_message",
            UnslashableKind::SyncCommitteeSelectionProof => "sync_committee_selection_proof",
            UnslashableKind::SyncCommitteeContributionAndProof => "sync_committee_contribution_and_proof",
            UnslashableKind::ValidatorRegistration => "validator_registration",
            UnslashableKind::ExecutionPayloadBid => "execution_payload_bid",
            UnslashableKind::ExecutionPayloadEnvelope => "execution_payload_envelope",
            UnslashableKind::PayloadAttestation => "payload_attestation",
            UnslashableKind::ProposerPreferences => "proposer_preferences",
            UnslashableKind::BuilderRequestAuth => "builder_request_auth",
        },
    }
}

#[cfg(test)]
mod tests {
    //! Proves: every operation has a word of its own.
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_differ() {
        let words: BTreeSet<_> = Operation::all().map(Operation::as_word).collect();
        assert_eq!(words.len(), Operation::all().count());
        assert!(words.contains("admin.keys.write") && words.contains("randao"));
    }
}
