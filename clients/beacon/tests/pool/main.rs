//! The pool against real HTTP peers that misbehave: who is taken in, who is put out, what is said about it.
//!
//! Proves: it starts with nobody there; a node of another network is never used and the difference is named; a
//! node that dies, hangs, slows down, goes optimistic or answers nonsense leaves duties at once and comes back
//! slowly; operators can change the pool while it runs; hedged reads, confirmation and liveness keep their word.
#![allow(clippy::disallowed_methods, reason = "tests read the clock and own their tasks")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of a test program fail the test")]

#[path = "../certificates/mod.rs"]
mod certificates;
#[path = "../scripted/mod.rs"]
mod scripted;

mod bad_input;
mod control;
mod health;
mod questions;
mod tls;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_beacon::{
    Decision, DecisionKind, DecisionSink, EndpointClass, Environment, HealthTier, Metrics, NodeView, Pool, PoolConfig,
    PoolView, Probing, Tasks, UpstreamConfig, UpstreamName,
};
use holdfast_domain::{Clock, UnixMillis};
use scripted::{Chain, PATIENCE, ScriptedNode};

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap())
    }
}

/// Keeps every decision.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Vec<Decision>>);

impl DecisionSink for Journal {
    fn decided(&self, _at: UnixMillis, decision: &Decision) {
        self.0.lock().unwrap().push(decision.clone());
    }
}

impl Journal {
    /// The reasons of one kind of decision.
    pub(crate) fn of(&self, kind: DecisionKind) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|decision| decision.kind == kind).map(|decision| decision.reason.clone()).collect()
    }
}

/// Fast probes, so that tests are quick; bounds far above what this machine needs for a good answer.
pub(crate) const PROBING: Probing = Probing {
    interval: Duration::from_millis(50),
    slow: Duration::from_millis(400),
    timeout: Duration::from_millis(800),
    start_wait: Duration::from_secs(3),
    peers_every: Duration::from_millis(200),
    resolve_every: Duration::from_millis(200),
};

pub(crate) fn named(name: &str, node: &ScriptedNode) -> UpstreamConfig {
    UpstreamConfig::new(UpstreamName::new(name).unwrap(), node.url().parse().unwrap())
}

pub(crate) fn config(upstreams: Vec<UpstreamConfig>) -> PoolConfig {
    PoolConfig { upstreams, probing: PROBING, ..PoolConfig::default() }
}

pub(crate) struct Running {
    pub(crate) pool: Arc<Pool>,
    pub(crate) journal: Arc<Journal>,
}

pub(crate) async fn start(config: PoolConfig) -> Running {
    let journal = Arc::new(Journal::default());
    let environment = Environment {
        clock: Arc::new(SystemClock),
        sink: Arc::clone(&journal) as Arc<dyn DecisionSink>,
        metrics: Metrics::default(),
        tasks: Tasks::new(),
        tracer: holdfast_traces::Tracer::off(),
    };
    Running { pool: Pool::start(config, environment).await.unwrap(), journal }
}

impl Running {
    /// Waits for a snapshot.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&PoolView) -> bool) -> Arc<PoolView> {
        let mut changes = self.pool.view_changes();
        let reached = async {
            loop {
                changes.borrow_and_update();
                let view = self.pool.view();
                if wanted(&view) {
                    return view;
                }
                changes.changed().await.unwrap();
            }
        };
        let Ok(view) = tokio::time::timeout(PATIENCE, reached).await else {
            panic!("not seen: {what}; status: {:#?}", self.pool.status().upstreams)
        };
        view
    }

    /// Names of the candidates of a class.
    pub(crate) fn candidates(&self, class: EndpointClass) -> Vec<String> {
        names(&self.pool.view().candidates(class))
    }
}

pub(crate) fn names(nodes: &[Arc<NodeView>]) -> Vec<String> {
    nodes.iter().map(|node| node.upstream.name().to_string()).collect()
}

pub(crate) fn tier(view: &PoolView, name: &str) -> Option<HealthTier> {
    view.nodes().iter().find(|node| node.upstream.name().as_str() == name).map(|node| node.health.tier)
}

/// Two nodes of different clients on one chain, in a pool, both good.
pub(crate) async fn two() -> (ScriptedNode, ScriptedNode, Running) {
    let chain = Chain::aged(1000);
    let a = ScriptedNode::start("a", "Lighthouse/v8.0.0", &chain).await;
    let b = ScriptedNode::start("b", "teku/v25.12.0", &chain).await;
    let running = start(config(vec![named("a", &a), named("b", &b)])).await;
    running.until("both good", |view| ["a", "b"].iter().all(|name| tier(view, name) == Some(HealthTier::Good))).await;
    (a, b, running)
}
