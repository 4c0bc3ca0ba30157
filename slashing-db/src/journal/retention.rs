//! Takes old batches out of the database, by way of archived files, without losing one or delaying a signature.
//!
//! Order: verify the batches as stored; write them to a file and make it durable; read the file back and verify
//! it; only then delete what was read back, in small transactions between batches, each of which leaves the number
//! and hash that the remaining rows follow. An interruption anywhere leaves the batches in the database, in a file,
//! or in both; the next run goes on with the file it finds. The last batches of a chain always stay, and the anchor
//! is flushed before each deletion, so that what it names is never archived.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use holdfast_domain::{PublicKey, UnixMillis};
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

use super::archive::{self, ArchiveFile, ArchiveWriter};
use super::{Head, InstanceId, JournalError, reader};
use crate::committer::{Command, Shared};
use crate::error::{ArchiveError, StoreError};
use crate::store::{Pruned, ReadStore, RowId};

/// Batches of every chain that always stay in the database.
pub const BATCHES_THAT_STAY: u64 = 1_000;

/// How soon after the start, and how often, old batches are looked for.
const FIRST_LOOK: Duration = Duration::from_mins(2);
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// A file holds no more batches, and hardly more bytes before compression, than this.
const FILE_BATCHES: u64 = 100_000;
const FILE_BYTES: u64 = 64 << 20;
/// Batches read at once.
const READ_BATCHES: usize = 64;
/// What one transaction deletes at most.
const PRUNE_BATCHES: u64 = 128;
const PRUNE_BYTES: usize = 256 << 10;
/// Of the time that reading, and that deleting takes, this many times as much is left to others afterwards.
const REST_AFTER_READING: u32 = 1;
const REST_AFTER_PRUNING: u32 = 9;
/// An instance seen within this time is at work, and may look after chains that nobody writes any more.
const AT_WORK_MILLIS: u64 = MILLIS_PER_DAY;
const MILLIS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// How long batches stay in the database, and where they go then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Whole days (UTC) that stay.
    pub keep_days: NonZeroU32,
    /// Folder of the archived files; made with mode 0700.
    pub archive: PathBuf,
}

/// What one look for old batches came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archived {
    /// Files written.
    pub files: u64,
    /// Batches taken out of the database.
    pub batches: u64,
}

/// What the archiver can be told.
pub(crate) enum Wake {
    Look(oneshot::Sender<Result<Archived, ArchiveError>>),
    Stop(oneshot::Sender<()>),
}

/// Why a look ends early although nothing is wrong with the journal.
enum Ended {
    /// The guard goes away.
    Closing,
    Failed(ArchiveError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(ArchiveError::Store(error))
    }
}

impl From<JournalError> for Ended {
    fn from(error: JournalError) -> Self {
        Self::Failed(ArchiveError::Journal(error))
    }
}

/// The thread that archives.
pub(crate) struct Archiver {
    pub(crate) retention: Retention,
    pub(crate) instance: InstanceId,
    pub(crate) shared: std::sync::Arc<Shared>,
    pub(crate) store: Box<dyn ReadStore>,
    pub(crate) commands: WeakSender<Command>,
    pub(crate) queue: Receiver<Wake>,
    /// Looks that were asked for during another.
    pub(crate) waiting: Vec<oneshot::Sender<Result<Archived, ArchiveError>>>,
    /// Told to stop during a look.
    pub(crate) stopping: Option<oneshot::Sender<()>>,
}

