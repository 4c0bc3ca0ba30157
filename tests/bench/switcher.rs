//! What the switcher costs: the real binary in front of scripted nodes, beside nginx and HAProxy in front of the same nodes.
//!
//! Nodes and clients run in this process, on threads of their own; what is measured runs in processes of its own. Clients,
//! nodes and whatever stands between them share the cores, so only differences between two fronts of the same run mean
//! something. Rounds of the fronts follow each other in turn, so that whatever else the machine does hits all alike.

mod bulk;
mod client;
mod front;
mod latency;
mod probes;
mod streams;

use holdfast_tests::beacon_nodes::Nodes;

use front::Front;

/// Nodes behind each front.
const NODES: usize = 3;

/// How much to measure.
pub(crate) struct Plan {
    /// Rounds of each front.
    pub(crate) rounds: u64,
    /// Requests in a round.
    pub(crate) requests: u64,
    /// Requests per second.
    pub(crate) rate: u64,
    /// Length of a state in millions of bytes.
    pub(crate) megabytes: u64,
    /// Event streams open at once.
    pub(crate) streams: usize,
    /// Heads told of to them.
    pub(crate) events: u64,
    /// Nodes that are probed.
    pub(crate) nodes: usize,
    /// How long probing is watched, in seconds.
    pub(crate) seconds: u64,
}

/// Prints everything.
pub(crate) fn measure(plan: &Plan) {
    {
        let nodes = Nodes::start(NODES, plan.megabytes * 1_000_000);
        let fronts = Front::start_all(&nodes);
        println!(
            "{NODES} nodes; {} requests per front and figure in {} rounds, {} a second",
            plan.rounds * plan.requests,
            plan.rounds,
            plan.rate
        );
        latency::measure(plan, &nodes, &fronts);
        bulk::measure(plan, &nodes, &fronts);
        streams::measure(plan, &nodes, &fronts);
        for front in fronts {
            front.stop();
        }
    }
    probes::measure(plan);
}
