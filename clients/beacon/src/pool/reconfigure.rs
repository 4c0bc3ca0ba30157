//! Another list of nodes for a running pool.
//!
//! What it guarantees: a node that stays keeps its connections, its event stream, its health and what it was told, also if
//! its headers, credentials, weight, tier, roles or place change; a request in progress is finished wherever it goes; a node
//! whose address or authorities change is another node.

use std::sync::Arc;

use super::Pool;
use super::state::{Arranged, State};
use crate::decision::{Decision, DecisionKind};
use crate::error::PoolError;
use crate::upstream::{UpstreamConfig, UpstreamName};

/// Why, for the journal.
const REASON: &str = "the configuration was changed";

/// What changes in a list of nodes. Nodes that it does not name stay as they are: those that an operator added by hand, and
/// those that he removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineup<C = UpstreamConfig> {
    /// New, or configured in another way.
    pub set: Vec<C>,
    /// No longer there.
    pub removed: Vec<UpstreamName>,
    /// All there are from now on, in the order in which the best is chosen from equals. Others come after them.
    pub order: Vec<UpstreamName>,
}

impl Pool {
    /// Takes nodes in, changes and removes them, and puts them in order. New ones are there before others go.
    ///
    /// Returns what could not be done, which leaves that node as it was: [`PoolError::Upstream`] for what
    /// [`UpstreamConfig::check`] finds, [`PoolError::Last`] for the last one, which stays.
    pub fn reconfigure(self: &Arc<Self>, lineup: Lineup) -> Vec<PoolError> {
        let before = self.lock().order.clone();
        let mut failures = Vec::new();
        let mut moved = Vec::new();
        for config in lineup.set {
            match self.configured(&config.name) {
                None => failures.extend(self.add_for(config, REASON).err()),
                Some(old) if old == config => {}
                Some(old) if old.is_same_place(&config) => failures.extend(self.change(&config).err()),
                Some(_) => moved.push(config),
            }
        }
        for config in moved {
            // The last one, too: another takes its place at once.
            self.drop_entry(&config.name);
            failures.extend(self.add_for(config, REASON).err());
        }
        for name in &lineup.removed {
            match self.remove_for(name.as_str(), REASON) {
                // An operator was faster.
                Ok(()) | Err(PoolError::Unknown(_)) => {}
                Err(error) => failures.push(error),
            }
        }
        if self.update(|state| state.arrange(&lineup.order, &before)) {
            self.record_decision(Decision::general(DecisionKind::Reconfigured, "another order is configured"));
        }
        failures
    }

    /// How a node, or a name that stands for several, is configured now.
    fn configured(&self, name: &UpstreamName) -> Option<UpstreamConfig> {
        let state = self.lock();
        let found = state.members.values().find(|member| member.entry == *name && member.upstream.name() == name);
        let of_name = state.names.get(name).map(|name| &name.config);
        of_name.or_else(|| found.map(|member| member.upstream.config())).cloned()
    }

    fn drop_entry(&self, name: &UpstreamName) {
        self.remove_name(name, REASON);
        let found = {
            let state = self.lock();
            state.members.iter().find(|(_, member)| member.upstream.name() == name).map(|(id, _)| *id)
        };
        if let Some(id) = found {
            self.take_out(id, REASON);
        }
    }

    /// Other settings for a node that stays where it is.
    fn change(&self, config: &UpstreamConfig) -> Result<(), PoolError> {
        let refuse = |source| PoolError::Upstream { name: config.name.clone(), source };
        config.check().map_err(refuse)?;
        self.update(|state| -> Result<(), PoolError> {
            if let Some(name) = state.names.get_mut(&config.name) {
                name.config = config.clone();
            }
            for member in state.members.values_mut().filter(|member| member.entry == config.name) {
                // One address of several has a name of its own.
                let name = member.upstream.name().clone();
                let metrics = self.environment.metrics.upstream(&name);
                let config = UpstreamConfig { name, ..config.clone() };
                member.upstream = member.upstream.reconfigured(config, metrics).map_err(refuse)?;
            }
            Ok(())
        })?;
        self.record_decision(Decision::about(DecisionKind::Reconfigured, &config.name, REASON));
        Ok(())
    }
}

impl State {
    /// Puts what is configured in order. Whether nodes that were there `before` change places.
    fn arrange(&mut self, order: &[UpstreamName], before: &[UpstreamName]) -> bool {
        let others = self.order.iter().filter(|name| !order.contains(name));
        let there = order.iter().filter(|name| self.order.contains(name));
        let after: Vec<UpstreamName> = there.chain(others).cloned().collect();
        let both = |one: &[UpstreamName], other: &[UpstreamName]| -> Vec<UpstreamName> {
            one.iter().filter(|name| other.contains(name)).cloned().collect()
        };
        let moves = both(before, &after) != both(&after, before);
        let arranged = match (moves, self.order == after) {
            (true, _) => Arranged::Anew,
            (false, false) => Arranged::Newcomers,
            (false, true) => Arranged::AsBefore,
        };
        self.arranged = self.arranged.max(arranged);
        self.order = after;
        moves
    }
}
