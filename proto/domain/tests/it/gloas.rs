//! Gloas trees against a slow implementation written from EIP-7916 and EIP-7688 alone.

use holdfast_domain::gloas::*;
use holdfast_domain::message::*;
use holdfast_domain::*;
use proptest::prelude::*;
use tree_hash::TreeHash as _;

use crate::oracle::sha256_pair;
use crate::random::Random;

/// A value of an SSZ type, spelled out.
enum Node {
    Number(u64),
    Fixed(Vec<u8>),
    Container(Vec<Node>),
    Progressive(Vec<Node>),
    ProgressiveList(Vec<Node>),
    ProgressiveBytes(Vec<u8>),
    ProgressiveBits(Vec<bool>),
    ByteList(Vec<u8>, usize),
}

type Root = [u8; 32];

fn number(value: u64) -> Root {
    value.tree_hash_root().0
}

fn pack(bytes: &[u8]) -> Vec<Root> {
    bytes
        .chunks(32)
        .map(|chunk| {
            let mut root = [0; 32];
            root[..chunk.len()].copy_from_slice(chunk);
            root
        })
        .collect()
}

fn merkleize(mut nodes: Vec<Root>, width: usize) -> Root {
    nodes.resize(width.next_power_of_two(), [0; 32]);
    while nodes.len() > 1 {
        nodes = nodes.chunks(2).map(|pair| sha256_pair(pair[0], pair[1])).collect();
    }
    nodes[0]
}

fn progressive(mut nodes: Vec<Root>, leaves: usize) -> Root {
    if nodes.is_empty() {
        return [0; 32];
    }
    let rest = nodes.split_off(leaves.min(nodes.len()));
    sha256_pair(merkleize(nodes, leaves), progressive(rest, leaves * 4))
}

impl Node {
    fn root(&self) -> Root {
        match self {
            Self::Number(value) => number(*value),
            Self::Fixed(bytes) => merkleize(pack(bytes), bytes.len().div_ceil(32)),
            Self::Container(fields) => merkleize(fields.iter().map(Self::root).collect(), fields.len()),
            Self::Progressive(fields) => {
                let active = (0..fields.len()).fold([0u8; 32], |mut active, field| {
                    active[field / 8] |= 1 << (field % 8);
                    active
                });
                sha256_pair(progressive(fields.iter().map(Self::root).collect(), 1), active)
            }
            Self::ProgressiveList(items) => {
                sha256_pair(progressive(items.iter().map(Self::root).collect(), 1), number(items.len() as u64))
            }
            Self::ProgressiveBytes(bytes) => sha256_pair(progressive(pack(bytes), 1), number(bytes.len() as u64)),
            Self::ProgressiveBits(bits) => {
                let mut bytes = vec![0; bits.len().div_ceil(8)];
                for (index, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
                    bytes[index / 8] |= 1 << (index % 8);
                }
                sha256_pair(progressive(pack(&bytes), 1), number(bits.len() as u64))
            }
            Self::ByteList(bytes, limit) => {
                sha256_pair(merkleize(pack(bytes), limit.div_ceil(32)), number(bytes.len() as u64))
            }
        }
    }
}

fn fixed(bytes: &[u8]) -> Node {
    Node::Fixed(bytes.to_vec())
}

fn many<T>(items: &[T], node: impl Fn(&T) -> Node) -> Node {
    Node::ProgressiveList(items.iter().map(node).collect())
}

fn bid(random: &mut Random) -> ExecutionPayloadBid {
    ExecutionPayloadBid {
        parent_block_hash: random.bytes(),
        parent_block_root: random.bytes(),
        block_hash: random.bytes(),
        prev_randao: random.bytes(),
        fee_recipient: random.bytes(),
        gas_limit: random.number(),
        builder_index: BuilderIndex(random.number()),
        slot: Slot(random.number()),
        value: random.number(),
        execution_payment: random.number(),
        blob_kzg_commitments: random.many(30, Random::bytes),
        execution_requests_root: random.bytes(),
    }
}

