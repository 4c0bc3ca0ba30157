//! BLS signatures on BLS12-381 with public keys in G1, split in two: hash a root once, multiply often.
//!
//! Guarantees: the ciphersuite is Ethereum's proof-of-possession scheme and nothing else; `verify`
//! refuses the point at infinity as a public key and every point outside its subgroup; a signature
//! made by multiplying a [`HashedPoint`] equals the one blst makes from the root.

use blst::min_pk::{PublicKey, Signature};
use blst::{
    BLST_ERROR, blst_bendian_from_scalar, blst_core_verify_pk_in_g1, blst_hash_to_g2, blst_p1, blst_p1_affine,
    blst_p1_compress, blst_p2, blst_p2_affine, blst_p2_compress, blst_p2_is_equal, blst_p2_to_affine, blst_scalar,
    blst_scalar_from_bendian, blst_sign_pk_in_g1, blst_sk_check, blst_sk_to_pk_in_g1,
};

/// Domain separation tag of Ethereum's signatures (consensus-specs, phase0/beacon-chain.md, "BLS
/// signatures": the proof-of-possession scheme of the IRTF draft).
const ETH_DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Ethereum signs without augmentation.
const NO_AUGMENTATION: &[u8] = &[];

/// A signing root hashed to a point of G2, ready to be multiplied by any number of secret keys.
///
/// Public data: it is computed from the root alone, and it is never the point at infinity in practice
/// (that would take a preimage of the hash).
#[derive(Debug, Clone, Copy)]
pub struct HashedPoint(blst_p2);

impl HashedPoint {
    /// Whether this is the same point, computed by the same hash.
    pub(crate) fn same(&self, other: &Self) -> bool {
        // SAFETY: both pointers are to live points.
        unsafe { blst_p2_is_equal(&raw const self.0, &raw const other.0) }
    }

    /// In affine coordinates.
    pub(crate) fn affine(&self) -> blst_p2_affine {
        let mut affine = blst_p2_affine::default();
        // SAFETY: both pointers are to live values.
        unsafe { blst_p2_to_affine(&raw mut affine, &raw const self.0) };
        affine
    }

    #[cfg(test)]
    pub(crate) fn jacobian(&self) -> blst_p2 {
        self.0
    }
}

/// Hashes a signing root to G2 (RFC 9380, ciphersuite BLS12381G2_XMD:SHA-256_SSWU_RO_, with
/// Ethereum's domain separation tag). Takes about as long as
/// multiplying by one key, so sharing the point almost halves the cost of each signature.
pub fn hash_to_g2(root: &[u8; 32]) -> HashedPoint {
    HashedPoint(hash_message(root, ETH_DST))
}

fn hash_message(message: &[u8], dst: &[u8]) -> blst_p2 {
    let mut point = blst_p2::default();
    // SAFETY: each pointer comes with the length of the live slice it points into, and `point` is live
    // and writable.
    unsafe {
        blst_hash_to_g2(
            &raw mut point,
            message.as_ptr(),
            message.len(),
            dst.as_ptr(),
            dst.len(),
            NO_AUGMENTATION.as_ptr(),
            NO_AUGMENTATION.len(),
        );
    }
    point
}

/// Whether `signature` is the signature of `root` by the holder of `public_key` (both compressed).
///
/// False as well for anything that is not a valid encoding of a point of the right subgroup, and for
/// the point at infinity as public key (KeyValidate of the IRTF draft bls-signature, section 2.5).
pub fn verify(public_key: &[u8; 48], root: &[u8; 32], signature: &[u8; 96]) -> bool {
    let Ok(public_key) = PublicKey::key_validate(public_key) else {
        return false;
    };
    let Ok(signature) = Signature::from_bytes(signature) else {
        return false;
    };
    let public_key: &blst_p1_affine = (&public_key).into();
    let signature: &blst_p2_affine = (&signature).into();
    // One message: blst's own `verify` would hand this to a thread pool for nothing. The core routine
    // checks the subgroups of both points.
    // SAFETY: both references are live affine points on their curves, each other pointer comes with
    // the length of the live slice it points into.
    let result = unsafe {
        blst_core_verify_pk_in_g1(
            public_key,
            signature,
            true,
            root.as_ptr(),
            root.len(),
            ETH_DST.as_ptr(),
            ETH_DST.len(),
            NO_AUGMENTATION.as_ptr(),
            NO_AUGMENTATION.len(),
        )
    };
    result == BLST_ERROR::BLST_SUCCESS
}

/// A secret scalar in little-endian byte order, which is how blst keeps it.
pub(crate) type ScalarBytes = [u8; 32];

/// Reads a big-endian scalar into `out` and says whether it is a secret key: 0 < scalar < r.
pub(crate) fn read_scalar(big_endian: &[u8; 32], out: &mut ScalarBytes) -> bool {
    let out = out.as_mut_ptr().cast::<blst_scalar>();
    // SAFETY: both pointers are to 32 live bytes; blst_scalar is a C struct of exactly 32 bytes without
    // alignment. blst wipes the copy it makes on the stack.
    unsafe { blst_scalar_from_bendian(out, big_endian.as_ptr()) };
    // SAFETY: as above, and the routine only reads.
    unsafe { blst_sk_check(out) }
}

