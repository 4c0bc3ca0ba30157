//! Three real Lodestar nodes behind the switcher, one real Lodestar validator client on the switcher's address that
//! signs through the same Holdfast: nodes are killed, hang, restart empty, and one of another chain joins.
//!
//! Proves: while one healthy node remains the client notices nothing. `cargo run -p holdfast-tests --bin failover`
//! shows the same beside the client's own list of nodes and nginx.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test: what is wrong must stop it")]

use holdfast_tests::failover::{Chain, Fault, Front, run, table};

#[test]
fn a_client_behind_the_switcher_notices_no_fault_of_the_nodes() {
    let mut folder = tempfile::tempdir().expect("a temporary folder");
    // Kept after a failure: the logs of all processes are in it.
    folder.disable_cleanup(true);
    eprintln!("runs in {}", folder.path().display());
    let report = run(folder.path(), Front::Switcher);
    eprintln!("{}", table(std::slice::from_ref(&report)));
    for noticed in &report.noticed {
        let fault = noticed.fault.as_str();
        assert!(noticed.errors.is_empty(), "{fault}: the client's log has {:#?}", noticed.errors);
        assert_eq!(noticed.chain, Chain::WentOn, "{fault}");
        let (published, due) = noticed.attestations;
        assert_eq!(published, due, "{fault}: votes over {} slots", noticed.slots);
    }
    assert_eq!(report.noticed.len(), Fault::ALL.len(), "every fault was played");
    assert_eq!(report.double_votes, 0, "nothing slashable is on the chain");
    assert!(report.log.contains("rejoined"), "the switcher saw no node come back:\n{}", report.log);
    folder.disable_cleanup(false);
}
