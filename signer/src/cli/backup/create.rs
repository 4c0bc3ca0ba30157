//! `holdfast backup create`.
//!
//! Guarantees: the directory has its name only when everything in it is on disk and was read back; a backup that is
//! cut short leaves a directory with another name and without a manifest, and nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};

use holdfast_domain::Clock as _;
use holdfast_enclave::durable::{Existing, create_private_dir, publish_dir, stream_private_file, write_private_file};
use holdfast_slashing_db::{SlashingDb, StoreOptions};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::super::args::BackupCreateArgs;
use super::super::{Context, Exit, Failure};
use super::file_failure;
use super::manifest::{CONFIG, Content, DATABASE, FileEntry, KEK, MANIFEST, Manifest, POLICY, files_below};
use super::verify;
use crate::clock::{Stopwatch, SystemClock, rfc3339};
use crate::config::Database;
use crate::custody::{self, CustodyError};
use crate::outcome;
use crate::upkeep;

/// The files of a data directory that go along if they are there, next to the database and `kek/`. The anchor is a
/// witness of where the journal ended, and is never put back.
const ALONG: [&str; 3] = ["anchor", "checkpoint.key", POLICY];

/// Backs everything up.
pub(super) async fn run(args: &BackupCreateArgs, context: &Context) -> Result<Exit, Failure> {
    if args.to.exists() {
        let text = format!("--to: {} exists; a backup gets a new directory", args.to.display());
        return Err(Failure::message(Exit::Usage, text));
    }
    custody::require_existing(&context.config)?;
    let chain = custody::chain(&context.config).await?;
    let database = context.config.database().map_err(CustodyError::from)?;
    let created = rfc3339(SystemClock.now());
    let root = chain.genesis_validators_root.to_string();
    let manifest = Manifest::new(created, &chain.network.name, root, database.to_string());
    let partial = Partial::new(&args.to)?;
    let watch = Stopwatch::start();
    let (digest, manifest) = fill(partial.path(), args, manifest, &database, context)?;
    partial.publish(&args.to)?;
    if let Err(error) = upkeep::backed_up(context.config.data_dir(), SystemClock.now(), &digest) {
        let problem = outcome::chain(&error);
        context.output.note(format!("The backup is complete, but no metric and no alert will know of it: {problem}"));
    }
    say(args, context, &manifest, &digest, watch.seconds())?;
    Ok(Exit::Done)
}

/// A directory that is being filled. It is deleted unless it was published.
struct Partial(Option<PathBuf>);

