//! `holdfast switcher`: commands to a running switcher.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `holdfast switcher`
#[derive(Debug, Subcommand)]
pub(crate) enum SwitcherCommand {
    /// Show each node's health, who serves what, and the last decisions
    Status,
    /// Take a further node into the pool, until the process ends; --execution for the execution pool, here and below
    Add(AddArgs),
    /// Take a node out of the pool, until the process ends
    Remove(NodeArgs),
    /// Ask a node nothing new, but keep it prepared
    Drain(NodeArgs),
    /// Use a drained node again
    Undrain(NodeArgs),
    /// Put a node before all others that are as healthy as it is
    Prefer(PreferArgs),
}

/// `holdfast switcher add`
#[derive(Debug, Clone, Args)]
pub(crate) struct AddArgs {
    /// Address of its HTTP API, for example http://127.0.0.1:5052; may hold user and password
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Name [default: host and port]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Share of the requests when balancing is weighted [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) weight: Option<u32>,
    /// Nodes of a lower tier are asked only when none above is healthy; 0 is the highest
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) tier: u32,
    /// What it is used for; may be given several times [default: everything but builder]
    #[arg(long = "role", value_enum, conflicts_with = "execution")]
    pub(crate) roles: Vec<RoleArg>,
    /// User name, with --password-file
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) username: Option<String>,
    /// File that holds the password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// File that holds a bearer token
    #[arg(long, value_name = "FILE", conflicts_with = "username")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificate of the authority that signed the node's, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Every address of the host name is a node of its own; the name is looked up again while it is used
    #[arg(long, conflicts_with = "execution")]
    pub(crate) each_address: bool,
    /// It is an execution client, for the execution pool
    #[arg(long)]
    pub(crate) execution: bool,
    /// Address of the execution client's WebSocket API, for example ws://127.0.0.1:8546
    #[arg(long, value_name = "URL", requires = "execution")]
    pub(crate) websocket_url: Option<String>,
}

/// What a node is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    Attestation,
    Proposal,
    Sync,
    Submit,
    Builder,
}

/// `holdfast switcher remove`, `drain`, `undrain`
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    /// Name of the node, as `holdfast switcher status` shows it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// It is an execution client of the execution pool
    #[arg(long)]
    pub(crate) execution: bool,
}

/// `holdfast switcher prefer`
#[derive(Debug, Clone, Args)]
pub(crate) struct PreferArgs {
    /// Name of the node, as `holdfast switcher status` shows it
    #[arg(value_name = "NAME", required_unless_present = "none")]
    pub(crate) name: Option<String>,
    /// Prefer none any more
    #[arg(long, conflicts_with = "name")]
    pub(crate) none: bool,
    /// In the execution pool
    #[arg(long)]
    pub(crate) execution: bool,
}
