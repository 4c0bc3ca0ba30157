//! The nodes, what is held of them, and who is asked next.
//!
//! What it guarantees: a choice is made from one snapshot; each change of the snapshot that moves reads or leaves
//! them with nobody is recorded with its reason; nothing new is sent to a node that is drained or was removed.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_domain::Clock;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::filters::Filters;
use super::health::{BlockNumber, Health};
use super::jsonrpc::{Call, Reply};
use super::metrics::ExecutionMetrics;
use super::node::Node;
use super::{ChainId, ExecutionConfig, PROMOTE_AFTER};
use crate::balance::{Policy, SmoothWeights, dynamic_weight};
use crate::class::EndpointClass;
use crate::decision::{Decision, DecisionKind, DecisionLog, DecisionSink};
use crate::error::PoolError;
use crate::tasks::Tasks;
use crate::upstream::UpstreamId;

/// What is held of a node: it falls at once, and rises after several good probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) health: Health,
    pub(super) head: Option<BlockNumber>,
    /// Whether it has been probed at all.
    pub(super) known: bool,
    better: u32,
}

impl Standing {
    pub(super) const UNKNOWN: Self = Self { health: Health::Down, head: None, known: false, better: 0 };

    /// The standing after a probe that was judged `now`. The first one counts at once.
    pub(super) fn after(self, now: Health, head: Option<BlockNumber>) -> Self {
        let better = self.better.saturating_add(1);
        if !self.known || now >= self.health || better >= PROMOTE_AFTER {
            return Self { health: now, head, known: true, better: 0 };
        }
        Self { health: self.health, head, known: true, better }
    }
}

/// The operator's word on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is used.
    Serving,
    /// It is asked nothing new.
    Drained,
}

/// A node and what is held of it.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) node: Arc<Node>,
    pub(super) standing: Standing,
    pub(super) admission: Admission,
}

impl Member {
    fn may_read(&self) -> bool {
        self.admission == Admission::Serving && self.standing.health.may_read()
    }
}

/// Everything a choice is made from.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// In the order in which the best is chosen from equals.
    pub(super) members: Vec<Member>,
    pub(super) preferred: Option<UpstreamId>,
    pub(super) chain: Option<ChainId>,
    pub(super) rounds: u64,
    /// Nodes ever taken in: the next one's id.
    pub(super) added: u32,
}

impl View {
    pub(super) fn member(&self, id: UpstreamId) -> Option<&Member> {
        self.members.iter().find(|member| member.node.id() == id)
    }

    /// Those who may be read from, best first, and how many of the first are equals.
    fn readers(&self) -> (Vec<&Member>, usize) {
        let rank = |member: &Member| {
            let usual = self.preferred != Some(member.node.id());
            (member.standing.health, usual, member.node.upstream().config().tier)
        };
        let mut readers: Vec<&Member> = self.members.iter().filter(|member| member.may_read()).collect();
        // Stable, so equals keep the order of the list.
        readers.sort_by_key(|member| rank(member));
        let best = readers.first().map(|first| rank(first));
        let equals = readers.iter().take_while(|member| Some(rank(member)) == best).count();
        (readers, equals)
    }

    /// Who answers reads when turns are not taken.
    fn first(&self) -> Option<Arc<Node>> {
        self.readers().0.first().map(|member| Arc::clone(&member.node))
    }
}

/// What the pool is given by its surroundings.
#[derive(Clone)]
pub struct ExecutionEnvironment {
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are written down.
    pub sink: Arc<dyn DecisionSink>,
    /// Numbers.
    pub metrics: ExecutionMetrics,
    /// Background tasks; whoever made the group stops it.
    pub tasks: Tasks,
}

/// Execution clients behind one address.
pub struct ExecutionPool {
    pub(super) config: ExecutionConfig,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) metrics: ExecutionMetrics,
    pub(super) tasks: Tasks,
    pub(super) decisions: DecisionLog,
    /// A node was added: it should be asked how it is now.
    pub(super) look_at_nodes: Notify,
    /// A node was added: its WebSocket API should be tried now.
    pub(super) look_at_links: Notify,
    /// Held from reading the snapshot to replacing it.
    changing: Mutex<()>,
    filters: Mutex<Filters>,
    turns: Mutex<SmoothWeights>,
    clock: Arc<dyn Clock>,
}

impl ExecutionPool {
    /// Makes the pool and starts asking its nodes how they are.
    ///
    /// # Errors
    /// [`PoolError::Upstream`] if a node cannot be used as configured.
    pub fn start(mut config: ExecutionConfig, environment: ExecutionEnvironment) -> Result<Arc<Self>, PoolError> {
        let ExecutionEnvironment { clock, sink, metrics, tasks } = environment;
        let nodes = std::mem::take(&mut config.nodes);
        let pool = Arc::new(Self {
            config,
            view: watch::Sender::default(),
            metrics,
            tasks,
            decisions: DecisionLog::new(sink),
            look_at_nodes: Notify::new(),
            look_at_links: Notify::new(),
            changing: Mutex::default(),
            filters: Mutex::default(),
            turns: Mutex::default(),
            clock,
        });
        for node in nodes {
            pool.insert(node)?;
        }
        pool.tasks.spawn(Arc::clone(&pool).watch_nodes(pool.tasks.stopping()));
        pool.tasks.spawn(Arc::clone(&pool).watch_links(pool.tasks.stopping()));
        Ok(pool)
    }

