//! The manifest of a backup: what is in it, and what it was made of.
//!
//! Guarantees: a manifest that was read names only files inside the backup, each once; a file of another format
//! version is refused instead of being half understood.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use holdfast_slashing_db::Overview;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::file_failure;
use crate::cli::{Exit, Failure};

/// Its name.
pub(super) const MANIFEST: &str = "manifest.json";
/// The database, in a backup and in a data directory.
pub(super) const DATABASE: &str = "holdfast.db";
/// The state of key providers, in a backup and in a data directory.
pub(super) const KEK: &str = "kek";
/// The configuration in force, without secrets.
pub(super) const CONFIG: &str = "config.toml";
/// The rules that were given through the admin API, in a backup and in a data directory.
pub(super) const POLICY: &str = "policy.toml";
/// The format written and read.
const FORMAT: u32 = 1;
/// A manifest is a few kilobytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Format version.
    pub(super) format: u32,
    /// The version of the program that made it.
    pub(super) holdfast: String,
    /// When, RFC 3339.
    pub(super) created: String,
    /// Name of the network.
    pub(super) network: String,
    /// Its genesis validators root.
    pub(super) genesis_validators_root: String,
    /// Where the database was, without credentials.
    pub(super) database: String,
    /// What the copy of it holds; `None` if it is not in the backup (PostgreSQL).
    pub(super) content: Option<Content>,
    /// Every other file.
    pub(super) files: Vec<FileEntry>,
}

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Content {
    /// Schema version.
    pub(super) schema: u32,
    /// Its identity.
    pub(super) instance: String,
    /// Sequence number of the last journal batch.
    pub(super) journal_seq: u64,
    /// Hash of the last journal batch.
    pub(super) journal_hash: String,
    /// Keys that may sign.
    pub(super) keys_enabled: u64,
    /// Keys switched off, or known only by their history.
    pub(super) keys_disabled: u64,
    /// Deleted keys.
    pub(super) keys_deleted: u64,
    /// Who wraps the data key, if there is one.
    pub(super) providers: Option<String>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileEntry {
    /// Its place in the backup.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub(super) sha256: String,
}

impl Content {
    /// What an overview says; `None` of a database in which nothing was made yet.
    pub(super) fn of(overview: &Overview) -> Option<Self> {
        let instance = overview.instances.first()?;
        Some(Self {
            schema: overview.schema,
            instance: instance.id.to_string(),
            journal_seq: instance.head.seq,
            journal_hash: instance.head.hash.to_string(),
            keys_enabled: overview.keys.enabled,
            keys_disabled: overview.keys.disabled,
            keys_deleted: overview.keys.tombstoned,
            providers: overview.data_key.as_ref().map(|record| record.provider.clone()),
        })
    }
}

impl Manifest {
    /// One of the format written here, without files.
    pub(super) fn new(created: String, network: &str, genesis_validators_root: String, database: String) -> Self {
        Self {
            format: FORMAT,
            holdfast: env!("CARGO_PKG_VERSION").to_owned(),
            created,
            network: network.to_owned(),
            genesis_validators_root,
            database,
            content: None,
            files: Vec::new(),
        }
    }

    /// As it is written.
    ///
    /// # Errors
    /// [`Failure`] (bug).
    pub(super) fn to_text(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Failure::new(Exit::Bug, error))?;
        Ok(text + "\n")
    }

    /// Reads the manifest of a backup, and its SHA-256.
    ///
    /// # Errors
    /// [`Failure`] if it is not there, is damaged, of another format, or names a place outside the backup.
    pub(super) fn read(backup: &Path) -> Result<(Self, String), Failure> {
        let path = backup.join(MANIFEST);
        let refused = |text: &str| Failure::message(Exit::Refused, format!("{}: {text}", path.display()));
        let mut text = Vec::new();
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused("there is no manifest, so this is no complete backup; check --from"),
            _ => file_failure("read", &path, error),
        })?;
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| file_failure("read", &path, error))?;
        let digest = hex::encode(Sha256::digest(&text));
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| refused(&format!("is damaged, or of a later version of holdfast: {error}")))?;
        if manifest.format != FORMAT {
            return Err(refused(&format!("has format {}, this version reads {FORMAT} only", manifest.format)));
        }
        for (index, entry) in manifest.files.iter().enumerate() {
            let inside = Path::new(&entry.name).components().all(|part| matches!(part, Component::Normal(_)));
            let twice = manifest.files.iter().skip(index.saturating_add(1)).any(|other| other.name == entry.name);
            if entry.name.is_empty() || !inside || twice || entry.name == MANIFEST {
                return Err(refused("names a file that cannot be in a backup; it was not made by holdfast"));
            }
        }
        Ok((manifest, digest))
    }
}

