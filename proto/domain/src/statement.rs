//! What is signed, in the least that its signing root can be computed from a second time.
//!
//! A vault does not believe a root: it computes its own. For a message with a slashing rule it gets the message
//! itself, and for an exit too, whose fork version depends on it (EIP-7044). Of everything else it gets the kind,
//! the date and the root of the content, which may be megabytes: the kind decides the domain, so no such root can
//! ever be signed as a block or as a vote.

use crate::fork::{ForkInfo, ForkVersion};
use crate::merkle::TreeRoot;
use crate::message::{
    AttestationData, BeaconBlockHeader, Bytes32, Message, Slashable, Unslashable, UnslashableKind, VoluntaryExit,
};
use crate::root::ObjectRoot;
use crate::time::{Epoch, Slot};

/// A message and the chain it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The message, as far as its root needs it.
    pub stated: Stated,
    /// What the client says about the chain; ignored for types valid on every fork.
    pub fork_info: Option<ForkInfo>,
}

/// A message, as far as its signing root needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// A block proposal.
    Block(BeaconBlockHeader),
    /// An attestation.
    Attestation(AttestationData),
    /// A voluntary exit.
    VoluntaryExit(VoluntaryExit),
    /// A deposit.
    Deposit {
        /// `hash_tree_root` of the message.
        root: Bytes32,
        /// The version its domain uses.
        genesis_fork_version: ForkVersion,
    },
    /// Anything else.
    Hashed {
        /// Which type, and its date.
        what: Hashed,
        /// `hash_tree_root` of the message.
        root: Bytes32,
    },
}

/// Types whose domain follows from their date alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "same names as the variants of `Unslashable`")]
pub enum Hashed {
    AggregationSlot(Slot),
    AggregateAndProof(Slot),
    RandaoReveal(Epoch),
    SyncCommitteeMessage(Slot),
    SyncCommitteeSelectionProof(Slot),
    SyncCommitteeContributionAndProof(Slot),
    ValidatorRegistration,
    ExecutionPayloadBid(Slot),
    ExecutionPayloadEnvelope(Slot),
    PayloadAttestation(Slot),
    ProposerPreferences(Slot),
    BuilderRequestAuth(Slot),
}

impl Hashed {
    /// Its kind.
    pub const fn kind(self) -> UnslashableKind {
        match self {
            Self::AggregationSlot(_) => UnslashableKind::AggregationSlot,
            Self::AggregateAndProof(_) => UnslashableKind::AggregateAndProof,
            Self::RandaoReveal(_) => UnslashableKind::RandaoReveal,
            Self::SyncCommitteeMessage(_) => UnslashableKind::SyncCommitteeMessage,
            Self::SyncCommitteeSelectionProof(_) => UnslashableKind::SyncCommitteeSelectionProof,
            Self::SyncCommitteeContributionAndProof(_) => UnslashableKind::SyncCommitteeContributionAndProof,
            Self::ValidatorRegistration => UnslashableKind::ValidatorRegistration,
            Self::ExecutionPayloadBid(_) => UnslashableKind::ExecutionPayloadBid,
            Self::ExecutionPayloadEnvelope(_) => UnslashableKind::ExecutionPayloadEnvelope,
            Self::PayloadAttestation(_) => UnslashableKind::PayloadAttestation,
            Self::ProposerPreferences(_) => UnslashableKind::ProposerPreferences,
            Self::BuilderRequestAuth(_) => UnslashableKind::BuilderRequestAuth,
        }
    }

    /// Its date as a number: of a slot, or for a RANDAO reveal of an epoch; 0 for registrations.
    pub const fn date(self) -> u64 {
        match self {
            Self::AggregationSlot(slot)
            | Self::AggregateAndProof(slot)
            | Self::SyncCommitteeMessage(slot)
            | Self::SyncCommitteeSelectionProof(slot)
            | Self::SyncCommitteeContributionAndProof(slot)
            | Self::ExecutionPayloadBid(slot)
            | Self::ExecutionPayloadEnvelope(slot)
            | Self::PayloadAttestation(slot)
            | Self::ProposerPreferences(slot)
            | Self::BuilderRequestAuth(slot) => slot.0,
            Self::RandaoReveal(epoch) => epoch.0,
            Self::ValidatorRegistration => 0,
        }
    }

