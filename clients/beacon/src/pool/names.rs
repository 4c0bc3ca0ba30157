//! Names whose addresses are nodes of their own: a headless service, a round-robin DNS entry.
//!
//! What it guarantees: a new address becomes a node within one interval; an address is only taken out after
//! several look-ups that answered and did not have it, because a resolver may give a part of the list, or fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::sync::watch;

use super::Pool;
use super::state::{Arrival, Name};
use crate::error::{PoolError, UpstreamConfigError};
use crate::upstream::{UpstreamConfig, UpstreamId, UpstreamName};

/// Look-ups in a row without an address before its node is taken out.
const MISSED_LOOKUPS: u32 = 3;
/// Nodes behind one name at most; more is a mistake, and each is probed every second.
const MOST_ADDRESSES: usize = 64;

impl Pool {
    pub(super) fn insert_name(&self, config: UpstreamConfig) -> Result<(), PoolError> {
        let name = config.name.clone();
        let refuse = |source| PoolError::Upstream { name: name.clone(), source };
        // What would fail for every address is refused at once.
        config.fixed_headers().map_err(refuse)?;
        let mut state = self.lock();
        if state.names.contains_key(&name) || state.members.values().any(|member| *member.upstream.name() == name) {
            return Err(refuse(UpstreamConfigError::Duplicate(name.clone())));
        }
        let stop = watch::Sender::new(false);
        state.order.push(name.clone());
        state.names.insert(name.clone(), Name { config, found: BTreeMap::new(), looked_up: false, stop });
        Ok(())
    }

    pub(crate) fn names(&self) -> Vec<UpstreamName> {
        self.lock().names.keys().cloned().collect()
    }

    pub(crate) fn name_stop(&self, name: &UpstreamName) -> Option<watch::Receiver<bool>> {
        Some(self.lock().names.get(name)?.stop.subscribe())
    }

    /// Removes a name and its nodes.
    pub(super) fn remove_name(&self, name: &UpstreamName, reason: &str) {
        let mut state = self.lock();
        let Some(removed) = state.names.remove(name) else { return };
        state.order.retain(|other| other != name);
        drop(state);
        removed.stop.send_replace(true);
        for (id, _) in removed.found.into_values() {
            self.take_out(id, reason);
        }
    }

    /// Looks a name up and returns the nodes that are new.
    pub(crate) async fn look_up(&self, name: &UpstreamName) -> Vec<UpstreamId> {
        let Some(target) =
            self.lock().names.get(name).map(|name| (name.config.url.host().to_owned(), name.config.url.port()))
        else {
            return Vec::new();
        };
        let found = tokio::net::lookup_host(target).await;
        let new = match found {
            Ok(addresses) => self.reconcile(name, &addresses.take(MOST_ADDRESSES).collect()),
            Err(error) => {
                tracing::warn!(upstream = %name, %error, "the name of this upstream cannot be looked up; its known addresses stay");
                Vec::new()
            }
        };
        if let Some(name) = self.lock().names.get_mut(name) {
            name.looked_up = true;
        }
        self.vote_if_heard();
        new
    }

    /// Brings the nodes in line with what was found.
    pub(super) fn reconcile(&self, name: &UpstreamName, addresses: &BTreeSet<SocketAddr>) -> Vec<UpstreamId> {
        let (config, first, gone) = {
            let mut state = self.lock();
            let Some(entry) = state.names.get_mut(name) else { return Vec::new() };
            for (address, (_, missed)) in &mut entry.found {
                *missed = if addresses.contains(address) { 0 } else { missed.saturating_add(1) };
            }
            let mut gone = Vec::new();
            entry.found.retain(|_, (id, missed)| {
                let stays = *missed < MISSED_LOOKUPS;
                if !stays {
                    gone.push(*id);
                }
                stays
            });
            (entry.config.clone(), !entry.looked_up, gone)
        };
        for id in gone {
            self.take_out(id, "the name no longer leads to its address");
        }
        let arrival = if first { Arrival::AtStart } else { Arrival::Later };
        let mut new = Vec::new();
        for address in addresses {
            let known = self.lock().names.get(name).is_none_or(|entry| entry.found.contains_key(address));
            if known {
                continue;
            }
            let member = UpstreamConfig { name: name.member(*address), ..config.clone() };
            match self.insert(member, (Some((name, *address)), arrival)) {
                Ok(id) => {
                    if let Some(entry) = self.lock().names.get_mut(name) {
                        entry.found.insert(*address, (id, 0));
                    }
                    new.push(id);
                }
                Err(error) => tracing::warn!(upstream = %name, %address, %error, "this address cannot be used"),
            }
        }
        self.update(|_| ());
        new
    }
}