impl Archiver {
    /// Looks for old batches now and then, and when asked, until the guard goes away.
    pub(crate) fn run(mut self) {
        step_back();
        let mut next = FIRST_LOOK;
        loop {
            let asked = match self.waiting.pop() {
                Some(reply) => Some(reply),
                None => match self.queue.recv_timeout(next) {
                    Ok(Wake::Look(reply)) => Some(reply),
                    Ok(Wake::Stop(stopped)) => return self.stop(stopped),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
            };
            next = LOOK_EVERY;
            let mut done = Archived::default();
            match self.look(&mut done) {
                Ok(()) => self.report(asked, Ok(done)),
                Err(Ended::Failed(error)) => self.report(asked, Err(error)),
                Err(Ended::Closing) => {
                    if let Some(stopped) = self.stopping.take() {
                        self.stop(stopped);
                    }
                    return;
                }
            }
        }
    }

    fn stop(self, stopped: oneshot::Sender<()>) {
        drop(self);
        // Whoever asked may have gone.
        let _ = stopped.send(());
    }

    fn report(
        &self,
        asked: Option<oneshot::Sender<Result<Archived, ArchiveError>>>,
        result: Result<Archived, ArchiveError>,
    ) {
        match &result {
            Ok(done) if done.batches > 0 => {
                tracing::info!(batches = done.batches, files = done.files, "old journal batches were archived");
            }
            Ok(_) => {}
            Err(error) => {
                self.shared.metrics.archive_failures.inc();
                let error: &dyn std::error::Error = error;
                tracing::warn!(
                    error,
                    "old journal batches were not archived; they stay in the database, nothing is lost"
                );
            }
        }
        if let Some(asked) = asked {
            drop(asked.send(result));
        }
    }

    /// One look at every chain that is ours to look after.
    fn look(&mut self, done: &mut Archived) -> Result<(), Ended> {
        let now = self.shared.settings.clock.now();
        let keep = u64::from(self.retention.keep_days.get()).saturating_mul(MILLIS_PER_DAY);
        let day = now.0.saturating_sub(keep) / MILLIS_PER_DAY;
        let cutoff = UnixMillis(day.saturating_mul(MILLIS_PER_DAY));
        for chain in self.chains(now, cutoff)? {
            while self.archive_some(chain, cutoff, done)? {}
        }
        Ok(())
    }

    /// Our own chain, and those of instances that have been silent for as long as batches are kept, if we are
    /// first among the instances at work. Should two take themselves for the first, one of them finds the
    /// other's work done and stops.
    fn chains(&mut self, now: UnixMillis, cutoff: UnixMillis) -> Result<Vec<InstanceId>, Ended> {
        let mut chains = vec![self.instance];
        let instances = self.store.instances()?;
        let others = || instances.iter().filter(|other| other.id != self.instance);
        let first = others().all(|other| {
            let at_work = other.last_seen.0.saturating_add(AT_WORK_MILLIS) >= now.0;
            !at_work || other.id.0 > self.instance.0
        });
        if first {
            chains.extend(others().filter(|other| other.last_seen < cutoff).map(|other| other.id));
        }
        Ok(chains)
    }

    /// Archives one file's worth of a chain. False if there was nothing to do.
    fn archive_some(&mut self, chain: InstanceId, cutoff: UnixMillis, done: &mut Archived) -> Result<bool, Ended> {
        let base = self.store.journal_base(chain)?;
        let end = self.store.journal_head(chain)?;
        let newest = end.seq.saturating_sub(BATCHES_THAT_STAY);
        if newest <= base.seq {
            return Ok(false);
        }
        let file = if let Some(file) = self.found(chain, base, newest)? {
            file
        } else {
            let limit = newest.min(base.seq.saturating_add(FILE_BATCHES));
            let Some(upto) = self.store.last_before(chain, base.seq, limit, cutoff)? else { return Ok(false) };
            done.files = done.files.saturating_add(1);
            self.write(chain, base, upto)?
        };
        self.prune(chain, base, &file, done)?;
        Ok(true)
    }

    /// A file of an earlier look that holds the batches after `base` as the database has them.
    fn found(&mut self, chain: InstanceId, base: Head, newest: u64) -> Result<Option<PathBuf>, Ended> {
        let listed = archive::list(&self.retention.archive, chain).map_err(|error| self.failed(error))?;
        for file in listed {
            let covers = file.first.saturating_sub(1) <= base.seq && base.seq < file.last.seq;
            if !covers || file.last.seq > newest {
                continue;
            }
            let stored = self.store.batches_after(chain, file.last.seq.saturating_sub(1), 1)?.pop();
            if stored.is_some_and(|(header, _)| header.as_head() == file.last) && whole(&file.path, base) {
                return Ok(Some(file.path));
            }
        }
        Ok(None)
    }

    /// Verifies the batches after `base`, up to `upto` or until the file is full, and writes them to a file.
    fn write(&mut self, chain: InstanceId, base: Head, upto: u64) -> Result<PathBuf, Ended> {
        let created = ArchiveWriter::create(&self.retention.archive, self.instance, chain, base);
        let mut file = created.map_err(|error| self.failed(error))?;
        let mut keys: HashMap<RowId, PublicKey> = HashMap::new();
        while file.last().seq < upto && file.bytes() < FILE_BYTES {
            let started = Instant::now();
            let wanted = usize::try_from(upto.saturating_sub(file.last().seq)).unwrap_or(READ_BATCHES);
            let stored = self.store.batches_after(chain, file.last().seq, wanted.min(READ_BATCHES))?;
            if stored.is_empty() {
                return Err(JournalError::Gap { expected: file.last().seq.saturating_add(1), found: upto }.into());
            }
            for (header, entries) in stored {
                let mut used = Vec::new();
                reader::verify(&file.last(), &header, &entries, |id| {
                    let key = reader::key_of(self.store.as_mut(), &mut keys, id)?;
                    used.extend(key.map(|key| (id, key)));
                    Ok(key)
                })?;
                file.batch(&header, &entries, &used).map_err(|error| self.failed(error))?;
            }
            self.rest(started.elapsed().saturating_mul(REST_AFTER_READING))?;
        }
        file.finish().map_err(|error| self.failed(error))
    }

    /// Reads a file back, and deletes what was read from the database.
    fn prune(
        &mut self,
        chain: InstanceId,
        base: Head,
        file: &std::path::Path,
        done: &mut Archived,
    ) -> Result<(), Ended> {
        let mut from = base;
        for upto in stops(file, base)? {
            let started = Instant::now();
            let Some(commands) = self.commands.upgrade() else { return Err(Ended::Closing) };
            let (reply, answer) = oneshot::channel();
            let sent = commands.blocking_send(Command::Prune { chain, from, upto, reply });
            drop(commands);
            let Ok(Ok(pruned)) = sent.map(|()| answer.blocking_recv()) else { return Err(Ended::Closing) };
            match pruned? {
                Pruned::Done => {}
                Pruned::Moved => return Err(Ended::Failed(ArchiveError::Moved { chain })),
                Pruned::Unsettled => return Err(Ended::Failed(ArchiveError::Unsettled)),
            }
            let batches = upto.seq.saturating_sub(from.seq);
            done.batches = done.batches.saturating_add(batches);
            self.shared.metrics.archived_batches.inc_by(batches);
            from = upto;
            self.rest(started.elapsed().saturating_mul(REST_AFTER_PRUNING))?;
        }
        Ok(())
    }

    /// Leaves the machine and the database to others for a while.
    fn rest(&mut self, pause: Duration) -> Result<(), Ended> {
        let end = Instant::now().checked_add(pause);
        loop {
            let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
            match self.queue.recv_timeout(left) {
                Ok(Wake::Look(reply)) => self.waiting.push(reply),
                Ok(Wake::Stop(stopped)) => {
                    self.stopping = Some(stopped);
                    return Err(Ended::Closing);
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Ended::Closing),
            }
        }
    }

    fn failed(&self, source: std::io::Error) -> Ended {
        Ended::Failed(ArchiveError::Folder { path: self.retention.archive.clone(), source })
    }
}

/// Whether a file verifies from the first to the last batch and agrees with `base`.
fn whole(path: &std::path::Path, base: Head) -> bool {
    let checked = stops(path, base);
    if let Err(error) = &checked {
        let error: &dyn std::error::Error = error;
        tracing::warn!(error, path = %path.display(), "an archived file cannot be used; its batches are archived again");
    }
    checked.is_ok()
}

/// Reads a whole file and says where to stop on the way from `base` to its end, so that each step is small.
fn stops(path: &std::path::Path, base: Head) -> Result<Vec<Head>, JournalError> {
    let file = ArchiveFile::open(path)?;
    let mut reached = (file.before() == base).then_some(base);
    let (mut stops, mut batches, mut bytes) = (Vec::new(), 0u64, 0usize);
    for batch in file {
        let batch = batch?;
        let head = batch.header.as_head();
        if reached.is_none() {
            reached = (head == base).then_some(base);
            continue;
        }
        batches = batches.saturating_add(1);
        bytes = bytes.saturating_add(batch.stored_bytes);
        reached = Some(head);
        if batches >= PRUNE_BATCHES || bytes >= PRUNE_BYTES {
            stops.push(head);
            (batches, bytes) = (0, 0);
        }
    }
    if batches > 0 {
        stops.extend(reached);
    }
    if stops.is_empty() {
        return Err(JournalError::ChainBroken { seq: base.seq.saturating_add(1) });
    }
    Ok(stops)
}

/// Gives way to every other thread of the process.
fn step_back() {
    // Elsewhere this would slow the whole process down. Failure costs a little speed.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
}

/// The way to the archiver.
pub(crate) type Waker = Sender<Wake>;
