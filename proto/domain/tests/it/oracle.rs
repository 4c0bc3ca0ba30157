//! The second implementation: roots by the `tree_hash` and `ssz_types` crates,
//! and the choice of domain as the consensus specification writes it, for everything before Gloas.

use holdfast_domain::body::{self, BeaconBlock};
use holdfast_domain::message::{AttestationShape, Deposit as DepositMessage, Slashable, Unslashable};
use holdfast_domain::{ForkInfo, Message, Network, Preset, message};
use ssz_types::typenum::{U4, U8, U32, U64, U128, U512, U8192, U131072, Unsigned};
use ssz_types::{BitList, BitVector, FixedVector, VariableList};
use tree_hash::TreeHash;

use crate::containers::*;
use crate::json::Signable;

fn bitlist<N: Unsigned + Clone>(bytes: &[u8]) -> BitList<N> {
    BitList::from_bytes(bytes.into()).unwrap()
}

fn bitvector<N: Unsigned + Clone>(bytes: &[u8]) -> BitVector<N> {
    BitVector::from_bytes(bytes.into()).unwrap()
}

fn list<A, B, N: Unsigned>(items: &[A], convert: impl Fn(&A) -> B) -> VariableList<B, N> {
    VariableList::try_from(items.iter().map(convert).collect::<Vec<_>>()).unwrap()
}

fn checkpoint(from: &message::Checkpoint) -> Checkpoint {
    Checkpoint { epoch: from.epoch.0, root: from.root }
}

fn data(from: &message::AttestationData) -> AttestationData {
    AttestationData {
        slot: from.slot.0,
        index: from.index,
        beacon_block_root: from.beacon_block_root,
        source: checkpoint(&from.source),
        target: checkpoint(&from.target),
    }
}

fn header(from: &message::BeaconBlockHeader) -> Header {
    Header {
        slot: from.slot.0,
        proposer_index: from.proposer_index.0,
        parent_root: from.parent_root,
        state_root: from.state_root,
        body_root: from.body_root,
    }
}

fn exit(from: &message::VoluntaryExit) -> VoluntaryExit {
    VoluntaryExit { epoch: from.epoch.0, validator_index: from.validator_index.0 }
}

fn signed_header(from: &body::SignedBeaconBlockHeader) -> SignedHeader {
    SignedHeader { message: header(&from.message), signature: from.signature }
}

fn indexed(from: &body::IndexedAttestation) -> IndexedAttestation {
    IndexedAttestation {
        attesting_indices: list(&from.attesting_indices, |index| index.0),
        data: data(&from.data),
        signature: from.signature,
    }
}

fn deposit(from: &body::BodyDeposit) -> BodyDeposit {
    BodyDeposit {
        proof: FixedVector::try_from(from.proof.iter().map(|&node| node.into()).collect::<Vec<_>>()).unwrap(),
        data: DepositData {
            pubkey: *from.data.pubkey.as_bytes(),
            withdrawal_credentials: from.data.withdrawal_credentials,
            amount: from.data.amount,
            signature: from.data.signature,
        },
    }
}

fn phase0_body(from: &body::BeaconBlockBody) -> Phase0Body {
    Phase0Body {
        randao_reveal: from.randao_reveal,
        eth1_data: Eth1Data {
            deposit_root: from.eth1_data.deposit_root,
            deposit_count: from.eth1_data.deposit_count,
            block_hash: from.eth1_data.block_hash,
        },
        graffiti: from.graffiti,
        proposer_slashings: list(&from.proposer_slashings, |slashing| ProposerSlashing {
            signed_header_1: signed_header(&slashing.signed_header_1),
            signed_header_2: signed_header(&slashing.signed_header_2),
        }),
        attester_slashings: list(&from.attester_slashings, |slashing| AttesterSlashing {
            attestation_1: indexed(&slashing.attestation_1),
            attestation_2: indexed(&slashing.attestation_2),
        }),
        attestations: list(&from.attestations, |attestation| Attestation {
            aggregation_bits: bitlist(&attestation.aggregation_bits.0),
            data: data(&attestation.data),
            signature: attestation.signature,
        }),
        deposits: list(&from.deposits, deposit),
        voluntary_exits: list(&from.voluntary_exits, |signed| SignedExit {
            message: exit(&signed.message),
            signature: signed.signature,
        }),
    }
}

