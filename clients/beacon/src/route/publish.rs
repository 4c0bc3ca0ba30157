//! Publishing: blocks to everybody, blinded blocks and stateful envelopes to their producer first.
//!
//! What it guarantees: what only its producer can complete goes back to it, whatever its roles and also when it is down or
//! drained; 202 (broadcast, but not valid to that node) is the answer only if nobody says 200 in time; a
//! node without a builder cannot make the call fail; what needs the producer's memory is never answered by a node
//! that has none of it.

use std::sync::Arc;

use hyper::StatusCode;
use tokio::time::Instant;

use super::Switcher;
use super::attestation::Form;
use super::hedge::{HedgeRule, hedged};
use super::judge::{Reading, nobody};
use super::merge::{Verdict, merge};
use super::producers::identity;
use super::request::{ClientAnswer, ClientRequest};
use super::submit::{to_answer, until};
use super::table::{Endpoint, Matched};
use crate::health::HealthTier;
use crate::upstream::Role;
use crate::{EndpointClass, NodeView, UpstreamId};

impl Switcher {
    /// To everybody, the producer first; 200 of anyone ends the wait.
    pub(super) async fn publish_block(self: &Arc<Self>, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let mut nodes = self.takers(endpoint, request);
        if let Some(producer) = self.producer_of(request, true) {
            nodes.sort_by_key(|node| node.id() != producer);
        }
        self.broadcast(endpoint, request, nodes).await
    }

    /// The producer first; after an error, or without an answer for a while, the others with a builder.
    pub(super) async fn publish_blinded(self: &Arc<Self>, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let deadline = self.pool.deadline(endpoint.class());
        let first: Vec<_> = self.producer_node(self.producer_of(request, false)).into_iter().collect();
        let mut others = self.takers(endpoint, request);
        others.retain(|node| first.iter().all(|producer| producer.id() != node.id()));
        let builders: Vec<_> = others.iter().filter(|node| has_builder(node)).cloned().collect();
        if !builders.is_empty() || !first.is_empty() {
            others = builders;
        }
        let (first, others) = if first.is_empty() { (others, Vec::new()) } else { (first, others) };
        if first.is_empty() {
            return nobody();
        }
        let mut known: Vec<Verdict> = Vec::new();
        let (mut verdicts, _) = self.send_to_all(endpoint, request, first, deadline);
        let patience = Instant::now() + self.impatience();
        while let Ok(Some((_, verdict))) = tokio::time::timeout_at(patience, verdicts.recv()).await {
            let done = is_success(&verdict);
            known.push(verdict);
            if done {
                return to_answer(merge(&known));
            }
        }
        let (mut more, _) = self.send_to_all(endpoint, request, others, deadline);
        loop {
            let verdict = tokio::select! {
                Some((_, verdict)) = verdicts.recv() => verdict,
                Some((_, verdict)) = more.recv() => verdict,
                () = tokio::time::sleep_until(until(&known, deadline)) => break,
                else => break,
            };
            let done = is_success(&verdict);
            known.push(verdict);
            if done {
                break;
            }
        }
        to_answer(merge(&known))
    }

    /// With its blobs: to everybody. Without: only its producer can complete it.
    pub(super) async fn publish_envelope(
        self: &Arc<Self>,
        endpoint: Endpoint,
        request: &ClientRequest,
    ) -> ClientAnswer {
        let stateless =
            request.header("eth-blob-data-included").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if stateless {
            let nodes = self.takers(endpoint, request);
            return self.broadcast(endpoint, request, nodes).await;
        }
        let producer =
            self.pool.slot().and_then(|slot| self.producers.of_slot(slot)).or_else(|| self.producers.latest());
        match self.producer_node(producer) {
            Some(node) => self.broadcast(endpoint, request, vec![node]).await,
            None => producer_gone(),
        }
    }

    /// The envelope is in its producer's memory and nowhere else.
    pub(super) async fn read_from_producer(&self, matched: &Matched, request: &ClientRequest) -> ClientAnswer {
        let class = matched.endpoint.class();
        let producer = matched.params.slot.and_then(|slot| self.producers.of_slot(slot));
        let nodes: Vec<_> = match producer {
            Some(_) => self.producer_node(producer).into_iter().collect(),
            // Produced before this switcher started, or not through it: whoever has it.
            None => self.pool.view().everyone(class),
        };
        if nodes.is_empty() {
            return producer_gone();
        }
        let rule = HedgeRule::small(self.slot_length());
        let deadline = self.pool.deadline(class);
        match hedged(&nodes, &request.to_upstream(class), Reading::Streaming, rule, deadline).await {
            Ok((_, good)) => good.into_answer(),
            Err(exhausted) => exhausted.into_answer(),
        }
    }

    /// Bids: one node with a builder, always the same while it serves.
    pub(super) async fn builder(self: &Arc<Self>, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let class = EndpointClass::Builder;
        let mut nodes = self.pool.view().candidates(class);
        if nodes.is_empty() {
            let message = "no upstream has the role `builder`: give it to the nodes that serve a builder";
            return ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message);
        }
        nodes.sort_by_key(|node| (node.health.tier <= HealthTier::Down, node.id()));
        nodes.truncate(1);
        if endpoint == Endpoint::PublishBid {
            return self.broadcast(endpoint, request, nodes).await;
        }
        let deadline = self.pool.deadline(class);
        let rule = HedgeRule::small(self.slot_length());
        match hedged(&nodes, &request.to_upstream(class), Reading::Streaming, rule, deadline).await {
            Ok((_, good)) => good.into_answer(),
            Err(exhausted) => exhausted.into_answer(),
        }
    }

    fn producer_of(&self, request: &ClientRequest, full: bool) -> Option<UpstreamId> {
        let form = request.form()?;
        // From Deneb on a full block comes with its blobs; which it is shows in the JSON, and in SSZ in the fork.
        let contents = full
            && match form {
                Form::Json => true,
                Form::Ssz => matches!(request.header("eth-consensus-version"), Some("deneb" | "electra" | "fulu")),
            };
        self.producers.of_block(identity(form, &request.body, contents)?)
    }

    /// The node that produced a block, while it is in the pool and on its network. Nobody else can complete the block, so
    /// neither its roles nor its health speak against it.
    fn producer_node(&self, id: Option<UpstreamId>) -> Option<Arc<NodeView>> {
        let view = self.pool.view();
        view.node(id?).filter(|node| node.health.tier > HealthTier::Excluded).cloned()
    }
}

fn has_builder(node: &NodeView) -> bool {
    node.upstream.config().roles.contains(Role::Builder)
}

fn is_success(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted(_))
}

fn producer_gone() -> ClientAnswer {
    let message = "the consensus client that produced this block is not in use any more, and no other has its payload";
    ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
}
