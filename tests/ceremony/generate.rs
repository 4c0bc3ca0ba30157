//! `keys generate`: keys of a mnemonic and at random, their deposits, and everything that is refused.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use eth2_keystore::{AccountIndex, DerivationPath, Keystore, Mnemonic, Password, Secret};
use holdfast_tests::finished::{Finished, run};
use holdfast_tests::journal;
use holdfast_tests::world::{CHAIN, World};
use serde_json::Value;

use crate::deposit;

/// A mnemonic everybody knows.
const PHRASE: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";
const ADDRESS: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
/// Genesis version of the test network.
const VERSION: [u8; 4] = [0, 0, 0, 0x77];

pub(crate) fn private(world: &World, name: &str, content: &str) -> String {
    let path = world.path().join(name);
    std::fs::write(&path, content).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    path.display().to_string()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

fn generate(world: &World, options: &[&str]) -> Finished {
    run(&world.with(&[&["--json", "keys", "generate"], options].concat()))
}

pub(crate) fn key_at(phrase: &str, index: u32) -> String {
    let mnemonic = Mnemonic::parse(phrase).unwrap_or_else(|error| panic!("{error}"));
    let seed = mnemonic.seed("").expect("a seed");
    let path = DerivationPath::validator_signing(AccountIndex::new(index));
    Secret::derive(&seed, &path).expect("a key").public_key().to_string()
}

/// The one deposit data file in a directory: its text and its entries.
fn deposits(dir: &Path) -> (PathBuf, String, Vec<Value>) {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("deposit_data-")))
        .collect();
    found.sort();
    let path = found.pop().expect("a deposit data file");
    let text = std::fs::read_to_string(&path).expect("the file");
    let entries: Vec<Value> = serde_json::from_str(&text).expect("a list");
    (path, text, entries)
}

#[test]
fn keys_of_a_mnemonic_their_deposits_and_their_keystores() {
    let world = World::new(0);
    let words = private(&world, "words.txt", &format!("{PHRASE}\n"));
    let password = private(&world, "pw.txt", "a long password\n");
    let (to, keystores) = (world.path().display().to_string(), world.path().join("backup"));
    let keystores_to = keystores.display().to_string();
    let options = [
        "--mnemonic-file",
        &words,
        "--first-index",
        "3",
        "--count",
        "2",
        "--withdrawal-address",
        ADDRESS,
        "--amount",
        "32",
        "--deposit-to",
        &to,
        "--keystores-to",
        &keystores_to,
        "--keystore-password-file",
        &password,
        "--kdf",
        "pbkdf2",
    ];
    let made = generate(&world, &options).expect(0, &["imported", "deposit_data-"]);
    let expected = [key_at(PHRASE, 3), key_at(PHRASE, 4)];
    let (path, text, entries) = deposits(world.path());
    assert_eq!(mode(&path), 0o600);
    let found: Vec<String> = entries.iter().map(|entry| deposit::verify(&text, entry, VERSION, "testnet")).collect();
    assert_eq!(found, expected);
    for entry in &entries {
        let credentials = format!("01{}{}", "00".repeat(11), ADDRESS[2..].to_lowercase());
        assert_eq!(
            (&entry["withdrawal_credentials"], &entry["amount"]),
            (&credentials.into(), &32_000_000_000_u64.into())
        );
    }
    for (index, key) in (3..).zip(&expected) {
        let file = keystores.join(format!("keystore-{key}.json"));
        let keystore = Keystore::from_json(&std::fs::read(&file).expect("the keystore")).expect("a keystore");
        assert_eq!(keystore.path(), format!("m/12381/3600/{index}/0/0"));
        let secret = keystore.decrypt(&Password::new("a long password")).expect("it opens");
        assert_eq!((secret.public_key().to_string(), mode(&file)), (key.clone(), 0o600));
    }
    assert!(PHRASE.split(' ').all(|word| !made.text().contains(word)), "{}", made.text());

    // Signed on the usual road, written down before, and protected from the present on: the mnemonic is not new.
    let read = journal::read(&world.data_dir());
    let permitted: Vec<&String> = read.permitted.iter().map(|(key, _)| key).collect();
    assert_eq!(permitted.len(), 2);
    assert!(expected.iter().all(|key| permitted.contains(&key)));
    let kinds: Vec<&str> = read.events.iter().map(|event| event.kind().as_str()).collect();
    assert_eq!(kinds, ["keys.generated", "keys.exported", "keys.exported"]);
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(server.sign(&expected[0], &CHAIN.attestation(800, 99, 100, 1).0).status, 412);
    assert_eq!(server.sign(&expected[0], &CHAIN.randao(3).0).status, 200);
    server.stop();

    // A ceremony that was cut short is run again for its files: nothing changes for the keys.
    let again = generate(&world, &options[..12]).expect(0, &["duplicate", "deposit_data-"]);
    assert_eq!(again.lines().iter().filter(|line| line["status"] == "duplicate").count(), 2);
    let (second, text_again, _) = deposits(world.path());
    assert_ne!(second, path);
    assert_eq!(text_again, text, "BLS signatures are deterministic");
}

