//! Each function against the definition written out slowly, or against `ssz_types`.

use proptest::prelude::*;
use ssz_types::typenum::{U20, U100, U2048, U4096};
use ssz_types::{BitList, BitVector, VariableList};
use tree_hash::TreeHash as _;

use super::*;
use crate::root::parse_hex;

/// The definition: pad to the full width, then hash pairs.
fn slow_tree(chunks: &[Chunk], width: usize) -> Chunk {
    let mut nodes = chunks.to_vec();
    nodes.resize(width.next_power_of_two(), ZERO);
    while nodes.len() > 1 {
        nodes = nodes.chunks(2).map(|pair| hash_pair(&pair[0], &pair[1])).collect();
    }
    nodes[0]
}

/// EIP-7916: `merkleize_progressive(chunks, num_leaves)`.
fn slow_progressive(chunks: &[Chunk], leaves: usize) -> Chunk {
    if chunks.is_empty() {
        return ZERO;
    }
    let (head, rest) = chunks.split_at(leaves.min(chunks.len()));
    hash_pair(&slow_tree(head, leaves), &slow_progressive(rest, leaves * 4))
}

fn pack(bytes: &[u8]) -> Vec<Chunk> {
    bytes.chunks(32).map(last_chunk).collect()
}

fn numbered(count: usize) -> Vec<Chunk> {
    (1..=count).map(|number| u64::try_from(number).unwrap().tree_root()).collect()
}

#[test]
fn zero_subtrees_are_the_published_ones() {
    let expected = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b",
        "db56114e00fdd4c1f85c892bf35ac9a89289aaecb1ebd0a96cde606a748b5d71",
    ];
    for (depth, root) in (0..).zip(expected) {
        assert_eq!(Some(zero_subtree(depth)), parse_hex(root));
    }
    assert_eq!(zero_subtree(66), hash_pair(&zero_subtree(65), &zero_subtree(65)));
}

#[test]
fn trees_of_every_small_shape() {
    for count in 0..=33 {
        let chunks = numbered(count);
        for limit in count..=64 {
            assert_eq!(tree(chunks.as_flattened(), depth_for(limit)), slow_tree(&chunks, limit), "{count} of {limit}");
        }
        assert_eq!(chunk_vector(&chunks), slow_tree(&chunks, count));
        assert_eq!(progressive(chunks.as_flattened()), slow_progressive(&chunks, 1), "{count}");
    }
}

#[test]
fn depths() {
    for (chunks, depth) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (512, 9), (513, 10), (usize::MAX, 64)] {
        assert_eq!(depth_for(chunks), depth, "{chunks}");
    }
}

#[test]
fn the_widest_limit_still_ends() {
    let roots = numbered(3);
    let expected = (2..64).fold(slow_tree(&roots, 4), |node, depth| hash_pair(&node, &zero_subtree(depth)));
    assert_eq!(list("field", &roots, usize::MAX), Ok(mix_in_length(&expected, 3)));
}

#[test]
fn limits_are_exact() {
    let too_long = TreeError::TooLong { field: "field", got: 5, limit: 4 };
    assert!(list("field", &numbered(4), 4).is_ok());
    assert_eq!(list("field", &numbered(5), 4), Err(too_long));
    assert!(u64_list("field", &[1; 4], 4).is_ok());
    assert_eq!(u64_list("field", &[1; 5], 4), Err(too_long));
    assert!(byte_list("field", &[1; 4], 4).is_ok());
    assert_eq!(byte_list("field", &[1; 5], 4), Err(too_long));
    // Nine bits are one byte and the delimiter at bit 1 of the next.
    assert!(bitlist("field", &[0xff, 0b11], 9).is_ok());
    assert_eq!(bitlist("field", &[0xff, 0b111], 9), Err(TreeError::TooManyBits { field: "field", got: 10, limit: 9 }));
}

#[test]
fn bit_lists_need_their_delimiter() {
    for bytes in [&[][..], &[0], &[1, 0], &[0xff, 0xff, 0]] {
        assert_eq!(bitlist("field", bytes, 64), Err(TreeError::NoDelimiter { field: "field" }));
        assert_eq!(progressive_bitlist("field", bytes), Err(TreeError::NoDelimiter { field: "field" }));
    }
    assert_eq!(bitlist("field", &[1], 64), Ok(mix_in_length(&ZERO, 0)));
    assert_eq!(progressive_bitlist("field", &[1]), Ok(mix_in_length(&ZERO, 0)));
}

