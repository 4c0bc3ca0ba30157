//! The routing table: every endpoint of the Beacon API a validator client may call, and how it is served.
//!
//! Why it exists: a proxy that does not know what a request means sends duties to a stalled node and
//! submissions to one node only. What it guarantees: the list is closed, one line per endpoint; each has a
//! class (health and deadlines), a semantic (which nodes are asked, and how answers are combined) and
//! what the Beacon API says about SSZ. Nothing outside the list is taken for something in it.

use hyper::Method;

use super::path::{Params, match_path};
use crate::EndpointClass;

/// How an endpoint is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Semantic {
    /// The same on every node of a network: asked once, kept, answered from memory.
    Pinned,
    /// Best node, the next one beside it when it is slow or refuses; the first good answer.
    Hedged,
    /// As `Hedged`, but the second node only after a second: the answer is big.
    HedgedLate,
    /// For the head: all nodes, freshest non-optimistic answer. For a slot or root: as `Hedged`.
    Freshest,
    /// Best node, kept for the epoch; dependent roots compared in the background.
    Duty,
    /// All nodes; a quorum must agree on source and target, then the freshest head.
    VoteAttestation,
    /// All nodes; a majority on block root and payload.
    VotePayload,
    /// All nodes; the aggregate with most votes in it.
    BestAggregate,
    /// Nodes that hold the block; the contribution with most votes in it.
    BestContribution,
    /// All nodes within a soft and a hard deadline; the valid block of highest value.
    Produce,
    /// All nodes, not cancelled at the first success; errors of items merged.
    Broadcast,
    /// All nodes; 202 is waited out for a 200.
    PublishBlock,
    /// The producer first, then other nodes with a builder.
    PublishBlinded,
    /// The producer only, unless the envelope brings its blobs along: then as `PublishBlock`.
    PublishEnvelope,
    /// The node that produced the block.
    Producer,
    /// One node with a builder, always the same.
    BuilderPinned,
    /// All nodes, remembered, and sent again to a node that returns.
    Prepare,
    /// One node with a builder, remembered, sent again when another takes over.
    Register,
    /// The distributed-validator middleware, if one is configured; otherwise 501.
    Middleware,
    /// All nodes; live on one is live; a node that cannot tell makes the answer 503.
    LivenessUnion,
    /// All nodes' events merged.
    Events,
    /// Told from the pool's own state.
    Syncing,
    /// Told from the pool's own state, as a status.
    Health,
    /// The switcher's own version.
    Version,
    /// The best node, nobody else.
    BestNode,
    /// The best node, with few at a time; only if allowed.
    Bulk,
}

/// Where the Beacon API allows SSZ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ssz {
    /// Nowhere.
    No,
    /// In the request's body.
    Request,
    /// In the answer's body.
    Answer,
    /// In both.
    Both,
}

impl Ssz {
    /// Whether a request's body may be SSZ.
    pub const fn in_request(self) -> bool {
        match self {
            Self::Request | Self::Both => true,
            Self::No | Self::Answer => false,
        }
    }

    /// Whether an answer may be SSZ.
    pub const fn in_answer(self) -> bool {
        match self {
            Self::Answer | Self::Both => true,
            Self::No | Self::Request => false,
        }
    }
}

macro_rules! rows {
    ($($name:ident $method:ident $class:ident $semantic:ident $ssz:ident [$($pattern:literal),+];)*) => {
        /// An endpoint of the Beacon API. The variants are named after what they do; see [`Self::patterns`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each variant's meaning is its line in the table below")]
        pub enum Endpoint { $($name,)* }

        impl Endpoint {
            /// Every endpoint, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Name for labels and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The method it is called with.
            pub const fn method(self) -> Method {
                match self { $(Self::$name => Method::$method,)* }
            }

            /// Its paths; `{name}` stands for one segment, `*` at the end for any rest.
            pub const fn patterns(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($pattern),+],)* }
            }

            /// Its class, which health and deadlines go by.
            pub const fn class(self) -> EndpointClass {
                match self { $(Self::$name => EndpointClass::$class,)* }
            }

            /// How it is served.
            pub const fn semantic(self) -> Semantic {
                match self { $(Self::$name => Semantic::$semantic,)* }
            }

            /// Where it allows SSZ.
            pub const fn ssz(self) -> Ssz {
                match self { $(Self::$name => Ssz::$ssz,)* }
            }
        }
    };
}

