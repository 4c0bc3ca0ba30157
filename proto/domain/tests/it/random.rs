//! Random values of every type that the second implementation knows, from a seed.
//!
//! `size` bounds the length of lists, so that a failing property shrinks to short ones.

use holdfast_domain::body::*;
use holdfast_domain::message::*;
use holdfast_domain::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::json::Signable;

/// What to make. Kinds that differ only in shape count twice.
#[derive(Debug, Clone, Copy)]
pub enum Sample {
    Phase0Block,
    AltairBlock,
    Header,
    Attestation,
    AggregationSlot,
    Phase0Aggregate,
    ElectraAggregate,
    RandaoReveal,
    VoluntaryExit,
    Deposit,
    SyncCommitteeMessage,
    SelectionProof,
    Contribution,
    Registration,
}

impl Sample {
    pub const ALL: [Self; 14] = [
        Self::Phase0Block,
        Self::AltairBlock,
        Self::Header,
        Self::Attestation,
        Self::AggregationSlot,
        Self::Phase0Aggregate,
        Self::ElectraAggregate,
        Self::RandaoReveal,
        Self::VoluntaryExit,
        Self::Deposit,
        Self::SyncCommitteeMessage,
        Self::SelectionProof,
        Self::Contribution,
        Self::Registration,
    ];
}

pub struct Random {
    rng: ChaCha8Rng,
    size: usize,
}