#[test]
fn a_new_mnemonic_goes_into_its_file_and_nowhere_else() {
    let world = World::new(0);
    let file = world.path().join("new-words.txt");
    let path = file.display().to_string();
    let to = world.path().display().to_string();
    let options = ["--mnemonic-to", &path, "--count", "2", "--bls-withdrawal", "--deposit-to", &to];
    let made = generate(&world, &options).expect(0, &[]);
    let phrase = std::fs::read_to_string(&file).expect("the mnemonic");
    assert_eq!((mode(&file), phrase.split_whitespace().count()), (0o600, 24));
    assert!(!made.text().contains(phrase.split_whitespace().collect::<Vec<_>>()[..2].join(" ").as_str()));
    let (_, text, entries) = deposits(world.path());
    let keys: Vec<String> = entries.iter().map(|entry| deposit::verify(&text, entry, VERSION, "testnet")).collect();
    assert_eq!(keys, [key_at(&phrase, 0), key_at(&phrase, 1)]);
    let mnemonic = Mnemonic::parse(&phrase).unwrap_or_else(|error| panic!("{error}"));
    let withdrawal = DerivationPath::validator_withdrawal(AccountIndex::new(1));
    let withdrawal = Secret::derive(&mnemonic.seed("").expect("a seed"), &withdrawal).expect("a key").public_key();
    let hash = <sha2::Sha256 as sha2::Digest>::digest(withdrawal.to_bytes());
    assert_eq!(entries[1]["withdrawal_credentials"], format!("00{}", &hex::encode(hash)[2..]));
    for entry in std::fs::read_dir(world.data_dir()).expect("the data directory") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
        let words = phrase.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        assert!(!bytes.windows(words.len()).any(|part| part == words.as_bytes()), "in {}", path.display());
    }
    // New keys have never signed, so they sign at once.
    let server = world.server().start();
    server.wait_ready();
    assert_eq!(server.sign(&keys[0], &CHAIN.attestation(800, 99, 100, 1).0).status, 200);
    assert_eq!(server.sign(&keys[0], &CHAIN.attestation(800, 99, 100, 2).0).status, 412);
    server.stop();
    generate(&world, &options).expect(2, &["exists", "new file"]);
    assert_eq!(std::fs::read_to_string(&file).expect("the mnemonic"), phrase);
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_made() {
    let world = World::new(0);
    let words = private(&world, "words.txt", PHRASE);
    let typo = private(&world, "typo.txt", &PHRASE.replace("sausage", "sausages"));
    let sum = private(&world, "sum.txt", &PHRASE.replace("yellow", "year"));
    let open = private(&world, "open.txt", PHRASE);
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let wrong = ADDRESS.replace("6053", "6054");
    let small = ADDRESS.to_lowercase();
    for (options, phrases) in [
        (vec!["--mnemonic-file", &typo], vec!["position: 6"]),
        (vec!["--mnemonic-file", &sum], vec!["checksum", "word"]),
        (vec!["--mnemonic-file", &open], vec!["chmod 600"]),
        (vec!["--mnemonic-file", "none.txt"], vec!["none.txt"]),
        (vec!["--mnemonic-file", &words, "--random"], vec!["--random"]),
        (vec!["--mnemonic-file", &words, "--withdrawal-address", &wrong], vec!["EIP-55", "wrong"]),
        (vec!["--mnemonic-file", &words, "--withdrawal-address", &small], vec!["EIP-55", ADDRESS]),
        (vec!["--mnemonic-file", &words, "--withdrawal-address", ADDRESS, "--amount", "33"], vec!["32 ether"]),
        (vec!["--mnemonic-file", &words, "--withdrawal-address", ADDRESS, "--amount", "0.5"], vec!["1 ether"]),
        (vec!["--mnemonic-file", &words, "--withdrawal-address", ADDRESS, "--deposit-to", "no/dir"], vec!["no/dir"]),
        (vec!["--mnemonic-file", &words, "--compounding"], vec!["--withdrawal-address"]),
        (vec!["--mnemonic-file", &words, "--amount", "32"], vec!["--withdrawal-address"]),
        (vec!["--mnemonic-file", &words, "--first-index", "4294967295", "--count", "2"], vec!["--first-index"]),
        (vec!["--random", "--bls-withdrawal"], vec!["--random"]),
        (vec!["--withdrawal-address", ADDRESS], vec!["--mnemonic-to", "--random"]),
        (vec!["--mnemonic"], vec!["--mnemonic-file"]),
        (vec!["--first-index", "4"], vec!["--mnemonic-file"]),
    ] {
        let refused = generate(&world, &options).expect(2, &phrases);
        assert!(!refused.text().contains("winner"), "a word of the mnemonic is repeated: {}", refused.text());
    }
    if world.data_dir().exists() {
        let list = run(&world.with(&["--json", "keys", "list"])).expect(0, &[]);
        assert_eq!(list.lines()[0]["keys"], serde_json::json!([]));
    }
}

