//! Which network the pool is on: voted at start by the nodes that answer, then pinned but for forks to come.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_domain::{Epoch, UnixMillis};
use tokio::time::Instant;

use super::state::{Member, State};
use super::{ExpectedNetwork, Pool};
use crate::decision::{Decision, DecisionKind};
use crate::health::{NodeNetwork, Reach, agrees_until, compare};
use crate::network::PinnedNetwork;
use crate::upstream::{UpstreamId, UpstreamName};

impl Pool {
    /// A node has told its network: counted, and pinned if everyone who could has spoken.
    pub(crate) fn told(&self, id: UpstreamId, told: NodeNetwork) {
        self.update(|state| state.told(id, told));
        self.vote_if_heard();
    }

    /// Pins the network if nobody is left to wait for.
    pub(super) fn vote_if_heard(&self) {
        if self.network().is_some() {
            return;
        }
        let everyone_heard = {
            let state = self.lock();
            state.names.values().all(|name| name.looked_up)
                && state.members.values().all(|member| member.told.is_some() || member.probes.unanswered > 0)
        };
        // After the first wait, nobody is waited for any more.
        if everyone_heard || *self.pinned.borrow() {
            self.pin_now();
        }
    }

    /// Pins what most implementations say, if anybody has spoken.
    pub(super) fn pin_now(&self) {
        let winner = elect(&self.lock(), self.config.expected.as_ref(), self.now());
        // From here on the first node to answer decides, if none has.
        self.pinned.send_replace(true);
        let Some((name, facts)) = winner else {
            self.warn_of_strangers();
            return;
        };
        let network = match PinnedNetwork::new(facts) {
            Ok(network) => Arc::new(network),
            Err(error) => {
                tracing::warn!(upstream = %name, %error, "the network of this upstream cannot be used");
                return;
            }
        };
        let genesis = network.genesis().genesis_validators_root;
        self.network.store(Some(Arc::clone(&network)));
        let now = self.now();
        self.signal.set_slot(network.slot_at(now));
        let grace = self.config.probing.timeout.saturating_add(self.config.probing.interval);
        self.record_decision(Decision::about(
            DecisionKind::Pinned,
            &name,
            format!(
                "the network is the one with genesis_validators_root {genesis}, slots of {} ms",
                network.clock().slot_millis
            ),
        ));
        self.update(|state| {
            let epoch = network.epoch_at(now);
            // Once more, under the lock: what is judged by and what is asked for are the same.
            self.network.store(Some(Arc::clone(&network)));
            state.pin(network, epoch);
            state.settling_until = Some(Instant::now() + grace);
        });
    }

    /// Nodes have told their network, and none is on the expected one.
    fn warn_of_strangers(&self) {
        let Some(expected) = &self.config.expected else { return };
        let state = self.lock();
        for (member, told) in state.members.values().filter_map(|member| Some((member, member.told.as_ref()?))) {
            tracing::warn!(
                upstream = %member.upstream.name(),
                genesis_validators_root = %told.genesis.genesis_validators_root,
                expected = ?expected.genesis_validators_root,
                expected_genesis_fork_version = ?expected.genesis_fork_version,
                "this upstream is on another network than the expected one; without one on it nothing is served"
            );
        }
    }

    /// Says at start who is there and who is not.
    pub(super) fn report_start(&self) {
        let state = self.lock();
        for member in state.members.values().filter(|member| member.told.is_none()) {
            tracing::warn!(
                upstream = %member.upstream.name(),
                url = %member.upstream.config().url,
                "this upstream does not answer yet; it is used when it does"
            );
        }
        if self.network().is_none() {
            tracing::warn!("no upstream has told its network yet; requests are answered 503 until one does");
        }
    }
}

fn as_expected(told: &NodeNetwork, expected: Option<&ExpectedNetwork>) -> bool {
    let Some(expected) = expected else { return true };
    expected.genesis_validators_root.is_none_or(|root| root == told.genesis.genesis_validators_root)
        && expected.genesis_fork_version.is_none_or(|version| version == told.genesis.genesis_fork_version)
}

/// The network most implementations are on, then most nodes, then the one with more forks, then the first in the
/// configuration. Forks that are to come divide nobody.
fn elect(state: &State, expected: Option<&ExpectedNetwork>, now: UnixMillis) -> Option<(UpstreamName, NodeNetwork)> {
    let heard: Vec<(&Member, &NodeNetwork)> = state
        .members
        .values()
        .filter_map(|member| Some((member, member.told.as_ref()?)))
        .filter(|(_, told)| as_expected(told, expected))
        .collect();
    let votes = |candidate: &NodeNetwork| {
        let epoch = PinnedNetwork::new(candidate.clone()).map_or(Epoch(0), |network| network.epoch_at(now));
        let agreeing = heard.iter().filter(|(_, told)| agrees_until(&compare(candidate, told), epoch));
        let agreeing: Vec<_> = agreeing.collect();
        let vendors: BTreeSet<_> = agreeing.iter().map(|(member, _)| member.vendor()).collect();
        (vendors.len(), agreeing.len(), Reach::of(candidate, Epoch(0)))
    };
    let best = heard.iter().rev().max_by_key(|(_, told)| votes(told))?;
    Some((best.0.upstream.name().clone(), best.1.clone()))
}