rows! {
    Genesis              GET  Static   Pinned     No      ["/eth/v1/beacon/genesis"];
    Spec                 GET  Static   Pinned     No      ["/eth/v1/config/spec"];
    ForkSchedule         GET  Static   Pinned     No      ["/eth/v1/config/fork_schedule"];
    DepositContract      GET  Static   Pinned     No      ["/eth/v1/config/deposit_contract"];

    StateFork            GET  Read     Hedged     No      ["/eth/v1/beacon/states/{state_id}/fork"];
    StateRoot            GET  Read     Hedged     No      ["/eth/v1/beacon/states/{state_id}/root"];
    FinalityCheckpoints  GET  Read     Hedged     No      ["/eth/v1/beacon/states/{state_id}/finality_checkpoints"];
    Validators           GET  BigRead  HedgedLate No      ["/eth/v1/beacon/states/{state_id}/validators"];
    ValidatorsByBody     POST BigRead  HedgedLate No      ["/eth/v1/beacon/states/{state_id}/validators"];
    Validator            GET  Read     Hedged     No      ["/eth/v1/beacon/states/{state_id}/validators/{any}"];
    Balances             GET  BigRead  HedgedLate Answer  ["/eth/v1/beacon/states/{state_id}/validator_balances"];
    BalancesByBody       POST BigRead  HedgedLate Answer  ["/eth/v1/beacon/states/{state_id}/validator_balances"];
    IdentitiesByBody     POST BigRead  HedgedLate Answer  ["/eth/v1/beacon/states/{state_id}/validator_identities"];
    Committees           GET  BigRead  HedgedLate No      ["/eth/v1/beacon/states/{state_id}/committees"];
    SyncCommittees       GET  BigRead  HedgedLate No      ["/eth/v1/beacon/states/{state_id}/sync_committees"];
    Randao               GET  Read     Hedged     No      ["/eth/v1/beacon/states/{state_id}/randao"];
    ProposerLookahead    GET  BigRead  HedgedLate Answer  ["/eth/v1/beacon/states/{state_id}/proposer_lookahead"];
    ExpectedWithdrawals  GET  Read     Hedged     Answer  ["/eth/v1/builder/states/{state_id}/expected_withdrawals"];
    PendingQueues        GET  BigRead  HedgedLate Answer  [
        "/eth/v1/beacon/states/{state_id}/pending_deposits",
        "/eth/v1/beacon/states/{state_id}/pending_partial_withdrawals",
        "/eth/v1/beacon/states/{state_id}/pending_consolidations"
    ];

    Headers              GET  HotRead  Freshest   No      ["/eth/v1/beacon/headers"];
    Header               GET  HotRead  Freshest   No      ["/eth/v1/beacon/headers/{block_id}"];
    BlockRootOf          GET  HotRead  Freshest   No      ["/eth/v1/beacon/blocks/{block_id}/root"];
    Block                GET  Read     Hedged     Answer  [
        "/eth/v2/beacon/blocks/{block_id}", "/eth/v1/beacon/blocks/{block_id}", "/eth/v1/beacon/blinded_blocks/{block_id}"
    ];
    BlockAttestations    GET  Read     Hedged     No      [
        "/eth/v2/beacon/blocks/{block_id}/attestations", "/eth/v1/beacon/blocks/{block_id}/attestations"
    ];

    AttesterDuties       POST Duty     Duty       No      ["/eth/v1/validator/duties/attester/{epoch}"];
    ProposerDutiesV1     GET  Duty     Duty       No      ["/eth/v1/validator/duties/proposer/{epoch}"];
    ProposerDutiesV2     GET  Duty     Duty       No      ["/eth/v2/validator/duties/proposer/{epoch}"];
    SyncDuties           POST Duty     Duty       No      ["/eth/v1/validator/duties/sync/{epoch}"];
    PtcDuties            POST Duty     Duty       No      ["/eth/v1/validator/duties/ptc/{epoch}"];

    AttestationData      GET  AttestationData VoteAttestation Answer ["/eth/v1/validator/attestation_data"];
    PayloadAttestationData GET AttestationData VotePayload    Answer ["/eth/v1/validator/payload_attestation_data"];
    AggregateAttestation GET  Aggregate BestAggregate    Answer [
        "/eth/v2/validator/aggregate_attestation", "/eth/v1/validator/aggregate_attestation"
    ];
    SyncContribution     GET  Aggregate BestContribution No     ["/eth/v1/validator/sync_committee_contribution"];

    SubmitAttestations   POST Submit   Broadcast  Request ["/eth/v2/beacon/pool/attestations", "/eth/v1/beacon/pool/attestations"];
    SubmitAggregates     POST Submit   Broadcast  Request [
        "/eth/v2/validator/aggregate_and_proofs", "/eth/v1/validator/aggregate_and_proofs"
    ];
    SubmitContributions  POST Submit   Broadcast  No      ["/eth/v1/validator/contribution_and_proofs"];
    SubmitSyncMessages   POST Submit   Broadcast  No      ["/eth/v1/beacon/pool/sync_committees"];
    SubmitExit           POST Submit   Broadcast  No      ["/eth/v1/beacon/pool/voluntary_exits"];
    SubmitBlsChanges     POST Submit   Broadcast  No      ["/eth/v1/beacon/pool/bls_to_execution_changes"];
    SubmitSlashing       POST Submit   Broadcast  No      [
        "/eth/v2/beacon/pool/attester_slashings", "/eth/v1/beacon/pool/attester_slashings",
        "/eth/v1/beacon/pool/proposer_slashings"
    ];
    SubmitPayloadAttestations POST Submit Broadcast Request ["/eth/v1/beacon/pool/payload_attestations"];
    ReadPool             GET  Read     BestNode   No      [
        "/eth/v2/beacon/pool/attestations", "/eth/v1/beacon/pool/attestations", "/eth/v1/beacon/pool/voluntary_exits",
        "/eth/v1/beacon/pool/bls_to_execution_changes", "/eth/v2/beacon/pool/attester_slashings",
        "/eth/v1/beacon/pool/attester_slashings", "/eth/v1/beacon/pool/proposer_slashings",
        "/eth/v1/beacon/pool/payload_attestations"
    ];

    ProduceV2            GET  Produce  Produce    Answer  ["/eth/v2/validator/blocks/{slot}", "/eth/v1/validator/blocks/{slot}"];
    ProduceBlinded       GET  Produce  Produce    Answer  ["/eth/v1/validator/blinded_blocks/{slot}"];
    ProduceV3            GET  Produce  Produce    Answer  ["/eth/v3/validator/blocks/{slot}"];
    ProduceV4            GET  Produce  Produce    Answer  ["/eth/v4/validator/blocks/{slot}"];
    PublishBlock         POST Publish  PublishBlock   Request ["/eth/v2/beacon/blocks", "/eth/v1/beacon/blocks"];
    PublishBlinded       POST Publish  PublishBlinded Request ["/eth/v2/beacon/blinded_blocks", "/eth/v1/beacon/blinded_blocks"];
    PublishEnvelope      POST Publish  PublishEnvelope Request ["/eth/v1/beacon/execution_payload_envelopes"];
    ReadEnvelope         GET  Produce  Producer   Answer  ["/eth/v1/validator/execution_payload_envelopes/{slot}/{root}"];
    ReadBid              GET  Builder  BuilderPinned Answer  ["/eth/v1/validator/execution_payload_bids/{slot}/{any}"];
    PublishBid           POST Builder  BuilderPinned Request ["/eth/v1/beacon/execution_payload_bids"];

    CommitteeSubscriptions POST Prepare Prepare   No      ["/eth/v1/validator/beacon_committee_subscriptions"];
    SyncSubscriptions    POST Prepare  Prepare    No      ["/eth/v1/validator/sync_committee_subscriptions"];
    PrepareProposer      POST Prepare  Prepare    No      ["/eth/v1/validator/prepare_beacon_proposer"];
    ProposerPreferences  POST Prepare  Prepare    Request ["/eth/v1/validator/proposer_preferences"];
    RegisterValidator    POST Builder  Register   Request ["/eth/v1/validator/register_validator"];
    CommitteeSelections  POST Duty     Middleware No      ["/eth/v1/validator/beacon_committee_selections"];
    SyncSelections       POST Duty     Middleware No      ["/eth/v1/validator/sync_committee_selections"];

    Liveness             POST Liveness LivenessUnion No   ["/eth/v1/validator/liveness/{epoch}"];
    Events               GET  Events   Events     No      ["/eth/v1/events"];

    NodeSyncing          GET  NodeInfo Syncing    No      ["/eth/v1/node/syncing"];
    NodeHealth           GET  NodeInfo Health     No      ["/eth/v1/node/health"];
    NodeVersionV1        GET  NodeInfo Version    No      ["/eth/v1/node/version"];
    NodeVersionV2        GET  NodeInfo Version    No      ["/eth/v2/node/version"];
    NodeFacts            GET  NodeInfo BestNode   No      [
        "/eth/v1/node/identity", "/eth/v1/node/peers", "/eth/v1/node/peers/{any}", "/eth/v1/node/peer_count"
    ];

    Rewards              GET  Bulk     Bulk       No      ["/eth/v1/beacon/rewards/blocks/{block_id}"];
    RewardsByBody        POST Bulk     Bulk       No      [
        "/eth/v1/beacon/rewards/attestations/{epoch}", "/eth/v1/beacon/rewards/sync_committee/{block_id}"
    ];
    LightClient          GET  Bulk     Bulk       Answer  ["/eth/v1/beacon/light_client/*", "/eth/v0/beacon/light_client/*"];
    Blobs                GET  Bulk     Bulk       Answer  [
        "/eth/v1/beacon/blob_sidecars/{block_id}", "/eth/v1/beacon/blobs/{block_id}"
    ];
    DebugState           GET  Bulk     Bulk       Answer  ["/eth/v2/debug/beacon/states/{state_id}", "/eth/v1/debug/beacon/states/{state_id}"];
    Debug                GET  Bulk     Bulk       Answer  [
        "/eth/v2/debug/beacon/heads", "/eth/v1/debug/beacon/heads", "/eth/v1/debug/fork_choice",
        "/eth/v1/debug/beacon/data_column_sidecars/{block_id}"
    ];
}

