//! Submissions and preparations: to every node, each to its end, whatever the client or the first answer does.
//!
//! Why it exists: what one node has taken may still never reach the network. What it guarantees: every node that
//! may take it is sent it, in a task that outlives the request; the client is answered at the first
//! success; failures of single items are merged over all nodes; a common refusal by all is told apart from
//! trouble of some.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Switcher;
use super::capability::Direction;
use super::judge::nobody;
use super::merge::{Merged, Verdict, merge, read_verdict};
use super::request::{ClientAnswer, ClientRequest};
use super::table::Endpoint;
use crate::decision::{Decision, DecisionKind};
use crate::prepare::memory::Kind;
use crate::upstream::UpstreamRequest;
use crate::{Deadline, EndpointClass, NodeView, UpstreamId};

/// Longest answer to a submission that is read: a failure for every item.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

impl Switcher {
    pub(super) async fn submit(self: &Arc<Self>, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let nodes = self.takers(endpoint, request);
        self.broadcast(endpoint, request, nodes).await
    }

    pub(super) async fn prepare(self: &Arc<Self>, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        if let (Some(kind), Some(form)) = (kind_of(endpoint), request.form()) {
            self.preparations.remember(kind, form, &request.headers, &request.body);
        }
        self.submit(endpoint, request).await
    }

    /// One node with a builder takes the registrations; the next if it does not.
    pub(super) async fn register(self: &Arc<Self>, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        if let (Some(kind), Some(form)) = (kind_of(endpoint), request.form()) {
            self.preparations.remember(kind, form, &request.headers, &request.body);
        }
        let class = endpoint.class();
        let mut nodes = self.pool.view().candidates(class);
        if nodes.is_empty() {
            let message = "no upstream has the role `builder`: give it to the nodes that have a builder configured";
            return ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message);
        }
        // The node that has them keeps them.
        if let Some(registrar) = self.preparations.registrar() {
            nodes.sort_by_key(|node| node.id() != registrar);
        }
        let mut verdicts = Vec::new();
        let mut nodes = nodes.into_iter().peekable();
        while let Some(node) = nodes.next() {
            let deadline = self.pool.deadline(EndpointClass::Submit);
            // Only the last one is worth more patience than the next one.
            let deadline = if nodes.peek().is_some() { deadline.without_grace() } else { deadline };
            let verdict = self.send(endpoint, &node, request.to_upstream(class), deadline).await;
            let taken = matches!(verdict, Verdict::Accepted(_) | Verdict::Partial(_));
            verdicts.push(verdict);
            if taken {
                self.preparations.registered_at(node.id());
                break;
            }
        }
        to_answer(merge(&verdicts))
    }

    /// Every node a submission goes to: those known not to take its form only if there is nobody else.
    pub(super) fn takers(&self, endpoint: Endpoint, request: &ClientRequest) -> Vec<Arc<NodeView>> {
        let nodes = self.pool.view().everyone(endpoint.class());
        let Some(form) = request.form() else { return nodes };
        let refuses = |node: &Arc<NodeView>| self.capabilities.refuses(node, endpoint, form, Direction::Request);
        let takers: Vec<_> = nodes.iter().filter(|node| !refuses(node)).cloned().collect();
        if takers.is_empty() { nodes } else { takers }
    }

    /// Sends to all; answers at the first success, when all have answered, or with what is known when an answer is due.
    pub(super) async fn broadcast(
        self: &Arc<Self>,
        endpoint: Endpoint,
        request: &ClientRequest,
        nodes: Vec<Arc<NodeView>>,
    ) -> ClientAnswer {
        let deadline = self.pool.deadline(endpoint.class());
        let (mut verdicts, expected) = self.send_to_all(endpoint, request, nodes, deadline);
        if expected == 0 {
            return nobody();
        }
        let mut known: Vec<Verdict> = Vec::with_capacity(expected);
        while let Ok(Some((_, verdict))) = tokio::time::timeout_at(until(&known, deadline), verdicts.recv()).await {
            let done = matches!(verdict, Verdict::Accepted(_));
            known.push(verdict);
            if done {
                break;
            }
        }
        let merged = merge(&known);
        self.note_common_refusal(endpoint, &known, &merged, expected);
        to_answer(merged)
    }

    /// Starts one task per node. They go on when the client has left or has its answer.
    pub(super) fn send_to_all(
        self: &Arc<Self>,
        endpoint: Endpoint,
        request: &ClientRequest,
        nodes: Vec<Arc<NodeView>>,
        deadline: Deadline,
    ) -> (mpsc::Receiver<(UpstreamId, Verdict)>, usize) {
        let (told, verdicts) = mpsc::channel(nodes.len().max(1));
        let expected = nodes.len();
        for node in nodes {
            let (this, told) = (Arc::clone(self), told.clone());
            let upstream = request.to_upstream(endpoint.class());
            self.pool.tasks().spawn(async move {
                let verdict = this.send(endpoint, &node, upstream, deadline).await;
                // The client may have its answer already.
                let _ = told.send((node.id(), verdict)).await;
            });
        }
        (verdicts, expected)
    }

    /// Sends to one node and reads what it says.
    pub(super) async fn send(
        &self,
        endpoint: Endpoint,
        node: &NodeView,
        request: UpstreamRequest,
        deadline: Deadline,
    ) -> Verdict {
        let form = request
            .headers
            .get(hyper::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(super::attestation::Form::of_content_type);
        let answer = match node.upstream.call(request, deadline).await {
            Ok(answer) => answer,
            Err(error) => return Verdict::Unavailable(error.to_string()),
        };
        let status = answer.status;
        if status == StatusCode::UNSUPPORTED_MEDIA_TYPE
            && let Some(form) = form
        {
            self.capabilities.refused(node, endpoint, form, Direction::Request);
        }
        match answer.collect(MAX_ANSWER_BYTES, deadline).await {
            Ok(answer) => {
                let verdict = read_verdict(status, &answer.body);
                let taken = matches!(verdict, Verdict::Accepted(_));
                node.upstream.submitted(endpoint.class(), status, taken);
                verdict
            }
            // A 2xx whose body broke was taken all the same.
            Err(_) if status.is_success() => read_verdict(status, b""),
            Err(error) => Verdict::Unavailable(error.to_string()),
        }
    }

    /// Every node refuses the same: it is the client or its configuration, not the nodes.
    fn note_common_refusal(&self, endpoint: Endpoint, verdicts: &[Verdict], merged: &Merged, expected: usize) {
        let refused = verdicts.iter().all(|verdict| match verdict {
            Verdict::Refused { .. } | Verdict::Items { .. } => true,
            Verdict::Accepted(_) | Verdict::Partial(_) | Verdict::Unsupported(_) | Verdict::Unavailable(_) => false,
        });
        let message = match merged {
            Merged::Refused { message, .. } | Merged::Items { message, .. } => message,
            Merged::Accepted(_) | Merged::Unavailable(_) => return,
        };
        if expected < 2 || !refused || verdicts.len() < expected {
            return;
        }
        let clean: String = message.chars().filter(|c| !c.is_control()).take(200).collect();
        let reason = format!(
            "all {expected} nodes refused {}: {clean}. The validator client or the fork it believes in is at fault, not a node",
            endpoint.as_str()
        );
        self.pool.record_decision(Decision::general(DecisionKind::CommonRefusal, reason).for_class(endpoint.class()));
    }

    /// After how long without an answer others are asked, too.
    pub(super) fn impatience(&self) -> Duration {
        self.slot_length() / 40
    }
}

