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
    /// Wrap the data key with these providers instead of those that wrap it now; stored keys are not touched
    Rotate(KekRotateArgs),
}

/// Who protects the data key.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ProviderArgs {
    /// What protects the data key; of several, separated by commas, any one opens it [default: keys.provider]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PROVIDER,…")]
    pub(crate) provider: Vec<KeyProvider>,
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
}
