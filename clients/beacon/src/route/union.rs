//! Liveness: asked of every node, answered with the union, or not at all.

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
use crate::health::Compatibility;

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
        let mut answers = Vec::new();
        let mut bad: Vec<(String, Bad)> = Vec::new();
        for (node, outcome) in join_all(asked).await {
            let name = node.upstream.name().to_string();
            match outcome {
                Ok(Good::Whole(answer)) => match serde_json::from_slice::<LivenessAnswer>(&answer.body) {
                    Ok(answer) => answers.push(answer),
                    Err(_) => bad.push((name, Bad::Broken("not a liveness answer".to_owned()))),
                },
                Ok(Good::Streaming(..)) => bad.push((name, Bad::Broken("not read whole".to_owned()))),
                Err(reason) => bad.push((name, reason)),
            }
        }
        // All nodes say that the request is wrong: then it is.
        if answers.is_empty() && bad.iter().all(|(_, bad)| matches!(bad, Bad::Refused(_))) {
            return worst_case(bad);
        }
        if let Some((name, _)) = bad.first() {
            return incomplete(&format!("{name} could not tell"));
        }
        union(&answers).map_or_else(
            || incomplete("not every node told about every validator"),
            |answer| ClientAnswer::json(&answer),
        )
    }
}

fn incomplete(why: &str) -> ClientAnswer {
    let message = format!("liveness is not known: {why}, and not having looked is not having seen nothing; try again");
    ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message)
}