fn block<Members: Unsigned + Clone>(from: &BeaconBlock) -> Root {
    let phase0 = phase0_body(&from.body);
    let root = match &from.body.sync_aggregate {
        None => with_body(from, phase0),
        Some(sync_aggregate) => with_body(
            from,
            AltairBody::<Members> {
                randao_reveal: phase0.randao_reveal,
                eth1_data: phase0.eth1_data,
                graffiti: phase0.graffiti,
                proposer_slashings: phase0.proposer_slashings,
                attester_slashings: phase0.attester_slashings,
                attestations: phase0.attestations,
                deposits: phase0.deposits,
                voluntary_exits: phase0.voluntary_exits,
                sync_aggregate: SyncAggregate {
                    sync_committee_bits: bitvector(&sync_aggregate.sync_committee_bits),
                    sync_committee_signature: sync_aggregate.sync_committee_signature,
                },
            },
        ),
    };
    root.0
}

fn with_body<Body: TreeHash>(from: &BeaconBlock, body: Body) -> tree_hash::Hash256 {
    Block {
        slot: from.slot.0,
        proposer_index: from.proposer_index.0,
        parent_root: from.parent_root,
        state_root: from.state_root,
        body,
    }
    .tree_hash_root()
}

fn aggregate<Bits: Unsigned + Clone, Committees: Unsigned + Clone>(from: &message::AggregateAndProof) -> Root {
    let attestation = &from.aggregate;
    let (data, signature) = (data(&attestation.data), attestation.signature);
    let bits = &attestation.aggregation_bits.0;
    let (aggregator_index, selection_proof) = (from.aggregator_index.0, from.selection_proof);
    let root = match &attestation.shape {
        AttestationShape::Phase0 => {
            let aggregate = Attestation { aggregation_bits: bitlist(bits), data, signature };
            AggregateAndProof { aggregator_index, aggregate, selection_proof }.tree_hash_root()
        }
        AttestationShape::Electra(committees) => {
            let aggregate = ElectraAttestation::<Bits, Committees> {
                aggregation_bits: bitlist(bits),
                data,
                signature,
                committee_bits: bitvector(committees),
            };
            AggregateAndProof { aggregator_index, aggregate, selection_proof }.tree_hash_root()
        }
        AttestationShape::Gloas(_) => panic!("Gloas has no second implementation"),
    };
    root.0
}

fn contribution<Bits: Unsigned + Clone>(from: &message::ContributionAndProof) -> Root {
    let contribution = &from.contribution;
    let root = ContributionAndProof::<Bits> {
        aggregator_index: from.aggregator_index.0,
        contribution: Contribution {
            slot: contribution.slot.0,
            beacon_block_root: contribution.beacon_block_root,
            subcommittee_index: contribution.subcommittee_index,
            aggregation_bits: bitvector(&contribution.aggregation_bits),
            signature: contribution.signature,
        },
        selection_proof: from.selection_proof,
    };
    root.tree_hash_root().0
}

fn deposit_message(from: &DepositMessage) -> Deposit {
    Deposit {
        pubkey: *from.pubkey.as_bytes(),
        withdrawal_credentials: from.withdrawal_credentials,
        amount: from.amount,
    }
}

