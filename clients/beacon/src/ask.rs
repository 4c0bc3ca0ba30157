//! Small questions in JSON that the switcher itself asks: what a node is, where it stands.
//!
//! What it guarantees: each is bounded in time and length, and an answer is understood whole or refused.

use std::sync::Arc;

use holdfast_domain::Slot;
use hyper::StatusCode;
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::chain::{BlockRoot, Checkpoint, decimal};
use crate::class::EndpointClass;
use crate::error::BeaconError;
use crate::upstream::{Upstream, UpstreamRequest};

pub(crate) const GENESIS: &str = "/eth/v1/beacon/genesis";
pub(crate) const SPEC: &str = "/eth/v1/config/spec";
pub(crate) const FORK_SCHEDULE: &str = "/eth/v1/config/fork_schedule";
pub(crate) const SYNCING: &str = "/eth/v1/node/syncing";
pub(crate) const VERSION: &str = "/eth/v1/node/version";
pub(crate) const PEER_COUNT: &str = "/eth/v1/node/peer_count";
pub(crate) const HEAD_HEADER: &str = "/eth/v1/beacon/headers/head";
pub(crate) const CHECKPOINTS: &str = "/eth/v1/beacon/states/head/finality_checkpoints";

/// The longest of these answers is the specification, some 20 kB.
const MAX_BODY_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

/// `data` of the answer to a GET on the probes' connection.
pub(crate) async fn data<T: DeserializeOwned>(
    upstream: &Arc<Upstream>,
    path: &'static str,
    deadline: Instant,
) -> Result<T, BeaconError> {
    let request = UpstreamRequest::get_json(PathAndQuery::from_static(path), EndpointClass::NodeInfo);
    let call = |source| BeaconError::Call { path, source };
    let answer = upstream.probe(request, deadline).await.map_err(call)?;
    let status = answer.status;
    let answer = answer.collect(MAX_BODY_BYTES, deadline).await.map_err(call)?;
    if status != StatusCode::OK {
        return Err(BeaconError::Status { status: status.as_u16(), path });
    }
    let envelope: Envelope<T> =
        serde_json::from_slice(&answer.body).map_err(|source| BeaconError::Content { path, source })?;
    Ok(envelope.data)
}

/// `node/syncing`.
#[derive(Debug, Deserialize)]
pub(crate) struct Syncing {
    #[serde(deserialize_with = "slot")]
    pub(crate) head_slot: Slot,
    #[serde(rename = "is_syncing")]
    pub(crate) catching_up: bool,
    #[serde(default, rename = "is_optimistic")]
    pub(crate) optimistic: bool,
    #[serde(default)]
    pub(crate) el_offline: bool,
}

/// `node/version`.
#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    pub(crate) version: String,
}

/// `node/peer_count`.
#[derive(Debug, Deserialize)]
pub(crate) struct PeerCount {
    #[serde(deserialize_with = "decimal")]
    pub(crate) connected: u64,
}

/// `beacon/headers/{block_id}`.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) root: BlockRoot,
    pub(crate) header: SignedHeader,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SignedHeader {
    pub(crate) message: HeaderMessage,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HeaderMessage {
    #[serde(deserialize_with = "slot")]
    pub(crate) slot: Slot,
    pub(crate) parent_root: BlockRoot,
}

/// `finality_checkpoints`.
#[derive(Debug, Deserialize)]
pub(crate) struct Checkpoints {
    pub(crate) current_justified: Checkpoint,
    pub(crate) finalized: Checkpoint,
}

fn slot<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Slot, D::Error> {
    decimal(deserializer).map(Slot)
}
