//! Hedged reads: the best node first, the next beside it when it is slow or refuses.
//!
//! Why it exists: a node that hangs must cost a fraction of a second, not a duty; and asking everybody
//! always would double every node's load. What it guarantees: nodes are asked in the order given, each at most
//! once; the first good answer wins and the others are cancelled, which counts against nobody; a node of
//! last resort is asked only after the better ones have failed; once a node in order has refused, one that is down is not
//! asked any more, and one that hangs holds the refusal up for a moment only.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::StatusCode;
use tokio::time::Instant;

use super::judge::{Bad, Good, Reading, ask, nobody, worst_case};
use super::request::ClientAnswer;
use crate::health::{Eligibility, HealthTier};
use crate::upstream::UpstreamRequest;
use crate::{Deadline, NodeView, UpstreamId};

/// How eagerly further nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HedgeRule {
    /// The next node is asked this long after one that has not answered, if nothing is known of its speed.
    pub(super) usual: Duration,
    /// Never before this.
    pub(super) least: Duration,
    /// A refusal (400) is given to the client after so many nodes refused.
    pub(super) refusals: usize,
}

/// Never ask the next node sooner than this: below it is noise.
const LEAST: Duration = Duration::from_millis(50);

impl HedgeRule {
    /// For small answers.
    pub(super) fn small(slot: Duration) -> Self {
        Self { usual: (slot / 40).max(LEAST), least: LEAST, refusals: 2 }
    }

    /// For big answers: a second one costs as much as the first.
    pub(super) fn big(slot: Duration) -> Self {
        Self { usual: slot / 4, least: slot / 12, refusals: 2 }
    }

    fn delay(&self, node: &NodeView, request: &UpstreamRequest) -> Duration {
        // A node's own 90th percentile, but a slow node does not earn more patience than a slow answer is worth.
        let own = node.upstream.p90(request.class).unwrap_or(self.usual);
        own.clamp(self.least, self.usual.max(self.least) * 2)
    }

    /// How long this node is waited for when there is a refusal to give: a fast node may be slow for once.
    fn patience(&self, node: &NodeView, request: &UpstreamRequest) -> Duration {
        self.delay(node, request).max(self.usual)
    }
}

/// No node gave a good answer.
pub(super) struct Exhausted(pub(super) Vec<(String, Bad)>);

impl Exhausted {
    pub(super) fn into_answer(self) -> ClientAnswer {
        if self.0.is_empty() { nobody() } else { worst_case(self.0) }
    }

    /// Whether every node that answered at all said "not found".
    pub(super) fn is_not_found(&self) -> bool {
        self.0.iter().any(|(_, bad)| matches!(bad, Bad::NotFound(_)))
    }
}

/// Whether the node has judged the request and does not serve it, which is no trouble of its own.
fn is_refusal(bad: &Bad) -> bool {
    match bad {
        Bad::Unsupported(_) | Bad::NotFound(_) | Bad::Refused(_) => true,
        Bad::Broken(_) | Bad::Trouble(_) => false,
    }
}

/// Asks `nodes` in order. Returns who answered, and the answer.
pub(super) async fn hedged(
    nodes: &[Arc<NodeView>],
    request: &UpstreamRequest,
    reading: Reading,
    rule: HedgeRule,
    deadline: Deadline,
) -> Result<(UpstreamId, Good), Exhausted> {
    let mut waiting = nodes.iter();
    let mut asked = FuturesUnordered::new();
    let mut bad: Vec<(String, Bad)> = Vec::new();
    let mut next_at = Instant::now();
    // Who has not answered yet, and since when.
    let mut running: Vec<(&Arc<NodeView>, Instant)> = Vec::new();
    // Whether a node in order has refused, so that there is an answer, and until when a better one is waited for.
    let (mut refused, mut patient_until) = (false, next_at);
    loop {
        let next_is_willing = waiting
            .as_slice()
            .first()
            .is_some_and(|node| asked.is_empty() || node.eligibility(request.class) == Eligibility::Yes);
        // Not by a timer: timers fire a millisecond late, and the first node is always due.
        if next_is_willing
            && next_at <= Instant::now()
            && let Some(node) = waiting.next()
        {
            next_at = Instant::now() + rule.delay(node, request);
            patient_until = patient_until.max(Instant::now() + rule.patience(node, request));
            running.push((node, Instant::now()));
            let request = request.clone();
            asked.push(async move { (node, ask(node, request, reading, deadline).await) });
            continue;
        }
        tokio::select! {
            biased;
            Some((node, outcome)) = asked.next(), if !asked.is_empty() => {
                let node: &Arc<NodeView> = node;
                running.retain(|(other, _)| other.id() != node.id());
                match outcome {
                    Ok(good) => {
                        for (loser, since) in running {
                            loser.upstream.outpaced(request.class, since.elapsed());
                        }
                        return Ok((node.id(), good));
                    }
                    Err(reason) => {
                        if is_refusal(&reason) && node.eligibility(request.class) == Eligibility::Yes {
                            refused = true;
                            patient_until = patient_until.max(Instant::now() + rule.patience(node, request));
                        }
                        bad.push((node.upstream.name().to_string(), reason));
                    }
                }
                let refusals = bad.iter().filter(|(_, bad)| matches!(bad, Bad::Refused(_))).count();
                if refusals >= rule.refusals {
                    return Err(Exhausted(bad));
                }
                // One node fewer to wait for: the next is asked at once.
                next_at = Instant::now();
            }
            () = tokio::time::sleep_until(next_at), if next_is_willing => {}
            () = tokio::time::sleep_until(patient_until), if refused && !next_is_willing => {
                for (silent, since) in running {
                    silent.upstream.outpaced(request.class, since.elapsed());
                }
                return Err(Exhausted(bad));
            }
            () = tokio::time::sleep_until(deadline.end) => {
                for node in nodes.iter().take(nodes.len().saturating_sub(waiting.len())) {
                    let name = node.upstream.name().to_string();
                    if !bad.iter().any(|(known, _)| *known == name) {
                        bad.push((name, Bad::Trouble(StatusCode::GATEWAY_TIMEOUT)));
                    }
                }
                return Err(Exhausted(bad));
            }
            else => return Err(Exhausted(bad)),
        }
        // There is an answer: nobody waits for what a node that is down would say.
        while refused && waiting.as_slice().first().is_some_and(|node| node.health.tier <= HealthTier::Down) {
            waiting.next();
        }
        if asked.is_empty() && waiting.as_slice().is_empty() {
            return Err(Exhausted(bad));
        }
    }
}
