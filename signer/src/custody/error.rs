//! Why what is in custody cannot be had, and how a process ends because of it.

use std::path::PathBuf;

use holdfast_enclave::backend::OpenError as KeyOpenError;
use holdfast_enclave::provider::Recovery;
use holdfast_enclave::{DurableError, KeyError, LockFailure, ProviderError, SealError, SecretError, SignError};
use holdfast_slashing_db::{AdminError, OpenError};

use super::checkpoint_key::CheckpointKeyError;
use crate::admin::SocketError;
use crate::config::ConfigError;
use crate::outcome::Exit;

/// Why what is in custody could not be opened.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(
    not(all(feature = "store-postgres", feature = "provider-passphrase")),
    allow(dead_code, reason = "builds with less have fewer ways to fail")
)]
pub(crate) enum CustodyError {
    /// The configuration does not lead to a known chain.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network has no genesis time, so "now" has no slot.
    #[error("the network {network} has no genesis time; give --genesis-time SECONDS, or --beacon URL to learn it")]
    NoGenesisTime {
        /// Name of the network.
        network: String,
    },
    /// The data directory cannot be made or is open to others.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: DurableError,
    },
    /// A command that needs a database found none.
    #[error(
        "there is no database at {}; check --data-dir, or begin with `holdfast keys import --from PATH`", path.display()
    )]
    NothingHere {
        /// Where the database should be.
        path: PathBuf,
    },
    /// The database belongs to another of the networks known by name.
    #[error(
        "{} belongs to {pinned}, but the configured network is {configured}, which has another genesis validators root; \
         give --network {pinned} (or network.name), or another --data-dir", path.display()
    )]
    OtherNetwork {
        /// The database.
        path: PathBuf,
        /// Its network.
        pinned: &'static str,
        /// The configured one.
        configured: String,
    },
    /// Another process has the database open.
    #[error(
        "{} is already open in {}, most probably `holdfast serve`; stop that process first: this command works on \
         the database itself, and two processes must never sign from one", path.display(), process(*holder)
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// Process id, where the system tells.
        holder: Option<u32>,
    },
    /// The database cannot be opened.
    #[error("cannot open the slashing protection database")]
    Open(#[source] OpenError),
    /// The database does not answer.
    #[error("the slashing protection database failed")]
    Database(#[from] AdminError),
    /// The data key cannot be had.
    #[error("cannot open or wrap the data key that seals all stored keys")]
    Provider(#[from] ProviderError),
    /// No passphrase, and nobody to ask.
    #[error(
        "the stored keys are protected by a passphrase, and there is no terminal to ask for it; \
         name a file that holds it with keys.passphrase_file (HOLDFAST_KEYS_PASSPHRASE_FILE)"
    )]
    NoPassphrase,
    /// The database password could not be read, or others may read it too.
    #[error("cannot take the database password from {}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The terminal could not be read.
    #[error("cannot read the passphrase from the terminal")]
    Prompt(#[source] std::io::Error),
    /// The two passphrases typed differ.
    #[error("the two passphrases differ; start again")]
    PassphrasesDiffer,
    /// A passphrase or key could not be held.
    #[error("cannot take the passphrase")]
    Secret(#[from] SecretError),
    /// Keys are stored, but the data key that seals them is not.
    #[error(
        "the database holds {keys} sealed keys but not the data key that opens them; \
         restore the database from a backup, or import the keystores again into a new data directory"
    )]
    DataKeyLost {
        /// How many keys.
        keys: usize,
    },
    /// A server was to make the data key with a provider that it only asks through a helper.
    #[error(
        "there is no data key yet, and a server does not make one with a provider whose key is elsewhere; run `holdfast kek init` first"
    )]
    WrapInCommand,
    /// Keys would be in memory that may reach swap, and that is not accepted.
    #[error("signing.require_protections is true, and secrets cannot be locked in memory: {reason}; nothing is signed")]
    Unprotected {
        /// Why, and what to change.
        reason: LockFailure,
    },
    /// There is no way to bring shares.
    #[error("shares of the data key cannot be brought")]
    Door(#[source] SocketError),
    /// A stored key cannot be sealed under a new data key.
    #[error(
        "a stored key does not open, so the data key stays as it is; restore that key from a backup, or delete it with \
         `holdfast keys delete`, then try again"
    )]
    CannotReseal(#[source] SealError),
    /// Keys were changed by other signers each time the data key was about to be replaced.
    #[error("other signers keep changing keys, so the data key stays as it is; try again when they have finished")]
    KeysKeepChanging,
    /// A stored key cannot be opened.
    #[error("a stored key cannot be opened")]
    Sealed(#[from] KeyOpenError),
    /// The checkpoint key cannot be sealed anew.
    #[error(transparent)]
    CheckpointKey(#[from] CheckpointKeyError),
    /// A stored key cannot be sealed or opened.
    #[error("a stored key cannot be opened")]
    Seal(#[from] SealError),
    /// The vault in the enclave gets no data key.
    #[cfg(feature = "backend-enclave")]
    #[error("the vault in the enclave gets no data key")]
    Release(#[from] holdfast_providers::nitro::ReleaseError),
    /// The data key for enclaves cannot be read.
    #[cfg(feature = "backend-enclave")]
    #[error("cannot read the data key for the enclave from {}; `holdfast enclave wrap` makes it", path.display())]
    EnclaveDataKey {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Settings for enclaves are missing.
    #[cfg(feature = "backend-enclave")]
    #[error("no key of AWS KMS is named for enclaves: set enclave.key (HOLDFAST_ENCLAVE_KEY)")]
    EnclaveNotConfigured,
    /// A key cannot be encrypted for the enclave.
    #[cfg(feature = "backend-enclave")]
    #[error("the key cannot be encrypted for the enclave")]
    EnclaveImport(#[from] holdfast_enclave::vault::enclave::ImportKeyError),
    /// The vault in the enclave did not seal a key.
    #[cfg(feature = "backend-enclave")]
    #[error(
        "the vault in the enclave did not seal a key; with other_data_key it holds another data key than --data-key names, \
         which is the one that `holdfast enclave wrap` printed"
    )]
    EnclaveSeal(#[source] SignError),
    /// The document that came with new keys does not prove that the enclave made them.
    #[cfg(feature = "backend-enclave")]
    #[error(
        "nothing proves that the enclave made these keys, so none is used: the host may have put its own in their place"
    )]
    EnclaveKeys(#[source] holdfast_providers::nitro::ReleaseError),
    /// The vault in the enclave does not open what it is said to have sealed.
    #[cfg(feature = "backend-enclave")]
    #[error(
        "what came back from the vault in the enclave does not open there, so it is not stored; import the key again"
    )]
    EnclaveReopen(#[source] holdfast_enclave::backend::OpenError),
    /// Nothing is sealed yet, so there is nothing to seal under.
    #[cfg(feature = "backend-enclave")]
    #[error(
        "there is no data key yet: `holdfast kek init` makes one, and `holdfast enclave wrap` has it encrypted for enclaves"
    )]
    NoDataKey,
    /// An enclave makes keys for whoever checks its documents.
    #[cfg(feature = "backend-process")]
    #[error(
        "keys of an enclave are made for whoever checks its documents: stop the signer and give `holdfast enclave generate` \
         on its machine"
    )]
    MadeInEnclave,
    /// The place where keys are made did not make them.
    #[error("no key was made")]
    Generate(#[source] SignError),
    /// The place where keys are held cannot be had.
    #[error("the stored keys cannot be opened now")]
    Backend(#[source] SignError),
    /// A stored key cannot be used.
    #[error("a stored key cannot be used")]
    Key(#[from] KeyError),
}

impl From<OpenError> for CustodyError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked { path, holder } => Self::InUse { path, holder },
            OpenError::AnchorInUse { path } => Self::InUse { path, holder: None },
            error => Self::Open(error),
        }
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl CustodyError {
    /// Whether the same may work later without anybody changing anything here.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Provider(error) => error.recovery() != Recovery::Never,
            #[cfg(feature = "backend-enclave")]
            Self::Release(error) => error.may_pass(),
            _ => false,
        }
    }

    /// Whether people must bring shares of the data key's guard.
    pub(crate) fn waits_for_shares(&self) -> bool {
        fn waits(error: &ProviderError) -> bool {
            match error {
                ProviderError::SharesMissing { .. } => true,
                ProviderError::NoneOpens { failures } => failures.0.iter().any(waits),
                _ => false,
            }
        }
        matches!(self, Self::Provider(error) if waits(error))
    }

    /// How a process ends that failed so.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::NoGenesisTime { .. }
            | Self::NothingHere { .. }
            | Self::OtherNetwork { .. }
            | Self::NoPassphrase
            | Self::WrapInCommand
            | Self::Unprotected { .. }
            | Self::PassphrasesDiffer
            | Self::PasswordFile { .. }
            | Self::DataDir { source: DurableError::Permissions(_), .. }
            | Self::Provider(
                ProviderError::Permissions(_)
                | ProviderError::Split { .. }
                | ProviderError::Person { .. }
                | ProviderError::Durable(DurableError::Permissions(_))
                | ProviderError::EmptyPassphrase,
            )
            | Self::Secret(SecretError::Permissions(_))
            | Self::Open(
                OpenError::WrongNetwork { .. }
                | OpenError::Permissions { .. }
                | OpenError::NetworkFilesystem { .. }
                | OpenError::Address { .. }
                | OpenError::OthersTables { .. }
                | OpenError::ServerSetting { .. }
                | OpenError::ServerTooOld { .. },
            ) => Exit::Usage,
            #[cfg(feature = "backend-enclave")]
            Self::EnclaveDataKey { .. } | Self::EnclaveNotConfigured => Exit::Usage,
            #[cfg(feature = "backend-enclave")]
            Self::NoDataKey => Exit::Refused,
            #[cfg(feature = "backend-process")]
            Self::MadeInEnclave => Exit::Refused,
            #[cfg(feature = "backend-enclave")]
            Self::Release(_)
            | Self::EnclaveImport(_)
            | Self::EnclaveSeal(_)
            | Self::EnclaveKeys(_)
            | Self::EnclaveReopen(_) => Exit::Unreachable,
            Self::Database(error) => admin_exit(error),
            Self::InUse { .. }
            | Self::DataDir { .. }
            | Self::Open(_)
            | Self::Provider(_)
            | Self::Prompt(_)
            | Self::Secret(_)
            | Self::DataKeyLost { .. }
            | Self::Seal(_)
            | Self::CheckpointKey(_)
            | Self::Door(_)
            | Self::CannotReseal(_)
            | Self::KeysKeepChanging
            | Self::Sealed(_)
            | Self::Generate(_)
            | Self::Backend(_) => Exit::Unreachable,
            Self::Key(_) => Exit::Bug,
        }
    }
}

/// How a process ends after an administrative operation failed.
pub(crate) fn admin_exit(error: &AdminError) -> Exit {
    match error {
        AdminError::Frozen(_) | AdminError::Suspect => Exit::Frozen,
        AdminError::WrongChain { .. } => Exit::Usage,
        AdminError::UnknownKey
        | AdminError::Tombstoned
        | AdminError::ClockBeforeGenesis { .. }
        | AdminError::ClockBehind { .. } => Exit::Refused,
        _ => Exit::Unreachable,
    }
}
