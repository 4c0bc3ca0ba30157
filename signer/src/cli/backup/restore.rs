//! `holdfast backup restore`.
//!
//! Guarantees: nothing that is there is written over. The database appears last, and without an anchor: from that
//! moment a start is frozen until a fence, so a restore that is cut short leaves nothing that signs. A restore that
//! ends well has put every key behind a fence at the present.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_enclave::durable::create_private_dir;
use holdfast_slashing_db::journal::{Event, EventKind};
use serde_json::json;

use super::super::args::BackupRestoreArgs;
use super::super::keys::operator;
use super::super::{Context, Exit, Failure};
use super::create::{copy_file, copy_kek};
use super::file_failure;
use super::manifest::{CONFIG, DATABASE, FileEntry, KEK, Manifest, POLICY};
use super::verify;
use crate::clock::SystemClock;
use crate::config::{Config, Database};
use crate::custody::{self, Custody, CustodyError};

/// Restores and prints what it means.
pub(super) async fn run(args: &BackupRestoreArgs, context: &Context) -> Result<Exit, Failure> {
    let (manifest, digest) = verify::required(&args.from)?;
    let restored = put_back(&args.from, args.kek_dir.as_deref(), (&manifest, &digest), &context.config).await?;
    let high = restored.custody.guard.high_watermarks().await.map_err(CustodyError::from);
    let keys = restored.custody.guard.active_keys().await.map_err(CustodyError::from).map(|keys| keys.len());
    restored.custody.guard.shutdown().await;
    let (high, keys) = (high?, keys?);
    let (slot, target) = (high.block.map(|slot| slot.0), high.target.map(|epoch| epoch.0));
    let dir = context.config.data_dir().display().to_string();
    let behind = match (slot, target) {
        (Some(slot), Some(target)) => {
            format!("blocks sign above slot {slot}, attestations above target epoch {target}")
        }
        (_, _) => "the chain has not begun, so there is nothing to be behind of".to_owned(),
    };
    context.output.result(
        format!("restored {keys} keys into {dir}, and fenced {}: {behind}.", restored.fenced),
        &json!({
            "data_dir": dir, "keys": keys, "fenced": restored.fenced, "block_slot": slot, "target_epoch": target,
            "backup_created": manifest.created, "manifest": digest,
        }),
    )?;
    let config = args.from.join(CONFIG).display().to_string();
    context.output.note(format!(
        "A backup does not know what was signed after it was made ({}). The fence makes that harmless: each key misses at \
         most about one epoch of attestations. It does NOT protect against a second signer: before you start this one, \
         make sure that the old one is stopped and stays stopped, and that nobody else has these keys. Keys are as they \
         were then: one that was switched off, deleted or exported since is enabled again, so look at `holdfast keys list` \
         and switch those off. The configuration of then is in {config}; it was not put back.",
        manifest.created
    ));
    if manifest.files.iter().any(|file| file.name == POLICY) {
        context.output.note(
            "The rules that were given through the admin API are in force again as they were then, in place of those of the \
             configuration: look at `holdfast policy show`.",
        );
    }
    if !context.config.kek_dir().is_dir() {
        context
            .output
            .note("kek/ was not in the backup: if the provider is \"file\", put its directory there before the start.");
    }
    Ok(Exit::Done)
}

/// What a restore made.
pub(super) struct Restored {
    /// The database, open.
    pub(super) custody: Custody,
    /// How many rows were fenced.
    pub(super) fenced: u64,
}

/// Copies a verified backup into the data directory of `config`, opens it and fences every key.
///
/// # Errors
/// [`Failure`]; if files were copied already, the data directory is frozen until `holdfast slashing fence`.
pub(super) async fn put_back(
    from: &Path,
    kek_dir: Option<&Path>,
    (manifest, digest): (&Manifest, &str),
    config: &Config,
) -> Result<Restored, Failure> {
    let database = place(manifest, config)?;
    let chain = custody::chain(config).await?;
    if chain.genesis_validators_root.to_string() != manifest.genesis_validators_root {
        let text = format!(
            "the backup is of {}, the configured network is {}; give --network {}",
            manifest.network, chain.network.name, manifest.network
        );
        return Err(Failure::message(Exit::Usage, text));
    }
    let dir = config.data_dir();
    create_private_dir(dir).map_err(|error| Failure::new(Exit::Refused, error))?;
    copy_kek(kek_dir.unwrap_or(&from.join(KEK)), &config.kek_dir())?;
    copy_file(&from.join("checkpoint.key"), &dir.join("checkpoint.key"))?;
    copy_file(&from.join(POLICY), &config.policy_file())?;
    copy_file(&from.join(DATABASE), &database)?;
    same_as_in(manifest, &database)?;
    let custody = custody::open_sealed(config, Arc::new(SystemClock)).await?;
    let fenced = fence(&custody, manifest, digest).await;
    match fenced {
        Ok(fenced) => Ok(Restored { custody, fenced }),
        Err(failure) => {
            custody.guard.shutdown().await;
            let text = format!("the files are back, but frozen until `holdfast slashing fence`: {}", failure.text());
            Err(Failure::message(failure.exit(), text))
        }
    }
}

/// Reads the database back from where it was put: what was verified is what was copied.
fn same_as_in(manifest: &Manifest, database: &Path) -> Result<(), Failure> {
    let (Some(dir), Some(name)) = (database.parent(), database.file_name()) else { return Ok(()) };
    let found = FileEntry::of(dir, &name.to_string_lossy()).map_err(|error| file_failure("read", database, error))?;
    let same = manifest.files.iter().any(|file| file.name == DATABASE && file.sha256 == found.sha256);
    if same {
        return Ok(());
    }
    let text = format!(
        "{} is not what is in the backup, and stays frozen: check the disk, delete the data directory and restore again",
        database.display()
    );
    Err(Failure::message(Exit::Refused, text))
}

async fn fence(custody: &Custody, manifest: &Manifest, digest: &str) -> Result<u64, Failure> {
    let fenced = custody.guard.fence(None, &operator()).await.map_err(CustodyError::from)?;
    let event = Event::new(custody.clock.now(), &operator(), EventKind::new("backup.restored"))
        .about("backup/restore")
        .detail(&format!("made {}, manifest {digest}, {fenced} rows fenced", manifest.created));
    custody.guard.record(event).await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Ok(fenced)
}

/// Where the database goes. Refuses what is there already, and a backup without a database.
fn place(manifest: &Manifest, config: &Config) -> Result<PathBuf, Failure> {
    if manifest.content.is_none() {
        return Err(Failure::message(
            Exit::Usage,
            "the database of this backup was on a server and is not in it: restore it there (pg_restore), copy kek/ \
             and, if there is one, policy.toml into the data directory, run `holdfast slashing fence`, then `holdfast backup \
             check`; see docs/runbooks/backup.md",
        ));
    }
    let Database::Sqlite(path) = config.database().map_err(CustodyError::from)? else {
        return Err(Failure::message(
            Exit::Usage,
            "the backup holds an SQLite database, but database.url names a server; restore without --database",
        ));
    };
    let dir = config.data_dir();
    let empty = |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if dir.exists() && !empty(dir) {
        let text = format!("{} is not empty, and a restore writes over nothing; give a new --data-dir", dir.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    if path.exists() {
        let text = format!("{} exists, and a restore writes over nothing", path.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    Ok(path)
}
