//! Everything that can be signed, as a closed set.
//!
//! [`Message`] is `Slashable | Unslashable`; both are closed enums matched without wildcards
//! everywhere, so a new message type cannot become "allowed by default". A [`Subject`] is what
//! stays of a message once its root is computed: enough to judge it and to write it down.

use crate::fork::ForkVersion;
use crate::ids::{PublicKey, ValidatorIndex};
use crate::time::{Epoch, Slot};

/// A BLS signature carried inside a message (96 bytes, never interpreted here).
pub type SignatureBytes = [u8; 96];
/// A 32-byte hash or root carried inside a message.
pub type Bytes32 = [u8; 32];
/// An execution address.
pub type Address = [u8; 20];

/// A message to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Signing two conflicting ones gets the validator slashed.
    Slashable(Slashable),
    /// No slashing rule exists for it.
    Unslashable(Unslashable),
}

/// Messages with a slashing rule (EIP-3076).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slashable {
    /// A block, always as its header: `hash_tree_root(block) == hash_tree_root(header)`.
    /// Full phase0 and Altair blocks become headers through [`crate::body`].
    Block(BeaconBlockHeader),
    /// An attestation.
    Attestation(AttestationData),
}

/// Messages without a slashing rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unslashable {
    /// Selection proof of an attestation aggregator.
    AggregationSlot(Slot),
    /// Aggregate and proof, any fork's shape.
    AggregateAndProof(Box<AggregateAndProof>),
    /// RANDAO reveal for an epoch.
    RandaoReveal(Epoch),
    /// Voluntary exit.
    VoluntaryExit(VoluntaryExit),
    /// Deposit; carries its own fork version.
    Deposit(Deposit),
    /// Sync committee message.
    SyncCommitteeMessage(SyncCommitteeMessage),
    /// Selection proof of a sync committee aggregator.
    SyncCommitteeSelectionProof(SyncAggregatorSelectionData),
    /// Sync committee contribution and proof.
    SyncCommitteeContributionAndProof(Box<ContributionAndProof>),
    /// Builder registration.
    ValidatorRegistration(ValidatorRegistration),
    /// Gloas: bid of a builder.
    ExecutionPayloadBid(Box<crate::gloas::ExecutionPayloadBid>),
    /// Gloas: payload envelope of a builder or self-building proposer.
    ExecutionPayloadEnvelope(Box<crate::gloas::ExecutionPayloadEnvelope>),
    /// Gloas: payload timeliness attestation.
    PayloadAttestation(crate::gloas::PayloadAttestationData),
    /// Gloas: proposer preferences.
    ProposerPreferences(crate::gloas::ProposerPreferences),
    /// Gloas builder API: request authentication.
    BuilderRequestAuth(crate::gloas::BuilderRequestAuth),
}

/// BeaconBlockHeader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BeaconBlockHeader {
    pub slot: Slot,
    pub proposer_index: ValidatorIndex,
    pub parent_root: Bytes32,
    pub state_root: Bytes32,
    pub body_root: Bytes32,
}

/// Checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct Checkpoint {
    pub epoch: Epoch,
    pub root: Bytes32,
}

/// AttestationData. `index` is never judged by fork: Gloas gives it a new meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct AttestationData {
    pub slot: Slot,
    pub index: u64,
    pub beacon_block_root: Bytes32,
    pub source: Checkpoint,
    pub target: Checkpoint,
}

/// An SSZ bit list as sent: serialised bytes including the delimiter bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitlistBytes(pub Vec<u8>);

/// Which container an aggregate's attestation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttestationShape {
    /// phase0 to Deneb.
    Phase0,
    /// Electra and Fulu: `committee_bits` as serialised bit vector (no delimiter).
    Electra(Vec<u8>),
    /// Gloas: same members as Electra, progressive tree (EIP-7688).
    Gloas(Vec<u8>),
}

/// Attestation (the aggregate inside AggregateAndProof).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct Attestation {
    pub aggregation_bits: BitlistBytes,
    pub data: AttestationData,
    pub signature: SignatureBytes,
    /// Fork-dependent part.
    pub shape: AttestationShape,
}

/// AggregateAndProof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct AggregateAndProof {
    pub aggregator_index: ValidatorIndex,
    pub aggregate: Attestation,
    pub selection_proof: SignatureBytes,
}

/// VoluntaryExit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct VoluntaryExit {
    pub epoch: Epoch,
    pub validator_index: ValidatorIndex,
}

/// DepositMessage with the fork version its domain uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct Deposit {
    pub pubkey: PublicKey,
    pub withdrawal_credentials: Bytes32,
    /// Gwei.
    pub amount: u64,
    pub genesis_fork_version: ForkVersion,
}

/// What a sync committee member signs; the slot only selects the fork version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct SyncCommitteeMessage {
    pub beacon_block_root: Bytes32,
    pub slot: Slot,
}

/// SyncAggregatorSelectionData.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct SyncAggregatorSelectionData {
    pub slot: Slot,
    pub subcommittee_index: u64,
}

/// SyncCommitteeContribution. `aggregation_bits` is a serialised bit vector of SYNC_COMMITTEE_SIZE / 4 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct SyncCommitteeContribution {
    pub slot: Slot,
    pub beacon_block_root: Bytes32,
    pub subcommittee_index: u64,
    pub aggregation_bits: Vec<u8>,
    pub signature: SignatureBytes,
}

