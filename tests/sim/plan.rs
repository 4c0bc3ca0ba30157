//! Which faults happen in which order: drawn from the seed before anything starts.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// SIGKILL to a signer.
    KillSigner,
    /// SIGKILL to PostgreSQL and all its processes.
    KillDatabase,
    /// SIGKILL to one process of PostgreSQL, which then recovers by itself.
    KillBackend,
    /// All connections to the database are cut; half of the time the port is closed for a while too.
    Cut,
    /// The network holds answers, or everything.
    HangNetwork,
    /// SIGSTOP to PostgreSQL, then SIGCONT.
    HangDatabase,
    /// SIGSTOP to a signer, then SIGCONT.
    HangSigner,
    /// A commit fails and is not kept.
    CommitNotKept,
    /// A commit is reported as failed, and kept.
    CommitKept,
    /// The file system of the database is full.
    DiskFull,
    /// A flush fails, and what was written since the last one is lost.
    FlushLost,
    /// A signer's clock is ahead.
    ClockForward,
    /// A signer's clock is behind.
    ClockBack,
    /// An older cold copy of the database is put in place.
    OlderCopy,
    /// An older backup, made of the running server, is put in place.
    OlderBackup,
    /// A replica that lags behind is promoted.
    Promotion,
    /// The write-ahead log is deleted.
    LogDeleted,
    /// The anchor is deleted.
    AnchorDeleted,
    /// A second signer runs on a copy of the data directory.
    CopiedDirectory,
    /// Database and anchor go back together, and the operator places the fence the runbook asks for.
    MachineSnapshot,
}

impl Kind {
    /// What the stage on PostgreSQL knows.
    pub(crate) const POSTGRES: [Self; 16] = [
        Self::KillSigner,
        Self::KillDatabase,
        Self::KillBackend,
        Self::Cut,
        Self::HangNetwork,
        Self::HangDatabase,
        Self::HangSigner,
        Self::CommitNotKept,
        Self::CommitKept,
        Self::DiskFull,
        Self::FlushLost,
        Self::ClockForward,
        Self::ClockBack,
        Self::OlderCopy,
        Self::OlderBackup,
        Self::Promotion,
    ];

    /// What the stage on SQLite knows.
    pub(crate) const SQLITE: [Self; 13] = [
        Self::KillSigner,
        Self::HangSigner,
        Self::CommitNotKept,
        Self::CommitKept,
        Self::DiskFull,
        Self::FlushLost,
        Self::ClockForward,
        Self::ClockBack,
        Self::OlderCopy,
        Self::LogDeleted,
        Self::AnchorDeleted,
        Self::CopiedDirectory,
        Self::MachineSnapshot,
    ];

    /// Its word in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KillSigner => "kill_signer",
            Self::KillDatabase => "kill_database",
            Self::KillBackend => "kill_backend",
            Self::Cut => "cut",
            Self::HangNetwork => "hang_network",
            Self::HangDatabase => "hang_database",
            Self::HangSigner => "hang_signer",
            Self::CommitNotKept => "commit_failed_not_kept",
            Self::CommitKept => "commit_failed_but_kept",
            Self::DiskFull => "disk_full",
            Self::FlushLost => "fsync_failed",
            Self::ClockForward => "clock_forward",
            Self::ClockBack => "clock_back",
            Self::OlderCopy => "older_copy",
            Self::OlderBackup => "older_backup",
            Self::Promotion => "lagging_replica_promoted",
            Self::LogDeleted => "log_deleted",
            Self::AnchorDeleted => "anchor_deleted",
            Self::CopiedDirectory => "copied_directory",
            Self::MachineSnapshot => "machine_snapshot",
        }
    }

    /// How often it is drawn: what takes long to bring about and to recover from comes less often.
    const fn weight(self) -> u32 {
        match self {
            Self::OlderCopy | Self::OlderBackup | Self::Promotion | Self::HangDatabase | Self::CopiedDirectory => 1,
            Self::LogDeleted
            | Self::AnchorDeleted
            | Self::MachineSnapshot
            | Self::FlushLost
            | Self::DiskFull
            | Self::KillDatabase
            | Self::KillBackend
            | Self::HangNetwork
            | Self::HangSigner
            | Self::ClockForward
            | Self::ClockBack => 2,
            Self::KillSigner | Self::Cut | Self::CommitNotKept | Self::CommitKept => 4,
        }
    }
}

/// What happens when a rollback is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The signer freezes, and the suite plays the operator.
    Freeze,
    /// `slashing.on_rollback = "fence"`.
    Fence,
}

/// One database's life: made, hurt, judged, thrown away.
#[derive(Debug, Clone)]
pub(crate) struct EraPlan {
    pub(crate) stage: &'static str,
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) policy: Policy,
    pub(crate) faults: Vec<Kind>,
    /// Requests before each fault.
    pub(crate) requests_between: u64,
}

/// Faults of an era, so that what one era keeps stays small.
const FAULTS_PER_ERA: u64 = 40;

/// Draws the eras of a stage. Every kind comes before any kind comes twice; then chance decides.
pub(crate) fn eras(stage: &'static str, kinds: &[Kind], seed: u64, faults: u64, requests: u64) -> Vec<EraPlan> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ stage.len() as u64);
    let faults = faults.max(kinds.len() as u64);
    let count = faults.div_ceil(FAULTS_PER_ERA);
    let weights: u32 = kinds.iter().map(|kind| kind.weight()).sum();
    let mut drawn: Vec<Kind> = kinds.to_vec();
    drawn.shuffle(&mut rng);
    while (drawn.len() as u64) < faults {
        let mut ticket = rng.random_range(0..weights);
        let kind = kinds.iter().find(|kind| {
            let wins = ticket < kind.weight();
            ticket = ticket.saturating_sub(kind.weight());
            wins
        });
        drawn.extend(kind);
    }
    let size = drawn.len().div_ceil(usize::try_from(count).expect("few eras"));
    let requests_between = requests.div_ceil(faults);
    drawn
        .chunks(size)
        .zip(0..)
        .map(|(faults, number)| EraPlan {
            stage,
            number,
            seed: rng.random(),
            policy: if number % 2 == 1 { Policy::Fence } else { Policy::Freeze },
            faults: faults.to_vec(),
            requests_between,
        })
        .collect()
}
