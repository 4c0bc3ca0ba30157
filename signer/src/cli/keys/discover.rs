//! Finds keystores and where their passwords are, in the layouts validator clients and tools use.
//!
//! Guarantees: only reads; every file that looks like a keystore is either a [`Candidate`] or a
//! [`Skipped`] with a reason, so that nothing an operator thinks was imported is dropped in silence.
//!
//! | layout | keystores | passwords |
//! | --- | --- | --- |
//! | deposit-cli, eth-docker, Obol | `keystore-*.json` | same stem, `.txt` |
//! | Lighthouse, eth2-val-tools | `validators/0x…/voting-keystore.json` | `secrets/0x…`, or in `validator_definitions.yml` |
//! | Lodestar | `keystores/0x…/voting-keystore.json` | `secrets/0x…` |
//! | Nimbus | `validators/0x…/keystore.json` | `secrets/0x…` |
//! | Teku | `keys/*.json` | `passwords/*.txt`, same stem |
//! | Web3Signer | `*.yaml` naming both, or `*.json` | named, or same stem, `.txt` or `.password` |
//! | Prysm | its wallet holds all keys in one file: skipped, with the command that exports them | |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use holdfast_domain::PublicKey;
use holdfast_migrate::web3signer::{KeyFileError, KeySource, key_file};
use holdfast_secret::SecretText;
use serde_json::Value;

use super::yaml;

/// How deep directories are searched.
const MAX_DEPTH: usize = 8;

/// A keystore is a few kilobytes; a file longer than this is read by nobody here.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where a keystore's password is.
pub(super) enum PasswordAt {
    /// In a file of its own.
    File(PathBuf),
    /// In the client's own list of validators, in clear.
    Inline(SecretText),
    /// Nowhere near the keystore: given with an option, or asked for.
    Elsewhere,
}

/// A keystore file.
pub(super) struct Candidate {
    /// The file.
    pub(super) path: PathBuf,
    /// The public key it claims, if it can be read. Nothing is decided by it but the order of work.
    pub(super) claimed: Option<PublicKey>,
    /// Its password.
    pub(super) password: PasswordAt,
}

/// A file that will not be imported, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// The file.
    pub(super) path: PathBuf,
    /// Why, and what to do.
    pub(super) reason: String,
}

/// Everything found.
#[derive(Default)]
pub(super) struct Discovery {
    /// Keystores, each file once, in order of path.
    pub(super) candidates: Vec<Candidate>,
    /// What was found but cannot be imported.
    pub(super) skipped: Vec<Skipped>,
    seen: BTreeSet<PathBuf>,
    /// Lighthouse's entries with a password of their own place, by keystore.
    definitions: Vec<(PathBuf, PasswordAt)>,
}

/// Searches `from`: files are taken as keystores (or Web3Signer key files) whatever their name,
/// directories are searched by the layouts above.
pub(super) fn discover(from: &[PathBuf], passwords_dir: Option<&Path>) -> Discovery {
    let mut found = Discovery::default();
    for path in from {
        // Absolute, so that "the directory above" exists for a relative path, too.
        match std::fs::canonicalize(path) {
            Ok(absolute) if absolute.is_dir() => found.directory(&absolute, passwords_dir, 0),
            Ok(absolute) => found.file(&absolute, passwords_dir, Wanted::Named),
            Err(error) => found.skip(path, format!("cannot be opened: {error}; check the path")),
        }
    }
    found.candidates.sort_by(|a, b| a.path.cmp(&b.path));
    found.skipped.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Why a file is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The operator named it.
    Named,
    /// It lies in a directory that is searched.
    Searched,
}

impl Discovery {
    fn skip(&mut self, path: &Path, reason: impl Into<String>) {
        self.skipped.push(Skipped { path: path.to_owned(), reason: reason.into() });
    }