/// A request that is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// Which endpoint.
    pub endpoint: Endpoint,
    /// What its path says.
    pub params: Params,
}

/// Why a request is not in the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// No endpoint has this path.
    #[error(
        "{path} is not an endpoint this switcher knows; pass unknown routes on in its configuration if a node has it"
    )]
    Unknown {
        /// The path.
        path: String,
    },
    /// The path exists, with other methods.
    #[error("{path} is called with {allowed}")]
    Method {
        /// The path.
        path: String,
        /// What it is called with.
        allowed: String,
    },
    /// A part of the path is not what it should be.
    #[error("{path}: {name} is not one; the Beacon API says what it may be")]
    Parameter {
        /// The path.
        path: String,
        /// The parameter's name.
        name: &'static str,
    },
}

/// Finds the endpoint of a request.
///
/// # Errors
/// [`NoMatch`], which says whether it is the path, the method or a parameter.
pub fn find(method: &Method, path: &str) -> Result<Matched, NoMatch> {
    // HEAD is GET without the body.
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed: Vec<String> = Vec::new();
    let mut bad = None;
    for endpoint in Endpoint::ALL {
        for pattern in endpoint.patterns() {
            match match_path(pattern, path) {
                None => {}
                Some(_) if endpoint.method() != *wanted => allowed.push(endpoint.method().to_string()),
                Some(Ok(params)) => return Ok(Matched { endpoint: *endpoint, params }),
                Some(Err(name)) => bad = Some(name),
            }
        }
    }
    let path = path.to_owned();
    Err(match bad {
        Some(name) => NoMatch::Parameter { path, name },
        None if allowed.is_empty() => NoMatch::Unknown { path },
        None => NoMatch::Method { path, allowed: allowed.join(" or ") },
    })
}

