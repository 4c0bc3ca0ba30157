//! Messages that exist from Gloas on (EIP-7732 and the builder API).
//!
//! Kept apart because their field lists still move with the drafts of the consensus
//! specification: nothing outside this file knows how they are hashed. Field order is hashing
//! order (consensus specification v1.7.0-alpha.13).

use crate::error::TreeError;
use crate::ids::{PublicKey, ValidatorIndex};
use crate::merkle::{self, Chunk, TreeRoot, progressive_container};
use crate::message::{Address, Bytes32, SignatureBytes};
use crate::roots::container_root;
use crate::time::Slot;

/// A KZG commitment (48 bytes, never interpreted here).
pub type KzgCommitment = [u8; 48];

/// A 256-bit unsigned number as SSZ has it: 32 bytes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uint256(pub [u8; 32]);

/// An index in the list of builders; `u64::MAX` stands for a proposer that builds for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuilderIndex(pub u64);

/// ExecutionPayloadBid (progressive container of 12 fields).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ExecutionPayloadBid {
    pub parent_block_hash: Bytes32,
    pub parent_block_root: Bytes32,
    pub block_hash: Bytes32,
    pub prev_randao: Bytes32,
    pub fee_recipient: Address,
    pub gas_limit: u64,
    pub builder_index: BuilderIndex,
    pub slot: Slot,
    /// Gwei.
    pub value: u64,
    /// Gwei.
    pub execution_payment: u64,
    pub blob_kzg_commitments: Vec<KzgCommitment>,
    pub execution_requests_root: Bytes32,
}

/// ExecutionPayloadEnvelope (progressive container of 5 fields).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ExecutionPayloadEnvelope {
    pub payload: ExecutionPayload,
    pub execution_requests: ExecutionRequests,
    pub builder_index: BuilderIndex,
    pub beacon_block_root: Bytes32,
    pub parent_beacon_block_root: Bytes32,
}

/// ExecutionPayload in its Gloas form (progressive container of 19 fields).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ExecutionPayload {
    pub parent_hash: Bytes32,
    pub fee_recipient: Address,
    pub state_root: Bytes32,
    pub receipts_root: Bytes32,
    pub logs_bloom: Box<[u8; 256]>,
    pub prev_randao: Bytes32,
    pub block_number: u64,
    pub gas_limit: u64,
    pub gas_used: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// At most 32 bytes.
    pub extra_data: Vec<u8>,
    pub base_fee_per_gas: Uint256,
    pub block_hash: Bytes32,
    pub transactions: Vec<Vec<u8>>,
    pub withdrawals: Vec<Withdrawal>,
    pub blob_gas_used: u64,
    pub excess_blob_gas: u64,
    pub block_access_list: Vec<u8>,
    pub slot_number: Slot,
}

/// Withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct Withdrawal {
    pub index: u64,
    pub validator_index: ValidatorIndex,
    pub address: Address,
    /// Gwei.
    pub amount: u64,
}

/// ExecutionRequests in its Gloas form (progressive container of 5 fields).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ExecutionRequests {
    pub deposits: Vec<DepositRequest>,
    pub withdrawals: Vec<WithdrawalRequest>,
    pub consolidations: Vec<ConsolidationRequest>,
    pub builder_deposits: Vec<BuilderDepositRequest>,
    pub builder_exits: Vec<BuilderExitRequest>,
}

/// DepositRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct DepositRequest {
    pub pubkey: PublicKey,
    pub withdrawal_credentials: Bytes32,
    /// Gwei.
    pub amount: u64,
    pub signature: SignatureBytes,
    pub index: u64,
}

/// WithdrawalRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct WithdrawalRequest {
    pub source_address: Address,
    pub validator_pubkey: PublicKey,
    /// Gwei.
    pub amount: u64,
}

/// ConsolidationRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ConsolidationRequest {
    pub source_address: Address,
    pub source_pubkey: PublicKey,
    pub target_pubkey: PublicKey,
}

/// BuilderDepositRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BuilderDepositRequest {
    pub pubkey: PublicKey,
    pub withdrawal_credentials: Bytes32,
    /// Gwei.
    pub amount: u64,
    pub signature: SignatureBytes,
}

/// BuilderExitRequest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BuilderExitRequest {
    pub source_address: Address,
    pub pubkey: PublicKey,
}

/// PayloadAttestationData.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct PayloadAttestationData {
    pub beacon_block_root: Bytes32,
    pub slot: Slot,
    pub payload_present: bool,
    pub blob_data_available: bool,
}

/// ProposerPreferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct ProposerPreferences {
    pub dependent_root: Bytes32,
    pub proposal_slot: Slot,
    pub validator_index: ValidatorIndex,
    pub fee_recipient: Address,
    pub target_gas_limit: u64,
}

