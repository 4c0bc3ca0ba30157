//! A pool of execution clients behind one JSON-RPC address, over HTTP and WebSocket.
//!
//! Why it exists: what reads the execution chain (validator tooling, relays, wallets of operators) should not
//! notice that a node restarts, hangs or falls behind. What it guarantees: reads come from nodes that are in
//! sync and on the pool's chain; transactions go to every node; a filter or a subscription stays with the
//! node that has it; methods that administer a node or make it sign are refused; results pass through byte
//! for byte, and a failing node never becomes a wrong answer.

mod dispatch;
mod filters;
mod health;
mod jsonrpc;
mod method;
mod metrics;
mod pool;
mod server;
mod subscriptions;
mod websocket;

use std::time::Duration;

pub use health::{BlockNumber, Health, Observation, SyncState};
pub use method::{BadPattern, MethodKind, MethodPolicy};
pub use metrics::ExecutionMetrics;
pub use pool::{ExecutionPool, ExecutionStatus, NodeStatus};
pub use server::{ServerBounds, serve};

use crate::balance::Policy;
use crate::upstream::UpstreamConfig;

/// EIP-155 chain id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u64);

/// One execution client.
#[derive(Debug, Clone)]
pub struct ExecutionNodeConfig {
    /// Its HTTP API.
    pub upstream: UpstreamConfig,
    /// Its WebSocket API (`ws://…`); without it the node serves no subscriptions.
    pub websocket: Option<WebSocketUrl>,
}

/// Address of a WebSocket API. Plain `ws` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketUrl {
    /// `host:port`, as in the `Host` header.
    pub(crate) authority: String,
    /// Where to connect to.
    pub(crate) host: String,
    /// Where to connect to.
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) path: String,
}

/// An address that is none of a WebSocket API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address of a WebSocket API; write it like ws://127.0.0.1:8546 (wss is not supported)")]
pub struct BadWebSocketUrl;

impl std::str::FromStr for WebSocketUrl {
    type Err = BadWebSocketUrl;

    fn from_str(text: &str) -> Result<Self, BadWebSocketUrl> {
        let uri: hyper::Uri = text.parse().map_err(|_| BadWebSocketUrl)?;
        let authority = uri.authority().ok_or(BadWebSocketUrl)?;
        if uri.scheme_str() != Some("ws") || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(BadWebSocketUrl);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { authority: authority.as_str().to_owned(), host, port: authority.port_u16().unwrap_or(80), path })
    }
}

/// A pool's settings.
#[derive(Debug, Clone)]
pub struct ExecutionConfig {
    /// The nodes, in the order in which the best is chosen from equals.
    pub nodes: Vec<ExecutionNodeConfig>,
    /// What is passed on.
    pub methods: MethodPolicy,
    /// How equals share the reads.
    pub balance: Policy,
    /// Blocks a node may be behind the highest head and still answer reads.
    pub max_lag: u64,
    /// Longest time for a node's answer.
    pub timeout: Duration,
    /// Most calls in a batch.
    pub max_batch: usize,
    /// Largest request body or WebSocket message in bytes.
    pub max_body: usize,
}

/// Longest answer of a node in bytes; a range of logs can be large.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// How often the nodes are asked how they are.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// A node that has not answered its probe after this is down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Good probes in a row before a node that was bad counts as good.
const PROMOTE_AFTER: u32 = 3;

/// After this long without an answer to a read, the next node is asked, too.
const HEDGE_AFTER: Duration = Duration::from_millis(750);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_websockets() {
        let url: WebSocketUrl = "ws://node:8546/x?y=1".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("node", 8546, "/x?y=1"));
        let url: WebSocketUrl = "ws://[::1]:8546".parse().unwrap();
        assert_eq!((url.host.as_str(), url.authority.as_str(), url.path.as_str()), ("::1", "[::1]:8546", "/"));
        for text in ["wss://node", "http://node", "node:8546", "ws://u:p@node", "ws://"] {
            assert_eq!(text.parse::<WebSocketUrl>(), Err(BadWebSocketUrl), "{text}");
        }
    }
}
