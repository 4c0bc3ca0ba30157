//! Reads: hedged, or the freshest of all when the head is asked for.
//!
//! What it guarantees: a head comes from a node that may lead, never from an optimistic one or one that is known to be on
//! another branch than most while there is a better one; a 404 of one node is not the answer while another may know; a long
//! GET becomes the POST the API has for it.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use holdfast_domain::Slot;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::http::uri::PathAndQuery;
use serde::Deserialize;
use tokio::time::Instant;

use super::Switcher;
use super::hedge::{Exhausted, HedgeRule, hedged};
use super::judge::{Bad, Good, Reading, ask, nobody};
use super::path::{BlockId, query_value};
use super::request::{ClientAnswer, ClientRequest};
use super::table::{Endpoint, Matched, Semantic};
use crate::{BlockRoot, EndpointClass};

/// Longest answer read whole.
const MAX_SMALL_BYTES: usize = 8 * 1024 * 1024;
/// Above this many bytes of path and query, nodes refuse a GET.
const MAX_TARGET_BYTES: usize = 8 * 1024;

impl Switcher {
    pub(super) async fn read(&self, matched: &Matched, request: ClientRequest) -> ClientAnswer {
        let request = match shortened(matched.endpoint, request) {
            Ok(request) => request,
            Err(answer) => return *answer,
        };
        let class = matched.endpoint.class();
        let slot = self.slot_length();
        let late = matched.endpoint.semantic() == Semantic::HedgedLate;
        let rule = if late { HedgeRule::big(slot) } else { HedgeRule::small(slot) };
        // Blocks can be large, whatever the class.
        let streams = late || matched.endpoint == Endpoint::Block;
        let reading = if streams { Reading::Streaming } else { Reading::Whole(MAX_SMALL_BYTES) };
        let nodes = self.pool.view().candidates(class);
        match hedged(&nodes, &request.to_upstream(class), reading, rule, self.pool.deadline(class)).await {
            Ok((_, good)) => good.into_answer(),
            Err(exhausted) => exhausted.into_answer(),
        }
    }

    /// The head as the freshest node sees it; other blocks hedged.
    pub(super) async fn freshest(&self, matched: &Matched, request: ClientRequest) -> ClientAnswer {
        let asks_head = match matched.endpoint {
            Endpoint::Headers => {
                query_value(request.query(), "slot").is_none() && query_value(request.query(), "parent_root").is_none()
            }
            _ => matched.params.block == Some(BlockId::Head),
        };
        if asks_head {
            return self.head(&request).await;
        }
        let class = EndpointClass::HotRead;
        let rule = HedgeRule::small(self.slot_length());
        let deadline = self.pool.deadline(class);
        let upstream = request.to_upstream(class);
        let reading = Reading::Whole(MAX_SMALL_BYTES);
        let nodes = self.pool.view().candidates(class);
        let first = hedged(&nodes, &upstream, reading, rule, deadline).await;
        match first {
            Ok((_, good)) => good.into_answer(),
            Err(exhausted) if exhausted.is_not_found() && self.is_new(matched.params.block) => {
                // Told of by an event a moment ago: the nodes are still importing it.
                tokio::time::sleep((self.slot_length() / 240).max(Duration::from_millis(10))).await;
                let again = hedged(&nodes, &upstream, reading, rule, deadline).await;
                again.map_or_else(Exhausted::into_answer, |(_, good)| good.into_answer())
            }
            Err(exhausted) => exhausted.into_answer(),
        }
    }

    /// Whether some node told of this block in this slot or the last.
    fn is_new(&self, block: Option<BlockId>) -> bool {
        let now = self.pool.slot().unwrap_or(Slot(0));
        let slot = match block {
            Some(BlockId::Root(root)) => self.events.slot_of(&root),
            Some(BlockId::Slot(slot)) => Some(slot),
            Some(BlockId::Head | BlockId::Genesis | BlockId::Finalized) | None => None,
        };
        slot.is_some_and(|slot| slot.0.saturating_add(1) >= now.0)
    }

