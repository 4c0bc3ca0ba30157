//! `holdfast witness` and its options.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use holdfast_witness::{Group, VerifyingKey};

/// `holdfast witness`
#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    /// Make the witness's key and its database, and print what signers need to know of it
    Init(WitnessArgs),
    /// Run the witness: grant epoch leases to the signers of each group, one at a time
    Serve(WitnessServeArgs),
    /// Let a signer into a group, by the key that its log names
    Enroll(EnrollArgs),
    /// Show every group, who holds its lease and up to which epoch
    Status(WitnessArgs),
}

/// Where a witness keeps its key.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct WitnessArgs {
    /// File with the witness's private key [default: <data-dir>/witness.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// `holdfast witness serve`
#[derive(Debug, Clone, Args)]
pub(crate) struct WitnessServeArgs {
    /// Where the key is.
    #[command(flatten)]
    pub(crate) witness: WitnessArgs,
    /// Address to listen on. Beyond loopback only members that were enrolled are answered
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9005")]
    pub(crate) listen: SocketAddr,
    /// Answer only members that were enrolled, on loopback as well
    #[arg(long)]
    pub(crate) enrolled_only: bool,
}

/// `holdfast witness enroll`
#[derive(Debug, Clone, Args)]
pub(crate) struct EnrollArgs {
    /// The group, as the signer's witness.group
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Group,
    /// The signer's key, as its log names it
    #[arg(long, value_name = "0x…")]
    pub(crate) key: VerifyingKey,
}
