//! From the `[network]` section to a [`Network`] whose chain is known.
//!
//! A signer must know which chain it signs for before it signs anything, so a custom network
//! without a genesis validators root stops the program here, with the ways out.

use std::path::Path;

use holdfast_beacon::Genesis;
use holdfast_domain::{Network, UnixMillis};

use super::{Config, ConfigError, NetworkChoice, NetworkConfig};

/// The network the configuration names, with genesis time and genesis validators root filled in.
/// Asks a beacon node only if the network is a custom one and the configuration leaves either out.
///
/// # Errors
/// [`ConfigError`] if the file is unusable, contradicts a setting, or leaves the chain unknown.
pub(crate) async fn resolve_network(config: &Config) -> Result<Network, ConfigError> {
    let section = &config.network;
    match &section.name {
        NetworkChoice::Builtin(name) => builtin(name, section),
        NetworkChoice::File(path) => custom(path, section).await,
    }
}

fn builtin(name: &'static str, section: &NetworkConfig) -> Result<Network, ConfigError> {
    let network = Network::builtin(name).ok_or_else(|| ConfigError::Setting {
        key: "network.name",
        problem: format!("is {name}, which this build does not know"),
    })?;
    let contradiction = |key, given: String, known: String| ConfigError::Contradiction {
        key,
        given,
        network: section.name.clone(),
        known,
    };
    if let (Some(given), Some(known)) = (section.genesis_validators_root, network.genesis_validators_root)
        && given.0 != known
    {
        return Err(contradiction("network.genesis_validators_root", given.to_string(), known.to_string()));
    }
    if let (Some(given), Some(known)) = (section.genesis_time, network.genesis_time)
        && millis(given) != Some(known)
    {
        return Err(contradiction("network.genesis_time", given.to_string(), (known.0 / 1000).to_string()));
    }
    Ok(network)
}

async fn custom(path: &Path, section: &NetworkConfig) -> Result<Network, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::NetworkFile { path: path.to_owned(), source })?;
    let mut network = Network::from_config_yaml(&text)
        .map_err(|source| ConfigError::NetworkContent { path: path.to_owned(), source })?;
    if let Some(root) = section.genesis_validators_root {
        network.genesis_validators_root = Some(root.0);
    }
    if let Some(seconds) = section.genesis_time {
        network.genesis_time = Some(millis(seconds).ok_or_else(|| too_late(seconds))?);
    }
    let root_known = network.genesis_validators_root.is_some();
    let time_given = section.genesis_time.is_some();
    if !(root_known && time_given)
        && let Some(genesis) = ask(section).await?
    {
        learn(&mut network, &genesis, section)?;
    }
    let missing = match (network.genesis_validators_root, network.genesis_time) {
        (Some(_), Some(_)) => return Ok(network),
        (None, _) => "the genesis validators root is not part of such a file",
        (Some(_), None) => "the genesis time is missing",
    };
    Err(ConfigError::UnknownGenesis { path: path.to_owned(), missing })
}

