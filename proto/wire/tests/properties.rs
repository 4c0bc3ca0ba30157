//! Any message in any accepted spelling is read back as that message, and no body at all, however
//! damaged, makes the reader panic, write a long error or hand on something that panics later.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it wants should panic"
)]

mod support;

use std::fmt::Write as _;

use holdfast_domain::body::BeaconBlock;
use holdfast_domain::message::{
    AggregateAndProof, Attestation, AttestationData, AttestationShape, BeaconBlockHeader, BitlistBytes,
};
use holdfast_domain::{
    Epoch, ForkInfo, ForkName, Message, Network, ObservedRoot, PublicKey, SigningIntent, Slashable, Slot, Unslashable,
    ValidatorIndex,
};
use holdfast_wire::web3signer::{BatchRequest, SignRequest};
use proptest::prelude::*;
use support::{Json, Rng, Sample};

/// Mainnet preset with every fork dated, Gloas at epoch 14.
fn network() -> Network {
    let mut config = "PRESET_BASE: mainnet\nSECONDS_PER_SLOT: 12\nGENESIS_FORK_VERSION: 0x10000099\n".to_owned();
    for (index, fork) in ForkName::ALL.iter().enumerate().skip(1) {
        let (name, epoch) = (fork.as_str(), index * 2);
        writeln!(config, "{name}_FORK_VERSION: 0x{}0000099\n{name}_FORK_EPOCH: {epoch}", index + 1).unwrap();
    }
    Network::from_config_yaml(&config).unwrap()
}

/// One request: its members, and what it must be read as.
struct Case {
    members: Vec<(&'static str, Json)>,
    expected: SignRequest,
}

impl Case {
    fn sample(rng: &mut Rng, network: &Network) -> Self {
        let mut fork_info = Some(ForkInfo::sample(rng)).filter(|_| rng.percent(90));
        let (kind, carrier, json, message) = message(rng, network);
        let claimed: Option<[u8; 32]> = Sample::sample(rng);
        let kind = if rng.percent(20) { kind.to_lowercase() } else { kind.to_owned() };
        let mut members = vec![("type", Json::Text(kind.clone())), (carrier, json)];
        if let Some(info) = &fork_info {
            members.push(("fork_info", info.json()));
        } else if rng.percent(50) {
            members.push(("fork_info", Json::Null));
        }
        match rng.below(3) {
            0 => members.push(("signing_root", claimed.json())),
            1 => members.push(("signingRoot", claimed.json())),
            _ => members.extend([("signing_root", claimed.json()), ("signingRoot", claimed.json())]),
        }
        // Members that belong to other types are not looked at.
        let other = *rng.pick(&["attestation", "beacon_block", "randao_reveal", "deposit"]);
        if other != carrier && rng.percent(10) {
            members.push((other, Json::List(vec![Json::Bool(true)])));
        }
        if ["DEPOSIT", "VALIDATOR_REGISTRATION", "BUILDER_REQUEST_AUTH", "REQUEST_AUTH"]
            .contains(&kind.to_uppercase().as_str())
        {
            fork_info = None;
        }
        Self { members, expected: SignRequest { message, fork_info, claimed: claimed.map(ObservedRoot::new) } }
    }

