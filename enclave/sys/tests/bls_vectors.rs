//! Signatures and verification against blst's own interface and the Ethereum BLS test vectors.
//!
//! The published vectors are read from the folder named by `HOLDFAST_VECTORS`, or from the default one
//! if it exists; the comparison with blst always runs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers: a failure here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use blst::min_pk::SecretKey;
use holdfast_enclave_sys::{SecretScalar, SysError, hash_to_g2, verify};
use proptest::prelude::*;
use serde_json::Value;

const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// The cases of one folder of vectors, or `None` if there are no vectors and none were asked for.
fn cases(folder: &str) -> Option<Vec<(PathBuf, Value)>> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let default = workspace.join("../shared/vectors");
    let root = match std::env::var_os("HOLDFAST_VECTORS") {
        Some(root) => workspace.join(root),
        None if default.is_dir() => default,
        None => return None,
    };
    let folder = root.join("bls").join(folder);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("HOLDFAST_VECTORS: {}: {error}", folder.display()));
    let read = |path: PathBuf| {
        let case = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (path, case)
    };
    Some(entries.map(|entry| read(entry.unwrap().path())).collect())
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let text = value.as_str().unwrap().strip_prefix("0x").unwrap();
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn published_signatures_are_reproduced() {
    let Some(cases) = cases("sign") else { return };
    assert_eq!(cases.len(), 10);
    for (path, case) in cases {
        let scalar = SecretScalar::from_be_bytes(&mut bytes(&case["input"]["privkey"]));
        let root = bytes(&case["input"]["message"]);
        if case["output"].is_null() {
            assert!(matches!(scalar, Err(SysError::ScalarOutOfRange)), "{}", path.display());
            continue;
        }
        let scalar = scalar.unwrap();
        let signature = scalar.sign(&hash_to_g2(&root));
        assert_eq!(signature, bytes(&case["output"]), "{}", path.display());
        assert!(verify(&scalar.public_key(), &root, &signature));
    }
}

#[test]
fn published_verifications_are_judged_alike() {
    let Some(cases) = cases("verify") else { return };
    assert_eq!(cases.len(), 29);
    for (path, case) in cases {
        let input = &case["input"];
        let verdict = verify(&bytes(&input["pubkey"]), &bytes(&input["message"]), &bytes(&input["signature"]));
        assert_eq!(Value::Bool(verdict), case["output"], "{}", path.display());
    }
}

#[test]
fn published_bad_points_never_verify() {
    for (folder, member) in [("deserialization_G1", "pubkey"), ("deserialization_G2", "signature")] {
        let Some(cases) = cases(folder) else { return };
        assert!(cases.len() >= 16);
        for (path, case) in cases {
            let text = case["input"][member].as_str().unwrap();
            let point = hex::decode(text.trim_start_matches("0x")).unwrap();
            let verdict = if let Ok(public_key) = <[u8; 48]>::try_from(point.as_slice()) {
                verify(&public_key, &[1; 32], &known_signature())
            } else if let Ok(signature) = <[u8; 96]>::try_from(point.as_slice()) {
                verify(&known_key().public_key(), &[1; 32], &signature)
            } else {
                continue; // the type rules a wrong length out
            };
            assert!(!verdict, "{}", path.display());
        }
    }
}

fn known_key() -> SecretScalar {
    SecretScalar::from_be_bytes(&mut [0x11; 32]).unwrap()
}

fn known_signature() -> [u8; 96] {
    known_key().sign(&hash_to_g2(&[1; 32]))
}

#[test]
fn infinity_is_refused_as_a_public_key_and_as_a_signature() {
    let mut no_key = [0; 48];
    no_key[0] = 0xc0;
    let mut no_signature = [0; 96];
    no_signature[0] = 0xc0;
    assert!(verify(&known_key().public_key(), &[1; 32], &known_signature()));
    assert!(!verify(&no_key, &[1; 32], &known_signature()));
    assert!(!verify(&no_key, &[1; 32], &no_signature));
    assert!(!verify(&known_key().public_key(), &[1; 32], &no_signature));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any key and root: same public key, same signature as blst; the signature verifies for this root
    /// and this key only.
    #[test]
    fn signing_equals_blst(material in any::<[u8; 32]>(), root in any::<[u8; 32]>(), flip in 0..256_usize) {
        let theirs = SecretKey::key_gen(&material, &[]).unwrap();
        let ours = SecretScalar::from_be_bytes(&mut theirs.to_bytes()).unwrap();
        prop_assert_eq!(ours.public_key(), theirs.sk_to_pk().to_bytes());
        ours.expose_be_bytes(|bytes| assert_eq!(*bytes, theirs.to_bytes()));

        let signature = ours.sign(&hash_to_g2(&root));
        prop_assert_eq!(signature, theirs.sign(&root, DST, &[]).to_bytes());
        prop_assert!(verify(&ours.public_key(), &root, &signature));
        let mut other = root;
        other[flip / 8] ^= 1 << (flip % 8);
        prop_assert!(!verify(&ours.public_key(), &other, &signature));
        prop_assert!(!verify(&known_key().public_key(), &root, &signature));
    }

    /// Damaged signatures never verify, whatever the damage.
    #[test]
    fn damaged_signatures_do_not_verify(index in 0..96_usize, change in 1..=255_u8) {
        let mut signature = known_signature();
        signature[index] ^= change;
        prop_assert!(!verify(&known_key().public_key(), &[1; 32], &signature));
    }
}
