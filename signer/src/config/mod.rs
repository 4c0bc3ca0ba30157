//! What an operator can set, in one place.
//!
//! Every setting is a field here, with its default and the sentence that documents it; the example
//! file, the reference, the JSON schema, the names of environment variables and the suggestions for misspelt keys
//! are all made from these structs, so none of them can drift from what the program reads.
//!
//! Guarantees: a [`Config`] that exists has been checked as a whole before anything is bound or
//! opened; an unknown key in any layer is an error that names the nearest known one; printing a
//! `Config` never shows a password that is part of a URL.

mod admin;
mod approvals;
mod as_text;
mod ask;
mod audit;
mod callers;
mod catalog;
mod changes;
mod data;
mod enclave;
mod error;
mod example;
mod layers;
pub(crate) mod live;
mod network;
mod otlp;
mod policy;
mod providers;
pub(crate) mod reference;
mod rules;
mod settings;
mod switcher;
mod tls;
mod types;
mod witness;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};

use holdfast_slashing_db::DEFAULT_FUTURE_TOLERANCE_SLOTS;
use holdfast_slashing_db::journal::Retention;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use admin::{AdminConfig, RemoteConfig, place};
pub(crate) use approvals::{ActWord, ApprovalsConfig, ApproverEntry};
pub(crate) use ask::{AskConfig, web_place};
use audit::AuditConfig;
pub(crate) use callers::{CallerEntry, Fingerprint, TokenHash, check_callers};
#[cfg(test)]
pub(crate) use catalog::Catalog;
pub(crate) use changes::Change;
pub(crate) use data::{DataConfig, DatabaseConfig};
pub(crate) use enclave::EnclaveConfig;
pub(crate) use error::ConfigError;
pub(crate) use example::{example_toml, schema_json};
pub(crate) use layers::{Environment, FlagValue, Layers, load, place_of_file};
pub(crate) use network::resolve_network;
use otlp::OtlpConfig;
pub(crate) use policy::{GroupEntry, PolicyEntry, WrittenPolicy, compile_policy, operations};
#[cfg(feature = "provider-azure-key-vault")]
pub(crate) use providers::AzureAuth;
#[cfg(feature = "provider-pkcs11")]
pub(crate) use providers::Pkcs11Mechanism;
#[cfg(feature = "provider-vault-transit")]
pub(crate) use providers::TransitAuth;
pub(crate) use providers::{
    AwsConfig, AzureConfig, GcpConfig, KeyProvider, KeyProviders, Pkcs11Config, ProviderSections, SharesConfig,
    TpmConfig, TransitConfig,
};
pub(crate) use rules::{Rules, RulesDigest, RulesError};
pub(crate) use settings::ProviderSettings;
pub(crate) use switcher::{
    Balance, CrossCheck, DoppelgangerCheck, ExecutionConfig, HeavyRoutes, NoQuorum, RoleName, SwitcherConfig,
    UnknownRoutes, UpstreamEntry,
};
pub(crate) use tls::{MinVersion, TlsConfig};
pub(crate) use types::{
    BeaconUrl, Database, DatabaseUrl, GenesisRoot, JournalKeep, LogFormat, NetworkChoice, OnRollback, SignatureCheck,
    SigningBackend,
};
pub(crate) use witness::{WitnessConfig, WitnessServer};

/// The configuration file that is read when it exists and `--config` is not given.
pub(crate) const DEFAULT_CONFIG_FILE: &str = "holdfast.toml";

/// The one that is read when that is not there either: where packages put it, so that commands find the service's signer.
pub(crate) const SYSTEM_CONFIG_FILE: &str = "/etc/holdfast/holdfast.toml";