fn bid_node(bid: &ExecutionPayloadBid) -> Node {
    Node::Progressive(vec![
        fixed(&bid.parent_block_hash),
        fixed(&bid.parent_block_root),
        fixed(&bid.block_hash),
        fixed(&bid.prev_randao),
        fixed(&bid.fee_recipient),
        Node::Number(bid.gas_limit),
        Node::Number(bid.builder_index.0),
        Node::Number(bid.slot.0),
        Node::Number(bid.value),
        Node::Number(bid.execution_payment),
        many(&bid.blob_kzg_commitments, |commitment| fixed(commitment)),
        fixed(&bid.execution_requests_root),
    ])
}

fn requests(random: &mut Random) -> ExecutionRequests {
    let key = |random: &mut Random| PublicKey::from_bytes(random.bytes());
    ExecutionRequests {
        deposits: random.many(30, |random| DepositRequest {
            pubkey: key(random),
            withdrawal_credentials: random.bytes(),
            amount: random.number(),
            signature: random.bytes(),
            index: random.number(),
        }),
        withdrawals: random.many(30, |random| WithdrawalRequest {
            source_address: random.bytes(),
            validator_pubkey: key(random),
            amount: random.number(),
        }),
        consolidations: random.many(30, |random| ConsolidationRequest {
            source_address: random.bytes(),
            source_pubkey: key(random),
            target_pubkey: key(random),
        }),
        builder_deposits: random.many(30, |random| BuilderDepositRequest {
            pubkey: key(random),
            withdrawal_credentials: random.bytes(),
            amount: random.number(),
            signature: random.bytes(),
        }),
        builder_exits: random
            .many(30, |random| BuilderExitRequest { source_address: random.bytes(), pubkey: key(random) }),
    }
}

fn requests_node(requests: &ExecutionRequests) -> Node {
    let key = |key: &PublicKey| fixed(key.as_bytes());
    Node::Progressive(vec![
        many(&requests.deposits, |request| {
            Node::Container(vec![
                key(&request.pubkey),
                fixed(&request.withdrawal_credentials),
                Node::Number(request.amount),
                fixed(&request.signature),
                Node::Number(request.index),
            ])
        }),
        many(&requests.withdrawals, |request| {
            let (source, key) = (fixed(&request.source_address), key(&request.validator_pubkey));
            Node::Container(vec![source, key, Node::Number(request.amount)])
        }),
        many(&requests.consolidations, |request| {
            let source = fixed(&request.source_address);
            Node::Container(vec![source, key(&request.source_pubkey), key(&request.target_pubkey)])
        }),
        many(&requests.builder_deposits, |request| {
            let (key, credentials) = (key(&request.pubkey), fixed(&request.withdrawal_credentials));
            Node::Container(vec![key, credentials, Node::Number(request.amount), fixed(&request.signature)])
        }),
        many(&requests.builder_exits, |request| {
            Node::Container(vec![fixed(&request.source_address), key(&request.pubkey)])
        }),
    ])
}

fn envelope(random: &mut Random) -> ExecutionPayloadEnvelope {
    ExecutionPayloadEnvelope {
        payload: ExecutionPayload {
            parent_hash: random.bytes(),
            fee_recipient: random.bytes(),
            state_root: random.bytes(),
            receipts_root: random.bytes(),
            logs_bloom: Box::new(random.bytes()),
            prev_randao: random.bytes(),
            block_number: random.number(),
            gas_limit: random.number(),
            gas_used: random.number(),
            timestamp: random.number(),
            extra_data: random.many(32, |random| random.bytes::<1>()[0]),
            base_fee_per_gas: Uint256(random.bytes()),
            block_hash: random.bytes(),
            transactions: random.many(30, |random| random.bitlist(20_000).0),
            withdrawals: random.many(16, |random| Withdrawal {
                index: random.number(),
                validator_index: ValidatorIndex(random.number()),
                address: random.bytes(),
                amount: random.number(),
            }),
            blob_gas_used: random.number(),
            excess_blob_gas: random.number(),
            block_access_list: random.bitlist(40_000).0,
            slot_number: Slot(random.number()),
        },
        execution_requests: requests(random),
        builder_index: BuilderIndex(random.number()),
        beacon_block_root: random.bytes(),
        parent_beacon_block_root: random.bytes(),
    }
}

