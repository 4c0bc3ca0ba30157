//! `holdfast approve`, `holdfast approvals`, and the options of every command that may need approvals.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of a command that may need approvals.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ApprovalArgs {
    /// Files with the request for this act and what people signed for it, in one file or in several
    #[arg(long = "approval", value_name = "FILE", num_args = 1..)]
    pub(crate) approval: Vec<PathBuf>,
    /// Where to write the request, if this needs approvals [default: approval-<act>-<number>.txt here]
    #[arg(long, value_name = "FILE", conflicts_with = "approval")]
    pub(crate) request_to: Option<PathBuf>,
}

/// `holdfast approve`
#[derive(Debug, Clone, Args)]
pub(crate) struct ApproveArgs {
    /// The request, as the command wrote it that needs approvals
    #[arg(value_name = "REQUEST")]
    pub(crate) request: PathBuf,
    /// Your private key: Ed25519, as ssh-keygen, openssl or `holdfast approvals keygen` write it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where to write the approval [default: the request's name with the key's fingerprint and .sig]
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Write the approval behind the request, into its file
    #[arg(long, conflicts_with = "to")]
    pub(crate) append: bool,
    /// Do not ask: only where somebody has read the request already
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `holdfast approvals`
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalsCommand {
    /// Make a key to approve with; its public half goes into the configuration
    Keygen(KeygenArgs),
    /// Check what was signed for a request: who, whether it holds, and whether it is enough for the approvers configured here
    Verify(ApprovalsVerifyArgs),
    /// Show who approves what: as configured, and as in force
    Status,
    /// List what waits for approvals, as the journal of this signer knows it
    List(ApprovalsListArgs),
    /// Print a request that the running server made lately, as its approvers read and sign it
    Show(ApprovalsShowArgs),
    /// Hand what was signed for a change of the policy or of the approvers to the next reload (SIGHUP) of the running server
    Bring(ApprovalsVerifyArgs),
    /// Put the approvers of the configuration in force; if others are, they must approve
    Adopt(AdoptArgs),
}

/// `holdfast approvals keygen`
#[derive(Debug, Clone, Args)]
pub(crate) struct KeygenArgs {
    /// New file for the private key, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}

/// `holdfast approvals verify` and `bring`
#[derive(Debug, Clone, Args)]
pub(crate) struct ApprovalsVerifyArgs {
    /// The request, and files of approvals
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// `holdfast approvals list`
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ApprovalsListArgs {
    /// Those that were used and those that expired, too
    #[arg(long)]
    pub(crate) all: bool,
}

/// `holdfast approvals show`
#[derive(Debug, Clone, Args)]
pub(crate) struct ApprovalsShowArgs {
    /// The request's number, 32 hexadecimal digits, as `holdfast approvals list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// `holdfast approvals adopt`
#[derive(Debug, Clone, Args)]
pub(crate) struct AdoptArgs {
    /// Approvals by the people in force.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
}
