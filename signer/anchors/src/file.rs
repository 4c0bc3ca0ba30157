//! A file on another disk, or one that is synchronised to another machine: notes one after the other.

use core::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::{AnchorError, Note};

/// Appends notes to a file, each followed by an empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAnchor(PathBuf);

impl FileAnchor {
    /// It is made when the first note is kept, for this user alone.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) async fn keep(&self, note: &Note) -> Result<(), AnchorError> {
        let (path, text) = (self.0.clone(), note.text.clone());
        let appended = tokio::task::spawn_blocking(move || append(&path, &text));
        match appended.await {
            Ok(done) => done.map_err(|source| AnchorError::File { path: self.0.clone(), source }),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

impl fmt::Display for FileAnchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Appends a note and an empty line, and waits until they are on the disk.
fn append(path: &Path, note: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(format!("{note}\n").as_bytes())?;
    file.sync_all()
}