/// BuilderRequestAuth.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's own field names")]
pub struct BuilderRequestAuth {
    /// 1 to 4096 opaque bytes.
    pub data: Vec<u8>,
    pub slot: Slot,
}

/// MAX_EXTRA_DATA_BYTES.
const MAX_EXTRA_DATA_BYTES: usize = 32;
/// Limit of `BuilderRequestAuth.data`; part of the tree.
const MAX_REQUEST_AUTH_BYTES: usize = 4096;

impl Uint256 {
    /// Reads a decimal number, as JSON has it; `None` if it is not one or needs more than 256 bits.
    pub fn from_decimal(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let mut bytes = [0u8; 32];
        for digit in text.chars() {
            let mut carry = digit.to_digit(10)?;
            for byte in &mut bytes {
                let value = u32::from(*byte).checked_mul(10)?.checked_add(carry)?;
                *byte = u8::try_from(value & 0xff).ok()?;
                carry = value >> 8;
            }
            if carry != 0 {
                return None;
            }
        }
        Some(Self(bytes))
    }
}

impl TreeRoot for BuilderIndex {
    fn tree_root(&self) -> Chunk {
        self.0.tree_root()
    }
}

container_root! {
    Withdrawal { index, validator_index, address, amount }
    DepositRequest { pubkey, withdrawal_credentials, amount, signature, index }
    WithdrawalRequest { source_address, validator_pubkey, amount }
    ConsolidationRequest { source_address, source_pubkey, target_pubkey }
    BuilderDepositRequest { pubkey, withdrawal_credentials, amount, signature }
    BuilderExitRequest { source_address, pubkey }
    PayloadAttestationData { beacon_block_root, slot, payload_present, blob_data_available }
    ProposerPreferences { dependent_root, proposal_slot, validator_index, fee_recipient, target_gas_limit }
}

fn progressive_list<T: TreeRoot>(elements: &[T]) -> Chunk {
    let roots: Vec<Chunk> = elements.iter().map(TreeRoot::tree_root).collect();
    merkle::progressive_list(&roots)
}

impl TreeRoot for ExecutionPayloadBid {
    fn tree_root(&self) -> Chunk {
        progressive_container([
            self.parent_block_hash,
            self.parent_block_root,
            self.block_hash,
            self.prev_randao,
            self.fee_recipient.tree_root(),
            self.gas_limit.tree_root(),
            self.builder_index.tree_root(),
            self.slot.tree_root(),
            self.value.tree_root(),
            self.execution_payment.tree_root(),
            progressive_list(&self.blob_kzg_commitments),
            self.execution_requests_root,
        ])
    }
}

impl ExecutionPayloadEnvelope {
    pub(crate) fn root(&self) -> Result<Chunk, TreeError> {
        Ok(progressive_container([
            self.payload.root()?,
            self.execution_requests.tree_root(),
            self.builder_index.tree_root(),
            self.beacon_block_root,
            self.parent_beacon_block_root,
        ]))
    }
}

impl ExecutionPayload {
    fn root(&self) -> Result<Chunk, TreeError> {
        let extra_data = merkle::byte_list("payload.extra_data", &self.extra_data, MAX_EXTRA_DATA_BYTES)?;
        let transactions: Vec<Chunk> =
            self.transactions.iter().map(|bytes| merkle::progressive_byte_list(bytes)).collect();
        Ok(progressive_container([
            self.parent_hash,
            self.fee_recipient.tree_root(),
            self.state_root,
            self.receipts_root,
            self.logs_bloom.tree_root(),
            self.prev_randao,
            self.block_number.tree_root(),
            self.gas_limit.tree_root(),
            self.gas_used.tree_root(),
            self.timestamp.tree_root(),
            extra_data,
            self.base_fee_per_gas.0,
            self.block_hash,
            merkle::progressive_list(&transactions),
            progressive_list(&self.withdrawals),
            self.blob_gas_used.tree_root(),
            self.excess_blob_gas.tree_root(),
            merkle::progressive_byte_list(&self.block_access_list),
            self.slot_number.tree_root(),
        ]))
    }
}

impl TreeRoot for ExecutionRequests {
    fn tree_root(&self) -> Chunk {
        progressive_container([
            progressive_list(&self.deposits),
            progressive_list(&self.withdrawals),
            progressive_list(&self.consolidations),
            progressive_list(&self.builder_deposits),
            progressive_list(&self.builder_exits),
        ])
    }
}

impl BuilderRequestAuth {
    pub(crate) fn root(&self) -> Result<Chunk, TreeError> {
        const FIELD: &str = "builder_request_auth.data";
        if self.data.is_empty() {
            return Err(TreeError::Empty { field: FIELD });
        }
        let data = merkle::byte_list(FIELD, &self.data, MAX_REQUEST_AUTH_BYTES)?;
        Ok(merkle::container([data, self.slot.tree_root()]))
    }
}
