//! What can fail in this crate. No variant carries secret data, and no text repeats its source.

mod sign;

use std::io;
use std::path::PathBuf;

use eth2_keystore::{KeystoreError, MnemonicError};
use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use holdfast_enclave_sys::SysError;

use crate::provider::{ProviderKind, Recovery, ServiceFailure};
pub use sign::{SignError, SignErrorClass};

/// A passphrase or data key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: allow getrandom in the sandbox profile")]
    Random(#[source] getrandom::Error),
    /// There is no memory for the secret.
    #[error("cannot keep the secret in memory")]
    Memory(#[source] SysError),
    /// A passphrase is too long.
    #[error("the passphrase is longer than {max} bytes: check that this is the right file")]
    TooLong {
        /// Longest length, in bytes.
        max: usize,
    },
    /// A data key has another length than 32 bytes.
    #[error("a data key of {len} bytes was given; it has 32: report this as a bug")]
    Length {
        /// Its length, in bytes.
        len: usize,
    },
    /// A passphrase file cannot be read.
    #[error("cannot read the passphrase file {}: check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A passphrase file is open to others.
    #[error(transparent)]
    Permissions(#[from] PermissionError),
}

/// Bytes are not a private key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Out of range, or no memory for it.
    #[error("the private key cannot be used")]
    Unusable(#[source] SysError),
    /// A new key could not be made.
    #[error("cannot generate a private key")]
    Generate(#[source] KeystoreError),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: allow getrandom in the sandbox profile")]
    Random(#[source] getrandom::Error),
    /// A secret belongs to another public key than its registration.
    #[error(
        "the private key of {secret} was paired with the registration of {registered}: reload the keys, and report this as a bug"
    )]
    Mismatch {
        /// The key registered.
        registered: PublicKey,
        /// The key of the secret.
        secret: PublicKey,
    },
}

/// A private key could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are the key concerned and what the text says of it")]
pub enum SealError {
    /// The operating system gave no randomness.
    #[error("cannot seal key {public_key} without randomness: allow getrandom in the sandbox profile")]
    Random {
        public_key: PublicKey,
        #[source]
        source: getrandom::Error,
    },
    /// Not the length of a sealed key.
    #[error(
        "the sealed key of {public_key} has {len} bytes instead of {expected}: import its keystore again, or restore the database from a backup"
    )]
    Length { public_key: PublicKey, len: usize, expected: usize },
    /// Written by a later version, or damaged in its first byte.
    #[error(
        "the sealed key of {public_key} has format {version}, which this version does not know: upgrade, or import its keystore again"
    )]
    UnknownVersion { public_key: PublicKey, version: u8 },
    /// Sealed for another chain.
    #[error(
        "the sealed key of {public_key} belongs to another network than {expected}: check the configured network, or import its keystore again"
    )]
    WrongNetwork { public_key: PublicKey, expected: GenesisValidatorsRoot },
    /// Sealed for another validator.
    #[error(
        "the sealed key stored for {public_key} is the key of another validator: do not use this database, restore it from a backup"
    )]
    WrongPublicKey { public_key: PublicKey },
    /// Sealed under another data key.
    #[error(
        "the sealed key of {public_key} was sealed under another data key: check that database and wrapped data key belong together, or import its keystore again"
    )]
    WrongDataKey { public_key: PublicKey },
    /// A byte of it was changed, or it was sealed for a very similar key or network.
    #[error(
        "the sealed key of {public_key} is damaged: import its keystore again, or restore the database from a backup"
    )]
    Damaged { public_key: PublicKey },
    /// It opened, but cannot be used.
    #[error("the sealed key of {public_key} cannot be used")]
    Unusable {
        public_key: PublicKey,
        #[source]
        source: SysError,
    },
}

impl SealError {
    /// The key concerned.
    pub const fn public_key(&self) -> &PublicKey {
        match self {
            Self::Random { public_key, .. }
            | Self::Length { public_key, .. }
            | Self::UnknownVersion { public_key, .. }
            | Self::WrongNetwork { public_key, .. }
            | Self::WrongPublicKey { public_key }
            | Self::WrongDataKey { public_key }
            | Self::Damaged { public_key }
            | Self::Unusable { public_key, .. } => public_key,
        }
    }
}

