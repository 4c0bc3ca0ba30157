//! `holdfast keys` and its options.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::Label;

use super::ApprovalArgs;
use crate::deposit::{Amount, ExecutionAddress};

/// `holdfast keys`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Import keystores: files, or directories as deposit-cli, Lighthouse, Lodestar, Nimbus, Prysm, Teku and Web3Signer lay them out
    Import(ImportArgs),
    /// List the keys held here
    List(ListArgs),
    /// Show everything known about one key
    Show(ShowArgs),
    /// Let keys sign again that were switched off. They are fenced at the present, and sign from about the next epoch on
    Enable(SwitchArgs),
    /// Switch keys off. They stay here and sign nothing until they are enabled
    Disable(SwitchArgs),
    /// Change the labels of keys, by which rules of the policy select them
    Label(LabelArgs),
    /// Delete keys. What they signed is remembered, so that they cannot come back unnoticed
    Delete(DeleteArgs),
    /// Make new keys: from a new mnemonic, from one that exists, or at random; with deposit data, if asked for
    Generate(GenerateArgs),
    /// Write keys out as keystores (EIP-2335), together with what they have signed; they are switched off here
    Export(ExportArgs),
}

/// Keystores and wallets of other programs, and their passwords.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KeystoresArgs {
    /// Keystore files or directories
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    pub(crate) from: Vec<PathBuf>,
    /// File with the password of all keystores, or of a wallet [default: where the client has them]
    #[arg(long, value_name = "FILE", conflicts_with = "passwords_dir")]
    pub(crate) password_file: Option<PathBuf>,
    /// Directory with one password file per keystore: the same name with .txt [default: where the client has it]
    #[arg(long, value_name = "DIR")]
    pub(crate) passwords_dir: Option<PathBuf>,
}

/// `holdfast keys import`
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// What is imported.
    #[command(flatten)]
    pub(crate) keystores: KeystoresArgs,
    /// Where protection of the imported keys begins
    #[arg(long, value_enum, default_value_t = WatermarkArg::Now)]
    pub(crate) watermark: WatermarkArg,
    /// What the imported keys have signed elsewhere (EIP-3076); merged with the watermark
    #[arg(long, value_name = "FILE")]
    pub(crate) slashing_protection: Option<PathBuf>,
    /// Import keys that were deleted here before, too
    #[arg(long)]
    pub(crate) replace_tombstone: bool,
    /// Label that the imported keys get; may be repeated. Keys that are here keep theirs
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<Label>,
    /// What people approved.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
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
    /// Only keys that have this label; repeated: that have all of them
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<Label>,
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

/// `holdfast keys label`
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["add", "remove"]))]
pub(crate) struct LabelArgs {
    /// Public keys: 96 hexadecimal digits each
    #[arg(value_name = "PUBKEY", required = true)]
    pub(crate) keys: Vec<PublicKey>,
    /// Label that they get: small letters, digits, `.`, `_`, `-`, `:` and `=`; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub(crate) add: Vec<Label>,
    /// Label that they lose; may be repeated
    #[arg(long, value_name = "LABEL")]
    pub(crate) remove: Vec<Label>,
    /// Only show what would be
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What people approved.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
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
    /// Where the keys come from.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Where protection of the keys begins [default: now for a mnemonic that exists, never-signed for new keys]
    #[arg(long, value_enum)]
    pub(crate) watermark: Option<GeneratedWatermarkArg>,
    /// What is deposited, and where it goes.
    #[command(flatten)]
    pub(crate) deposit: DepositArgs,
    /// Also write the keys as keystores (EIP-2335) into this new directory
    #[arg(long, value_name = "DIR")]
    pub(crate) keystores_to: Option<PathBuf>,
    /// File with the password of those keystores [default: ask on the terminal]
    #[arg(long, value_name = "FILE", requires = "keystores_to")]
    pub(crate) keystore_password_file: Option<PathBuf>,
    /// Key derivation of those keystores
    #[arg(long, value_enum, default_value_t = KdfArg::Scrypt, requires = "keystores_to")]
    pub(crate) kdf: KdfArg,
}

