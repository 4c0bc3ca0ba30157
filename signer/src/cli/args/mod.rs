//! The command line: every command and option, and which setting each option stands for.
//!
//! Options that stand for a setting are handed to the configuration as its topmost layer
//! ([`Cli::layers`]), so that a flag means exactly what the same key in the file means. Options that
//! may carry a password are texts here and checked there, because clap repeats a value it refuses.
#![allow(rustdoc::invalid_html_tags, reason = "doc comments here are help texts, shown as they stand")]

mod approvals;
mod ask;
mod audit;
mod backup;
mod callers;
mod enclave;
mod exits;
mod kek;
mod keys;
mod migrate;
mod policy;
mod slashing;
mod switcher;
mod witness;

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use toml::Value;

use crate::config::{Environment, FlagValue, GenesisRoot, KeyProvider, Layers, SYSTEM_CONFIG_FILE};
pub(crate) use approvals::{
    AdoptArgs, ApprovalArgs, ApprovalsCommand, ApprovalsListArgs, ApprovalsShowArgs, ApprovalsVerifyArgs, ApproveArgs,
    KeygenArgs,
};
pub(crate) use ask::AskArgs;
pub(crate) use audit::{
    AuditCommand, AuditConsistencyArgs, AuditExportArgs, AuditFormat, AuditProveArgs, AuditSelection, AuditTailArgs,
    AuditVerifyArgs, Moment,
};
pub(crate) use backup::{
    BackupCheckArgs, BackupCommand, BackupCreateArgs, BackupDrillArgs, BackupRestoreArgs, BackupVerifyArgs,
};
pub(crate) use callers::{CallersAddArgs, CallersCommand, CallersRemoveArgs, CallersRotateArgs, ProofArgs};
#[cfg(feature = "backend-process")]
pub(crate) use enclave::MeasuredWitnessArgs;
pub(crate) use enclave::{BuildArgs, DescribeArgs, EnclaveCommand, ImageArgs, KmsPolicyArgs, RunArgs, VerifyArgs};
#[cfg(feature = "backend-enclave")]
pub(crate) use enclave::{EnclaveGenerateArgs, EnclaveImportArgs, WrapArgs};
pub(crate) use exits::{ExitsCommand, ExitsSignArgs, ExitsVerifyArgs};
pub(crate) use kek::{KekCommand, KekInitArgs, KekRotateArgs, KekUnsealArgs, ProviderArgs};
pub(crate) use keys::{
    DeleteArgs, DepositArgs, ExportArgs, GenerateArgs, GeneratedWatermarkArg, ImportArgs, KdfArg, KeysCommand,
    KeystoresArgs, LabelArgs, ListArgs, ShowArgs, SourceArgs, SwitchArgs, WatermarkArg,
};
pub(crate) use migrate::{
    ClientArgs, Confirmed, LighthouseArgs, MigrateCommand, MoveArgs, MoveWatermarkArg, Web3SignerArgs,
};
pub(crate) use policy::{ExplainArgs, PolicyApplyArgs, PolicyChangeArgs, PolicyCheckArgs, PolicyCommand};
pub(crate) use slashing::{
    FenceArgs, MigrateArgs, SlashingCommand, SlashingExportArgs, SlashingImportArgs, SlashingStatusArgs,
};
pub(crate) use switcher::{AddArgs, RoleArg, SwitcherCommand};
pub(crate) use witness::{EnrollArgs, WitnessArgs, WitnessCommand, WitnessServeArgs};

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
    /// Configuration file [default: ./holdfast.toml, else /etc/holdfast/holdfast.toml unless --data-dir is given, if it is there]
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
    /// Beacon node: the switcher stands in front of it, and a custom network's genesis is learnt from it; may be given several times
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) beacon: Vec<String>,
    /// Database [default: sqlite:<data-dir>/holdfast.db]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// Work through the admin API of a server on another machine (https://HOST:PORT), not on this machine's data directory
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) admin_server: Option<String>,
    /// Authorities that vouch for that server, PEM [default: the public ones]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) admin_ca: Option<PathBuf>,
    /// Certificate that proves to that server who you are, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) admin_certificate: Option<PathBuf>,
    /// Its private key, PEM [default: the file of the certificate]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) admin_key: Option<PathBuf>,
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
    /// Run the signer, the switcher, or both
    Serve(ServeArgs),
    /// Import, list, delete and generate keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Who may ask for signatures: make, show, renew and take away callers
    #[command(subcommand)]
    Callers(CallersCommand),
    /// Look at slashing protection
    #[command(subcommand)]
    Slashing(SlashingCommand),
    /// Move keys here from another signer, together with what they have signed
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// The key-encryption key that protects all stored keys
    #[command(subcommand)]
    Kek(KekCommand),
    /// Back up what is in custody, verify and restore it, and practise that
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Approve a dangerous act that somebody asked for: needs the request and your key, and no configuration
    Approve(ApproveArgs),
    /// Who approves dangerous acts, and what was approved
    #[command(subcommand)]
    Approvals(ApprovalsCommand),
    /// The journal of every request and answer, as evidence for others
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Sign voluntary exits of many validators before they are needed, and check them
    #[command(subcommand)]
    Exits(ExitsCommand),
    /// AWS Nitro enclaves: images, key policies, attestation documents
    #[command(subcommand)]
    Enclave(EnclaveCommand),
    /// Look at and change the switcher of the process that runs with this data directory
    #[command(subcommand)]
    Switcher(SwitcherCommand),
    /// Run a witness, which lets one signer of a group sign at a time
    #[command(subcommand)]
    Witness(WitnessCommand),
    /// Who may do what: check the rules, and ask which of them decides
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Show the server, the database, its keys and every signer that shares it, at a glance
    Status(StatusArgs),
    /// Have the running server read its configuration again, and print what changes and what needs a restart
    Reload(ReloadArgs),
    /// Watch a running server in the terminal: signatures, latencies, refusals, nodes, keys
    Top(TopArgs),
    /// Check this installation and say how to mend what is wrong
    Doctor(DoctorArgs),
    /// Print the options with which a validator client uses this signer
    Connect(ConnectArgs),
    /// The configuration file: an example, its schema, a check
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each command
    #[command(hide = true)]
    Man(ManArgs),
    /// Print the version
    Version,
    /// Open a data key for a server, which starts this by itself
    #[command(name = crate::custody::HELPER_COMMAND, hide = true)]
    UnwrapHelper,
    /// Hold keys in a process that outlives the signer (signing.vault_socket); without --listen `serve` starts it by itself
    Vault(VaultArgs),
}

