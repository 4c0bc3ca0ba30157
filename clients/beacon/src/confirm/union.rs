//! Liveness of validators: live if any node has seen them.
//!
//! What it guarantees: a validator is quiet only if every node whose word is needed (`witness.rs`) said so.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use holdfast_domain::{Epoch, ValidatorIndex};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;

use super::witness::{is_healthy, is_needed, refuses_to_tell};
use crate::chain::decimal;
use crate::class::EndpointClass;
use crate::deadline::Deadline;
use crate::pool::{NodeView, Pool};
use crate::upstream::{UpstreamName, UpstreamRequest};

/// A line per validator: about 40 bytes.
const BYTES_PER_INDEX: usize = 128;
/// Room for what is around them, or for an error.
const BYTES_AROUND: usize = 64 * 1024;

/// What the nodes together have seen of validators in one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LivenessUnion {
    /// Seen by at least one node.
    pub live: BTreeSet<ValidatorIndex>,
    /// Nodes that answered for every validator, of those whose word is needed: the healthy ones, or all that were asked
    /// if none is.
    pub answered: usize,
    /// Those of them that did not.
    pub unanswered: Vec<UpstreamName>,
    /// Those of them that cannot tell at all, where a healthy one answered.
    pub left_out: Vec<UpstreamName>,
}

impl LivenessUnion {
    /// Whether a validator that is not in [`Self::live`] was seen by nobody: everybody whose word is needed and who can
    /// tell has spoken. Absence of evidence is no evidence.
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
        let mut healthy_told = false;
        let mut refused = Vec::new();
        while let Some((node, word)) = answers.next().await {
            let needed = is_needed(node, &nodes);
            match word {
                Word::Told(live) => {
                    self.tells_liveness(node);
                    healthy_told |= is_healthy(node);
                    union.live.extend(live);
                    union.answered = union.answered.saturating_add(usize::from(needed));
                }
                Word::Refused(status, body) if needed => refused.push((node, status, body)),
                Word::Missing if needed => union.unanswered.push(node.upstream.name().clone()),
                // Others count if they answer.
                Word::Refused(..) | Word::Missing => {}
            }
        }
        for (node, status, body) in refused {
            let name = node.upstream.name().clone();
            if healthy_told {
                self.leave_out_of_liveness(node, status, &body);
                union.left_out.push(name);
            } else {
                union.unanswered.push(name);
            }
        }
        union
    }
}

/// What a node says.
enum Word {
    /// These were seen, and no other that was asked about.
    Told(Vec<ValidatorIndex>),
    /// It does not tell such things.
    Refused(StatusCode, Bytes),
    /// It failed, or left one out.
    Missing,
}

async fn ask(node: &Arc<NodeView>, epoch: Epoch, body: Bytes, indices: &[ValidatorIndex], deadline: Deadline) -> Word {
    exchange(node, epoch, body, indices, deadline).await.unwrap_or(Word::Missing)
}

/// `None` if the node failed or left one out.
async fn exchange(
    node: &Arc<NodeView>,
    epoch: Epoch,
    body: Bytes,
    indices: &[ValidatorIndex],
    deadline: Deadline,
) -> Option<Word> {
    let path = PathAndQuery::try_from(format!("/eth/v1/validator/liveness/{epoch}")).ok()?;
    let mut request = UpstreamRequest::get_json(path, EndpointClass::Liveness);
    request.method = hyper::Method::POST;
    request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = body;
    let answer = node.upstream.call(request, deadline).await.ok()?;
    let status = answer.status;
    let limit = indices.len().saturating_mul(BYTES_PER_INDEX).saturating_add(BYTES_AROUND);
    let answer = answer.collect(limit, deadline).await.ok()?;
    if refuses_to_tell(status) {
        return Some(Word::Refused(status, answer.body));
    }
    if status != StatusCode::OK {
        return None;
    }
    let lines = serde_json::from_slice::<Envelope>(&answer.body).ok()?.data;
    let told: BTreeSet<u64> = lines.iter().map(|line| line.index).collect();
    let complete = indices.iter().all(|index| told.contains(&index.0));
    let live = lines.iter().filter(|line| line.is_live).map(|line| ValidatorIndex(line.index)).collect();
    complete.then_some(Word::Told(live))
}
