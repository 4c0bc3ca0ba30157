//! `holdfast keys import`: from keystores of other programs into custody.
//!
//! Guarantees: one bad keystore stops no other; a key that is decrypted is registered with the next
//! commit, so an interrupted import loses only work under way and can simply be run again; a key
//! that is here already costs no key derivation, and a history that comes for it is taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use eth2_keystore::{Keystore, MAX_FILE_BYTES};
use holdfast_domain::PublicKey;
use holdfast_enclave::Passphrase;
use holdfast_slashing_db::interchange::Interchange;
use holdfast_wire::admin::v1::import_keys_request::Part;
use holdfast_wire::admin::v1::{
    Histories, History, ImportKeysOptions, ImportKeysRequest, ImportKeysResponse, ImportStatus, KeyState, KeysToImport,
    KeystoreToImport, ListKeysRequest, Watermark,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::super::approvals;
use super::super::args::{ApprovalArgs, ImportArgs, WatermarkArg};
#[cfg(feature = "backend-enclave")]
use super::super::reach::into_enclave;
use super::super::reach::{Need, Reached, reach};
use super::super::{Context, Exit, Failure};
use super::discover::{Candidate, Discovery, discover};
use super::entry;
use super::listed;
use super::passwords::Passwords;
use super::report::{Report, Status};
use super::wallets;
use crate::admin::Place;
use crate::admin::convert::history_message;
use crate::custody;
use crate::outcome::chain;

/// Histories, or keys, in one message.
const PAGE: usize = 1_000;
/// Messages on their way at most: keystores hold passwords.
const WAITING: usize = 16;

/// A keystore to be sent.
struct Job {
    path: PathBuf,
    claimed: Option<PublicKey>,
    json: String,
    /// What it can be decrypted with; none if its key is here already.
    password: Option<Arc<Passphrase>>,
}

/// Who seals what is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealing {
    /// The running signer, or this process.
    Here,
    /// The vault in the configured enclave, under the data key with this commitment.
    #[cfg(feature = "backend-enclave")]
    Enclave(holdfast_enclave::DataKeyCommitment),
}

impl Sealing {
    async fn reach(self, context: &Context) -> Result<Reached, Failure> {
        match self {
            Self::Here => reach(context, Need::Make).await,
            #[cfg(feature = "backend-enclave")]
            Self::Enclave(named) => into_enclave(context, named).await,
        }
    }
}

/// Imports what is found.
pub(super) async fn run(args: &ImportArgs, context: &Context, sealing: Sealing) -> Result<Exit, Failure> {
    entry::check(args)?;
    if let Some(missing) = args.keystores.from.iter().find(|path| !path.exists()) {
        let message = format!("--from: there is no file or directory {}; check the path", missing.display());
        return Err(Failure::message(Exit::Usage, message));
    }
    let mut found = discover(&args.keystores.from, args.keystores.passwords_dir.as_deref());
    wallets::open(&mut found, &args.keystores, context.output)?;
    let total = found.candidates.len().saturating_add(found.skipped.len());
    if total == 0 {
        let places: Vec<String> = args.keystores.from.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::message(
            Exit::Usage,
            format!("no keystores in {}; name keystore files, or the directory that holds them", places.join(", ")),
        ));
    }
    let root = custody::chain(&context.config).await?.genesis_validators_root;
    let taken = entry::histories(args, root)?;
    bring(found, taken, args, context, sealing).await
}

