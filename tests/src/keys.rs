//! Test keys: the public interop keys, their keystores, and plain `blst` as the second opinion.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use blst::min_pk::{PublicKey, SecretKey, Signature};
use eth2_keystore::{EncryptedMessage, KdfChoice, Keystore, Password, Secret};
use sha2::{Digest, Sha256};

/// Ciphersuite of Ethereum consensus signatures.
pub const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Order of the scalar field, big-endian.
const ORDER: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53, 0xbd, 0xa4,
    0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

/// A test key pair.
#[derive(Clone)]
pub struct TestKey {
    /// Plain `blst` secret.
    pub secret: SecretKey,
    /// `0x` public key.
    pub public: String,
}

impl TestKey {
    /// The interop key of an index: `sha256(le64 padded to 32)` read little-endian, modulo the order.
    pub fn interop(index: u64) -> Self {
        let mut input = [0u8; 32];
        input[..8].copy_from_slice(&index.to_le_bytes());
        let mut bytes: [u8; 32] = Sha256::digest(input).into();
        bytes.reverse();
        while bytes >= ORDER {
            let mut borrow = 0u16;
            for (byte, order) in bytes.iter_mut().zip(ORDER).rev() {
                let difference = 256 + u16::from(*byte) - u16::from(order) - borrow;
                borrow = u16::from(difference < 256);
                *byte = difference.to_le_bytes()[0];
            }
        }
        Self::from_secret(SecretKey::from_bytes(&bytes).expect("an interop key is a valid scalar"))
    }

    /// From a `blst` secret.
    pub fn from_secret(secret: SecretKey) -> Self {
        let public = format!("0x{}", hex::encode(secret.sk_to_pk().to_bytes()));
        Self { secret, public }
    }

    /// Plain `blst` signature over a root, `0x` hex.
    pub fn sign(&self, root: &[u8; 32]) -> String {
        format!("0x{}", hex::encode(self.secret.sign(root, DST, &[]).to_bytes()))
    }

    /// Writes an EIP-2335 keystore with a cheap key derivation (pbkdf2, c = 2) into `folder`.
    pub fn write_keystore(&self, folder: &Path, password: &str) -> std::path::PathBuf {
        let path = folder.join(format!("keystore-{}.json", &self.public[2..18]));
        std::fs::write(&path, self.keystore(password)).expect("the keystore is written");
        path
    }

    /// The text of an EIP-2335 keystore with a cheap key derivation (pbkdf2, c = 2).
    pub fn keystore(&self, password: &str) -> String {
        let secret = Secret::from_be_bytes(&self.secret.to_bytes()).expect("a valid secret");
        Keystore::encrypt(&secret, &Password::new(password), None, KdfChoice::Pbkdf2 { c: 2 }, None)
            .expect("the keystore is encrypted")
            .to_json()
    }
}

/// The text of a Prysm wallet with these keys (`all-accounts.keystore.json`), as its writer has it, with a cheap key
/// derivation.
pub fn prysm_wallet(keys: &[&TestKey], password: &str) -> String {
    let texts = |of: &dyn Fn(&TestKey) -> Vec<u8>| keys.iter().map(|key| BASE64.encode(of(key))).collect::<Vec<_>>();
    let inside = serde_json::json!({
        "private_keys": texts(&|key| key.secret.to_bytes().to_vec()),
        "public_keys": texts(&|key| key.secret.sk_to_pk().to_bytes().to_vec()),
    });
    let cost = KdfChoice::Pbkdf2 { c: 2 };
    let sealed = EncryptedMessage::encrypt(inside.to_string().as_bytes(), &Password::new(password), cost);
    let text = sealed.expect("the wallet is encrypted").to_json();
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let members = file.as_object_mut().expect("an object");
    members.remove("path");
    members.insert("name".to_owned(), "keystore".into());
    file.to_string()
}

/// Whether `signature` (`0x` hex) is `public`'s over `root`, by plain `blst`.
pub fn verifies(public: &str, root: &[u8; 32], signature: &str) -> bool {
    let (Ok(public), Ok(signature)) = (hex::decode(&public[2..]), hex::decode(signature.trim_start_matches("0x")))
    else {
        return false;
    };
    let (Ok(public), Ok(signature)) = (PublicKey::key_validate(&public), Signature::from_bytes(&signature)) else {
        return false;
    };
    signature.verify(true, root, DST, &[], &public, true) == blst::BLST_ERROR::BLST_SUCCESS
}
