//! The remote signing API's JSON for tests, in both directions, written once per struct.
//!
//! Deliberately not the parser of the wire crate: it trusts its input.

use holdfast_domain::body::*;
use holdfast_domain::gloas::*;
use holdfast_domain::message::*;
use holdfast_domain::*;
use serde_json::{Map, Value, json};

/// A full block or any other message.
#[expect(clippy::large_enum_variant, reason = "a handful of values in tests")]
pub enum Signable {
    Block(BeaconBlock),
    Message(Message),
}

impl Signable {
    pub fn into_message(self, preset: &Preset) -> Message {
        match self {
            Self::Block(block) => Message::Slashable(Slashable::Block(block.into_header(preset).unwrap())),
            Self::Message(message) => message,
        }
    }
}

pub trait Json {
    fn to(&self) -> Value;
    fn from(value: &Value) -> Self;
}

impl Json for u64 {
    fn to(&self) -> Value {
        json!(self.to_string())
    }
    fn from(value: &Value) -> Self {
        value.as_str().unwrap().parse().unwrap()
    }
}

impl Json for bool {
    fn to(&self) -> Value {
        json!(self)
    }
    fn from(value: &Value) -> Self {
        value.as_bool().unwrap()
    }
}

impl<const N: usize> Json for [u8; N] {
    fn to(&self) -> Value {
        self.to_vec().to()
    }
    fn from(value: &Value) -> Self {
        <Vec<u8> as Json>::from(value).try_into().unwrap()
    }
}

