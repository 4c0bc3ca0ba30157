//! `holdfast keys import`: from keystores of other programs into custody.
//!
//! Guarantees: one bad keystore stops no other; a key that is decrypted is registered with the next
//! commit, so an interrupted import loses only work under way and can simply be run again; a key
//! that is here already costs no key derivation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use eth2_keystore::{Keystore, MAX_FILE_BYTES};
use holdfast_domain::PublicKey;
use holdfast_enclave::import::{Finished, Imported, KeystoreInput, SealFor, decrypt};
use holdfast_enclave::kdf::KdfBudget;
use holdfast_enclave::{DataKey, ImportError};
use holdfast_slashing_db::{KeyOrigin, KeyState, NewKey, RegisterError, Registered, Tombstone};
use tokio::sync::mpsc;

use super::super::args::ImportArgs;
use super::super::{Context, Exit, Failure};
use super::discover::{Candidate, discover};
use super::entry::{self, Entries};
use super::lowered;
use super::passwords::Passwords;
use super::report::{Report, Status};
use super::{open_direct, operator};
use crate::custody::{self, Custody, CustodyError, admin_exit};
use crate::outcome::chain;

/// Keys registered in one transaction at most.
const CHUNK: usize = 1_000;

/// A keystore that can be decrypted.
struct Job {
    path: PathBuf,
    claimed: Option<PublicKey>,
    input: KeystoreInput,
}

/// Imports what is found.
pub(super) async fn run(args: &ImportArgs, context: &Context) -> Result<Exit, Failure> {
    entry::check(args)?;
    if let Some(missing) = args.from.iter().find(|path| !path.exists()) {
        let message = format!("--from: there is no file or directory {}; check the path", missing.display());
        return Err(Failure::message(Exit::Usage, message));
    }
    let found = discover(&args.from, args.passwords_dir.as_deref());
    let total = found.candidates.len().saturating_add(found.skipped.len());
    if total == 0 {
        let places: Vec<String> = args.from.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::message(
            Exit::Usage,
            format!("no keystores in {}; name keystore files, or the directory that holds them", places.join(", ")),
        ));
    }
    let mut passwords = Passwords::new(args, context.output)?;
    let custody = open_direct(context).await?;
    let entries = Entries::new(args, custody.genesis_validators_root)?;
    let tombstone = if args.replace_tombstone { Tombstone::Replace } else { Tombstone::Refuse };
    let mut importer =
        Importer { custody, entries, tombstone, report: Report::new(context.output, total), here: BTreeSet::new() };
    for skipped in &found.skipped {
        importer.report.key(Status::Error, None, Some(&skipped.path), Some(&skipped.reason))?;
    }
    let candidates = importer.not_here(found.candidates).await?;
    let pending = lowered::examine(args, &candidates, &importer.entries, &importer.custody, context).await?;
    let candidates = if pending.by_people() { importer.named(candidates)? } else { candidates };
    let jobs = importer.prepare(candidates, &mut passwords)?;
    let mut interrupted = false;
    if !jobs.is_empty() {
        let data_key = importer.custody.ensure_data_key(&context.config).await?;
        let _cleared = pending.spend(&args.approval, context).await?;
        interrupted = importer.rounds(jobs, &data_key, &Arc::new(custody::kdf_budget(&context.config))).await?
            == Rounds::Interrupted;
    }
    importer.custody.guard.shutdown().await;
    let exit = importer.report.finish();
    if interrupted {
        return Err(Failure::message(
            Exit::Refused,
            "interrupted; the keys listed as imported are here, run the same command again for the rest",
        ));
    }
    Ok(exit)
}

/// How the decryption of all keystores ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounds {
    Done,
    Interrupted,
}

struct Importer {
    custody: Custody,
    entries: Entries,
    tombstone: Tombstone,
    report: Report,
    /// Keys in custody.
    here: BTreeSet<PublicKey>,
}