    fn directory(&mut self, dir: &Path, passwords_dir: Option<&Path>, depth: usize) {
        if depth > MAX_DEPTH {
            return self.skip(dir, format!("lies more than {MAX_DEPTH} directories deep; give it with --from itself"));
        }
        let entries = match std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.skip(dir, format!("cannot be read: {error}; check its permissions")),
        };
        let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
        paths.sort();
        let definitions = dir.join("validator_definitions.yml");
        if definitions.is_file() {
            self.lighthouse_definitions(&definitions);
        }
        // Keystores first: a Web3Signer key file that names one of them finds it by then.
        let (yaml, other): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| is_yaml(path));
        for path in yaml.iter().chain(&other) {
            if path.is_dir() {
                self.directory(path, passwords_dir, depth.saturating_add(1));
            } else if path.is_file() {
                self.file(path, passwords_dir, Wanted::Searched);
            }
        }
    }

    fn file(&mut self, path: &Path, passwords_dir: Option<&Path>, wanted: Wanted) {
        let name = file_name(path);
        if is_yaml(path) {
            if name != "validator_definitions.yml" {
                self.web3signer(path, wanted);
            }
            return;
        }
        if name == "all-accounts.keystore.json" || name == "seed.encrypted.json" {
            return self.skip(
                path,
                "is a Prysm wallet, which is no EIP-2335 keystore; run `prysm validator accounts backup` \
                 (for each key, one keystore in a zip file), unpack it and import that",
            );
        }
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        // A password lies beside its keystore, and a shell's pattern names both.
        let is_password = !is_json && path.with_extension("json").is_file();
        if is_known_companion(&name) || is_password || (wanted == Wanted::Searched && !is_json) {
            return;
        }
        match sniff(path) {
            Sniffed::Keystore { claimed } => {
                let password = self.password(path, claimed.as_ref(), passwords_dir);
                self.add(path, claimed, password);
            }
            Sniffed::NoKeystore(reason) => {
                // Where a keystore may have any name, a file that should be one and is damaged must not be passed over.
                self.skip(path, reason);
            }
        }
    }

    fn add(&mut self, path: &Path, claimed: Option<PublicKey>, password: PasswordAt) {
        if self.seen.insert(path.to_owned()) {
            self.candidates.push(Candidate { path: path.to_owned(), claimed, password });
        }
    }

    /// The password's place: given directory, same stem beside the file, or where the layout has it.
    fn password(&mut self, keystore: &Path, claimed: Option<&PublicKey>, passwords_dir: Option<&Path>) -> PasswordAt {
        let stem = keystore.file_stem().unwrap_or_default();
        let named = |dir: &Path| {
            let plain = dir.join(stem);
            let mut names = vec![with_suffix(&plain, ".txt"), with_suffix(&plain, ".password")];
            // The key's own name, as Lighthouse, Lodestar and Nimbus call files and directories.
            let own_dir = keystore.parent().map(file_name).filter(|name| name.starts_with("0x"));
            names.extend(own_dir.into_iter().chain(claimed.map(ToString::to_string)).map(|key| dir.join(key)));
            names.into_iter().find(|path| path.is_file())
        };
        if let Some(dir) = passwords_dir {
            let canonical = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
            return named(&canonical).map_or(PasswordAt::Elsewhere, PasswordAt::File);
        }
        if let Some(at) = self.definitions.iter().position(|(path, _)| path == keystore) {
            return self.definitions.swap_remove(at).1;
        }
        let parent = keystore.parent();
        let above = parent.and_then(Path::parent);
        let places = [
            parent.map(Path::to_owned),
            above.map(|dir| dir.join("passwords")),
            above.and_then(Path::parent).map(|dir| dir.join("secrets")),
            above.map(|dir| dir.join("secrets")),
        ];
        places.into_iter().flatten().find_map(|dir| named(&dir)).map_or(PasswordAt::Elsewhere, PasswordAt::File)
    }

    fn lighthouse_definitions(&mut self, path: &Path) {
        let Ok(text) = read_bounded(path) else {
            return self.skip(path, "cannot be read; check its permissions");
        };
        let maps = match yaml::parse(&text) {
            Ok(maps) => maps,
            Err(error) => return self.skip(path, format!("{error}; passwords named in it are not used")),
        };
        for map in maps {
            let Some(keystore) = map.get("voting_keystore_path") else { continue };
            let base = path.parent().unwrap_or(Path::new("/"));
            let Ok(keystore) = std::fs::canonicalize(base.join(keystore)) else { continue };
            let inline = map.get("voting_keystore_password").map(|text| PasswordAt::Inline(SecretText::new(text)));
            let file = map.get("voting_keystore_password_path").map(|text| PasswordAt::File(base.join(text)));
            if let Some(password) = inline.or(file) {
                self.definitions.push((keystore, password));
            }
        }
    }

    /// A Web3Signer key file: `type: file-keystore` names a keystore and its password file, both
    /// relative to the key file.
    fn web3signer(&mut self, path: &Path, wanted: Wanted) {
        let keys = match read_bounded(path)
            .map_err(|error| error.to_string())
            .and_then(|text| key_file(&text).map_err(|error| error.to_string()))
        {
            Ok(keys) => keys,
            Err(_) if wanted == Wanted::Searched && !is_key_file_by_text(path) => return,
            Err(reason) => return self.skip(path, format!("is not a readable Web3Signer key file: {reason}")),
        };
        for key in keys {
            match key {
                Ok(KeySource::Keystore { keystore, password }) => self.named_keystore(path, &keystore, &password),
                Ok(KeySource::Raw(_)) => self.skip(
                    path,
                    "holds a private key in clear (type: file-raw); make an EIP-2335 keystore of it and import that",
                ),
                Ok(KeySource::Elsewhere { advice, .. }) => self.skip(path, format!("names a secret manager: {advice}")),
                Ok(KeySource::NotBls) => {
                    self.skip(path, "names a key of an Ethereum account (secp256k1), which is no validator's");
                }
                Err(KeyFileError::NoType { .. }) if wanted == Wanted::Searched => {}
                Err(error) => self.skip(path, format!("is not a complete Web3Signer key file: {error}")),
            }
        }
    }

    /// A keystore and its password file, relative to the key file at `path`.
    fn named_keystore(&mut self, path: &Path, keystore: &str, password: &str) {
        let base = path.parent().unwrap_or(Path::new("/"));
        let named = base.join(keystore);
        match std::fs::canonicalize(&named) {
            Ok(keystore) => {
                let claimed = match sniff(&keystore) {
                    Sniffed::Keystore { claimed } => claimed,
                    Sniffed::NoKeystore(_) => None,
                };
                self.add(&keystore, claimed, PasswordAt::File(base.join(password)));
            }
            Err(error) => self.skip(&named, format!("is named in {} but cannot be opened: {error}", path.display())),
        }
    }
}