impl Json for Vec<u8> {
    fn to(&self) -> Value {
        json!(self.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }
    fn from(value: &Value) -> Self {
        root::parse_hex_bytes(value.as_str().unwrap()).unwrap()
    }
}

impl<T: Json> Json for Vec<T> {
    fn to(&self) -> Value {
        self.iter().map(Json::to).collect()
    }
    fn from(value: &Value) -> Self {
        value.as_array().unwrap().iter().map(T::from).collect()
    }
}

impl<T: Json> Json for Box<T> {
    fn to(&self) -> Value {
        self.as_ref().to()
    }
    fn from(value: &Value) -> Self {
        Box::new(T::from(value))
    }
}

impl<const M: usize, const N: usize> Json for [[u8; M]; N] {
    fn to(&self) -> Value {
        self.iter().map(Json::to).collect()
    }
    fn from(value: &Value) -> Self {
        <Vec<[u8; M]> as Json>::from(value).try_into().unwrap()
    }
}

impl Json for PublicKey {
    fn to(&self) -> Value {
        self.as_bytes().to()
    }
    fn from(value: &Value) -> Self {
        Self::from_bytes(Json::from(value))
    }
}

impl Json for Uint256 {
    fn to(&self) -> Value {
        unreachable!("only Gloas payloads have one, and none of them is written")
    }
    fn from(value: &Value) -> Self {
        Self::from_decimal(value.as_str().unwrap()).unwrap()
    }
}

macro_rules! wrapper {
    ($($name:ident),*) => {$(
        impl Json for $name {
            fn to(&self) -> Value {
                self.0.to()
            }
            fn from(value: &Value) -> Self {
                Self(Json::from(value))
            }
        }
    )*};
}
wrapper!(Slot, Epoch, ValidatorIndex, BuilderIndex, ForkVersion, GenesisValidatorsRoot, BitlistBytes);

macro_rules! object {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl Json for $name {
            fn to(&self) -> Value {
                json!({ $(stringify!($field): self.$field.to()),* })
            }
            fn from(value: &Value) -> Self {
                Self { $($field: Json::from(&value[stringify!($field)])),* }
            }
        }
    )*};
}
object! {
    Fork { previous_version, current_version, epoch }
    ForkInfo { fork, genesis_validators_root }
    BeaconBlockHeader { slot, proposer_index, parent_root, state_root, body_root }
    Checkpoint { epoch, root }
    AttestationData { slot, index, beacon_block_root, source, target }
    VoluntaryExit { epoch, validator_index }
    Deposit { pubkey, withdrawal_credentials, amount, genesis_fork_version }
    SyncCommitteeMessage { beacon_block_root, slot }
    SyncAggregatorSelectionData { slot, subcommittee_index }
    SyncCommitteeContribution { slot, beacon_block_root, subcommittee_index, aggregation_bits, signature }
    ContributionAndProof { aggregator_index, contribution, selection_proof }
    ValidatorRegistration { fee_recipient, gas_limit, timestamp, pubkey }
    BeaconBlock { slot, proposer_index, parent_root, state_root, body }
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
    ExecutionPayloadBid {
        parent_block_hash, parent_block_root, block_hash, prev_randao, fee_recipient, gas_limit, builder_index, slot,
        value, execution_payment, blob_kzg_commitments, execution_requests_root
    }
    ExecutionPayloadEnvelope {
        payload, execution_requests, builder_index, beacon_block_root, parent_beacon_block_root
    }
    ExecutionPayload {
        parent_hash, fee_recipient, state_root, receipts_root, logs_bloom, prev_randao, block_number, gas_limit,
        gas_used, timestamp, extra_data, base_fee_per_gas, block_hash, transactions, withdrawals, blob_gas_used,
        excess_blob_gas, block_access_list, slot_number
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

impl Json for BeaconBlockBody {
    fn to(&self) -> Value {
        let mut value = json!({
            "randao_reveal": self.randao_reveal.to(),
            "eth1_data": self.eth1_data.to(),
            "graffiti": self.graffiti.to(),
            "proposer_slashings": self.proposer_slashings.to(),
            "attester_slashings": self.attester_slashings.to(),
            "attestations": self.attestations.to(),
            "deposits": self.deposits.to(),
            "voluntary_exits": self.voluntary_exits.to(),
        });
        if let Some(sync_aggregate) = &self.sync_aggregate {
            value["sync_aggregate"] = sync_aggregate.to();
        }
        value
    }
    fn from(value: &Value) -> Self {
        Self {
            randao_reveal: Json::from(&value["randao_reveal"]),
            eth1_data: Json::from(&value["eth1_data"]),
            graffiti: Json::from(&value["graffiti"]),
            proposer_slashings: Json::from(&value["proposer_slashings"]),
            attester_slashings: Json::from(&value["attester_slashings"]),
            attestations: Json::from(&value["attestations"]),
            deposits: Json::from(&value["deposits"]),
            voluntary_exits: Json::from(&value["voluntary_exits"]),
            sync_aggregate: value.get("sync_aggregate").map(Json::from),
        }
    }
}

fn aggregate_to(message: &AggregateAndProof) -> Value {
    let attestation = &message.aggregate;
    let mut aggregate = json!({
        "aggregation_bits": attestation.aggregation_bits.to(),
        "data": attestation.data.to(),
        "signature": attestation.signature.to(),
    });
    match &attestation.shape {
        AttestationShape::Phase0 => {}
        AttestationShape::Electra(bits) | AttestationShape::Gloas(bits) => aggregate["committee_bits"] = bits.to(),
    }
    json!({
        "aggregator_index": message.aggregator_index.to(),
        "aggregate": aggregate,
        "selection_proof": message.selection_proof.to(),
    })
}

fn aggregate_from(value: &Value, version: &str) -> AggregateAndProof {
    let aggregate = &value["aggregate"];
    let shape = match aggregate.get("committee_bits").map(Json::from) {
        None => AttestationShape::Phase0,
        Some(bits) if version == "GLOAS" => AttestationShape::Gloas(bits),
        Some(bits) => AttestationShape::Electra(bits),
    };
    AggregateAndProof {
        aggregator_index: Json::from(&value["aggregator_index"]),
        aggregate: Attestation {
            aggregation_bits: Json::from(&aggregate["aggregation_bits"]),
            data: Json::from(&aggregate["data"]),
            signature: Json::from(&aggregate["signature"]),
            shape,
        },
        selection_proof: Json::from(&value["selection_proof"]),
    }
}

/// A request body of the remote signing API as typed values.
pub fn read_request(request: &Value) -> (Signable, Option<ForkInfo>) {
    use Unslashable as U;
    let fork_info = request.get("fork_info").map(Json::from);
    let kind = request["type"].as_str().unwrap();
    let member = &request[match kind {
        "BLOCK_V2" => "beacon_block".to_owned(),
        "SYNC_COMMITTEE_SELECTION_PROOF" => "sync_aggregator_selection_data".to_owned(),
        "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF" => "contribution_and_proof".to_owned(),
        "AGGREGATE_AND_PROOF_V2" => "aggregate_and_proof".to_owned(),
        other => other.to_lowercase(),
    }];
    let data = &member["data"];
    let message = match kind {
        "BLOCK" => return (Signable::Block(Json::from(member)), fork_info),
        "BLOCK_V2" if member.get("block").is_some() => {
            return (Signable::Block(Json::from(&member["block"])), fork_info);
        }
        "BLOCK_V2" => {
            let header = Message::Slashable(Slashable::Block(Json::from(&member["block_header"])));
            return (Signable::Message(header), fork_info);
        }
        "ATTESTATION" => {
            let data = Message::Slashable(Slashable::Attestation(Json::from(member)));
            return (Signable::Message(data), fork_info);
        }
        "AGGREGATION_SLOT" => U::AggregationSlot(Json::from(&member["slot"])),
        "AGGREGATE_AND_PROOF" => U::AggregateAndProof(Box::new(aggregate_from(member, ""))),
        "AGGREGATE_AND_PROOF_V2" => {
            U::AggregateAndProof(Box::new(aggregate_from(data, member["version"].as_str().unwrap())))
        }
        "RANDAO_REVEAL" => U::RandaoReveal(Json::from(&member["epoch"])),
        "VOLUNTARY_EXIT" => U::VoluntaryExit(Json::from(member)),
        "DEPOSIT" => U::Deposit(Json::from(member)),
        "SYNC_COMMITTEE_MESSAGE" => U::SyncCommitteeMessage(Json::from(member)),
        "SYNC_COMMITTEE_SELECTION_PROOF" => U::SyncCommitteeSelectionProof(Json::from(member)),
        "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF" => U::SyncCommitteeContributionAndProof(Json::from(member)),
        "VALIDATOR_REGISTRATION" => U::ValidatorRegistration(Json::from(member)),
        "EXECUTION_PAYLOAD_BID" => U::ExecutionPayloadBid(Json::from(data)),
        "EXECUTION_PAYLOAD_ENVELOPE" => U::ExecutionPayloadEnvelope(Json::from(data)),
        "PAYLOAD_ATTESTATION_MESSAGE" => U::PayloadAttestation(Json::from(data)),
        "PROPOSER_PREFERENCES" => U::ProposerPreferences(Json::from(data)),
        "BUILDER_REQUEST_AUTH" => U::BuilderRequestAuth(Json::from(data)),
        other => panic!("unknown request type {other}"),
    };
    (Signable::Message(Message::Unslashable(message)), fork_info)
}

/// The request body for a message of any fork before Gloas.
pub fn write_request(signable: &Signable, fork_info: Option<&ForkInfo>) -> Value {
    let (kind, member, value) = match signable {
        Signable::Block(block) => {
            let version = if block.body.sync_aggregate.is_some() { "ALTAIR" } else { "PHASE0" };
            ("BLOCK_V2", "beacon_block", json!({ "version": version, "block": block.to() }))
        }
        Signable::Message(Message::Slashable(Slashable::Block(header))) => {
            ("BLOCK_V2", "beacon_block", json!({ "version": "FULU", "block_header": header.to() }))
        }
        Signable::Message(Message::Slashable(Slashable::Attestation(data))) => {
            ("ATTESTATION", "attestation", data.to())
        }
        Signable::Message(Message::Unslashable(message)) => write_unslashable(message),
    };
    let mut request = Map::new();
    request.insert("type".to_owned(), json!(kind));
    if let Some(fork_info) = fork_info {
        request.insert("fork_info".to_owned(), fork_info.to());
    }
    request.insert(member.to_owned(), value);
    Value::Object(request)
}

fn write_unslashable(message: &Unslashable) -> (&'static str, &'static str, Value) {
    match message {
        Unslashable::AggregationSlot(slot) => ("AGGREGATION_SLOT", "aggregation_slot", json!({ "slot": slot.to() })),
        Unslashable::AggregateAndProof(message) => {
            let version = match message.aggregate.shape {
                AttestationShape::Phase0 => "DENEB",
                AttestationShape::Electra(_) => "ELECTRA",
                AttestationShape::Gloas(_) => "GLOAS",
            };
            let data = json!({ "version": version, "data": aggregate_to(message) });
            ("AGGREGATE_AND_PROOF_V2", "aggregate_and_proof", data)
        }
        Unslashable::RandaoReveal(epoch) => ("RANDAO_REVEAL", "randao_reveal", json!({ "epoch": epoch.to() })),
        Unslashable::VoluntaryExit(exit) => ("VOLUNTARY_EXIT", "voluntary_exit", exit.to()),
        Unslashable::Deposit(deposit) => ("DEPOSIT", "deposit", deposit.to()),
        Unslashable::SyncCommitteeMessage(message) => {
            ("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", message.to())
        }
        Unslashable::SyncCommitteeSelectionProof(data) => {
            ("SYNC_COMMITTEE_SELECTION_PROOF", "sync_aggregator_selection_data", data.to())
        }
        Unslashable::SyncCommitteeContributionAndProof(message) => {
            ("SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF", "contribution_and_proof", message.to())
        }
        Unslashable::ValidatorRegistration(registration) => {
            ("VALIDATOR_REGISTRATION", "validator_registration", registration.to())
        }
        Unslashable::ExecutionPayloadBid(_)
        | Unslashable::ExecutionPayloadEnvelope(_)
        | Unslashable::PayloadAttestation(_)
        | Unslashable::ProposerPreferences(_)
        | Unslashable::BuilderRequestAuth(_) => {
            panic!("Gloas types have no second implementation to make vectors with")
        }
    }
}