/// `holdfast vault`
#[derive(Debug, Clone, Args)]
pub(crate) struct VaultArgs {
    /// Unix socket to listen on, in a directory that only the vault's user may write
    #[arg(long, value_name = "PATH", required_unless_present = "parent")]
    pub(crate) listen: Option<PathBuf>,
    /// Numeric id of the user whose signer is served [default: the vault's own]
    #[arg(long, value_name = "UID", requires = "listen")]
    pub(crate) client: Option<u32>,
    /// Threads that sign [default: one per processor]
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Process id of the signer that starts it
    #[arg(hide = true, conflicts_with = "listen")]
    pub(crate) parent: Option<u32>,
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
    /// Address of the switcher, a Beacon API in front of the nodes given with --beacon; switches it on [default: 127.0.0.1:5052]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) switcher_listen: Option<SocketAddr>,
    /// Address of the admin API over TCP, which needs [admin.tls] and administrators [default: only the Unix socket in the data directory]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Run the switcher alone: no keys, no database, no data directory
    #[arg(long)]
    pub(crate) no_signer: bool,
}

/// Addresses the server listens on.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListenArgs {
    /// Address of the signing API [default: 127.0.0.1:9000]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http_listen: Option<SocketAddr>,
    /// Address of metrics, /livez, /readyz and the status page [default: 127.0.0.1:9001]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// Where the passphrase of the "passphrase" provider is. It is never an argument itself.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PassphraseArgs {
    /// File with the passphrase [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// `holdfast doctor`
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DoctorArgs {
    /// How the server is asked.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `holdfast top`
#[derive(Debug, Clone, Args)]
pub(crate) struct TopArgs {
    /// Metrics listener to ask, also one of another machine: https://HOST:PORT [default: that of the server on this data directory]
    #[arg(long, value_name = "URL")]
    pub(crate) metrics: Option<String>,
    /// How the server is asked.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Print once and end
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "2")]
    pub(crate) every: NonZeroU16,
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
    /// Name of the client as a caller: it gets a certificate, or a token where it can show none
    #[arg(long, value_name = "NAME")]
    pub(crate) caller: Option<String>,
    /// Folder for the client's key, certificate and PKCS#12 file [default: clients/NAME in the data directory]
    #[arg(long, value_name = "DIR", requires = "caller")]
    pub(crate) bundle: Option<PathBuf>,
    /// How the server is asked.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
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
    /// Print what every setting means, its default, its environment variable and when a change counts, as Markdown
    Reference,
    /// Print the JSON schema of the configuration file
    Schema,
    /// Check all layers and print what is in force, without secrets
    Validate,
}

