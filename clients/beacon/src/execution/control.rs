//! What an operator can do to a running pool.

use std::sync::Arc;

use super::ExecutionNodeConfig;
use super::node::Node;
use super::pool::{Admission, ExecutionPool, Member, Standing, View};
use crate::decision::{Decision, DecisionKind};
use crate::error::{PoolError, UpstreamConfigError};
use crate::upstream::{UpstreamId, UpstreamName};

impl ExecutionPool {
    /// Takes in one more node; it is asked how it is at once, and used if it is fit.
    ///
    /// # Errors
    /// [`PoolError::Upstream`] if it cannot be used as configured or its name is taken.
    pub fn add(&self, config: ExecutionNodeConfig) -> Result<(), PoolError> {
        let name = self.insert(config)?;
        self.decide(Decision::about(DecisionKind::Added, &name, "operator"));
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
        let (id, name) = self.update(|view| -> Result<_, PoolError> {
            let (id, name) = find(view, name)?;
            if view.members.len() == 1 {
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
        self.decide(Decision::about(DecisionKind::Removed, &name, "operator"));
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
