//! The switcher in the real binary: real nodes and a real validator client in front of failing nodes, and the
//! switcher by itself with live control.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test: a broken assumption must stop it with a message"
)]

mod alone;

use holdfast_tests::failover::{Fault, Front, run, table};

/// Zero failed duties while one healthy node remains: nodes are killed, hang, come back empty, a node of another
/// chain joins, and two of three go down, while a real client has one address.
#[test]
fn a_validator_client_notices_nothing_of_failing_nodes() {
    let mut folder = tempfile::tempdir().expect("a temporary folder");
    // Kept after a failure: the logs of all processes are in it.
    folder.disable_cleanup(true);
    eprintln!("runs in {}", folder.path().display());
    let report = run(folder.path(), Front::Switcher);
    println!("{}", table(std::slice::from_ref(&report)));
    for fault in Fault::ALL {
        let errors = report.errors(fault);
        assert!(errors.is_empty(), "{}: the client's log has {errors:#?}", fault.as_str());
    }
    assert_eq!(report.double_votes, 0);
    folder.disable_cleanup(false);
}
