//! Block production: all fit nodes, a soft and a hard deadline, the best valid block.
//!
//! Why there are two soft deadlines: a node's own block is there at once, and one of builders comes through relays, which answer
//! after about a second. While a node that may bring one has not answered, the wait is twice as long.
//!
//! What it guarantees: a block for another slot, cut short, paying the zero address or somebody the validator did not
//! name is not passed on; neither is one of an optimistic node or one without its execution client; of blocks
//! on different parents those on the pool's head are taken; of several the most valuable by the nodes' own
//! words; who produced it is remembered. Blocks are read whole, within a bound, because a block that breaks
//! off would be noticed only after its slot had been given to it.

use std::sync::Arc;

use futures_util::StreamExt;
use holdfast_domain::Slot;
use hyper::StatusCode;
use hyper::http::uri::PathAndQuery;
use tokio::time::Instant;

use super::attestation::Form;
use super::block::{
    Blinding, BlockFacts, BlockHeaders, Expected, PayloadPlace, block_headers, facts, judge, layout_of,
};
use super::fan::form_of;
use super::judge::{Bad, nobody, worst_case};
use super::producers::BlockIdentity;
use super::request::{ClientAnswer, ClientRequest};
use super::table::{Endpoint, Matched};
use super::{PayloadInclusion, Switcher};
use crate::decision::{Decision, DecisionKind};
use crate::health::{Eligibility, ExecutionTier, PayloadTier};
use crate::upstream::{CollectedAnswer, Role};
use crate::{NodeView, UpstreamId, UpstreamName};

/// A block with its blobs in JSON stays below this.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// A block that may be given out.
struct Candidate {
    node: Arc<NodeView>,
    answer: CollectedAnswer,
    headers: BlockHeaders,
    facts: BlockFacts,
}

