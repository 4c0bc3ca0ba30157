//! A second opinion on deposit data: roots by SHA-256 alone and signatures by plain `blst`, from the consensus
//! specification (`DepositMessage`, `DepositData`, `compute_domain`), sharing no code with the product.

use holdfast_tests::keys::verifies;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The members of an entry, in the order of the deposit tool.
const MEMBERS: [&str; 9] = [
    "pubkey",
    "withdrawal_credentials",
    "amount",
    "signature",
    "deposit_message_root",
    "deposit_data_root",
    "fork_version",
    "network_name",
    "deposit_cli_version",
];

fn hash(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

/// The root of fixed bytes: chunks of 32, filled up with zeros to a power of two.
fn bytes_root(bytes: &[u8]) -> [u8; 32] {
    let mut chunks: Vec<[u8; 32]> = bytes
        .chunks(32)
        .map(|part| {
            let mut chunk = [0; 32];
            chunk[..part.len()].copy_from_slice(part);
            chunk
        })
        .collect();
    chunks.resize(chunks.len().next_power_of_two(), [0; 32]);
    while chunks.len() > 1 {
        chunks = chunks.chunks(2).map(|pair| hash(pair[0], pair[1])).collect();
    }
    chunks[0]
}

/// The root of a container with these roots of members.
fn container(members: &[[u8; 32]]) -> [u8; 32] {
    bytes_root(&members.concat())
}

/// Checks one entry of a file, whose text must have the members in order. Returns its public key with `0x`.
pub(crate) fn verify(text: &str, entry: &Value, fork_version: [u8; 4], network: &str) -> String {
    let member = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("no {name} in {entry}"));
    let bytes = |name: &str| hex::decode(member(name)).unwrap_or_else(|_| panic!("{name} is bare hex in {entry}"));
    let places: Vec<usize> = MEMBERS.iter().map(|name| text.find(&format!("\"{name}\":")).expect(name)).collect();
    assert!(places.is_sorted(), "another order than the deposit tool's: {text}");
    assert_eq!(entry.as_object().expect("an object").len(), MEMBERS.len(), "{entry}");
    let amount = entry["amount"].as_u64().expect("a number");
    let mut amount_root = [0; 32];
    amount_root[..8].copy_from_slice(&amount.to_le_bytes());
    let credentials: [u8; 32] = bytes("withdrawal_credentials").try_into().expect("32 bytes");
    let head = [bytes_root(&bytes("pubkey")), credentials, amount_root];
    let message_root = container(&head);
    assert_eq!(bytes("deposit_message_root"), message_root);
    assert_eq!(bytes("deposit_data_root"), container(&[&head[..], &[bytes_root(&bytes("signature"))]].concat()));
    assert_eq!((bytes("fork_version"), member("network_name")), (fork_version.to_vec(), network));
    assert!(!member("deposit_cli_version").is_empty());
    // DOMAIN_DEPOSIT with the genesis version and a zero root.
    let mut version = [0; 32];
    version[..4].copy_from_slice(&fork_version);
    let mut domain = [0; 32];
    domain[0] = 3;
    domain[4..].copy_from_slice(&hash(version, [0; 32])[..28]);
    let public = format!("0x{}", member("pubkey"));
    assert!(verifies(&public, &hash(message_root, domain), member("signature")), "the signature is wrong: {entry}");
    public
}
