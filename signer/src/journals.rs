//! Journals of the configured database, opened read-only: for commands that verify, and for the admin API, which sends
//! them. A running signer is not disturbed.

use std::path::PathBuf;

use holdfast_slashing_db::journal::{Batch, InstanceId, JournalError, Reader};

use crate::config::{Config, ConfigError, Database};
use crate::custody::{self, CustodyError};
use crate::glance;

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalsError {
    /// The database cannot be looked at.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The configuration names no database.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There are several, and none was named.
    #[error("several signers share this database; name one with --instance: {}", ids(.0))]
    Several(Vec<InstanceId>),
    /// There is none like that.
    #[error("there is no such journal; `holdfast slashing status` lists the instances")]
    None,
}

fn ids(instances: &[InstanceId]) -> String {
    instances.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A journal, from its first batch, or from the first one that is still there.
pub(crate) struct Journal {
    /// Its batches.
    pub(crate) reader: Reader,
    /// Whose it is.
    pub(crate) instance: InstanceId,
    /// Its last batch when it was opened.
    pub(crate) last: u64,
}

impl Journal {
    /// The journal of the configured database; of the one instance there is, if none is named. Blocks.
    ///
    /// # Errors
    /// [`JournalsError`].
    pub(crate) fn open(config: &Config, named: Option<InstanceId>) -> Result<Self, JournalsError> {
        custody::require_existing(config)?;
        let mut journals = journals(&config.database()?, config, &[])?;
        if let Some(instance) = named {
            journals.retain(|journal| journal.instance == instance);
        }
        match (journals.pop(), journals.len()) {
            (Some(journal), 0) => Ok(journal),
            (Some(last), _) => {
                Err(JournalsError::Several(journals.iter().chain([&last]).map(|journal| journal.instance).collect()))
            }
            (None, _) => Err(JournalsError::None),
        }
    }

    /// Its batches up to what was the end when it was opened, so that reading a busy journal ends.
    pub(crate) fn present(self) -> impl Iterator<Item = Result<Batch, JournalError>> {
        let last = self.last;
        self.reader.take_while(move |batch| batch.as_ref().map_or(true, |batch| batch.header.seq <= last))
    }
}

/// Every journal of a database, with its archived files. Blocks.
///
/// # Errors
/// [`JournalsError`].
pub(crate) fn journals(
    target: &Database,
    config: &Config,
    archives: &[PathBuf],
) -> Result<Vec<Journal>, JournalsError> {
    let overview = glance::overview(target, config)?;
    let mut found = Vec::new();
    for instance in overview.map(|overview| overview.instances).unwrap_or_default() {
        let reader = match target {
            Database::Sqlite(path) => Reader::open(path),
            #[cfg(feature = "store-postgres")]
            Database::Postgres(url) => Reader::open_postgres(&custody::postgres_options(url, config)?, instance.id),
            #[cfg(not(feature = "store-postgres"))]
            Database::Postgres(url) => {
                return Err(CustodyError::NothingHere { path: url.to_string().into() }.into());
            }
        };
        let reader = reader.and_then(|reader| with_archives(reader, config, archives))?;
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
