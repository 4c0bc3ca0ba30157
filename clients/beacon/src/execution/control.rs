//! What an operator can do to a running pool.

use std::sync::Arc;

use super::ExecutionNodeConfig;
use super::node::Node;
use super::pool::{Admission, ExecutionPool, Member, Standing, View};
use crate::Lineup;
use crate::decision::{Decision, DecisionKind};
use crate::error::{PoolError, UpstreamConfigError};
use crate::upstream::{UpstreamId, UpstreamName};

/// Why, for the journal.
const RECONFIGURED: &str = "the configuration was changed";

impl ExecutionPool {
    /// Takes in one more node; it is asked how it is at once, and used if it is fit.
    ///
    /// # Errors
    /// [`PoolError::Upstream`] if it cannot be used as configured or its name is taken.
    pub fn add(&self, config: ExecutionNodeConfig) -> Result<(), PoolError> {
        self.add_for(config, "operator")
    }

    fn add_for(&self, config: ExecutionNodeConfig, reason: &str) -> Result<(), PoolError> {
        let name = self.insert(config)?;
        self.decide(Decision::about(DecisionKind::Added, &name, reason));
        self.look_at_nodes.notify_one();
        self.look_at_links.notify_one();
        Ok(())
    }

    pub(super) fn insert(&self, config: ExecutionNodeConfig) -> Result<UpstreamName, PoolError> {
        let name = config.upstream.name.clone();
        let refuse = |source| PoolError::Upstream { name: name.clone(), source };
        self.update(|view| -> Result<(), PoolError> {
            if view.members.iter().any(|member| *member.node.name() == name) {
                return Err(refuse(UpstreamConfigError::Duplicate(name.clone())));
            }
            let id = UpstreamId(u16::try_from(view.added).map_err(|_| refuse(UpstreamConfigError::Exhausted))?);
            let node = Arc::new(Node::new(id, config, &self.metrics).map_err(refuse)?);
            view.added = view.added.saturating_add(1);
            view.members.push(Member { node, standing: Standing::UNKNOWN, admission: Admission::Serving });
            Ok(())
        })?;
        Ok(name)
    }

    /// Takes a node out. Requests in progress end by themselves, its subscriptions are started again at another
    /// node, its filters are gone.
    ///
    /// # Errors
    /// [`PoolError::Unknown`], or [`PoolError::Last`] for the last one.
    pub fn remove(&self, name: &str) -> Result<(), PoolError> {
        self.take_out(name, "operator", false)
    }

    fn take_out(&self, name: &str, reason: &str, also_the_last: bool) -> Result<(), PoolError> {
        let (id, name) = self.update(|view| -> Result<_, PoolError> {
            let (id, name) = find(view, name)?;
            if view.members.len() == 1 && !also_the_last {
                return Err(PoolError::Last(name));
            }
            view.members.retain(|member| member.node.id() != id);
            if view.preferred == Some(id) {
                view.preferred = None;
            }
            Ok((id, name))
        })?;
        self.filters().forget(id);
        self.metrics.forget(&name);
        self.decide(Decision::about(DecisionKind::Removed, &name, reason));
        Ok(())
    }

