//! What it costs to watch nodes: probes each second, heads by event stream, everything a switcher does without clients.

use std::time::{Duration, Instant};

use holdfast_tests::beacon_nodes::Nodes;

use super::Plan;
use super::front::Front;

/// The most of a core that the nodes may cost, in percent.
const TARGET: f64 = 2.0;

/// After the start, until only probing goes on.
const SETTLE: Duration = Duration::from_secs(2);

/// Prints the share of a core that one node and all nodes cost, both watched at once.
pub(super) fn measure(plan: &Plan) {
    let (one, all) = (Watched::start(1), Watched::start(plan.nodes));
    std::thread::sleep(SETTLE);
    let (before, began) = ((one.cpu(), all.cpu(), all.requests()), Instant::now());
    std::thread::sleep(Duration::from_secs(plan.seconds));
    let (after, elapsed) = ((one.cpu(), all.cpu(), all.requests()), began.elapsed().as_secs_f64());
    let (one_share, all_share) = (100.0 * (after.0 - before.0) / elapsed, 100.0 * (after.1 - before.1) / elapsed);
    println!(
        "{:<28} {:<9} {} nodes, {:.1} requests a second to each: {all_share:.2} % of a core (target {TARGET} %); one node {one_share:.2} %, so {:.3} % for each further one",
        "probing",
        "switcher",
        plan.nodes,
        (after.2 - before.2) as f64 / elapsed / plan.nodes as f64,
        (all_share - one_share) / (plan.nodes - 1) as f64
    );
    one.switcher.stop();
    all.switcher.stop();
}

/// A switcher and its nodes.
struct Watched {
    nodes: Nodes,
    switcher: Front,
}

impl Watched {
    fn start(count: usize) -> Self {
        let nodes = Nodes::start(count, 0);
        let switcher = Front::switcher(&nodes);
        Self { nodes, switcher }
    }

    /// Seconds of CPU so far.
    fn cpu(&self) -> f64 {
        self.switcher.cpu().as_secs_f64()
    }

    fn requests(&self) -> u64 {
        self.nodes.requests().iter().sum()
    }
}