#[cfg(test)]
mod tests {
    //! Proves: every pattern finds its own row, and what looks like a row is not taken for one.
    use holdfast_domain::{Epoch, Slot};

    use super::*;
    use crate::route::path::{BlockId, StateId};

    fn example(pattern: &str) -> String {
        pattern
            .replace("{state_id}", "head")
            .replace("{block_id}", "head")
            .replace("{epoch}", "7")
            .replace("{slot}", "9")
            .replace("{root}", &format!("0x{}", "ab".repeat(32)))
            .replace("{any}", "x")
            .replace('*', "a/b")
    }

    #[test]
    fn every_row_is_found_by_every_pattern_of_its_own() {
        for endpoint in Endpoint::ALL {
            for pattern in endpoint.patterns() {
                let matched = find(&endpoint.method(), &example(pattern)).unwrap();
                assert_eq!(matched.endpoint, *endpoint, "{pattern}");
            }
        }
    }

    #[test]
    fn parameters_are_read() {
        let duties = find(&Method::POST, "/eth/v1/validator/duties/attester/42").unwrap();
        assert_eq!(duties.params.epoch, Some(Epoch(42)));
        let block = find(&Method::GET, "/eth/v3/validator/blocks/77").unwrap();
        assert_eq!(block.params.slot, Some(Slot(77)));
        let state = find(&Method::GET, "/eth/v1/beacon/states/finalized/fork").unwrap();
        assert_eq!(state.params.state, Some(StateId::Finalized));
        let header = find(&Method::GET, "/eth/v1/beacon/headers/123").unwrap();
        assert_eq!(header.params.block, Some(BlockId::Slot(Slot(123))));
    }

