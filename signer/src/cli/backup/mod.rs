//! `holdfast backup`: what a signer has, somewhere else, and back again.
//!
//! Guarantees: a backup has its name only when it is complete and was verified; a restore never writes over anything
//! and ends with every key behind a fence, because a backup cannot know what was signed after it was made.

mod check;
mod create;
mod drill;
mod manifest;
mod restore;
mod verify;

use std::path::Path;

use super::args::BackupCommand;
use super::{Context, Exit, Failure};

/// Runs one of the commands.
pub(super) async fn run(command: &BackupCommand, context: &Context) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Create(args) => create::run(args, context).await,
        BackupCommand::Verify(args) => verify::run(args, context),
        BackupCommand::Restore(args) => restore::run(args, context).await,
        BackupCommand::Drill(args) => drill::run(args, context).await,
        BackupCommand::Check(args) => check::run(args, context).await,
    }
}

/// A failure to read or write a file, with its path.
fn file_failure(action: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Refused, anyhow::Error::new(error).context(format!("cannot {action} {}", path.display())))
}