fn envelope_node(envelope: &ExecutionPayloadEnvelope) -> Node {
    let payload = &envelope.payload;
    let payload = Node::Progressive(vec![
        fixed(&payload.parent_hash),
        fixed(&payload.fee_recipient),
        fixed(&payload.state_root),
        fixed(&payload.receipts_root),
        fixed(payload.logs_bloom.as_slice()),
        fixed(&payload.prev_randao),
        Node::Number(payload.block_number),
        Node::Number(payload.gas_limit),
        Node::Number(payload.gas_used),
        Node::Number(payload.timestamp),
        Node::ByteList(payload.extra_data.clone(), 32),
        fixed(&payload.base_fee_per_gas.0),
        fixed(&payload.block_hash),
        many(&payload.transactions, |bytes| Node::ProgressiveBytes(bytes.clone())),
        many(&payload.withdrawals, |withdrawal| {
            let (index, validator) = (Node::Number(withdrawal.index), Node::Number(withdrawal.validator_index.0));
            Node::Container(vec![index, validator, fixed(&withdrawal.address), Node::Number(withdrawal.amount)])
        }),
        Node::Number(payload.blob_gas_used),
        Node::Number(payload.excess_blob_gas),
        Node::ProgressiveBytes(payload.block_access_list.clone()),
        Node::Number(payload.slot_number.0),
    ]);
    Node::Progressive(vec![
        payload,
        requests_node(&envelope.execution_requests),
        Node::Number(envelope.builder_index.0),
        fixed(&envelope.beacon_block_root),
        fixed(&envelope.parent_beacon_block_root),
    ])
}

fn root_of(message: Unslashable) -> Root {
    *Message::Unslashable(message).object_root(&Preset::MAINNET).unwrap().as_bytes()
}

