//! Proves: which of two schedules is the longer one, and that only what is still to come is taken over.

use super::*;
use crate::health::compare;
use crate::network::tests::{facts, row, with};

const NEVER: &str = "18446744073709551615";

/// The sample network before its fork at 500 was known.
fn outdated() -> NodeNetwork {
    let mut network = facts();
    with(&mut network, "GLOAS_FORK_EPOCH", NEVER);
    network.forks.pop();
    network
}

fn blobs(network: &mut NodeNetwork, epochs: &[u64]) {
    let rows: Vec<String> =
        epochs.iter().map(|epoch| format!(r#"{{"EPOCH":"{epoch}","MAX_BLOBS_PER_BLOCK":"9"}}"#)).collect();
    with(network, "BLOB_SCHEDULE", &format!("[{}]", rows.join(",")));
}

#[test]
fn more_forks_reach_further_then_the_earlier_one() {
    let reach = |network: &NodeNetwork, after| Reach::of(network, Epoch(after));
    assert_eq!(reach(&facts(), 10), Reach { known: 1, first: Reverse(500) });
    assert_eq!(reach(&facts(), 0).known, 2, "the row of a fork counts once");
    assert_eq!(reach(&facts(), 500), Reach { known: 0, first: Reverse(u64::MAX) });
    assert!(reach(&outdated(), 10) < reach(&facts(), 10));
    let mut later = outdated();
    with(&mut later, "GLOAS_FORK_EPOCH", "600");
    assert!(reach(&outdated(), 10) < reach(&later, 10) && reach(&later, 10) < reach(&facts(), 10));
    let mut limits = facts();
    blobs(&mut limits, &[5, 300]);
    assert_eq!(reach(&limits, 10), Reach { known: 2, first: Reverse(300) });
}

#[test]
fn what_is_to_come_is_taken_over_and_what_is_settled_stays() {
    let mut node = facts();
    blobs(&mut node, &[400]);
    with(&mut node, "ATTESTATION_DUE_BPS_GLOAS", "3000");
    with(&mut node, "FULU_FORK_VERSION", "0x99000000");
    with(&mut node, "PRESET_BASE", "minimal");
    with(&mut node, "MIN_SEED_LOOKAHEAD", "1");
    let new = with_schedule_of(&outdated(), &node, Epoch(10));
    let value = |key| new.spec.get(key);
    assert_eq!(value("GLOAS_FORK_EPOCH"), Some("500"));
    assert_eq!(value("ATTESTATION_DUE_BPS_GLOAS"), Some("3000"));
    assert!(value("BLOB_SCHEDULE").is_some());
    assert_eq!((value("FULU_FORK_VERSION"), value("PRESET_BASE")), (Some("0x02000000"), Some("mainnet")));
    assert_eq!(value("MIN_SEED_LOOKAHEAD"), None, "no constant is added");
    assert_eq!(new.forks, [row(0, 1), row(5, 2), row(500, 3)]);
}

#[test]
fn a_schedule_that_is_taken_over_is_the_one_that_is_told() {
    let mut without_keys = facts();
    let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    without_keys.spec = without_keys.spec.iter().filter(|(key, _)| !key.starts_with("GLOAS")).map(own).collect();
    without_keys.forks.pop();
    let mut without_rows = facts();
    without_rows.forks.clear();
    let mut limited = facts();
    blobs(&mut limited, &[5, 300]);
    let all = [facts(), outdated(), without_keys, without_rows, limited];
    for network in &all {
        for node in &all {
            let new = with_schedule_of(network, node, Epoch(10));
            let left = compare(&new, node);
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn whoever_leaves_a_part_out_is_known() {
    let mut whole = facts();
    assert!(is_partial(&whole), "no limits of blobs");
    blobs(&mut whole, &[5]);
    assert!(!is_partial(&whole));
    whole.forks.clear();
    assert!(is_partial(&whole));
}
