//! What the switcher says about itself: syncing, health, version.
//!
//! Why it exists: clients stop at the word "syncing", so it must not stand for "not trusted yet". What it guarantees:
//! these describe the node a duty would be served by, or the best there is if none would be, never an average and
//! never one arbitrary node; a node that only waits for trust, is late or has no peers is not called syncing.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::Switcher;
use super::path::query_number;
use super::request::{ClientAnswer, ClientRequest};
use super::table::Endpoint;
use crate::health::{Eligibility, ExecutionTier, HealthTier, PayloadTier};
use crate::{EndpointClass, NodeView, PoolView};

/// What a validator client cannot do without.
const REQUIRED: [EndpointClass; 4] =
    [EndpointClass::Duty, EndpointClass::AttestationData, EndpointClass::Produce, EndpointClass::Submit];

/// The node clients are told about: the one a duty would be served by; if no node that answers may serve one, the best
/// of those that answer.
fn described(view: &PoolView) -> Option<&Arc<NodeView>> {
    let answers = |node: &&Arc<NodeView>| node.health.tier > HealthTier::Down;
    let serving = view.ranked(EndpointClass::Duty).iter().find(answers);
    // Of equals the first one, as elsewhere.
    let best =
        || view.nodes().iter().rev().filter(answers).max_by_key(|node| (node.health, node.head.map(|head| head.slot)));
    serving.or_else(best)
}

impl Switcher {
    /// Whether some node would serve each class a validator needs, and well.
    fn can_serve(&self) -> bool {
        let view = self.pool.view();
        let serves = |node: &Arc<NodeView>, class: EndpointClass| {
            node.eligibility(class) > Eligibility::No && node.health.is_in_order(class)
        };
        REQUIRED.iter().all(|class| view.nodes().iter().any(|node| serves(node, *class)))
    }

    pub(super) fn node_syncing(&self) -> ClientAnswer {
        let view = self.pool.view();
        let Some(node) = described(&view) else {
            return super::judge::nobody();
        };
        let head = view.best_head().or(node.head);
        let head_slot = head.map_or(0, |head| head.slot.0);
        let distance = self.pool.slot().map_or(0, |now| now.0.saturating_sub(head_slot));
        ClientAnswer::json(&json!({ "data": {
            "head_slot": head_slot.to_string(),
            "sync_distance": distance.to_string(),
            "is_syncing": node.health.sync.is_syncing(),
            "is_optimistic": node.health.payload == PayloadTier::Optimistic,
            "el_offline": node.health.execution == ExecutionTier::Offline,
        } }))
    }

    pub(super) fn node_health(&self, request: &ClientRequest) -> ClientAnswer {
        // An informational status would not be an answer in HTTP.
        let status = |code: u64| {
            let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
            status.filter(|status| !status.is_informational() && status.as_u16() < 600)
        };
        let unwell = match query_number(request.query(), "syncing_status") {
            Ok(None) => Some(StatusCode::PARTIAL_CONTENT),
            Ok(Some(code)) => status(code),
            Err(_) => None,
        };
        let Some(unwell) = unwell else {
            return ClientAnswer::error(StatusCode::BAD_REQUEST, "syncing_status: a status from 200 to 599");
        };
        if self.can_serve() {
            return ClientAnswer::empty(StatusCode::OK);
        }
        let some = self.pool.view().nodes().iter().any(|node| node.health.tier > HealthTier::Down);
        ClientAnswer::empty(if some { unwell } else { StatusCode::SERVICE_UNAVAILABLE })
    }

    pub(super) fn node_version(&self, endpoint: Endpoint) -> ClientAnswer {
        let version = env!("CARGO_PKG_VERSION");
        if endpoint == Endpoint::NodeVersionV2 {
            return ClientAnswer::json(&json!({ "data": { "beacon_node": {
                "code": "HF", "name": "Holdfast", "version": format!("v{version}"), "commit": "",
            } } }));
        }
        let view = self.pool.view();
        let nodes: Vec<String> = view
            .nodes()
            .iter()
            .map(|node| {
                let version = node.version.as_ref().map_or("not reached yet", |version| &version.text);
                format!("{}={version}", node.upstream.name())
            })
            .collect();
        ClientAnswer::json(&json!({ "data": { "version": format!("Holdfast/v{version} ({})", nodes.join(", ")) } }))
    }
}
