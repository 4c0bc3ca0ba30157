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
//! | Web3Signer | `*.yaml` naming both or holding the key, or `*.json` | named, or same stem, `.txt` or `.password` |
//! | Prysm | `all-accounts.keystore.json`, with all keys: opened by [`wallets`](super::wallets) | asked for |
//! | Rocket Pool | those of five clients, with the same keys | as each of them, and `secret` beside Prysm's |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_domain::PublicKey;
use holdfast_enclave::Passphrase;
use holdfast_migrate::web3signer::{KeyFileError, KeySource, StoredSecret, key_file};
use holdfast_secret::SecretText;
use serde_json::Value;

use super::{raw, yaml};

/// How deep directories are searched.
const MAX_DEPTH: usize = 8;

/// A keystore is a few kilobytes; a file longer than this is read by nobody here.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where a keystore's password is.
pub(in crate::cli) enum PasswordAt {
    /// In a file of its own.
    File(PathBuf),
    /// In the client's own list of validators, in clear.
    Inline(SecretText),
    /// Nowhere near the keystore: given with an option, or asked for.
    Elsewhere,
    /// The keystore was made here, with a password of its own.
    Made(Arc<Passphrase>),
}

/// A keystore file, or a keystore made here of what another file holds.
pub(in crate::cli) struct Candidate {
    /// The file.
    pub(in crate::cli) path: PathBuf,
    /// The public key it claims, if it can be read. Nothing is decided by it but the order of work.
    pub(in crate::cli) claimed: Option<PublicKey>,
    /// Its password.
    pub(in crate::cli) password: PasswordAt,
    /// The keystore, if it was made here.
    pub(in crate::cli) made: Option<String>,
}

/// A file that will not be imported, and why.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Skipped {
    /// The file.
    pub(in crate::cli) path: PathBuf,
    /// Why, and what to do.
    pub(in crate::cli) reason: String,
}

/// A key in a secret store, as a key file names it.
pub(in crate::cli) struct Stored {
    /// The key file.
    pub(in crate::cli) path: PathBuf,
    /// Which secret.
    pub(in crate::cli) secret: StoredSecret,
    /// A command that fetches it.
    pub(in crate::cli) command: String,
}

/// A Prysm wallet, of which nobody knows the keys before it is opened.
pub(in crate::cli) struct Wallet {
    /// The file.
    pub(in crate::cli) path: PathBuf,
    /// Its password.
    pub(in crate::cli) password: PasswordAt,
}

/// Everything found.
#[derive(Default)]
pub(in crate::cli) struct Discovery {
    /// Keystores, each file once, in order of path.
    pub(in crate::cli) candidates: Vec<Candidate>,
    /// What was found but cannot be imported.
    pub(in crate::cli) skipped: Vec<Skipped>,
    /// Keys that the client's own list switches off.
    pub(in crate::cli) off: Vec<PublicKey>,
    /// Keys in secret stores, of which nothing was fetched.
    pub(in crate::cli) stored: Vec<Stored>,
    /// Wallets that were not opened.
    pub(in crate::cli) wallets: Vec<Wallet>,
    seen: BTreeSet<PathBuf>,
    /// Lighthouse's entries with a password of their own place, by keystore.
    definitions: Vec<(PathBuf, PasswordAt)>,
}

/// Searches `from`: files are taken as keystores (or Web3Signer key files) whatever their name,
/// directories are searched by the layouts above.
pub(in crate::cli) fn discover(from: &[PathBuf], passwords_dir: Option<&Path>) -> Discovery {
    let mut found = Discovery::default();
    for path in from {
        // Absolute, so that "the directory above" exists for a relative path, too.
        match std::fs::canonicalize(path) {
            Ok(absolute) if absolute.is_dir() => found.directory(&absolute, passwords_dir, 0),
            Ok(absolute) => found.file(&absolute, passwords_dir, Wanted::Named),
            Err(error) => found.skip(path, format!("cannot be opened: {error}; check the path")),
        }
    }
    for Stored { path, command, .. } in std::mem::take(&mut found.stored) {
        let reason = format!(
            "names a secret store, from which `holdfast migrate web3signer` fetches keys; or fetch it yourself (`{command}`), \
             into a key file (type: file-raw) in a directory that only you may read"
        );
        found.skip(&path, reason);
    }
    found.sorted()
}

