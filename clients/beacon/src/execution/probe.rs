//! How the nodes are asked how they are, at intervals and when one is added.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use super::health::{Health, Observation, highest_head, judge, majority_chain};
use super::link::CONNECT;
use super::node::Node;
use super::pool::{ExecutionPool, Standing};
use super::{ChainId, PROBE_INTERVAL};
use crate::decision::{Decision, DecisionKind};
use crate::tasks::Stopping;
use crate::upstream::UpstreamId;

/// How often WebSocket APIs are connected to, so that `status` tells what is wrong with them before a client does.
const LINK_INTERVAL: Duration = Duration::from_secs(30);

impl ExecutionPool {
    pub(super) async fn watch_nodes(self: Arc<Self>, mut stopping: Stopping) {
        let mut ticks = every(PROBE_INTERVAL);
        let work = async {
            loop {
                due(&mut ticks, &self.look_at_nodes).await;
                self.round().await;
            }
        };
        tokio::select! {
            () = stopping.begun() => {}
            () = work => {}
        }
    }

    pub(super) async fn watch_links(self: Arc<Self>, mut stopping: Stopping) {
        let mut ticks = every(LINK_INTERVAL);
        let work = async {
            loop {
                due(&mut ticks, &self.look_at_links).await;
                let view = self.view();
                join_all(view.members.iter().map(|member| try_link(&member.node))).await;
            }
        };
        tokio::select! {
            () = stopping.begun() => {}
            () = work => {}
        }
    }

    /// Asks every node how it is, and judges all of them together.
    async fn round(&self) {
        let asked = self.view();
        let observed: Vec<(UpstreamId, Option<Observation>)> =
            join_all(asked.members.iter().map(|member| observe(&member.node))).await;
        let answers = || observed.iter().filter_map(|(_, observed)| observed.as_ref());
        let max_lag = self.config.max_lag;
        let news = self.update(|view| {
            let chains: Vec<ChainId> = answers().map(|node| node.chain).collect();
            // The first majority is the pool's chain for good: a pool that changes chains under its clients is
            // worse than one that is down.
            view.chain = view.chain.or_else(|| majority_chain(&chains));
            let highest = highest_head(answers(), view.chain);
            view.rounds = view.rounds.saturating_add(1);
            let mut news = Vec::new();
            for member in &mut view.members {
                // Whoever was added meanwhile is asked in the next round.
                let Some((_, seen)) = observed.iter().find(|(id, _)| *id == member.node.id()) else { continue };
                let old = member.standing;
                let judged = judge(seen.as_ref(), view.chain, highest, max_lag);
                member.standing = old.after(judged, seen.map(|node| node.head));
                member.node.metrics().standing(member.standing.health, member.standing.head.map(|head| head.0));
                if !old.known || old.health != member.standing.health {
                    news.push((Arc::clone(&member.node), old, member.standing));
                }
            }
            news
        });
        for (node, old, new) in news {
            self.decide(changed(&node, old, new));
        }
    }
}

async fn observe(node: &Node) -> (UpstreamId, Option<Observation>) {
    (node.id(), node.observe().await)
}

/// Connects once to a node's WebSocket API. What came of it is kept by the node.
async fn try_link(node: &Node) {
    if let Some(mut socket) = node.open().await {
        // It was only to see whether it can be had.
        let _ = tokio::time::timeout(CONNECT, socket.close(None)).await;
    }
}

fn every(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Completes at intervals, and at once when told to.
async fn due(ticks: &mut Interval, now: &Notify) {
    tokio::select! {
        _ = ticks.tick() => {}
        () = now.notified() => {}
    }
}

/// What a change of standing is called, and why it came.
fn changed(node: &Node, old: Standing, new: Standing) -> Decision {
    let kind = match (old.known, old.health, new.health) {
        (_, _, Health::OtherChain) => DecisionKind::Incompatible,
        (_, _, Health::Down) => DecisionKind::Left,
        (false, _, _) => DecisionKind::Joined,
        (true, Health::Down, _) => DecisionKind::Rejoined,
        (true, old, new) if new > old => DecisionKind::Demoted,
        (true, _, _) => DecisionKind::Promoted,
    };
    let block = new.head.map_or_else(String::new, |head| format!(" at block {}", head.0));
    let was = if old.known { format!(", was {}", old.health.as_str()) } else { String::new() };
    let why = match (new.health, node.last_error()) {
        (Health::Down, Some(error)) => format!("; {error}"),
        _ => String::new(),
    };
    Decision::about(kind, node.name(), format!("execution client {}{block}{was}{why}", new.health.as_str()))
}