#[test]
fn keys_the_database_has_seen_are_not_new() {
    let world = World::new(0);
    let words = private(&world, "words.txt", PHRASE);
    let (seen, deleted) = (key_at(PHRASE, 0), key_at(PHRASE, 1));
    generate(&world, &["--mnemonic-file", &words, "--first-index", "1"]).expect(0, &["imported"]);
    run(&world.with(&["keys", "delete", "--yes", &deleted])).expect(0, &[]);
    let history = serde_json::json!({
        "metadata": {"interchange_format_version": "5",
                     "genesis_validators_root": format!("0x{}", hex::encode(CHAIN.genesis_validators_root))},
        "data": [{"pubkey": seen, "signed_blocks": [{"slot": "40"}],
                  "signed_attestations": [{"source_epoch": "6", "target_epoch": "7"}]}],
    });
    let path = private(&world, "history.json", &history.to_string());
    run(&world.with(&["slashing", "import", "--from", &path])).expect(0, &[]);
    let options = ["--mnemonic-file", &words, "--count", "3", "--watermark", "never-signed"];
    let refused = generate(&world, &options).expect(1, &["--watermark now", "--replace-tombstone"]);
    let statuses: Vec<Value> = refused.lines().iter().map(|line| line["status"].clone()).collect();
    assert_eq!(statuses, ["error", "tombstoned", "imported"], "{}", refused.text());
    // From the present on it may come: the history stays.
    generate(&world, &["--mnemonic-file", &words]).expect(0, &["imported"]);
}

#[test]
fn deposits_name_their_network() {
    for (network, version) in [
        ("mainnet", [0, 0, 0, 0]),
        ("sepolia", [0x90, 0, 0, 0x69]),
        ("holesky", [0x01, 0x01, 0x70, 0x00]),
        ("hoodi", [0x10, 0x00, 0x09, 0x10]),
        ("gnosis", [0, 0, 0, 0x64]),
        ("chiado", [0, 0, 0, 0x6f]),
    ] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (data, to) = (dir.path().join("data").display().to_string(), dir.path().display().to_string());
        run(&[
            "--data-dir",
            &data,
            "--network",
            network,
            "keys",
            "generate",
            "--random",
            "--withdrawal-address",
            ADDRESS,
            "--compounding",
            "--amount",
            "33.5",
            "--deposit-to",
            &to,
        ])
        .expect(0, &["deposit data of 1 validators", network]);
        let (_, text, entries) = deposits(dir.path());
        deposit::verify(&text, &entries[0], version, network);
        assert_eq!(entries[0]["amount"], 33_500_000_000_u64);
        assert!(entries[0]["withdrawal_credentials"].as_str().is_some_and(|text| text.starts_with("0200")));
    }
}
