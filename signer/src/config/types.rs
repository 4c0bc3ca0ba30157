//! The values a setting can have: parsed once, when the configuration is read.

use core::fmt;
use core::str::FromStr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::ValueEnum;
use holdfast_domain::{GenesisValidatorsRoot, Network};
use holdfast_secret::SecretUrl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::as_text::as_text;
use super::{ActWord, ApproverEntry, WitnessServer};

/// What happens when the database may have lost acknowledged writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnRollback {
    /// Slashable messages are refused until an operator fences the keys.
    #[default]
    Freeze,
    /// All keys are fenced at the present, and signing goes on above.
    Fence,
}

/// How long journal batches stay in the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum JournalKeep {
    /// They never leave.
    #[default]
    Forever,
    /// This many whole days.
    Days(NonZeroU32),
}

impl fmt::Display for JournalKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::Days(days) => write!(f, "{days} days"),
        }
    }
}

impl FromStr for JournalKeep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let days = text.strip_suffix(" days").or_else(|| text.strip_suffix(" day"));
        days.and_then(|number| number.parse().ok())
            .map(Self::Days)
            .ok_or_else(|| format!("{text:?} is neither \"forever\" nor a number of days such as \"90 days\""))
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
    /// One JSON object per line, with the field names of the Elastic Common Schema.
    Ecs,
}

/// Where keys are held and signatures are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SigningBackend {
    /// In this process.
    #[default]
    InProcess,
    /// In a vault process, which checks for itself.
    Process,
    /// In a vault in an enclave, which runs already.
    Enclave,
}

/// Whether signatures are verified before they leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SignatureCheck {
    /// What a vault made is verified; what this process made is trusted.
    #[default]
    Outside,
    /// Nothing is verified: the signing library is trusted wherever it runs.
    Never,
    /// Every signature is verified.
    Always,
}

/// A built-in network or the file of a custom one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NetworkChoice {
    /// One of [`Network::BUILTIN_NAMES`].
    Builtin(&'static str),
    /// Path of a consensus-spec `config.yaml`.
    File(PathBuf),
}

impl Default for NetworkChoice {
    fn default() -> Self {
        Self::Builtin("mainnet")
    }
}

impl fmt::Display for NetworkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for NetworkChoice {
    type Err = String;

    /// A text with a separator or an extension is a file; anything else must be a built-in name.
    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(name) = Network::BUILTIN_NAMES.iter().find(|name| **name == lower) {
            return Ok(Self::Builtin(name));
        }
        let looks_like_file = text.contains('/') || text.contains('.') || std::path::Path::new(text).is_file();
        if looks_like_file {
            return Ok(Self::File(PathBuf::from(text)));
        }
        let near = super::catalog::nearest(&lower, Network::BUILTIN_NAMES)
            .map_or_else(|| ".".to_owned(), |name| format!("; did you mean {name}?"));
        Err(format!(
            "unknown network {text:?}{near} Known are {}, or give the path of a consensus-spec config.yaml",
            Network::BUILTIN_NAMES.join(", ")
        ))
    }
}

/// A genesis validators root in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GenesisRoot(pub(crate) GenesisValidatorsRoot);

impl fmt::Display for GenesisRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GenesisRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        holdfast_domain::root::parse_hex::<32>(text)
            .map(|bytes| Self(GenesisValidatorsRoot(bytes)))
            .ok_or_else(|| "expected 0x and 64 hexadecimal digits".to_owned())
    }
}

/// The address of a beacon node. Prints without its user name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BeaconUrl(SecretUrl);

impl BeaconUrl {
    /// The address with everything in it: for connecting only.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl FromStr for BeaconUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            Ok(Self(SecretUrl::new(text)))
        } else {
            Err("expected a beacon node's address such as http://127.0.0.1:5052".to_owned())
        }
    }
}

/// A database address. Prints without a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(SecretUrl);

/// A database this build can open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Database {
    /// A SQLite file on a local disk.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(DatabaseUrl),
}

