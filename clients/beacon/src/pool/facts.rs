//! What probes tell the pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::state::{Member, SyncReport};
use super::{Change, ChangeKind, Pool};
use crate::ask::{Checkpoints, Header};
use crate::decision::{Decision, DecisionKind};
use crate::error::{BeaconError, chain};
use crate::health::PeerTier;
use crate::signal::Signal;
use crate::upstream::{Upstream, UpstreamId};
use crate::version::NodeVersion;

impl Pool {
    pub(crate) fn signal(&self) -> &Signal {
        &self.signal
    }

    pub(crate) fn members(&self) -> Vec<UpstreamId> {
        self.lock().members.keys().copied().collect()
    }

    /// A node, and the signal that it was removed.
    pub(crate) fn member(&self, id: UpstreamId) -> Option<(Arc<Upstream>, watch::Receiver<bool>)> {
        let state = self.lock();
        let member = state.members.get(&id)?;
        Some((Arc::clone(&member.upstream), member.stop.subscribe()))
    }

    /// Whether a node's network has to be known before anything else it says counts.
    pub(crate) fn identity_due(&self, id: UpstreamId) -> bool {
        self.lock().members.get(&id).is_some_and(|member| member.identity_due)
    }

    /// Time until the next slot begins; `None` while no network is known.
    pub(crate) fn until_next_slot(&self) -> Option<Duration> {
        let network = self.network()?;
        let now = self.now();
        let next = match network.clock().slot_at(now) {
            Some(slot) => network.start_of(holdfast_domain::Slot(slot.0.saturating_add(1))),
            None => network.clock().genesis,
        };
        Some(Duration::from_millis(next.0.saturating_sub(now.0).max(1)))
    }

    /// Before the end of a slot, when all nodes have seen its block or never will: 2 of 12 seconds.
    pub(crate) fn before_slot_end(&self) -> Duration {
        self.network().map_or(Duration::ZERO, |network| network.timing().slot() / 6)
    }

    /// Once an epoch every node tells its network again: not when epochs begin, which is when nodes are
    /// busiest, and not all at once.
    pub(crate) fn may_ask_identity_again(&self, id: UpstreamId) -> bool {
        let Some(network) = self.network() else { return true };
        let slots = network.clock().slots_per_epoch;
        let into_epoch = network.slot_at(self.now()).0 % slots;
        let half = (slots.get() / 2).max(1);
        into_epoch >= slots.get() / 4 + u64::from(id.0) % half
    }

    /// A slot has begun: the one before counts for or against promotions.
    pub(crate) fn slot_began(&self) {
        let Some(network) = self.network() else { return };
        let now = self.now();
        self.signal.set_slot(network.slot_at(now));
        let epoch = network.epoch_at(now);
        self.update(|state| state.slot_ended(epoch));
    }

    pub(crate) fn version(&self, id: UpstreamId, version: NodeVersion) {
        let changed = {
            let mut state = self.lock();
            let Some(member) = state.members.get_mut(&id) else { return };
            let before = member.version.replace(version);
            before.filter(|before| Some(before) != member.version.as_ref()).map(|before| {
                let now = member.version.as_ref().map_or_else(String::new, ToString::to_string);
                (member.upstream.name().clone(), format!("its version was {before} and is {now}"))
            })
        };
        if let Some((name, reason)) = changed {
            let _ = self.changes.send(Change { upstream: id, kind: ChangeKind::Restarted });
            self.record_decision(Decision::about(DecisionKind::Restarted, &name, reason));
        }
    }

    /// The connection kept for probes was a new one although nothing had failed: a quick restart looks so,
    /// and so does a proxy that closes connections. Telling the node everything again costs little.
    pub(crate) fn reconnected(&self, id: UpstreamId) {
        let epoch = self.epoch();
        let name = {
            let mut state = self.lock();
            let Some(member) = state.members.get_mut(&id) else { return };
            if member.reconnected_in == epoch {
                return;
            }
            member.reconnected_in = epoch;
            member.identity_due = true;
            member.upstream.name().clone()
        };
        let _ = self.changes.send(Change { upstream: id, kind: ChangeKind::Restarted });
        self.record_decision(Decision::about(
            DecisionKind::Restarted,
            &name,
            "it closed the connection kept for probes",
        ));
    }

    pub(crate) fn probe_answered(&self, id: UpstreamId, elapsed: Duration, report: SyncReport) {
        let slow = self.config.probing.slow;
        self.update(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.probes.answered(elapsed, slow);
                member.synced(report);
                member.last_error = None;
            }
        });
    }

    pub(crate) fn probe_failed(&self, id: UpstreamId, error: &BeaconError) {
        let text = chain(error);
        let news = self.update(|state| {
            let member = state.members.get_mut(&id)?;
            member.probes.unanswered();
            let news = member.last_error.as_ref() != Some(&text);
            member.last_error = Some(text.clone());
            news.then(|| member.upstream.name().clone())
        });
        if let Some(name) = news {
            tracing::warn!(upstream = %name, reason = text, "a probe failed");
        }
        // Whoever cannot be heard must not hold up the vote on the network.
        self.vote_if_heard();
    }

    pub(crate) fn head_block(&self, id: UpstreamId, head: &Header) {
        let message = &head.header.message;
        self.update(|state| {
            state.tree.insert(head.root, message.slot, message.parent_root);
            if let Some(member) = state.members.get_mut(&id) {
                member.head_block(message.slot, head.root);
            }
        });
    }

    pub(crate) fn checkpoints(&self, id: UpstreamId, checkpoints: &Checkpoints) {
        self.update(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.checkpoints(checkpoints.current_justified, checkpoints.finalized);
            }
        });
    }

    pub(crate) fn peers(&self, id: UpstreamId, peers: PeerTier) {
        self.update(|state| {
            if let Some(member) = state.members.get_mut(&id) {
                member.peers = peers;
            }
        });
    }
}

/// What the snapshot does not carry, for status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    pub(crate) waiting_for: Option<&'static str>,
    pub(crate) differences: Vec<String>,
    pub(crate) last_error: Option<String>,
}

impl Pool {
    pub(crate) fn notes(&self) -> BTreeMap<UpstreamId, Note> {
        let state = self.lock();
        let note = |member: &Member| Note {
            waiting_for: member.hysteresis.waiting_for(),
            differences: member
                .verdict
                .iter()
                .flat_map(|verdict| verdict.differences.iter().map(ToString::to_string))
                .collect(),
            last_error: member.last_error.clone(),
        };
        state.members.iter().map(|(id, member)| (*id, note(member))).collect()
    }
}
