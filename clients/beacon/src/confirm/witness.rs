//! Whose word on liveness is needed before a validator is called quiet, and who is left out.
//!
//! Why it exists: somebody starts to sign when nobody has seen their keys, so a word that is missing has to stop them;
//! but a node that tells liveness never, as Teku does until it is told to track it, has no word that could be waited
//! for. What it guarantees: the word of every healthy node is needed, that of all that are asked where none is healthy;
//! whoever refuses the question itself is left out only beside a healthy node that has told, and is named.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::StatusCode;
use serde_json::Value;

use crate::class::EndpointClass;
use crate::decision::{Decision, DecisionKind};
use crate::health::Eligibility;
use crate::pool::{NodeView, Pool};
use crate::upstream::UpstreamId;

/// How much of what a node says is repeated.
const MAX_SAID: usize = 200;

/// Nodes that are left out now, so that each is named once and not at every look.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(Mutex<BTreeSet<UpstreamId>>);

impl LeftOut {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<UpstreamId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a node is fit to be believed that nobody was seen.
pub(crate) fn is_healthy(node: &NodeView) -> bool {
    node.eligibility(EndpointClass::Liveness) == Eligibility::Yes
}

/// Whether no validator is quiet without the word of `node`, one of those that are asked.
pub(crate) fn is_needed(node: &NodeView, asked: &[Arc<NodeView>]) -> bool {
    is_healthy(node) || !asked.iter().any(|other| is_healthy(other))
}

/// Whether an answer refuses the question itself: the node would refuse it again. Anything else it may answer in a moment.
pub(crate) fn refuses_to_tell(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 404 | 405 | 501)
}

impl Pool {
    /// A node has told liveness; should it refuse after this, that is news.
    pub(crate) fn tells_liveness(&self, node: &NodeView) {
        self.left_out().lock().remove(&node.id());
    }

    /// A node that refuses to tell liveness is left out of an answer to which a healthy one has given its word.
    pub(crate) fn leave_out_of_liveness(&self, node: &NodeView, status: StatusCode, body: &[u8]) {
        if !self.left_out().lock().insert(node.id()) {
            return;
        }
        let said = said(body);
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        let reason = format!(
            "it cannot tell which validators were seen: {status}{said}; left out, the others' word counts. Teku tells it with \
             --beacon-liveness-tracking-enabled=true"
        );
        let decision = Decision::about(DecisionKind::LivenessLeftOut, node.upstream.name(), reason);
        self.record_decision(decision.for_class(EndpointClass::Liveness));
    }
}

/// What an error says, in short.
fn said(body: &[u8]) -> String {
    let json = serde_json::from_slice::<Value>(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")).and_then(Value::as_str);
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Cow::Borrowed);
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_refusal_of_the_question_itself_is_one() {
        for status in [400, 404, 405, 501] {
            assert!(refuses_to_tell(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [200, 204, 302, 401, 403, 406, 415, 429, 500, 502, 503, 504] {
            assert!(!refuses_to_tell(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn what_a_node_says_is_repeated_in_short_and_in_one_line() {
        assert_eq!(said(br#"{"code":400,"message":"liveness tracking\nis off"}"#), "liveness trackingis off");
        assert_eq!(said(b"<html>\r\nno"), "<html>no");
        assert_eq!(said(b""), "");
        assert_eq!(said(&[b'x'; 1000]).len(), MAX_SAID);
    }
}
