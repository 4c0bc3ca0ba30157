//! `holdfast migrate` and its options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_secret::SecretText;

use super::{ApprovalArgs, KeystoresArgs};

/// `holdfast migrate`
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// From Web3Signer: its settings, its key files and what its database says the keys have signed
    Web3signer(Box<Web3SignerArgs>),
    /// From Lighthouse: a validators directory, its passwords and its slashing protection database
    Lighthouse(Box<LighthouseArgs>),
    /// From Lodestar: keystores, secrets, and an interchange file
    Lodestar(Box<ClientArgs>),
    /// From Nimbus: validators, secrets, and an interchange file
    Nimbus(Box<ClientArgs>),
    /// From Prysm: its wallet, or keystores of `prysm validator accounts backup`, and an interchange file
    Prysm(Box<ClientArgs>),
    /// From Teku: keys, passwords, and an interchange file
    Teku(Box<ClientArgs>),
}

impl MigrateCommand {
    /// What of the move every signer has.
    pub(crate) fn moving(&self) -> &MoveArgs {
        match self {
            Self::Web3signer(args) => &args.moving,
            Self::Lighthouse(args) => &args.client.moving,
            Self::Lodestar(args) | Self::Nimbus(args) | Self::Prysm(args) | Self::Teku(args) => &args.moving,
        }
    }
}

/// `holdfast migrate web3signer`
#[derive(Debug, Clone, Args)]
pub(crate) struct Web3SignerArgs {
    /// Web3Signer's configuration file; a .yaml or .yml given with --config is taken for it, too
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// File with Web3Signer's environment, NAME=value lines [default: variables WEB3SIGNER_… of this process]
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Directory with key files (*.yaml) [default: as Web3Signer's settings say]
    #[arg(long, visible_aliases = ["key-config-path", "key-store-path"], value_name = "DIR")]
    pub(crate) key_config: Option<PathBuf>,
    /// Directory with keystores (*.json) [default: as Web3Signer's settings say]
    #[arg(long, visible_alias = "keystores-path", value_name = "DIR")]
    pub(crate) keystores: Option<PathBuf>,
    /// Directory with a password for each of them: the same name with .txt [default: as Web3Signer's settings say]
    #[arg(long, visible_alias = "keystores-passwords-path", value_name = "DIR", requires = "keystores")]
    pub(crate) keystores_passwords: Option<PathBuf>,
    /// File with the password of all of them [default: as Web3Signer's settings say]
    #[arg(long, value_name = "FILE", requires = "keystores", conflicts_with = "keystores_passwords")]
    pub(crate) keystores_password_file: Option<PathBuf>,
    /// Web3Signer's slashing protection database: jdbc:postgresql://… or postgres://… [default: as Web3Signer's settings say]
    #[arg(long, visible_alias = "slashing-protection-db-url", value_name = "URL", value_parser = secret)]
    pub(crate) db: Option<SecretText>,
    /// Role with which it is read; SELECT is enough [default: as Web3Signer's settings say]
    #[arg(long, value_name = "ROLE")]
    pub(crate) db_user: Option<String>,
    /// File with that role's password, mode 0600 [default: as Web3Signer's settings say]
    #[arg(long, value_name = "FILE")]
    pub(crate) db_password_file: Option<PathBuf>,
    /// Authorities that may sign the certificate of HashiCorp Vault, in PEM [default: Mozilla's, and known servers of key files]
    #[arg(long, value_name = "FILE")]
    pub(crate) vault_ca: Option<PathBuf>,
    /// Address of the Azure Key Vault [default: that of its name at vault.azure.net]
    #[arg(long, value_name = "URL")]
    pub(crate) azure_address: Option<String>,
    /// Address of Google Secret Manager, such as a private endpoint [default: Google's]
    #[arg(long, value_name = "URL")]
    pub(crate) gcp_address: Option<String>,
    /// Write a configuration file made from Web3Signer's settings to this new file
    #[arg(long, value_name = "FILE")]
    pub(crate) write_config: Option<PathBuf>,
    /// How and how far.
    #[command(flatten)]
    pub(crate) moving: MoveArgs,
    /// Web3Signer's command line, as it is started
    #[arg(last = true, value_name = "WEB3SIGNER OPTIONS", allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

/// Takes a text that may hold a password. It is never refused, because a refusal would repeat it.
#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a parser")]
fn secret(text: &str) -> Result<SecretText, String> {
    Ok(SecretText::new(text))
}

/// `holdfast migrate lighthouse`
#[derive(Debug, Clone, Args)]
pub(crate) struct LighthouseArgs {
    /// Its slashing protection database [default: slashing_protection.sqlite in the directories given]
    #[arg(long, value_name = "FILE", conflicts_with = "interchange")]
    pub(crate) db: Option<PathBuf>,
    /// What all such moves have.
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `holdfast migrate` from a validator client.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// Its keys.
    #[command(flatten)]
    pub(crate) keystores: KeystoresArgs,
    /// What the keys have signed, as the client exports it (EIP-3076)
    #[arg(long, value_name = "FILE")]
    pub(crate) interchange: Option<PathBuf>,
    /// How and how far.
    #[command(flatten)]
    pub(crate) moving: MoveArgs,
}

/// How and how far keys are moved.
#[derive(Debug, Clone, Args)]
pub(crate) struct MoveArgs {
    /// Show what would be done, and change nothing
    #[arg(long, visible_alias = "dry-run", conflicts_with_all = ["keys", "confirm"])]
    pub(crate) plan: bool,
    /// Move, and do not ask: how many keys, as the plan says
    #[arg(long = "move", value_name = "N")]
    pub(crate) keys: Option<usize>,
    /// What you have done, so that the moved keys may sign here. Without it they come in switched off
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    pub(crate) confirm: Vec<Confirmed>,
    /// Where protection of the moved keys begins, besides what they have signed
    #[arg(long, value_enum, default_value_t = MoveWatermarkArg::Now)]
    pub(crate) watermark: MoveWatermarkArg,
    /// Move keys of which the old signer's protection says nothing, too; their protection begins at the present
    #[arg(long)]
    pub(crate) accept_keys_without_history: bool,
    /// What people approved.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
}

/// Something only a person can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Confirmed {
    /// The old signer is stopped, wherever it ran with these keys, and nothing starts it again
    OldSignerStopped,
    /// A high watermark is set in Web3Signer's database (which is checked), so that it could sign nothing more
    FenceSet,
    /// The keys were taken away from the old signer, so that it could sign nothing more
    KeysRemoved,
}

/// Where protection of a moved key begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MoveWatermarkArg {
    /// At the present as well: the keys sign nothing for the current epoch and before
    Now,
    /// At what the old signer's protection says alone, which must then be complete: no epoch is lost
    Interchange,
}
