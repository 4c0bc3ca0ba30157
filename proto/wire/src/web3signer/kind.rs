//! The values of `type` and the member each one names.
//!
//! Three do not follow their type's name: `beacon_block`, `sync_aggregator_selection_data` and
//! `contribution_and_proof`. Gloas types are also accepted under the names clients used before
//! version 1.4.0 of the API settled them.

use crate::error::{Excerpt, WireError};
use crate::members::{Members, read_text};

/// Every member of a request that is ever read.
pub(crate) const MEMBERS: [&str; 24] = [
    "type",
    "fork_info",
    "signing_root",
    "signingRoot",
    "attestation",
    "aggregation_slot",
    "aggregate_and_proof",
    "randao_reveal",
    "beacon_block",
    "sync_committee_message",
    "sync_aggregator_selection_data",
    "contribution_and_proof",
    "block",
    "voluntary_exit",
    "deposit",
    "validator_registration",
    "execution_payload_bid",
    "execution_payload_envelope",
    "payload_attestation_message",
    "payload_attestation",
    "payload_attestation_data",
    "proposer_preferences",
    "builder_request_auth",
    "request_auth",
];

/// A supported value of `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    BlockV2,
    Attestation,
    AggregationSlot,
    AggregateAndProof,
    AggregateAndProofV2,
    RandaoReveal,
    VoluntaryExit,
    Deposit,
    SyncCommitteeMessage,
    SyncCommitteeSelectionProof,
    SyncCommitteeContributionAndProof,
    ValidatorRegistration,
    ExecutionPayloadBid,
    ExecutionPayloadEnvelope,
    PayloadAttestationMessage,
    ProposerPreferences,
    BuilderRequestAuth,
}

impl Kind {
    /// Frequent ones first.
    const ALL: [Self; 18] = [
        Self::Attestation,
        Self::AggregationSlot,
        Self::SyncCommitteeMessage,
        Self::SyncCommitteeSelectionProof,
        Self::SyncCommitteeContributionAndProof,
        Self::AggregateAndProof,
        Self::AggregateAndProofV2,
        Self::RandaoReveal,
        Self::BlockV2,
        Self::PayloadAttestationMessage,
        Self::ValidatorRegistration,
        Self::ProposerPreferences,
        Self::ExecutionPayloadEnvelope,
        Self::ExecutionPayloadBid,
        Self::BuilderRequestAuth,
        Self::Block,
        Self::Deposit,
        Self::VoluntaryExit,
    ];