impl FileEntry {
    /// Reads a file of a backup and describes it.
    ///
    /// # Errors
    /// [`io::Error`].
    pub(super) fn of(backup: &Path, name: &str) -> io::Result<Self> {
        let mut file = File::open(backup.join(name))?;
        let mut hash = Sha256::new();
        let mut bytes = 0_u64;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { break };
            hash.update(part);
            bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        Ok(Self { name: name.to_owned(), bytes, sha256: hex::encode(hash.finalize()) })
    }
}

/// The names of all files below a directory, relative to it and in order.
///
/// # Errors
/// [`io::Error`]; also for anything that is neither a file nor a directory.
pub(super) fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        for entry in std::fs::read_dir(dir.join(&relative))? {
            let entry = entry?;
            let name = relative.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(name);
            } else if kind.is_file() {
                found.push(name);
            } else {
                return Err(io::Error::other(format!("{} is neither a file nor a directory", name.display())));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    //! Proved here: a manifest survives writing and reading, and one that points outside or twice is refused.

    use super::*;

    fn manifest(names: &[&str]) -> Manifest {
        let file = |name: &&str| FileEntry { name: (*name).to_owned(), bytes: 1, sha256: String::new() };
        let files = names.iter().map(file).collect();
        Manifest { files, ..Manifest::new("now".into(), "hoodi", "0x00".into(), "sqlite:x".into()) }
    }

    fn read(text: &str) -> Result<Manifest, String> {
        let dir = tempfile::tempdir().unwrap();
        std::io::Write::write_all(&mut File::create(dir.path().join(MANIFEST)).unwrap(), text.as_bytes()).unwrap();
        Manifest::read(dir.path()).map(|(manifest, _)| manifest).map_err(|failure| failure.text())
    }

    #[test]
    fn writing_and_reading() {
        let good = manifest(&["holdfast.db", "kek/file.key"]);
        assert_eq!(read(&good.to_text().unwrap()), Ok(good));
    }

    #[test]
    fn places_outside_and_other_formats_are_refused() {
        for names in [&["../x"][..], &["/x"], &["kek/../../x"], &[""], &["a", "a"], &["./a"], &[MANIFEST]] {
            let error = read(&manifest(names).to_text().unwrap()).unwrap_err();
            assert!(error.contains("cannot be in a backup"), "{names:?}: {error}");
        }
        let later = manifest(&[]).to_text().unwrap().replace("\"format\": 1", "\"format\": 2");
        assert!(read(&later).unwrap_err().contains("format 2"));
        let unknown = manifest(&[]).to_text().unwrap().replace("\"format\"", "\"more\": 1, \"format\"");
        assert!(read(&unknown).unwrap_err().contains("later version"));
        assert!(read("{").unwrap_err().contains("damaged"));
    }

    #[test]
    fn files_are_described() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("kek")).unwrap();
        std::io::Write::write_all(&mut File::create(dir.path().join("kek/a")).unwrap(), b"abc").unwrap();
        File::create(dir.path().join("b")).unwrap();
        assert_eq!(files_below(dir.path()).unwrap(), [PathBuf::from("b"), PathBuf::from("kek/a")]);
        let entry = FileEntry::of(dir.path(), "kek/a").unwrap();
        assert_eq!(entry.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(entry.bytes, 3);
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        assert!(files_below(dir.path()).is_err());
    }
}
