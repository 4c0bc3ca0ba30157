//! `holdfast policy` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_access::Means;

use super::ApprovalArgs;

/// `holdfast policy`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the rules in force, which the running server has or would have: as a file to change and apply, with where they come from, since when, by whom, and their SHA-256
    Show,
    /// Check rules: what can never apply, what denies it, who is left out. Exit code 1 if something is hardly meant so
    Check(PolicyCheckArgs),
    /// Say whether a caller may do something, and which rule decides. Exit code 1 if not
    Explain(ExplainArgs),
    /// Put the rules of a file in force at once, and over restarts, in place of those of the configuration
    Apply(PolicyApplyArgs),
    /// Withdraw rules that were applied: those of the configuration are in force again, as it was read at the start or the last SIGHUP
    Reset(PolicyChangeArgs),
}

/// `holdfast policy check`
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyCheckArgs {
    /// File with nothing but `[[policy]]` and `[[groups]]`; "-" is standard input [default: the rules in force]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Look at the rules of the configuration as it is written now, also if a server runs: before SIGHUP puts them in force
    #[arg(long, conflicts_with = "file")]
    pub(crate) configuration: bool,
}

/// `holdfast policy apply`
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyApplyArgs {
    /// File with nothing but `[[policy]]` and `[[groups]]`, all of them; "-" is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// On what terms.
    #[command(flatten)]
    pub(crate) change: PolicyChangeArgs,
}

/// `holdfast policy reset`
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyChangeArgs {
    /// Only show what would change; exit code 1 if it would need --force
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// SHA-256 of the rules in force that are to be replaced, from `policy show`: if others are meanwhile, nothing is done [default: what is found]
    #[arg(long, value_name = "DIGEST")]
    pub(crate) expect: Option<String>,
    /// Also if it takes from you the leave to change the policy, or lets everybody do everything; with reset also if the rules that were applied cannot be read
    #[arg(long)]
    pub(crate) force: bool,
    /// Approvals, where changes of the policy need them.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
}

/// `holdfast policy explain`
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// Name of the caller; with --request an audit record's own, if none is given
    #[arg(long, value_name = "NAME", required_unless_present = "request")]
    pub(crate) caller: Option<String>,
    /// Public key; without one, the operation as such
    #[arg(long, value_name = "0x…")]
    pub(crate) key: Option<String>,
    /// Operation, such as block, voluntary_exit, list, keymanager.write or admin.audit.read
    #[arg(long, value_name = "OPERATION", required_unless_present = "request", conflicts_with = "request")]
    pub(crate) op: Option<String>,
    /// How the caller proves its name [default: each way in which it makes a difference]
    #[arg(long, value_enum, value_name = "MEANS")]
    pub(crate) means: Option<MeansArg>,
    /// Dry run: the body of a signing request, or an export of the journal (JSON lines); "-" is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    /// Ask the rules of the configuration as it is written now, also if a server runs
    #[arg(long)]
    pub(crate) configuration: bool,
}

/// How a caller proves its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MeansArg {
    Listener,
    Unix,
    Bearer,
    Basic,
    Certificate,
}

impl From<MeansArg> for Means {
    fn from(means: MeansArg) -> Self {
        match means {
            MeansArg::Listener => Self::Listener,
            MeansArg::Unix => Self::UnixPeer,
            MeansArg::Bearer => Self::Bearer,
            MeansArg::Basic => Self::Basic,
            MeansArg::Certificate => Self::Certificate,
        }
    }
}
