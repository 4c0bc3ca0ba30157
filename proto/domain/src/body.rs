//! Full phase0 and Altair blocks.
//!
//! They are the only blocks a client sends whole; they are hashed here into the header that is
//! signed, so that everything after sees one shape of block: `hash_tree_root(block)` equals
//! `hash_tree_root(header)` because `body_root` is the root of the body.

use crate::error::TreeError;
use crate::ids::{PublicKey, ValidatorIndex};
use crate::merkle::{self, Chunk, TreeRoot, container};
use crate::message::{AttestationData, BeaconBlockHeader, BitlistBytes, Bytes32, SignatureBytes, VoluntaryExit};
use crate::network::Preset;
use crate::roots::{MAX_VALIDATORS_PER_COMMITTEE, container_root};
use crate::time::Slot;

/// BeaconBlock of phase0 or Altair.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BeaconBlock {
    pub slot: Slot,
    pub proposer_index: ValidatorIndex,
    pub parent_root: Bytes32,
    pub state_root: Bytes32,
    pub body: BeaconBlockBody,
}

/// BeaconBlockBody of phase0 or Altair.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BeaconBlockBody {
    pub randao_reveal: SignatureBytes,
    pub eth1_data: Eth1Data,
    pub graffiti: Bytes32,
    pub proposer_slashings: Vec<ProposerSlashing>,
    pub attester_slashings: Vec<AttesterSlashing>,
    pub attestations: Vec<BodyAttestation>,
    pub deposits: Vec<BodyDeposit>,
    pub voluntary_exits: Vec<SignedVoluntaryExit>,
    /// `Some` makes it an Altair body, `None` a phase0 body.
    pub sync_aggregate: Option<SyncAggregate>,
}

/// Eth1Data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct Eth1Data {
    pub deposit_root: Bytes32,
    pub deposit_count: u64,
    pub block_hash: Bytes32,
}

/// SignedBeaconBlockHeader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct SignedBeaconBlockHeader {
    pub message: BeaconBlockHeader,
    pub signature: SignatureBytes,
}

/// ProposerSlashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ProposerSlashing {
    pub signed_header_1: SignedBeaconBlockHeader,
    pub signed_header_2: SignedBeaconBlockHeader,
}

/// IndexedAttestation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct IndexedAttestation {
    /// At most 2048.
    pub attesting_indices: Vec<ValidatorIndex>,
    pub data: AttestationData,
    pub signature: SignatureBytes,
}

/// AttesterSlashing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct AttesterSlashing {
    pub attestation_1: IndexedAttestation,
    pub attestation_2: IndexedAttestation,
}

/// Attestation inside a phase0 or Altair body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BodyAttestation {
    pub aggregation_bits: BitlistBytes,
    pub data: AttestationData,
    pub signature: SignatureBytes,
}

/// Deposit inside a body: Merkle proof and data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BodyDeposit {
    pub proof: Box<[Bytes32; 33]>,
    pub data: DepositData,
}

/// DepositData.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct DepositData {
    pub pubkey: PublicKey,
    pub withdrawal_credentials: Bytes32,
    /// Gwei.
    pub amount: u64,
    pub signature: SignatureBytes,
}

/// SignedVoluntaryExit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct SignedVoluntaryExit {
    pub message: VoluntaryExit,
    pub signature: SignatureBytes,
}

/// SyncAggregate. `sync_committee_bits` is a serialised bit vector of SYNC_COMMITTEE_SIZE bits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct SyncAggregate {
    pub sync_committee_bits: Vec<u8>,
    pub sync_committee_signature: SignatureBytes,
}

// Limits of the lists of a body, equal in all presets.
const MAX_PROPOSER_SLASHINGS: usize = 16;
const MAX_ATTESTER_SLASHINGS: usize = 2;
const MAX_ATTESTATIONS: usize = 128;
const MAX_DEPOSITS: usize = 16;
const MAX_VOLUNTARY_EXITS: usize = 16;

impl BeaconBlock {
    /// The header with the same root as this block, which is what is signed.
    ///
    /// # Errors
    /// [`TreeError`] naming the field of the body that breaks the limits of its type.
    pub fn into_header(self, preset: &Preset) -> Result<BeaconBlockHeader, TreeError> {
        Ok(BeaconBlockHeader {
            slot: self.slot,
            proposer_index: self.proposer_index,
            parent_root: self.parent_root,
            state_root: self.state_root,
            body_root: self.body.root(preset)?,
        })
    }
}

