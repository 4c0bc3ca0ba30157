//! `hash_tree_root` of every message up to Fulu and of the parts they share.
//!
//! Field order is hashing order (consensus specification, the containers of `beacon-chain.md`
//! and `validator.md` of each fork). Gloas messages are in [`crate::gloas`], block bodies in
//! [`crate::body`].

use crate::error::TreeError;
use crate::ids::{PublicKey, ValidatorIndex};
use crate::merkle::{self, Chunk, TreeRoot, container};
use crate::message::{
    AggregateAndProof, Attestation, AttestationData, AttestationShape, BeaconBlockHeader, Checkpoint,
    ContributionAndProof, Deposit, Message, Slashable, SyncAggregatorSelectionData, SyncCommitteeContribution,
    Unslashable, ValidatorRegistration, VoluntaryExit,
};
use crate::network::Preset;
use crate::root::ObjectRoot;
use crate::time::{Epoch, Slot};

/// MAX_VALIDATORS_PER_COMMITTEE, equal in all presets.
pub(crate) const MAX_VALIDATORS_PER_COMMITTEE: usize = 2048;
/// SYNC_COMMITTEE_SUBNET_COUNT, equal in all presets.
const SYNC_COMMITTEE_SUBNET_COUNT: usize = 4;

impl Message {
    /// `hash_tree_root` of what is signed.
    ///
    /// # Errors
    /// [`TreeError`] naming the field that breaks the limits of its type under `preset`.
    pub fn object_root(&self, preset: &Preset) -> Result<ObjectRoot, TreeError> {
        let root = match self {
            Self::Slashable(Slashable::Block(header)) => header.tree_root(),
            Self::Slashable(Slashable::Attestation(data)) => data.tree_root(),
            Self::Unslashable(message) => match message {
                Unslashable::AggregationSlot(slot) => slot.tree_root(),
                Unslashable::AggregateAndProof(message) => message.root(preset)?,
                Unslashable::RandaoReveal(epoch) => epoch.tree_root(),
                Unslashable::VoluntaryExit(exit) => exit.tree_root(),
                Unslashable::Deposit(deposit) => deposit.tree_root(),
                // The slot is not hashed: what is signed is the block root itself.
                Unslashable::SyncCommitteeMessage(message) => message.beacon_block_root,
                Unslashable::SyncCommitteeSelectionProof(data) => data.tree_root(),
                Unslashable::SyncCommitteeContributionAndProof(message) => message.root(preset)?,
                Unslashable::ValidatorRegistration(registration) => registration.tree_root(),
                Unslashable::ExecutionPayloadBid(bid) => bid.tree_root(),
                Unslashable::ExecutionPayloadEnvelope(envelope) => envelope.root()?,
                Unslashable::PayloadAttestation(data) => data.tree_root(),
                Unslashable::ProposerPreferences(preferences) => preferences.tree_root(),
                Unslashable::BuilderRequestAuth(auth) => auth.root()?,
            },
        };
        Ok(ObjectRoot(root))
    }
}

macro_rules! number_root {
    ($($name:ty),*) => {$(
        impl TreeRoot for $name {
            fn tree_root(&self) -> Chunk {
                self.0.tree_root()
            }
        }
    )*};
}
number_root!(Slot, Epoch, ValidatorIndex);

impl TreeRoot for PublicKey {
    fn tree_root(&self) -> Chunk {
        self.as_bytes().tree_root()
    }
}

/// Implements [`TreeRoot`] for a container of fixed-size fields, in the order given.
macro_rules! container_root {
    ($($name:ty { $($field:ident),* })*) => {$(
        impl $crate::merkle::TreeRoot for $name {
            fn tree_root(&self) -> $crate::merkle::Chunk {
                $crate::merkle::container([$(self.$field.tree_root()),*])
            }
        }
    )*};
}
pub(crate) use container_root;

container_root! {
    Checkpoint { epoch, root }
    AttestationData { slot, index, beacon_block_root, source, target }
    BeaconBlockHeader { slot, proposer_index, parent_root, state_root, body_root }
    VoluntaryExit { epoch, validator_index }
    // DepositMessage: the fork version belongs to the domain.
    Deposit { pubkey, withdrawal_credentials, amount }
    SyncAggregatorSelectionData { slot, subcommittee_index }
    ValidatorRegistration { fee_recipient, gas_limit, timestamp, pubkey }
}

impl Attestation {
    fn root(&self, preset: &Preset) -> Result<Chunk, TreeError> {
        const BITS: &str = "aggregate.aggregation_bits";
        const COMMITTEES: &str = "aggregate.committee_bits";
        let bits = &self.aggregation_bits.0;
        let (data, signature) = (self.data.tree_root(), self.signature.tree_root());
        match &self.shape {
            AttestationShape::Phase0 => {
                Ok(container([merkle::bitlist(BITS, bits, MAX_VALIDATORS_PER_COMMITTEE)?, data, signature]))
            }
            AttestationShape::Electra(committees) => {
                let limit = MAX_VALIDATORS_PER_COMMITTEE.saturating_mul(preset.max_committees_per_slot);
                let committees = merkle::bitvector(COMMITTEES, committees, preset.max_committees_per_slot)?;
                Ok(container([merkle::bitlist(BITS, bits, limit)?, data, signature, committees]))
            }
            AttestationShape::Gloas(committees) => {
                let committees = merkle::bitvector(COMMITTEES, committees, preset.max_committees_per_slot)?;
                let bits = merkle::progressive_bitlist(BITS, bits)?;
                Ok(merkle::progressive_container([bits, data, signature, committees]))
            }
        }
    }
}

impl AggregateAndProof {
    fn root(&self, preset: &Preset) -> Result<Chunk, TreeError> {
        let aggregate = self.aggregate.root(preset)?;
        Ok(container([self.aggregator_index.tree_root(), aggregate, self.selection_proof.tree_root()]))
    }
}

impl SyncCommitteeContribution {
    fn root(&self, preset: &Preset) -> Result<Chunk, TreeError> {
        let bits = preset.sync_committee_size / SYNC_COMMITTEE_SUBNET_COUNT;
        let bits = merkle::bitvector("contribution.aggregation_bits", &self.aggregation_bits, bits)?;
        Ok(container([
            self.slot.tree_root(),
            self.beacon_block_root,
            self.subcommittee_index.tree_root(),
            bits,
            self.signature.tree_root(),
        ]))
    }
}

impl ContributionAndProof {
    fn root(&self, preset: &Preset) -> Result<Chunk, TreeError> {
        let contribution = self.contribution.root(preset)?;
        Ok(container([self.aggregator_index.tree_root(), contribution, self.selection_proof.tree_root()]))
    }
}