impl Partial {
    fn new(to: &Path) -> Result<Self, Failure> {
        let named =
            to.file_name().filter(|_| !to.parent().is_some_and(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()));
        let Some(name) = named else {
            let text = format!("--to: {} is not a new name in a directory that exists; check the path", to.display());
            return Err(Failure::message(Exit::Usage, text));
        };
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Failure::new(Exit::Unreachable, error))?;
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}.partial", hex::encode(random)));
        let path = to.with_file_name(partial);
        create_private_dir(&path).map_err(|error| Failure::new(Exit::Refused, error))?;
        Ok(Self(Some(path)))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn publish(mut self, to: &Path) -> Result<(), Failure> {
        publish_dir(self.path(), to).map_err(|error| Failure::new(Exit::Refused, error))?;
        self.0 = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It has no manifest or no name, so nobody takes it for a backup.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Copies everything, verifies the copy, and writes the manifest last. Returns its digest.
fn fill(
    to: &Path,
    args: &BackupCreateArgs,
    mut manifest: Manifest,
    database: &Database,
    context: &Context,
) -> Result<(String, Manifest), Failure> {
    let data_dir = context.config.data_dir();
    // The anchor first: what it names is in the database then.
    for name in ALONG {
        copy_file(&data_dir.join(name), &to.join(name))?;
    }
    if !args.without_provider_state {
        copy_kek(&context.config.kek_dir(), &to.join(KEK))?;
    }
    let config = toml::to_string(&context.config).map_err(|error| Failure::new(Exit::Bug, error))?;
    write_private_file(&to.join(CONFIG), config.as_bytes(), Existing::Refuse)
        .map_err(|error| Failure::new(Exit::Refused, error))?;
    if let Database::Sqlite(path) = database {
        let options = StoreOptions { path: path.clone() };
        SlashingDb::copy(&options, &to.join(DATABASE)).map_err(CustodyError::from)?;
        let copied = StoreOptions { path: to.join(DATABASE) };
        let overview = SlashingDb::overview(&copied).map_err(CustodyError::from)?;
        manifest.content = Content::of(&overview);
    }
    for name in files_below(to).map_err(|error| file_failure("list", to, error))? {
        let name = name.display().to_string();
        manifest.files.push(FileEntry::of(to, &name).map_err(|error| file_failure("read", &to.join(&name), error))?);
    }
    if let Some(problem) = verify::database(to, &manifest).problems.first() {
        let text = format!("the copy of the database does not verify, so there is no backup: {problem}");
        return Err(Failure::message(Exit::Refused, text));
    }
    let text = manifest.to_text()?;
    write_private_file(&to.join(MANIFEST), text.as_bytes(), Existing::Refuse)
        .map_err(|error| Failure::new(Exit::Refused, error))?;
    Ok((hex::encode(Sha256::digest(text.as_bytes())), manifest))
}

/// Copies the files of provider state, if there are any.
pub(super) fn copy_kek(from: &Path, to: &Path) -> Result<(), Failure> {
    if !from.is_dir() {
        return Ok(());
    }
    create_private_dir(to).map_err(|error| Failure::new(Exit::Refused, error))?;
    for name in files_below(from).map_err(|error| file_failure("list", from, error))? {
        if let Some(above) = to.join(&name).parent() {
            create_private_dir(above).map_err(|error| Failure::new(Exit::Refused, error))?;
        }
        copy_file(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Copies a file, durably and privately, if it is there.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut source = match File::open(from) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file_failure("read", from, error)),
    };
    stream_private_file(to, Existing::Refuse, |file| std::io::copy(&mut source, file).map(drop))
        .map_err(|error| Failure::new(Exit::Refused, error))
}

fn say(
    args: &BackupCreateArgs,
    context: &Context,
    manifest: &Manifest,
    digest: &str,
    seconds: f64,
) -> Result<(), Failure> {
    let has_kek = manifest.files.iter().any(|file| file.name.starts_with("kek/"));
    let content = manifest.content.as_ref();
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    let what = content.map_or_else(
        || "without a database".to_owned(),
        |content| {
            format!(
                "{} keys, journal up to batch {}",
                content.keys_enabled.saturating_add(content.keys_disabled),
                content.journal_seq
            )
        },
    );
    context.output.result(
        format!("backup: {} ({what}, {bytes} bytes, {seconds:.1} s)\nmanifest SHA-256: {digest}", args.to.display()),
        &json!({
            "backup": args.to.display().to_string(), "manifest": digest, "bytes": bytes, "seconds": seconds,
            "provider_state": has_kek, "content": content,
        }),
    )?;
    if content.is_none() {
        context.output.note(format!(
            "The database is on a server, so it is not in here: back it up there, for example with\n  pg_dump --format=custom \
             --file=holdfast.dump DATABASE    ({})\nor with continuous archiving. After a restore: `holdfast slashing fence`, \
             then `holdfast backup check --restored-at SECONDS`, then start the signers. See docs/runbooks/backup.md.",
            manifest.database
        ));
    }
    context.output.note(if has_kek {
        "It holds the sealed keys and kek/, which opens them: keep it as you keep the data directory. Keep the SHA-256 \
         elsewhere: `backup verify --manifest` compares."
    } else {
        "kek/ is not in it: keep what opens the keys elsewhere. Keep the SHA-256 elsewhere, too: `backup verify \
         --manifest` compares."
    });
    context.output.note("Try it now: `holdfast backup drill --from DIR` opens every key in it.");
    Ok(())
}