    async fn head(&self, request: &ClientRequest) -> ClientAnswer {
        let class = EndpointClass::HotRead;
        let deadline = self.pool.deadline(class);
        let view = self.pool.view();
        let foremost = view.foremost();
        let mut nodes = view.candidates(class);
        nodes.retain(|node| node.lead() == foremost);
        if nodes.is_empty() {
            return nobody();
        }
        let best_known = view.best_head().and_then(|head| head.root);
        let upstream = request.to_upstream(class);
        let mut asked: FuturesUnordered<_> = nodes
            .iter()
            .map(|node| {
                let upstream = upstream.clone();
                async move { (node, ask(node, upstream, Reading::Whole(MAX_SMALL_BYTES), deadline).await) }
            })
            .collect();
        let mut heads: Vec<(Told, Good)> = Vec::new();
        let mut bad: Vec<(String, Bad)> = Vec::new();
        let mut until = deadline.end;
        loop {
            tokio::select! {
                biased;
                next = asked.next() => match next {
                    None => break,
                    Some((_, Ok(good))) => {
                        let Some(told) = self.told(&good) else { continue };
                        if told.verified && told.root.is_some() && told.root == best_known {
                            return good.into_answer();
                        }
                        heads.push((told, good));
                        // The others get a moment: a fresher head is worth it, a slow node is not.
                        until = until.min(Instant::now() + self.slot_length() / 80);
                    }
                    Some((node, Err(reason))) => bad.push((node.upstream.name().to_string(), reason)),
                },
                () = tokio::time::sleep_until(until) => break,
            }
        }
        drop(asked);
        // Equal slots: the earliest answer.
        let mut best: Option<(Told, Good)> = None;
        for (told, good) in heads {
            if best.as_ref().is_none_or(|(known, _)| told.rank() > known.rank()) {
                best = Some((told, good));
            }
        }
        best.map_or_else(|| Exhausted(bad).into_answer(), |(_, good)| good.into_answer())
    }

    fn told(&self, good: &Good) -> Option<Told> {
        let Good::Whole(answer) = good else { return None };
        let wire: HeadWire = serde_json::from_slice(&answer.body).ok()?;
        let named = match wire.data {
            HeadData::One(named) => named,
            HeadData::Many(list) => list.into_iter().next()?,
        };
        let slot = named
            .header
            .and_then(|header| header.message.slot.parse().ok())
            .map(Slot)
            .or_else(|| named.root.and_then(|root| self.events.slot_of(&root)));
        Some(Told { verified: !wire.execution_optimistic, slot, root: named.root })
    }
}

/// What a node said its head is.
struct Told {
    verified: bool,
    slot: Option<Slot>,
    root: Option<BlockRoot>,
}

impl Told {
    fn rank(&self) -> (bool, Option<Slot>) {
        (self.verified, self.slot)
    }
}

#[derive(Deserialize)]
struct HeadWire {
    #[serde(default)]
    execution_optimistic: bool,
    data: HeadData,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeadData {
    One(Named),
    Many(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    root: Option<BlockRoot>,
    header: Option<HeaderWire>,
}

#[derive(Deserialize)]
struct HeaderWire {
    message: MessageWire,
}

#[derive(Deserialize)]
struct MessageWire {
    slot: String,
}

/// A GET whose list of validators is too long for a URL becomes the POST of the same meaning.
fn shortened(endpoint: Endpoint, request: ClientRequest) -> Result<ClientRequest, Box<ClientAnswer>> {
    let convertible = matches!(endpoint, Endpoint::Validators | Endpoint::Balances);
    if !convertible || request.target.as_str().len() <= MAX_TARGET_BYTES {
        return Ok(request);
    }
    let values = |name: &str| -> Vec<String> {
        let prefix = format!("{name}=");
        let lists = request.query().split('&').filter_map(|pair| pair.strip_prefix(prefix.as_str()));
        lists
            .flat_map(|list| {
                list.replace("%2C", ",").replace("%2c", ",").split(',').map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    let ids = values("id");
    let body = if endpoint == Endpoint::Balances {
        serde_json::json!(ids)
    } else {
        serde_json::json!({ "ids": ids, "statuses": values("status") })
    };
    let mut headers = request.headers.clone();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let target = PathAndQuery::try_from(request.path()).map_err(|_| {
        let message = "the path cannot be read";
        Box::new(ClientAnswer::error(hyper::StatusCode::BAD_REQUEST, message))
    })?;
    Ok(ClientRequest { method: Method::POST, target, headers, body: Bytes::from(body.to_string()) })
}