    #[test]
    fn what_is_not_in_the_table_is_told_apart() {
        for path in [
            "/",
            "",
            "/eth/v1/beacon/genesis/",
            "/eth/v1/beacon//genesis",
            "/eth/v9/beacon/genesis",
            "/lighthouse/health",
        ] {
            assert!(matches!(find(&Method::GET, path), Err(NoMatch::Unknown { .. })), "{path}");
        }
        assert!(matches!(
            find(&Method::DELETE, "/eth/v1/beacon/states/head/validators"),
            Err(NoMatch::Method { allowed, .. }) if allowed == "GET or POST"
        ));
        for path in ["/eth/v3/validator/blocks/-1", "/eth/v3/validator/blocks/0x7", "/eth/v1/beacon/headers/justified"]
        {
            assert!(matches!(find(&Method::GET, path), Err(NoMatch::Parameter { .. })), "{path}");
        }
        assert!(find(&Method::GET, "/eth/v1/beacon/states/../../x/fork").is_err());
        assert!(find(&Method::GET, "/eth/v1/beacon/light_client/../../../admin").is_err());
        assert!(find(&Method::GET, "/eth/v1/beacon/light_client/%2e%2e/admin").is_err());
    }

    #[test]
    fn head_is_get() {
        assert_eq!(find(&Method::HEAD, "/eth/v1/node/health").unwrap().endpoint, Endpoint::NodeHealth);
    }
}
