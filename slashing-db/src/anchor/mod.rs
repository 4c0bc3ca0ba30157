//! The anchor: a small file outside the database that remembers the end of the journal.
//!
//! A hash chain shows every change except that its end was cut off, and a restored copy is a chain without
//! its end. The anchor names the last batch that was acknowledged, the database it is in, and whether that
//! database is under suspicion. It is written after a commit and before the first reply, without a flush of
//! its own, and flushed on a schedule and at shutdown. So it is never ahead of what is durable, and after the
//! mere end of a process never behind what was acknowledged; only a power cut can leave it behind.
//!
//! Once suspicion is written here it stays, whatever database is put in place, until a fence takes it away.

mod file;
mod landmarks;
mod record;

use core::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_domain::{GenesisValidatorsRoot, UnixMillis};

use crate::error::OpenError;
use crate::journal::{Head, InstanceId};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::overview::{AnchorRecord, AnchorView};
use crate::store::{Load, Store};
use file::{AnchorFile, Found};
use record::Record;

pub(crate) use landmarks::Landmarks;
#[cfg(feature = "postgres")]
pub(crate) use landmarks::Peer;

/// How long the newest mark may stay unflushed when nobody waits, and when somebody does.
const FLUSH_WHEN_IDLE: Duration = Duration::from_secs(1);
const FLUSH_WHEN_BUSY: Duration = Duration::from_secs(10);

/// What tells a database from a copy of it, as its store describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabaseIdentity(String);

impl DatabaseIdentity {
    /// Longest description kept, in bytes.
    const MAX_BYTES: usize = 200;

    /// Takes a description, without line breaks and cut to a bounded length.
    pub(crate) fn new(description: impl AsRef<str>) -> Self {
        let mut kept = String::new();
        for character in description.as_ref().chars().filter(|character| !character.is_control()) {
            if kept.len().saturating_add(character.len_utf8()) > Self::MAX_BYTES {
                break;
            }
            kept.push(character);
        }
        Self(kept)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What makes a database suspect of having lost acknowledged writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RollbackKind {
    /// The journal ends before the batch that was acknowledged last.
    JournalShorter,
    /// The batch that was acknowledged last is another one here.
    JournalDiffers,
    /// The journal moved while this process had the database open.
    JournalMoved,
    /// The file is not the one that was used last, but a copy of it.
    Copied,
    /// Another database.
    OtherDatabase,
    /// Batches that another instance had written are not in the shared database any more.
    PeerLost,
    /// The server's log ends before a place that it had reached.
    ServerBehind,
    /// Another server took over, or a backup was recovered, and commits had not waited for a standby.
    Promoted,
    /// Another instance on the shared database suspects it, and has written so into it. Never in an anchor: it is that
    /// instance's to remember.
    PeerSuspects,
    /// There is no anchor, but there are records.
    AnchorMissing,
    /// The anchor cannot be read.
    AnchorUnreadable,
}

impl RollbackKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::JournalShorter,
        Self::JournalDiffers,
        Self::JournalMoved,
        Self::Copied,
        Self::OtherDatabase,
        Self::PeerLost,
        Self::ServerBehind,
        Self::Promoted,
        Self::PeerSuspects,
        Self::AnchorMissing,
        Self::AnchorUnreadable,
    ];

    /// Stable word for metric labels, JSON and the anchor file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JournalShorter => "journal_shorter",
            Self::JournalDiffers => "journal_differs",
            Self::JournalMoved => "journal_moved",
            Self::Copied => "database_copied",
            Self::OtherDatabase => "other_database",
            Self::PeerLost => "peer_journal_lost",
            Self::ServerBehind => "server_behind",
            Self::Promoted => "server_promoted",
            Self::PeerSuspects => "peer_suspects",
            Self::AnchorMissing => "anchor_missing",
            Self::AnchorUnreadable => "anchor_unreadable",
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::JournalShorter => "the database has lost batches that were acknowledged; an older copy was restored",
            Self::JournalDiffers => "the last acknowledged batch is another one in this database; it is another copy",
            Self::JournalMoved => "the journal changed behind the back of the running process",
            Self::Copied => "the database is a copy of the one used last; the other copy may be newer, or in use",
            Self::OtherDatabase => "this is another database than the one used last with this data directory",
            Self::PeerLost => "batches of another instance on this database are gone; an older copy was restored",
            Self::ServerBehind => "the database server's log ends before where it had been; an older copy was restored",
            Self::Promoted => {
                "the database server is a promoted standby or a recovered backup, and commits had not waited for a \
                 synchronous standby, so it may lack what any instance wrote last"
            }
            Self::PeerSuspects => {
                "another instance on this database noticed that acknowledged batches may be missing, and wrote so into it"
            }
            Self::AnchorMissing => "the anchor file is missing, so nothing shows that the database is up to date",
            Self::AnchorUnreadable => "the anchor file is damaged, so nothing shows that the database is up to date",
        }
    }
}

