//! `holdfast backup` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `holdfast backup`
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Back up the database, the state of key providers and the configuration; a running server is not disturbed
    Create(BackupCreateArgs),
    /// Verify a backup: every file, every page of the database, and the whole journal in it
    Verify(BackupVerifyArgs),
    /// Put a backup into a new data directory. All keys end behind a fence at the present
    Restore(BackupRestoreArgs),
    /// Restore a backup into a temporary directory, open every key with the key providers, sign nothing, and say how it went
    Drill(BackupDrillArgs),
    /// Check that a restored database is fenced, before the signer starts on it
    Check(BackupCheckArgs),
}

/// `holdfast backup create`
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupCreateArgs {
    /// New directory for the backup
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Leave out kek/: then whoever has the backup does not have the keys, and you must keep kek/ elsewhere
    #[arg(long)]
    pub(crate) without_provider_state: bool,
}

/// `holdfast backup verify`
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupVerifyArgs {
    /// The backup
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// What `backup create` said the manifest is: a backup that was replaced as a whole is noticed by it
    #[arg(long, value_name = "SHA-256")]
    pub(crate) manifest: Option<String>,
}

/// `holdfast backup restore`
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupRestoreArgs {
    /// The backup; it is verified first
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// The kek/ directory, if it is kept apart from the backup
    #[arg(long, value_name = "DIR")]
    pub(crate) kek_dir: Option<PathBuf>,
}

/// `holdfast backup drill`
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupDrillArgs {
    /// The backup; it is verified first
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// The kek/ directory, if it is kept apart from the backup
    #[arg(long, value_name = "DIR")]
    pub(crate) kek_dir: Option<PathBuf>,
    /// Directory in which the temporary one is made [default: that of the system]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
}

/// `holdfast backup check`
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupCheckArgs {
    /// When the database was restored, in seconds since 1970: every key must be behind that moment
    #[arg(long, value_name = "UNIX SECONDS")]
    pub(crate) restored_at: u32,
}