impl Importer {
    /// Leaves out, and reports, keystores whose key is here already or was deleted here.
    async fn not_here(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Failure> {
        let stored = self.custody.guard.active_keys().await.map_err(CustodyError::from)?;
        self.here = stored.iter().map(|key| *key.registration.key()).collect();
        let known = self.custody.guard.list().await.map_err(CustodyError::from)?;
        let deleted: BTreeSet<PublicKey> =
            known.iter().filter(|info| info.state == KeyState::Tombstoned).map(|info| info.key).collect();
        let mut left = Vec::new();
        for candidate in candidates {
            match &candidate.claimed {
                Some(key) if self.here.contains(key) => {
                    self.report.key(Status::Duplicate, Some(key), Some(&candidate.path), Some(ALREADY_HERE))?;
                }
                Some(key) if deleted.contains(key) && self.tombstone == Tombstone::Refuse => {
                    self.report.key(Status::Tombstoned, Some(key), Some(&candidate.path), Some(DELETED))?;
                }
                Some(_) | None => left.push(candidate),
            }
        }
        Ok(left)
    }

    /// Leaves out, and reports, keystores that do not say whose they are.
    fn named(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, Failure> {
        let (named, nameless): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|candidate| candidate.claimed.is_some());
        for candidate in nameless {
            self.report.key(Status::Error, None, Some(&candidate.path), Some(lowered::NAMELESS))?;
        }
        Ok(named)
    }

    /// Reads the keystores and their passwords; reports those that cannot be.
    fn prepare(&mut self, candidates: Vec<Candidate>, passwords: &mut Passwords<'_>) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let read = read_keystore(&candidate).and_then(|keystore| {
                let password = passwords.of(&candidate)?;
                Ok(KeystoreInput { keystore, password })
            });
            match read {
                Ok(input) => {
                    let claimed = input.keystore.pubkey().map(|key| PublicKey::from_bytes(key.to_bytes()));
                    jobs.push(Job { path: candidate.path, claimed, input });
                }
                Err(reason) => {
                    self.report.key(Status::Error, candidate.claimed.as_ref(), Some(&candidate.path), Some(&reason))?;
                }
            }
        }
        Ok(jobs)
    }

    /// Decrypts and registers. Of several keystores that claim one key, the next is tried only if the
    /// one before failed: clients often hold the same keys several times with different passwords.
    async fn rounds(
        &mut self,
        jobs: Vec<Job>,
        data_key: &Arc<DataKey>,
        budget: &Arc<KdfBudget>,
    ) -> Result<Rounds, Failure> {
        let mut pending = jobs;
        while !pending.is_empty() {
            let mut claimed_now = BTreeSet::new();
            let (now, later): (Vec<Job>, Vec<Job>) =
                pending.into_iter().partition(|job| job.claimed.is_none_or(|key| claimed_now.insert(key)));
            if self.round(now, data_key, budget).await? == Rounds::Interrupted {
                return Ok(Rounds::Interrupted);
            }
            pending = Vec::new();
            for job in later {
                match job.claimed.filter(|key| self.here.contains(key)) {
                    Some(key) => self.report.key(Status::Duplicate, Some(&key), Some(&job.path), Some(ALREADY_HERE))?,
                    None => pending.push(job),
                }
            }
        }
        Ok(Rounds::Done)
    }

    async fn round(
        &mut self,
        jobs: Vec<Job>,
        data_key: &Arc<DataKey>,
        budget: &Arc<KdfBudget>,
    ) -> Result<Rounds, Failure> {
        let mut places = Vec::with_capacity(jobs.len());
        let mut inputs = Vec::with_capacity(jobs.len());
        for job in jobs {
            places.push((job.path, job.claimed));
            inputs.push(job.input);
        }
        let (sender, mut receiver) = mpsc::channel::<Finished>(CHUNK);
        let (data_key, budget, network) =
            (Arc::clone(data_key), Arc::clone(budget), self.custody.genesis_validators_root);
        let work = tokio::task::spawn_blocking(move || {
            decrypt(&inputs, SealFor { data_key: &data_key, network }, &budget, |finished| {
                // Nobody receives any more after an interrupt.
                if sender.blocking_send(finished).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        });
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut ended = Rounds::Done;
        loop {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => {
                    ended = Rounds::Interrupted;
                    receiver.close();
                }
                received = receiver.recv_many(&mut chunk, CHUNK) => {
                    if received == 0 { break }
                    self.register(std::mem::take(&mut chunk), &places).await?;
                }
            }
        }
        match work.await {
            Ok(Ok(())) => Ok(ended),
            Ok(Err(error)) => Err(Failure::new(Exit::Unreachable, error)),
            Err(error) => Err(Failure::new(Exit::Bug, error)),
        }
    }

    /// Registers the keys of one chunk in one transaction, and reports all of it.
    async fn register(&mut self, chunk: Vec<Finished>, places: &[(PathBuf, Option<PublicKey>)]) -> Result<(), Failure> {
        let mut opened: BTreeMap<PublicKey, (usize, Imported)> = BTreeMap::new();
        for Finished { index, outcome, .. } in chunk {
            let Some((path, claimed)) = places.get(index) else { continue };
            match outcome {
                Err(error) => {
                    self.report.key(Status::Error, claimed.as_ref(), Some(path), Some(&reason(&error)))?;
                }
                Ok(imported) if opened.contains_key(&imported.public_key) => {
                    self.report.key(Status::Duplicate, Some(&imported.public_key), Some(path), Some(ALREADY_HERE))?;
                }
                Ok(imported) if self.entries.of(&imported.public_key).is_none() => {
                    self.report.key(Status::Error, Some(&imported.public_key), Some(path), Some(entry::NOT_LISTED))?;
                }
                Ok(imported) => {
                    opened.insert(imported.public_key, (index, imported));
                }
            }
        }
        // Every one has an entry, as those without were reported above.
        let entered =
            |imported: &Imported| self.entries.of(&imported.public_key).map(|entry| (new_key(imported), entry));
        let new_keys = opened.values().filter_map(|(_, imported)| entered(imported)).collect::<Vec<_>>();
        let results = match self.custody.guard.register_many(new_keys, self.tombstone).await {
            Ok(results) => results,
            Err(error) => {
                // The transaction failed: none of them is registered, and each is said to be missing.
                self.report.worsen(admin_exit(&error));
                let reason = chain(&error);
                for (key, (index, _)) in &opened {
                    let path = places.get(*index).map(|(path, _)| path.as_path());
                    self.report.key(Status::Error, Some(key), path, Some(&reason))?;
                }
                return Ok(());
            }
        };
        for ((key, (index, _)), result) in opened.iter().zip(results) {
            let path = places.get(*index).map(|(path, _)| path.as_path());
            match result {
                Ok(Registered::New(_)) => {
                    self.here.insert(*key);
                    self.report.key(Status::Imported, Some(key), path, None)?;
                }
                Ok(Registered::SwitchedOff(_)) => {
                    self.here.insert(*key);
                    self.report.key(Status::Imported, Some(key), path, Some(OFF))?;
                }
                Ok(Registered::Duplicate) => {
                    self.here.insert(*key);
                    self.report.key(Status::Duplicate, Some(key), path, Some(ALREADY_HERE))?;
                }
                Err(RegisterError::AlreadySeen) => self.report.key(Status::Error, Some(key), path, Some(SEEN))?,
                Err(RegisterError::Tombstoned) => {
                    self.report.key(Status::Tombstoned, Some(key), path, Some(DELETED))?;
                }
                Err(error) => self.report.key(Status::Error, Some(key), path, Some(&chain(&error)))?,
            }
        }
        Ok(())
    }
}

const OFF: &str = "it is switched off, because it was switched off in the signer whose history was taken in before; \
     once it signs nowhere else, `holdfast keys enable` lets it sign here";
const ALREADY_HERE: &str = "this key is held already; nothing was changed";
const SEEN: &str = "this key was here before, so --watermark never-signed is refused; use --watermark now";
const DELETED: &str = "this key was deleted here; make sure that it signs nowhere else, then give --replace-tombstone";

fn new_key(imported: &Imported) -> NewKey {
    NewKey {
        key: imported.public_key,
        sealed: imported.sealed.clone(),
        origin: KeyOrigin::Imported,
        label: None,
        registered_by: operator(),
    }
}

/// The keystore's own complaint without "cannot decrypt the keystore" in front of it.
fn reason(error: &ImportError) -> String {
    match error {
        ImportError::Keystore(error) => chain(error),
        error => chain(error),
    }
}

fn read_keystore(candidate: &Candidate) -> Result<Keystore, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser sees an excess.
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(&candidate.path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}; check its permissions"))?;
    Keystore::from_json(&bytes).map_err(|error| chain(&error))
}