/// ContributionAndProof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ContributionAndProof {
    pub aggregator_index: ValidatorIndex,
    pub contribution: SyncCommitteeContribution,
    pub selection_proof: SignatureBytes,
}

/// ValidatorRegistrationV1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ValidatorRegistration {
    pub fee_recipient: Address,
    pub gas_limit: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    pub pubkey: PublicKey,
}

/// The kind of a slashable message, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlashableKind {
    /// A block proposal.
    Block,
    /// An attestation.
    Attestation,
}

/// The kind of an unslashable message, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "same names as the variants of `Unslashable`")]
pub enum UnslashableKind {
    AggregationSlot,
    AggregateAndProof,
    RandaoReveal,
    VoluntaryExit,
    Deposit,
    SyncCommitteeMessage,
    SyncCommitteeSelectionProof,
    SyncCommitteeContributionAndProof,
    ValidatorRegistration,
    ExecutionPayloadBid,
    ExecutionPayloadEnvelope,
    PayloadAttestation,
    ProposerPreferences,
    BuilderRequestAuth,
}

/// The kind of any message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// With a slashing rule.
    Slashable(SlashableKind),
    /// Without one.
    Unslashable(UnslashableKind),
}

impl MessageKind {
    /// Every kind, in wire-code order.
    pub const ALL: [Self; 16] = [
        Self::Slashable(SlashableKind::Block),
        Self::Slashable(SlashableKind::Attestation),
        Self::Unslashable(UnslashableKind::AggregationSlot),
        Self::Unslashable(UnslashableKind::AggregateAndProof),
        Self::Unslashable(UnslashableKind::RandaoReveal),
        Self::Unslashable(UnslashableKind::VoluntaryExit),
        Self::Unslashable(UnslashableKind::Deposit),
        Self::Unslashable(UnslashableKind::SyncCommitteeMessage),
        Self::Unslashable(UnslashableKind::SyncCommitteeSelectionProof),
        Self::Unslashable(UnslashableKind::SyncCommitteeContributionAndProof),
        Self::Unslashable(UnslashableKind::ValidatorRegistration),
        Self::Unslashable(UnslashableKind::ExecutionPayloadBid),
        Self::Unslashable(UnslashableKind::ExecutionPayloadEnvelope),
        Self::Unslashable(UnslashableKind::PayloadAttestation),
        Self::Unslashable(UnslashableKind::ProposerPreferences),
        Self::Unslashable(UnslashableKind::BuilderRequestAuth),
    ];

    /// Lower-case word for metric labels, journals and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slashable(SlashableKind::Block) => "block",
            Self::Slashable(SlashableKind::Attestation) => "attestation",
            Self::Unslashable(kind) => match kind {
                UnslashableKind::AggregationSlot => "aggregation_slot",
                UnslashableKind::AggregateAndProof => "aggregate_and_proof",
                UnslashableKind::RandaoReveal => "randao_reveal",
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

    /// Stable one-byte code used in the journal. Never reuse or change one.
    pub const fn code(self) -> u8 {
        match self {
            Self::Slashable(SlashableKind::Block) => 1,
            Self::Slashable(SlashableKind::Attestation) => 2,
            Self::Unslashable(kind) => match kind {
                UnslashableKind::AggregationSlot => 3,
                UnslashableKind::AggregateAndProof => 4,
                UnslashableKind::RandaoReveal => 5,
                UnslashableKind::VoluntaryExit => 6,
                UnslashableKind::Deposit => 7,
                UnslashableKind::SyncCommitteeMessage => 8,
                UnslashableKind::SyncCommitteeSelectionProof => 9,
                UnslashableKind::SyncCommitteeContributionAndProof => 10,
                UnslashableKind::ValidatorRegistration => 11,
                UnslashableKind::ExecutionPayloadBid => 12,
                UnslashableKind::ExecutionPayloadEnvelope => 13,
                UnslashableKind::PayloadAttestation => 14,
                UnslashableKind::ProposerPreferences => 15,
                UnslashableKind::BuilderRequestAuth => 16,
            },
        }
    }
}

/// When an unslashable message is dated, for the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dating {
    /// By slot.
    Slot(Slot),
    /// By epoch.
    Epoch(Epoch),
    /// Not dated (deposits, registrations).
    Undated,
}

/// What is judged and recorded of a message: no content, no secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A block proposal at a slot.
    Block {
        /// The proposal's slot.
        slot: Slot,
    },
    /// An attestation.
    Attestation {
        /// Slot of the attestation (recorded, not judged).
        slot: Slot,
        /// Source epoch.
        source: Epoch,
        /// Target epoch.
        target: Epoch,
    },
    /// Anything without a slashing rule.
    Unslashable {
        /// Which type.
        kind: UnslashableKind,
        /// Its date.
        dating: Dating,
    },
}

impl Subject {
    /// The kind of message.
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Block { .. } => MessageKind::Slashable(SlashableKind::Block),
            Self::Attestation { .. } => MessageKind::Slashable(SlashableKind::Attestation),
            Self::Unslashable { kind, .. } => MessageKind::Unslashable(*kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_are_distinct_and_in_order() {
        let codes: Vec<u8> = MessageKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes, (1..=16).collect::<Vec<u8>>());
        let words: std::collections::BTreeSet<_> = MessageKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), 16);
    }
}
