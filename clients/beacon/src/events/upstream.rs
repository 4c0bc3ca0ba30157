//! One node's event stream: opened, watched, reopened.
//!
//! What it guarantees: a stream that ended, that a node refused, that brings no byte for three slots or no
//! head while other nodes told of two is opened anew, with growing pauses; the pool knows whether it is open.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::http::uri::PathAndQuery;
use hyper::{HeaderMap, Method, StatusCode, header};
use tokio::time::Instant;

use super::hub::{EventHub, Listening, TopicState};
use super::sse::SseParser;
use super::topic::Topic;
use crate::decision::{Decision, DecisionKind};
use crate::health::HealthTier;
use crate::pool::StreamState;
use crate::upstream::{AnswerBody, UpstreamRequest};
use crate::{EndpointClass, UpstreamId};

/// The first pause before a stream is opened again; doubled up to a quarter of a slot.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Why a stream is not read any more.
enum Ended {
    /// Nobody wants it, or the node is gone: for good.
    Unwanted,
    /// The node does not know the topic.
    Refused,
    /// Try again.
    Lost(&'static str),
}

/// Listens to a node until it leaves the pool: to the core topics, or to one beyond them while it is wanted.
pub(super) async fn listen(listening: Listening) {
    let (hub, node, topic) = (&listening.hub, listening.node, listening.topic);
    let mut stopping = hub.pool.tasks().stopping();
    tokio::select! {
        () = stopping.begun() => {}
        () = keep_open(hub, node, topic) => {}
    }
    // Before the next one may begin, which says how the topic stands then.
    if let Some(topic) = topic {
        hub.set_topic(topic, node, None);
    }
}

/// Pauses; no longer than the topic is wanted.
async fn rest(hub: &EventHub, topic: Option<Topic>, pause: Duration) {
    let mut wanted = hub.wanted();
    let unwanted = async {
        let _ = wanted.wait_for(|topics| topic.is_some_and(|topic| !topics.contains_key(&topic))).await;
    };
    tokio::select! {
        () = unwanted => {}
        () = tokio::time::sleep(pause) => {}
    }
}

async fn keep_open(hub: &Arc<EventHub>, node: UpstreamId, topic: Option<Topic>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(topic) = topic {
            if !hub.is_wanted(topic) {
                return;
            }
            hub.set_topic(topic, node, Some(TopicState::Opening));
        }
        let mut opened = false;
        let ended = once(hub, node, topic, &mut opened).await;
        if opened {
            pause = FIRST_PAUSE;
        }
        match ended {
            Ended::Unwanted => return,
            Ended::Refused => {
                if let Some(topic) = topic {
                    hub.set_topic(topic, node, Some(TopicState::Refused));
                }
                // It may know the topic after an upgrade.
                rest(hub, topic, hub.slot_length() * 32).await;
            }
            Ended::Lost(reason) => {
                lost(hub, node, topic, opened, reason);
                rest(hub, topic, pause).await;
                pause = (pause * 2).min(hub.slot_length() / 4);
            }
        }
    }
}

fn lost(hub: &EventHub, node: UpstreamId, topic: Option<Topic>, opened: bool, reason: &'static str) {
    if topic.is_some() || !opened {
        return;
    }
    hub.pool.observe_stream(node, StreamState::Lost);
    if let Some(view) = hub.pool.view().node(node) {
        hub.pool.record_decision(Decision::about(DecisionKind::StreamLost, view.upstream.name(), reason));
    }
}

async fn once(hub: &Arc<EventHub>, node: UpstreamId, topic: Option<Topic>, opened: &mut bool) -> Ended {
    let view = hub.pool.view();
    let Some(this) = view.node(node) else { return Ended::Unwanted };
    if this.health.tier <= HealthTier::Drained {
        // Not on this network, or not known yet, or drained: its news are nobody's business.
        return Ended::Lost("not in use");
    }
    let topics = topic.map_or_else(|| Topic::CORE.to_vec(), |topic| vec![topic]);
    // One parameter each, as the standard says: Prysm, Caplin and older Lodestar take a list for one topic, which they do
    // not know.
    let query: Vec<String> = topics.into_iter().map(|topic| format!("topics={}", topic.as_str())).collect();
    let Ok(path_and_query) = PathAndQuery::try_from(format!("/eth/v1/events?{}", query.join("&"))) else {
        return Ended::Unwanted;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("text/event-stream"));
    let request = UpstreamRequest {
        method: Method::GET,
        path_and_query,
        headers,
        body: hyper::body::Bytes::new(),
        class: EndpointClass::Events,
    };
    let deadline = hub.pool.deadline(EndpointClass::Events);
    let Ok(answer) = this.upstream.call(request, deadline).await else {
        return Ended::Lost("it cannot be opened");
    };
    match answer.status {
        StatusCode::OK => {}
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if topic.is_some() => return Ended::Refused,
        _ => return Ended::Lost("the node refuses it"),
    }
    let is_stream = |value: &header::HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    if !answer.headers.get(header::CONTENT_TYPE).is_some_and(is_stream) {
        return Ended::Lost("what it answers is no event stream");
    }
    *opened = true;
    match topic {
        None => {
            hub.pool.observe_stream(node, StreamState::Connected);
            hub.pool.record_decision(Decision::about(DecisionKind::StreamBack, this.upstream.name(), "events flow"));
        }
        Some(topic) => hub.set_topic(topic, node, Some(TopicState::Open)),
    }
    drop(view);
    read(hub, node, topic, answer.body).await
}

async fn read(hub: &Arc<EventHub>, node: UpstreamId, topic: Option<Topic>, mut body: AnswerBody) -> Ended {
    let mut parser = SseParser::default();
    let mut events = Vec::new();
    let mut wanted = hub.wanted();
    let mut own_head = hub.head_changes();
    let mut quiet_since = Instant::now();
    loop {
        let slot = hub.slot_length();
        tokio::select! {
            frame = body.frame() => {
                let bytes = match frame {
                    None => return Ended::Lost("it ended"),
                    Some(Err(_)) => return Ended::Lost("it broke"),
                    Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                };
                quiet_since = Instant::now();
                if parser.feed(&bytes, &mut events).is_err() {
                    return Ended::Lost("an event in it has no end");
                }
                for event in events.drain(..) {
                    let head = event.topic == Topic::Head.as_str();
                    hub.told(node, event);
                    if head {
                        own_head = hub.head_changes();
                    }
                }
            }
            _ = wanted.changed(), if topic.is_some() => {
                if topic.is_some_and(|topic| !hub.is_wanted(topic)) {
                    return Ended::Unwanted;
                }
            }
            () = tokio::time::sleep(slot / 2) => {
                let others_told = hub.head_changes().wrapping_sub(own_head);
                if hub.pool.view().node(node).is_none() {
                    return Ended::Unwanted;
                }
                if topic.is_none() && others_told > 2 && quiet_since.elapsed() > slot {
                    return Ended::Lost("no head came while other nodes told of several");
                }
                if topic.is_none() && quiet_since.elapsed() > slot * 3 {
                    return Ended::Lost("nothing came for three slots");
                }
            }
        }
    }
}