impl Random {
    pub fn new(seed: u64, size: usize) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), size }
    }

    /// Up to `limit`, and no more than a list of this size should have.
    fn length(&mut self, limit: usize) -> usize {
        let limit = limit.min(self.size);
        usize::try_from(self.rng.next_u64() % (limit as u64 + 1)).unwrap()
    }

    /// Small, huge or anything.
    pub fn number(&mut self) -> u64 {
        match self.rng.next_u64() % 4 {
            0 => self.rng.next_u64() % 64,
            1 => u64::MAX - self.rng.next_u64() % 4,
            _ => self.rng.next_u64() >> (self.rng.next_u64() % 64),
        }
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn slot(&mut self) -> Slot {
        Slot(self.number())
    }

    fn index(&mut self) -> ValidatorIndex {
        ValidatorIndex(self.number())
    }

    fn key(&mut self) -> PublicKey {
        PublicKey::from_bytes(self.bytes())
    }

    /// A list of up to `limit` elements.
    pub fn many<T>(&mut self, limit: usize, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.length(limit)).map(|_| make(self)).collect()
    }

    /// A serialised bit list.
    pub fn bitlist(&mut self, limit: usize) -> BitlistBytes {
        // Bits come by the hundred where lists come by the piece.
        self.size *= 64;
        let bits = self.length(limit);
        self.size /= 64;
        let mut bytes = vec![0; bits / 8 + 1];
        self.rng.fill_bytes(&mut bytes);
        let delimiter = 1u8 << (bits % 8);
        let last = bytes.last_mut().unwrap();
        *last = (*last & (delimiter - 1)) | delimiter;
        BitlistBytes(bytes)
    }

    /// A serialised bit vector.
    pub fn bitvector(&mut self, bits: usize) -> Vec<u8> {
        let mut bytes = vec![0; bits.div_ceil(8)];
        self.rng.fill_bytes(&mut bytes);
        if !bits.is_multiple_of(8) {
            *bytes.last_mut().unwrap() &= (1 << (bits % 8)) - 1;
        }
        bytes
    }

    pub fn fork_info(&mut self) -> ForkInfo {
        ForkInfo {
            fork: Fork {
                previous_version: ForkVersion(self.bytes()),
                current_version: ForkVersion(self.bytes()),
                epoch: Epoch(self.number()),
            },
            genesis_validators_root: GenesisValidatorsRoot(self.bytes()),
        }
    }

    pub fn sample(&mut self, sample: Sample, preset: &Preset) -> Signable {
        let unslashable = |message| Signable::Message(Message::Unslashable(message));
        match sample {
            Sample::Phase0Block => Signable::Block(self.block(None)),
            Sample::AltairBlock => {
                let sync_aggregate = SyncAggregate {
                    sync_committee_bits: self.bitvector(preset.sync_committee_size),
                    sync_committee_signature: self.bytes(),
                };
                Signable::Block(self.block(Some(sync_aggregate)))
            }
            Sample::Header => Signable::Message(Message::Slashable(Slashable::Block(self.header()))),
            Sample::Attestation => Signable::Message(Message::Slashable(Slashable::Attestation(self.data()))),
            Sample::AggregationSlot => unslashable(Unslashable::AggregationSlot(self.slot())),
            Sample::Phase0Aggregate => unslashable(self.aggregate(AttestationShape::Phase0, 2048)),
            Sample::ElectraAggregate => {
                let committees = preset.max_committees_per_slot;
                let shape = AttestationShape::Electra(self.bitvector(committees));
                unslashable(self.aggregate(shape, 2048 * committees))
            }
            Sample::RandaoReveal => unslashable(Unslashable::RandaoReveal(Epoch(self.number()))),
            Sample::VoluntaryExit => unslashable(Unslashable::VoluntaryExit(self.exit())),
            Sample::Deposit => unslashable(Unslashable::Deposit(Deposit {
                pubkey: self.key(),
                withdrawal_credentials: self.bytes(),
                amount: self.number(),
                genesis_fork_version: ForkVersion(self.bytes()),
            })),
            Sample::SyncCommitteeMessage => unslashable(Unslashable::SyncCommitteeMessage(SyncCommitteeMessage {
                beacon_block_root: self.bytes(),
                slot: self.slot(),
            })),
            Sample::SelectionProof => {
                unslashable(Unslashable::SyncCommitteeSelectionProof(SyncAggregatorSelectionData {
                    slot: self.slot(),
                    subcommittee_index: self.number(),
                }))
            }
            Sample::Contribution => unslashable(self.contribution(preset)),
            Sample::Registration => unslashable(Unslashable::ValidatorRegistration(ValidatorRegistration {
                fee_recipient: self.bytes(),
                gas_limit: self.number(),
                timestamp: self.number(),
                pubkey: self.key(),
            })),
        }
    }

    fn header(&mut self) -> BeaconBlockHeader {
        BeaconBlockHeader {
            slot: self.slot(),
            proposer_index: self.index(),
            parent_root: self.bytes(),
            state_root: self.bytes(),
            body_root: self.bytes(),
        }
    }

    fn data(&mut self) -> AttestationData {
        AttestationData {
            slot: self.slot(),
            index: self.number(),
            beacon_block_root: self.bytes(),
            source: Checkpoint { epoch: Epoch(self.number()), root: self.bytes() },
            target: Checkpoint { epoch: Epoch(self.number()), root: self.bytes() },
        }
    }

    fn aggregate(&mut self, shape: AttestationShape, limit: usize) -> Unslashable {
        Unslashable::AggregateAndProof(Box::new(AggregateAndProof {
            aggregator_index: self.index(),
            aggregate: Attestation {
                aggregation_bits: self.bitlist(limit),
                data: self.data(),
                signature: self.bytes(),
                shape,
            },
            selection_proof: self.bytes(),
        }))
    }

    fn contribution(&mut self, preset: &Preset) -> Unslashable {
        Unslashable::SyncCommitteeContributionAndProof(Box::new(ContributionAndProof {
            aggregator_index: self.index(),
            contribution: SyncCommitteeContribution {
                slot: self.slot(),
                beacon_block_root: self.bytes(),
                subcommittee_index: self.number(),
                aggregation_bits: self.bitvector(preset.sync_committee_size / 4),
                signature: self.bytes(),
            },
            selection_proof: self.bytes(),
        }))
    }

    fn exit(&mut self) -> VoluntaryExit {
        VoluntaryExit { epoch: Epoch(self.number()), validator_index: self.index() }
    }

    fn signed_header(&mut self) -> SignedBeaconBlockHeader {
        SignedBeaconBlockHeader { message: self.header(), signature: self.bytes() }
    }

    fn indexed(&mut self) -> IndexedAttestation {
        IndexedAttestation {
            attesting_indices: self.many(2048, Self::index),
            data: self.data(),
            signature: self.bytes(),
        }
    }

    fn deposit(&mut self) -> BodyDeposit {
        BodyDeposit {
            proof: Box::new(core::array::from_fn(|_| self.bytes())),
            data: DepositData {
                pubkey: self.key(),
                withdrawal_credentials: self.bytes(),
                amount: self.number(),
                signature: self.bytes(),
            },
        }
    }

    fn block(&mut self, sync_aggregate: Option<SyncAggregate>) -> BeaconBlock {
        let header = self.header();
        BeaconBlock {
            slot: header.slot,
            proposer_index: header.proposer_index,
            parent_root: header.parent_root,
            state_root: header.state_root,
            body: BeaconBlockBody {
                randao_reveal: self.bytes(),
                eth1_data: Eth1Data {
                    deposit_root: self.bytes(),
                    deposit_count: self.number(),
                    block_hash: self.bytes(),
                },
                graffiti: self.bytes(),
                proposer_slashings: self.many(16, |random| ProposerSlashing {
                    signed_header_1: random.signed_header(),
                    signed_header_2: random.signed_header(),
                }),
                attester_slashings: self.many(2, |random| AttesterSlashing {
                    attestation_1: random.indexed(),
                    attestation_2: random.indexed(),
                }),
                attestations: self.many(128, |random| BodyAttestation {
                    aggregation_bits: random.bitlist(2048),
                    data: random.data(),
                    signature: random.bytes(),
                }),
                deposits: self.many(16, Self::deposit),
                voluntary_exits: self
                    .many(16, |random| SignedVoluntaryExit { message: random.exit(), signature: random.bytes() }),
                sync_aggregate,
            },
        }
    }
}