/// Where Web3Signer's passwords of a directory of keystores are.
#[derive(Debug, Clone)]
pub(in crate::cli) enum BulkPasswords {
    /// One file for each: the same name, with .txt.
    Directory(PathBuf),
    /// One file for all.
    File(PathBuf),
}

/// What Web3Signer itself would load: key files and keystores of these directories, and not of those below them. Keys in
/// secret stores are only named.
///
/// # Errors
/// The directory that cannot be read, and why.
pub(in crate::cli) fn web3signer(
    key_files: Option<&Path>,
    bulk: Option<(&Path, &BulkPasswords)>,
) -> Result<Discovery, (PathBuf, std::io::Error)> {
    let mut found = Discovery::default();
    let list = |dir: &Path| listed(dir).map_err(|error| (dir.to_owned(), error));
    for path in key_files.map(list).transpose()?.unwrap_or_default() {
        if is_yaml(&path) && path.is_file() {
            found.web3signer(&path, Wanted::Searched);
        }
    }
    if let Some((dir, passwords)) = bulk {
        for path in list(dir)? {
            if path.extension().is_some_and(|extension| extension == "json") && path.is_file() {
                found.bulk(&path, passwords);
            }
        }
    }
    Ok(found.sorted())
}

/// The files of a directory, sorted, with absolute names.
fn listed(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let dir = std::fs::canonicalize(dir)?;
    let entries = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<PathBuf> = entries.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// How many keys a secret holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Lines {
    /// One.
    One,
    /// One on each line.
    Each,
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
    /// Nothing but these keystores.
    pub(in crate::cli) fn of(candidates: Vec<Candidate>) -> Self {
        Self { candidates, ..Self::default() }
    }

    /// Adds the keys of a secret: one a line, as Web3Signer has it, or a single one.
    pub(in crate::cli) fn take(&mut self, path: &Path, value: &SecretText, lines: Lines) {
        let keys: Vec<(&str, usize)> = match lines {
            Lines::One => vec![(value.expose().trim(), 1)],
            Lines::Each => {
                value.expose().lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty()).collect()
            }
        };
        if keys.is_empty() {
            return self.skip(path, "the secret is empty");
        }
        for (digits, line) in keys {
            match raw::keystore(&SecretText::new(digits.strip_prefix("0x").unwrap_or(digits))) {
                Ok(made) => self.made(path, made),
                Err(reason) => {
                    let reason = format!("line {line} of the secret is no key (it is not shown): {reason}");
                    self.skip(path, reason);
                }
            }
        }
    }

    /// Adds something that cannot be imported.
    pub(in crate::cli) fn skip(&mut self, path: &Path, reason: impl Into<String>) {
        self.skipped.push(Skipped { path: path.to_owned(), reason: reason.into() });
    }

    /// Adds a keystore made of what a file holds.
    pub(super) fn made(&mut self, path: &Path, made: raw::Made) {
        let raw::Made { key, json, password } = made;
        self.candidates.push(Candidate {
            path: path.to_owned(),
            claimed: Some(key),
            password: PasswordAt::Made(password),
            made: Some(json),
        });
    }

    /// The same in order of path.
    pub(in crate::cli) fn sorted(mut self) -> Self {
        self.candidates.sort_by(|a, b| a.path.cmp(&b.path));
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }

    /// A keystore of Web3Signer's directory of keystores.
    fn bulk(&mut self, path: &Path, passwords: &BulkPasswords) {
        let claimed = match sniff(path) {
            Sniffed::Keystore { claimed } => claimed,
            Sniffed::NoKeystore(reason) => return self.skip(path, reason),
        };
        let password = match passwords {
            BulkPasswords::File(file) => file.clone(),
            BulkPasswords::Directory(dir) => with_suffix(&dir.join(path.file_stem().unwrap_or_default()), ".txt"),
        };
        if password.is_file() {
            self.add(path, claimed, PasswordAt::File(password));
        } else {
            self.skip(path, format!("has no password file: {} is not there; put it there", password.display()));
        }
    }

    fn directory(&mut self, dir: &Path, passwords_dir: Option<&Path>, depth: usize) {
        if depth > MAX_DEPTH {
            return self.skip(dir, format!("lies more than {MAX_DEPTH} directories deep; give it with --from itself"));
        }
        let paths = match listed(dir) {
            Ok(paths) => paths,
            Err(error) => return self.skip(dir, format!("cannot be read: {error}; check its permissions")),
        };
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
        if name == "all-accounts.keystore.json" {
            return self.wallet(path, passwords_dir);
        }
        if name == "seed.encrypted.json" {
            return self.skip(
                path,
                "is the seed of a Prysm wallet, which is no EIP-2335 keystore; if there is no all-accounts.keystore.json \
                 beside it, run `prysm validator accounts backup` (for each key, one keystore in a zip file), unpack it and \
                 import that",
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

    /// A Prysm wallet. Its password is nowhere near it, but that Rocket Pool keeps it in a file beside it.
    fn wallet(&mut self, path: &Path, passwords_dir: Option<&Path>) {
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        let beside = path.with_file_name("secret");
        let password = if passwords_dir.is_none() && beside.is_file() {
            PasswordAt::File(beside)
        } else {
            self.password(path, None, passwords_dir)
        };
        self.wallets.push(Wallet { path: path.to_owned(), password });
    }

    fn add(&mut self, path: &Path, claimed: Option<PublicKey>, password: PasswordAt) {
        if self.seen.insert(path.to_owned()) {
            self.candidates.push(Candidate { path: path.to_owned(), claimed, password, made: None });
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
        let maps = match yaml::parse(text.expose()) {
            Ok(maps) => maps,
            Err(error) => return self.skip(path, format!("{error}; passwords named in it are not used")),
        };
        for map in maps {
            if map.get("enabled") == Some("false") {
                self.off.extend(map.get("voting_public_key").and_then(|key| key.parse::<PublicKey>().ok()));
            }
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
    /// relative to the key file; `type: file-raw` holds the key.
    fn web3signer(&mut self, path: &Path, wanted: Wanted) {
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        let keys = match read_bounded(path)
            .map_err(|error| error.to_string())
            .and_then(|text| key_file(text.expose()).map_err(|error| error.to_string()))
        {
            Ok(keys) => keys,
            Err(_) if wanted == Wanted::Searched && !is_key_file_by_text(path) => return,
            Err(reason) => return self.skip(path, format!("is not a readable Web3Signer key file: {reason}")),
        };
        for key in keys {
            match key {
                Ok(KeySource::Keystore { keystore, password }) => self.named_keystore(path, &keystore, &password),
                Ok(KeySource::Raw(digits)) => match raw::keystore(&digits) {
                    Ok(made) => self.made(path, made),
                    Err(reason) => self.skip(path, format!("holds no usable private key (type: file-raw): {reason}")),
                },
                Ok(KeySource::Stored { secret, command }) => {
                    self.stored.push(Stored { path: path.to_owned(), secret: *secret, command });
                }
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
    match serde_json::from_str::<Value>(text.expose()) {
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

/// The text of a file, which may hold keys or passwords in clear.
fn read_bounded(path: &Path) -> std::io::Result<SecretText> {
    raw::text(path, MAX_FILE_BYTES)
}

/// Whether a YAML file that does not parse still means to be a key file.
fn is_key_file_by_text(path: &Path) -> bool {
    read_bounded(path).is_ok_and(|text| ["keystoreFile", "keyType"].iter().any(|name| text.expose().contains(name)))
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
