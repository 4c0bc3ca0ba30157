//! The nodes, what is known of them, and who is asked next.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::filters::{Filters, NodeIndex};
use super::health::{BlockNumber, Health, Observation, SyncState, highest_head, judge, majority_chain};
use super::jsonrpc::{Call, Reply};
use super::metrics::ExecutionMetrics;
use super::{ChainId, ExecutionConfig, MAX_ANSWER_BYTES, PROBE_INTERVAL, PROBE_TIMEOUT, PROMOTE_AFTER, WebSocketUrl};
use crate::balance::{Policy, SmoothWeights, dynamic_weight};
use crate::class::EndpointClass;
use crate::error::UpstreamConfigError;
use crate::tasks::{Stopping, Tasks};
use crate::upstream::{Upstream, UpstreamId, UpstreamRequest};

/// One node.
pub(crate) struct Node {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) websocket: Option<WebSocketUrl>,
}

impl Node {
    pub(crate) fn name(&self) -> &str {
        self.upstream.name().as_str()
    }
}

/// What is held of a node: it falls at once, and rises after several good probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) health: Health,
    pub(crate) head: Option<BlockNumber>,
    better: u32,
}

impl Standing {
    const UNKNOWN: Self = Self { health: Health::Down, head: None, better: 0 };

    /// The standing after a probe that was judged `now`. The first round counts at once.
    fn after(self, now: Health, head: Option<BlockNumber>, first: bool) -> Self {
        if first || now >= self.health {
            return Self { health: now, head, better: 0 };
        }
        let better = self.better.saturating_add(1);
        if better >= PROMOTE_AFTER {
            return Self { health: now, head, better: 0 };
        }
        Self { health: self.health, head, better }
    }
}

/// What is held of all nodes, in the order of the pool's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) standings: Vec<Standing>,
    pub(crate) chain: Option<ChainId>,
    pub(crate) rounds: u64,
}

/// Execution clients behind one address.
pub struct ExecutionPool {
    pub(crate) config: ExecutionConfig,
    pub(crate) nodes: Vec<Node>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) filters: Mutex<Filters>,
    pub(crate) metrics: ExecutionMetrics,
    pub(crate) tasks: Tasks,
    turns: Mutex<SmoothWeights>,
}

/// State of the pool, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecutionStatus {
    /// Chain id of the pool; absent until a node has answered.
    pub chain_id: Option<u64>,
    /// Each node.
    pub nodes: Vec<NodeStatus>,
}

/// State of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// A word from [`Health::as_str`].
    pub health: &'static str,
    /// Its highest block.
    pub head_block: Option<u64>,
    /// Average time of its answers in milliseconds.
    pub latency_ms: Option<u64>,
}

