//! Liveness of validators: live if any node has seen them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use holdfast_domain::{Epoch, ValidatorIndex};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;

use crate::chain::decimal;
use crate::class::EndpointClass;
use crate::deadline::Deadline;
use crate::health::Eligibility;
use crate::pool::{NodeView, Pool};
use crate::upstream::{UpstreamName, UpstreamRequest};

/// A line per validator: about 40 bytes.
const BYTES_PER_INDEX: usize = 128;
const BYTES_AROUND: usize = 4096;

/// What the nodes together have seen of validators in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LivenessUnion {
    /// Seen by at least one node.
    pub live: BTreeSet<ValidatorIndex>,
    /// Nodes that answered for every validator.
    pub answered: usize,
    /// Healthy nodes that did not.
    pub unanswered: Vec<UpstreamName>,
}

impl LivenessUnion {
    /// Whether a validator that is not in [`Self::live`] was seen by nobody: every healthy node has spoken.
    /// Absence of evidence is no evidence.
    pub fn is_complete(&self) -> bool {
        self.answered > 0 && self.unanswered.is_empty()
    }
}

#[derive(Deserialize)]
struct Envelope {
    data: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(deserialize_with = "decimal")]
    index: u64,
    is_live: bool,
}

impl Pool {
    /// Asks every node which of these validators were seen in `epoch`.
    pub async fn liveness(&self, epoch: Epoch, indices: &[ValidatorIndex]) -> LivenessUnion {
        let deadline = self.deadline(EndpointClass::Liveness);
        let nodes = self.view().everyone(EndpointClass::Liveness);
        let quoted: Vec<String> = indices.iter().map(|index| index.0.to_string()).collect();
        let mut union = LivenessUnion::default();
        let Ok(body) = serde_json::to_vec(&quoted).map(Bytes::from) else { return union };
        let mut answers: FuturesUnordered<_> = nodes
            .iter()
            .map(|node| {
                let body = body.clone();
                async move { (node, ask(node, epoch, body, indices, deadline).await) }
            })
            .collect();
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Some(live) => {
                    union.answered = union.answered.saturating_add(1);
                    union.live.extend(live);
                }
                None if node.eligibility(EndpointClass::Liveness) == Eligibility::Yes => {
                    union.unanswered.push(node.upstream.name().clone());
                }
                None => {}
            }
        }
        union
    }
}

/// The live ones; `None` if the node failed or left one out.
async fn ask(
    node: &Arc<NodeView>,
    epoch: Epoch,
    body: Bytes,
    indices: &[ValidatorIndex],
    deadline: Deadline,
) -> Option<Vec<ValidatorIndex>> {
    let path = PathAndQuery::try_from(format!("/eth/v1/validator/liveness/{epoch}")).ok()?;
    let mut request = UpstreamRequest::get_json(path, EndpointClass::Liveness);
    request.method = hyper::Method::POST;
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = body;
    let answer = node.upstream.call(request, deadline).await.ok()?;
    let status = answer.status;
    let limit = indices.len().saturating_mul(BYTES_PER_INDEX).saturating_add(BYTES_AROUND);
    let answer = answer.collect(limit, deadline).await.ok()?;
    if status != hyper::StatusCode::OK {
        return None;
    }
    let lines = serde_json::from_slice::<Envelope>(&answer.body).ok()?.data;
    let told: BTreeSet<u64> = lines.iter().map(|line| line.index).collect();
    let complete = indices.iter().all(|index| told.contains(&index.0));
    complete.then(|| lines.iter().filter(|line| line.is_live).map(|line| ValidatorIndex(line.index)).collect())
}