/// The whole configuration, all layers applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The admin API over TCP. The Unix socket in the data directory is always served.
    pub(crate) admin: AdminConfig,
    /// People who approve dangerous acts before they happen.
    pub(crate) approvals: ApprovalsConfig,
    /// How `holdfast status`, `top`, `connect`, `doctor` and `exits sign` ask the listeners of a running server.
    pub(crate) ask: AskConfig,
    /// What makes the journal evidence for others.
    pub(crate) audit: AuditConfig,
    /// Keys of AWS KMS that protect the data key: the "aws-kms" provider.
    pub(crate) aws: AwsConfig,
    /// A key of Azure Key Vault that protects the data key: the "azure-key-vault" provider.
    pub(crate) azure: AzureConfig,
    /// Who may ask, and how each proves it. Without one, whoever reaches a listener may ask; with one, nobody else may. `holdfast callers` keeps more of them in the data directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) callers: Vec<CallerEntry>,
    /// Where this instance keeps its files.
    pub(crate) data: DataConfig,
    /// The slashing protection database.
    pub(crate) database: DatabaseConfig,
    /// A vault in an AWS Nitro enclave, for signing.backend = "enclave".
    pub(crate) enclave: EnclaveConfig,
    /// The execution pool: one JSON-RPC address in front of several execution clients.
    pub(crate) execution: ExecutionConfig,
    /// A key of Google Cloud KMS that protects the data key: the "gcp-kms" provider.
    pub(crate) gcp: GcpConfig,
    /// Groups of keys, for rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<GroupEntry>,
    /// The signing API.
    pub(crate) http: HttpConfig,
    /// The record of every request and its answer.
    pub(crate) journal: JournalConfig,
    /// The Keymanager API, on the address of the signing API.
    pub(crate) keymanager: KeymanagerConfig,
    /// How stored keys are protected.
    pub(crate) keys: KeysConfig,
    /// Metrics, /livez and /readyz.
    pub(crate) metrics: MetricsConfig,
    /// Which chain the keys belong to.
    pub(crate) network: NetworkConfig,
    /// Traces of requests, for a collector that speaks OTLP over HTTP.
    pub(crate) otlp: OtlpConfig,
    /// A hardware module that protects the data key: the "pkcs11" provider.
    pub(crate) pkcs11: Pkcs11Config,
    /// Rules: which callers may, or may not, do what with which keys. Without one every caller may do everything; as soon as there is one, only what a rule allows and none denies. See docs/policy.md.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) policy: Vec<PolicyEntry>,
    /// How commands reach a server on another machine, through its admin API.
    pub(crate) remote: RemoteConfig,
    /// Who holds the shares of the data key's guard: the "shares" provider.
    pub(crate) shares: SharesConfig,
    /// The threads that compute signatures.
    pub(crate) signing: SigningConfig,
    /// Bounds of slashing protection. There is no setting that turns it off.
    pub(crate) slashing: SlashingConfig,
    /// The switcher: one Beacon API in front of several consensus clients.
    pub(crate) switcher: SwitcherConfig,
    /// Logging.
    pub(crate) telemetry: TelemetryConfig,
    /// The TPM 2.0 chip of this machine, which protects the data key: the "tpm" provider.
    pub(crate) tpm: TpmConfig,
    /// HashiCorp Vault or OpenBao, which protects the data key: the "vault-transit" provider.
    pub(crate) transit: TransitConfig,
    /// Witnesses, whose epoch leases the vault signs by: of several signers with the same keys one at a time signs.
    pub(crate) witness: WitnessConfig,
    /// The file that was read, if there was one.
    #[serde(skip)]
    pub(crate) file: Option<PathBuf>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpConfig {
    /// Address and port of the Web3Signer-compatible API. One that other machines can reach needs callers, or http.tls with client_ca or known_clients.
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
    /// Unix socket of the same API, besides the address: a process there is the caller whose unix_uids has its user. Without callers, only this user and root are served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen_unix: Option<PathBuf>,
    /// Listen where other machines can reach the API although nobody has to prove who he is. Only for a network that nothing else is on, such as one of containers that belong together: whoever reaches the port can have messages signed.
    pub(crate) allow_unauthenticated: bool,
    /// Names accepted in the Host header, compared without case; "*" accepts any. Others get 403.
    pub(crate) allowed_hosts: Vec<String>,
    /// Largest request body in bytes; larger ones get 413.
    pub(crate) max_body_bytes: NonZeroUsize,
    /// Threads that serve connections. Default: half of the processors, as signing needs the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// How many connections may be open at once; further ones wait to be accepted.
    pub(crate) max_connections: NonZeroUsize,
    /// How many requests may be in progress at once. Requests beyond this are answered 503 with Retry-After.
    pub(crate) max_requests: NonZeroUsize,
    /// How many requests one address may send per second, and at once; more are answered 429 with Retry-After. 0 sets no limit. A batch counts as one request and health checks do not count. Clients behind one proxy share its address. A limit must leave room for the burst at the start of a slot: one request for each key.
    pub(crate) max_requests_per_second: u32,
    /// How long a client may take to send a request's head, in seconds.
    pub(crate) header_timeout_seconds: NonZeroU64,
    /// How long a client may take to send a request's body, in seconds.
    pub(crate) body_timeout_seconds: NonZeroU64,
    /// How long a request may wait for its signature before it is answered 503, in seconds.
    pub(crate) request_timeout_seconds: NonZeroU64,
    /// How long after SIGTERM requests are still taken in, with /readyz answering 503 already, in seconds. For load balancers that ask /readyz before they send traffic elsewhere, as in Kubernetes; one that tries the next signer when a connection is refused needs none.
    pub(crate) shutdown_delay_seconds: u64,
    /// How long shutdown waits for requests in progress, in seconds.
    pub(crate) drain_timeout_seconds: NonZeroU64,
    /// TLS of the signing API. Off while neither certificate nor pkcs12 is set. The files are read again when they change.
    pub(crate) tls: TlsConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: loopback(9000),
            listen_unix: None,
            allow_unauthenticated: false,
            allowed_hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()],
            max_body_bytes: size(16 * 1024 * 1024),
            workers: None,
            max_connections: size(4_096),
            max_requests: size(16_384),
            max_requests_per_second: 0,
            header_timeout_seconds: nonzero(10),
            body_timeout_seconds: nonzero(10),
            request_timeout_seconds: nonzero(30),
            shutdown_delay_seconds: 0,
            drain_timeout_seconds: nonzero(20),
            tls: TlsConfig::default(),
        }
    }
}

