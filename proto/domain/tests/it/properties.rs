//! Random messages: our roots against the second implementation's.

use holdfast_domain::body::{BeaconBlock, BodyDeposit, DepositData, SignedVoluntaryExit};
use holdfast_domain::message::{AttestationShape, Message, Unslashable, VoluntaryExit};
use holdfast_domain::{Epoch, Preset, PublicKey, SigningIntent, TreeError, ValidatorIndex};
use proptest::prelude::*;

use crate::json::{Signable, read_request, write_request};
use crate::oracle;
use crate::own;
use crate::random::{Random, Sample};

fn sample() -> impl Strategy<Value = Sample> {
    proptest::sample::select(Sample::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn object_roots_equal(sample in sample(), seed: u64, size in 0usize..40, minimal: bool) {
        let preset = if minimal { Preset::MINIMAL } else { Preset::MAINNET };
        let signable = Random::new(seed, size).sample(sample, &preset);
        let expected = oracle::object_root(&signable, &preset);
        let root = signable.into_message(&preset).object_root(&preset).unwrap();
        prop_assert_eq!(root.as_bytes(), &expected);
    }

    /// Every bit length up to the limits, on full-size lists.
    #[test]
    fn long_bit_lists_equal(seed: u64, size in 0usize..2100, electra: bool) {
        let preset = Preset::MAINNET;
        let sample = if electra { Sample::ElectraAggregate } else { Sample::Phase0Aggregate };
        let signable = Random::new(seed, size).sample(sample, &preset);
        let expected = oracle::object_root(&signable, &preset);
        let root = signable.into_message(&preset).object_root(&preset).unwrap();
        prop_assert_eq!(root.as_bytes(), &expected);
    }

    #[test]
    fn signing_roots_equal(sample in sample(), seed: u64, network in proptest::sample::select(vec!["mainnet", "gnosis", "minimal"])) {
        // Exits depend on the network's forks; the vectors cover them.
        prop_assume!(!matches!(sample, Sample::VoluntaryExit));
        let network = own::network(network);
        let mut random = Random::new(seed, 3);
        let signable = random.sample(sample, &network.preset);
        let info = random.fork_info();
        let domain = oracle::domain(&signable, &info, &network);
        let expected = oracle::signing_root(oracle::object_root(&signable, &network.preset), domain);
        let message = signable.into_message(&network.preset);
        let intent = SigningIntent::new(PublicKey::from_bytes([1; 48]), &message, Some(info), None, &network).unwrap();
        let root = intent.root();
        prop_assert_eq!(root.as_bytes(), &expected);
    }

    /// Whatever the bytes, hashing an aggregate ends in a root or an error, and agrees with
    /// `ssz_types` about which bytes are bit lists and bit vectors.
    #[test]
    fn arbitrary_bits_are_judged_alike(
        bits in proptest::collection::vec(any::<u8>(), 0..40),
        trailing in 0usize..2,
        committees in proptest::collection::vec(any::<u8>(), 0..3),
    ) {
        use ssz_types::typenum::{U4, U256};
        use ssz_types::{BitList, BitVector};
        let mut bits = bits;
        bits.extend(core::iter::repeat_n(0, trailing));
        let list = BitList::<U256>::from_bytes(bits.as_slice().into());
        prop_assert_eq!(holdfast_domain::merkle::bitlist("bits", &bits, 256).is_ok(), list.is_ok());
        let vector = BitVector::<U4>::from_bytes(committees.as_slice().into());
        prop_assert_eq!(holdfast_domain::merkle::bitvector("bits", &committees, 4).is_ok(), vector.is_ok());
    }

    #[test]
    fn test_json_survives_a_round_trip(sample in sample(), seed: u64) {
        let preset = Preset::MAINNET;
        let mut random = Random::new(seed, 3);
        let (signable, info) = (random.sample(sample, &preset), random.fork_info());
        let (again, info_again) = read_request(&write_request(&signable, Some(&info)));
        prop_assert_eq!(info_again, Some(info));
        prop_assert_eq!(again.into_message(&preset), signable.into_message(&preset));
    }
}

#[test]
fn an_electra_aggregate_of_another_preset_is_refused() {
    let mut random = Random::new(7, 4);
    let signable = random.sample(Sample::ElectraAggregate, &Preset::MAINNET);
    let Signable::Message(message) = signable else { panic!("an aggregate is a message") };
    assert!(matches!(message.object_root(&Preset::MINIMAL), Err(TreeError::WrongLength { expected: 1, got: 8, .. })));
}

#[test]
fn a_phase0_aggregate_over_the_limit_is_refused() {
    let mut random = Random::new(7, 4);
    let Signable::Message(Message::Unslashable(Unslashable::AggregateAndProof(mut message))) =
        random.sample(Sample::Phase0Aggregate, &Preset::MAINNET)
    else {
        panic!("an aggregate is a message")
    };
    message.aggregate.aggregation_bits.0 = vec![1; 258];
    assert_eq!(message.aggregate.shape, AttestationShape::Phase0);
    let error =
        Message::Unslashable(Unslashable::AggregateAndProof(message)).object_root(&Preset::MAINNET).unwrap_err();
    assert_eq!(error, TreeError::TooManyBits { field: "aggregate.aggregation_bits", got: 2056, limit: 2048 });
}

#[test]
fn blocks_over_the_limits_of_their_body_are_refused() {
    let preset = Preset::MAINNET;
    let error = |field: &'static str, spoil: fn(&mut BeaconBlock)| {
        let Signable::Block(mut block) = Random::new(3, 2).sample(Sample::AltairBlock, &preset) else {
            panic!("a block was asked for")
        };
        spoil(&mut block);
        let error = block.into_header(&preset).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    };
    error("body.deposits ", |block| {
        let deposit = BodyDeposit {
            proof: Box::new([[0; 32]; 33]),
            data: DepositData {
                pubkey: PublicKey::from_bytes([0; 48]),
                withdrawal_credentials: [0; 32],
                amount: 0,
                signature: [0; 96],
            },
        };
        block.body.deposits = vec![deposit; 17];
    });
    error("body.voluntary_exits ", |block| {
        let message = VoluntaryExit { epoch: Epoch(0), validator_index: ValidatorIndex(0) };
        block.body.voluntary_exits = vec![SignedVoluntaryExit { message, signature: [0; 96] }; 17];
    });
    error("body.sync_aggregate.sync_committee_bits ", |block| {
        block.body.sync_aggregate.as_mut().unwrap().sync_committee_bits.pop();
    });
}
