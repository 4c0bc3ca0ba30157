//! The containers of everything before Gloas, declared for the `tree_hash` and `ssz_types` crates.

use ssz_types::typenum::{U2, U16, U33, U128, U2048, Unsigned};
use ssz_types::{BitList, BitVector, FixedVector, VariableList};
use tree_hash::TreeHash;
use tree_hash_derive::TreeHash;

pub type Root = [u8; 32];
pub type Signature = [u8; 96];

#[derive(TreeHash)]
pub struct Checkpoint {
    pub epoch: u64,
    pub root: Root,
}

#[derive(TreeHash)]
pub struct AttestationData {
    pub slot: u64,
    pub index: u64,
    pub beacon_block_root: Root,
    pub source: Checkpoint,
    pub target: Checkpoint,
}

#[derive(TreeHash)]
pub struct Header {
    pub slot: u64,
    pub proposer_index: u64,
    pub parent_root: Root,
    pub state_root: Root,
    pub body_root: Root,
}

#[derive(TreeHash)]
pub struct Attestation {
    pub aggregation_bits: BitList<U2048>,
    pub data: AttestationData,
    pub signature: Signature,
}

#[derive(TreeHash)]
pub struct ElectraAttestation<Bits: Unsigned + Clone, Committees: Unsigned + Clone> {
    pub aggregation_bits: BitList<Bits>,
    pub data: AttestationData,
    pub signature: Signature,
    pub committee_bits: BitVector<Committees>,
}

#[derive(TreeHash)]
pub struct AggregateAndProof<T: TreeHash> {
    pub aggregator_index: u64,
    pub aggregate: T,
    pub selection_proof: Signature,
}

#[derive(TreeHash)]
pub struct VoluntaryExit {
    pub epoch: u64,
    pub validator_index: u64,
}

#[derive(TreeHash)]
pub struct Deposit {
    pub pubkey: [u8; 48],
    pub withdrawal_credentials: Root,
    pub amount: u64,
}

#[derive(TreeHash)]
pub struct SelectionData {
    pub slot: u64,
    pub subcommittee_index: u64,
}

#[derive(TreeHash)]
pub struct Contribution<Bits: Unsigned + Clone> {
    pub slot: u64,
    pub beacon_block_root: Root,
    pub subcommittee_index: u64,
    pub aggregation_bits: BitVector<Bits>,
    pub signature: Signature,
}

#[derive(TreeHash)]
pub struct ContributionAndProof<Bits: Unsigned + Clone> {
    pub aggregator_index: u64,
    pub contribution: Contribution<Bits>,
    pub selection_proof: Signature,
}

#[derive(TreeHash)]
pub struct Registration {
    pub fee_recipient: [u8; 20],
    pub gas_limit: u64,
    pub timestamp: u64,
    pub pubkey: [u8; 48],
}

#[derive(TreeHash)]
pub struct Eth1Data {
    pub deposit_root: Root,
    pub deposit_count: u64,
    pub block_hash: Root,
}

#[derive(TreeHash)]
pub struct SignedHeader {
    pub message: Header,
    pub signature: Signature,
}

#[derive(TreeHash)]
pub struct ProposerSlashing {
    pub signed_header_1: SignedHeader,
    pub signed_header_2: SignedHeader,
}

#[derive(TreeHash)]
pub struct IndexedAttestation {
    pub attesting_indices: VariableList<u64, U2048>,
    pub data: AttestationData,
    pub signature: Signature,
}

#[derive(TreeHash)]
pub struct AttesterSlashing {
    pub attestation_1: IndexedAttestation,
    pub attestation_2: IndexedAttestation,
}

#[derive(TreeHash)]
pub struct DepositData {
    pub pubkey: [u8; 48],
    pub withdrawal_credentials: Root,
    pub amount: u64,
    pub signature: Signature,
}

#[derive(TreeHash)]
pub struct BodyDeposit {
    pub proof: FixedVector<tree_hash::Hash256, U33>,
    pub data: DepositData,
}

#[derive(TreeHash)]
pub struct SignedExit {
    pub message: VoluntaryExit,
    pub signature: Signature,
}

#[derive(TreeHash)]
pub struct SyncAggregate<Members: Unsigned + Clone> {
    pub sync_committee_bits: BitVector<Members>,
    pub sync_committee_signature: Signature,
}

#[derive(TreeHash)]
pub struct Phase0Body {
    pub randao_reveal: Signature,
    pub eth1_data: Eth1Data,
    pub graffiti: Root,
    pub proposer_slashings: VariableList<ProposerSlashing, U16>,
    pub attester_slashings: VariableList<AttesterSlashing, U2>,
    pub attestations: VariableList<Attestation, U128>,
    pub deposits: VariableList<BodyDeposit, U16>,
    pub voluntary_exits: VariableList<SignedExit, U16>,
}

#[derive(TreeHash)]
pub struct AltairBody<Members: Unsigned + Clone> {
    pub randao_reveal: Signature,
    pub eth1_data: Eth1Data,
    pub graffiti: Root,
    pub proposer_slashings: VariableList<ProposerSlashing, U16>,
    pub attester_slashings: VariableList<AttesterSlashing, U2>,
    pub attestations: VariableList<Attestation, U128>,
    pub deposits: VariableList<BodyDeposit, U16>,
    pub voluntary_exits: VariableList<SignedExit, U16>,
    pub sync_aggregate: SyncAggregate<Members>,
}

#[derive(TreeHash)]
pub struct Block<Body: TreeHash> {
    pub slot: u64,
    pub proposer_index: u64,
    pub parent_root: Root,
    pub state_root: Root,
    pub body: Body,
}

#[derive(TreeHash)]
pub struct ForkData {
    pub current_version: [u8; 4],
    pub genesis_validators_root: Root,
}

#[derive(TreeHash)]
pub struct SigningData {
    pub object_root: Root,
    pub domain: Root,
}