/// Writes a scalar in big-endian order, as keystores and clients write private keys.
pub(crate) fn write_scalar(scalar: &ScalarBytes, big_endian: &mut [u8; 32]) {
    let scalar = scalar.as_ptr().cast::<blst_scalar>();
    // SAFETY: both pointers are to 32 live bytes; blst_scalar is a C struct of exactly 32 bytes without
    // alignment. blst wipes the copy it makes on the stack.
    unsafe { blst_bendian_from_scalar(big_endian.as_mut_ptr(), scalar) };
}

/// `scalar * point`, compressed. Constant time in the scalar.
pub(crate) fn multiply(scalar: &ScalarBytes, point: &HashedPoint) -> [u8; 96] {
    let scalar = scalar.as_ptr().cast::<blst_scalar>();
    let mut product = blst_p2::default();
    // SAFETY: `scalar` points to 32 live bytes, the size of a blst_scalar, which needs no alignment; the
    // other pointers are to live local values. The routine makes the result affine, so that its
    // coordinates say nothing about how it was computed.
    unsafe { blst_sign_pk_in_g1(&raw mut product, &raw const point.0, scalar) };
    let mut out = [0; 96];
    // SAFETY: a compressed G2 point takes 96 bytes, which is the size of `out`.
    unsafe { blst_p2_compress(out.as_mut_ptr(), &raw const product) };
    out
}

/// `scalar * G1 generator`, compressed. Constant time in the scalar.
pub(crate) fn public_key(scalar: &ScalarBytes) -> [u8; 48] {
    let scalar = scalar.as_ptr().cast::<blst_scalar>();
    let mut product = blst_p1::default();
    // SAFETY: `scalar` points to 32 live bytes, the size of a blst_scalar, which needs no alignment;
    // `product` is live and writable.
    unsafe { blst_sk_to_pk_in_g1(&raw mut product, scalar) };
    let mut out = [0; 48];
    // SAFETY: a compressed G1 point takes 48 bytes, which is the size of `out`.
    unsafe { blst_p1_compress(out.as_mut_ptr(), &raw const product) };
    out
}

#[cfg(test)]
mod tests {
    //! Proved here: hashing agrees with RFC 9380 and the published vectors. Whole signatures are
    //! compared in tests/bls_vectors.rs.

    use std::fmt::Write as _;

    use blst::{blst_bendian_from_fp, blst_fp};

    use super::*;

    /// Tag of the test suites of RFC 9380.
    const RFC_DST: &[u8] = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_";

    fn hex_of(element: &blst_fp) -> String {
        let mut bytes = [0_u8; 48];
        // SAFETY: a field element takes 48 bytes, which is the size of `bytes`.
        unsafe { blst_bendian_from_fp(bytes.as_mut_ptr(), element) };
        bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// `(x, y)`, each as "c0,c1" in hex, like the vectors write them.
    fn coordinates(point: &blst_p2) -> (String, String) {
        let mut affine = blst_p2_affine::default();
        // SAFETY: both pointers are to live local values.
        unsafe { blst_p2_to_affine(&raw mut affine, point) };
        let text = |c: &[blst_fp; 2]| format!("{},{}", hex_of(&c[0]), hex_of(&c[1]));
        (text(&affine.x.fp), text(&affine.y.fp))
    }

    #[test]
    fn agrees_with_rfc_9380_appendix_j_10_1() {
        let (x, _) = coordinates(&hash_message(b"", RFC_DST));
        assert_eq!(
            x,
            "0x0141ebfbdca40eb85b87142e130ab689c673cf60f1a3e98d69335266f30d9b8d4ac44c1038e9dcdd53\
             93faf5c41fb78a,0x05cb8437535e20ecffaef7752baddf98034139c38452458baeefab379ba13dff5bf5d\
             d71b72418717047f5b0f37da03d"
        );
    }

    #[test]
    fn agrees_with_the_published_hash_vectors() {
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let default = workspace.join("../shared/vectors");
        let folder = match std::env::var_os("HOLDFAST_VECTORS") {
            Some(folder) => workspace.join(folder),
            None if default.is_dir() => default,
            None => return, // the RFC vector above still ran
        }
        .join("bls/hash_to_G2");
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("HOLDFAST_VECTORS: {}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let case: serde_json::Value = serde_json::from_str(&text).unwrap();
            let (x, y) = coordinates(&hash_message(case["input"]["msg"].as_str().unwrap().as_bytes(), RFC_DST));
            assert_eq!(x, case["output"]["x"]);
            assert_eq!(y, case["output"]["y"]);
            count += 1;
        }
        assert_eq!(count, 4);
    }
}
