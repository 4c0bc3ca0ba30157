//! Proved here: right signatures pass, however they are grouped; any single wrong one, any two swapped ones and any two whose
//! errors cancel out do not, the last of which do without coefficients; points outside the subgroup are not even decoded.

use blst::{
    blst_p2_add_or_double_affine, blst_p2_affine_compress, blst_p2_affine_in_g2, blst_p2_cneg, blst_p2_uncompress,
};
use proptest::prelude::*;

use super::*;
use crate::bls::{hash_to_g2, verify};
use crate::secret::SecretScalar;

struct Signed {
    public_key: [u8; 48],
    root: [u8; 32],
    signature: [u8; 96],
}

/// Signatures of these roots (numbers that stand for them), each with a key of its own.
fn signed(roots: &[u8]) -> Vec<Signed> {
    let sign = |(index, root): (usize, &u8)| {
        let mut secret = [0; 32];
        secret[30] = 1;
        secret[31] = u8::try_from(index).unwrap();
        let secret = SecretScalar::from_be_bytes(&mut secret).unwrap();
        let root = [*root; 32];
        Signed { public_key: secret.public_key(), root, signature: secret.sign(&hash_to_g2(&root)) }
    };
    let mut all: Vec<Signed> = roots.iter().enumerate().map(sign).collect();
    all.sort_by_key(|one| one.root);
    all
}

/// Claims of these, with coefficients of this seed; the seed 0 is for coefficients of one.
fn claims(all: &[Signed], seed: u64) -> Vec<Claim> {
    let claim = |(index, one): (u64, &Signed)| Claim {
        root: hash_to_g2(&one.root),
        key: VerifyingPoint::new(&one.public_key).unwrap(),
        signature: SignaturePoint::new(&one.signature).unwrap(),
        // Steele and Vigna's SplitMix64.
        coefficient: NonZeroU64::new(match seed {
            0 => 1,
            seed => {
                let mixed = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (mixed ^ (mixed >> 31)) | 1
            }
        })
        .unwrap(),
    };
    (0..).zip(all).map(claim).collect()
}

/// `signature` and this point or its opposite.
fn shifted(signature: &[u8; 96], by: &[u8; 32], negative: bool) -> [u8; 96] {
    let mut error = hash_to_g2(by).jacobian();
    let signature = SignaturePoint::new(signature).unwrap();
    // SAFETY: a pointer to a live local value.
    unsafe { blst_p2_cneg(&raw mut error, negative) };
    let mut sum = blst_p2::default();
    // SAFETY: all pointers are to live local values.
    unsafe { blst_p2_add_or_double_affine(&raw mut sum, &raw const error, &raw const signature.0) };
    let mut affine = blst_p2_affine::default();
    // SAFETY: as above.
    unsafe { blst_p2_to_affine(&raw mut affine, &raw const sum) };
    let mut bytes = [0; 96];
    // SAFETY: a compressed point of G2 takes 96 bytes.
    unsafe { blst_p2_affine_compress(bytes.as_mut_ptr(), &raw const affine) };
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_right_passes_and_nothing_else(
        roots in prop::collection::vec(0..3_u8, 2..40),
        seed in 1..u64::MAX,
        (first, second) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let mut all = signed(&roots);
        prop_assert!(verify_together(&claims(&all, seed)));
        let first = first.index(all.len());
        let second = (first + 1 + second.index(all.len() - 1)) % all.len();

        // One that is wrong.
        let right = all[first].signature;
        all[first].signature = shifted(&right, &[77; 32], false);
        prop_assert!(!verify(&all[first].public_key, &all[first].root, &all[first].signature));
        prop_assert!(!verify_together(&claims(&all, seed)));
        prop_assert!(!verify_together(&claims(&all[first..=first], seed)));
        // Two whose errors cancel out: a sum without coefficients does not see it.
        let other = all[second].signature;
        all[second].signature = shifted(&other, &[77; 32], true);
        prop_assert!(verify_together(&claims(&all, 0)));
        prop_assert!(!verify_together(&claims(&all, seed)));
        // Two that are swapped.
        all[first].signature = other;
        all[second].signature = right;
        prop_assert!(!verify_together(&claims(&all, seed)));
        // The right ones for another root, or of another key.
        all[first].signature = right;
        all[second].signature = other;
        prop_assert!(verify_together(&claims(&all, seed)));
        all[first].root = [99; 32];
        prop_assert!(!verify_together(&claims(&all, seed)));
    }
}

#[test]
fn none_and_one_are_judged_as_many_are() {
    assert!(verify_together(&[]));
    let mut one = signed(&[5]);
    assert!(verify_together(&claims(&one, 7)));
    assert!(verify_together(&claims(&one, 0)));
    one[0].root = [6; 32];
    assert!(!verify_together(&claims(&one, 7)));
}

#[test]
fn points_outside_the_subgroup_are_not_decoded() {
    let mut found = 0;
    for number in 0..=u8::MAX {
        let mut bytes = [0; 96];
        (bytes[0], bytes[95]) = (0x80, number);
        let mut point = blst_p2_affine::default();
        // SAFETY: a live point, and 96 live bytes.
        let decoded = unsafe { blst_p2_uncompress(&raw mut point, bytes.as_ptr()) };
        // SAFETY: a live point.
        let outside = decoded == blst::BLST_ERROR::BLST_SUCCESS && !unsafe { blst_p2_affine_in_g2(&raw const point) };
        found += u32::from(outside);
        assert!(!outside || SignaturePoint::new(&bytes).is_none());
    }
    assert!(found > 10, "only {found} points on the curve");
    let mut infinity = [0; 96];
    infinity[0] = 0xc0;
    assert!(SignaturePoint::new(&infinity).is_none());
    assert!(SignaturePoint::new(&[0xff; 96]).is_none());
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    assert!(VerifyingPoint::new(&infinity).is_none());
}
