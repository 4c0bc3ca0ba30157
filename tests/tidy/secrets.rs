//! Secrets that are texts have one type, which shows nothing (`holdfast_secret`): a configuration that is printed, an
//! error with `{:?}` in it and a status that is serialised are then safe by themselves.

use std::path::Path;
use std::process::Command;

/// Words in the name of a setting that make it a secret, or the way to one.
const SECRET: [&str; 12] = [
    "password",
    "passphrase",
    "token",
    "secret",
    "credential",
    "mnemonic",
    "pin",
    "headers",
    "url",
    "api_key",
    "hmac",
    "key",
];
/// Types that show nothing of a secret.
const SAFE: [&str; 5] = ["SecretText", "SecretUrl", "SecretLink", "BeaconUrl", "DatabaseUrl"];
/// Settings that are named like a secret and are none: file, field, why.
const HARMLESS: [(&str, &str, &str); 11] = [
    ("tls.rs", "key", "the path of the file that holds it"),
    ("admin.rs", "key", "the path of a file"),
    ("ask.rs", "key", "the path of a file"),
    ("providers.rs", "token", "the label of a PKCS#11 token"),
    ("providers.rs", "key", "the name of a key that is elsewhere"),
    ("enclave.rs", "key", "the name of a key of KMS"),
    ("witness.rs", "key", "a public key"),
    ("layers.rs", "key", "the name of a setting"),
    ("error.rs", "key", "the name of a setting"),
    ("catalog.rs", "key", "the name of a setting"),
    ("error.rs", "url", "a beacon node's address as it is shown"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// Rust files below a folder, with their text.
fn sources(below: &str) -> Vec<(String, String)> {
    let output = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z", below]).output().expect("git");
    assert!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    names
        .split('\0')
        .filter(|name| Path::new(name).extension().is_some_and(|kind| kind == "rs") && root().join(name).is_file())
        .map(|name| (name.to_owned(), std::fs::read_to_string(root().join(name)).expect("UTF-8")))
        .collect()
}

/// Fields of structs, as `name` and `type`.
fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("pub(crate) ").unwrap_or(line.trim());
        let (name, kind) = line.strip_suffix(',')?.split_once(": ")?;
        let is_name =
            name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_' || letter.is_ascii_digit());
        // `None` is a value.
        let is_type = kind != "None" && kind.starts_with(|letter: char| letter.is_ascii_uppercase());
        (is_name && is_type && !kind.contains("::") && !kind.contains('(') && !kind.contains('{'))
            .then_some((name, kind))
    })
}

fn like_a_secret(name: &str) -> bool {
    SECRET.iter().any(|word| name == *word || name.ends_with(&format!("_{word}")))
}

/// What is wrong with the fields of a file.
fn unsafe_fields(file: &str, text: &str) -> Vec<String> {
    let base = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    fields(text)
        .filter(|(name, kind)| {
            // A file that holds the secret is named *_file and is a path.
            like_a_secret(name)
                && !SAFE.iter().any(|safe| kind.contains(safe))
                && !HARMLESS.iter().any(|(file, field, _)| *file == base && field == name)
        })
        .map(|(name, kind)| format!("{file}: {name}: {kind}"))
        .collect()
}

#[test]
fn settings_named_like_secrets_show_nothing() {
    let sources = sources("signer/src/config");
    assert!(sources.len() >= 8, "the configuration moved: {} files", sources.len());
    let found: Vec<String> = sources.iter().flat_map(|(file, text)| unsafe_fields(file, text)).collect();
    assert!(found.is_empty(), "use a type of holdfast_secret, or name it *_file and make it a path: {found:?}");
    let seen = sources.iter().flat_map(|(_, text)| fields(text)).filter(|(name, _)| like_a_secret(name)).count();
    assert!(seen >= 8, "the rule sees only {seen} fields: it no longer understands the files");
}

#[test]
fn the_rule_sees_what_it_should() {
    let text = "struct A {\n    pub(crate) api_token: Option<String>,\n    pub(crate) url: BeaconUrl,\n    \
                pub(crate) token_file: Option<PathBuf>,\n    pub(crate) webhook_url: String,\n}\n";
    assert_eq!(unsafe_fields("a.rs", text), ["a.rs: api_token: Option<String>", "a.rs: webhook_url: String"]);
}

#[test]
fn texts_that_are_secret_have_one_type() {
    // A `Zeroizing<String>` prints what is in it. The keystore crate knows no type of ours, and shows none of its own.
    let plain = concat!("Zeroizing<Str", "ing>");
    let found: Vec<String> = ["clients", "enclave", "proto", "signer", "slashing-db"]
        .into_iter()
        .flat_map(sources)
        .filter(|(name, _)| !name.starts_with("enclave/eth2_keystore/") && !name.starts_with("proto/secret/"))
        .filter(|(_, text)| text.contains(plain))
        .map(|(name, _)| name)
        .collect();
    assert!(found.is_empty(), "use holdfast_secret::SecretText in {found:?}");
}
