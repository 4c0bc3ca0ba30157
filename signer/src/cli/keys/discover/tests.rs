//! Proved here: each layout is found with its passwords, companions are left alone, and what cannot
//! be imported is named with a reason.

use std::io::Write as _;

use super::*;

const KEY_A: &str = "aa";
const KEY_B: &str = "bb";

fn key(digits: &str) -> String {
    format!("0x{}", digits.repeat(48))
}

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> PathBuf {
        std::fs::canonicalize(self.0.path()).unwrap()
    }

    fn put(&self, path: &str, content: &str) -> &Self {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path).unwrap().write_all(content.as_bytes()).unwrap();
        self
    }

    fn keystore(&self, path: &str, digits: &str) -> &Self {
        self.put(path, &format!(r#"{{"crypto":{{}},"pubkey":"{}","version":4}}"#, digits.repeat(48)))
    }

    fn find(&self, from: &str) -> Found {
        self.find_with(from, None)
    }

    fn find_with(&self, from: &str, passwords: Option<&str>) -> Found {
        let dir = passwords.map(|dir| self.root().join(dir));
        let found = discover(&[self.root().join(from)], dir.as_deref());
        let relative = |path: &Path| path.strip_prefix(self.root()).unwrap_or(path).display().to_string();
        Found {
            keystores: found
                .candidates
                .iter()
                .map(|candidate| {
                    let password = match &candidate.password {
                        PasswordAt::File(path) => relative(path),
                        PasswordAt::Inline(text) => format!("inline {}", text.expose()),
                        PasswordAt::Elsewhere => "elsewhere".to_owned(),
                        PasswordAt::Made(_) => "made".to_owned(),
                    };
                    (relative(&candidate.path), password)
                })
                .collect(),
            skipped: found.skipped.iter().map(|skipped| (relative(&skipped.path), skipped.reason.clone())).collect(),
            claimed: found.candidates.iter().filter(|candidate| candidate.claimed.is_some()).count(),
        }
    }
}

struct Found {
    keystores: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
    claimed: usize,
}

#[track_caller]
fn assert_found(found: &Found, expected: &[(&str, &str)]) {
    let found_pairs: Vec<_> = found.keystores.iter().map(|(path, at)| (path.as_str(), at.as_str())).collect();
    assert_eq!(found_pairs, expected);
    assert_eq!(found.claimed, expected.len());
    assert_eq!(found.skipped, []);
}

#[test]
fn deposit_cli() {
    let tree = Tree::new();
    tree.keystore("keystore-m_12381_3600_0_0_0-1700000000.json", KEY_A)
        .keystore("keystore-m_12381_3600_1_0_0-1700000000.json", KEY_B)
        .put("keystore-m_12381_3600_1_0_0-1700000000.txt", "pw")
        .put("deposit_data-1700000000.json", "[]")
        .put("slashing_protection.json", "{}");
    let expected = [
        ("keystore-m_12381_3600_0_0_0-1700000000.json", "elsewhere"),
        ("keystore-m_12381_3600_1_0_0-1700000000.json", "keystore-m_12381_3600_1_0_0-1700000000.txt"),
    ];
    assert_found(&tree.find(""), &expected);
}

#[test]
fn lighthouse_from_its_data_directory_or_its_validators_directory() {
    let tree = Tree::new();
    let (a, b) = (key(KEY_A), key(KEY_B));
    tree.keystore(&format!("lh/validators/{a}/voting-keystore.json"), KEY_A)
        .put(&format!("lh/secrets/{a}"), "pw")
        .keystore(&format!("lh/validators/{b}/voting-keystore.json"), KEY_B)
        .put(&format!("lh/validators/{b}/voting-keystore.json.lock"), "")
        .put(
            "lh/validators/validator_definitions.yml",
            &format!(
                "---\n- enabled: true\n  voting_public_key: \"{b}\"\n  type: local_keystore\n  voting_keystore_path: {}/lh/validators/{b}/voting-keystore.json\n  voting_keystore_password: \"inside\"\n",
                tree.root().display()
            ),
        );
    let (path_a, path_b) =
        (format!("lh/validators/{a}/voting-keystore.json"), format!("lh/validators/{b}/voting-keystore.json"));
    let secret = format!("lh/secrets/{a}");
    let expected = [(path_a.as_str(), secret.as_str()), (path_b.as_str(), "inline inside")];
    assert_found(&tree.find("lh"), &expected);
    assert_found(&tree.find("lh/validators"), &expected);
}

#[test]
fn lodestar_and_nimbus() {
    let tree = Tree::new();
    let a = key(KEY_A);
    tree.keystore(&format!("lodestar/keystores/{a}/voting-keystore.json"), KEY_A)
        .put(&format!("lodestar/keystores/{a}/voting-keystore.json.lock"), "")
        .put(&format!("lodestar/secrets/{a}"), "pw")
        .keystore(&format!("nimbus/validators/{a}/keystore.json"), KEY_A)
        .put(&format!("nimbus/secrets/{a}"), "pw");
    assert_found(
        &tree.find("lodestar"),
        &[(&format!("lodestar/keystores/{a}/voting-keystore.json"), &format!("lodestar/secrets/{a}"))],
    );
    assert_found(
        &tree.find("nimbus/validators"),
        &[(&format!("nimbus/validators/{a}/keystore.json"), &format!("nimbus/secrets/{a}"))],
    );
}

#[test]
fn teku() {
    let tree = Tree::new();
    tree.keystore("teku/keys/one.two.json", KEY_A).put("teku/passwords/one.two.txt", "pw");
    assert_found(&tree.find("teku"), &[("teku/keys/one.two.json", "teku/passwords/one.two.txt")]);
    assert_found(&tree.find("teku/keys"), &[("teku/keys/one.two.json", "teku/passwords/one.two.txt")]);
}

#[test]
fn web3signer_key_files_and_its_own_import() {
    let tree = Tree::new();
    let a = key(KEY_A);
    tree.keystore("w3s/ks/one.json", KEY_B)
        .put("w3s/pw/one-secret", "pw")
        .put(
            "w3s/one.yaml",
            "type: \"file-keystore\"\nkeyType: \"BLS\"\nkeystoreFile: \"ks/one.json\"\nkeystorePasswordFile: \"pw/one-secret\"\n",
        )
        .keystore(&format!("w3s/{a}.json"), KEY_A)
        .put(&format!("w3s/{a}.password"), "pw");
    assert_found(
        &tree.find("w3s"),
        &[(&format!("w3s/{a}.json"), &format!("w3s/{a}.password")), ("w3s/ks/one.json", "w3s/pw/one-secret")],
    );
    tree.put("bad/raw.yaml", &format!("type: file-raw\nprivateKey: '0x{}'\n", "25".repeat(32)))
        .put("bad/vault.yaml", "type: hashicorp\nserverHost: v\nkeyPath: /v1/secret/data/k\ntoken: hunter2\n")
        .put("bad/gone.yaml", "type: file-keystore\nkeystoreFile: gone.json\nkeystorePasswordFile: p\n")
        .put("bad/half.yml", "type: file-keystore\nkeystoreFile: gone.json\n")
        .put("bad/other.yaml", "a: {b: c}\n");
    let found = tree.put("bad/zero.yaml", &format!("type: file-raw\nprivateKey: '{}'\n", "ff".repeat(32))).find("bad");
    assert_eq!(found.keystores, [("bad/raw.yaml".to_owned(), "made".to_owned())]);
    let reasons: Vec<_> = found.skipped.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(reasons, ["bad/gone.json", "bad/half.yml", "bad/vault.yaml", "bad/zero.yaml"]);
    assert!(found.skipped[3].1.contains("no usable private key") && !found.skipped[3].1.contains("ffff"));
    let vault = &found.skipped[2].1;
    assert!(vault.contains("vault kv get -field=value secret/k") && !vault.contains("hunter2"), "{vault}");
}

#[test]
fn a_secret_holds_one_key_or_one_a_line_and_what_is_none_is_named_without_it() {
    let mut found = Discovery::default();
    let (one, two) = ("25".repeat(32), "26".repeat(32));
    let path = Path::new("a secret");
    found.take(path, &SecretText::new(format!("0x{one}\r\n\n{two}\nhunter2\n")), Lines::Each);
    found.take(path, &SecretText::new(format!("{one}\n")), Lines::One);
    found.take(path, &SecretText::new(format!("{one}\n{two}")), Lines::One);
    found.take(path, &SecretText::new(" \n"), Lines::Each);
    assert_eq!(found.candidates.len(), 3);
    assert_eq!(found.candidates[0].claimed, found.candidates[2].claimed);
    let reasons: Vec<&str> = found.skipped.iter().map(|one| one.reason.as_str()).collect();
    assert!(
        reasons[0].contains("line 4") && reasons[1].contains("line 1") && reasons[2].contains("empty"),
        "{reasons:?}"
    );
    assert!(!reasons.iter().any(|reason| reason.contains("hunter2") || reason.contains("2626")), "{reasons:?}");
}

#[test]
fn what_web3signer_would_load_and_nothing_below_it() {
    let tree = Tree::new();
    tree.put(
        "keys/raw.yaml",
        &format!(
            "type: file-raw\nprivateKey: '0x{}'\n---\ntype: file-raw\nprivateKey: '{}'\n",
            "25".repeat(32),
            "26".repeat(32)
        ),
    )
    .put("keys/old/raw.yaml", &format!("type: file-raw\nprivateKey: '0x{}'\n", "27".repeat(32)))
    .keystore("keys/not-a-bulk.json", KEY_A)
    .keystore("bulk/one.two.json", KEY_A)
    .put("pw/one.two.txt", "pw")
    .keystore("bulk/three.json", KEY_B)
    .keystore("bulk/below/four.json", KEY_B);
    let (keys, bulk) = (tree.root().join("keys"), tree.root().join("bulk"));
    let passwords = BulkPasswords::Directory(tree.root().join("pw"));
    let found = web3signer(Some(&keys), Some((&bulk, &passwords))).unwrap();
    let names = |path: &Path| path.strip_prefix(tree.root()).unwrap().display().to_string();
    let candidates: Vec<_> = found.candidates.iter().map(|one| names(&one.path)).collect();
    assert_eq!(candidates, ["bulk/one.two.json", "keys/raw.yaml", "keys/raw.yaml"]);
    assert!(found.candidates[1].claimed.is_some() && found.candidates[1].claimed != found.candidates[2].claimed);
    // Long enough that no ciphertext has it by chance.
    let secret = "25".repeat(8);
    assert!(found.candidates.iter().filter_map(|one| one.made.as_ref()).all(|json| !json.contains(&secret)));
    assert_eq!(found.skipped.len(), 1);
    assert!(found.skipped[0].reason.contains("three.txt is not there"), "{}", found.skipped[0].reason);
    let one = BulkPasswords::File(tree.root().join("pw/one.two.txt"));
    assert_eq!(web3signer(None, Some((&bulk, &one))).unwrap().candidates.len(), 2);
    assert!(web3signer(Some(&tree.root().join("gone")), None).is_err());
}

#[test]
fn prysm_wallets_are_found_with_their_passwords_and_seeds_are_refused_with_the_way_out() {
    let tree = Tree::new();
    let (own, pool) =
        ("own/direct/accounts/all-accounts.keystore.json", "pool/direct/accounts/all-accounts.keystore.json");
    tree.put(own, r#"{"crypto":{}}"#)
        .put(pool, r#"{"crypto":{}}"#)
        .put("pool/direct/accounts/secret", "pw")
        .put("own/derived/seed.encrypted.json", r#"{"crypto":{}}"#);
    let found = discover(&[tree.root(), tree.root().join(own)], None);
    let wallets: Vec<_> = found
        .wallets
        .iter()
        .map(|wallet| {
            (wallet.path.clone(), matches!(&wallet.password, PasswordAt::File(path) if path.ends_with("secret")))
        })
        .collect();
    assert_eq!(wallets, [(tree.root().join(own), false), (tree.root().join(pool), true)]);
    assert!(found.candidates.is_empty());
    assert!(found.skipped.len() == 1 && found.skipped[0].reason.contains("accounts backup"), "{:?}", found.skipped);
}

#[test]
fn a_passwords_directory_is_matched_by_stem_or_key() {
    let tree = Tree::new();
    tree.keystore("in/one.json", KEY_A)
        .keystore("in/two.json", KEY_B)
        .put("in/two.txt", "not this one")
        .put("pw/one.txt", "pw")
        .put(&format!("pw/{}", key(KEY_B)), "pw");
    assert_found(
        &tree.find_with("in", Some("pw")),
        &[("in/one.json", "pw/one.txt"), ("in/two.json", &format!("pw/{}", key(KEY_B)))],
    );
}

#[test]
fn damage_is_named_and_other_files_are_not() {
    let tree = Tree::new();
    tree.put("d/keystore-1.json", "{\"crypto\":")
        .put("d/deposit_data-1.json", "[]")
        .put("d/readme.txt", "hello")
        .put("d/x.json", "{\"version\": 3}");
    let found = tree.find("d");
    assert_eq!(found.keystores, []);
    let skipped: Vec<_> = found.skipped.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(skipped, ["d/keystore-1.json", "d/x.json"]);
    assert!(found.skipped[0].1.contains("line 1"));
    // What a shell's pattern names beside keystores is left alone; another file that was named is not.
    tree.put("d/x.txt", "password");
    assert_eq!(tree.find("d/deposit_data-1.json").skipped, []);
    assert_eq!(tree.find("d/x.txt").skipped, []);
    assert_eq!(tree.find("d/readme.txt").skipped.len(), 1);
    assert_eq!(tree.find("d/missing").skipped.len(), 1);
}

#[test]
fn one_file_given_twice_is_one_candidate() {
    let tree = Tree::new();
    tree.keystore("a.json", KEY_A);
    let file = tree.root().join("a.json");
    assert_eq!(discover(&[file.clone(), tree.root(), file], None).candidates.len(), 1);
}