proptest! {
    #[test]
    fn bids_and_envelopes_equal(seed: u64, size in 0usize..40) {
        let mut random = Random::new(seed, size);
        let (bid, envelope) = (bid(&mut random), envelope(&mut random));
        let (bid_root, envelope_root) = (bid_node(&bid).root(), envelope_node(&envelope).root());
        prop_assert_eq!(root_of(Unslashable::ExecutionPayloadBid(Box::new(bid))), bid_root);
        prop_assert_eq!(root_of(Unslashable::ExecutionPayloadEnvelope(Box::new(envelope))), envelope_root);
    }

    #[test]
    fn aggregates_equal(seed: u64, bits in proptest::collection::vec(any::<bool>(), 0..3000)) {
        let mut random = Random::new(seed, 1);
        let mut serialised = vec![0u8; bits.len() / 8 + 1];
        for (index, bit) in bits.iter().chain([&true]).enumerate() {
            serialised[index / 8] |= u8::from(*bit) << (index % 8);
        }
        let checkpoint = Checkpoint { epoch: Epoch(random.number()), root: random.bytes() };
        let data = AttestationData {
            slot: Slot(random.number()),
            index: 1,
            beacon_block_root: random.bytes(),
            source: checkpoint,
            target: checkpoint,
        };
        let message = AggregateAndProof {
            aggregator_index: ValidatorIndex(random.number()),
            aggregate: Attestation {
                aggregation_bits: BitlistBytes(serialised),
                data,
                signature: random.bytes(),
                shape: AttestationShape::Gloas(random.bitvector(64)),
            },
            selection_proof: random.bytes(),
        };
        let AttestationShape::Gloas(committees) = &message.aggregate.shape else { unreachable!() };
        let checkpoint = || Node::Container(vec![Node::Number(checkpoint.epoch.0), fixed(&checkpoint.root)]);
        let data = vec![
            Node::Number(data.slot.0),
            Node::Number(1),
            fixed(&data.beacon_block_root),
            checkpoint(),
            checkpoint(),
        ];
        let expected = Node::Container(vec![
            Node::Number(message.aggregator_index.0),
            Node::Progressive(vec![
                Node::ProgressiveBits(bits),
                Node::Container(data),
                fixed(&message.aggregate.signature),
                fixed(committees),
            ]),
            fixed(&message.selection_proof),
        ])
        .root();
        prop_assert_eq!(root_of(Unslashable::AggregateAndProof(Box::new(message))), expected);
    }

    #[test]
    fn small_messages_equal(seed: u64, length in 1usize..=4096) {
        let mut random = Random::new(seed, 1);
        let data = PayloadAttestationData {
            beacon_block_root: random.bytes(),
            slot: Slot(random.number()),
            payload_present: seed % 2 == 0,
            blob_data_available: seed % 4 < 2,
        };
        let fields = vec![
            fixed(&data.beacon_block_root),
            Node::Number(data.slot.0),
            Node::Number(data.payload_present.into()),
            Node::Number(data.blob_data_available.into()),
        ];
        prop_assert_eq!(root_of(Unslashable::PayloadAttestation(data)), Node::Container(fields).root());

        let preferences = ProposerPreferences {
            dependent_root: random.bytes(),
            proposal_slot: Slot(random.number()),
            validator_index: ValidatorIndex(random.number()),
            fee_recipient: random.bytes(),
            target_gas_limit: random.number(),
        };
        let fields = vec![
            fixed(&preferences.dependent_root),
            Node::Number(preferences.proposal_slot.0),
            Node::Number(preferences.validator_index.0),
            fixed(&preferences.fee_recipient),
            Node::Number(preferences.target_gas_limit),
        ];
        prop_assert_eq!(root_of(Unslashable::ProposerPreferences(preferences)), Node::Container(fields).root());

        let auth = BuilderRequestAuth { data: vec![seed as u8; length], slot: Slot(random.number()) };
        let fields = vec![Node::ByteList(auth.data.clone(), 4096), Node::Number(auth.slot.0)];
        prop_assert_eq!(root_of(Unslashable::BuilderRequestAuth(auth)), Node::Container(fields).root());
    }

    #[test]
    fn decimals_of_256_bits(value: u128) {
        let mut expected = [0; 32];
        expected[..16].copy_from_slice(&value.to_le_bytes());
        prop_assert_eq!(Uint256::from_decimal(&value.to_string()), Some(Uint256(expected)));
    }
}

#[test]
fn the_ends_of_256_bits() {
    let max = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    assert_eq!(Uint256::from_decimal(max), Some(Uint256([0xff; 32])));
    for text in
        ["115792089237316195423570985008687907853269984665640564039457584007913129639936", "", "-1", "0x10", "1 "]
    {
        assert_eq!(Uint256::from_decimal(text), None, "{text:?}");
    }
    assert_eq!(Uint256::from_decimal("0"), Some(Uint256([0; 32])));
}

#[test]
fn extra_data_has_at_most_32_bytes() {
    let mut envelope = envelope(&mut Random::new(1, 1));
    envelope.payload.extra_data = vec![0; 33];
    let error = Message::Unslashable(Unslashable::ExecutionPayloadEnvelope(Box::new(envelope)))
        .object_root(&Preset::MAINNET)
        .unwrap_err();
    assert_eq!(error, TreeError::TooLong { field: "payload.extra_data", got: 33, limit: 32 });
}
