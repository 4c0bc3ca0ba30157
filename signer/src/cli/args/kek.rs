//! `holdfast kek` and its options.

use clap::{Args, Subcommand};

use super::PassphraseArgs;
use crate::config::KeyProvider;

/// `holdfast kek`
#[derive(Debug, Subcommand)]
pub(crate) enum KekCommand {
    /// Make the key-encryption key and the data key it protects
    Init(KekInitArgs),
    /// Show what protects the stored keys, and whether it opens
    Status(KekStatusArgs),
}

/// `holdfast kek init`
#[derive(Debug, Clone, Args)]
pub(crate) struct KekInitArgs {
    /// What protects the data key [default: file]
    #[arg(long, value_enum)]
    pub(crate) provider: Option<KeyProvider>,
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
