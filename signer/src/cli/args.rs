//! The command line: every command and option, and which setting each option stands for.
//!
//! Options that stand for a setting are handed to the configuration as its topmost layer
//! ([`Cli::layers`]), so that a flag means exactly what the same key in the file means. Options that
//! may carry a password are texts here and checked there, because clap repeats a value it refuses.
#![allow(rustdoc::invalid_html_tags, reason = "doc comments here are help texts, shown as they stand")]

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use holdfast_domain::PublicKey;
use toml::Value;

use crate::config::{Environment, FlagValue, GenesisRoot, KeyProvider, Layers};

/// Validator keys in custody: a remote signer for Ethereum that speaks Web3Signer's API and never signs anything slashable.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Options every command takes.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options every command takes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GlobalArgs {
    /// Configuration file [default: ./holdfast.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for the database and keys [default: ./holdfast-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// mainnet, sepolia, holesky, hoodi, gnosis, chiado, or the path of a consensus-spec config.yaml [default: mainnet]
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub(crate) network: Option<String>,
    /// Genesis validators root of a custom network
    #[arg(long, global = true, value_name = "0x…")]
    pub(crate) genesis_validators_root: Option<GenesisRoot>,
    /// Genesis time of a custom network, where it is not MIN_GENESIS_TIME + GENESIS_DELAY
    #[arg(long, global = true, value_name = "UNIX SECONDS")]
    pub(crate) genesis_time: Option<u32>,
    /// Beacon node to learn a custom network's genesis from; may be given several times
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) beacon: Vec<String>,
    /// Database [default: sqlite:<data-dir>/holdfast.db]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more; twice for everything
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: data directory, protection, a throw-away key for development and a server, with no configuration
    Quickstart(QuickstartArgs),
    /// Run the signer
    Serve(ServeArgs),
    /// Import, list, delete and generate keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look at slashing protection
    #[command(subcommand)]
    Slashing(SlashingCommand),
    /// The key-encryption key that protects all stored keys
    #[command(subcommand)]
    Kek(KekCommand),
    /// Check this installation and say how to mend what is wrong
    Doctor,
    /// Print the options with which a validator client uses this signer
    Connect(ConnectArgs),
    /// The configuration file: an example, its schema, a check
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the version
    Version,
}

/// `holdfast quickstart`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct QuickstartArgs {
    /// Where to listen.
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

/// `holdfast serve`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen.
    #[command(flatten)]
    pub(crate) listen: ListenArgs,
}

/// Addresses the server listens on.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListenArgs {
    /// Address of the signing API [default: 127.0.0.1:9000]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http_listen: Option<SocketAddr>,
    /// Address of metrics, /livez and /readyz [default: 127.0.0.1:9001]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

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

/// `holdfast slashing`
#[derive(Debug, Subcommand)]
pub(crate) enum SlashingCommand {
    /// Show the watermark of every key, the head of the journal, and whether protection is frozen
    Status,
    /// Put keys behind everything they may have signed until now, after the database was restored or lost writes
    Fence(FenceArgs),
    /// Bring the database's schema up to date. A start does so by itself; with --dry-run only say what it would do
    Migrate(MigrateArgs),
    /// Take in what keys have signed elsewhere (EIP-3076, version 5). Watermarks only rise
    Import(SlashingImportArgs),
    /// Write what keys have signed here, for the signer that takes over (EIP-3076, version 5)
    Export(SlashingExportArgs),
}

/// `holdfast slashing fence`
#[derive(Debug, Clone, Args)]
pub(crate) struct FenceArgs {
    /// Only this key; may be given several times [default: all keys, which ends a freeze]
    #[arg(long = "key", value_name = "PUBKEY")]
    pub(crate) keys: Vec<PublicKey>,
}

/// `holdfast slashing migrate`
#[derive(Debug, Clone, Args)]
pub(crate) struct MigrateArgs {
    /// Change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `holdfast slashing import`
#[derive(Debug, Clone, Args)]
pub(crate) struct SlashingImportArgs {
    /// Interchange file; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take in what can be read of a damaged file. Validators left out stay unprotected by it
    #[arg(long)]
    pub(crate) allow_partial: bool,
}

/// `holdfast slashing export`
#[derive(Debug, Clone, Args)]
pub(crate) struct SlashingExportArgs {
    /// File to write, mode 0600; - for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Only this key; may be given several times [default: all keys, deleted ones too]
    #[arg(long, value_name = "PUBKEY")]
    pub(crate) key: Vec<PublicKey>,
    /// Switch the exported keys off in the same transaction, so that they never sign in two places
    #[arg(long)]
    pub(crate) disable: bool,
}

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

/// Where the passphrase of the "passphrase" provider is. It is never an argument itself.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PassphraseArgs {
    /// File with the passphrase [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// `holdfast connect`
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// Which validator client
    #[arg(value_enum)]
    pub(crate) client: Client,
    /// Address at which the client reaches this signer [default: http:// and the address it listens on]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// A validator client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    Lighthouse,
    Prysm,
    Teku,
    Nimbus,
    Lodestar,
    Grandine,
    Vero,
}

/// `holdfast config`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a configuration file with every setting, documented, at its default
    Example,
    /// Print the JSON schema of the configuration file
    Schema,
    /// Check all layers and print what is in force, without secrets
    Validate,
}

/// `holdfast completions`
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

