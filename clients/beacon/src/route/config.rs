//! How requests are routed, where an operator may choose.

use super::vote::VoteRule;

/// What is done with an attestation data request when nodes disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoQuorum {
    /// 503: the validator skips, which costs far less than a wrong target.
    #[default]
    Refuse,
    /// The best node's answer.
    BestNode,
}

/// Routes that are not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownRoutes {
    /// 404.
    #[default]
    Refuse,
    /// Passed to the best node.
    Pass,
}

/// Whole states, rewards, blobs, debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BulkAccess {
    /// 403: a whole state can exhaust a node's memory.
    #[default]
    Refuse,
    /// Served by the best node, few at a time.
    Allow,
}

/// Which nodes have to answer a liveness request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LivenessRequired {
    /// Those not known to be down.
    #[default]
    Reachable,
    /// Every node of the pool.
    All,
}

/// Whether blocks are asked for with their payload (Gloas).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadInclusion {
    /// Always when several nodes are in play, so that any of them can publish.
    #[default]
    WhenSeveralNodes,
    /// As the client asks.
    AsAsked,
}

/// Routing policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingConfig {
    /// The vote on attestation data.
    pub vote: VoteRule,
    /// Without a quorum.
    pub no_quorum: NoQuorum,
    /// Unknown routes.
    pub unknown: UnknownRoutes,
    /// Bulk routes.
    pub bulk: BulkAccess,
    /// Bulk answers at a time.
    pub bulk_at_once: usize,
    /// Liveness.
    pub liveness: LivenessRequired,
    /// Gloas blocks.
    pub payload: PayloadInclusion,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            vote: VoteRule::default(),
            no_quorum: NoQuorum::default(),
            unknown: UnknownRoutes::default(),
            bulk: BulkAccess::default(),
            bulk_at_once: 2,
            liveness: LivenessRequired::default(),
            payload: PayloadInclusion::default(),
        }
    }
}
