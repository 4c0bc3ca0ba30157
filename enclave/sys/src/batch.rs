//! Many signatures verified at once: one pairing for each distinct root and one for all signatures, instead of two for each
//! signature.
//!
//! Guarantees: [`verify_together`] is true for right signatures. For any that are not right, whoever made them, it is false
//! but for a chance of 2⁻⁶³, as long as the coefficients were drawn after the signatures were fixed: errors that cancel out in
//! a plain sum do not in a sum with random coefficients. For one claim alone there is no such chance. Every signature is
//! checked to be in its subgroup by itself, as a sum would hide a point of small order.
//!
//! Source: Bellare, Garay, Rabin, "Fast batch verification for modular exponentiation and digital signatures" (1998), the
//! small exponents test; for BLS as consensus clients use it.

use core::num::NonZeroU64;
use core::ptr;

use blst::min_pk::{PublicKey, Signature};
use blst::{
    BLS12_381_NEG_G1, blst_final_exp, blst_fp12, blst_fp12_is_one, blst_miller_loop_n, blst_p1, blst_p1_affine,
    blst_p1_affine_is_inf, blst_p1_to_affine, blst_p1s_mult_pippenger, blst_p1s_mult_pippenger_scratch_sizeof, blst_p2,
    blst_p2_affine, blst_p2_affine_is_inf, blst_p2_to_affine, blst_p2s_mult_pippenger,
    blst_p2s_mult_pippenger_scratch_sizeof,
};

use crate::bls::HashedPoint;

/// Bits of a coefficient.
const COEFFICIENT_BITS: usize = 64;

/// A public key that was decoded and checked once, to verify with often.
#[derive(Debug, Clone, Copy)]
pub struct VerifyingPoint(blst_p1_affine);

impl VerifyingPoint {
    /// Decodes 48 bytes. `None` for whatever KeyValidate refuses (IRTF draft bls-signature, section 2.5): no encoding of a
    /// point, the point at infinity, or one outside the subgroup.
    pub fn new(compressed: &[u8; 48]) -> Option<Self> {
        PublicKey::key_validate(compressed).ok().map(|key| Self(*<&blst_p1_affine>::from(&key)))
    }
}

/// A signature that is a point of its subgroup; whether it is right is another question.
#[derive(Debug, Clone, Copy)]
pub struct SignaturePoint(blst_p2_affine);

impl SignaturePoint {
    /// Decodes 96 bytes. `None` for anything that is no encoding of a point of the subgroup, and for infinity.
    pub fn new(compressed: &[u8; 96]) -> Option<Self> {
        let signature = Signature::sig_validate(compressed, true).ok()?;
        Some(Self(*<&blst_p2_affine>::from(&signature)))
    }
}

/// That a signature is one of this root by this key.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The root's point.
    pub root: HashedPoint,
    /// The key.
    pub key: VerifyingPoint,
    /// The signature.
    pub signature: SignaturePoint,
    /// Drawn at random, after the signature was fixed.
    pub coefficient: NonZeroU64,
}

/// Whether all of these are right. Claims of one root that stand next to each other share a pairing, so sort by root.
/// True for none.
pub fn verify_together(claims: &[Claim]) -> bool {
    let Some(sum) = signatures(claims) else { return claims.is_empty() };
    // SAFETY: a constant of the library.
    let negative_generator = unsafe { BLS12_381_NEG_G1 };
    let (mut g1, mut g2) = (vec![negative_generator], vec![sum]);
    for group in claims.chunk_by(|one, other| one.root.same(&other.root)) {
        let (Some(keys), Some(first)) = (public_keys(group), group.first()) else { return false };
        g1.push(keys);
        g2.push(first.root.affine());
    }
    let (g1, g2): (Vec<*const _>, Vec<*const _>) =
        (g1.iter().map(ptr::from_ref).collect(), g2.iter().map(ptr::from_ref).collect());
    let (mut product, mut result) = (blst_fp12::default(), blst_fp12::default());
    // SAFETY: both lists have one pointer to a live affine point for each of so many pairs; none is at infinity.
    unsafe { blst_miller_loop_n(&raw mut product, g2.as_ptr(), g1.as_ptr(), g1.len()) };
    // SAFETY: both pointers are to live local values.
    unsafe { blst_final_exp(&raw mut result, &raw const product) };
    // SAFETY: as above.
    unsafe { blst_fp12_is_one(&raw const result) }
}

/// The coefficients, as blst takes them: eight little-endian bytes each, one after the other.
fn coefficients(claims: &[Claim]) -> Vec<u8> {
    claims.iter().flat_map(|claim| claim.coefficient.get().to_le_bytes()).collect()
}

/// A function that sums points of all claims, each times its coefficient, in one of the two groups: the library has the same
/// routines for both under other names. `None` without any claim, and where the sum is infinity.
macro_rules! weighted_sum {
    ($(#[$doc:meta])* $name:ident, $of:ident: $affine:ty, $point:ty, $scratch:path, $multiply:path, $to_affine:path, $is_infinity:path) => {
        $(#[$doc])*
        fn $name(claims: &[Claim]) -> Option<$affine> {
            let points: Vec<$affine> = claims.iter().map(|claim| claim.$of.0).collect();
            let scalars = coefficients(claims);
            let first = points.first()?;
            // A null pointer after the first says that the rest follows in one piece.
            let (points_at, scalars_at) = ([ptr::from_ref(first), ptr::null()], [scalars.as_ptr(), ptr::null()]);
            // SAFETY: a number of bytes for a number of points.
            let scratch = unsafe { $scratch(points.len()) };
            let mut scratch = vec![0_u64; scratch.div_ceil(8)];
            let mut sum = <$point>::default();
            // SAFETY: `points` has so many live points in one piece and `scalars` eight bytes for each; `scratch` is as long
            // as the routine says it must be, in words of its own size.
            unsafe {
                $multiply(
                    &raw mut sum,
                    points_at.as_ptr(),
                    points.len(),
                    scalars_at.as_ptr(),
                    COEFFICIENT_BITS,
                    scratch.as_mut_ptr(),
                );
            }
            let mut affine = <$affine>::default();
            // SAFETY: both pointers are to live local values.
            unsafe { $to_affine(&raw mut affine, &raw const sum) };
            // SAFETY: as above, and the routine only reads.
            let infinite = unsafe { $is_infinity(&raw const affine) };
            (!infinite).then_some(affine)
        }
    };
}

weighted_sum!(
    /// The sum of the signatures.
    signatures, signature: blst_p2_affine, blst_p2, blst_p2s_mult_pippenger_scratch_sizeof, blst_p2s_mult_pippenger,
    blst_p2_to_affine, blst_p2_affine_is_inf
);
weighted_sum!(
    /// The sum of the public keys.
    public_keys, key: blst_p1_affine, blst_p1, blst_p1s_mult_pippenger_scratch_sizeof, blst_p1s_mult_pippenger,
    blst_p1_to_affine, blst_p1_affine_is_inf
);

#[cfg(test)]
mod tests;
