//! `holdfast kek` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PassphraseArgs;
use crate::config::KeyProvider;

/// `holdfast kek`
#[derive(Debug, Subcommand)]
pub(crate) enum KekCommand {
    /// Make the data key that seals all stored keys, wrapped by one provider or several
    Init(KekInitArgs),
    /// Show what protects the stored keys, and whether each of it opens them
    Status(KekStatusArgs),
    /// Wrap the data key with these providers instead of those that wrap it now; stored keys are not touched unless --data-key is given
    Rotate(KekRotateArgs),
    /// Bring a share of the data key to a server that waits for it, or show what it waits for
    Unseal(KekUnsealArgs),
}

/// Who protects the data key.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProviderArgs {
    /// What protects the data key; of several, separated by commas, any one opens it [default: keys.provider]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PROVIDER,…")]
    pub(crate) provider: Vec<KeyProvider>,
    /// Split the data key's guard: this many holders must come together. The holders are those of --recipient, and the providers of --provider
    #[arg(long, value_name = "NUMBER")]
    pub(crate) threshold: Option<u8>,
    /// How many holders there are, to have the count checked
    #[arg(long, value_name = "NUMBER", requires = "threshold")]
    pub(crate) shares: Option<u8>,
    /// A person who holds a share, by public key: "age1…" or "ssh-ed25519 …"; may be given several times
    #[arg(long, value_name = "KEY", requires = "threshold")]
    pub(crate) recipient: Vec<String>,
    /// Write each person's encrypted share into this folder as well, to be kept by its holder
    #[arg(long, value_name = "DIR")]
    pub(crate) share_dir: Option<PathBuf>,
}

/// `holdfast kek unseal`
#[derive(Debug, Clone, Args)]
pub(crate) struct KekUnsealArgs {
    /// File with the private key that opens the share: of age-keygen, or OpenSSH Ed25519 without a passphrase
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
    /// The share, encrypted or decrypted; "-" is standard input [default: the server has the encrypted ones]
    #[arg(long, value_name = "FILE")]
    pub(crate) share: Option<PathBuf>,
}

/// `holdfast kek init`
#[derive(Debug, Clone, Args)]
pub(crate) struct KekInitArgs {
    /// Who protects the data key.
    #[command(flatten)]
    pub(crate) providers: ProviderArgs,
    /// Where the passphrase is.
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

/// `holdfast kek status`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KekStatusArgs {
    /// Where the passphrase is.
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
}

/// `holdfast kek rotate`
#[derive(Debug, Clone, Args)]
pub(crate) struct KekRotateArgs {
    /// Who protects the data key from now on.
    #[command(flatten)]
    pub(crate) providers: ProviderArgs,
    /// Where the passphrase is.
    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,
    /// File with a new passphrase, to replace the one that opens the data key now
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Make a new data key as well, and seal every stored key under it: after somebody may have seen the old one
    #[arg(long)]
    pub(crate) data_key: bool,
}
