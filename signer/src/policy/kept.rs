//! `policy.toml` in the data directory: the rules that were given through the admin API, which stand in place of those of
//! the configuration until they are withdrawn (ADR 0038).
//!
//! Guarantees: what is there is complete, or nothing is; a file that cannot be read, is open to others, or was changed by
//! anything but this program is an error, never "no rules".

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use holdfast_domain::UnixMillis;
use holdfast_enclave::durable::{Existing, check_private_permissions, write_private_file};
use holdfast_enclave::{DurableError, PermissionError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::KeysOfLabels;
use crate::config::{RulesDigest, RulesError, WrittenPolicy};

/// The only form there is yet.
const VERSION: u32 = 1;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    /// Others may read or change it, or nobody can.
    #[error("the rules given through the admin API cannot be used{WAY_OUT}")]
    Permissions(#[source] PermissionError),
    /// It cannot be read.
    #[error("the rules given through the admin API, in {}, cannot be read{WAY_OUT}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what this program writes.
    #[error("the rules given through the admin API, in {}, cannot be used{WAY_OUT}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// A later program wrote it.
    #[error("{} was written by a later version of holdfast (form {version}); use that version{WAY_OUT}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its form.
        version: u32,
    },
    /// It was changed.
    #[error("{} was changed by something else than holdfast, or is damaged{WAY_OUT}", path.display())]
    Altered {
        /// The file.
        path: PathBuf,
    },
    /// Its rules mean nothing to this program.
    #[error("the rules in {} cannot be used by this version{WAY_OUT}", path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RulesError,
    },
    /// It cannot be written or removed.
    #[error("cannot write the rules to the data directory")]
    Write(#[from] DurableError),
    /// It cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be put into words; not reached.
    #[error("cannot write the rules as TOML")]
    Format(#[from] toml::ser::Error),
}

/// What helps against each.
const WAY_OUT: &str = "; restore the file from a copy, or go back to the rules of the configuration with `holdfast policy \
                       reset --force` while no server runs";

/// Who put rules in force, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// When.
    pub(crate) since: UnixMillis,
    /// By whom, as the journal knows it.
    pub(crate) by: String,
}

impl Given {
    /// For whoever only looks.
    pub(crate) fn unknown() -> Self {
        Self { since: UnixMillis(0), by: String::new() }
    }
}

/// Rules that were given.
#[derive(Debug)]
pub(crate) struct Kept {
    /// When and by whom.
    pub(crate) given: Given,
    /// The text, as it was given.
    pub(crate) text: String,
    /// The same, compiled.
    pub(crate) written: WrittenPolicy,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    since_unix_millis: u64,
    by: String,
    /// Of the rules, as the journal has it.
    rules_sha256: String,
    /// Of all the other members.
    checksum: String,
    rules: String,
}

impl OnDisk {
    fn sum(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.version.to_be_bytes());
        hash.update(self.since_unix_millis.to_be_bytes());
        for text in [&self.by, &self.rules_sha256, &self.rules] {
            // Lengths keep one text's end from being taken for another's beginning.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hex::encode(hash.finalize())
    }
}

/// Reads the file; `None` if there is none.
///
/// # Errors
/// [`KeptError`].
pub(crate) fn read(path: &Path, labels: KeysOfLabels) -> Result<Option<Kept>, KeptError> {
    let unreadable = |source| KeptError::Read { path: path.to_owned(), source };
    // A link to nowhere is a file that cannot be read, not one that is not there.
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(_) => {}
    }
    check_private_permissions(path).map_err(KeptError::Permissions)?;
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let found: OnDisk = toml::from_str(&text).map_err(|source| KeptError::Content { path: path.to_owned(), source })?;
    if found.version != VERSION {
        return Err(KeptError::Version { path: path.to_owned(), version: found.version });
    }
    let altered = || KeptError::Altered { path: path.to_owned() };
    if found.sum() != found.checksum {
        return Err(altered());
    }
    let digest: RulesDigest = found.rules_sha256.parse().map_err(|_| altered())?;
    let written = WrittenPolicy::parse(&found.rules, labels)
        .map_err(|source| KeptError::Rules { path: path.to_owned(), source })?;
    if written.digest != digest {
        return Err(altered());
    }
    let given = Given { since: UnixMillis(found.since_unix_millis), by: found.by };
    Ok(Some(Kept { given, text: found.rules, written }))
}