/// `[journal]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JournalConfig {
    /// Folder for the batches that leave the database: compressed files that verify by themselves. Keep and back it up as long as the history is wanted. Default: <data.dir>/journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) archive: Option<PathBuf>,
    /// How long batches stay in the database: "forever", or whole days such as "90 days". Older ones move to the archive. The last 1,000 always stay.
    pub(crate) keep: JournalKeep,
}

/// `[keymanager]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeymanagerConfig {
    /// Whether keys can be listed, imported and deleted over HTTP (/eth/v1/keystores) by whoever has the token.
    pub(crate) enabled: bool,
    /// File that holds the token, readable by this user alone. Default: keymanager-token in the data directory, made at the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

impl Default for KeymanagerConfig {
    fn default() -> Self {
        Self { enabled: true, token_file: None }
    }
}

/// `[keys]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeysConfig {
    /// How often every provider is asked to open the data key, to notice early that one no longer can, in minutes. 0 never asks.
    pub(crate) check_minutes: u32,
    /// What protects the data key that seals every stored key: "file" (a key file in the data directory), "passphrase", "aws-kms", "gcp-kms", "azure-key-vault", "vault-transit", "pkcs11", "tpm" or "shares", or a list of these, of which any one opens it. Read when the data key is made and by `holdfast kek rotate`; otherwise the database says which they are.
    pub(crate) provider: KeyProviders,
    /// File that holds the passphrase, for the "passphrase" provider; one trailing line break is not part of it. Without it the passphrase is asked for on the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Memory that decrypting keystores may use at once, in MiB. A usual scrypt keystore needs 256. Default: half of what is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kdf_memory_mib: Option<NonZeroUsize>,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { check_minutes: 60, provider: KeyProviders::default(), passphrase_file: None, kdf_memory_mib: None }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsConfig {
    /// Address and port of /metrics, /livez, /readyz and the status page.
    #[schemars(with = "String")]
    pub(crate) listen: SocketAddr,
    /// Whether /metrics is for callers only; /livez and /readyz are for everybody. Default: whether metrics.tls is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) require_caller: Option<bool>,
    /// TLS of the metrics listener. Off while neither certificate nor pkcs12 is set. The files are read again when they change.
    pub(crate) tls: TlsConfig,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: loopback(9001), require_caller: None, tls: TlsConfig::default() }
    }
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// mainnet, sepolia, holesky, hoodi, gnosis, chiado, or the path of a consensus-spec config.yaml.
    pub(crate) name: NetworkChoice,
    /// Genesis validators root, for a custom network: 0x and 64 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) genesis_validators_root: Option<GenesisRoot>,
    /// Genesis time in Unix seconds, where it differs from MIN_GENESIS_TIME + GENESIS_DELAY of a custom network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) genesis_time: Option<u64>,
    /// Beacon nodes (http://host:port). For a custom network, the first that answers tells what the file leaves out. The switcher stands in front of them, too.
    pub(crate) beacon: Vec<BeaconUrl>,
}