/// A data key could not be wrapped or unwrapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// Not a wrapped data key.
    #[error("the wrapped data key is cut short or not one: restore the database from a backup")]
    Malformed,
    /// Written by a later version, or damaged in its first byte.
    #[error(
        "the wrapped data key has format {version}, which this version does not know: upgrade, or restore the database from a backup"
    )]
    UnknownVersion {
        /// The format.
        version: u8,
    },
    /// A provider this version does not have.
    #[error("{name:?} is not a provider of this version: there are {}", ProviderKind::ALL.map(ProviderKind::name).join(", "))]
    UnknownProvider {
        /// Its name.
        name: String,
    },
    /// Wrapped by another provider than asked.
    #[error("the data key is wrapped by provider {found}, not {asked}: configure {found}, or rewrap the data key")]
    OtherProvider {
        /// Who wrapped it.
        found: ProviderKind,
        /// Who was asked to unwrap it.
        asked: ProviderKind,
    },
    /// Wrapped for another chain.
    #[error("the data key belongs to another network than {expected}: check the configured network")]
    WrongNetwork {
        /// The network expected.
        expected: GenesisValidatorsRoot,
    },
    /// The key file is another one.
    #[error("the data key was wrapped with another key file: put back the one that belongs to this database")]
    WrongKeyFile,
    /// The passphrase is another one.
    #[error("wrong passphrase: try again, and check the passphrase file if one is configured")]
    WrongPassphrase,
    /// Guarding key and network are right, but a byte was changed or the identifier is another.
    #[error(
        "the wrapped data key is damaged, or is stored under another identifier: restore the database from a backup"
    )]
    Damaged,
    /// There is no key file.
    #[error("there is no key file at {}: put back the one that belongs to this database; without it the keys must be imported again", path.display())]
    KeyFileMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The key file cannot be read.
    #[error("cannot read the key file {}: check its owner and permissions", path.display())]
    KeyFileRead {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key file has another length.
    #[error("the key file {} does not hold exactly 32 bytes: put back the original", path.display())]
    KeyFileLength {
        /// The file.
        path: PathBuf,
    },
    /// The key file is open to others.
    #[error(transparent)]
    Permissions(#[from] PermissionError),
    /// The key file cannot be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The passphrase is empty.
    #[error("an empty passphrase protects nothing: choose one, or use the file provider")]
    EmptyPassphrase,
    /// The cost of Argon2id is out of bounds.
    #[error(
        "an Argon2id cost of {memory_kib} KiB, {passes} passes and {lanes} lanes is not allowed: use 8192 to 1048576 KiB, 1 to 16 passes and lanes; if it was stored, restore the database from a backup"
    )]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// There is no memory for Argon2id.
    #[error("cannot allocate {kib} KiB for Argon2id: free memory or raise the limit")]
    Memory {
        /// Memory asked for, in KiB.
        kib: u32,
    },
    /// Argon2id failed.
    #[cfg(feature = "provider-passphrase")]
    #[error("cannot derive a key from the passphrase")]
    Argon2(#[source] argon2::Error),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: allow getrandom in the sandbox profile")]
    Random(#[source] getrandom::Error),
    /// The data key or the guarding key could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A key service did not do what it was asked.
    #[error("{provider} key {key} {}", failure.advice())]
    Service {
        /// The provider.
        provider: ProviderKind,
        /// The name of the key, as configured.
        key: String,
        /// What kind of failure it was.
        failure: ServiceFailure,
        /// What the service or its library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The provider that wrapped the data key is not configured.
    #[error("the data key is wrapped by provider {provider}{}, which is not configured: fill in its section", named(key.as_deref()))]
    NotConfigured {
        /// The provider.
        provider: ProviderKind,
        /// The name of the guarding key, where there are several.
        key: Option<String>,
    },
    /// The provider is not part of this build.
    #[error("this build has no provider {provider}: use one built with the feature provider-{provider}")]
    NotBuilt {
        /// The provider.
        provider: ProviderKind,
    },
    /// Not enough holders of shares came together.
    #[error(
        "the data key is split into shares: {have} of the {need} that are needed are here; bring the others to a running server with `holdfast kek unseal`, or name identities in shares.identity_files{}",
        among(failures)
    )]
    SharesMissing {
        /// How many are here.
        have: usize,
        /// How many are needed.
        need: usize,
        /// Why providers among the holders did not give theirs.
        failures: Failures,
    },
    /// A number of shares that makes no sense.
    #[error(
        "{threshold} of {holders} shares cannot be: there are 2 to 16 holders, and at least 2 and at most all of them are needed"
    )]
    Split {
        /// How many would be needed.
        threshold: u8,
        /// How many holders there are.
        holders: usize,
    },
    /// A public or private key of a person cannot be used.
    #[error("cannot use {what}")]
    Person {
        /// Which one. Never a private key.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No provider opens the data key.
    #[error("none of the providers opens the data key: {failures}")]
    NoneOpens {
        /// Why each did not.
        failures: Failures,
    },
    /// No providers, or far too many.
    #[error("{count} providers cannot wrap one data key: name at least one and at most {max}")]
    Count {
        /// How many.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The process that talks to providers failed.
    #[error("the process that opens the data key did not do so: {problem}")]
    Helper {
        /// What it said.
        problem: String,
    },
}

impl ProviderError {
    /// Whether another attempt helps.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::Service { failure, .. } => failure.recovery(),
            Self::SharesMissing { .. } => Recovery::Later,
            Self::NoneOpens { failures } => {
                let any = |wanted| failures.0.iter().any(|failure| failure.recovery() == wanted);
                [Recovery::Soon, Recovery::Later].into_iter().find(|wanted| any(*wanted)).unwrap_or(Recovery::Never)
            }
            _ => Recovery::Never,
        }
    }

    /// A stable word for metrics and programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Service { failure, .. } => failure.as_str(),
            Self::Damaged | Self::Malformed | Self::UnknownVersion { .. } => "damaged",
            Self::WrongKeyFile | Self::WrongPassphrase => "wrong_key",
            Self::WrongNetwork { .. } => "wrong_network",
            Self::NotConfigured { .. } | Self::NotBuilt { .. } => "not_configured",
            Self::KeyFileMissing { .. } => "key_missing",
            Self::SharesMissing { .. } => "shares_missing",
            _ => "unusable",
        }
    }
}

