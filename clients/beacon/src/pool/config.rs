//! How the pool is set up. Every number has a default that is right for a network like mainnet.

use std::num::NonZeroUsize;
use std::time::Duration;

use holdfast_domain::{ForkVersion, GenesisValidatorsRoot};

use crate::balance::Balancing;
use crate::health::HysteresisPolicy;
use crate::upstream::UpstreamConfig;

/// How nodes are probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// Between two probes of one node.
    pub interval: Duration,
    /// An answer to a probe that takes longer is slow; two in a row take a node out of duties.
    pub slow: Duration,
    /// A probe that takes longer is given up.
    pub timeout: Duration,
    /// How long the start waits for the nodes to tell their network.
    pub start_wait: Duration,
    /// Between two questions for the number of peers.
    pub peers_every: Duration,
    /// Between two look-ups of a name whose addresses are nodes of their own.
    pub resolve_every: Duration,
}

impl Default for Probing {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            slow: Duration::from_secs(1),
            timeout: Duration::from_secs(2),
            start_wait: Duration::from_secs(3),
            peers_every: Duration::from_secs(30),
            resolve_every: Duration::from_secs(30),
        }
    }
}

/// The network the nodes have to be on, where the operator or the signer says so. It says nothing of forks: nodes that
/// agree on one that this binary does not know are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedNetwork {
    /// Which chain.
    pub genesis_validators_root: Option<GenesisValidatorsRoot>,
    /// Version of the first fork.
    pub genesis_fork_version: Option<ForkVersion>,
}

/// Who replays remembered subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayGate {
    /// Somebody listens to changes and reports [`super::Pool::replayed`]: promotion waits for it.
    Wait,
    /// Nobody: there is nothing to wait for.
    #[default]
    Open,
}

/// When checkpoints count as confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    /// Distinct implementations that have to agree; fewer are enough only if the pool has no more.
    pub implementations: NonZeroUsize,
    /// How long they are waited for.
    pub within: Duration,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { implementations: NonZeroUsize::MIN.saturating_add(1), within: Duration::from_secs(1) }
    }
}

/// The pool's configuration.
#[derive(Debug, Clone, Default)]
pub struct PoolConfig {
    /// The nodes.
    pub upstreams: Vec<UpstreamConfig>,
    /// Choice among equally healthy nodes.
    pub balancing: Balancing,
    /// Probes.
    pub probing: Probing,
    /// Promotion.
    pub hysteresis: HysteresisPolicy,
    /// The network to be on; whatever most nodes are on if not given.
    pub expected: Option<ExpectedNetwork>,
    /// Replay of subscriptions.
    pub replay: ReplayGate,
    /// Confirmation of checkpoints.
    pub quorum: Quorum,
}
