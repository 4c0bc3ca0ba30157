//! One execution client: how it is asked, and what a probe of it tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use tokio::time::Instant;

use super::health::{BlockNumber, Observation, SyncState};
use super::jsonrpc::{Call, Reply};
use super::link::{LinkSource, NodeSocket};
use super::metrics::{ExecutionMetrics, NodeMetrics};
use super::{ChainId, ExecutionNodeConfig, MAX_ANSWER_BYTES, PROBE_TIMEOUT};
use crate::class::EndpointClass;
use crate::error::{CallError, UpstreamConfigError, chain};
use crate::metrics::UpstreamMetrics;
use crate::signal::Signal;
use crate::upstream::{Upstream, UpstreamId, UpstreamName, UpstreamRequest};

/// Why a node gave no usable answer. No message carries an address, credentials or the text of an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodeFault {
    #[error(transparent)]
    Call(CallError),
    #[error("answered {}; {}", .0.as_u16(), hint(*.0))]
    Status(StatusCode),
    #[error("the answer is not what JSON-RPC says; is this an execution client's HTTP API?")]
    Content,
    #[error("refused {0} or answered it with what is none; is the method switched on?")]
    Probe(&'static str),
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "check the user, password or token of this node",
        status if status.is_redirection() => "the address redirects: give the final one",
        _ => "check that the address is an execution client's HTTP API",
    }
}

/// Whose connection an exchange uses: probes do not wait behind long answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Traffic,
    Probe,
}

/// One node.
pub(crate) struct Node {
    upstream: Arc<Upstream>,
    link: Option<LinkSource>,
    metrics: NodeMetrics,
    last_error: Mutex<Option<String>>,
}

impl Node {
    /// # Errors
    /// [`UpstreamConfigError`] if it cannot be used as configured.
    pub(super) fn new(
        id: UpstreamId,
        config: ExecutionNodeConfig,
        metrics: &ExecutionMetrics,
    ) -> Result<Self, UpstreamConfigError> {
        let ExecutionNodeConfig { upstream, websocket } = config;
        let link = websocket.map(|url| LinkSource::new(url, &upstream)).transpose()?;
        let metrics = metrics.node(&upstream.name);
        let unregistered = UpstreamMetrics::unregistered(&upstream.name);
        let upstream = Upstream::new(id, upstream, None, Arc::new(Signal::default()), unregistered)?;
        Ok(Self { upstream, link, metrics, last_error: Mutex::default() })
    }

    /// The same node at the same place, configured anew. Connections and what calls have shown stay.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if it cannot be used as configured.
    pub(super) fn reconfigured(
        &self,
        config: ExecutionNodeConfig,
        metrics: &ExecutionMetrics,
    ) -> Result<Self, UpstreamConfigError> {
        let ExecutionNodeConfig { upstream, websocket } = config;
        let link = websocket.map(|url| LinkSource::new(url, &upstream)).transpose()?;
        let metrics = metrics.node(&upstream.name);
        let unregistered = UpstreamMetrics::unregistered(&upstream.name);
        let upstream = self.upstream.reconfigured(upstream, unregistered)?;
        Ok(Self { upstream, link, metrics, last_error: Mutex::new(self.last_error()) })
    }

    /// How it is configured.
    pub(super) fn config(&self) -> ExecutionNodeConfig {
        let websocket = self.link.as_ref().map(|link| link.url().clone());
        ExecutionNodeConfig { upstream: self.upstream.config().clone(), websocket }
    }

    pub(crate) fn id(&self) -> UpstreamId {
        self.upstream.id()
    }

    pub(crate) fn name(&self) -> &UpstreamName {
        self.upstream.name()
    }

    pub(super) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(super) fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    /// Its WebSocket API, if it has one.
    pub(super) fn link(&self) -> Option<&LinkSource> {
        self.link.as_ref()
    }

    /// A new connection to its WebSocket API.
    pub(super) async fn open(&self) -> Option<NodeSocket> {
        self.link.as_ref()?.open(self.name()).await
    }

    /// Why its last probe failed; `None` if it did not.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a client's calls as one request; `None` unless each of them is answered.
    pub(super) async fn ask(&self, calls: &[Call], deadline: Instant) -> Option<Vec<Reply>> {
        let began = Instant::now();
        self.metrics.asked();
        match self.exchange(calls, Lane::Traffic, deadline).await {
            Ok(replies) => {
                self.metrics.answered(began.elapsed());
                Some(replies)
            }
            Err(fault) => {
                self.metrics.failed();
                tracing::debug!(upstream = %self.name(), reason = chain(&fault), "an execution client did not answer");
                None
            }
        }
    }

    /// A request was given up after `elapsed`, because another node had answered.
    pub(super) fn outpaced(&self, elapsed: Duration) {
        self.upstream.outpaced(EndpointClass::Read, elapsed);
    }

    async fn exchange(&self, calls: &[Call], lane: Lane, deadline: Instant) -> Result<Vec<Reply>, NodeFault> {
        let texts: Vec<String> = calls.iter().enumerate().map(|(id, call)| call.to_node(id)).collect();
        let body = match texts.as_slice() {
            [single] => single.clone(),
            several => format!("[{}]", several.join(",")),
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let request = UpstreamRequest {
            method: Method::POST,
            path_and_query: PathAndQuery::from_static("/"),
            headers,
            body: Bytes::from(body),
            class: EndpointClass::Read,
        };
        let answer = match lane {
            Lane::Traffic => self.upstream.call(request, deadline).await,
            Lane::Probe => self.upstream.probe(request, deadline).await,
        };
        let answer = answer.map_err(NodeFault::Call)?;
        if !answer.status.is_success() {
            return Err(NodeFault::Status(answer.status));
        }
        let answer = answer.collect(MAX_ANSWER_BYTES, deadline).await.map_err(NodeFault::Call)?;
        Reply::read(&answer.body, calls.len()).ok_or(NodeFault::Content)
    }

    /// One probe; `None` if the node is not to be counted on.
    pub(super) async fn observe(&self) -> Option<Observation> {
        let outcome = self.probe().await;
        let error = outcome.as_ref().err().map(|error| chain(error));
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        outcome.ok()
    }

    async fn probe(&self) -> Result<Observation, NodeFault> {
        let calls = ["eth_chainId", "eth_syncing", "eth_blockNumber", "net_peerCount"].map(Call::own);
        let replies = self.exchange(&calls, Lane::Probe, Instant::now() + PROBE_TIMEOUT).await?;
        let [chain, syncing, head, peers] = replies.as_slice() else { return Err(NodeFault::Content) };
        let number = |reply: &Reply| text(reply).and_then(quantity);
        let sync = match text(syncing).ok_or(NodeFault::Probe("eth_syncing"))? {
            "false" => SyncState::Done,
            _ => SyncState::InProgress,
        };
        Ok(Observation {
            chain: ChainId(number(chain).ok_or(NodeFault::Probe("eth_chainId"))?),
            sync,
            head: BlockNumber(number(head).ok_or(NodeFault::Probe("eth_blockNumber"))?),
            peers: number(peers),
        })
    }
}

fn text(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::Result(raw) => Some(raw.get()),
        Reply::Error { .. } => None,
    }
}

/// A JSON-RPC quantity: `"0x…"`.
fn quantity(json: &str) -> Option<u64> {
    u64::from_str_radix(json.strip_prefix("\"0x")?.strip_suffix('"')?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        assert_eq!(quantity("\"0x1f\""), Some(31));
        for bad in ["31", "\"31\"", "\"0x\"", "null", "\"0x1g\"", "\"0x10000000000000000\""] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }
}