/// What a file holds, as far as can be said without a password.
enum Sniffed {
    Keystore { claimed: Option<PublicKey> },
    NoKeystore(String),
}

fn sniff(path: &Path) -> Sniffed {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) => return Sniffed::NoKeystore(format!("cannot be read: {error}")),
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(members)) if members.contains_key("crypto") => Sniffed::Keystore {
            claimed: members.get("pubkey").and_then(Value::as_str).and_then(|text| text.parse().ok()),
        },
        Ok(Value::Object(members)) if members.contains_key("Crypto") => {
            Sniffed::NoKeystore("is a wallet of an Ethereum account (version 3), not a validator's keystore".to_owned())
        }
        Ok(_) => Sniffed::NoKeystore("is no EIP-2335 keystore: it has no \"crypto\" member".to_owned()),
        Err(error) => Sniffed::NoKeystore(format!(
            "is not complete JSON (line {}, column {}); get another copy of the file",
            error.line(),
            error.column()
        )),
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.metadata()?.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other("too long for a keystore"));
    }
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a YAML file that does not parse still means to be a key file.
fn is_key_file_by_text(path: &Path) -> bool {
    read_bounded(path).is_ok_and(|text| text.contains("keystoreFile") || text.contains("keyType"))
}

/// JSON files that lie beside keystores and are none.
fn is_known_companion(name: &str) -> bool {
    const STARTS: [&str; 9] = [
        "deposit_data",
        "slashing_protection",
        "slashing-protection",
        "bls_to_execution",
        "signed_exit",
        "exit_message",
        "remote_keystore",
        "keymanageropts",
        "proposer",
    ];
    STARTS.iter().any(|start| name.starts_with(start))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Appends to the name: `with_extension` would cut at a dot inside it.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
