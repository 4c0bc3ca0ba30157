//! `holdfast backup verify`: offline, and believing nothing that can be computed.

use std::path::{Path, PathBuf};

use holdfast_slashing_db::journal::Reader;
use holdfast_slashing_db::{SlashingDb, StoreOptions};
use serde_json::json;

use super::super::args::BackupVerifyArgs;
use super::super::{Context, Exit, Failure};
use super::manifest::{Content, DATABASE, FileEntry, MANIFEST, Manifest, files_below};
use crate::outcome::chain;

/// What verifying found.
#[derive(Default)]
pub(super) struct Verified {
    /// What is wrong, in words.
    pub(super) problems: Vec<String>,
    /// Entries of the journal that were verified.
    pub(super) entries: u64,
    /// Sequence number of the batch after which the database's journal begins: those before are in the archive.
    pub(super) journal_from: u64,
}

/// Verifies and prints.
pub(super) fn run(args: &BackupVerifyArgs, context: &Context) -> Result<Exit, Failure> {
    let (manifest, digest) = Manifest::read(&args.from)?;
    let mut verified = all(&args.from, &manifest);
    if let Some(expected) = args.manifest.as_ref().filter(|expected| !expected.eq_ignore_ascii_case(&digest)) {
        verified
            .problems
            .insert(0, format!("the manifest is {digest}, not {expected}: this is another backup, or it was changed"));
    }
    let good = verified.problems.is_empty();
    let content = manifest.content.as_ref();
    let text = if good {
        let what = content.map_or_else(
            || "no database in it".to_owned(),
            |content| {
                let keys = content.keys_enabled.saturating_add(content.keys_disabled);
                format!("{keys} keys, {} journal entries up to batch {}", verified.entries, content.journal_seq)
            },
        );
        format!("verified: {}, made {}, {} files, {what}", args.from.display(), manifest.created, manifest.files.len())
    } else {
        format!("DAMAGED: {}\n{}", args.from.display(), verified.problems.join("\n"))
    };
    context.output.result(
        text,
        &json!({
            "status": if good { "verified" } else { "damaged" }, "manifest": digest, "created": manifest.created,
            "network": manifest.network, "entries": verified.entries, "content": content, "problems": verified.problems,
        }),
    )?;
    if verified.journal_from > 0 {
        context.output.note(format!(
            "Journal batches up to {} were archived before; keep a copy of the archive, too.",
            verified.journal_from
        ));
    }
    if !good {
        context.output.note("Do not restore this. Make another backup, or use an older one.");
    }
    Ok(if good { Exit::Done } else { Exit::Refused })
}

/// Verifies a backup or fails with everything that is wrong.
///
/// # Errors
/// [`Failure`] (refused).
pub(super) fn required(from: &Path) -> Result<(Manifest, String), Failure> {
    let (manifest, digest) = Manifest::read(from)?;
    let problems = all(from, &manifest).problems;
    if problems.is_empty() {
        return Ok((manifest, digest));
    }
    let text =
        format!("the backup in {} does not verify, so nothing was done: {}", from.display(), problems.join("; "));
    Err(Failure::message(Exit::Refused, text))
}

/// Verifies every file, then the database.
fn all(backup: &Path, manifest: &Manifest) -> Verified {
    let mut problems = Vec::new();
    for expected in &manifest.files {
        match FileEntry::of(backup, &expected.name) {
            Err(error) => problems.push(format!("{}: cannot be read: {error}", expected.name)),
            Ok(found) if found.bytes != expected.bytes => {
                problems.push(format!("{}: has {} bytes instead of {}", expected.name, found.bytes, expected.bytes));
            }
            Ok(found) if found.sha256 != expected.sha256 => {
                problems.push(format!("{}: its content was changed (SHA-256 {})", expected.name, found.sha256));
            }
            Ok(_) => {}
        }
    }
    match files_below(backup) {
        Err(error) => problems.push(format!("the directory cannot be listed: {error}")),
        Ok(found) => {
            let known = |name: &PathBuf| {
                name == Path::new(MANIFEST) || manifest.files.iter().any(|file| Path::new(&file.name) == name)
            };
            problems.extend(
                found
                    .iter()
                    .filter(|name| !known(name))
                    .map(|name| format!("{}: is not in the manifest", name.display())),
            );
        }
    }
    // What SQLite would make of damaged bytes says nothing more.
    if !problems.is_empty() {
        return Verified { problems, ..Verified::default() };
    }
    database(backup, manifest)
}

/// Verifies the copy of the database: its pages, what the manifest says of it, and the chain of its journal.
pub(super) fn database(backup: &Path, manifest: &Manifest) -> Verified {
    let mut verified = Verified::default();
    let Some(content) = &manifest.content else { return verified };
    if let Err(problem) = examine(&backup.join(DATABASE), content, &mut verified) {
        verified.problems.push(format!("{DATABASE}: {problem}"));
    }
    verified
}

fn examine(path: &Path, content: &Content, verified: &mut Verified) -> Result<(), String> {
    let options = StoreOptions { path: path.to_owned() };
    SlashingDb::check_pages(&options).map_err(|error| chain(&error))?;
    let overview = SlashingDb::overview(&options).map_err(|error| chain(&error))?;
    if Content::of(&overview).as_ref() != Some(content) {
        return Err("holds something else than the manifest says".to_owned());
    }
    let mut reader = Reader::open(path).map_err(|error| chain(&error))?;
    verified.journal_from = reader.head().seq;
    for batch in reader.by_ref() {
        verified.entries = verified.entries.saturating_add(batch.map_err(|error| chain(&error))?.header.count);
    }
    let head = reader.head();
    if head.seq != content.journal_seq || head.hash.to_string() != content.journal_hash {
        return Err(format!("its journal ends at batch {} instead of {}", head.seq, content.journal_seq));
    }
    Ok(())
}
