//! Proves: what makes a node incompatible, what only warns, when the warning becomes a gate, and that each
//! difference is named.

use super::*;
use crate::network::tests::{facts, row, with};

fn verdict(change: impl FnOnce(&mut NodeNetwork), now: u64) -> Verdict {
    let pinned = facts();
    let mut node = facts();
    change(&mut node);
    judged(compare(&pinned, &node), gate(now, Others::There))
}

/// Every fork up to `now` is settled.
fn gate(now: u64, others: Others) -> Gate {
    Gate { settled: Epoch(now), now: Epoch(now), others }
}

fn judged(differences: Vec<Difference>, gate: Gate) -> Verdict {
    Verdict { compatibility: judge(&differences, gate), differences }
}

fn named(verdict: &Verdict) -> Vec<&str> {
    verdict.differences.iter().map(|difference| difference.what.as_str()).collect()
}

#[test]
fn the_same_network_is_compatible_whatever_extras_a_client_lists() {
    assert_eq!(verdict(|_| (), 10), Verdict { compatibility: Compatibility::Compatible, differences: Vec::new() });
    let extra = verdict(
        |node| {
            with(node, "CLIENT_SPECIFIC", "1");
            with(node, "DOMAIN_RANDAO", "0x02000000");
            with(node, "SLOT_DURATION_MS", "12000");
        },
        10,
    );
    assert_eq!(extra.compatibility, Compatibility::Compatible, "{:?}", extra.differences);
    let without = verdict(|node| node.forks.clear(), 10);
    assert_eq!(without.compatibility, Compatibility::Compatible);
}

