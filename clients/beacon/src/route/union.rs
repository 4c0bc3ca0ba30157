//! Liveness: asked of every node, answered with the union, or not at all.
//!
//! Why it exists: a client starts to sign when this says that nobody has seen its keys. What it guarantees: it says so
//! only on the word of every node whose word is needed, without those that cannot tell while a healthy one can.

use std::sync::Arc;

use futures_util::future::join_all;
use hyper::StatusCode;

use super::LivenessRequired;
use super::Switcher;
use super::judge::{Bad, Good, Reading, ask, nobody, worst_case};
use super::liveness::{LivenessAnswer, union};
use super::request::{ClientAnswer, ClientRequest};
use super::table::Endpoint;
use crate::NodeView;
use crate::confirm::{is_healthy, is_needed, refuses_to_tell};
use crate::health::Compatibility;
use crate::upstream::CollectedAnswer;

/// Lines of a hundred thousand validators.
const MAX_BYTES: usize = 16 * 1024 * 1024;

impl Switcher {
    pub(super) async fn liveness(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let class = endpoint.class();
        let view = self.pool.view();
        let nodes: Vec<_> = match self.config.liveness {
            LivenessRequired::Reachable => view.everyone(class),
            LivenessRequired::All => {
                let ours = |node: &&Arc<NodeView>| {
                    !node.drained && node.observation.compatibility != Compatibility::Incompatible
                };
                view.nodes().iter().filter(ours).cloned().collect()
            }
        };
        if nodes.is_empty() {
            return nobody();
        }
        let deadline = self.pool.deadline(class);
        let upstream = request.to_upstream(class);
        let asked = nodes.iter().map(|node| {
            let upstream = upstream.clone();
            async move { (node, ask(node, upstream, Reading::Whole(MAX_BYTES), deadline).await) }
        });
        let (mut told, mut others) = (Vec::new(), Vec::new());
        let mut healthy_told = false;
        let mut bad: Vec<(&Arc<NodeView>, Bad)> = Vec::new();
        for (node, outcome) in join_all(asked).await {
            let needed = self.config.liveness == LivenessRequired::All || is_needed(node, &nodes);
            let outcome = outcome.and_then(read);
            if outcome.is_ok() {
                self.pool.tells_liveness(node);
                healthy_told |= is_healthy(node);
            }
            match (outcome, needed) {
                (Ok(answer), true) => told.push(answer),
                (Ok(answer), false) => others.push(answer),
                (Err(reason), true) => bad.push((node, reason)),
                // Not healthy: it counts if it answers.
                (Err(_), false) => {}
            }
        }
        // All say that the request is wrong, or that they cannot tell: then it is so.
        if told.is_empty() && bad.iter().all(|(_, bad)| refusal(bad).is_some()) {
            return worst_case(bad.into_iter().map(|(node, bad)| (node.upstream.name().to_string(), bad)).collect());
        }
        let cannot_tell = |bad: &Bad| healthy_told && refusal(bad).is_some_and(|answer| refuses_to_tell(answer.status));
        if let Some((node, _)) = bad.iter().find(|(_, bad)| !cannot_tell(bad)) {
            return incomplete(&format!("{} could not tell", node.upstream.name()));
        }
        for (node, bad) in &bad {
            if let Some(answer) = refusal(bad) {
                self.pool.leave_out_of_liveness(node, answer.status, &answer.body);
            }
        }
        union(&told, &others).map_or_else(
            || incomplete("not every node told about every validator"),
            |answer| ClientAnswer::json(&answer),
        )
    }
}

fn read(good: Good) -> Result<LivenessAnswer, Bad> {
    match good {
        Good::Whole(answer) => {
            serde_json::from_slice(&answer.body).map_err(|_| Bad::Broken("not a liveness answer".to_owned()))
        }
        Good::Streaming(..) => Err(Bad::Broken("not read whole".to_owned())),
    }
}

/// The answer with which a node refuses, if it does.
fn refusal(bad: &Bad) -> Option<&CollectedAnswer> {
    match bad {
        Bad::Refused(answer) | Bad::NotFound(answer) | Bad::Unsupported(answer) => Some(answer),
        Bad::Broken(_) | Bad::Trouble(_) => None,
    }
}

fn incomplete(why: &str) -> ClientAnswer {
    let message = format!("liveness is not known: {why}, and not having looked is not having seen nothing; try again");
    ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
}
