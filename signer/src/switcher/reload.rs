//! Another list of nodes for a running switcher, from a changed configuration.
//!
//! What it guarantees: the list is checked as at a start before anything changes; only what the configuration changes is
//! changed, so nodes that were added, removed or drained by hand stay so unless it is about them.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use holdfast_beacon::execution::ExecutionNodeConfig;
use holdfast_beacon::{Lineup, PoolError, UpstreamConfig, UpstreamConfigError, UpstreamName};

use super::{Running, SwitcherError, consensus, execution};
use crate::config::Config;
use crate::outcome::chain;

/// The nodes of a configuration, read and checked: files with credentials and authorities, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nodes {
    consensus: Vec<UpstreamConfig>,
    execution: Vec<ExecutionNodeConfig>,
}

impl Nodes {
    /// Reads files that nodes name; execution clients only where there is a pool of them. Blocks.
    ///
    /// # Errors
    /// [`SwitcherError`], which names the node.
    pub(crate) fn read(config: &Config, with_execution: bool) -> Result<Self, SwitcherError> {
        let consensus: Vec<_> = config.consensus_nodes().iter().map(consensus).collect::<Result<_, _>>()?;
        let of_pool = config.execution.upstream.iter().filter(|_| with_execution);
        let execution: Vec<_> = of_pool.map(execution).collect::<Result<_, _>>()?;
        check(&consensus, |node| &node.name, UpstreamConfig::check).map_err(SwitcherError::Nodes)?;
        check(&execution, |node| &node.upstream.name, ExecutionNodeConfig::check).map_err(SwitcherError::Nodes)?;
        Ok(Self { consensus, execution })
    }

    /// Nodes that are new here, or configured in another way.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<String> {
        let consensus = lineup(&before.consensus, &self.consensus, |node| &node.name).set;
        let execution = lineup(&before.execution, &self.execution, |node| &node.upstream.name).set;
        let consensus = consensus.into_iter().map(|node| node.name);
        consensus.chain(execution.into_iter().map(|node| node.upstream.name)).map(|name| name.to_string()).collect()
    }
}

/// What a pool would refuse.
fn check<C>(
    nodes: &[C],
    name: impl Fn(&C) -> &UpstreamName,
    check: impl Fn(&C) -> Result<(), UpstreamConfigError>,
) -> Result<(), PoolError> {
    let mut names = BTreeSet::new();
    for node in nodes {
        let name = name(node);
        let refuse = |source| PoolError::Upstream { name: name.clone(), source };
        check(node).map_err(refuse)?;
        if !names.insert(name) {
            return Err(refuse(UpstreamConfigError::Duplicate(name.clone())));
        }
    }
    Ok(())
}

fn lineup<C: Clone + PartialEq>(before: &[C], after: &[C], name: impl Fn(&C) -> &UpstreamName) -> Lineup<C> {
    let names = |nodes: &[C]| -> Vec<UpstreamName> { nodes.iter().map(|node| name(node).clone()).collect() };
    let order = names(after);
    Lineup {
        set: after.iter().filter(|node| !before.contains(node)).cloned().collect(),
        removed: names(before).into_iter().filter(|name| !order.contains(name)).collect(),
        order,
    }
}

impl Running {
    /// The nodes as the configuration in force has them.
    pub(crate) fn configured(&self) -> Nodes {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes nodes in, changes and removes them, and puts them in order. Nodes that stay keep their connections, health and
    /// streams; requests in progress are finished. Returns what could not be done. Must be called inside the runtime.
    pub(crate) fn reconfigure(&self, nodes: Nodes) -> Vec<String> {
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *configured, nodes);
        let after = &*configured;
        let mut failures = Vec::new();
        // An order that is the same says nothing about nodes that came by hand.
        if before.consensus != after.consensus {
            failures = self.pool.reconfigure(lineup(&before.consensus, &after.consensus, |node| &node.name));
        }
        if let Some(pool) = self.execution().filter(|_| before.execution != after.execution) {
            failures.extend(pool.reconfigure(lineup(&before.execution, &after.execution, |node| &node.upstream.name)));
        }
        failures.iter().map(|error| chain(error)).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what changes between two lists, and that what a pool would refuse is found before.
    use super::*;

    fn nodes(text: &str) -> Result<Nodes, SwitcherError> {
        Nodes::read(&Config { switcher: toml::from_str(text).unwrap(), ..Config::default() }, true)
    }

    #[test]
    fn only_what_differs_is_changed() {
        let before = nodes("upstream = [\"http://a:1\", \"http://b:2\", \"http://u:old@c:3\"]").unwrap();
        let after = nodes("upstream = [\"http://u:new@c:3\", \"http://d:4\", \"http://a:1\"]").unwrap();
        assert_eq!(after.changed_since(&before), ["c:3", "d:4"]);
        assert_eq!(after.changed_since(&after), Vec::<String>::new());
        let Lineup { set, removed, order } = lineup(&before.consensus, &after.consensus, |node| &node.name);
        let names = |names: &[UpstreamName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!((set.len(), names(&removed)), (2, vec!["b:2".to_owned()]));
        assert_eq!(names(&order), ["c:3", "d:4", "a:1"]);
    }

    #[test]
    fn what_a_pool_would_refuse_is_found_before() {
        let same_name = nodes("upstream = [\"http://a:1/x\", \"http://a:1/y\"]").unwrap_err();
        assert!(chain(&same_name).contains("a:1"), "{same_name:?}");
        let header = "[[upstream]]\nurl = \"http://u:hunter2@a:1\"\nheaders = { \"no header\" = \"hunter2\" }\n";
        let header = chain(&nodes(header).unwrap_err());
        assert!(header.contains("a:1") && !header.contains("hunter2"), "{header}");
    }
}