impl ExecutionPool {
    /// Makes the pool and starts asking its nodes how they are.
    ///
    /// # Errors
    /// [`UpstreamConfigError`] if a node cannot be used as configured.
    pub fn start(
        config: ExecutionConfig,
        metrics: ExecutionMetrics,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, UpstreamConfigError> {
        let mut nodes = Vec::with_capacity(config.nodes.len());
        for node in &config.nodes {
            let upstream = Upstream::standalone(node.upstream.clone())?;
            nodes.push(Node { upstream, websocket: node.websocket.clone() });
        }
        let standings = vec![Standing::UNKNOWN; nodes.len()];
        let pool = Arc::new(Self {
            turns: Mutex::default(),
            config,
            nodes,
            view: watch::Sender::new(Arc::new(View { standings, chain: None, rounds: 0 })),
            filters: Mutex::default(),
            metrics,
            tasks: tasks.clone(),
        });
        tasks.spawn(Arc::clone(&pool).watch_nodes(tasks.stopping()));
        Ok(pool)
    }

    /// State as of the last round of probes.
    pub fn status(&self) -> ExecutionStatus {
        let view = self.view();
        let nodes = self.nodes.iter().zip(&view.standings).map(|(node, standing)| NodeStatus {
            name: node.name().to_owned(),
            health: standing.health.as_str(),
            head_block: standing.head.map(|head| head.0),
            latency_ms: node
                .upstream
                .mean(EndpointClass::Read)
                .map(|mean| u64::try_from(mean.as_millis()).unwrap_or(u64::MAX)),
        });
        ExecutionStatus { chain_id: view.chain.map(|chain| chain.0), nodes: nodes.collect() }
    }

    /// Whether reads can be answered now.
    pub fn is_ready(&self) -> bool {
        self.view().standings.iter().any(|standing| standing.health.may_read())
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    pub(crate) fn filters(&self) -> std::sync::MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the nodes have been asked once.
    pub async fn probed(&self) {
        let mut changes = self.view.subscribe();
        // An error means that the pool is gone.
        let _ = changes.wait_for(|view| view.rounds > 0).await;
    }

    /// The nodes for a read: the balancer's choice of the best first, the others by their health.
    pub(crate) fn readers(&self) -> Vec<NodeIndex> {
        let view = self.view();
        let mut readers: Vec<(Health, u8, usize)> = view
            .standings
            .iter()
            .zip(&self.nodes)
            .enumerate()
            .filter(|(_, (standing, _))| standing.health.may_read())
            .map(|(index, (standing, node))| (standing.health, node.upstream.config().tier.0, index))
            .collect();
        readers.sort_unstable();
        let best = readers.first().map(|(health, tier, _)| (*health, *tier));
        let equals = readers.iter().take_while(|(health, tier, _)| Some((*health, *tier)) == best).count();
        let mut order: Vec<NodeIndex> = readers.iter().map(|(_, _, index)| NodeIndex(*index)).collect();
        let equals = order.get(..equals).unwrap_or_default();
        if let Some(chosen) = self.turn_of(equals)
            && let Some(head) = order.get_mut(..=chosen)
        {
            head.rotate_right(1);
        }
        order
    }

    /// The position of the node whose turn it is.
    fn turn_of(&self, equals: &[NodeIndex]) -> Option<usize> {
        let weight = |index: &NodeIndex| {
            let Some(node) = self.node(*index) else { return 1 };
            match self.config.balance {
                Policy::BestFirst | Policy::RoundRobin => 1,
                Policy::Weighted => u64::from(node.upstream.config().weight.0.get()),
                Policy::Dynamic => dynamic_weight(node.upstream.mean(EndpointClass::Read)),
            }
        };
        if self.config.balance == Policy::BestFirst {
            return (!equals.is_empty()).then_some(0);
        }
        let id = |index: &NodeIndex| UpstreamId(u16::try_from(index.0).unwrap_or(u16::MAX));
        let weights: Vec<(UpstreamId, u64)> = equals.iter().map(|index| (id(index), weight(index))).collect();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = turns.next(weights.iter().copied())?;
        equals.iter().position(|index| id(index) == chosen)
    }

    /// The nodes a transaction goes to, best first.
    pub(crate) fn submitters(&self) -> Vec<NodeIndex> {
        let view = self.view();
        let mut nodes: Vec<(Health, usize)> = view
            .standings
            .iter()
            .enumerate()
            .filter(|(_, standing)| standing.health.may_submit())
            .map(|(index, standing)| (standing.health, index))
            .collect();
        nodes.sort_unstable();
        nodes.into_iter().map(|(_, index)| NodeIndex(index)).collect()
    }

    pub(crate) fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.0)
    }

    /// Sends calls to a node as one request; `None` unless it answers each of them.
    pub(crate) async fn ask(&self, index: NodeIndex, calls: &[Call]) -> Option<Vec<Reply>> {
        let node = self.node(index)?;
        self.metrics.asked(node.name());
        let deadline = Instant::now() + self.config.timeout;
        let replies = exchange(node, calls, deadline).await;
        if replies.is_none() {
            self.metrics.failed(node.name());
        }
        replies
    }