    /// The type of this kind and date. `None` for a kind that is not hashed, and for a registration with a date.
    pub const fn new(kind: UnslashableKind, date: u64) -> Option<Self> {
        Some(match kind {
            UnslashableKind::AggregationSlot => Self::AggregationSlot(Slot(date)),
            UnslashableKind::AggregateAndProof => Self::AggregateAndProof(Slot(date)),
            UnslashableKind::RandaoReveal => Self::RandaoReveal(Epoch(date)),
            UnslashableKind::SyncCommitteeMessage => Self::SyncCommitteeMessage(Slot(date)),
            UnslashableKind::SyncCommitteeSelectionProof => Self::SyncCommitteeSelectionProof(Slot(date)),
            UnslashableKind::SyncCommitteeContributionAndProof => Self::SyncCommitteeContributionAndProof(Slot(date)),
            UnslashableKind::ValidatorRegistration if date == 0 => Self::ValidatorRegistration,
            UnslashableKind::ExecutionPayloadBid => Self::ExecutionPayloadBid(Slot(date)),
            UnslashableKind::ExecutionPayloadEnvelope => Self::ExecutionPayloadEnvelope(Slot(date)),
            UnslashableKind::PayloadAttestation => Self::PayloadAttestation(Slot(date)),
            UnslashableKind::ProposerPreferences => Self::ProposerPreferences(Slot(date)),
            UnslashableKind::BuilderRequestAuth => Self::BuilderRequestAuth(Slot(date)),
            UnslashableKind::VoluntaryExit | UnslashableKind::Deposit | UnslashableKind::ValidatorRegistration => {
                return None;
            }
        })
    }
}

impl Stated {
    /// What is left of `message`, whose root is `root`.
    pub(crate) fn of(message: &Message, root: ObjectRoot) -> Self {
        let message = match message {
            Message::Slashable(Slashable::Block(header)) => return Self::Block(*header),
            Message::Slashable(Slashable::Attestation(data)) => return Self::Attestation(*data),
            Message::Unslashable(message) => message,
        };
        let what = match message {
            Unslashable::VoluntaryExit(exit) => return Self::VoluntaryExit(*exit),
            Unslashable::Deposit(deposit) => {
                return Self::Deposit { root: root.0, genesis_fork_version: deposit.genesis_fork_version };
            }
            Unslashable::AggregationSlot(slot) => Hashed::AggregationSlot(*slot),
            Unslashable::AggregateAndProof(message) => Hashed::AggregateAndProof(message.aggregate.data.slot),
            Unslashable::RandaoReveal(epoch) => Hashed::RandaoReveal(*epoch),
            Unslashable::SyncCommitteeMessage(message) => Hashed::SyncCommitteeMessage(message.slot),
            Unslashable::SyncCommitteeSelectionProof(data) => Hashed::SyncCommitteeSelectionProof(data.slot),
            Unslashable::SyncCommitteeContributionAndProof(message) => {
                Hashed::SyncCommitteeContributionAndProof(message.contribution.slot)
            }
            Unslashable::ValidatorRegistration(_) => Hashed::ValidatorRegistration,
            Unslashable::ExecutionPayloadBid(bid) => Hashed::ExecutionPayloadBid(bid.slot),
            Unslashable::ExecutionPayloadEnvelope(envelope) => {
                Hashed::ExecutionPayloadEnvelope(envelope.payload.slot_number)
            }
            Unslashable::PayloadAttestation(data) => Hashed::PayloadAttestation(data.slot),
            Unslashable::ProposerPreferences(preferences) => Hashed::ProposerPreferences(preferences.proposal_slot),
            Unslashable::BuilderRequestAuth(auth) => Hashed::BuilderRequestAuth(auth.slot),
        };
        Self::Hashed { what, root: root.0 }
    }

    /// `hash_tree_root` of the message: computed where the message is here, and else the one given.
    pub(crate) fn object_root(&self) -> ObjectRoot {
        ObjectRoot(match self {
            Self::Block(header) => header.tree_root(),
            Self::Attestation(data) => data.tree_root(),
            Self::VoluntaryExit(exit) => exit.tree_root(),
            Self::Deposit { root, .. } | Self::Hashed { root, .. } => *root,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: kinds and dates round trip, and only hashed kinds are taken. That a statement has the root of
    //! its message is checked for every example and vector, in `proto/wire/tests`.

    use super::*;
    use crate::message::MessageKind;

    #[test]
    fn kinds_and_dates_come_back() {
        let mut hashed = 0;
        for kind in MessageKind::ALL {
            let MessageKind::Unslashable(kind) = kind else { continue };
            let Some(what) = Hashed::new(kind, 7).or_else(|| Hashed::new(kind, 0)) else { continue };
            assert_eq!((what.kind(), Hashed::new(kind, what.date())), (kind, Some(what)));
            hashed += 1;
        }
        assert_eq!(hashed, 12, "all but exits and deposits");
        assert_eq!(Hashed::new(UnslashableKind::ValidatorRegistration, 1), None);
    }
}