impl fmt::Display for RollbackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

/// A database under suspicion: slashable messages are signed only for keys fenced since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspicion {
    /// What was noticed.
    pub kind: RollbackKind,
    /// When; nothing slashable was signed since, except for keys that were fenced.
    pub since: UnixMillis,
    /// Where the journal should have ended; `None` without a readable anchor.
    pub expected: Option<Head>,
    /// Where it ended.
    pub found: Head,
}

/// The database as it was found.
struct Present {
    instance: InstanceId,
    root: GenesisValidatorsRoot,
    database: DatabaseIdentity,
    head: Head,
    landmarks: Option<Landmarks>,
}

/// An anchor in use.
pub(crate) struct Anchor {
    file: AnchorFile,
    record: Record,
    /// Set while the newest mark is not flushed.
    unflushed: bool,
    last_flush: Instant,
    failing: bool,
}

impl Anchor {
    /// Opens or makes the anchor, compares it with the database, and writes down what came out.
    pub(crate) fn attach(
        path: &Path,
        store: &mut dyn Store,
        instance: InstanceId,
        root: GenesisValidatorsRoot,
        now: UnixMillis,
    ) -> Result<Self, OpenError> {
        let database = |source| OpenError::Database {
            action: "compare the anchor with the database",
            path: path.to_owned(),
            source: Box::new(source),
        };
        let identity = store.identity().map_err(database)?;
        let landmarks = store.landmarks().cloned();
        let present = Present { instance, root, database: identity, head: store.head(), landmarks };
        let pristine = store.is_pristine().map_err(database)?;
        let (file, found) = AnchorFile::open(path)?;
        let mut record = Record {
            generation: 0,
            instance,
            root,
            database: present.database.clone(),
            head: present.head,
            reached: UnixMillis(0),
            landmarks: present.landmarks.clone(),
            suspicion: None,
        };
        let noticed = match found {
            Found::Missing | Found::Unreadable if pristine => None,
            Found::Missing => Some((RollbackKind::AnchorMissing, None)),
            Found::Unreadable => Some((RollbackKind::AnchorUnreadable, None)),
            Found::Record(old) => {
                record.generation = old.generation;
                record.suspicion = old.suspicion;
                record.reached = old.reached;
                compare(&old, &present, store).map_err(database)?.map(|kind| (kind, Some(old.head)))
            }
        };
        if let Some((kind, expected)) = noticed {
            // A clock that is behind must not make old marks look like a fence since.
            let since = now.max(record.reached);
            record.suspicion = Some(Suspicion { kind, since, expected, found: present.head });
        }
        let mut anchor = Self { file, record, unflushed: true, last_flush: Instant::now(), failing: false };
        anchor.write_through().map_err(|source| OpenError::Io { action: "write", path: path.to_owned(), source })?;
        Ok(anchor)
    }

    /// The suspicion on record.
    pub(crate) fn suspicion(&self) -> Option<Suspicion> {
        self.record.suspicion
    }

    /// The earliest moment at which all that this instance signed can have been signed: it may be later than what is in the
    /// database says.
    pub(crate) fn reached(&self) -> UnixMillis {
        self.record.reached
    }

    /// Notes the batch committed last, and the moment that all that was signed shows to be reached. Called before its replies leave. A failure only weakens detection,
    /// so it is reported and tried again with the next batch.
    pub(crate) fn advance(
        &mut self,
        head: Head,
        reached: UnixMillis,
        landmarks: Option<&Landmarks>,
    ) -> Result<(), std::io::Error> {
        self.record.head = head;
        self.record.reached = self.record.reached.max(reached);
        self.record.landmarks = landmarks.cloned();
        self.unflushed = true;
        self.write()
    }

    /// Notes what other instances did meanwhile. Flushed as rarely as under load: their own anchors know better.
    pub(crate) fn note(&mut self, landmarks: &Landmarks) -> Result<(), std::io::Error> {
        if self.record.landmarks.as_ref() == Some(landmarks) {
            return Ok(());
        }
        self.record.landmarks = Some(landmarks.clone());
        self.unflushed |= self.last_flush.elapsed() >= FLUSH_WHEN_BUSY;
        self.write()
    }

