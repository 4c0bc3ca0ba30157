//! `holdfast exits` and its options.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use holdfast_domain::PublicKey;

use super::{ApprovalArgs, AskArgs, KdfArg};

/// `holdfast exits`
#[derive(Debug, Subcommand)]
pub(crate) enum ExitsCommand {
    /// Sign voluntary exits of many validators, one file each, for an ejector service or to be sent later
    Sign(Box<ExitsSignArgs>),
    /// Check files of signed exits: signature, network, validator
    Verify(ExitsVerifyArgs),
}

/// `holdfast exits sign`
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("who").required(true)))]
pub(crate) struct ExitsSignArgs {
    /// List of validators: an index, a public key or both a line, or JSON as keys APIs write it
    #[arg(long, value_name = "FILE", group = "who")]
    pub(crate) from: Option<PathBuf>,
    /// Public keys; a beacon node (--beacon) tells their indices
    #[arg(long, value_name = "PUBKEY", num_args = 1.., group = "who")]
    pub(crate) keys: Vec<PublicKey>,
    /// Indices; a beacon node (--beacon) tells their keys
    #[arg(long, value_name = "INDEX", num_args = 1.., group = "who")]
    pub(crate) indices: Vec<u64>,
    /// All keys held here; a beacon node (--beacon) tells their indices
    #[arg(long, group = "who")]
    pub(crate) all: bool,
    /// Only this share of them, rounded up: those with the lowest indices
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) percent: Option<u8>,
    /// Directory for the files; those that are there stay
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Epoch from which on the exits are valid [default: the present one]
    #[arg(long, value_name = "EPOCH")]
    pub(crate) epoch: Option<u64>,
    /// Have them signed by the server that runs, through its signing API at this address, instead of working on the database
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<SocketAddr>,
    /// How the server is asked.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Encrypt each file (EIP-2335), for ejector services that hold the password
    #[arg(long, requires = "password_file")]
    pub(crate) encrypt: bool,
    /// File with the password of the files
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    pub(crate) password_file: Option<PathBuf>,
    /// Key derivation of encrypted files
    #[arg(long, value_enum, default_value_t = KdfArg::Pbkdf2)]
    pub(crate) kdf: KdfArg,
    /// What people approved.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
}

/// `holdfast exits verify`
#[derive(Debug, Clone, Args)]
pub(crate) struct ExitsVerifyArgs {
    /// Directory of the files
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// List that says which index has which key [default: a beacon node, --beacon, is asked]
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// File with the password of encrypted files
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}
