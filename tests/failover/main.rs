//! Compares what a validator client notices of failing beacon nodes behind the switcher, with its own list of nodes,
//! and behind nginx. Real Lodestar processes; about twelve minutes. Needs what the end-to-end tests need, and nginx.
//!
//!     cargo run --release -p holdfast-tests --bin failover
//!
//! With `-- switcher`, `-- nginx` or `-- "own list"` the other two are left out; only nginx needs nginx.
//!
//! Ends with 1 if the client behind the switcher noticed anything: the aim is no failed duty while one node is healthy.

use std::process::ExitCode;

use holdfast_tests::failover::{Front, Report, run, table};

/// At once: the next front takes minutes.
fn show(report: &Report) {
    println!("{}", table(std::slice::from_ref(report)));
}

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let only = std::env::args().nth(1);
    let wanted = |front: &Front| only.as_ref().is_none_or(|word| word == front.as_str());
    let fronts = [Front::Switcher, Front::OwnList, Front::Nginx].into_iter().filter(wanted);
    let reports: Vec<_> =
        fronts.map(|front| run(&folder.path().join(front.as_str().replace(' ', "-")), front)).inspect(show).collect();
    println!("{}", table(&reports));
    for report in &reports {
        for noticed in &report.noticed {
            for error in &noticed.errors {
                println!("{}, {}: {error}", report.front.as_str(), noticed.fault.as_str());
            }
        }
    }
    let noticed = reports
        .iter()
        .filter(|report| report.front == Front::Switcher)
        .any(|report| report.double_votes > 0 || report.noticed.iter().any(|noticed| !noticed.errors.is_empty()));
    if noticed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
