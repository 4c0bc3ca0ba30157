//! Random messages, and a printer that writes them as JSON in any of the spellings clients may use.
//!
//! Field lists stand here a second time on purpose: they are the test's own idea of the API.

use holdfast_domain::body::{
    AttesterSlashing, BeaconBlock, BeaconBlockBody, BodyAttestation, BodyDeposit, DepositData, Eth1Data,
    IndexedAttestation, ProposerSlashing, SignedBeaconBlockHeader, SignedVoluntaryExit, SyncAggregate,
};
use holdfast_domain::gloas::{
    BuilderDepositRequest, BuilderExitRequest, BuilderIndex, BuilderRequestAuth, ConsolidationRequest, DepositRequest,
    ExecutionPayload, ExecutionPayloadBid, ExecutionPayloadEnvelope, ExecutionRequests, PayloadAttestationData,
    ProposerPreferences, Uint256, Withdrawal, WithdrawalRequest,
};
use holdfast_domain::message::{
    AttestationData, BeaconBlockHeader, BitlistBytes, Checkpoint, ContributionAndProof, Deposit,
    SyncAggregatorSelectionData, SyncCommitteeContribution, SyncCommitteeMessage, ValidatorRegistration, VoluntaryExit,
};
use holdfast_domain::{Epoch, Fork, ForkInfo, ForkVersion, GenesisValidatorsRoot, PublicKey, Slot, ValidatorIndex};

/// A small deterministic generator (splitmix64); the seed comes from the property test.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// A JSON value that still knows what it means.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    Hex(Vec<u8>),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// Prints in a random spelling: order of members, unknown members, escapes in names, spaces,
    /// strings or integers, letter case and prefix of hex.
    pub(crate) fn print(&self, rng: &mut Rng) -> String {
        let mut out = String::new();
        self.print_to(&mut out, rng);
        out
    }

    fn print_to(&self, out: &mut String, rng: &mut Rng) {
        let space = *rng.pick(&["", "", "", " ", "\n\t"]);
        out.push_str(space);
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Number(number) if rng.percent(30) => out.push_str(&number.to_string()),
            Self::Number(number) => out.extend(["\"", &number.to_string(), "\""]),
            Self::Text(text) => out.extend(["\"", text, "\""]),
            Self::Hex(bytes) => {
                let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                let digits: String = nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect();
                let digits = if rng.percent(20) { digits.to_uppercase() } else { digits };
                let prefix = *rng.pick(&["0x", "0x", "0x", "0X", ""]);
                out.extend(["\"", prefix, &digits, "\""]);
            }
            Self::List(elements) => {
                out.push('[');
                for (index, element) in elements.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    element.print_to(out, rng);
                }
                out.push(']');
            }
            Self::Object(members) => print_object(members, out, rng),
        }
        out.push_str(space);
    }
}

