//! Which journals and files a command reads, opened read-only.

use std::fs::File;
use std::path::{Path, PathBuf};

use holdfast_audit::checkpoint::{SignedCheckpoint, VerifyingKey};
use holdfast_audit::verify::Trust;
use holdfast_slashing_db::journal::{InstanceId, JournalError, Reader};

use super::super::args::AuditVerifyArgs;
use super::super::{Context, Exit, Failure};
use crate::config::{Database, DatabaseUrl};
use crate::custody;
use crate::journals::{Journal, JournalsError, journals};

fn unreadable(error: JournalsError) -> Failure {
    match error {
        JournalsError::Custody(error) => error.into(),
        JournalsError::Config(error) => error.into(),
        JournalsError::Journal(error @ JournalError::Open { .. }) => Failure::new(Exit::Unreachable, error),
        JournalsError::Journal(error) => Failure::new(Exit::Refused, error),
        error @ (JournalsError::Several(_) | JournalsError::None) => Failure::new(Exit::Usage, error),
    }
}

/// Something to verify.
pub(super) enum Subject {
    /// A file that proves itself.
    Export {
        /// How it is named in results.
        name: String,
        /// It.
        file: File,
    },
    /// A journal in a database.
    Journal {
        /// How it is named in results.
        name: String,
        /// Whose it is.
        instance: InstanceId,
        /// Its batches.
        reader: Box<Reader>,
    },
}

/// What a command line asks to verify.
pub(super) fn subjects(args: &AuditVerifyArgs, context: &Context) -> Result<Vec<Subject>, Failure> {
    let usage = |text: String| Failure::message(Exit::Usage, text);
    let (target, shown) = match &args.what {
        None => {
            custody::require_existing(&context.config)?;
            let target = context.config.database()?;
            let shown = target.to_string();
            (target, shown)
        }
        Some(url) if url.contains("://") => {
            let url: DatabaseUrl = url.parse().map_err(usage)?;
            (url.target().map_err(usage)?, url.to_string())
        }
        Some(path) => {
            let mut path = Path::new(path).to_owned();
            if path.is_dir() {
                path.push("holdfast.db");
            }
            let (file, database) = super::open_and_sniff(&path).map_err(|error| {
                let text = format!("cannot read {}", path.display());
                Failure::new(Exit::Usage, anyhow::Error::new(error).context(text))
            })?;
            let shown = path.display().to_string();
            if !database {
                return Ok(vec![Subject::Export { name: shown, file }]);
            }
            (Database::Sqlite(path), shown)
        }
    };
    let journals = journals(&target, &context.config, &args.archive).map_err(unreadable)?;
    if journals.is_empty() {
        return Err(Failure::message(Exit::Refused, format!("{shown} holds no journal")));
    }
    Ok(journals
        .into_iter()
        .map(|Journal { reader, instance, last: _ }| Subject::Journal {
            name: shown.clone(),
            instance,
            reader: Box::new(reader),
        })
        .collect())
}

/// The keys and checkpoints in these files.
pub(super) fn trust(keys: &[PathBuf], checkpoints: &[PathBuf]) -> Result<Trust, Failure> {
    let mut trust = Trust::default();
    for path in keys {
        for line in text(path)?.lines().filter(|line| !line.trim().is_empty()) {
            let key: VerifyingKey = line.trim().parse().map_err(|error| unusable(path, error))?;
            trust.keys.push(key);
        }
        if trust.keys.is_empty() {
            return Err(Failure::message(Exit::Usage, format!("{} holds no key", path.display())));
        }
    }
    for path in checkpoints {
        trust.checkpoints.extend(SignedCheckpoint::all_from(&text(path)?).map_err(|error| unusable(path, error))?);
    }
    Ok(trust)
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(Exit::Usage, anyhow::Error::new(error).context(format!("cannot use {}", path.display())))
}
