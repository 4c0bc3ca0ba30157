//! `holdfast slashing` and its options.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use holdfast_domain::PublicKey;

use super::ApprovalArgs;

/// `holdfast slashing`
#[derive(Debug, Subcommand)]
pub(crate) enum SlashingCommand {
    /// Show the watermark of every key, the head of the journal, and whether protection is frozen
    Status(SlashingStatusArgs),
    /// Put keys behind everything they may have signed until now, after the database was restored or lost writes
    Fence(FenceArgs),
    /// Bring the database's schema up to date. A start does so by itself; with --dry-run only say what it would do
    Migrate(MigrateArgs),
    /// Take in what keys have signed elsewhere (EIP-3076, version 5, or Web3Signer's database). Watermarks only rise
    Import(SlashingImportArgs),
    /// Write what keys have signed here, for the signer that takes over (EIP-3076, version 5)
    Export(SlashingExportArgs),
}

/// `holdfast slashing status`
#[derive(Debug, Clone, Args)]
pub(crate) struct SlashingStatusArgs {
    /// Read the whole journal and verify each of its batches, which takes a while for a long one
    #[arg(long)]
    pub(crate) verify: bool,
}

/// `holdfast slashing fence`
#[derive(Debug, Clone, Args)]
pub(crate) struct FenceArgs {
    /// Only this key; may be given several times [default: all keys, which ends a freeze]
    #[arg(long = "key", value_name = "PUBKEY")]
    pub(crate) keys: Vec<PublicKey>,
}

/// `holdfast slashing migrate`
#[derive(Debug, Clone, Args)]
pub(crate) struct MigrateArgs {
    /// Change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `holdfast slashing import`
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("source").required(true)))]
pub(crate) struct SlashingImportArgs {
    /// Interchange file; - for standard input
    #[arg(long, value_name = "FILE", group = "source")]
    pub(crate) from: Option<PathBuf>,
    /// Web3Signer's slashing protection database, only read: postgres://user@host:port/database. Stop Web3Signer first
    #[arg(long, value_name = "URL", group = "source")]
    pub(crate) from_web3signer: Option<String>,
    /// File with the password of Web3Signer's database, if it is not in the URL
    #[arg(long, value_name = "FILE", requires = "from_web3signer")]
    pub(crate) web3signer_password_file: Option<PathBuf>,
    /// Go on although Web3Signer seems to be connected to its database: only if it signs nothing
    #[arg(long, requires = "from_web3signer")]
    pub(crate) ignore_connections: bool,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take in what can be read of a damaged source. Validators left out stay unprotected by it
    #[arg(long)]
    pub(crate) allow_partial: bool,
    /// What people approved.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
}

/// `holdfast slashing export`
#[derive(Debug, Clone, Args)]
pub(crate) struct SlashingExportArgs {
    /// File to write, mode 0600; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Only this key; may be given several times [default: all keys, deleted ones too]
    #[arg(long, value_name = "PUBKEY")]
    pub(crate) key: Vec<PublicKey>,
    /// Switch the exported keys off in the same transaction, so that they never sign in two places
    #[arg(long)]
    pub(crate) disable: bool,
}