/// `[signing]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SigningConfig {
    /// Where keys are held and signatures are computed: "in-process", or "process", a vault process without files and network that checks blocks and attestations for itself, or "enclave", the same in an AWS Nitro enclave (section enclave). After each of its starts a vault signs them from the next epoch on.
    pub(crate) backend: SigningBackend,
    /// Refuse to start, instead of warning, where memory with keys cannot be kept out of swap, core dumps and debuggers, or a vault process ("process") lacks any of its protections (Landlock, seccomp, …). `holdfast doctor` shows each.
    pub(crate) require_protections: bool,
    /// Threads that compute signatures. Default: one per processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// How many signatures may wait for a thread.
    pub(crate) queue_capacity: NonZeroUsize,
    /// How many hashed roots are remembered; validators that sign the same root share the work.
    pub(crate) cache_entries: NonZeroUsize,
    /// Unix socket of a vault that runs by itself (`holdfast vault --listen PATH`), for backend = "process": it keeps its keys while the signer restarts, and may run as another user. Without it the signer starts a vault and ends it with itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vault_socket: Option<PathBuf>,
    /// Which signatures are verified before they leave: "outside" those that a vault made, many together; "never" none; "always" also those of this process, which costs about twice a signature.
    pub(crate) verify: SignatureCheck,
}

impl Default for SigningConfig {
    fn default() -> Self {
        Self {
            backend: SigningBackend::InProcess,
            require_protections: false,
            threads: None,
            queue_capacity: size(16_384),
            cache_entries: size(1_024),
            vault_socket: None,
            verify: SignatureCheck::Outside,
        }
    }
}

/// `[slashing]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SlashingConfig {
    /// How many slots a block or an attestation may lie ahead of this machine's clock. Keeps a client from pushing a watermark far into the future. At most 32.
    pub(crate) future_tolerance_slots: u64,
    /// What happens when the database may have lost acknowledged writes (an old backup, a copy, a failover): "freeze" refuses blocks and attestations until `holdfast slashing fence`; "fence" places that fence by itself, which costs at most about one epoch of attestations. Other signers with the same keys must be stopped in either case.
    pub(crate) on_rollback: OnRollback,
    /// Whether keys are fenced, and enter at the present, by a clock that is more than a minute behind what was signed before. Such a clock is usually wrong, and a fence by it would protect less than it says. For one that was ahead, while messages of the future were signed, and has been set right.
    pub(crate) trust_clock: bool,
}

impl Default for SlashingConfig {
    fn default() -> Self {
        Self {
            future_tolerance_slots: DEFAULT_FUTURE_TOLERANCE_SLOTS,
            on_rollback: OnRollback::Freeze,
            trust_clock: false,
        }
    }
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetryConfig {
    /// What is logged: error, warn, info, debug, trace, or directives such as "info,holdfast=debug".
    pub(crate) log: String,
    /// "text", "json", "ecs" (JSON with the field names of the Elastic Common Schema), or "auto": text on a terminal, JSON otherwise.
    pub(crate) format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl Config {
    /// The data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data.dir
    }

    /// Where the database is.
    ///
    /// # Errors
    /// [`ConfigError`] if the URL names a store that this build does not have.
    pub(crate) fn database(&self) -> Result<Database, ConfigError> {
        self.database.url.as_ref().map_or_else(
            || Ok(Database::Sqlite(self.data.dir.join("holdfast.db"))),
            |url| url.target().map_err(|problem| ConfigError::Setting { key: "database.url", problem }),
        )
    }

    /// When batches leave the database, and where they go; `None` if they never do.
    pub(crate) fn retention(&self) -> Option<Retention> {
        match self.journal.keep {
            JournalKeep::Forever => None,
            JournalKeep::Days(keep_days) => {
                let archive = self.journal.archive.clone();
                Some(Retention { keep_days, archive: archive.unwrap_or_else(|| self.data.dir.join("journal")) })
            }
        }
    }

    /// The file that remembers the end of the journal outside the database.
    pub(crate) fn anchor(&self) -> PathBuf {
        self.data.dir.join("anchor")
    }

    /// The key that signs checkpoints, sealed.
    pub(crate) fn checkpoint_key(&self) -> PathBuf {
        self.data.dir.join("checkpoint.key")
    }

    /// Its public half.
    pub(crate) fn checkpoint_public_key(&self) -> PathBuf {
        self.data.dir.join("checkpoint.pub")
    }

    /// Directory of key provider state.
    pub(crate) fn kek_dir(&self) -> PathBuf {
        self.data.dir.join("kek")
    }

    /// Checks what no single field can: called once, by [`load`].
    fn check(&self) -> Result<(), ConfigError> {
        let setting = |key, problem: &str| Err(ConfigError::Setting { key, problem: problem.to_owned() });
        if self.data.dir.as_os_str().is_empty() {
            return setting("data.dir", "is empty; give a directory, for example ./holdfast-data");
        }
        if self.slashing.future_tolerance_slots > MAX_FUTURE_TOLERANCE_SLOTS {
            return setting(
                "slashing.future_tolerance_slots",
                "is more than 32; if requests arrive early, set the clocks right instead (holdfast doctor)",
            );
        }
        self.check_doors()?;
        self.admin.check()?;
        self.remote.check()?;
        self.ask.check()?;
        if self.http.listen == self.metrics.listen && self.http.listen.port() != 0 {
            return setting(
                "metrics.listen",
                "is the same address as http.listen; give it a port of its own, such as 9001",
            );
        }
        if self.http.allowed_hosts.is_empty() {
            return setting(
                "http.allowed_hosts",
                "is empty, so every request would be refused; name the hosts, or \"*\"",
            );
        }
        self.check_audit()?;
        self.check_otlp()?;
        self.approvals.policy()?;
        self.check_enclave()?;
        self.check_providers()?;
        self.check_pools()?;
        self.check_witnesses()?;
        if self.signing.vault_socket.is_some() && self.signing.backend != SigningBackend::Process {
            return setting("signing.vault_socket", "needs signing.backend = \"process\"");
        }
        policy::check(self)?;
        self.database().map(|_| ())
    }

    /// The callers that `holdfast callers` writes.
    pub(crate) fn callers_file(&self) -> PathBuf {
        self.data.dir.join("callers.toml")
    }

    /// The rules that were given through the admin API.
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.data.dir.join("policy.toml")
    }

