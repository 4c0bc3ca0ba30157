//! What an operator can do to a running pool.

use std::net::SocketAddr;
use std::sync::Arc;

use super::state::{Arrival, Member};
use super::{Change, ChangeKind, Pool};
use crate::decision::{Decision, DecisionKind};
use crate::error::{PoolError, UpstreamConfigError};
use crate::health::Admission;
use crate::upstream::{Resolve, Upstream, UpstreamConfig, UpstreamId, UpstreamName};

impl Pool {
    /// Takes in one more upstream; it is probed at once and used when it has proved itself.
    ///
    /// # Errors
    /// [`PoolError::Upstream`] if it cannot be used as configured or its name is taken.
    pub fn add(self: &Arc<Self>, config: UpstreamConfig) -> Result<(), PoolError> {
        self.add_for(config, "operator")
    }

    pub(super) fn add_for(self: &Arc<Self>, config: UpstreamConfig, reason: &str) -> Result<(), PoolError> {
        let name = config.name.clone();
        let node = self.take_in(config, Arrival::Later)?;
        self.record_decision(Decision::about(DecisionKind::Added, &name, reason));
        self.update(|_| ());
        match node {
            Some(id) => crate::probe::start_one(self, id),
            None => crate::probe::start_name(self, &name),
        }
        Ok(())
    }

    /// One node, or a name whose addresses are nodes; `None` for the latter.
    pub(super) fn take_in(&self, config: UpstreamConfig, arrival: Arrival) -> Result<Option<UpstreamId>, PoolError> {
        match config.resolve {
            Resolve::AsOne => self.insert(config, (None, arrival)).map(Some),
            Resolve::EachAddress => self.insert_name(config).map(|()| None),
        }
    }

    pub(super) fn insert(
        &self,
        config: UpstreamConfig,
        (of_name, arrival): (Option<(&UpstreamName, SocketAddr)>, Arrival),
    ) -> Result<UpstreamId, PoolError> {
        let name = config.name.clone();
        let address = of_name.map(|(_, address)| address);
        let refuse = |source| PoolError::Upstream { name: name.clone(), source };
        let mut state = self.lock();
        if state.names.contains_key(&name) || state.members.values().any(|member| *member.upstream.name() == name) {
            return Err(refuse(UpstreamConfigError::Duplicate(name.clone())));
        }
        let id = UpstreamId(u16::try_from(state.added).map_err(|_| refuse(UpstreamConfigError::Exhausted))?);
        let metrics = self.environment.metrics.upstream(&name);
        let upstream = Upstream::new(id, config, address, Arc::clone(&self.signal), metrics).map_err(refuse)?;
        state.added = state.added.saturating_add(1);
        let entry = of_name.map_or_else(|| name.clone(), |(entry, _)| entry.clone());
        if of_name.is_none() {
            state.order.push(name);
        }
        state.members.insert(id, Member::new(upstream, entry, arrival, self.config.hysteresis));
        Ok(id)
    }

    /// Takes an upstream out. Calls in progress end by themselves.
    ///
    /// # Errors
    /// [`PoolError::Unknown`], or [`PoolError::Last`] for the last one.
    pub fn remove(&self, name: &str) -> Result<(), PoolError> {
        self.remove_for(name, "operator")
    }

    pub(super) fn remove_for(&self, name: &str, reason: &str) -> Result<(), PoolError> {
        let (entries, known) = {
            let state = self.lock();
            (state.entries(), state.names.keys().find(|key| key.as_str() == name).cloned())
        };
        match known {
            Some(name) if entries == 1 => Err(PoolError::Last(name)),
            Some(name) => {
                self.remove_name(&name, reason);
                Ok(())
            }
            None => {
                let (id, name) = self.find(name)?;
                if entries == 1 {
                    return Err(PoolError::Last(name));
                }
                self.take_out(id, reason);
                Ok(())
            }
        }
    }

    pub(super) fn take_out(&self, id: UpstreamId, reason: &str) {
        let removed = self.update(|state| {
            let member = state.members.remove(&id)?;
            if state.preferred == Some(id) {
                state.preferred = None;
            }
            member.stop.send_replace(true);
            // Of a name the other addresses stay, and its place.
            if !state.names.contains_key(&member.entry) {
                state.order.retain(|name| *name != member.entry);
            }
            Some(member.upstream.name().clone())
        });
        let Some(name) = removed else { return };
        self.environment.metrics.forget(&name);
        let _ = self.changes.send(Change { upstream: id, kind: ChangeKind::Left });
        self.record_decision(Decision::about(DecisionKind::Removed, &name, reason));
    }

    /// Asks an upstream nothing new; what is in progress ends by itself.
    ///
    /// # Errors
    /// [`PoolError::Unknown`].
    pub fn drain(&self, name: &str) -> Result<(), PoolError> {
        self.admit(name, Admission::Drained, DecisionKind::Drained)
    }

    /// Uses a drained upstream again. What it missed is replayed to it first.
    ///
    /// # Errors
    /// [`PoolError::Unknown`].
    pub fn undrain(&self, name: &str) -> Result<(), PoolError> {
        self.admit(name, Admission::Serving, DecisionKind::Undrained)
    }

    fn admit(&self, name: &str, admission: Admission, kind: DecisionKind) -> Result<(), PoolError> {
        let (id, _) = self.find(name)?;
        let epoch = self.epoch().unwrap_or(holdfast_domain::Epoch(0));
        let wait = self.config.replay;
        let changed = self.update(|state| {
            let member = state.members.get_mut(&id)?;
            if member.admission == admission {
                return None;
            }
            member.admission = admission;
            if admission == Admission::Serving {
                member.hysteresis.joined(epoch);
                if wait == super::ReplayGate::Open {
                    member.hysteresis.replayed();
                }
            }
            Some(member.upstream.name().clone())
        });
        if let Some(name) = changed {
            if admission == Admission::Serving {
                let _ = self.changes.send(Change { upstream: id, kind: ChangeKind::Rejoined });
            }
            self.record_decision(Decision::about(kind, &name, "operator"));
        }
        Ok(())
    }

    /// Puts an upstream first among equally healthy ones; `None` takes that back.
    ///
    /// # Errors
    /// [`PoolError::Unknown`].
    pub fn prefer(&self, name: Option<&str>) -> Result<(), PoolError> {
        let found = name.map(|name| self.find(name)).transpose()?;
        self.update(|state| state.preferred = found.as_ref().map(|(id, _)| *id));
        let decision = match found {
            Some((_, name)) => Decision::about(DecisionKind::Preferred, &name, "operator"),
            None => Decision::general(DecisionKind::Preferred, "operator: nobody in particular"),
        };
        self.record_decision(decision);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<(UpstreamId, UpstreamName), PoolError> {
        let state = self.lock();
        let found = state.members.values().find(|member| member.upstream.name().as_str() == name);
        let found = found.map(|member| (member.upstream.id(), member.upstream.name().clone()));
        found.ok_or_else(|| PoolError::Unknown(name.to_owned()))
    }
}