/// " with key X", or nothing.
fn named(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!(" with key {key}"))
}

/// What failed beside it, if anything did.
fn among(failures: &Failures) -> String {
    if failures.0.is_empty() { String::new() } else { format!(" (not given: {failures})") }
}

/// Why several providers failed.
#[derive(Debug)]
pub struct Failures(pub Vec<ProviderError>);

impl core::fmt::Display for Failures {
    /// Each with what caused it, as one line.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            write!(f, "{}({}) {failure}", if index == 0 { "" } else { "; " }, index.saturating_add(1))?;
            let mut source = std::error::Error::source(failure);
            while let Some(cause) = source {
                write!(f, ": {cause}")?;
                source = cause.source();
            }
        }
        Ok(())
    }
}

/// A private file or directory could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are the path concerned and the cause")]
pub enum DurableError {
    /// It is there and must not be replaced.
    #[error("{} exists already and is not overwritten: move it away first if it is not needed", path.display())]
    Exists { path: PathBuf },
    /// It cannot be written.
    #[error("cannot write {}: check free space and the permissions of its directory", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The directory cannot be created.
    #[error("cannot create directory {}: check the permissions of the one above", path.display())]
    CreateDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It may not survive a power cut.
    #[error("cannot sync directory {} to disk: check the disk and the file system, then try again", path.display())]
    Sync {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The directory is open to others.
    #[error(transparent)]
    Permissions(#[from] PermissionError),
}

/// A private file or directory is not private.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are the path concerned and what the text says of it")]
pub enum PermissionError {
    /// Others may use it.
    #[error("{} can be used by others (mode {mode:04o}); mend it with: {fix}", path.display())]
    TooOpen { path: PathBuf, mode: u32, fix: String },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}; mend it with: {fix}", path.display())]
    OtherOwner { path: PathBuf, owner: u32, fix: String },
    /// The directory is another user's. Root could use it, and would leave files behind that the other cannot.
    #[error(
        "{} belongs to user {owner}: give the command as that user, as in: sudo -u '#{owner}' holdfast … (if it should be yours: {fix})",
        path.display()
    )]
    OthersDirectory { path: PathBuf, owner: u32, fix: String },
    /// It cannot be looked at.
    #[error("cannot look at {}: check that it exists", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl PermissionError {
    /// The shell command that mends it, if there is one.
    pub fn fix(&self) -> Option<&str> {
        match self {
            Self::TooOpen { fix, .. } | Self::OtherOwner { fix, .. } | Self::OthersDirectory { fix, .. } => Some(fix),
            Self::Unreadable { .. } => None,
        }
    }
}

/// A keystore could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It does not open with this password, or is not a keystore we accept.
    #[error("cannot decrypt the keystore")]
    Keystore(#[source] KeystoreError),
    /// The private key in it cannot be used.
    #[error("the keystore holds no usable key")]
    Key(#[source] KeyError),
    /// The private key could not be sealed.
    #[error("cannot seal the imported key")]
    Seal(#[source] SealError),
    /// No thread to decrypt on.
    #[error("cannot start a thread to decrypt keystores: raise the limit of threads or processes")]
    Thread(#[source] io::Error),
}

/// A mnemonic could not be taken. Never repeats a word of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MnemonicInputError {
    /// It, or its passphrase, is not text.
    #[error("the mnemonic or its passphrase is not valid UTF-8: save it as UTF-8 text")]
    NotUtf8,
    /// Its words are not right.
    #[error(transparent)]
    Mnemonic(MnemonicError),
    /// It gives no seed.
    #[error("the mnemonic gives no seed")]
    Seed(#[source] KeystoreError),
}

/// A stored key could not be written as a keystore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// It does not open.
    #[error(transparent)]
    Seal(SealError),
    /// It cannot be encrypted.
    #[error("cannot make a keystore")]
    Keystore(#[source] KeystoreError),
    /// What was made does not open.
    #[error("the keystore just made does not open again: check this machine's memory, and export once more")]
    Unreadable(#[source] KeystoreError),
    /// The stored private key is of another public key.
    #[error("what is stored for {stored} is the key of {actual}: do not use it before you know why")]
    OtherKey {
        /// The key it is stored for.
        stored: PublicKey,
        /// The key it is.
        actual: PublicKey,
    },
    /// No thread to work on.
    #[error("cannot start a thread to encrypt keystores: raise the limit of threads or processes")]
    Thread(#[source] io::Error),
}