impl Database {
    /// The file the database lives in, if it does.
    pub(crate) fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl DatabaseUrl {
    /// What the address points at, or what is wrong with it.
    pub(crate) fn target(&self) -> Result<Database, String> {
        match self.0.expose().split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => {
                Ok(Database::Sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
            }
            Some(("postgres" | "postgresql", rest)) if rest.len() > 2 && rest.starts_with("//") => {
                if cfg!(feature = "store-postgres") {
                    Ok(Database::Postgres(self.clone()))
                } else {
                    Err("needs PostgreSQL, which this build does not have; use sqlite:PATH".to_owned())
                }
            }
            _ => Err("expected sqlite:PATH, for example sqlite:./holdfast-data/holdfast.db, \
                      or postgres://user@host:port/database"
                .to_owned()),
        }
    }

    /// The address with everything in it: for connecting only.
    #[cfg(any(test, feature = "store-postgres"))]
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Self(SecretUrl::new(text));
        url.target().map(|_| url)
    }
}

/// What shows of an address is decided in one place.
macro_rules! shown_as_inside {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
shown_as_inside!(BeaconUrl, DatabaseUrl);

as_text!(
    NetworkChoice, "^.+$";
    GenesisRoot, "^(0x)?[0-9a-fA-F]{64}$";
    BeaconUrl, "^https?://.+$";
    DatabaseUrl, "^(sqlite:|postgres(ql)?://).+$";
    ActWord, "^[a-z_]+$";
    ApproverEntry, "^[^ ]+ (sk-)?ssh-ed25519.* [A-Za-z0-9+/=]+.*$";
    JournalKeep, "^(forever|[1-9][0-9]* days?)$";
    WitnessServer, "^https?://[^#]+#(0x)?[0-9a-fA-F]{64}$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_without_credentials() {
        let url: BeaconUrl = "http://user:hunter2@node:5052/x?token=abc".parse().unwrap();
        for shown in [format!("{url}"), format!("{url:?}"), serde_json::to_string(&url).unwrap()] {
            assert!(!shown.contains("hunter2") && !shown.contains("abc"), "{shown}");
            assert!(shown.contains("node:5052/x"), "{shown}");
        }
        assert_eq!(url.expose(), "http://user:hunter2@node:5052/x?token=abc");
    }

    #[test]
    fn networks_by_name_or_file() {
        assert_eq!("Hoodi".parse(), Ok(NetworkChoice::Builtin("hoodi")));
        assert_eq!("./net.yaml".parse(), Ok(NetworkChoice::File("./net.yaml".into())));
        let error = "hodi".parse::<NetworkChoice>().unwrap_err();
        assert!(error.contains("did you mean hoodi?"), "{error}");
    }

    #[test]
    fn journals_are_kept_for_ever_or_for_days() {
        assert_eq!("forever".parse(), Ok(JournalKeep::Forever));
        for (text, days) in [("1 day", 1), ("90 days", 90)] {
            assert_eq!(text.parse(), Ok(JournalKeep::Days(NonZeroU32::new(days).unwrap())));
        }
        for text in ["", "90", "0 days", "-1 days", "1.5 days", "90 d", "99999999999 days", "3 months"] {
            let error = text.parse::<JournalKeep>().unwrap_err();
            assert!(error.contains("90 days"), "{error}");
        }
    }

    #[test]
    fn database_addresses() {
        let sqlite: DatabaseUrl = "sqlite:/var/lib/holdfast/db".parse().unwrap();
        assert_eq!(sqlite.target(), Ok(Database::Sqlite("/var/lib/holdfast/db".into())));
        let postgres: DatabaseUrl = "postgres://u:hunter2@h/db?sslmode=require".parse().unwrap();
        assert_eq!(postgres.target().unwrap().file(), None);
        assert_eq!(postgres.target().unwrap().to_string(), "postgres://***@h/db?***");
        assert!("postgres:".parse::<DatabaseUrl>().is_err());
        assert!("/a/path".parse::<DatabaseUrl>().is_err());
        assert!("sqlite:".parse::<DatabaseUrl>().is_err());
    }
}