    fn write(&mut self) -> Result<(), std::io::Error> {
        let written = self.file.write(&mut self.record);
        match &written {
            Err(error) if !self.failing => {
                tracing::warn!(%error, path = %self.file.path().display(), "cannot write the anchor; a lost database might go unnoticed");
            }
            Ok(()) if self.failing => tracing::info!("the anchor can be written again"),
            Ok(()) | Err(_) => {}
        }
        self.failing = written.is_err();
        written
    }

    /// Flushes now and then, after every reply has left.
    pub(crate) fn tidy(&mut self, load: Load) {
        let patience = match load {
            Load::Idle => FLUSH_WHEN_IDLE,
            Load::Busy => FLUSH_WHEN_BUSY,
        };
        if self.unflushed && self.last_flush.elapsed() >= patience {
            self.flush();
        }
    }

    /// Flushes the newest mark.
    pub(crate) fn flush(&mut self) {
        self.last_flush = Instant::now();
        match self.file.flush() {
            Ok(()) => self.unflushed = false,
            Err(error) => tracing::warn!(%error, "cannot flush the anchor; after a power cut it may lag behind"),
        }
    }

    /// The newest mark once it is durable, if it can be made so now: what it names must stay in the database.
    pub(crate) fn settle(&mut self) -> Option<Head> {
        if self.unflushed {
            self.flush();
        }
        (!self.unflushed && !self.failing).then_some(self.record.head)
    }

    /// Writes suspicion of the database durably, which is from now on the one to compare with.
    pub(crate) fn suspect(
        &mut self,
        suspicion: Suspicion,
        database: DatabaseIdentity,
        landmarks: Option<&Landmarks>,
    ) -> Result<(), std::io::Error> {
        self.record.suspicion = Some(suspicion);
        self.record.database = database;
        self.record.head = suspicion.found;
        self.record.landmarks = landmarks.cloned();
        self.write_through()
    }

    /// Takes suspicion away durably; only after a fence of every key was committed.
    pub(crate) fn clear(&mut self, head: Head, landmarks: Option<&Landmarks>) -> Result<(), std::io::Error> {
        let before = self.record.suspicion.take();
        self.record.head = head;
        self.record.landmarks = landmarks.cloned();
        let written = self.write_through();
        if written.is_err() {
            self.record.suspicion = before;
        }
        written
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Writes the record to both places and flushes, so that no older one can come back.
    fn write_through(&mut self) -> Result<(), std::io::Error> {
        self.file.write(&mut self.record)?;
        self.file.flush()?;
        self.file.write(&mut self.record)?;
        self.file.flush()?;
        self.unflushed = false;
        Ok(())
    }
}

/// Which instance a data directory belongs to.
#[cfg(feature = "postgres")]
pub(crate) enum Named {
    /// This one.
    Instance(InstanceId),
    /// There is an anchor, but it cannot be read.
    Unreadable,
}

/// Reads from an anchor which instance this is; `None` if there is no anchor yet. Locks nothing.
#[cfg(feature = "postgres")]
pub(crate) fn instance_of(path: &Path) -> Result<Option<Named>, OpenError> {
    Ok(match file::peek(path)? {
        Found::Missing => None,
        Found::Unreadable => Some(Named::Unreadable),
        Found::Record(record) => Some(Named::Instance(record.instance)),
    })
}

/// Reads an anchor for showing; `None` if there is none. Locks nothing.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn look(path: &Path) -> Result<Option<AnchorView>, OpenError> {
    let record = match file::peek(path)? {
        Found::Missing => return Ok(None),
        Found::Unreadable => None,
        Found::Record(Record { instance, head, suspicion, .. }) => Some(AnchorRecord { instance, head, suspicion }),
    };
    let holder = std::fs::metadata(path).ok().and_then(|metadata| crate::locks::holder(&metadata));
    Ok(Some(AnchorView { record, holder }))
}

/// What is wrong with the database, seen from the anchor. The most telling difference comes first.
fn compare(
    anchor: &Record,
    present: &Present,
    store: &mut dyn Store,
) -> Result<Option<RollbackKind>, crate::error::StoreError> {
    if anchor.instance != present.instance || anchor.root != present.root {
        return Ok(Some(RollbackKind::OtherDatabase));
    }
    if anchor.head != Head::EMPTY {
        match store.batch_hash(anchor.head.seq)? {
            None => return Ok(Some(RollbackKind::JournalShorter)),
            Some(hash) if hash != anchor.head.hash => return Ok(Some(RollbackKind::JournalDiffers)),
            Some(_) => {}
        }
    }
    if anchor.database != present.database {
        return Ok(Some(RollbackKind::Copied));
    }
    match &anchor.landmarks {
        Some(landmarks) => store.lacks(landmarks),
        None => Ok(None),
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
