//! Asking all nodes the same and taking the answers as they come, in a form that can be read.
//!
//! What it guarantees: a node that does not give the form asked for is asked again in JSON, and remembered
//! for it.

use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Switcher;
use super::attestation::Form;
use super::capability::Direction;
use super::judge::{Bad, Good, Reading, ask};
use super::request::ClientRequest;
use super::table::Endpoint;
use crate::upstream::{CollectedAnswer, UpstreamRequest};
use crate::{Deadline, NodeView};

/// What a node said, with the node.
pub(super) type Told = (Arc<NodeView>, Result<CollectedAnswer, Bad>);

impl Switcher {
    /// Asks every node; each answer is whole.
    pub(super) fn ask_all<'a>(
        &'a self,
        endpoint: Endpoint,
        request: &'a ClientRequest,
        nodes: &[Arc<NodeView>],
        limit: usize,
        deadline: Deadline,
    ) -> FuturesUnordered<impl Future<Output = Told> + 'a> {
        nodes.iter().map(|node| self.ask_one(endpoint, request, Arc::clone(node), limit, deadline)).collect()
    }

    /// Asks one of them.
    pub(super) async fn ask_one(
        &self,
        endpoint: Endpoint,
        request: &ClientRequest,
        node: Arc<NodeView>,
        limit: usize,
        deadline: Deadline,
    ) -> Told {
        let told = self.ask_readable(endpoint, request, &node, limit, deadline).await;
        (node, told)
    }

    async fn ask_readable(
        &self,
        endpoint: Endpoint,
        request: &ClientRequest,
        node: &Arc<NodeView>,
        limit: usize,
        deadline: Deadline,
    ) -> Result<CollectedAnswer, Bad> {
        let class = endpoint.class();
        let wants_ssz = endpoint.ssz().in_answer() && request.accepts(Form::Ssz) > 0;
        let json_only = wants_ssz && self.capabilities.refuses(node, endpoint, Form::Ssz, Direction::Answer);
        let mut upstream = request.to_upstream(class);
        let json = HeaderValue::from_static(Form::Json.media_type());
        if json_only {
            upstream.headers.insert(header::ACCEPT, json.clone());
        }
        let first = whole(self.ask_to_the_end(node, upstream.clone(), limit, deadline).await);
        match first {
            Err(Bad::Unsupported(answer))
                if wants_ssz
                    && !json_only
                    && matches!(answer.status, StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE) =>
            {
                self.capabilities.refused(node, endpoint, Form::Ssz, Direction::Answer);
                upstream.headers.insert(header::ACCEPT, json);
                whole(self.ask_to_the_end(node, upstream, limit, deadline).await)
            }
            first => first,
        }
    }

    /// Asks in a task of its own. Whoever has enough answers goes on without the rest, but the node is heard until its
    /// answer is due: one that is fast at probes and late at duties would otherwise never be found out.
    async fn ask_to_the_end(
        &self,
        node: &Arc<NodeView>,
        request: UpstreamRequest,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Good, Bad> {
        let (mut tell, told) = oneshot::channel();
        let node = Arc::clone(node);
        self.pool.tasks().spawn(async move {
            let heard = tokio::select! {
                // First, so that a node is called late before it is given up on.
                biased;
                answer = ask(&node, request, Reading::Whole(limit), deadline) => answer,
                () = unwanted(&mut tell, deadline.due) => return,
            };
            // Nobody may be waiting for it any more.
            let _ = tell.send(heard);
        });
        told.await.unwrap_or_else(|_| Err(Bad::Broken("the switcher stops".to_owned())))
    }
}

/// Completes when nobody waits for an answer any more, and not before it is due.
async fn unwanted<T>(tell: &mut oneshot::Sender<T>, due: Instant) {
    tell.closed().await;
    tokio::time::sleep_until(due).await;
}

fn whole(outcome: Result<Good, Bad>) -> Result<CollectedAnswer, Bad> {
    match outcome? {
        Good::Whole(answer) => Ok(answer),
        Good::Streaming(..) => Err(Bad::Broken("not read whole".to_owned())),
    }
}

/// The form of a whole answer.
pub(super) fn form_of(answer: &CollectedAnswer) -> Form {
    answer
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(Form::of_content_type)
        .unwrap_or(Form::Json)
}