/// Imports what was found, with what the keys have signed elsewhere. Of the arguments, those that say where to look and
/// where histories are do not count.
pub(super) async fn bring(
    found: Discovery,
    taken: Option<Interchange>,
    args: &ImportArgs,
    context: &Context,
    sealing: Sealing,
) -> Result<Exit, Failure> {
    let total = found.candidates.len().saturating_add(found.skipped.len());
    let mut passwords = Passwords::new(&args.keystores, context.output)?;
    let reached = sealing.reach(context).await?;
    let report = Report::new(reached.output, total);
    let options = ImportKeysOptions {
        watermark: match args.watermark {
            WatermarkArg::Now => Watermark::Now,
            WatermarkArg::NeverSigned => Watermark::NeverSigned,
            WatermarkArg::Interchange => Watermark::Interchange,
        }
        .into(),
        replace_tombstone: args.replace_tombstone,
        labels: args.labels.iter().map(ToString::to_string).collect(),
    };
    let histories = taken.iter().flat_map(|histories| {
        histories.iter().map(|(key, history)| (*key, history_message(key, history, histories.is_switched_off(key))))
    });
    let histories: BTreeMap<PublicKey, History> = histories.collect();
    let approval = Approval::new(args, context)?;
    let mut importer = Importer { reached, options, histories, report, here: BTreeSet::new(), approval };
    for skipped in &found.skipped {
        importer.report.key(Status::Error, None, Some(&skipped.path), Some(&skipped.reason))?;
    }
    let Sorted { coming, known } = importer.sort_out(found.candidates).await?;
    importer.ask(&coming).await?;
    let known = importer.prepare_known(known)?;
    let jobs = importer.prepare(coming, &mut passwords)?;
    let ended = importer.all(known, jobs).await;
    let by_server = matches!(importer.reached.admin.place, Place::Server(_));
    importer.reached.close().await;
    let ended = ended?;
    let exit = importer.report.finish();
    if ended == Rounds::Interrupted {
        let text = if by_server {
            "interrupted; the keys listed as imported are here, and the server still takes in those that it had begun with: run \
             the same command again for the rest"
        } else {
            "interrupted; the keys listed as imported are here, run the same command again for the rest"
        };
        return Err(Failure::message(Exit::Refused, text));
    }
    Ok(exit)
}

/// How the import of all keystores ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounds {
    Done,
    Interrupted,
}

/// What people may have to approve of an import.
struct Approval<'a> {
    args: &'a ApprovalArgs,
    context: &'a Context,
    /// Whether it may have to be approved at all.
    dangerous: bool,
    /// What they approved.
    carried: Option<String>,
    /// The keys that come in, if it may have to be approved.
    named: Vec<String>,
}

impl<'a> Approval<'a> {
    fn new(args: &'a ImportArgs, context: &'a Context) -> Result<Self, Failure> {
        let dangerous = args.replace_tombstone || args.watermark != WatermarkArg::Now;
        let carried = if dangerous { approvals::carried(&args.approval)? } else { None };
        Ok(Self { args: &args.approval, context, dangerous, carried, named: Vec::new() })
    }

    /// What goes before the keystores.
    fn parts(&self) -> Vec<Part> {
        let keys = self.named.chunks(PAGE).map(|page| Part::Keys(KeysToImport { pubkeys: page.to_vec() }));
        let pieces = self.carried.iter().flat_map(|text| approvals::pieces(text)).map(Part::Approval);
        keys.chain(pieces).collect()
    }
}

/// Keystores by whether their key is here already.
struct Sorted {
    /// It is not, or nothing says which it is.
    coming: Vec<Candidate>,
    /// It is, and there is a history of it: a keystore for each such key.
    known: Vec<(PublicKey, Candidate)>,
}

struct Importer<'a> {
    reached: Reached,
    options: ImportKeysOptions,
    /// What the keys have signed elsewhere.
    histories: BTreeMap<PublicKey, History>,
    report: Report,
    /// Keys in custody.
    here: BTreeSet<PublicKey>,
    approval: Approval<'a>,
}

