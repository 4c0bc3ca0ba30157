//! `holdfast switcher`: commands to a running switcher.

use clap::{Args, Subcommand, ValueEnum};

/// `holdfast switcher`
#[derive(Debug, Subcommand)]
pub(crate) enum SwitcherCommand {
    /// Show each node's health, who serves what, and the last decisions
    Status,
    /// Take a further node into the pool, until the process ends
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
    /// Address, for example http://127.0.0.1:5052; may hold user and password
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
    #[arg(long = "role", value_enum)]
    pub(crate) roles: Vec<RoleArg>,
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
}