/// How long to wait for a success after these verdicts: until an answer is due if there is one to give, to the end if not.
pub(super) fn until(known: &[Verdict], deadline: Deadline) -> Instant {
    let says_something = |verdict: &Verdict| match verdict {
        Verdict::Accepted(_) | Verdict::Partial(_) | Verdict::Items { .. } | Verdict::Refused { .. } => true,
        Verdict::Unsupported(_) | Verdict::Unavailable(_) => false,
    };
    if known.iter().any(says_something) { deadline.due } else { deadline.end }
}

fn kind_of(endpoint: Endpoint) -> Option<Kind> {
    let kind = match endpoint {
        Endpoint::CommitteeSubscriptions => Kind::CommitteeSubscriptions,
        Endpoint::SyncSubscriptions => Kind::SyncSubscriptions,
        Endpoint::PrepareProposer => Kind::Proposers,
        Endpoint::ProposerPreferences => Kind::Preferences,
        Endpoint::RegisterValidator => Kind::Registrations,
        // The table's other endpoints prepare nothing.
        _ => return None,
    };
    Some(kind)
}

/// The client's answer.
pub(super) fn to_answer(merged: Merged) -> ClientAnswer {
    match merged {
        Merged::Accepted(status) => ClientAnswer::empty(status),
        Merged::Items { failures, message } => ClientAnswer::failures(&message, &failures),
        Merged::Refused { status, message } => ClientAnswer::error(status, message),
        Merged::Unavailable(said) => {
            let said = if said.is_empty() { String::new() } else { format!(" (they said: {said})") };
            let message = format!("no consensus client took it in time; sending it again is safe{said}");
            ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }
}