    /// The published name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "BLOCK",
            Self::BlockV2 => "BLOCK_V2",
            Self::Attestation => "ATTESTATION",
            Self::AggregationSlot => "AGGREGATION_SLOT",
            Self::AggregateAndProof => "AGGREGATE_AND_PROOF",
            Self::AggregateAndProofV2 => "AGGREGATE_AND_PROOF_V2",
            Self::RandaoReveal => "RANDAO_REVEAL",
            Self::VoluntaryExit => "VOLUNTARY_EXIT",
            Self::Deposit => "DEPOSIT",
            Self::SyncCommitteeMessage => "SYNC_COMMITTEE_MESSAGE",
            Self::SyncCommitteeSelectionProof => "SYNC_COMMITTEE_SELECTION_PROOF",
            Self::SyncCommitteeContributionAndProof => "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF",
            Self::ValidatorRegistration => "VALIDATOR_REGISTRATION",
            Self::ExecutionPayloadBid => "EXECUTION_PAYLOAD_BID",
            Self::ExecutionPayloadEnvelope => "EXECUTION_PAYLOAD_ENVELOPE",
            Self::PayloadAttestationMessage => "PAYLOAD_ATTESTATION_MESSAGE",
            Self::ProposerPreferences => "PROPOSER_PREFERENCES",
            Self::BuilderRequestAuth => "BUILDER_REQUEST_AUTH",
        }
    }

    /// The member that carries the message, and other names for it.
    pub(crate) const fn carriers(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Block => ("block", &[]),
            Self::BlockV2 => ("beacon_block", &[]),
            Self::Attestation => ("attestation", &[]),
            Self::AggregationSlot => ("aggregation_slot", &[]),
            Self::AggregateAndProof | Self::AggregateAndProofV2 => ("aggregate_and_proof", &[]),
            Self::RandaoReveal => ("randao_reveal", &[]),
            Self::VoluntaryExit => ("voluntary_exit", &[]),
            Self::Deposit => ("deposit", &[]),
            Self::SyncCommitteeMessage => ("sync_committee_message", &[]),
            Self::SyncCommitteeSelectionProof => ("sync_aggregator_selection_data", &[]),
            Self::SyncCommitteeContributionAndProof => ("contribution_and_proof", &[]),
            Self::ValidatorRegistration => ("validator_registration", &[]),
            Self::ExecutionPayloadBid => ("execution_payload_bid", &[]),
            Self::ExecutionPayloadEnvelope => ("execution_payload_envelope", &[]),
            Self::PayloadAttestationMessage => {
                ("payload_attestation_message", &["payload_attestation", "payload_attestation_data"])
            }
            Self::ProposerPreferences => ("proposer_preferences", &[]),
            Self::BuilderRequestAuth => ("builder_request_auth", &["request_auth"]),
        }
    }

    /// Whether the domain comes from `fork_info`. The other types are valid on every fork, and
    /// what a client sends as `fork_info` with them is not even read.
    pub(crate) const fn uses_fork_info(self) -> bool {
        match self {
            Self::Deposit | Self::ValidatorRegistration | Self::BuilderRequestAuth => false,
            Self::Block
            | Self::BlockV2
            | Self::Attestation
            | Self::AggregationSlot
            | Self::AggregateAndProof
            | Self::AggregateAndProofV2
            | Self::RandaoReveal
            | Self::VoluntaryExit
            | Self::SyncCommitteeMessage
            | Self::SyncCommitteeSelectionProof
            | Self::SyncCommitteeContributionAndProof
            | Self::ExecutionPayloadBid
            | Self::ExecutionPayloadEnvelope
            | Self::PayloadAttestationMessage
            | Self::ProposerPreferences => true,
        }
    }

    /// Whether one message of this type can be meant for many keys.
    pub(crate) const fn in_batches(self) -> bool {
        match self {
            Self::AggregationSlot
            | Self::Attestation
            | Self::RandaoReveal
            | Self::SyncCommitteeMessage
            | Self::SyncCommitteeSelectionProof => true,
            Self::Block
            | Self::BlockV2
            | Self::AggregateAndProof
            | Self::AggregateAndProofV2
            | Self::VoluntaryExit
            | Self::Deposit
            | Self::SyncCommitteeContributionAndProof
            | Self::ValidatorRegistration
            | Self::ExecutionPayloadBid
            | Self::ExecutionPayloadEnvelope
            | Self::PayloadAttestationMessage
            | Self::ProposerPreferences
            | Self::BuilderRequestAuth => false,
        }
    }

    /// Reads `type`.
    pub(crate) fn of<const N: usize>(members: &Members<'_, N>) -> Result<Self, WireError> {
        let raw = members.get("type")?.ok_or_else(|| WireError::Missing {
            path: "type".to_owned(),
            expected: "the type of the message, e.g. ATTESTATION".into(),
        })?;
        let name = read_text(raw, "type")?;
        Self::named(name.as_str())
    }

    fn named(name: &str) -> Result<Self, WireError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if let Some(kind) = Self::ALL.into_iter().find(|kind| is(kind.as_str())) {
            return Ok(kind);
        }
        if is("PAYLOAD_ATTESTATION") {
            return Ok(Self::PayloadAttestationMessage);
        }
        if is("REQUEST_AUTH") {
            return Ok(Self::BuilderRequestAuth);
        }
        if is("GENERIC") {
            return Err(WireError::UnsupportedType {
                name: "GENERIC",
                instead: "a bare root cannot be judged, send the message itself under its own type",
            });
        }
        Err(WireError::UnknownType { name: Excerpt::of(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_and_its_carriers_are_cut_out() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::ALL.iter().position(|other| *other == kind), Some(index));
            assert_eq!(Kind::named(kind.as_str()), Ok(kind));
            assert_eq!(Kind::named(&kind.as_str().to_ascii_lowercase()), Ok(kind));
            let (published, others) = kind.carriers();
            assert!(MEMBERS.contains(&published) && others.iter().all(|other| MEMBERS.contains(other)), "{kind:?}");
        }
    }

    #[test]
    fn batches_carry_the_five_types_many_keys_sign_alike() {
        let names: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.in_batches()).map(Kind::as_str).collect();
        assert_eq!(
            names,
            [
                "ATTESTATION",
                "AGGREGATION_SLOT",
                "SYNC_COMMITTEE_MESSAGE",
                "SYNC_COMMITTEE_SELECTION_PROOF",
                "RANDAO_REVEAL"
            ]
        );
    }

    #[test]
    fn other_names_are_unknown_or_unsupported() {
        assert_eq!(Kind::named("generic").unwrap_err().reason(), "unsupported_type");
        for name in ["", " ATTESTATION", "ATTESTATION_V2", "BLS_TO_EXECUTION_CHANGE", "ＢLOCK"] {
            assert_eq!(Kind::named(name).unwrap_err().reason(), "unknown_type", "{name}");
        }
    }
}
