//! From what a client sent to what it gets: each call by its meaning, a batch in parts, answers in order.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::HEDGE_AFTER;
use super::filters::fresh_id;
use super::jsonrpc::{Call, Fault, Incoming, Reply};
use super::method::MethodKind;
use super::metrics::CallEnd;
use super::node::Node;
use super::pool::ExecutionPool;

/// Errors after which another node may do better: unknown method, limit exceeded (EIP-1474).
const NODE_SPECIFIC: [i64; 2] = [-32601, -32005];

/// What a call came to.
pub(crate) type Outcome = Result<Reply, Fault>;

impl ExecutionPool {
    /// Answers a body or a message; `None` if there is nothing to say, as for notifications.
    pub(crate) async fn answer(self: &Arc<Self>, body: &[u8]) -> Option<String> {
        match Incoming::parse(body, self.config.max_batch) {
            Err(fault) => {
                self.metrics.call(None, CallEnd::Refused);
                Some(fault.answer(None))
            }
            Ok(Incoming::One(call)) => self.answer_all(vec![call]).await.into_iter().next().flatten(),
            Ok(Incoming::Many(calls)) => {
                let answers: Vec<String> = self.answer_all(calls).await.into_iter().flatten().collect();
                (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
            }
        }
    }

    /// Answers calls in their order. Reads go together to one node.
    async fn answer_all(self: &Arc<Self>, calls: Vec<Result<Call, Fault>>) -> Vec<Option<String>> {
        let mut places: Vec<Option<Outcome>> = calls.iter().map(|_| None).collect();
        let mut reads: Vec<(usize, Call)> = Vec::new();
        for (place, call) in calls.iter().enumerate() {
            let outcome = match call {
                Err(fault) => {
                    self.metrics.call(None, CallEnd::Refused);
                    Some(Err(fault.clone()))
                }
                Ok(call) => match self.config.methods.judge(&call.method) {
                    Some(MethodKind::Read) => {
                        reads.push((place, call.clone()));
                        None
                    }
                    kind => Some(self.special(kind, call).await),
                },
            };
            if let Some(slot) = places.get_mut(place) {
                *slot = outcome;
            }
        }
        let (positions, reads): (Vec<usize>, Vec<Call>) = reads.into_iter().unzip();
        for (place, outcome) in positions.into_iter().zip(self.read(&reads).await) {
            if let Some(slot) = places.get_mut(place) {
                *slot = Some(outcome);
            }
        }
        calls.iter().zip(places).map(|(call, outcome)| written(call.as_ref().ok(), outcome)).collect()
    }

    /// Answers a call that is no read.
    async fn special(self: &Arc<Self>, kind: Option<MethodKind>, call: &Call) -> Outcome {
        let outcome = match kind {
            None => Err(Fault::not_allowed(&call.method)),
            Some(MethodKind::Read) => {
                self.read(std::slice::from_ref(call)).await.pop().unwrap_or_else(|| Err(nobody()))
            }
            Some(MethodKind::Broadcast) => self.broadcast(call).await,
            Some(MethodKind::NewFilter) => self.new_filter(call).await,
            Some(MethodKind::UseFilter) => self.use_filter(call).await,
            Some(MethodKind::Subscribe | MethodKind::Unsubscribe) => {
                Err(Fault::new(-32601, "subscriptions need a WebSocket connection; connect to this address with ws://"))
            }
        };
        if kind != Some(MethodKind::Read) {
            self.account(kind, &outcome);
        }
        outcome
    }

    pub(crate) fn account(&self, kind: Option<MethodKind>, outcome: &Outcome) {
        let end = match outcome {
            Ok(_) => CallEnd::Answered,
            Err(fault) if fault.code == Fault::unavailable("").code => CallEnd::Failed,
            Err(_) => CallEnd::Refused,
        };
        self.metrics.call(kind, end);
    }

    /// Answers reads, all from one node; those the node declines are asked once more elsewhere.
    async fn read(&self, calls: &[Call]) -> Vec<Outcome> {
        if calls.is_empty() {
            return Vec::new();
        }
        let mut left = VecDeque::from(self.readers());
        let mut outcomes: Vec<Outcome> = match self.first_answer(&mut left, calls).await {
            Some(replies) => replies.into_iter().map(Ok).collect(),
            None => calls.iter().map(|_| Err(nobody())).collect(),
        };
        let declined =
            |outcome: &Outcome| matches!(outcome, Ok(Reply::Error { code, .. }) if NODE_SPECIFIC.contains(code));
        let (places, again): (Vec<usize>, Vec<Call>) = outcomes
            .iter()
            .zip(calls)
            .enumerate()
            .filter(|(_, (outcome, _))| declined(outcome))
            .map(|(place, (_, call))| (place, call.clone()))
            .unzip();
        if !again.is_empty()
            && let Some(replies) = self.first_answer(&mut left, &again).await
        {
            for (place, reply) in places.into_iter().zip(replies) {
                if let Some(outcome) = outcomes.get_mut(place) {
                    *outcome = Ok(reply);
                }
            }
        }
        for outcome in &outcomes {
            self.account(Some(MethodKind::Read), outcome);
        }
        outcomes
    }

    /// Asks the nodes in turn, the next one as soon as one fails or takes long; takes them from `left`.
    async fn first_answer(&self, left: &mut VecDeque<Arc<Node>>, calls: &[Call]) -> Option<Vec<Reply>> {
        let mut asked = FuturesUnordered::new();
        // Who has not answered yet, and since when.
        let mut running: Vec<(Arc<Node>, Instant)> = Vec::new();
        loop {
            let next = left.pop_front();
            if next.is_none() && asked.is_empty() {
                return None;
            }
            let patience = match next {
                Some(node) => {
                    running.push((Arc::clone(&node), Instant::now()));
                    asked.push(async move { (node.id(), self.ask(&node, calls).await) });
                    Instant::now() + HEDGE_AFTER
                }
                // Each has its own timeout.
                None => Instant::now() + self.config.timeout.saturating_mul(2),
            };
            tokio::select! {
                () = tokio::time::sleep_until(patience) => {}
                Some((id, replies)) = asked.next() => {
                    running.retain(|(node, _)| node.id() != id);
                    if replies.is_some() {
                        for (loser, since) in running {
                            loser.outpaced(since.elapsed());
                        }
                        return replies;
                    }
                }
            }
        }
    }

    /// Sends a transaction to every node. The first that accepts it answers; the others still get it.
    async fn broadcast(self: &Arc<Self>, call: &Call) -> Outcome {
        let nodes = self.submitters();
        let (sender, mut replies) = mpsc::channel(nodes.len().max(1));
        for (rank, node) in nodes.into_iter().enumerate() {
            let (pool, call, sender) = (Arc::clone(self), call.clone(), sender.clone());
            self.tasks.spawn(async move {
                let reply = pool.ask(&node, std::slice::from_ref(&call)).await.and_then(|mut replies| replies.pop());
                // Nobody listens any more once a node has accepted it.
                let _ = sender.send((rank, reply)).await;
            });
        }
        drop(sender);
        let mut refusal: Option<(usize, Reply)> = None;
        while let Some((rank, reply)) = replies.recv().await {
            match reply {
                Some(Reply::Result(result)) => return Ok(Reply::Result(result)),
                // The best node's reason is the one to show.
                Some(error) if refusal.as_ref().is_none_or(|(best, _)| rank < *best) => refusal = Some((rank, error)),
                Some(_) | None => {}
            }
        }
        refusal.map(|(_, error)| error).ok_or_else(nobody)
    }

    /// Has one node make a filter, and gives it an id of this pool's.
    async fn new_filter(&self, call: &Call) -> Outcome {
        for node in self.readers() {
            let Some(reply) = self.ask(&node, std::slice::from_ref(call)).await.and_then(|mut all| all.pop()) else {
                continue;
            };
            let Reply::Result(id) = reply else { return Ok(reply) };
            let own = fresh_id().ok_or_else(|| Fault::unavailable("no random numbers; try again"))?;
            let inserted = self.filters().insert(own.clone(), node.id(), id.get().to_owned(), Instant::now());
            return match inserted {
                Ok(()) => text(&own).map(Reply::Result),
                Err(super::filters::Full) => {
                    Err(Fault::new(-32005, "too many filters; remove some with eth_uninstallFilter"))
                }
            };
        }
        Err(nobody())
    }

    /// Asks the node that has the filter.
    async fn use_filter(&self, call: &Call) -> Outcome {
        // The text of Geth, which clients take as a reason to make the filter again.
        let gone = || Fault::new(-32000, "filter not found");
        let own = call.first_text().ok_or_else(|| Fault::new(-32602, "the first parameter must be a filter's id"))?;
        let (node, id) = self.filters().find(&own, Instant::now()).ok_or_else(gone)?;
        // It may have been drained while the filter was made.
        let node = self.admitted(node).ok_or_else(gone)?;
        let params = RawValue::from_string(format!("[{id}]")).map_err(|_| gone())?;
        let call = Call { id: None, method: call.method.clone(), params: Some(params) };
        let reply = self.ask(&node, std::slice::from_ref(&call)).await.and_then(|mut replies| replies.pop());
        if call.method == "eth_uninstallFilter" || reply.is_none() {
            self.filters().remove(&own);
        }
        reply.ok_or_else(gone)
    }
}

fn nobody() -> Fault {
    Fault::unavailable("no execution client can answer now; `holdfast switcher status` shows why")
}

/// A text as JSON.
pub(crate) fn text(text: &str) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(format!("\"{text}\"")).map_err(|_| Fault::new(-32603, "internal error"))
}

/// The answer as the client gets it; `None` for a notification.
fn written(call: Option<&Call>, outcome: Option<Outcome>) -> Option<String> {
    let outcome = outcome.unwrap_or_else(|| Err(nobody()));
    let id = match call {
        // What is no call cannot be told from a notification; the standard wants an answer with the id null.
        None => return outcome.err().map(|fault| fault.answer(None)),
        Some(call) => call.id.as_deref()?,
    };
    Some(match outcome {
        Ok(reply) => reply.answer(id),
        Err(fault) => fault.answer(Some(id)),
    })
}
