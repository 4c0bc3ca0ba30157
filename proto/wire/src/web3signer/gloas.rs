//! The five Gloas types, as `{version, data}` (API version 1.4.0) or bare (clients before it).
//!
//! A version must be GLOAS: later forks add members to these containers, so the form is keyed on
//! the version and never on which members happen to be there.

use holdfast_domain::ForkName;
use holdfast_domain::gloas::{
    BuilderDepositRequest, BuilderExitRequest, BuilderRequestAuth, ConsolidationRequest, DepositRequest,
    ExecutionPayload, ExecutionPayloadBid, ExecutionPayloadEnvelope, ExecutionRequests, PayloadAttestationData,
    ProposerPreferences, Withdrawal, WithdrawalRequest,
};
use serde_json::value::RawValue;

use crate::error::{Excerpt, WireError};
use crate::json::{self, Wire, wire_object};
use crate::web3signer::Wrapped;

wire_object! {
    ExecutionPayloadBid {
        parent_block_hash, parent_block_root, block_hash, prev_randao, fee_recipient, gas_limit, builder_index,
        slot, value, execution_payment, blob_kzg_commitments, execution_requests_root,
    }
    ExecutionPayloadEnvelope {
        payload, execution_requests, builder_index, beacon_block_root, parent_beacon_block_root,
    }
    ExecutionPayload {
        parent_hash, fee_recipient, state_root, receipts_root, logs_bloom, prev_randao, block_number, gas_limit,
        gas_used, timestamp, extra_data, base_fee_per_gas, block_hash, transactions, withdrawals, blob_gas_used,
        excess_blob_gas, block_access_list, slot_number,
    }
    Withdrawal { index, validator_index, address, amount }
    ExecutionRequests { deposits, withdrawals, consolidations, builder_deposits, builder_exits }
    DepositRequest { pubkey, withdrawal_credentials, amount, signature, index }
    WithdrawalRequest { source_address, validator_pubkey, amount }
    ConsolidationRequest { source_address, source_pubkey, target_pubkey }
    BuilderDepositRequest { pubkey, withdrawal_credentials, amount, signature }
    BuilderExitRequest { source_address, pubkey }
    PayloadAttestationData { beacon_block_root, slot, payload_present, blob_data_available }
    ProposerPreferences { dependent_root, proposal_slot, validator_index, fee_recipient, target_gas_limit }
    BuilderRequestAuth { data, slot }
}

/// Reads the body member of a Gloas type.
pub(crate) fn read<T: Wire>(raw: &RawValue, path: &'static str) -> Result<T, WireError> {
    match Wrapped::of(raw, path)? {
        Wrapped::Bare => json::read(raw, path),
        Wrapped::Versioned { version: ForkName::Gloas, data } => json::read(data, &format!("{path}.data")),
        Wrapped::Versioned {
            version:
                version @ (ForkName::Phase0
                | ForkName::Altair
                | ForkName::Bellatrix
                | ForkName::Capella
                | ForkName::Deneb
                | ForkName::Electra
                | ForkName::Fulu),
            ..
        } => Err(WireError::Malformed {
            path: format!("{path}.version"),
            expected: "GLOAS, the only fork that has this type".into(),
            found: Some(Excerpt::of(version.as_str())),
        }),
    }
}