impl Switcher {
    pub(super) async fn produce(&self, matched: &Matched, request: ClientRequest) -> ClientAnswer {
        let Some(slot) = matched.params.slot else {
            return ClientAnswer::error(StatusCode::BAD_REQUEST, "slot: not a number");
        };
        let endpoint = matched.endpoint;
        let class = endpoint.class();
        let nodes: Vec<Arc<NodeView>> =
            self.pool.view().everyone(class).into_iter().filter(|node| may_produce(node)).collect();
        if nodes.is_empty() {
            return nobody();
        }
        let request = self.with_payload(endpoint, request, nodes.len());
        let (began, slot_length) = (Instant::now(), self.slot_length());
        // The first is for the better block, the second for any: late is better than none while it can count.
        let soft = began + slot_length / 12;
        let deadline = self.pool.deadline(class);
        // Instead of the first, while somebody who may bring a builder's block has not answered.
        let for_builders = soft.max((began + slot_length / 6).min(deadline.due));
        let mut builders = self.bring_builders_blocks(&nodes);
        let mut asked = self.ask_all(endpoint, &request, &nodes, MAX_BYTES, deadline);
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut bad: Vec<(String, Bad)> = Vec::new();
        loop {
            // Past the soft deadline the first valid block is good enough.
            let until = match (candidates.is_empty(), builders.is_empty()) {
                (true, _) => deadline.end,
                (false, true) => soft,
                (false, false) => for_builders,
            };
            let Ok(Some((node, told))) = tokio::time::timeout_at(until, asked.next()).await else { break };
            builders.retain(|id| *id != node.id());
            match told {
                Ok(answer) => match self.examine(endpoint, slot, &node, answer) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(reason) => {
                        self.discard(node.upstream.name(), &reason);
                        bad.push((node.upstream.name().to_string(), Bad::Broken(reason)));
                    }
                },
                Err(reason) => bad.push((node.upstream.name().to_string(), reason)),
            }
        }
        drop(asked);
        match self.choose(slot, candidates) {
            Some(best) => ClientAnswer::collected(best),
            None if bad.is_empty() => {
                let message = format!("no consensus client produced a block for slot {slot} in time");
                ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
            }
            None => worst_case(bad),
        }
    }

    /// Which of these may bring a block of builders: whoever was given the validators' registrations, and those whose role
    /// says so.
    fn bring_builders_blocks(&self, nodes: &[Arc<NodeView>]) -> Vec<UpstreamId> {
        let registrar = self.preparations.registrar();
        let may =
            |node: &NodeView| Some(node.id()) == registrar || node.upstream.config().roles.contains(Role::Builder);
        nodes.iter().filter(|node| may(node)).map(|node| node.id()).collect()
    }

    /// Reads a block and judges it by itself.
    fn examine(
        &self,
        endpoint: Endpoint,
        slot: Slot,
        node: &Arc<NodeView>,
        answer: CollectedAnswer,
    ) -> Result<Candidate, String> {
        let headers = block_headers(&answer.headers);
        // The route of before v3 says it itself.
        let blinding = if endpoint == Endpoint::ProduceBlinded { Blinding::Blinded } else { headers.blinding };
        let headers = BlockHeaders { blinding, ..headers };
        let fork =
            answer.headers.get("eth-consensus-version").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fork = fork.to_ascii_lowercase();
        let layout = layout_of(&fork, headers.blinding, headers.payload_included);
        let network = self.pool.network();
        let size = network.as_ref().and_then(|network| network.spec().number("SYNC_COMMITTEE_SIZE")).unwrap_or(512);
        let place = match fork.as_str() {
            "bellatrix" | "capella" | "deneb" | "electra" | "fulu" => {
                PayloadPlace::InBody { sync_committee_size: usize::try_from(size).unwrap_or(512) }
            }
            _ => PayloadPlace::Elsewhere,
        };
        let form = form_of(&answer);
        let facts = match facts(form, &answer.body, layout, place) {
            Some(facts) => facts,
            None if form == Form::Ssz && layout.is_none() => {
                return Err(format!("a block of an unknown fork {:?}", fork.chars().take(20).collect::<String>()));
            }
            None => return Err("it is not a block, or cut short".to_owned()),
        };
        let expected = Expected { parents: Vec::new(), fee_recipient: self.preparations.fee_recipient(facts.proposer) };
        judge(&facts, slot, headers.blinding, &expected).map_err(|unfit| unfit.to_string())?;
        Ok(Candidate { node: Arc::clone(node), answer, headers, facts })
    }

    /// The most valuable block on the pool's head; on another parent only if nobody builds on the head.
    fn choose(&self, slot: Slot, mut candidates: Vec<Candidate>) -> Option<CollectedAnswer> {
        let head = self.pool.view().best_head().and_then(|head| head.root);
        if let Some(head) = head
            && candidates.iter().any(|candidate| candidate.facts.parent == head)
        {
            candidates.retain(|candidate| {
                let fits = candidate.facts.parent == head;
                if !fits {
                    let reason = format!("it builds on {}, and the head is {head}", candidate.facts.parent);
                    self.discard(candidate.node.upstream.name(), &reason);
                }
                fits
            });
        }
        let count = candidates.len();
        let offers: Vec<(UpstreamId, String)> = candidates
            .iter()
            .map(|candidate| {
                let (name, value) = (candidate.node.upstream.name(), candidate.headers.value.0);
                (candidate.node.id(), format!("{name} {value}"))
            })
            .collect();
        // The first of equals: it came first.
        let mut best: Option<Candidate> = None;
        for candidate in candidates {
            if best.as_ref().is_none_or(|known| candidate.headers.value > known.headers.value) {
                best = Some(candidate);
            }
        }
        let best = best?;
        let kind = match best.headers.blinding {
            Blinding::Full => "with its payload",
            Blinding::Blinded => "blinded",
        };
        let others: Vec<String> =
            offers.into_iter().filter(|(id, _)| *id != best.node.id()).map(|(_, offer)| offer).collect();
        let others = if others.is_empty() { String::new() } else { format!(" (others: {})", others.join(", ")) };
        let reason = format!("slot {slot}: worth {} Wei, {kind}, of {count} valid{others}", best.headers.value.0);
        let decision = Decision::about(DecisionKind::BlockChosen, best.node.upstream.name(), reason);
        self.pool.record_decision(decision);
        let identity = BlockIdentity { slot: best.facts.slot, state_root: best.facts.state_root };
        self.producers.remember(identity, best.node.id());
        Some(best.answer)
    }

    fn discard(&self, name: &UpstreamName, reason: &str) {
        self.pool.record_decision(Decision::about(DecisionKind::BlockDiscarded, name, reason));
    }

    /// With several nodes in play a Gloas block is asked for with its payload, so that any of them can publish it.
    fn with_payload(&self, endpoint: Endpoint, request: ClientRequest, nodes: usize) -> ClientRequest {
        let rewrite = match self.config.payload {
            PayloadInclusion::WhenSeveralNodes => endpoint == Endpoint::ProduceV4 && nodes > 1,
            PayloadInclusion::AsAsked => false,
        };
        if !rewrite || request.query_value("include_payload") == Some("true") {
            return request;
        }
        let kept = request.query().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("include_payload="));
        let query: Vec<&str> = kept.chain(std::iter::once("include_payload=true")).collect();
        match PathAndQuery::try_from(format!("{}?{}", request.path(), query.join("&"))) {
            Ok(target) => ClientRequest { target, ..request },
            Err(_) => request,
        }
    }
}

/// An optimistic node, or one without its execution client, cannot build a block worth signing.
fn may_produce(node: &NodeView) -> bool {
    node.eligibility(crate::EndpointClass::Produce) != Eligibility::No
        && node.health.payload == PayloadTier::Verified
        && node.health.execution == ExecutionTier::Online
}