impl Cli {
    /// The layers of the configuration: the file, `environment`, and the flags given here.
    pub(crate) fn layers(&self, environment: Environment) -> Layers {
        let mut flags = Flags(Vec::new());
        self.global.settings(&mut flags);
        match &self.command {
            Command::Quickstart(args) => args.listen.settings(&mut flags),
            Command::Serve(args) => args.listen.settings(&mut flags),
            Command::Kek(KekCommand::Init(args)) => {
                flags.text("--provider", "keys", "provider", args.provider.map(KeyProvider::as_str));
                args.passphrase.settings(&mut flags);
            }
            Command::Kek(KekCommand::Status(args)) => args.passphrase.settings(&mut flags),
            Command::Keys(_)
            | Command::Slashing(_)
            | Command::Doctor
            | Command::Connect(_)
            | Command::Config(_)
            | Command::Completions(_)
            | Command::Version => {}
        }
        Layers { file: self.global.config.clone(), environment, flags: flags.0 }
    }
}

impl GlobalArgs {
    fn settings(&self, flags: &mut Flags) {
        flags.text("--data-dir", "data", "dir", self.data_dir.as_ref().map(|dir| dir.display()));
        flags.text("--network", "network", "name", self.network.as_ref());
        flags.text("--genesis-validators-root", "network", "genesis_validators_root", self.genesis_validators_root);
        flags.value(
            "--genesis-time",
            "network",
            "genesis_time",
            self.genesis_time.map(|time| Value::Integer(time.into())),
        );
        let beacons = self.beacon.iter().map(|url| Value::String(url.clone())).collect::<Vec<_>>();
        flags.value("--beacon", "network", "beacon", (!beacons.is_empty()).then_some(Value::Array(beacons)));
        flags.text("--database", "database", "url", self.database.as_ref());
        match (self.quiet, self.verbose) {
            (true, _) => flags.text("--quiet", "telemetry", "log", Some("warn")),
            (false, 0) => {}
            (false, 1) => flags.text("--verbose", "telemetry", "log", Some("info,holdfast=debug")),
            (false, _) => flags.text("--verbose", "telemetry", "log", Some("info,holdfast=trace")),
        }
    }
}

impl ListenArgs {
    fn settings(&self, flags: &mut Flags) {
        flags.text("--http-listen", "http", "listen", self.http_listen);
        flags.text("--metrics-listen", "metrics", "listen", self.metrics_listen);
    }
}

impl PassphraseArgs {
    fn settings(&self, flags: &mut Flags) {
        let path = self.passphrase_file.as_ref().map(|path| path.display());
        flags.text("--passphrase-file", "keys", "passphrase_file", path);
    }
}

/// Collects the flags that were given.
struct Flags(Vec<FlagValue>);

impl Flags {
    fn value(&mut self, flag: &'static str, section: &'static str, key: &'static str, value: Option<Value>) {
        self.0.extend(value.map(|value| FlagValue { flag, section, key, value }));
    }

    fn text<T: ToString>(&mut self, flag: &'static str, section: &'static str, key: &'static str, text: Option<T>) {
        self.value(flag, section, key, text.map(|text| Value::String(text.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{Catalog, load};

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_sets_a_known_setting() {
        let cli = Cli::try_parse_from([
            "holdfast",
            "serve",
            "--data-dir",
            "/d",
            "--network",
            "hoodi",
            "--genesis-validators-root",
            &format!("0x{}", "ab".repeat(32)),
            "--genesis-time",
            "5",
            "--beacon",
            "http://a:1",
            "--beacon",
            "http://b:2",
            "--database",
            "sqlite:/d/x.db",
            "--http-listen",
            "127.0.0.1:7",
            "--metrics-listen",
            "127.0.0.1:8",
        ])
        .unwrap();
        let layers = cli.layers(Environment::default());
        let catalog = Catalog::new();
        assert_eq!(layers.flags.len(), 8);
        for flag in &layers.flags {
            assert!(catalog.entries().any(|entry| entry.section == flag.section && entry.key == flag.key), "{flag:?}");
        }
        let config = load(&layers).unwrap();
        assert_eq!(config.http.listen.port(), 7);
        assert_eq!(config.network.beacon.len(), 2);
        assert_eq!(config.data_dir(), std::path::Path::new("/d"));
    }

    #[test]
    fn a_password_in_a_refused_address_is_not_repeated() {
        for (flag, value) in [("--database", "mysql://u:hunter2@h/db"), ("--beacon", "ftp://u:hunter2@h")] {
            let cli = Cli::try_parse_from(["holdfast", "doctor", flag, value]).unwrap();
            let error = load(&cli.layers(Environment::default())).unwrap_err().to_string();
            assert!(error.starts_with(flag) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_wrong_network_flag_names_the_flag() {
        let cli = Cli::try_parse_from(["holdfast", "doctor", "--network", "hodi"]).unwrap();
        let error = load(&cli.layers(Environment::default())).unwrap_err().to_string();
        assert!(error.starts_with("--network: unknown network \"hodi\"; did you mean hoodi?"), "{error}");
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in [["holdfast", "--json", "keys", "list"], ["holdfast", "keys", "list", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.json);
        }
    }

    #[test]
    fn a_password_cannot_be_an_argument() {
        assert!(Cli::try_parse_from(["holdfast", "keys", "import", "--from", "x", "--password", "p"]).is_err());
    }
}