/// What is changed, and how.
type Change = (&'static str, fn(&mut NodeNetwork));

#[test]
fn genesis_and_constants_are_hard() {
    let other =
        verdict(|node| node.genesis.genesis_validators_root = holdfast_domain::GenesisValidatorsRoot([9; 32]), 10);
    assert_eq!((other.compatibility, named(&other)), (Compatibility::Incompatible, vec!["genesis_validators_root"]));
    assert!(other.differences[0].to_string().contains("0x0909"), "{}", other.differences[0]);
    let changes: [Change; 5] = [
        ("genesis_time", |node| node.genesis.genesis_time_seconds += 1),
        ("genesis_fork_version", |node| node.genesis.genesis_fork_version = holdfast_domain::ForkVersion([9; 4])),
        ("SLOTS_PER_EPOCH", |node| with(node, "SLOTS_PER_EPOCH", "8")),
        ("DOMAIN_BEACON_ATTESTER", |node| with(node, "DOMAIN_BEACON_ATTESTER", "0x09000000")),
        ("SLOT_DURATION_MS", |node| with(node, "SECONDS_PER_SLOT", "6")),
    ];
    for (what, change) in changes {
        let verdict = verdict(change, 10);
        assert_eq!((verdict.compatibility, named(&verdict)), (Compatibility::Incompatible, vec![what]));
    }
}

#[test]
fn a_future_fork_warns_and_gates_one_epoch_before() {
    // The pinned network forks at 500; this node is too old to know, or dates it differently.
    let changes: [fn(&mut NodeNetwork); 3] = [
        |node| {
            node.spec = node.spec.iter().filter(|(key, _)| !key.starts_with("GLOAS")).map(own).collect();
            node.forks.pop();
        },
        |node| with(node, "GLOAS_FORK_EPOCH", "18446744073709551615"),
        |node| with(node, "GLOAS_FORK_VERSION", "0x99000000"),
    ];
    for change in changes {
        for (now, expected) in [
            (10, Compatibility::FutureFork),
            (498, Compatibility::FutureFork),
            (499, Compatibility::Incompatible),
            (600, Compatibility::Incompatible),
        ] {
            let verdict = verdict(change, now);
            assert_eq!(verdict.compatibility, expected, "epoch {now}: {:?}", verdict.differences);
            assert!(verdict.differences.iter().all(|difference| difference.from == Some(Epoch(500))));
        }
    }
    let earlier = verdict(|node| with(node, "GLOAS_FORK_EPOCH", "20"), 10);
    assert_eq!(earlier.compatibility, Compatibility::FutureFork);
    assert_eq!(earlier.differences[0].from, Some(Epoch(20)));
}

#[test]
fn nobody_is_put_out_for_a_fork_that_nobody_else_could_follow() {
    let (pinned, mut node) = (facts(), facts());
    with(&mut node, "GLOAS_FORK_EPOCH", "18446744073709551615");
    let differences = compare(&pinned, &node);
    let at = |settled, now, others| judge(&differences, Gate { settled: Epoch(settled), now: Epoch(now), others });
    assert_eq!(at(498, 499, Others::There), Compatibility::Incompatible);
    assert_eq!(at(498, 499, Others::Nobody), Compatibility::FutureFork);
    assert_eq!(at(498, 510, Others::Nobody), Compatibility::FutureFork, "nobody was seen on the fork");
    assert_eq!(at(500, 510, Others::Nobody), Compatibility::Incompatible, "somebody was");
    assert!(agrees_for_now(&differences, Epoch(498)) && !agrees_for_now(&differences, Epoch(499)));
    assert!(agrees_until(&differences, Epoch(499)) && !agrees_until(&differences, Epoch(500)));
    let mut foreign = facts();
    foreign.genesis.genesis_time_seconds += 1;
    assert_eq!(judge(&compare(&pinned, &foreign), gate(0, Others::Nobody)), Compatibility::Incompatible);
}

fn own((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn a_past_fork_is_hard_and_an_unscheduled_one_says_nothing() {
    let past = verdict(|node| with(node, "FULU_FORK_EPOCH", "6"), 10);
    assert_eq!((past.compatibility, named(&past)), (Compatibility::Incompatible, vec!["FULU_FORK_EPOCH"]));
    let listed_otherwise = verdict(
        |node| node.spec = node.spec.iter().filter(|(key, _)| *key != "FULU_FORK_EPOCH").map(own).collect(),
        10,
    );
    assert_eq!(listed_otherwise.compatibility, Compatibility::Compatible, "its schedule has the row");
    let unscheduled = verdict(
        |node| {
            with(node, "EIP9999_FORK_EPOCH", "18446744073709551615");
            with(node, "EIP9999_FORK_VERSION", "0x99000000");
        },
        10,
    );
    assert_eq!(unscheduled.compatibility, Compatibility::Compatible);
}

#[test]
fn schedules_are_compared_by_the_version_in_force() {
    let collapsed = verdict(|node| node.forks = vec![row(5, 2), row(500, 3)], 10);
    assert_eq!(collapsed.compatibility, Compatibility::Incompatible, "no version before epoch 5");
    let merged = verdict(|node| node.forks.insert(0, row(0, 9)), 10);
    assert_eq!(merged.compatibility, Compatibility::Compatible, "of two rows at epoch 0 the later counts");
    let other = verdict(|node| node.forks[2] = row(500, 77), 10);
    assert_eq!(
        (other.compatibility, named(&other)),
        (Compatibility::FutureFork, vec!["fork version in fork_schedule"])
    );
}

#[test]
fn blob_schedules_are_compared_by_epoch() {
    let schedule = |first: u64, second: u64| {
        format!(r#"[{{"EPOCH":"5","MAX_BLOBS_PER_BLOCK":"{first}"}},{{"EPOCH":700,"MAX_BLOBS_PER_BLOCK":{second}}}]"#)
    };
    let compare_blobs = |first, second| {
        let (mut pinned, mut node) = (facts(), facts());
        with(&mut pinned, "BLOB_SCHEDULE", &schedule(9, 12));
        with(&mut node, "BLOB_SCHEDULE", &schedule(first, second));
        judged(compare(&pinned, &node), gate(10, Others::There)).compatibility
    };
    assert_eq!(compare_blobs(9, 12), Compatibility::Compatible);
    assert_eq!(compare_blobs(9, 15), Compatibility::FutureFork);
    assert_eq!(compare_blobs(8, 12), Compatibility::Incompatible);
}

#[test]
fn hostile_texts_are_shortened() {
    let verdict = verdict(|node| with(node, "PRESET_BASE", &format!("\u{1b}[2J{}", "x".repeat(10_000))), 10);
    let text = verdict.differences[0].to_string();
    assert!(text.len() < 300 && !text.contains('\u{1b}'), "{text}");
}