/// Asks the beacon nodes in turn; `None` if none is configured.
async fn ask(section: &NetworkConfig) -> Result<Option<Genesis>, ConfigError> {
    let mut failure = None;
    for url in &section.beacon {
        match holdfast_beacon::fetch_genesis(url.expose()).await {
            Ok(genesis) => return Ok(Some(genesis)),
            Err(source) => failure = Some(ConfigError::Beacon { url: url.to_string(), source }),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Fills in what the node said. A setting that contradicts the node is an error, because one of
/// the two is on another chain.
fn learn(network: &mut Network, genesis: &Genesis, section: &NetworkConfig) -> Result<(), ConfigError> {
    let contradiction = |key, given: String, known: String| ConfigError::Contradiction {
        key,
        given,
        network: section.name.clone(),
        known: format!("{known} according to the beacon node"),
    };
    let root = genesis.genesis_validators_root;
    if let Some(given) = section.genesis_validators_root.filter(|given| given.0 != root) {
        return Err(contradiction("network.genesis_validators_root", given.to_string(), root.to_string()));
    }
    if genesis.genesis_fork_version != network.genesis_fork_version() {
        return Err(contradiction(
            "GENESIS_FORK_VERSION of the network file",
            network.genesis_fork_version().to_string(),
            genesis.genesis_fork_version.to_string(),
        ));
    }
    let time = genesis.genesis_time_seconds;
    if let Some(given) = section.genesis_time.filter(|given| *given != time) {
        return Err(contradiction("network.genesis_time", given.to_string(), time.to_string()));
    }
    network.genesis_validators_root = Some(root);
    network.genesis_time = Some(millis(time).ok_or_else(|| too_late(time))?);
    Ok(())
}

fn millis(seconds: u64) -> Option<UnixMillis> {
    seconds.checked_mul(1000).map(UnixMillis)
}

fn too_late(seconds: u64) -> ConfigError {
    ConfigError::Setting {
        key: "network.genesis_time",
        problem: format!("is {seconds}, which is no time in seconds since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use holdfast_domain::GenesisValidatorsRoot;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::GenesisRoot;

    const ROOT: GenesisValidatorsRoot = GenesisValidatorsRoot([0x4b; 32]);

    fn file(text: &str) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).unwrap();
        let mut config = Config::default();
        config.network.name = NetworkChoice::File(path);
        (dir, config)
    }

    fn custom() -> (tempfile::TempDir, Config) {
        file(
            "PRESET_BASE: minimal\nCONFIG_NAME: mine\nSECONDS_PER_SLOT: 6\nGENESIS_FORK_VERSION: 0x10000042\n\
             MIN_GENESIS_TIME: 1700000000\nGENESIS_DELAY: 60\n",
        )
    }

    /// Answers one request for the genesis.
    async fn beacon(version: &str, config: &mut Config) -> Result<Network, ConfigError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.network.beacon = vec![format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()];
        let body = format!(
            r#"{{"data":{{"genesis_time":"1700000077","genesis_validators_root":"{ROOT}","genesis_fork_version":"{version}"}}}}"#
        );
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
        };
        let (network, ()) = tokio::join!(resolve_network(config), serve);
        network
    }

    #[tokio::test]
    async fn a_custom_network_needs_its_chain() {
        let (_dir, config) = custom();
        let error = resolve_network(&config).await.unwrap_err().to_string();
        assert!(error.contains("--genesis-validators-root") && error.contains("--beacon"), "{error}");
    }

    #[tokio::test]
    async fn the_root_alone_is_enough_and_the_time_can_be_corrected() {
        let (_dir, mut config) = custom();
        config.network.genesis_validators_root = Some(GenesisRoot(ROOT));
        let network = resolve_network(&config).await.unwrap();
        assert_eq!(network.genesis_validators_root, Some(ROOT));
        assert_eq!(network.genesis_time, Some(UnixMillis(1_700_000_060_000)));
        config.network.genesis_time = Some(1_700_000_099);
        let network = resolve_network(&config).await.unwrap();
        assert_eq!(network.genesis_time, Some(UnixMillis(1_700_000_099_000)));
    }

    #[tokio::test]
    async fn a_beacon_node_tells_both() {
        let (_dir, mut config) = custom();
        let network = beacon("0x10000042", &mut config).await.unwrap();
        assert_eq!(network.genesis_validators_root, Some(ROOT));
        assert_eq!(network.genesis_time, Some(UnixMillis(1_700_000_077_000)));
    }

    #[tokio::test]
    async fn a_beacon_node_of_another_chain_is_refused() {
        let (_dir, mut config) = custom();
        let error = beacon("0x99999999", &mut config).await.unwrap_err();
        assert!(matches!(error, ConfigError::Contradiction { .. }), "{error}");
        config.network.genesis_validators_root = Some(GenesisRoot(GenesisValidatorsRoot([1; 32])));
        let error = beacon("0x10000042", &mut config).await.unwrap_err();
        assert!(matches!(error, ConfigError::Contradiction { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_built_in_network_cannot_be_contradicted() {
        let mut config = Config::default();
        assert_eq!(resolve_network(&config).await.unwrap().name, "mainnet");
        config.network.genesis_time = Some(5);
        let error = resolve_network(&config).await.unwrap_err();
        assert!(matches!(error, ConfigError::Contradiction { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_unusable_file_is_named() {
        let (_dir, config) = file("- not\n- a map\n");
        let error = resolve_network(&config).await.unwrap_err();
        assert!(
            matches!(error, ConfigError::NetworkContent { .. }) && error.to_string().contains("config.yaml"),
            "{error}"
        );
    }
}