    /// Whether reads can be answered now.
    pub fn is_ready(&self) -> bool {
        self.view().first().is_some()
    }

    /// Completes when the nodes have been asked once.
    pub async fn probed(&self) {
        let mut changes = self.view.subscribe();
        // An error means that the pool is gone.
        let _ = changes.wait_for(|view| view.rounds > 0).await;
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    pub(super) fn filters(&self) -> std::sync::MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs, counts and keeps a decision.
    pub(super) fn decide(&self, decision: Decision) {
        self.metrics.decided(decision.kind);
        self.decisions.record(self.clock.now(), decision);
    }

    /// Changes the snapshot, and records where reads go from then on.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut View) -> R) -> R {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.view();
        let mut after = View::clone(&before);
        let result = change(&mut after);
        let after = Arc::new(after);
        self.view.send_replace(Arc::clone(&after));
        drop(changing);
        if let Some(decision) = self.moved(&before, &after) {
            self.decide(decision);
        }
        result
    }

    fn moved(&self, before: &View, after: &View) -> Option<Decision> {
        match (before.first(), after.first()) {
            (Some(_), None) => {
                Some(Decision::general(DecisionKind::NobodyLeft, "no execution client can answer reads"))
            }
            // With turns there is no single node that reads go to.
            (Some(old), Some(new)) if old.id() != new.id() && self.config.balance == Policy::BestFirst => {
                let why = match after.member(old.id()) {
                    None => "which was removed",
                    Some(member) if member.admission == Admission::Drained => "which is drained",
                    Some(member) if member.standing.health != Health::Healthy => member.standing.health.as_str(),
                    Some(_) => "which comes after it",
                };
                let reason = format!("reads went to {}, {why}", old.name());
                Some(Decision::about(DecisionKind::Switched, new.name(), reason).for_class(EndpointClass::Read))
            }
            _ => None,
        }
    }

    /// The nodes for a read: the balancer's choice of the best first, the others by their health.
    pub(super) fn readers(&self) -> Vec<Arc<Node>> {
        let view = self.view();
        let (readers, equals) = view.readers();
        let mut order: Vec<Arc<Node>> = readers.into_iter().map(|member| Arc::clone(&member.node)).collect();
        if let Some(chosen) = order.get(..equals).and_then(|equals| self.turn_of(equals))
            && let Some(head) = order.get_mut(..=chosen)
        {
            head.rotate_right(1);
        }
        order
    }

    /// The position of the node whose turn it is.
    fn turn_of(&self, equals: &[Arc<Node>]) -> Option<usize> {
        let weight = |node: &Arc<Node>| match self.config.balance {
            Policy::BestFirst | Policy::RoundRobin => 1,
            Policy::Weighted => u64::from(node.upstream().config().weight.0.get()),
            Policy::Dynamic => dynamic_weight(node.upstream().mean(EndpointClass::Read)),
        };
        if self.config.balance == Policy::BestFirst {
            return (!equals.is_empty()).then_some(0);
        }
        let weights: Vec<(UpstreamId, u64)> = equals.iter().map(|node| (node.id(), weight(node))).collect();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = turns.next(weights.iter().copied())?;
        equals.iter().position(|node| node.id() == chosen)
    }

    /// Whether a node's subscriptions may stay with it: it is good, or it is there and nobody can take them over.
    pub(super) fn keeps_link(&self, id: UpstreamId) -> bool {
        let view = self.view();
        let takes_over = |other: &Member| {
            let works = other.node.link().is_some_and(|link| link.last_error().is_none());
            works && other.may_read() && other.node.id() != id
        };
        view.member(id).is_some_and(|member| member.may_read() || !view.members.iter().any(takes_over))
    }

    /// The nodes a transaction goes to, best first.
    pub(super) fn submitters(&self) -> Vec<Arc<Node>> {
        let view = self.view();
        let able = |member: &&Member| member.admission == Admission::Serving && member.standing.health.may_submit();
        let mut members: Vec<&Member> = view.members.iter().filter(able).collect();
        members.sort_by_key(|member| member.standing.health);
        members.into_iter().map(|member| Arc::clone(&member.node)).collect()
    }

    /// A node that may be asked something new, whatever its health; `None` if it is drained or gone.
    pub(super) fn admitted(&self, id: UpstreamId) -> Option<Arc<Node>> {
        let view = self.view();
        let member = view.member(id).filter(|member| member.admission == Admission::Serving)?;
        Some(Arc::clone(&member.node))
    }

    /// Sends calls to a node as one request; `None` unless it answers each of them.
    pub(super) async fn ask(&self, node: &Node, calls: &[Call]) -> Option<Vec<Reply>> {
        node.ask(calls, Instant::now() + self.config.timeout).await
    }
}

#[cfg(test)]
mod tests {
    //! Proves: falling is immediate, rising takes several good probes, the first probe counts at once.
    use super::*;

    #[test]
    fn a_node_falls_at_once_and_rises_slowly() {
        let good = Standing::UNKNOWN.after(Health::Healthy, None);
        assert_eq!(good.health, Health::Healthy);
        let mut standing = good.after(Health::Syncing, None);
        assert_eq!(standing.health, Health::Syncing);
        for _ in 1..PROMOTE_AFTER {
            standing = standing.after(Health::Healthy, None);
            assert_eq!(standing.health, Health::Syncing);
        }
        assert_eq!(standing.after(Health::Down, None).health, Health::Down);
        assert_eq!(standing.after(Health::Healthy, None).health, Health::Healthy);
    }
}
