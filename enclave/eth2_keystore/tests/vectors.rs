//! Known answers: the project's own vectors, computed independently by `tests/vectors/make.py`, and the official
//! and shared ones, read from the folder named by `HOLDFAST_VECTORS` or from the default one if it exists.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers: a failure here fails the test")]

use std::fs;
use std::path::Path;

use eth2_keystore::{
    DerivationPath, KdfCost, Keystore, KeystoreError, Password, PrysmWallet, PublicKey, Secret, SecretFlaw, Seed,
};
use serde_json::Value;

/// One of the project's own files.
fn own(name: &str) -> Value {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name))
}

/// One of the shared files, or `None` if there are none and none were asked for.
fn shared(name: &str) -> Option<Value> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let default = workspace.join("../shared/vectors");
    let root = match std::env::var_os("HOLDFAST_VECTORS") {
        Some(root) => workspace.join(root),
        None if default.is_dir() => default,
        None => return None,
    };
    Some(read(&root.join("keystores").join(name)))
}

fn read(file: &Path) -> Value {
    let text = fs::read(file).unwrap_or_else(|error| panic!("HOLDFAST_VECTORS: {}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap()
}

fn text<'a>(case: &'a Value, member: &str) -> &'a str {
    case[member].as_str().unwrap_or_else(|| panic!("no {member} in {case}"))
}

fn bytes(case: &Value, member: &str) -> Vec<u8> {
    hex::decode(text(case, member).trim_start_matches("0x")).unwrap()
}

fn open(case: &Value, password: &str) -> Result<Secret, KeystoreError> {
    Keystore::from_json(case["keystore"].to_string().as_bytes())?.decrypt(&Password::new(password))
}

fn assert_opens(case: &Value, password: &str) {
    let name = text(case, "name");
    let secret = open(case, password).unwrap_or_else(|error| panic!("{name}: {error}"));
    secret.expose(|exposed| assert_eq!(exposed.as_slice(), bytes(case, "secret"), "{name}"));
    if let Some(expected) = case["public_key"].as_str() {
        assert_eq!(secret.public_key(), expected.parse::<PublicKey>().unwrap(), "{name}");
    }
}

/// The word of make.py for an error.
fn kind(error: &KeystoreError) -> String {
    match error {
        KeystoreError::WrongPassword => "wrong password".to_owned(),
        KeystoreError::PubkeyMismatch { .. } => "public key mismatch".to_owned(),
        KeystoreError::BadSecret(_) => "bad secret".to_owned(),
        KeystoreError::UnsupportedVersion { .. } => "unsupported version".to_owned(),
        KeystoreError::UnsupportedKdf { .. } => "unsupported kdf".to_owned(),
        KeystoreError::UnsupportedPrf { .. } => "unsupported prf".to_owned(),
        KeystoreError::UnsupportedChecksum { .. } => "unsupported checksum".to_owned(),
        KeystoreError::UnsupportedCipher { .. } => "unsupported cipher".to_owned(),
        KeystoreError::KdfTooExpensive { .. } => "too expensive".to_owned(),
        KeystoreError::Malformed { field, .. } => format!("malformed {field}"),
        other => format!("unexpected: {other}"),
    }
}

