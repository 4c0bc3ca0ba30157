//! Objects whose JSON members are named like the specification's fields and that have one form.

use holdfast_domain::body::{
    AttesterSlashing, BeaconBlock, BeaconBlockBody, BodyAttestation, BodyDeposit, DepositData, Eth1Data,
    IndexedAttestation, ProposerSlashing, SignedBeaconBlockHeader, SignedVoluntaryExit, SyncAggregate,
};
use holdfast_domain::message::{
    AttestationData, BeaconBlockHeader, Checkpoint, ContributionAndProof, Deposit, SyncAggregatorSelectionData,
    SyncCommitteeContribution, SyncCommitteeMessage, ValidatorRegistration, VoluntaryExit,
};
use holdfast_domain::{Epoch, Fork, ForkInfo, ForkName, Slot};
use serde::Deserializer;

use crate::error::Excerpt;
use crate::json::{Expected, Trail, Wire, wire_object};
use crate::members::Text;

/// Body member of AGGREGATION_SLOT.
pub(crate) struct AggregationSlot {
    pub(crate) slot: Slot,
}

/// Body member of RANDAO_REVEAL.
pub(crate) struct RandaoReveal {
    pub(crate) epoch: Epoch,
}

wire_object! {
    Fork { previous_version, current_version, epoch }
    ForkInfo { fork, genesis_validators_root }
    Checkpoint { epoch, root }
    AttestationData { slot, index, beacon_block_root, source, target }
    AggregationSlot { slot }
    RandaoReveal { epoch }
    VoluntaryExit { epoch, validator_index }
    Deposit { pubkey, withdrawal_credentials, amount, genesis_fork_version }
    SyncCommitteeMessage { beacon_block_root, slot }
    SyncAggregatorSelectionData { slot, subcommittee_index }
    SyncCommitteeContribution { slot, beacon_block_root, subcommittee_index, aggregation_bits, signature }
    ContributionAndProof { aggregator_index, contribution, selection_proof }
    ValidatorRegistration { fee_recipient, gas_limit, timestamp, pubkey }
}

// Blocks.
wire_object! {
    BeaconBlockHeader { slot, proposer_index, parent_root, state_root, body_root }
    BeaconBlock { slot, proposer_index, parent_root, state_root, body }
    BeaconBlockBody {
        randao_reveal, eth1_data, graffiti, proposer_slashings, attester_slashings, attestations, deposits,
        voluntary_exits, sync_aggregate,
    }
    Eth1Data { deposit_root, deposit_count, block_hash }
    SignedBeaconBlockHeader { message, signature }
    ProposerSlashing { signed_header_1, signed_header_2 }
    IndexedAttestation { attesting_indices, data, signature }
    AttesterSlashing { attestation_1, attestation_2 }
    BodyAttestation { aggregation_bits, data, signature }
    BodyDeposit { proof, data }
    DepositData { pubkey, withdrawal_credentials, amount, signature }
    SignedVoluntaryExit { message, signature }
    SyncAggregate { sync_committee_bits, sync_committee_signature }
}

impl Wire for ForkName {
    fn expected() -> Expected {
        let names = Self::ALL.map(Self::as_str);
        format!("one of {}", names.join(", ")).into()
    }

    fn read<'de, D: Deserializer<'de>>(input: D, trail: &mut Trail) -> Result<Self, D::Error> {
        let name: Text<'de> = serde::Deserialize::deserialize(input)?;
        Self::ALL
            .into_iter()
            .find(|fork| fork.as_str().eq_ignore_ascii_case(name.as_str()))
            .ok_or_else(|| trail.reject(Self::expected(), Some(Excerpt::of(name.as_str()))))
    }
}