/// `holdfast status`
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    /// End with 3 unless a server runs on this data directory and says that it is ready: for health checks
    #[arg(long)]
    pub(crate) ready: bool,
    /// How the server is asked.
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

/// `holdfast reload`
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ReloadArgs {
    /// Print what would change, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `holdfast completions`
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// `holdfast man`
#[derive(Debug, Clone, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

impl Cli {
    /// The layers of the configuration: the file, `environment`, and the flags given here.
    pub(crate) fn layers(&self, environment: Environment) -> Layers {
        let mut flags = Flags(Vec::new());
        self.global.settings(&mut flags);
        match &self.command {
            Command::Quickstart(args) => args.listen.settings(&mut flags),
            Command::Serve(args) => args.settings(&mut flags),
            Command::Kek(KekCommand::Init(args)) => {
                args.providers.settings(&mut flags);
                args.passphrase.settings(&mut flags);
            }
            Command::Kek(KekCommand::Rotate(args)) => {
                args.providers.settings(&mut flags);
                args.passphrase.settings(&mut flags);
            }
            Command::Kek(KekCommand::Status(args)) => args.passphrase.settings(&mut flags),
            Command::Status(args) => args.ask.settings(&mut flags),
            Command::Top(args) => {
                flags.text("--metrics", "ask", "metrics", args.metrics.as_ref());
                args.ask.settings(&mut flags);
            }
            Command::Doctor(args) => args.ask.settings(&mut flags),
            Command::Connect(args) => args.ask.settings(&mut flags),
            Command::Exits(ExitsCommand::Sign(args)) => args.ask.settings(&mut flags),
            Command::Kek(KekCommand::Unseal(_))
            | Command::Keys(_)
            | Command::Approve(_)
            | Command::Approvals(_)
            | Command::Callers(_)
            | Command::Audit(_)
            | Command::Slashing(_)
            | Command::Migrate(_)
            | Command::Backup(_)
            | Command::Switcher(_)
            | Command::Witness(_)
            | Command::Policy(_)
            | Command::Reload(_)
            | Command::Exits(_)
            | Command::Config(_)
            | Command::Completions(_)
            | Command::Man(_)
            | Command::Enclave(_)
            | Command::UnwrapHelper
            | Command::Version
            | Command::Vault(_) => {}
        }
        let file = if self.old_config().is_some() { None } else { self.global.config.clone() };
        // Who names a data directory, or begins in one of its own, does not speak of the system's signer.
        let of_system = self.global.data_dir.is_none()
            && !environment.names_data_dir()
            && !matches!(self.command, Command::Quickstart(_));
        let system = of_system.then(|| SYSTEM_CONFIG_FILE.into());
        Layers { file, system, environment, flags: flags.0 }
    }

    /// A file given with `--config` that is another signer's, which `migrate web3signer` reads.
    pub(crate) fn old_config(&self) -> Option<&Path> {
        let Command::Migrate(MigrateCommand::Web3signer(_)) = &self.command else { return None };
        let is_yaml =
            |path: &&Path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        self.global.config.as_deref().filter(is_yaml)
    }
}

impl Command {
    /// Whether a command may be given for a server on another machine: it does all its work through the admin API, or needs
    /// nothing but its files. What opens this machine's data must not be mistaken for the other's. `kek rotate` goes to
    /// the server, but takes the providers and paths of this machine's configuration with it.
    pub(crate) const fn may_be_for_a_server_elsewhere(&self) -> bool {
        match self {
            Self::Keys(command) => !matches!(command, KeysCommand::Generate(_) | KeysCommand::Export(_)),
            Self::Slashing(command) => !matches!(command, SlashingCommand::Migrate(_)),
            Self::Kek(command) => matches!(command, KekCommand::Status(_)),
            Self::Audit(command) => !matches!(command, AuditCommand::Key),
            Self::Exits(command) => matches!(command, ExitsCommand::Verify(_)),
            Self::Approvals(command) => {
                matches!(command, ApprovalsCommand::Status | ApprovalsCommand::List(_) | ApprovalsCommand::Show(_))
            }
            Self::Migrate(_)
            | Self::Switcher(_)
            | Self::Status(_)
            | Self::Reload(_)
            | Self::Config(_)
            | Self::Policy(_) => true,
            Self::Quickstart(_)
            | Self::Serve(_)
            | Self::Callers(_)
            | Self::Backup(_)
            | Self::Approve(_)
            | Self::Witness(_)
            | Self::Top(_)
            | Self::Doctor(_)
            | Self::Connect(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Enclave(_)
            | Self::UnwrapHelper
            | Self::Version
            | Self::Vault(_) => false,
        }
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
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        flags.text("--admin-server", "remote", "server", self.admin_server.as_ref());
        flags.text("--admin-ca", "remote", "ca", path(&self.admin_ca));
        flags.text("--admin-certificate", "remote", "certificate", path(&self.admin_certificate));
        flags.text("--admin-key", "remote", "key", path(&self.admin_key));
        match (self.quiet, self.verbose) {
            (true, _) => flags.text("--quiet", "telemetry", "log", Some("warn")),
            (false, 0) => {}
            (false, 1) => flags.text("--verbose", "telemetry", "log", Some("info,holdfast=debug")),
            (false, _) => flags.text("--verbose", "telemetry", "log", Some("info,holdfast=trace")),
        }
    }
}

impl ServeArgs {
    fn settings(&self, flags: &mut Flags) {
        self.listen.settings(flags);
        flags.text("--admin-listen", "admin", "listen", self.admin_listen);
        let on = |given: bool| given.then_some(Value::Boolean(true));
        flags.text("--switcher-listen", "switcher", "listen", self.switcher_listen);
        flags.value("--switcher-listen", "switcher", "enabled", on(self.switcher_listen.is_some()));
        flags.value("--no-signer", "switcher", "enabled", on(self.no_signer));
    }
}

impl ListenArgs {
    fn settings(&self, flags: &mut Flags) {
        flags.text("--http-listen", "http", "listen", self.http_listen);
        flags.text("--metrics-listen", "metrics", "listen", self.metrics_listen);
    }
}

impl kek::ProviderArgs {
    fn settings(&self, flags: &mut Flags) {
        let names: Vec<_> = self.provider.iter().map(|one| Value::String(one.as_str().to_owned())).collect();
        let Some(threshold) = self.threshold else {
            flags.value("--provider", "keys", "provider", (!names.is_empty()).then_some(Value::Array(names)));
            return;
        };
        // The providers that are named hold a share each.
        let shares = Value::Array(vec![Value::String(KeyProvider::Shares.as_str().to_owned())]);
        flags.value("--threshold", "keys", "provider", Some(shares));
        flags.value("--threshold", "shares", "threshold", Some(Value::Integer(threshold.into())));
        let people = self.recipient.iter().map(|one| Value::String(one.clone())).collect();
        flags.value("--recipient", "shares", "recipients", Some(Value::Array(people)));
        flags.value("--provider", "shares", "providers", Some(Value::Array(names)));
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
mod tests;