impl Importer<'_> {
    /// Names the keys, and asks whether people must approve them, before anybody is asked for a password.
    async fn ask(&mut self, candidates: &[Candidate]) -> Result<(), Failure> {
        if !self.approval.dangerous || candidates.is_empty() {
            return Ok(());
        }
        let named: BTreeSet<PublicKey> = candidates.iter().filter_map(|candidate| candidate.claimed).collect();
        self.approval.named = named.iter().map(ToString::to_string).collect();
        if self.approval.carried.is_some() {
            return Ok(());
        }
        let parts: Vec<_> = self.before().into_iter().map(|part| ImportKeysRequest { part: Some(part) }).collect();
        let asked = async {
            let mut answers = self.reached.admin.keys().import(tokio_stream::iter(parts)).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        };
        match asked.await {
            Ok(()) => Ok(()),
            Err(status) => Err(self.refused(status).await),
        }
    }

    /// What goes before the keystores.
    fn before(&self) -> Vec<Part> {
        let histories = pages(self.histories.values());
        std::iter::once(Part::Options(self.options.clone())).chain(histories).chain(self.approval.parts()).collect()
    }

    /// What goes before keystores of keys that are here already: nothing that people may have to approve, as histories only
    /// add to protection.
    fn before_known(&self, known: &[Job]) -> Vec<Part> {
        let theirs = known.iter().filter_map(|job| self.histories.get(&job.claimed?));
        let options = ImportKeysOptions { watermark: Watermark::Now.into(), ..ImportKeysOptions::default() };
        std::iter::once(Part::Options(options)).chain(pages(theirs)).collect()
    }

    async fn refused(&self, status: tonic::Status) -> Failure {
        let Approval { args, context, .. } = &self.approval;
        approvals::refused(status, &self.reached.admin, args, context).await
    }

    /// Leaves out, and reports, keystores whose key is here already, if there is no history for it, or was deleted here.
    async fn sort_out(&mut self, candidates: Vec<Candidate>) -> Result<Sorted, Failure> {
        let mut deleted: BTreeSet<PublicKey> = BTreeSet::new();
        let all = ListKeysRequest { deleted: true, ..ListKeysRequest::default() };
        for key in listed(&self.reached.admin, all).await?.keys {
            let Ok(public_key) = key.pubkey.parse() else { continue };
            match key.state() {
                KeyState::Tombstoned => {
                    deleted.insert(public_key);
                }
                // A key without an origin is known by its history alone.
                _ if key.origin != 0 => {
                    self.here.insert(public_key);
                }
                _ => {}
            }
        }
        let (mut coming, mut known, mut named) = (Vec::new(), Vec::new(), BTreeSet::new());
        for candidate in candidates {
            match &candidate.claimed {
                Some(key) if self.here.contains(key) && self.histories.contains_key(key) && named.insert(*key) => {
                    known.push((*key, candidate));
                }
                Some(key) if self.here.contains(key) => {
                    self.report.key(Status::Duplicate, Some(key), Some(&candidate.path), Some(ALREADY_HERE))?;
                }
                Some(key) if deleted.contains(key) && !self.options.replace_tombstone => {
                    self.report.key(Status::Tombstoned, Some(key), Some(&candidate.path), Some(DELETED))?;
                }
                Some(_) | None => coming.push(candidate),
            }
        }
        Ok(Sorted { coming, known })
    }

    /// Reads the keystores of keys that are here already, which nobody decrypts; reports those that cannot be read.
    fn prepare_known(&mut self, known: Vec<(PublicKey, Candidate)>) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::with_capacity(known.len());
        for (key, candidate) in known {
            match read_keystore(&candidate) {
                Ok((_, json)) => {
                    jobs.push(Job { path: candidate.path, claimed: Some(key), json, password: None });
                }
                Err(reason) => self.report.key(Status::Error, Some(&key), Some(&candidate.path), Some(&reason))?,
            }
        }
        Ok(jobs)
    }

    /// Reads the keystores and their passwords; reports those that cannot be.
    fn prepare(&mut self, candidates: Vec<Candidate>, passwords: &mut Passwords<'_>) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let read = read_keystore(&candidate).and_then(|read| Ok((read, passwords.at(&candidate.password)?)));
            match read {
                Ok(((keystore, json), password)) => {
                    let claimed = keystore.pubkey().map(|key| PublicKey::from_bytes(key.to_bytes()));
                    jobs.push(Job { path: candidate.path, claimed, json, password: Some(password) });
                }
                Err(reason) => {
                    self.report.key(Status::Error, candidate.claimed.as_ref(), Some(&candidate.path), Some(&reason))?;
                }
            }
        }
        Ok(jobs)
    }

    /// Has the histories of keys that are here already taken in, then imports the others.
    async fn all(&mut self, known: Vec<Job>, jobs: Vec<Job>) -> Result<Rounds, Failure> {
        if !known.is_empty() {
            let before = self.before_known(&known);
            if self.round(before, known).await? == Rounds::Interrupted {
                return Ok(Rounds::Interrupted);
            }
        }
        self.rounds(jobs).await
    }

    /// Imports. Of several keystores that claim one key, the next is tried only if the one before failed: clients often
    /// hold the same keys several times with different passwords.
    async fn rounds(&mut self, jobs: Vec<Job>) -> Result<Rounds, Failure> {
        if self.approval.carried.is_some() {
            // What people approved is good for one round, so all are tried in that.
            return if jobs.is_empty() { Ok(Rounds::Done) } else { self.round(self.before(), jobs).await };
        }
        let mut pending = jobs;
        while !pending.is_empty() {
            let mut claimed_now = BTreeSet::new();
            let (now, later): (Vec<Job>, Vec<Job>) =
                pending.into_iter().partition(|job| job.claimed.is_none_or(|key| claimed_now.insert(key)));
            if self.round(self.before(), now).await? == Rounds::Interrupted {
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

    async fn round(&mut self, before: Vec<Part>, jobs: Vec<Job>) -> Result<Rounds, Failure> {
        let places: Vec<(PathBuf, Option<PublicKey>)> =
            jobs.iter().map(|job| (job.path.clone(), job.claimed)).collect();
        let (sender, parts) = mpsc::channel(WAITING);
        let sending = async move {
            let part = |part| ImportKeysRequest { part: Some(part) };
            let keystores = jobs.into_iter().zip(0_u64..).map(|(job, index)| {
                let password = job.password.map_or_else(Vec::new, |password| password.expose(<[u8]>::to_vec));
                part(Part::Keystore(KeystoreToImport { index, json: job.json, password }))
            });
            for message in before.into_iter().map(part).chain(keystores) {
                // A server that gave up says why.
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        };
        let mut client = self.reached.admin.keys();
        let receiving = async {
            let mut answers = match client.import(ReceiverStream::new(parts)).await {
                Ok(answers) => answers.into_inner(),
                Err(status) => return Err(self.refused(status).await),
            };
            loop {
                match answers.message().await {
                    Ok(Some(answer)) => self.answered(&answer, &places)?,
                    Ok(None) => return Ok(Rounds::Done),
                    Err(status) => return Err(self.refused(status).await),
                }
            }
        };
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Ok(Rounds::Interrupted),
            (ended, ()) = async { tokio::join!(receiving, sending) } => ended,
        }
    }

    fn answered(
        &mut self,
        answer: &ImportKeysResponse,
        places: &[(PathBuf, Option<PublicKey>)],
    ) -> Result<(), Failure> {
        let place = usize::try_from(answer.index).ok().and_then(|index| places.get(index));
        let Some((path, claimed)) = place else { return Ok(()) };
        let key = answer.pubkey.as_ref().and_then(|text| text.parse().ok()).or(*claimed);
        let (status, reason) = match answer.status() {
            ImportStatus::Imported => (Status::Imported, None),
            ImportStatus::SwitchedOff => (Status::Imported, Some(OFF)),
            ImportStatus::Duplicate => (Status::Duplicate, Some(answer.reason.as_deref().unwrap_or(ALREADY_HERE))),
            ImportStatus::Tombstoned => (Status::Tombstoned, Some(DELETED)),
            ImportStatus::AlreadySeen => (Status::Error, Some(SEEN)),
            ImportStatus::NoHistory => (Status::Error, Some(entry::NOT_LISTED)),
            ImportStatus::Error | ImportStatus::Unspecified => (Status::Error, answer.reason.as_deref()),
        };
        if matches!(status, Status::Imported | Status::Duplicate) {
            self.here.extend(key);
        }
        self.report.key(status, key.as_ref(), Some(path), reason)
    }
}

const OFF: &str = "it is switched off, as the history taken in before says; once it signs nowhere else, \
     `holdfast keys enable` lets it sign here";
const ALREADY_HERE: &str = "this key is held already; nothing was changed";
const SEEN: &str = "this key was here before, so --watermark never-signed is refused; use --watermark now";
const DELETED: &str = "this key was deleted here; make sure that it signs nowhere else, then give --replace-tombstone";

/// Histories as they are sent.
fn pages<'a>(histories: impl Iterator<Item = &'a History>) -> Vec<Part> {
    let all: Vec<History> = histories.cloned().collect();
    all.chunks(PAGE).map(|page| Part::Histories(Histories { histories: page.to_vec() })).collect()
}

fn read_keystore(candidate: &Candidate) -> Result<(Keystore, String), String> {
    use std::io::Read as _;
    if let Some(json) = &candidate.made {
        return Ok((Keystore::from_json(json.as_bytes()).map_err(|error| chain(&error))?, json.clone()));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser sees an excess.
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(&candidate.path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}; check its permissions"))?;
    let keystore = Keystore::from_json(&bytes).map_err(|error| chain(&error))?;
    // What parses as JSON is text.
    Ok((keystore, String::from_utf8_lossy(&bytes).into_owned()))
}
