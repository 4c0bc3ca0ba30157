//! BLS verification of many signatures at once, by plain `blst`: all of a batch hold, each weighed with
//! a random coefficient, or the batch fails and every signature is looked at by itself.
//!
//! A forged signature passes a batch with probability 2^-64. Coefficients are drawn after the signatures
//! are known, from the system's random numbers.

use std::fs::File;
use std::io::Read;

use blst::blst_scalar;
use blst::min_pk::{PublicKey, Signature};

use crate::auditor::Root;
use crate::keys::{DST, TestKey};

/// Bits of a coefficient.
const BITS: usize = 64;

/// One signature to verify.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Number of the key.
    pub key: usize,
    /// What was signed.
    pub root: Root,
    /// The compressed signature.
    pub signature: [u8; 96],
}

/// The public keys signatures are verified with.
pub struct Verifier {
    keys: Vec<PublicKey>,
}

impl Verifier {
    /// Checks the keys once.
    pub fn new(keys: &[TestKey]) -> Self {
        let parse = |key: &TestKey| {
            let bytes = hex::decode(&key.public[2..]).expect("a public key is hexadecimal");
            PublicKey::key_validate(&bytes).expect("a test key is valid")
        };
        Self { keys: keys.iter().map(parse).collect() }
    }

    /// Verifies all claims.
    ///
    /// # Errors
    /// The first claim that does not hold.
    pub fn verify(&self, claims: &[Claim]) -> Result<(), Claim> {
        if claims.is_empty() || self.holds_together(claims) {
            return Ok(());
        }
        let wrong = claims.iter().find(|claim| !self.holds(claim));
        Err(wrong.expect("a batch of signatures that hold one by one holds").clone())
    }

    fn holds(&self, claim: &Claim) -> bool {
        Signature::from_bytes(&claim.signature).is_ok_and(|signature| {
            let key = &self.keys[claim.key];
            signature.verify(true, &claim.root, DST, &[], key, false) == blst::BLST_ERROR::BLST_SUCCESS
        })
    }

    fn holds_together(&self, claims: &[Claim]) -> bool {
        let parsed: Result<Vec<Signature>, _> =
            claims.iter().map(|claim| Signature::from_bytes(&claim.signature)).collect();
        let Ok(signatures) = parsed else { return false };
        let roots: Vec<&[u8]> = claims.iter().map(|claim| claim.root.as_slice()).collect();
        let keys: Vec<&PublicKey> = claims.iter().map(|claim| &self.keys[claim.key]).collect();
        let signatures: Vec<&Signature> = signatures.iter().collect();
        Signature::verify_multiple_aggregate_signatures(
            &roots,
            DST,
            &keys,
            false,
            &signatures,
            true,
            &coefficients(claims.len()),
            BITS,
        ) == blst::BLST_ERROR::BLST_SUCCESS
    }
}

fn coefficients(count: usize) -> Vec<blst_scalar> {
    let mut random = vec![0; count * BITS / 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .expect("the system has random numbers");
    let scalar = |bytes: &[u8]| {
        let mut scalar = blst_scalar::default();
        scalar.b[..bytes.len()].copy_from_slice(bytes);
        // Never zero, which would weigh nothing.
        scalar.b[0] |= 1;
        scalar
    };
    random.chunks(BITS / 8).map(scalar).collect()
}

#[cfg(test)]
mod tests {
    //! A batch with one wrong signature among right ones must name it.
    use super::*;

    fn claim(keys: &[TestKey], key: usize, root: u8) -> Claim {
        let root = [root; 32];
        Claim { key, root, signature: keys[key].secret.sign(&root, DST, &[]).to_bytes() }
    }

    #[test]
    fn a_wrong_signature_is_named() {
        let keys: Vec<TestKey> = (0..3).map(TestKey::interop).collect();
        let verifier = Verifier::new(&keys);
        let mut claims: Vec<Claim> =
            (0..30).map(|n| claim(&keys, n % 3, u8::try_from(n / 2).expect("small"))).collect();
        assert!(verifier.verify(&claims).is_ok());
        claims[17].root[5] ^= 1;
        let wrong = verifier.verify(&claims).expect_err("one is wrong");
        assert_eq!(wrong.root, claims[17].root);
        claims[17].signature = [0; 96];
        assert!(verifier.verify(&claims).is_err());
    }
}
