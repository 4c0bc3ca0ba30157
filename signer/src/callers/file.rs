//! `callers.toml` in the data directory: the callers that `holdfast callers` made. It holds hashes and no tokens.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use holdfast_enclave::DurableError;
use holdfast_enclave::durable::{Existing, write_private_file};
use serde::{Deserialize, Serialize};

use crate::config::{CallerEntry, check_callers};

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("cannot read the callers in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what `holdfast callers` writes.
    #[error("the callers in {} cannot be used; mend the file, or restore it", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// An entry is wrong.
    #[error("{} {problem}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It cannot be written.
    #[error("cannot write the callers")]
    Write(#[from] DurableError),
    /// It cannot be put into words; not reached.
    #[error("cannot write the callers as TOML")]
    Format(#[from] toml::ser::Error),
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallersFile {
    /// The callers, in the order in which they were made.
    #[serde(default)]
    pub(crate) callers: Vec<CallerEntry>,
}

impl CallersFile {
    /// Reads the file; one that is not there has no callers.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn read(path: &Path) -> Result<Self, FileError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(FileError::Read { path: path.to_owned(), source }),
        };
        let file: Self =
            toml::from_str(&text).map_err(|source| FileError::Content { path: path.to_owned(), source })?;
        check_callers(file.callers.iter()).map_err(|problem| FileError::Entry { path: path.to_owned(), problem })?;
        Ok(file)
    }

    /// Puts this in place of what is there, all at once, readable by this user alone.
    ///
    /// # Errors
    /// [`FileError`]; the file is as before then.
    pub(crate) fn write(&self, path: &Path) -> Result<(), FileError> {
        let mut text =
            String::from("# Written by `holdfast callers`. A running server reads it again when it changes.\n");
        let _ = write!(text, "{}", toml::to_string(self)?);
        Ok(write_private_file(path, text.as_bytes(), Existing::Replace)?)
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what is written is read again, and a damaged file is an error.
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{Fingerprint, TokenHash};

    #[test]
    fn written_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("callers.toml");
        assert_eq!(CallersFile::read(&path).unwrap(), CallersFile::default());
        let caller = CallerEntry {
            name: "vc-1".to_owned(),
            certificate_fingerprints: vec![Fingerprint::of(b"x")],
            basic_token_sha256: vec![TokenHash::of(b"t").expiring(holdfast_domain::UnixMillis(1_800_000_000_000))],
            unix_uids: vec![7],
            ..CallerEntry::default()
        };
        let file = CallersFile { callers: vec![caller] };
        file.write(&path).unwrap();
        assert_eq!(CallersFile::read(&path).unwrap(), file);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for (content, part) in [("callers = 1", "cannot be used"), ("[[callers]]\nname = \"a b\"\n", "no name")] {
            write_private_file(&path, content.as_bytes(), Existing::Replace).unwrap();
            assert!(CallersFile::read(&path).unwrap_err().to_string().contains(part));
        }
    }
}