#[test]
fn own_wallets_open_to_the_keys_in_them() {
    let cases = own("wallets.json");
    for case in cases.as_array().unwrap() {
        let (name, file) = (text(case, "name"), case["wallet"].to_string());
        let wallet = PrysmWallet::from_json(file.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let keys =
            wallet.decrypt(&Password::new(text(case, "password"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        let secrets = case["secrets"].as_array().unwrap();
        assert_eq!(keys.len(), secrets.len(), "{name}");
        for (key, secret) in keys.into_iter().zip(secrets) {
            let key = key.unwrap_or_else(|error| panic!("{name}: {error}"));
            key.expose(|exposed| assert_eq!(hex::encode(exposed), secret.as_str().unwrap(), "{name}"));
        }
        let wrong = wallet.decrypt(&Password::new("another"));
        assert!(matches!(wrong.map(|_| ()), Err(KeystoreError::WrongPassword)), "{name}");
        // A wallet is no keystore: it names no path.
        assert!(Keystore::from_json(file.as_bytes()).is_err(), "{name}");
    }
    assert_eq!(cases.as_array().unwrap().len(), 4);
}

#[test]
fn own_keystores_are_judged_as_computed() {
    let cases = own("keystores.json");
    let mut decrypted = 0;
    for case in cases.as_array().unwrap() {
        let (name, password, expect) = (text(case, "name"), text(case, "password"), text(case, "expect"));
        if expect == "decrypts" {
            assert_opens(case, password);
            decrypted += 1;
        } else {
            assert_eq!(open(case, password).err().as_ref().map(kind).as_deref(), Some(expect), "{name}");
        }
    }
    assert_eq!((decrypted, cases.as_array().unwrap().len()), (15, 54));
}

#[test]
fn own_keystores_survive_rewriting() {
    for case in own("keystores.json").as_array().unwrap() {
        let Ok(first) = Keystore::from_json(case["keystore"].to_string().as_bytes()) else { continue };
        let second = Keystore::from_json(first.to_json().as_bytes()).unwrap();
        assert_eq!(first.pubkey(), second.pubkey());
        assert_eq!((first.path(), first.uuid(), first.kdf()), (second.path(), second.uuid(), second.kdf()));
        assert_eq!(first.description(), second.description());
        if text(case, "expect") == "decrypts" {
            let secret = second.decrypt(&Password::new(text(case, "password"))).unwrap_or_else(|e| panic!("{e}"));
            secret.expose(|exposed| assert_eq!(exposed.as_slice(), bytes(case, "secret")));
        }
    }
}

/// Checks one derivation; the mnemonic is optional.
fn assert_derives(case: &Value, secret: &str, public_key: &str) {
    let expected_seed = bytes(case, "seed");
    let seed = match case["mnemonic"].as_str() {
        Some(words) => Seed::from_mnemonic(words, text(case, "passphrase")),
        None => Seed::from_bytes(&expected_seed),
    };
    let seed = seed.unwrap_or_else(|error| panic!("{error}"));
    let path: DerivationPath = text(case, "path").parse().unwrap();
    let derived = Secret::derive(&seed, &path).unwrap_or_else(|error| panic!("{error}"));
    derived.expose(|exposed| assert_eq!(exposed.as_slice(), bytes(case, secret), "{case}"));
    assert_eq!(derived.public_key(), text(case, public_key).parse().unwrap(), "{case}");
    // The seed of a mnemonic is seen through the keys: deriving from the stated bytes gives the same one.
    let stated = Seed::from_bytes(&expected_seed).unwrap_or_else(|error| panic!("{error}"));
    let again = Secret::derive(&stated, &path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.public_key(), derived.public_key());
}

#[test]
fn own_derivations_are_reproduced() {
    let cases = own("derivations.json");
    assert_eq!(cases.as_array().unwrap().len(), 18);
    for case in cases.as_array().unwrap() {
        assert_derives(case, "secret", "public_key");
    }
}

#[test]
fn official_keystores_decrypt() {
    let Some(cases) = shared("erc-2335-official.json") else { return };
    assert_eq!(cases.as_array().unwrap().len(), 2);
    for case in cases.as_array().unwrap() {
        assert_opens(case, text(case, "password"));
        let normalised = String::from_utf8(bytes(case, "password_normalized_hex")).unwrap();
        assert_opens(case, &normalised);
        let error = open(case, "testpassword").err().unwrap();
        assert!(matches!(error, KeystoreError::WrongPassword));
    }
}

#[test]
fn shared_keystores_are_judged_as_stated() {
    let Some(cases) = shared("generated.json") else { return };
    let (mut good, mut bad) = (0, 0);
    for case in cases.as_array().unwrap() {
        let (name, password) = (text(case, "name"), text(case, "password"));
        if case["valid"].as_bool().unwrap() {
            assert_opens(case, password);
            for equivalent in case["equivalent_passwords"].as_array().unwrap() {
                assert_opens(case, equivalent.as_str().unwrap());
            }
            good += 1;
        } else {
            let error = open(case, password).err().unwrap_or_else(|| panic!("{name} was accepted"));
            assert_eq!(kind(&error), expected_kind(name), "{name}");
            bad += 1;
        }
    }
    assert_eq!((good, bad), (14, 17));
}

/// How each of the shared cases to refuse is refused.
fn expected_kind(name: &str) -> &'static str {
    match name {
        "wrong-password" | "bad-checksum" | "tampered-ciphertext" => "wrong password",
        "version-3" => "unsupported version",
        "unknown-kdf" => "unsupported kdf",
        "unknown-prf" => "unsupported prf",
        "unknown-cipher" => "unsupported cipher",
        "unknown-checksum" => "unsupported checksum",
        "short-iv" => "malformed crypto.cipher.params.iv",
        "dklen-16" => "malformed crypto.kdf.params.dklen",
        "missing-cipher" => "malformed crypto.cipher",
        "non-hex-ciphertext" => "malformed crypto.cipher.message",
        "pubkey-mismatch" => "public key mismatch",
        "secret-31-bytes" | "secret-zero" | "secret-order" => "bad secret",
        "hostile-scrypt-cost" => "too expensive",
        other => panic!("new case {other}: say how it is to be refused"),
    }
}

#[test]
fn hostile_cost_is_refused_when_reading() {
    // Whatever the source: reading alone refuses, so nothing can be run.
    let own = own("keystores.json");
    let mut files: Vec<Value> = own.as_array().unwrap().clone();
    // The project's own hostile files are two; the shared ones bring at least one more.
    let mut wanted = 2;
    if let Some(shared) = shared("generated.json") {
        files.extend(shared.as_array().unwrap().iter().cloned());
        wanted = 3;
    }
    let mut memory = 0;
    for case in files {
        match Keystore::from_json(case["keystore"].to_string().as_bytes()) {
            Err(KeystoreError::KdfTooExpensive { cost: KdfCost::ScryptMemoryBytes, asked, limit }) => {
                assert!(asked > limit && limit == 1 << 30, "{case}");
                memory += 1;
            }
            Err(KeystoreError::BadSecret(SecretFlaw::OutOfRange)) => panic!("decided without decrypting: {case}"),
            Ok(keystore) => assert!(keystore.kdf_memory_bytes() <= 1 << 31, "{case}"),
            Err(_) => {}
        }
    }
    assert!(memory >= wanted, "{memory} of {wanted} hostile files were refused for their memory");
}

/// The test cases of EIP-2333 (its section "Test Cases"): seed, master key, index, child key. The EIP writes the keys
/// in decimal; here they are hexadecimal.
const EIP_2333: [(&str, &str, u32, &str); 4] = [
    (
        "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
        "0d7359d57963ab8fbbde1852dcf553fedbc31f464d80ee7d40ae683122b45070",
        0,
        "2d18bd6c14e6d15bf8b5085c9b74f3daae3b03cc2014770a599d8c1539e50f8e",
    ),
    (
        "3141592653589793238462643383279502884197169399375105820974944592",
        "41c9e07822b092a93fd6797396338c3ada4170cc81829fdfce6b5d34bd5e7ec7",
        3_141_592_653,
        "384843fad5f3d777ea39de3e47a8f999ae91f89e42bffa993d91d9782d152a0f",
    ),
    (
        "0099ff991111002299dd7744ee3355bbdd8844115566cc55663355668888cc00",
        "3cfa341ab3910a7d00d933d8f7c4fe87c91798a0397421d6b19fd5b815132e80",
        4_294_967_295,
        "40e86285582f35b28821340f6a53b448588efa575bc4d88c32ef8567b8d9479b",
    ),
    (
        "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
        "2a0e28ffa5fbbe2f8e7aad4ed94f745d6bf755c51182e119bb1694fe61d3afca",
        42,
        "455c0dc9fccb3395825d92a60d2672d69416be1c2578a87a7a3d3ced11ebb88d",
    ),
];

#[test]
fn the_cases_of_eip_2333_are_reproduced() {
    for (seed, master, index, child) in EIP_2333 {
        let seed = Seed::from_bytes(&hex::decode(seed).unwrap()).unwrap_or_else(|error| panic!("{error}"));
        let derived = Secret::derive(&seed, &"m".parse().unwrap()).unwrap_or_else(|error| panic!("{error}"));
        derived.expose(|exposed| assert_eq!(hex::encode(exposed), master));
        derived.child(index).expose(|exposed| assert_eq!(hex::encode(exposed), child));
        let path = format!("m/{index}").parse().unwrap();
        let derived = Secret::derive(&seed, &path).unwrap_or_else(|error| panic!("{error}"));
        derived.expose(|exposed| assert_eq!(hex::encode(exposed), child));
    }
}

#[test]
fn official_tree_is_reproduced() {
    let Some(file) = shared("erc-2333-official.json") else { return };
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let seed = Seed::from_bytes(&bytes(case, "seed")).unwrap_or_else(|error| panic!("{error}"));
        let master = Secret::derive(&seed, &"m".parse().unwrap()).unwrap_or_else(|error| panic!("{error}"));
        master.expose(|exposed| assert_eq!(exposed.as_slice(), bytes(case, "master_sk_hex")));
        let child = master.child(text(case, "child_index").parse().unwrap());
        child.expose(|exposed| assert_eq!(exposed.as_slice(), bytes(case, "child_sk_hex")));
    }
}

#[test]
fn shared_paths_are_reproduced() {
    let Some(cases) = shared("erc-2334-paths.json") else { return };
    assert_eq!(cases.as_array().unwrap().len(), 12);
    for case in cases.as_array().unwrap() {
        assert_derives(case, "sk", "pk");
    }
}
