//! A pool of execution clients behind one JSON-RPC address, over HTTP and WebSocket.
//!
//! Why it exists: what reads the execution chain (validator tooling, relays, wallets of operators) should not
//! notice that a node restarts, hangs or falls behind. What it guarantees: reads come from nodes that are in
//! sync and on the pool's chain; transactions go to every node; a filter or a subscription stays with the
//! node that has it; methods that administer a node or make it sign are refused; results pass through byte
//! for byte, and a failing node never becomes a wrong answer.

mod control;
mod dispatch;
mod filters;
mod health;
mod jsonrpc;
mod link;
mod method;
mod metrics;
mod node;
mod pool;
mod probe;
mod server;
mod status;
mod subscriptions;
mod websocket;
mod websocket_url;

use std::time::Duration;

pub use health::{BlockNumber, Health, Observation, SyncState};
pub use method::{BadPattern, MethodKind, MethodPolicy};
pub use metrics::ExecutionMetrics;
pub use pool::{ExecutionEnvironment, ExecutionPool};
pub use server::{ServerBounds, serve};
pub use status::{ExecutionStatus, NodeStatus};
pub use websocket_url::{BadWebSocketUrl, WebSocketUrl};

use crate::balance::Policy;
use crate::error::UpstreamConfigError;
use crate::upstream::UpstreamConfig;

/// EIP-155 chain id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u64);

/// One execution client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionNodeConfig {
    /// Its HTTP API.
    pub upstream: UpstreamConfig,
    /// Its WebSocket API (`ws://…` or `wss://…`); without it the node serves no subscriptions.
    pub websocket: Option<WebSocketUrl>,
}

impl ExecutionNodeConfig {
    /// Checks what is only used later: headers, credentials, certificates of authorities.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if it cannot be used as configured.
    pub fn check(&self) -> Result<(), UpstreamConfigError> {
        self.upstream.check()?;
        self.websocket.clone().map(|url| link::LinkSource::new(url, &self.upstream)).transpose().map(|_| ())
    }
}

/// A pool's settings.
#[derive(Debug, Clone)]
pub struct ExecutionConfig {
    /// The nodes to begin with, in the order in which the best is chosen from equals.
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