/// Puts rules in place of what is there, all at once, durably, readable by this user alone.
///
/// # Errors
/// [`KeptError`]; what was there before is there still, but for [`DurableError::Sync`].
pub(crate) fn write(path: &Path, given: &Given, digest: RulesDigest, text: &str) -> Result<(), KeptError> {
    let mut kept = OnDisk {
        version: VERSION,
        since_unix_millis: given.since.0,
        by: given.by.clone(),
        rules_sha256: digest.to_string(),
        checksum: String::new(),
        rules: text.to_owned(),
    };
    kept.checksum = kept.sum();
    let mut content = String::from(
        "# Rules given through the admin API: in force in place of [[policy]] and [[groups]] of the configuration.\n\
         # Change them with `holdfast policy apply`, withdraw them with `holdfast policy reset`. A server does not start\n\
         # with a file that was changed by hand.\n",
    );
    let _ = write!(content, "{}", toml::to_string(&kept)?);
    Ok(write_private_file(path, content.as_bytes(), Existing::Replace)?)
}

/// Takes the file away, durably.
///
/// # Errors
/// [`KeptError`].
pub(crate) fn remove(path: &Path) -> Result<(), KeptError> {
    let failed = |source| KeptError::Remove { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|dir| dir.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    //! Proves: what is written is read again; whatever was changed, is open to others or cannot be read is an error.
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const RULES: &str = "# why\n[[policy]]\neffect = \"allow\"\noperations = [\"list\"]\n";

    fn kept() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        let given = Given { since: UnixMillis(1_800_000_000_000), by: "alice (certificate)".to_owned() };
        let digest = WrittenPolicy::parse(RULES, KeysOfLabels::new()).unwrap().digest;
        write(&path, &given, digest, RULES).unwrap();
        (dir, path)
    }

    #[test]
    fn written_and_read_again() {
        let (_dir, path) = kept();
        let found = read(&path, KeysOfLabels::new()).unwrap().unwrap();
        assert_eq!((found.text.as_str(), found.given.by.as_str()), (RULES, "alice (certificate)"));
        assert_eq!((found.given.since.0, found.written.count()), (1_800_000_000_000, 1));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        assert!(read(&path, KeysOfLabels::new()).unwrap().is_none());
        remove(&path).unwrap();
    }

    #[test]
    fn every_change_is_an_error() {
        let (_dir, path) = kept();
        let text = std::fs::read_to_string(&path).unwrap();
        let changes = [
            ("\"list\"", "\"*\""),
            ("# why", "# because"),
            ("alice", "mallory"),
            ("1800000000000", "1800000000001"),
            ("version = 1", "version = 2"),
            ("rules_sha256 = \"", "rules_sha256 = \"0"),
            ("by =", "bye ="),
        ];
        for (old, new) in changes {
            assert!(text.contains(old), "{old} is in {text}");
            write_private_file(&path, text.replace(old, new).as_bytes(), Existing::Replace).unwrap();
            let error = read(&path, KeysOfLabels::new()).unwrap_err().to_string();
            assert!(error.contains("policy reset"), "{old}: {error}");
        }
        for cut in [0, 1, text.len() / 2, text.len() - 2] {
            write_private_file(&path, &text.as_bytes()[..cut], Existing::Replace).unwrap();
            assert!(read(&path, KeysOfLabels::new()).is_err(), "{cut} of {} bytes", text.len());
        }
        write_private_file(&path, text.as_bytes(), Existing::Replace).unwrap();
        assert!(read(&path, KeysOfLabels::new()).unwrap().is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&path, KeysOfLabels::new()), Err(KeptError::Permissions(_))));
        remove(&path).unwrap();
        std::os::unix::fs::symlink("/nonexistent/policy.toml", &path).unwrap();
        assert!(read(&path, KeysOfLabels::new()).is_err(), "a link to nowhere is not the absence of rules");
        remove(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(read(&path, KeysOfLabels::new()).is_err());
    }
}