    /// The nodes the switcher stands in front of: its own, and those given for the network.
    pub(crate) fn consensus_nodes(&self) -> Vec<UpstreamEntry> {
        let mut nodes = self.switcher.upstream.clone();
        let known = |nodes: &[UpstreamEntry], url: &BeaconUrl| nodes.iter().any(|node| node.url == *url);
        for url in &self.network.beacon {
            if !known(&nodes, url) {
                nodes.push(UpstreamEntry::at(url.clone()));
            }
        }
        nodes
    }

    fn check_pools(&self) -> Result<(), ConfigError> {
        let setting = |key, problem: String| Err(ConfigError::Setting { key, problem });
        let pools = [
            ("switcher.listen", self.switcher.enabled, self.switcher.listen),
            ("execution.listen", self.execution.enabled, self.execution.listen),
        ];
        let mut taken = vec![("http.listen", self.http.listen), ("metrics.listen", self.metrics.listen)];
        if let Some(address) = self.admin.listen {
            if taken.iter().any(|(_, other)| *other == address && address.port() != 0) {
                return setting(
                    "admin.listen",
                    "is the address of another listener; give it a port of its own".to_owned(),
                );
            }
            taken.push(("admin.listen", address));
        }
        for (key, _, address) in pools.into_iter().filter(|(_, enabled, _)| *enabled) {
            if let Some((other, _)) = taken.iter().find(|(_, other)| *other == address && address.port() != 0) {
                return setting(key, format!("is the same address as {other}; give it a port of its own"));
            }
            taken.push((key, address));
        }
        for (key, nodes) in
            [("switcher.upstream", &self.consensus_nodes()), ("execution.upstream", &self.execution.upstream)]
        {
            if let Err(problem) = switcher::check_nodes(nodes) {
                return setting(key, problem);
            }
        }
        if self.switcher.enabled && self.consensus_nodes().is_empty() {
            return setting(
                "switcher.upstream",
                "names no consensus client; name at least one with --beacon URL or [[switcher.upstream]]".to_owned(),
            );
        }
        if self.execution.enabled && !self.switcher.enabled {
            return setting("execution.enabled", "needs the switcher, too; set switcher.enabled = true".to_owned());
        }
        if self.execution.enabled && self.execution.upstream.is_empty() {
            return setting(
                "execution.upstream",
                "names no execution client; name at least one in [[execution.upstream]]".to_owned(),
            );
        }
        Ok(())
    }
}

/// More tolerance than this would let a client move a watermark by more than an epoch of mainnet.
const MAX_FUTURE_TOLERANCE_SLOTS: u64 = 32;

const fn size(value: usize) -> NonZeroUsize {
    match NonZeroUsize::new(value) {
        Some(value) => value,
        None => NonZeroUsize::MIN,
    }
}

const fn nonzero(value: u64) -> NonZeroU64 {
    match NonZeroU64::new(value) {
        Some(value) => value,
        None => NonZeroU64::MIN,
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}
