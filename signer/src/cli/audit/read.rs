//! Which journals and files a command reads, opened read-only.

use std::fs::File;
use std::path::{Path, PathBuf};

use holdfast_audit::checkpoint::{SignedCheckpoint, VerifyingKey};
use holdfast_audit::verify::Trust;
use holdfast_slashing_db::journal::{InstanceId, JournalError, Reader};

use super::super::args::AuditVerifyArgs;
use super::super::{Context, Exit, Failure, status};
use crate::config::{Config, Database, DatabaseUrl};
use crate::custody;

/// A journal, from its first batch, or from the first one that is still there.
pub(super) struct Journal {
    /// Its batches.
    pub(super) reader: Reader,
    /// Whose it is.
    pub(super) instance: InstanceId,
    /// Its last batch when it was opened.
    pub(super) last: u64,
}

impl Journal {
    /// The journal of the configured database; of the one instance there is, if none is named.
    pub(super) fn open(config: &Config, named: Option<InstanceId>) -> Result<Self, Failure> {
        custody::require_existing(config)?;
        let mut journals = journals(&config.database()?, config, &[])?;
        if let Some(instance) = named {
            journals.retain(|journal| journal.instance == instance);
        }
        match (journals.pop(), journals.len()) {
            (Some(journal), 0) => Ok(journal),
            (Some(last), _) => {
                let ids: Vec<String> =
                    journals.iter().chain([&last]).map(|journal| journal.instance.to_string()).collect();
                let text = format!("several signers share this database; name one with --instance: {}", ids.join(", "));
                Err(Failure::message(Exit::Usage, text))
            }
            (None, _) => {
                let text = "there is no such journal; `holdfast slashing status` lists the instances";
                Err(Failure::message(Exit::Usage, text))
            }
        }
    }
}

/// Every journal of a database, with its archived files.
fn journals(target: &Database, config: &Config, archives: &[PathBuf]) -> Result<Vec<Journal>, Failure> {
    let overview = status::overview(target, config)?;
    let mut found = Vec::new();
    for instance in overview.map(|overview| overview.instances).unwrap_or_default() {
        let reader = match target {
            Database::Sqlite(path) => Reader::open(path),
            #[cfg(feature = "store-postgres")]
            Database::Postgres(url) => Reader::open_postgres(&custody::postgres_options(url, config)?, instance.id),
            #[cfg(not(feature = "store-postgres"))]
            Database::Postgres(url) => {
                return Err(custody::CustodyError::NothingHere { path: url.to_string().into() }.into());
            }
        };
        let reader = reader.and_then(|reader| with_archives(reader, config, archives)).map_err(unreadable)?;
        found.push(Journal { reader, instance: instance.id, last: instance.head.seq });
    }
    Ok(found)
}

/// With the archived files, if batches were archived and a folder is known: what is left in the database alone
/// verifies, too, but shows only that.
fn with_archives(reader: Reader, config: &Config, named: &[PathBuf]) -> Result<Reader, JournalError> {
    if reader.head().seq == 0 {
        return Ok(reader);
    }
    let usual = config.journal.archive.clone().unwrap_or_else(|| config.data_dir().join("journal"));
    let folders = if named.is_empty() { vec![usual] } else { named.to_vec() };
    if named.is_empty() && !folders.iter().any(|folder| folder.is_dir()) {
        return Ok(reader);
    }
    reader.with_archive(&folders)
}

fn unreadable(error: JournalError) -> Failure {
    let exit = match &error {
        JournalError::Open { .. } => Exit::Unreachable,
        _ => Exit::Refused,
    };
    Failure::new(exit, error)
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
    let journals = journals(&target, &context.config, &args.archive)?;
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
