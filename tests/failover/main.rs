//! Compares what a validator client notices of failing beacon nodes behind the switcher, with its own list of nodes,
//! and behind nginx. Real Lodestar processes; about twelve minutes. Needs what the end-to-end tests need, and nginx.
//!
//!     cargo run --release -p holdfast-tests --bin failover

use holdfast_tests::failover::{Front, run, table};

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let reports: Vec<_> = [Front::Switcher, Front::OwnList, Front::Nginx]
        .into_iter()
        .map(|front| run(&folder.path().join(front.as_str().replace(' ', "-")), front))
        .collect();
    println!("{}", table(&reports));
    for report in &reports {
        for noticed in &report.noticed {
            for error in &noticed.errors {
                println!("{}, {}: {error}", report.front.as_str(), noticed.fault.as_str());
            }
        }
    }
}