/// Where generated keys come from. Without any of these: a new mnemonic, shown once, on a terminal; random keys elsewhere.
#[derive(Debug, Clone, Args)]
pub(crate) struct SourceArgs {
    /// Keys of no mnemonic: what is not backed up is lost with this machine
    #[arg(long, conflicts_with_all = ["mnemonic_file", "mnemonic", "mnemonic_to", "first_index", "mnemonic_passphrase_file"])]
    pub(crate) random: bool,
    /// Keys of a new mnemonic, written to this new file, mode 0600, and not shown
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mnemonic_file", "mnemonic"])]
    pub(crate) mnemonic_to: Option<PathBuf>,
    /// Keys of the mnemonic in this file, which only its owner may read (BIP-39, English)
    #[arg(long, value_name = "FILE", conflicts_with = "mnemonic")]
    pub(crate) mnemonic_file: Option<PathBuf>,
    /// Keys of a mnemonic that is asked for on the terminal
    #[arg(long)]
    pub(crate) mnemonic: bool,
    /// File with the passphrase of the mnemonic (BIP-39); most mnemonics have none
    #[arg(long, value_name = "FILE")]
    pub(crate) mnemonic_passphrase_file: Option<PathBuf>,
    /// Place of the first key in the mnemonic: i in m/12381/3600/i/0/0
    #[arg(long, value_name = "I", default_value = "0")]
    pub(crate) first_index: u32,
}

/// Deposit data, written if one of the first three is given.
#[derive(Debug, Clone, Args)]
pub(crate) struct DepositArgs {
    /// Write deposit data; withdrawals go to this address of the execution layer, in its spelling with checksum
    #[arg(long, value_name = "0x…")]
    pub(crate) withdrawal_address: Option<ExecutionAddress>,
    /// The balance compounds up to 2048 ether (0x02, EIP-7251), instead of being paid out above 32 (0x01)
    #[arg(long, requires = "withdrawal_address")]
    pub(crate) compounding: bool,
    /// Write deposit data; withdrawals wait for an address that a key of the mnemonic names later (0x00)
    #[arg(long, conflicts_with_all = ["withdrawal_address", "random"])]
    pub(crate) bls_withdrawal: bool,
    /// How much each validator deposits, in ether [default: 32]
    #[arg(long, value_name = "ETHER")]
    pub(crate) amount: Option<Amount>,
    /// Directory for the file deposit_data-<time>.json
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) deposit_to: PathBuf,
}

/// Where protection of a generated key begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GeneratedWatermarkArg {
    /// At the present: the key may have signed elsewhere until now
    Now,
    /// From nothing: the key has never signed anywhere. Refused for keys this database has seen
    NeverSigned,
}

/// How keystores are encrypted, at the cost EIP-2335 shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KdfArg {
    /// 256 MiB of memory and a second for each key, also for whoever guesses the password
    Scrypt,
    /// A tenth of a second for each key
    Pbkdf2,
}

/// `holdfast keys export`
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Public keys: 96 hexadecimal digits each
    #[arg(value_name = "PUBKEY", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) keys: Vec<PublicKey>,
    /// All keys held here
    #[arg(long)]
    pub(crate) all: bool,
    /// New directory for the keystores and slashing_protection.json
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) to: PathBuf,
    /// File with the password of the keystores [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Key derivation of the keystores
    #[arg(long, value_enum, default_value_t = KdfArg::Scrypt)]
    pub(crate) kdf: KdfArg,
    /// Let the keys go on signing here: only for a backup that nobody signs with
    #[arg(long)]
    pub(crate) keep_enabled: bool,
    /// Needed where exports need no approvals: nothing here can protect an exported key from what is signed with it elsewhere
    #[arg(long)]
    pub(crate) i_understand_that_exported_keys_can_be_slashed_elsewhere: bool,
    /// What people approved.
    #[command(flatten)]
    pub(crate) approval: ApprovalArgs,
}