    async fn watch_nodes(self: Arc<Self>, mut stopping: Stopping) {
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopping.begun() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stopping.begun() => return,
                () = self.round() => {}
            }
        }
    }

    /// Asks every node how it is, and judges all of them together.
    async fn round(&self) {
        let observed = futures_util::future::join_all(self.nodes.iter().map(observe)).await;
        let before = self.view();
        let chains: Vec<ChainId> = observed.iter().flatten().map(|node| node.chain).collect();
        // The first majority is the pool's chain for good: a pool that changes chains under its clients is worse
        // than one that is down.
        let chain = before.chain.or_else(|| majority_chain(&chains));
        let highest = highest_head(observed.iter().flatten(), chain);
        let first = before.rounds == 0;
        let standings: Vec<Standing> = before
            .standings
            .iter()
            .zip(&observed)
            .map(|(old, observed)| {
                let health = judge(observed.as_ref(), chain, highest, self.config.max_lag);
                old.after(health, observed.map(|node| node.head), first)
            })
            .collect();
        for ((node, old), new) in self.nodes.iter().zip(&before.standings).zip(&standings) {
            self.metrics.standing(node.name(), new.health, new.head.map(|head| head.0));
            if first || old.health != new.health {
                let (name, health) = (node.name(), new.health.as_str());
                tracing::info!(upstream = name, health, was = old.health.as_str(), "execution client changed");
            }
        }
        self.view.send_replace(Arc::new(View { standings, chain, rounds: before.rounds.saturating_add(1) }));
    }
}

/// Sends calls to a node as one request.
async fn exchange(node: &Node, calls: &[Call], deadline: Instant) -> Option<Vec<Reply>> {
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
    let answer = node.upstream.call(request, deadline).await.ok()?;
    if !answer.status.is_success() {
        return None;
    }
    let answer = answer.collect(MAX_ANSWER_BYTES, deadline).await.ok()?;
    Reply::read(&answer.body, calls.len())
}

/// One probe.
async fn observe(node: &Node) -> Option<Observation> {
    let calls = ["eth_chainId", "eth_syncing", "eth_blockNumber", "net_peerCount"].map(Call::own);
    let replies = exchange(node, &calls, Instant::now() + PROBE_TIMEOUT).await?;
    let [chain, syncing, head, peers] = replies.as_slice() else { return None };
    let text = |reply: &Reply| match reply {
        Reply::Result(raw) => Some(raw.get().to_owned()),
        Reply::Error { .. } => None,
    };
    let sync = match text(syncing)?.as_str() {
        "false" => SyncState::Done,
        _ => SyncState::InProgress,
    };
    Some(Observation {
        chain: ChainId(quantity(&text(chain)?)?),
        sync,
        head: BlockNumber(quantity(&text(head)?)?),
        peers: text(peers).and_then(|text| quantity(&text)),
    })
}

/// A JSON-RPC quantity: `"0x…"`.
fn quantity(json: &str) -> Option<u64> {
    u64::from_str_radix(json.strip_prefix("\"0x")?.strip_suffix('"')?, 16).ok()
}

#[cfg(test)]
mod tests {
    //! Proves: falling is immediate, rising takes several good probes, and quantities are read strictly.
    use super::*;

    #[test]
    fn a_node_falls_at_once_and_rises_slowly() {
        let good = Standing::UNKNOWN.after(Health::Healthy, None, true);
        assert_eq!(good.health, Health::Healthy);
        let mut standing = good.after(Health::Syncing, None, false);
        assert_eq!(standing.health, Health::Syncing);
        for _ in 1..PROMOTE_AFTER {
            standing = standing.after(Health::Healthy, None, false);
            assert_eq!(standing.health, Health::Syncing);
        }
        assert_eq!(standing.after(Health::Down, None, false).health, Health::Down);
        assert_eq!(standing.after(Health::Healthy, None, false).health, Health::Healthy);
    }

    #[test]
    fn quantities() {
        assert_eq!(quantity("\"0x1f\""), Some(31));
        for bad in ["31", "\"31\"", "\"0x\"", "null", "\"0x1g\"", "\"0x10000000000000000\""] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }
}
