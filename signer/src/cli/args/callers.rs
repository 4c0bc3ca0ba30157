//! `holdfast callers`: who may ask.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `holdfast callers`
#[derive(Debug, Subcommand)]
pub(crate) enum CallersCommand {
    /// Make a caller; its token is shown once, and only its hash is kept. A running server takes it over within seconds
    Add(CallersAddArgs),
    /// Show the callers, and how each proves its name; tokens cannot be shown again
    List,
    /// Give a caller a further token; the old ones stay valid until they are taken away
    Rotate(CallersRotateArgs),
    /// Take a caller away
    Remove(CallersRemoveArgs),
}

/// `holdfast callers add`
#[derive(Debug, Clone, Args)]
pub(crate) struct CallersAddArgs {
    /// Its name in policy, in the journal and in logs
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// How it proves its name.
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
}

/// How a caller proves its name.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProofArgs {
    /// Make a token for HTTP Basic authentication, in the client's URL (the default)
    #[arg(long)]
    pub(crate) basic: bool,
    /// Make a bearer token
    #[arg(long)]
    pub(crate) bearer: bool,
    /// Accept this certificate (PEM), whoever signed it; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Vec<PathBuf>,
    /// Accept certificates with this name, which an authority in client_ca signed; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Vec<String>,
    /// Accept processes of this user on the Unix socket; may be given several times
    #[arg(long, value_name = "UID")]
    pub(crate) unix_uid: Vec<u32>,
}

/// `holdfast callers rotate`
#[derive(Debug, Clone, Args)]
pub(crate) struct CallersRotateArgs {
    /// Which caller
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it gets.
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
    /// Make no new token; of each kind, keep only the newest that there is
    #[arg(long, conflicts_with_all = ["basic", "bearer", "certificate", "subject", "unix_uid", "until"])]
    pub(crate) expire_old: bool,
    /// Until when the old tokens stay valid, for example 2026-12-01T00:00:00Z [default: until --expire-old]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

/// `holdfast callers remove`
#[derive(Debug, Clone, Args)]
pub(crate) struct CallersRemoveArgs {
    /// Which caller
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}