    fn print(&self, rng: &mut Rng) -> String {
        Json::Object(self.members.clone()).print(rng)
    }
}

fn version(fork: ForkName) -> (&'static str, Json) {
    ("version", Json::Text(fork.as_str().to_owned()))
}

/// `{version, data}` or bare.
fn gloas(rng: &mut Rng, data: Json) -> Json {
    if rng.percent(50) { Json::Object(vec![version(ForkName::Gloas), ("data", data)]) } else { data }
}

fn message(rng: &mut Rng, network: &Network) -> (&'static str, &'static str, Json, Message) {
    fn plain<T: Sample>(
        rng: &mut Rng,
        kind: &'static str,
        carrier: &'static str,
        wrap: impl Fn(T) -> Unslashable,
    ) -> (&'static str, &'static str, Json, Message) {
        let value = T::sample(rng);
        let json = value.json();
        (kind, carrier, json, Message::Unslashable(wrap(value)))
    }
    fn versioned<T: Sample>(
        rng: &mut Rng,
        names: &[(&'static str, &'static str)],
        wrap: impl Fn(T) -> Unslashable,
    ) -> (&'static str, &'static str, Json, Message) {
        let (kind, carrier) = *rng.pick(names);
        let (kind, carrier, json, message) = plain(rng, kind, carrier, wrap);
        (kind, carrier, gloas(rng, json), message)
    }
    match rng.below(17) {
        0 => {
            let data = AttestationData::sample(rng);
            ("ATTESTATION", "attestation", data.json(), Message::Slashable(Slashable::Attestation(data)))
        }
        1 => {
            let (block, header) = block(rng, ForkName::Phase0, network);
            ("BLOCK", "block", block, header)
        }
        2 => {
            let fork = *rng.pick(&[ForkName::Phase0, ForkName::Altair]);
            let (block, header) = block(rng, fork, network);
            ("BLOCK_V2", "beacon_block", Json::Object(vec![version(fork), ("block", block)]), header)
        }
        3 => {
            let header = BeaconBlockHeader::sample(rng);
            let fork = *rng.pick(&ForkName::ALL[2..]);
            let json = Json::Object(vec![version(fork), ("block", Json::Null), ("block_header", header.json())]);
            ("BLOCK_V2", "beacon_block", json, Message::Slashable(Slashable::Block(header)))
        }
        4 => aggregate(rng),
        5 => {
            let slot = Slot::sample(rng);
            let message = Message::Unslashable(Unslashable::AggregationSlot(slot));
            ("AGGREGATION_SLOT", "aggregation_slot", Json::Object(vec![("slot", slot.json())]), message)
        }
        6 => {
            let epoch = Epoch::sample(rng);
            let message = Message::Unslashable(Unslashable::RandaoReveal(epoch));
            ("RANDAO_REVEAL", "randao_reveal", Json::Object(vec![("epoch", epoch.json())]), message)
        }
        7 => plain(rng, "VOLUNTARY_EXIT", "voluntary_exit", Unslashable::VoluntaryExit),
        8 => plain(rng, "DEPOSIT", "deposit", Unslashable::Deposit),
        9 => plain(rng, "SYNC_COMMITTEE_MESSAGE", "sync_committee_message", Unslashable::SyncCommitteeMessage),
        10 => plain(
            rng,
            "SYNC_COMMITTEE_SELECTION_PROOF",
            "sync_aggregator_selection_data",
            Unslashable::SyncCommitteeSelectionProof,
        ),
        11 => plain(
            rng,
            "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF",
            "contribution_and_proof",
            Unslashable::SyncCommitteeContributionAndProof,
        ),
        12 => plain(rng, "VALIDATOR_REGISTRATION", "validator_registration", Unslashable::ValidatorRegistration),
        13 => versioned(rng, &[("EXECUTION_PAYLOAD_BID", "execution_payload_bid")], Unslashable::ExecutionPayloadBid),
        14 => versioned(
            rng,
            &[("EXECUTION_PAYLOAD_ENVELOPE", "execution_payload_envelope")],
            Unslashable::ExecutionPayloadEnvelope,
        ),
        15 => {
            let names = [
                ("PAYLOAD_ATTESTATION_MESSAGE", "payload_attestation_message"),
                ("PAYLOAD_ATTESTATION", "payload_attestation"),
                ("PAYLOAD_ATTESTATION", "payload_attestation_data"),
            ];
            versioned(rng, &names, Unslashable::PayloadAttestation)
        }
        _ if rng.percent(50) => {
            versioned(rng, &[("PROPOSER_PREFERENCES", "proposer_preferences")], Unslashable::ProposerPreferences)
        }
        _ => {
            let names = [("BUILDER_REQUEST_AUTH", "builder_request_auth"), ("REQUEST_AUTH", "request_auth")];
            versioned(rng, &names, Unslashable::BuilderRequestAuth)
        }
    }
}

/// A whole block and the header it is read as.
fn block(rng: &mut Rng, fork: ForkName, network: &Network) -> (Json, Message) {
    let mut block = BeaconBlock::sample(rng);
    block.body.sync_aggregate = (fork == ForkName::Altair).then(|| Sample::sample(rng));
    let json = block.json();
    (json, Message::Slashable(Slashable::Block(block.into_header(&network.preset).unwrap())))
}

fn aggregate(rng: &mut Rng) -> (&'static str, &'static str, Json, Message) {
    let kind = *rng.pick(&["AGGREGATE_AND_PROOF", "AGGREGATE_AND_PROOF_V2"]);
    let mut data = AttestationData::sample(rng);
    // Around the first slot of Gloas.
    data.slot = Slot(u64::try_from(14 * 32 - 3 + rng.below(6)).unwrap());
    let committee_bits: [u8; 8] = Sample::sample(rng);
    let fork = *rng.pick(&ForkName::ALL);
    let wrapped = rng.percent(50);
    let has_bits = if wrapped { fork >= ForkName::Electra } else { rng.percent(50) };
    let in_gloas = if wrapped { fork == ForkName::Gloas } else { data.slot.0 >= 14 * 32 };
    let shape = match (has_bits, in_gloas) {
        (false, _) => AttestationShape::Phase0,
        (true, false) => AttestationShape::Electra(committee_bits.to_vec()),
        (true, true) => AttestationShape::Gloas(committee_bits.to_vec()),
    };
    let message = AggregateAndProof {
        aggregator_index: ValidatorIndex::sample(rng),
        aggregate: Attestation {
            aggregation_bits: BitlistBytes::sample(rng),
            data,
            signature: Sample::sample(rng),
            shape,
        },
        selection_proof: Sample::sample(rng),
    };
    let aggregate = Json::Object(vec![
        ("aggregation_bits", message.aggregate.aggregation_bits.json()),
        ("data", data.json()),
        ("signature", message.aggregate.signature.json()),
        ("committee_bits", if has_bits { committee_bits.json() } else { Json::Null }),
    ]);
    let json = Json::Object(vec![
        ("aggregator_index", message.aggregator_index.json()),
        ("aggregate", aggregate),
        ("selection_proof", message.selection_proof.json()),
    ]);
    let json = if wrapped { Json::Object(vec![version(fork), ("data", json)]) } else { json };
    (kind, "aggregate_and_proof", json, Message::Unslashable(Unslashable::AggregateAndProof(Box::new(message))))
}

/// Damages a body the way broken software and hostile clients do.
fn mutate(body: &mut Vec<u8>, rng: &mut Rng) {
    const TOKENS: [&[u8]; 14] = [
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"0x",
        b"\\u0000",
        b"\xff",
        b"{",
        b"]",
        b"\"version\":\"ELECTRA\",",
        b"\"type\":\"GENERIC\",",
    ];
    let at = rng.below(body.len() + 1);
    let end = (at + rng.below(40)).min(body.len());
    match rng.below(5) {
        0 => body.truncate(at),
        1 => drop(body.drain(at..end)),
        2 => {
            let copy = body[at..end].to_vec();
            let to = rng.below(body.len() + 1);
            body.splice(to..to, copy);
        }
        3 => {
            let token = *rng.pick(&TOKENS);
            body.splice(at..end, token.iter().copied());
        }
        _ => {
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_spelling_of_a_message_is_read_as_that_message(seed: u64) {
        let (rng, network) = (&mut Rng(seed), network());
        let case = Case::sample(rng, &network);
        let body = case.print(rng);
        prop_assert_eq!(SignRequest::parse(body.as_bytes(), &network), Ok(case.expected), "{}", body);
    }

    #[test]
    fn a_batch_is_its_identifiers_and_the_request_alone(seed: u64) {
        let (rng, network) = (&mut Rng(seed), network());
        let case = Case::sample(rng, &network);
        let keys: Vec<PublicKey> = (0..=rng.below(20)).map(|_| Sample::sample(rng)).collect();
        let request = Json::Object(case.members);
        let body = Json::Object(vec![("identifiers", keys.json()), ("signing_request", request)]).print(rng);
        let batchable = matches!(
            case.expected.message,
            Message::Slashable(Slashable::Attestation(_))
                | Message::Unslashable(
                    Unslashable::AggregationSlot(_)
                        | Unslashable::RandaoReveal(_)
                        | Unslashable::SyncCommitteeMessage(_)
                        | Unslashable::SyncCommitteeSelectionProof(_)
                )
        );
        match BatchRequest::parse(body.as_bytes(), &network) {
            Ok(batch) => {
                prop_assert!(batchable, "{}", body);
                prop_assert_eq!(batch.request, case.expected);
                prop_assert_eq!(batch.identifiers, keys.into_iter().map(Ok).collect::<Vec<_>>());
            }
            Err(error) => {
                prop_assert!(!batchable, "{}: {}", error, body);
                prop_assert_eq!(error.reason(), "unsupported_type");
            }
        }
    }

    #[test]
    fn damaged_bodies_never_panic_and_errors_stay_short(seed: u64) {
        let (rng, network) = (&mut Rng(seed), network());
        let mut body = Case::sample(rng, &network).print(rng).into_bytes();
        if rng.percent(20) {
            let inner = String::from_utf8(body).unwrap();
            body = format!("{{\"identifiers\":[\"0x12\",\"{}\"],\"signing_request\":{inner}}}", "ab".repeat(48)).into_bytes();
        }
        for _ in 0..20 {
            mutate(&mut body, rng);
            match SignRequest::parse(&body, &network) {
                // What was read may be refused further on, but without a panic.
                Ok(request) => {
                    let key = PublicKey::from_bytes([1; 48]);
                    drop(SigningIntent::new(key, &request.message, request.fork_info, request.claimed, &network));
                }
                Err(error) => prop_assert!(error.to_string().len() < 400, "{}", error),
            }
            if let Err(error) = BatchRequest::parse(&body, &network) {
                prop_assert!(error.to_string().len() < 400, "{}", error);
            }
        }
    }
}
