//! `GET /eth/v1/beacon/genesis` (Beacon API): which chain a node is on.

use std::time::Duration;

use holdfast_domain::root::parse_hex;
use holdfast_domain::{ForkVersion, GenesisValidatorsRoot};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use tokio::time::Instant;

use crate::BeaconError;
use crate::ask::{self, GENESIS};
use crate::chain::decimal;
use crate::upstream::{Upstream, UpstreamConfig};

/// From connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What identifies a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Genesis {
    /// When slot 0 began, in seconds since 1970.
    #[serde(rename = "genesis_time", deserialize_with = "decimal")]
    pub genesis_time_seconds: u64,
    /// `hash_tree_root` of the validators at genesis.
    #[serde(deserialize_with = "root")]
    pub genesis_validators_root: GenesisValidatorsRoot,
    /// The version of the first fork.
    #[serde(deserialize_with = "version")]
    pub genesis_fork_version: ForkVersion,
}

/// Asks the beacon node at `url` (`http[s]://[user:password@]host:port`, a path before `/eth` is kept)
/// for its genesis.
///
/// # Errors
/// [`BeaconError`] if the address is unusable, the node does not answer within 5 seconds, or the
/// answer is not a genesis. Asking again is safe.
pub async fn fetch_genesis(url: &str) -> Result<Genesis, BeaconError> {
    let config = UpstreamConfig::from_url(url).map_err(BeaconError::Config)?;
    let upstream = Upstream::standalone(config).map_err(BeaconError::Config)?;
    ask::data(&upstream, GENESIS, Instant::now() + TIMEOUT).await
}

fn root<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GenesisValidatorsRoot, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_hex::<32>(&text)
        .map(GenesisValidatorsRoot)
        .ok_or_else(|| D::Error::custom("genesis_validators_root: expected 0x and 64 hexadecimal digits"))
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ForkVersion, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_hex::<4>(&text)
        .map(ForkVersion)
        .ok_or_else(|| D::Error::custom("genesis_fork_version: expected 0x and 8 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::CallError;

    /// Answers one request with `reply` and returns what was asked.
    async fn node(reply: String) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a test's server, awaited by the test")]
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4096];
            let count = stream.read(&mut seen).await.unwrap();
            // A client that has read enough may hang up first.
            let _ = stream.write_all(reply.as_bytes()).await;
            String::from_utf8_lossy(&seen[..count]).into_owned()
        });
        (url, served)
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_genesis_is_read() {
        let body = format!(
            r#"{{"data":{{"genesis_time":"1606824023","genesis_validators_root":"0x{}","genesis_fork_version":"0x10000042"}}}}"#,
            "4b".repeat(32)
        );
        let (url, served) = node(ok(&body)).await;
        let genesis = fetch_genesis(&url).await.unwrap();
        assert_eq!(genesis.genesis_time_seconds, 1_606_824_023);
        assert_eq!(genesis.genesis_validators_root, GenesisValidatorsRoot([0x4b; 32]));
        assert_eq!(genesis.genesis_fork_version, ForkVersion([0x10, 0, 0, 0x42]));
        let request = served.await.unwrap();
        assert!(request.starts_with("GET /base/eth/v1/beacon/genesis HTTP/1.1\r\n"), "{request}");
        assert!(request.to_ascii_lowercase().contains("\r\nhost: 127.0.0.1:"), "{request}");
    }

    #[tokio::test]
    async fn errors_say_what_happened() {
        let (url, _served) = node("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
        assert!(matches!(fetch_genesis(&url).await, Err(BeaconError::Status { status: 404, .. })));
        let (url, _served) = node(ok("<html>")).await;
        assert!(matches!(fetch_genesis(&url).await, Err(BeaconError::Content { .. })));
        let call = |error| match error {
            Err(BeaconError::Call { source, .. }) => source,
            other => panic!("{other:?}"),
        };
        let (url, _served) = node(ok(&" ".repeat(300_000))).await;
        assert!(matches!(call(fetch_genesis(&url).await), CallError::TooLong { .. }));
        let (url, _served) = node("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{".to_owned()).await;
        assert!(matches!(call(fetch_genesis(&url).await), CallError::Exchange(_)));
        let (url, _served) = node(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(300_000))).await;
        assert!(matches!(call(fetch_genesis(&url).await), CallError::Exchange(_)), "an oversized head");
    }

    #[tokio::test]
    async fn an_http_1_0_node_is_understood() {
        let body = format!(
            r#"{{"data":{{"genesis_time":"1","genesis_validators_root":"0x{}","genesis_fork_version":"0x00000000"}}}}"#,
            "00".repeat(32)
        );
        let (url, _served) = node(format!("HTTP/1.0 200 OK\r\n\r\n{body}")).await;
        assert_eq!(fetch_genesis(&url).await.unwrap().genesis_time_seconds, 1);
    }

    #[tokio::test]
    async fn nobody_listening_is_no_connection() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let error = fetch_genesis(&url).await.unwrap_err();
        assert!(matches!(error, BeaconError::Call { source: CallError::Connect(_), .. }), "{error:?}");
    }

    #[tokio::test]
    async fn unusable_addresses_are_refused_and_credentials_are_sent() {
        for url in ["node:5052", "http://", "ftp://node"] {
            assert!(matches!(fetch_genesis(url).await, Err(BeaconError::Config(_))), "{url}");
        }
        let (url, served) = node(ok("{}")).await;
        let url = url.replace("http://", "http://user:planted@");
        let error = fetch_genesis(&url).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"));
        assert!(served.await.unwrap().contains("Basic dXNlcjpwbGFudGVk"));
    }
}