fn print_object(members: &[(&'static str, Json)], out: &mut String, rng: &mut Rng) {
    const UNKNOWN: [&str; 5] =
        ["\"note\":null", "\"Slot\":-1.5e3", "\"x\":[[],{\"slot\":[1]}]", "\"\":\"\\u00e9\\\"\"", "\"a\":{\"a\":{}}"];
    let mut printed: Vec<String> = members
        .iter()
        .map(|(name, value)| {
            let name = if rng.percent(5) {
                format!("\\u{:04x}{}", u32::from(name.as_bytes()[0]), &name[1..])
            } else {
                (*name).to_owned()
            };
            format!("\"{name}\":{}", value.print(rng))
        })
        .collect();
    if rng.percent(10) {
        printed.push((*rng.pick(&UNKNOWN)).to_owned());
    }
    for index in (1..printed.len()).rev() {
        printed.swap(index, rng.below(index + 1));
    }
    out.push('{');
    out.push_str(&printed.join(","));
    out.push('}');
}

/// A value that can be made at random and written as JSON.
pub(crate) trait Sample: Sized {
    fn sample(rng: &mut Rng) -> Self;
    fn json(&self) -> Json;
}

macro_rules! objects {
    ($($name:ident { $($field:ident),+ $(,)? })+) => {$(
        impl Sample for $name {
            fn sample(rng: &mut Rng) -> Self {
                Self { $($field: Sample::sample(rng)),+ }
            }

            fn json(&self) -> Json {
                Json::Object(vec![$((stringify!($field), self.$field.json())),+])
            }
        }
    )+};
}

objects! {
    Fork { previous_version, current_version, epoch }
    ForkInfo { fork, genesis_validators_root }
    Checkpoint { epoch, root }
    AttestationData { slot, index, beacon_block_root, source, target }
    VoluntaryExit { epoch, validator_index }
    Deposit { pubkey, withdrawal_credentials, amount, genesis_fork_version }
    SyncCommitteeMessage { beacon_block_root, slot }
    SyncAggregatorSelectionData { slot, subcommittee_index }
    SyncCommitteeContribution { slot, beacon_block_root, subcommittee_index, aggregation_bits, signature }
    ContributionAndProof { aggregator_index, contribution, selection_proof }
    ValidatorRegistration { fee_recipient, gas_limit, timestamp, pubkey }
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
    ExecutionPayloadBid {
        parent_block_hash, parent_block_root, block_hash, prev_randao, fee_recipient, gas_limit, builder_index, slot,
        value, execution_payment, blob_kzg_commitments, execution_requests_root,
    }
    ExecutionPayloadEnvelope { payload, execution_requests, builder_index, beacon_block_root, parent_beacon_block_root }
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

macro_rules! wrapped {
    ($($name:ident($inner:ty);)+) => {$(
        impl Sample for $name {
            fn sample(rng: &mut Rng) -> Self {
                Self(<$inner>::sample(rng))
            }

            fn json(&self) -> Json {
                self.0.json()
            }
        }
    )+};
}

wrapped! {
    Slot(u64);
    Epoch(u64);
    ValidatorIndex(u64);
    BuilderIndex(u64);
    ForkVersion([u8; 4]);
    GenesisValidatorsRoot([u8; 32]);
}

impl Sample for u64 {
    fn sample(rng: &mut Rng) -> Self {
        let number = rng.next();
        *rng.pick(&[0, 1, 53, number % 1000, number >> 20, number >> 10, number, (1 << 53) + 1, Self::MAX])
    }

    fn json(&self) -> Json {
        Json::Number(*self)
    }
}

impl Sample for bool {
    fn sample(rng: &mut Rng) -> Self {
        rng.percent(50)
    }

    fn json(&self) -> Json {
        Json::Bool(*self)
    }
}

impl<const N: usize> Sample for [u8; N] {
    fn sample(rng: &mut Rng) -> Self {
        core::array::from_fn(|_| rng.next().to_le_bytes()[0])
    }

    fn json(&self) -> Json {
        Json::Hex(self.to_vec())
    }
}

impl Sample for Vec<u8> {
    fn sample(rng: &mut Rng) -> Self {
        (0..rng.below(40)).map(|_| rng.next().to_le_bytes()[0]).collect()
    }

    fn json(&self) -> Json {
        Json::Hex(self.clone())
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(rng: &mut Rng) -> Self {
        (0..rng.below(3)).map(|_| T::sample(rng)).collect()
    }

    fn json(&self) -> Json {
        Json::List(self.iter().map(Sample::json).collect())
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(rng: &mut Rng) -> Self {
        Self::new(T::sample(rng))
    }

    fn json(&self) -> Json {
        T::json(self)
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(rng: &mut Rng) -> Self {
        if rng.percent(50) { Some(T::sample(rng)) } else { None }
    }

    fn json(&self) -> Json {
        self.as_ref().map_or(Json::Null, Sample::json)
    }
}

impl Sample for [[u8; 32]; 33] {
    fn sample(rng: &mut Rng) -> Self {
        core::array::from_fn(|_| Sample::sample(rng))
    }

    fn json(&self) -> Json {
        Json::List(self.iter().map(Sample::json).collect())
    }
}

impl Sample for PublicKey {
    fn sample(rng: &mut Rng) -> Self {
        Self::from_bytes(Sample::sample(rng))
    }

    fn json(&self) -> Json {
        self.as_bytes().json()
    }
}

/// Ends in a byte that is not zero: that byte holds the delimiter.
impl Sample for BitlistBytes {
    fn sample(rng: &mut Rng) -> Self {
        let mut bytes = Vec::sample(rng);
        bytes.push(1 << rng.below(8));
        Self(bytes)
    }

    fn json(&self) -> Json {
        self.0.json()
    }
}

/// 512 bits, as the mainnet preset wants.
impl Sample for SyncAggregate {
    fn sample(rng: &mut Rng) -> Self {
        let bits: [u8; 64] = Sample::sample(rng);
        Self { sync_committee_bits: bits.to_vec(), sync_committee_signature: Sample::sample(rng) }
    }

    fn json(&self) -> Json {
        let Self { sync_committee_bits, sync_committee_signature } = self;
        Json::Object(vec![
            ("sync_committee_bits", sync_committee_bits.json()),
            ("sync_committee_signature", sync_committee_signature.json()),
        ])
    }
}

impl Sample for Uint256 {
    fn sample(rng: &mut Rng) -> Self {
        let mut bytes: [u8; 32] = Sample::sample(rng);
        let length = rng.below(33);
        bytes[length..].fill(0);
        Self(bytes)
    }

    /// Decimal, by repeated division by ten.
    fn json(&self) -> Json {
        let mut rest = self.0;
        let mut digits = Vec::new();
        loop {
            let mut remainder = 0u16;
            for byte in rest.iter_mut().rev() {
                let value = remainder * 256 + u16::from(*byte);
                *byte = u8::try_from(value / 10).unwrap();
                remainder = value % 10;
            }
            digits.push(char::from(b'0' + u8::try_from(remainder).unwrap()));
            if rest == [0; 32] {
                return Json::Text(digits.into_iter().rev().collect());
            }
        }
    }
}