#[test]
fn bit_vectors_have_one_length() {
    let wrong = |got, expected, bits| Err(TreeError::WrongLength { field: "field", got, expected, bits });
    assert_eq!(bitvector("field", &[], 4), wrong(0, 1, 4));
    assert_eq!(bitvector("field", &[1, 0], 4), wrong(2, 1, 4));
    assert_eq!(bitvector("field", &[0; 7], 64), wrong(7, 8, 64));
    assert_eq!(bitvector("field", &[0x10], 4), Err(TreeError::PaddingSet { field: "field", bits: 4 }));
    assert_eq!(bitvector("field", &[0x0f], 4), Ok(last_chunk(&[0x0f])));
    assert_eq!(bitvector("field", &[0xff], 8), Ok(last_chunk(&[0xff])));
}

#[test]
fn active_fields_are_the_low_bits() {
    fn check<const N: usize>(active: &[u8]) {
        let fields: [Chunk; N] = numbered(N).try_into().unwrap();
        let expected = hash_pair(&slow_progressive(&fields, 1), &last_chunk(active));
        assert_eq!(progressive_container(fields), expected, "{N} fields");
    }
    check::<1>(&[0x01]);
    check::<4>(&[0x0f]);
    check::<5>(&[0x1f]);
    check::<8>(&[0xff]);
    check::<9>(&[0xff, 0x01]);
    check::<12>(&[0xff, 0x0f]);
    check::<19>(&[0xff, 0xff, 0x07]);
    check::<256>(&[0xff; 32]);
}

#[test]
fn progressive_bit_lists_around_each_chunk() {
    for bits in [0usize, 1, 7, 8, 9, 255, 256, 257, 511, 512, 1279, 1280, 1281, 5000] {
        let mut content = vec![0u8; bits.div_ceil(8)];
        for bit in (0..bits).filter(|bit| bit % 3 != 1) {
            content[bit / 8] |= 1 << (bit % 8);
        }
        let mut serialised = content.clone();
        serialised.resize(bits / 8 + 1, 0);
        serialised[bits / 8] |= 1 << (bits % 8);
        let expected = mix_in_length(&slow_progressive(&pack(&content), 1), bits);
        assert_eq!(progressive_bitlist("field", &serialised), Ok(expected), "{bits} bits");
    }
}

proptest! {
    #[test]
    fn byte_lists_equal(bytes in proptest::collection::vec(any::<u8>(), 0..=4096)) {
        let theirs = VariableList::<u8, U4096>::try_from(bytes.clone()).unwrap().tree_hash_root().0;
        prop_assert_eq!(byte_list("field", &bytes, 4096), Ok(theirs));
    }

    #[test]
    fn number_lists_equal(values in proptest::collection::vec(any::<u64>(), 0..=100)) {
        let theirs = VariableList::<u64, U100>::try_from(values.clone()).unwrap().tree_hash_root().0;
        prop_assert_eq!(u64_list("field", &values, 100), Ok(theirs));
    }

    #[test]
    fn bit_lists_equal(bits in proptest::collection::vec(any::<bool>(), 0..=2048)) {
        let mut theirs = BitList::<U2048>::with_capacity(bits.len()).unwrap();
        for (index, bit) in bits.iter().enumerate() {
            theirs.set(index, *bit).unwrap();
        }
        let serialised = theirs.clone().into_bytes();
        prop_assert_eq!(bitlist("field", &serialised, 2048), Ok(theirs.tree_hash_root().0));
    }

    #[test]
    fn bit_vectors_equal(bits in proptest::collection::vec(any::<bool>(), 20)) {
        let mut theirs = BitVector::<U20>::new();
        for (index, bit) in bits.iter().enumerate() {
            theirs.set(index, *bit).unwrap();
        }
        let serialised = theirs.clone().into_bytes();
        prop_assert_eq!(bitvector("field", &serialised, 20), Ok(theirs.tree_hash_root().0));
    }

    #[test]
    fn progressive_byte_lists_equal(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        let expected = mix_in_length(&slow_progressive(&pack(&bytes), 1), bytes.len());
        prop_assert_eq!(progressive_byte_list(&bytes), expected);
    }

    #[test]
    fn progressive_lists_equal(count in 0usize..400) {
        let roots = numbered(count);
        prop_assert_eq!(progressive_list(&roots), mix_in_length(&slow_progressive(&roots, 1), count));
    }

    /// No bytes make any function panic, and the two bit list forms agree on what a bit list is.
    #[test]
    fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), limit in 0usize..2000) {
        let bounded = bitlist("field", &bytes, limit);
        prop_assert_eq!(
            matches!(bounded, Err(TreeError::NoDelimiter { .. })),
            progressive_bitlist("field", &bytes).is_err()
        );
        prop_assert_eq!(byte_list("field", &bytes, limit).is_ok(), bytes.len() <= limit);
        if bitvector("field", &bytes, limit).is_ok() {
            prop_assert_eq!(bytes.len(), limit.div_ceil(8));
        }
    }
}