/// `hash_tree_root` of the message.
pub fn object_root(signable: &Signable, preset: &Preset) -> Root {
    let minimal = *preset == Preset::MINIMAL;
    let message = match signable {
        Signable::Block(from) if minimal => return block::<U32>(from),
        Signable::Block(from) => return block::<U512>(from),
        Signable::Message(Message::Slashable(Slashable::Block(from))) => return header(from).tree_hash_root().0,
        Signable::Message(Message::Slashable(Slashable::Attestation(from))) => return data(from).tree_hash_root().0,
        Signable::Message(Message::Unslashable(message)) => message,
    };
    match message {
        Unslashable::AggregationSlot(slot) => slot.0.tree_hash_root().0,
        Unslashable::AggregateAndProof(from) if minimal => aggregate::<U8192, U4>(from),
        Unslashable::AggregateAndProof(from) => aggregate::<U131072, U64>(from),
        Unslashable::RandaoReveal(epoch) => epoch.0.tree_hash_root().0,
        Unslashable::VoluntaryExit(from) => exit(from).tree_hash_root().0,
        Unslashable::Deposit(from) => deposit_message(from).tree_hash_root().0,
        Unslashable::SyncCommitteeMessage(from) => from.beacon_block_root,
        Unslashable::SyncCommitteeSelectionProof(from) => {
            SelectionData { slot: from.slot.0, subcommittee_index: from.subcommittee_index }.tree_hash_root().0
        }
        Unslashable::SyncCommitteeContributionAndProof(from) if minimal => contribution::<U8>(from),
        Unslashable::SyncCommitteeContributionAndProof(from) => contribution::<U128>(from),
        Unslashable::ValidatorRegistration(from) => {
            let registration = Registration {
                fee_recipient: from.fee_recipient,
                gas_limit: from.gas_limit,
                timestamp: from.timestamp,
                pubkey: *from.pubkey.as_bytes(),
            };
            registration.tree_hash_root().0
        }
        Unslashable::ExecutionPayloadBid(_)
        | Unslashable::ExecutionPayloadEnvelope(_)
        | Unslashable::PayloadAttestation(_)
        | Unslashable::ProposerPreferences(_)
        | Unslashable::BuilderRequestAuth(_) => panic!("Gloas has no second implementation"),
    }
}

/// Domain of a message; voluntary exits by the rule of the chain's present (EIP-7044).
pub fn domain(signable: &Signable, info: &ForkInfo, network: &Network) -> Root {
    let slots_per_epoch = network.preset.slots_per_epoch.get();
    let genesis = network.genesis_fork_version().0;
    let (kind, epoch) = match signable {
        Signable::Block(block) => (0x00, block.slot.0 / slots_per_epoch),
        Signable::Message(Message::Slashable(Slashable::Block(header))) => (0x00, header.slot.0 / slots_per_epoch),
        Signable::Message(Message::Slashable(Slashable::Attestation(data))) => (0x01, data.target.epoch.0),
        Signable::Message(Message::Unslashable(message)) => match message {
            Unslashable::RandaoReveal(epoch) => (0x02, epoch.0),
            Unslashable::Deposit(deposit) => {
                return compute_domain([3, 0, 0, 0], deposit.genesis_fork_version.0, [0; 32]);
            }
            Unslashable::VoluntaryExit(_) => {
                // A chain after Deneb: see `own_vectors`.
                let capella = network.forks[3].version.0;
                return compute_domain([4, 0, 0, 0], capella, info.genesis_validators_root.0);
            }
            Unslashable::AggregationSlot(slot) => (0x05, slot.0 / slots_per_epoch),
            Unslashable::AggregateAndProof(from) => (0x06, from.aggregate.data.slot.0 / slots_per_epoch),
            Unslashable::SyncCommitteeMessage(from) => (0x07, from.slot.0 / slots_per_epoch),
            Unslashable::SyncCommitteeSelectionProof(from) => (0x08, from.slot.0 / slots_per_epoch),
            Unslashable::SyncCommitteeContributionAndProof(from) => (0x09, from.contribution.slot.0 / slots_per_epoch),
            Unslashable::ValidatorRegistration(_) => return compute_domain([0, 0, 0, 1], genesis, [0; 32]),
            Unslashable::ExecutionPayloadBid(_)
            | Unslashable::ExecutionPayloadEnvelope(_)
            | Unslashable::PayloadAttestation(_)
            | Unslashable::ProposerPreferences(_)
            | Unslashable::BuilderRequestAuth(_) => panic!("Gloas has no second implementation"),
        },
    };
    let fork = &info.fork;
    let version = if epoch < fork.epoch.0 { fork.previous_version } else { fork.current_version };
    compute_domain([kind, 0, 0, 0], version.0, info.genesis_validators_root.0)
}

fn compute_domain(kind: [u8; 4], current_version: [u8; 4], genesis_validators_root: Root) -> Root {
    let root = ForkData { current_version, genesis_validators_root }.tree_hash_root();
    let mut domain = [0; 32];
    domain[..4].copy_from_slice(&kind);
    domain[4..].copy_from_slice(&root[..28]);
    domain
}

/// What is signed.
pub fn signing_root(object_root: Root, domain: Root) -> Root {
    SigningData { object_root, domain }.tree_hash_root().0
}

/// One step of a tree.
pub fn sha256_pair(left: Root, right: Root) -> Root {
    SigningData { object_root: left, domain: right }.tree_hash_root().0
}
