//! `holdfast keys` and its options.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_domain::PublicKey;

/// `holdfast keys`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Import keystores: files, or directories as deposit-cli, Lighthouse, Lodestar, Nimbus, Prysm, Teku and Web3Signer lay them out
    Import(ImportArgs),
    /// List the keys held here
    List(ListArgs),
    /// Show everything known about one key
    Show(ShowArgs),
    /// Let keys sign again that were switched off
    Enable(SwitchArgs),
    /// Switch keys off. They stay here and sign nothing until they are enabled
    Disable(SwitchArgs),
    /// Delete keys. What they signed is remembered, so that they cannot come back unnoticed
    Delete(DeleteArgs),
    /// Make new random keys, for development networks
    Generate(GenerateArgs),
}

/// `holdfast keys import`
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// Keystore files or directories
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub(crate) from: Vec<PathBuf>,
    /// File with the password of all keystores
    #[arg(long, value_name = "FILE", conflicts_with = "passwords_dir")]
    pub(crate) password_file: Option<PathBuf>,
    /// Directory with one password file per keystore: the same name with .txt
    #[arg(long, value_name = "DIR")]
    pub(crate) passwords_dir: Option<PathBuf>,
    /// Where protection of the imported keys begins
    #[arg(long, value_enum, default_value_t = WatermarkArg::Now)]
    pub(crate) watermark: WatermarkArg,
    /// What the imported keys have signed elsewhere (EIP-3076); merged with the watermark
    #[arg(long, value_name = "FILE")]
    pub(crate) slashing_protection: Option<PathBuf>,
    /// Import keys that were deleted here before, too
    #[arg(long)]
    pub(crate) replace_tombstone: bool,
}

/// Where protection of a new key begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WatermarkArg {
    /// At the present: the key signs nothing for the current epoch and before
    Now,
    /// From nothing: only for keys that have never signed anywhere
    NeverSigned,
    /// From the file given with --slashing-protection alone, which must then be complete
    Interchange,
}

/// `holdfast keys list`
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// Include deleted keys
    #[arg(long)]
    pub(crate) all: bool,
}

/// `holdfast keys show`
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    /// Public key: 96 hexadecimal digits
    #[arg(value_name = "PUBKEY")]
    pub(crate) key: PublicKey,
}

/// `holdfast keys enable`, `holdfast keys disable`
#[derive(Debug, Clone, Args)]
pub(crate) struct SwitchArgs {
    /// Public keys: 96 hexadecimal digits each
    #[arg(value_name = "PUBKEY", required = true)]
    pub(crate) keys: Vec<PublicKey>,
}

/// `holdfast keys delete`
#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    /// Public keys: 96 hexadecimal digits each
    #[arg(value_name = "PUBKEY", required = true)]
    pub(crate) keys: Vec<PublicKey>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `holdfast keys generate`
#[derive(Debug, Clone, Args)]
pub(crate) struct GenerateArgs {
    /// How many keys
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) count: NonZeroU32,
}
