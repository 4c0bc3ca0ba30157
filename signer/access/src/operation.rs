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

    const fn index(self) -> u8 {
        match self {
            Self::Keys => 0,
            Self::Slashing => 1,
            Self::Kek => 2,
            Self::Audit => 3,
            Self::Policy => 4,
            Self::Switcher => 5,
            Self::Approvals => 6,
            Self::Status => 7,
        }
    }

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
    /// A request for several signatures at once. Each of them is judged by itself as well.
    Batch,
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
            Self::Batch => "batch".to_owned(),
            Self::ListKeys => "list".to_owned(),
            Self::KeymanagerRead => "keymanager.read".to_owned(),
            Self::KeymanagerWrite => "keymanager.write".to_owned(),
            Self::AdminRead(area) => format!("admin.{}.read", area.as_str()),
            Self::AdminWrite(area) => format!("admin.{}.write", area.as_str()),
        }
    }

    /// How many operations there are.
    pub const COUNT: usize = 36;

    /// Its place in [`Self::all`].
    pub(crate) const fn index(self) -> u8 {
        /// Where the operations after the kinds of messages begin.
        const PLAIN: u8 = 16;
        const ADMIN: u8 = PLAIN + 4;
        match self {
            // Codes start at 1 and follow the order of `MessageKind::ALL`; a unit test holds them to it.
            Self::Sign(kind) => kind.code().wrapping_sub(1),
            Self::Batch => PLAIN,
            Self::ListKeys => PLAIN + 1,
            Self::KeymanagerRead => PLAIN + 2,
            Self::KeymanagerWrite => PLAIN + 3,
            Self::AdminRead(area) => ADMIN + 2 * area.index(),
            Self::AdminWrite(area) => ADMIN + 2 * area.index() + 1,
        }
    }

    /// Whether whoever serves it judges every key that the request names by itself. That the operation as such is
    /// allowed then says only that there may be keys for which it is; otherwise it says that all of it is.
    pub const fn is_judged_by_key(self) -> bool {
        match self {
            Self::Sign(_) | Self::Batch | Self::ListKeys | Self::KeymanagerRead | Self::KeymanagerWrite => true,
            Self::AdminRead(_) | Self::AdminWrite(_) => false,
        }
    }

    /// Whether a request for it can be about a key at all.
    pub const fn can_name_a_key(self) -> bool {
        match self {
            Self::Sign(_) | Self::Batch | Self::ListKeys | Self::KeymanagerRead | Self::KeymanagerWrite => true,
            Self::AdminRead(area) | Self::AdminWrite(area) => match area {
                AdminArea::Keys | AdminArea::Slashing | AdminArea::Approvals => true,
                AdminArea::Kek | AdminArea::Audit | AdminArea::Policy | AdminArea::Switcher | AdminArea::Status => {
                    false
                }
            },
        }
    }

    /// The operation with this word, if there is one.
    pub fn named(word: &str) -> Option<Self> {
        Self::all().find(|operation| operation.as_word() == word)
    }

    /// Every operation.
    pub fn all() -> impl Iterator<Item = Self> {
        let signing = MessageKind::ALL.into_iter().map(Self::Sign);
        let plain = [Self::Batch, Self::ListKeys, Self::KeymanagerRead, Self::KeymanagerWrite];
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

    #[test]
    fn every_operation_has_its_place_and_is_found_by_its_word() {
        assert_eq!(Operation::all().count(), Operation::COUNT);
        for (place, operation) in Operation::all().enumerate() {
            assert_eq!(usize::from(operation.index()), place, "{operation}");
            assert_eq!(Operation::named(&operation.as_word()), Some(operation));
        }
        assert_eq!(Operation::named("sign"), None);
    }
}