impl BeaconBlockBody {
    fn root(&self, preset: &Preset) -> Result<Chunk, TreeError> {
        let randao_reveal = self.randao_reveal.tree_root();
        let eth1_data = self.eth1_data.tree_root();
        let proposer_slashings =
            fixed_list("body.proposer_slashings", &self.proposer_slashings, MAX_PROPOSER_SLASHINGS)?;
        let attester_slashings =
            list("body.attester_slashings", &self.attester_slashings, MAX_ATTESTER_SLASHINGS, AttesterSlashing::root)?;
        let attestations = list("body.attestations", &self.attestations, MAX_ATTESTATIONS, BodyAttestation::root)?;
        let deposits = fixed_list("body.deposits", &self.deposits, MAX_DEPOSITS)?;
        let voluntary_exits = fixed_list("body.voluntary_exits", &self.voluntary_exits, MAX_VOLUNTARY_EXITS)?;
        let root_as_phase0 = || {
            container([
                randao_reveal,
                eth1_data,
                self.graffiti,
                proposer_slashings,
                attester_slashings,
                attestations,
                deposits,
                voluntary_exits,
            ])
        };
        let Some(sync_aggregate) = &self.sync_aggregate else { return Ok(root_as_phase0()) };
        Ok(container([
            randao_reveal,
            eth1_data,
            self.graffiti,
            proposer_slashings,
            attester_slashings,
            attestations,
            deposits,
            voluntary_exits,
            sync_aggregate.root(preset)?,
        ]))
    }
}

/// Refuses a list that is too long before any of its elements is hashed.
fn list<T>(
    field: &'static str,
    elements: &[T],
    limit: usize,
    root: impl Fn(&T) -> Result<Chunk, TreeError>,
) -> Result<Chunk, TreeError> {
    if elements.len() > limit {
        return Err(TreeError::TooLong { field, got: elements.len(), limit });
    }
    let roots: Vec<Chunk> = elements.iter().map(root).collect::<Result<_, _>>()?;
    merkle::list(field, &roots, limit)
}

fn fixed_list<T: TreeRoot>(field: &'static str, elements: &[T], limit: usize) -> Result<Chunk, TreeError> {
    list(field, elements, limit, |element| Ok(element.tree_root()))
}

container_root! {
    Eth1Data { deposit_root, deposit_count, block_hash }
    SignedBeaconBlockHeader { message, signature }
    ProposerSlashing { signed_header_1, signed_header_2 }
    DepositData { pubkey, withdrawal_credentials, amount, signature }
    SignedVoluntaryExit { message, signature }
}

impl TreeRoot for BodyDeposit {
    fn tree_root(&self) -> Chunk {
        container([merkle::chunk_vector(self.proof.as_slice()), self.data.tree_root()])
    }
}

impl IndexedAttestation {
    fn root(&self) -> Result<Chunk, TreeError> {
        const FIELD: &str = "body.attester_slashings.attesting_indices";
        let indices: Vec<u64> = self.attesting_indices.iter().map(|index| index.0).collect();
        let indices = merkle::u64_list(FIELD, &indices, MAX_VALIDATORS_PER_COMMITTEE)?;
        Ok(container([indices, self.data.tree_root(), self.signature.tree_root()]))
    }
}

impl AttesterSlashing {
    fn root(&self) -> Result<Chunk, TreeError> {
        Ok(container([self.attestation_1.root()?, self.attestation_2.root()?]))
    }
}

impl BodyAttestation {
    fn root(&self) -> Result<Chunk, TreeError> {
        const FIELD: &str = "body.attestations.aggregation_bits";
        let bits = merkle::bitlist(FIELD, &self.aggregation_bits.0, MAX_VALIDATORS_PER_COMMITTEE)?;
        Ok(container([bits, self.data.tree_root(), self.signature.tree_root()]))
    }
}

impl SyncAggregate {
    fn root(&self, preset: &Preset) -> Result<Chunk, TreeError> {
        const FIELD: &str = "body.sync_aggregate.sync_committee_bits";
        let bits = merkle::bitvector(FIELD, &self.sync_committee_bits, preset.sync_committee_size)?;
        Ok(container([bits, self.sync_committee_signature.tree_root()]))
    }
}
