//! What it costs to watch nodes: probes each second, heads by event stream, everything a switcher does without clients.

use std::time::{Duration, Instant};

use holdfast_tests::beacon_nodes::Nodes;

use super::Plan;
use super::front::Front;

/// The most of a core that the nodes may cost, in percent.
const TARGET: f64 = 2.0;

/// After the start, until only probing goes on.
const SETTLE: Duration = Duration::from_secs(2);

/// Prints the share of a core that one node and all nodes cost.
pub(super) fn measure(plan: &Plan) {
    let (one, _) = watch(1, plan.seconds);
    let (all, requests) = watch(plan.nodes, plan.seconds);
    println!(
        "{:<28} {:<9} {} nodes, {:.1} requests a second to each: {all:.2} % of a core (target {TARGET} %); one node {one:.2} %, so {:.3} % for each further one",
        "probing",
        "switcher",
        plan.nodes,
        requests / plan.nodes as f64,
        (all - one) / (plan.nodes - 1) as f64
    );
}

/// The switcher's share of a core in percent, and the requests per second to all nodes.
fn watch(count: usize, seconds: u64) -> (f64, f64) {
    let nodes = Nodes::start(count, 0);
    let switcher = Front::switcher(&nodes);
    std::thread::sleep(SETTLE);
    let total = || nodes.requests().iter().sum::<u64>();
    let (began, requests, before) = (Instant::now(), total(), switcher.cpu());
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu = switcher.cpu().saturating_sub(before);
    let elapsed = began.elapsed().as_secs_f64();
    let requests = (total() - requests) as f64 / elapsed;
    switcher.stop();
    (100.0 * cpu.as_secs_f64() / elapsed, requests)
}
