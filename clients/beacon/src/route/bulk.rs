//! Whole states and other heavy answers, facts about one node, routes that are not in the table.
//!
//! What it guarantees: heavy answers are few at a time, in a lane of their own, and stream; a node is never
//! asked for them beside another.

use std::sync::Arc;

use hyper::StatusCode;

use super::Switcher;
use super::hedge::{HedgeRule, hedged};
use super::judge::{Good, Reading};
use super::request::{ClientAnswer, ClientRequest};
use super::table::{Endpoint, NoMatch};
use super::{BulkAccess, UnknownRoutes};
use crate::EndpointClass;

impl Switcher {
    pub(super) async fn bulk(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        if self.config.bulk == BulkAccess::Refuse {
            let message = "heavy routes (states, blobs, rewards, light client, debug) are switched off here; allow them with `heavy_routes` in the switcher's configuration, or ask a node";
            return ClientAnswer::error(StatusCode::FORBIDDEN, message);
        }
        let class = endpoint.class();
        let deadline = self.pool.deadline(class);
        let Ok(Ok(permit)) = tokio::time::timeout_at(deadline.due, Arc::clone(&self.bulk).acquire_owned()).await else {
            let message = "too many heavy requests at a time; try again later";
            return ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message);
        };
        let nodes = self.pool.view().candidates(class);
        let rule = HedgeRule {
            usual: deadline.due.duration_since(tokio::time::Instant::now()),
            ..HedgeRule::big(self.slot_length())
        };
        match hedged(&nodes, &request.to_upstream(class), Reading::Streaming, rule, deadline).await {
            Ok((_, Good::Streaming(answer, first))) => ClientAnswer::streamed(answer, first, Some(permit)),
            Ok((_, good @ Good::Whole(_))) => good.into_answer(),
            Err(exhausted) => exhausted.into_answer(),
        }
    }

    /// One node, the best; another only if it fails.
    pub(super) async fn best_node(&self, class: EndpointClass, request: &ClientRequest) -> ClientAnswer {
        let deadline = self.pool.deadline(class);
        let nodes = self.pool.view().candidates(class);
        let patient = self.slot_length();
        let rule = HedgeRule { usual: patient, least: patient, refusals: 1 };
        match hedged(&nodes, &request.to_upstream(class), Reading::Streaming, rule, deadline).await {
            Ok((_, good)) => good.into_answer(),
            Err(exhausted) => exhausted.into_answer(),
        }
    }

    pub(super) async fn unknown(&self, error: NoMatch, request: &ClientRequest) -> ClientAnswer {
        match self.config.unknown {
            UnknownRoutes::Refuse => ClientAnswer::error(StatusCode::NOT_FOUND, error.to_string()),
            UnknownRoutes::Pass => self.best_node(EndpointClass::Read, request).await,
        }
    }
}