    /// Takes nodes in, changes and removes them, and puts them in order. A node that stays keeps its connections, its health
    /// and its subscriptions; one whose address or authorities change is another node.
    ///
    /// Returns what could not be done, which leaves that node as it was.
    pub fn reconfigure(&self, lineup: Lineup<ExecutionNodeConfig>) -> Vec<PoolError> {
        let mut failures = Vec::new();
        for config in lineup.set {
            let name = config.upstream.name.clone();
            let view = self.view();
            let known = view.members.iter().find(|member| *member.node.name() == name);
            match known.map(|member| member.node.config()) {
                None => failures.extend(self.add_for(config, RECONFIGURED).err()),
                Some(old) if old == config => {}
                Some(old) if old.upstream.is_same_place(&config.upstream) => {
                    failures.extend(self.change(&config).err());
                }
                Some(_) => {
                    // The last one, too: another takes its place at once. An operator may have been faster.
                    drop(self.take_out(name.as_str(), RECONFIGURED, true));
                    failures.extend(self.add_for(config, RECONFIGURED).err());
                }
            }
        }
        for name in &lineup.removed {
            match self.take_out(name.as_str(), RECONFIGURED, false) {
                Ok(()) | Err(PoolError::Unknown(_)) => {}
                Err(error) => failures.push(error),
            }
        }
        let place =
            |member: &Member| lineup.order.iter().position(|name| name == member.node.name()).unwrap_or(usize::MAX);
        // Stable, so others keep their order behind them.
        self.update(|view| view.members.sort_by_key(place));
        failures
    }

    /// Other settings for a node that stays where it is.
    fn change(&self, config: &ExecutionNodeConfig) -> Result<(), PoolError> {
        let name = config.upstream.name.clone();
        let refuse = |source| PoolError::Upstream { name: name.clone(), source };
        self.update(|view| -> Result<(), PoolError> {
            let (id, _) = find(view, name.as_str())?;
            for member in view.members.iter_mut().filter(|member| member.node.id() == id) {
                member.node = Arc::new(member.node.reconfigured(config.clone(), &self.metrics).map_err(refuse)?);
            }
            Ok(())
        })?;
        self.decide(Decision::about(DecisionKind::Reconfigured, &name, RECONFIGURED));
        self.look_at_links.notify_one();
        Ok(())
    }

    /// Asks a node nothing new. Requests in progress end by themselves, its subscriptions move to another node as
    /// soon as there is one, its filters are gone.
    ///
    /// # Errors
    /// [`PoolError::Unknown`].
    pub fn drain(&self, name: &str) -> Result<(), PoolError> {
        self.admit(name, Admission::Drained, DecisionKind::Drained)
    }

    /// Uses a drained node again.
    ///
    /// # Errors
    /// [`PoolError::Unknown`].
    pub fn undrain(&self, name: &str) -> Result<(), PoolError> {
        self.admit(name, Admission::Serving, DecisionKind::Undrained)
    }

    fn admit(&self, name: &str, admission: Admission, kind: DecisionKind) -> Result<(), PoolError> {
        let changed = self.update(|view| -> Result<_, PoolError> {
            let (id, name) = find(view, name)?;
            let mut members = view.members.iter_mut();
            let member = members.find(|member| member.node.id() == id && member.admission != admission);
            Ok(member.map(|member| {
                member.admission = admission;
                (id, name)
            }))
        })?;
        if let Some((id, name)) = changed {
            if admission == Admission::Drained {
                self.filters().forget(id);
            }
            self.decide(Decision::about(kind, &name, "operator"));
        }
        Ok(())
    }

    /// Puts a node first among equally healthy ones; `None` takes that back.
    ///
    /// # Errors
    /// [`PoolError::Unknown`].
    pub fn prefer(&self, name: Option<&str>) -> Result<(), PoolError> {
        let preferred = self.update(|view| -> Result<_, PoolError> {
            let found = name.map(|name| find(view, name)).transpose()?;
            view.preferred = found.as_ref().map(|(id, _)| *id);
            Ok(found.map(|(_, name)| name))
        })?;
        self.decide(match preferred {
            Some(name) => Decision::about(DecisionKind::Preferred, &name, "operator"),
            None => Decision::general(DecisionKind::Preferred, "operator: nobody in particular"),
        });
        Ok(())
    }
}

fn find(view: &View, name: &str) -> Result<(UpstreamId, UpstreamName), PoolError> {
    let found = view.members.iter().find(|member| member.node.name().as_str() == name);
    let found = found.map(|member| (member.node.id(), member.node.name().clone()));
    found.ok_or_else(|| PoolError::Unknown(name.to_owned()))
}
