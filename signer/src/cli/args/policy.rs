//! `holdfast policy` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_access::Means;

/// `holdfast policy`
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Check the rules of the configuration: what can never apply, what denies it, who is left out. Exit code 1 if something is hardly meant so
    Check,
    /// Say whether a caller may do something, and which rule decides. Exit code 1 if not
    Explain(ExplainArgs),
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
