//! What can be wrong with a configuration. Each message names the layer it came from (file and
//! line, environment variable or flag) and what to write instead.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::NetworkChoice;

/// Why there is no configuration. Every variant is the operator's to mend: exit code 2, except
/// [`ConfigError::Beacon`], where a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}; check the path given with --config and its permissions", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{}:{line}: {problem}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A key nobody knows.
    #[error("{place}: unknown {what} `{name}`{}; `holdfast config example` lists all of them", suggestion(near.as_deref()))]
    Unknown {
        /// File and line, or "environment".
        place: String,
        /// "key", "section" or "variable".
        what: &'static str,
        /// The name as written.
        name: String,
        /// The nearest known name.
        near: Option<String>,
    },
    /// A value given by a flag or a variable is not acceptable.
    #[error("{origin}: {problem}")]
    Value {
        /// Flag or variable.
        origin: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting is wrong whatever layer it came from.
    #[error("{key} {problem}")]
    Setting {
        /// The setting, as `section.key`.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An API would be open to the network without authentication.
    #[error(
        "{key} is {address}, which other machines can reach, and there is no authentication: anyone who reaches it \
         could {}. {}, or listen on 127.0.0.1:{}; in a network that nothing else is on, {} = true \
         accepts the risk", harm(key), guard(key), address.port(), accept(key)
    )]
    NotLoopback {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
    },
    /// The file of a group of keys cannot be read.
    #[error("cannot read the list of keys {}; check the path in [[groups]] and its permissions", path.display())]
    KeyList {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The network file cannot be read.
    #[error("cannot read the network file {}; check the path given with --network", path.display())]
    NetworkFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The network file is not a consensus-spec configuration.
    #[error("{} is not a usable consensus-spec config.yaml", path.display())]
    NetworkContent {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: holdfast_domain::NetworkError,
    },
    /// A built-in network contradicts a setting.
    #[error(
        "{key} is {given}, but {network} has {known}; remove the setting, or name the file of the network you mean with --network"
    )]
    Contradiction {
        /// The setting.
        key: &'static str,
        /// Its value.
        given: String,
        /// The network.
        network: NetworkChoice,
        /// What the network really has.
        known: String,
    },
    /// A custom network whose chain is not known.
    #[error(
        "the network file {} does not say which chain it is: {missing}. Give --genesis-validators-root 0x… (and \
         --genesis-time SECONDS where it differs from MIN_GENESIS_TIME + GENESIS_DELAY), or name a beacon node with \
         --beacon URL to learn both", path.display()
    )]
    UnknownGenesis {
        /// Which file.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// No beacon node told the genesis.
    #[error(
        "could not learn the genesis from the beacon node {url}; check that it runs and is on this network, or give \
         --genesis-validators-root and --genesis-time instead"
    )]
    Beacon {
        /// Which node, without credentials.
        url: String,
        /// Why.
        #[source]
        source: holdfast_beacon::BeaconError,
    },
}

/// What keeps strangers out of a listener.
fn guard(key: &str) -> &'static str {
    match key {
        "switcher.listen" => "Ask for client certificates (switcher.tls with client_ca)",
        "execution.listen" => "Ask for client certificates (execution.tls with client_ca)",
        _ => {
            "Make a caller (`holdfast callers add NAME --basic`), or ask for client certificates (http.tls with client_ca)"
        }
    }
}

/// The setting that opens a listener all the same.
fn accept(key: &str) -> &'static str {
    match key {
        "switcher.listen" => "switcher.allow_unauthenticated",
        "execution.listen" => "execution.allow_unauthenticated",
        _ => "http.allow_unauthenticated",
    }
}

/// What a stranger could do at a listener.
fn harm(key: &str) -> &'static str {
    match key {
        "switcher.listen" => "publish through your nodes and change fee recipients",
        "execution.listen" => "use your execution clients",
        _ => "have messages signed",
    }
}

fn suggestion(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"))
}
