//! Proved here: over all combinations of small numbers, the vault and the database judge alike, for the same reason
//! and with the same marks after; and nothing conflicts across a fence.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use core::num::NonZeroU64;

use holdfast_slashing_db::rules::{self, Horizon, Verdict};
use holdfast_slashing_db::{AttestationMark, BlockMark};

use super::*;
use crate::support::{attestation, root};

/// Two different roots; the rules never look at what is behind them.
fn content(which: u8) -> SigningRoot {
    root(&attestation(u64::from(which)))
}

/// The marks in the database's words.
fn stored(marks: Marks) -> rules::Watermarks {
    rules::Watermarks {
        block: marks.block.map(|block| BlockMark { slot: block.slot, root: block.root }),
        attestation: marks.vote.map(|vote| AttestationMark {
            source: vote.source,
            target: vote.target,
            root: vote.root,
        }),
    }
}

fn edges() -> Vec<(Edge, Horizon)> {
    let mut all = vec![(Edge(None), Horizon::BeforeGenesis)];
    for (slot, epoch) in [(0, 0), (2, 0), (3, 1), (4, 2), (5, 3), (900, 900)] {
        let (slot, epoch) = (Slot(slot), Epoch(epoch));
        all.push((Edge(Some((slot, epoch))), Horizon::At { slot, epoch }));
    }
    all
}

const NUMBERS: u64 = 5;

fn all_marks() -> Vec<Marks> {
    let roots = || [None, Some(content(1).into()), Some(content(2).into())];
    let mut blocks = vec![None];
    let mut votes = vec![None];
    for one in 0..NUMBERS {
        blocks.extend(roots().map(|root| Some(Block { slot: Slot(one), root })));
        for two in 0..NUMBERS {
            votes.extend(roots().map(|root| Some(Vote { source: Epoch(one), target: Epoch(two), root })));
        }
    }
    let pairs = blocks.iter().map(|block| (*block, None)).chain(votes.iter().map(|vote| (None, *vote)));
    pairs.chain([(blocks[7], votes[30])]).map(|(block, vote)| Marks { block, vote }).collect()
}

fn all_subjects() -> Vec<Subject> {
    let mut all: Vec<Subject> = (0..=NUMBERS).map(|slot| Subject::Block { slot: Slot(slot) }).collect();
    for source in 0..=NUMBERS {
        for target in 0..=NUMBERS {
            all.push(Subject::Attestation { slot: Slot(0), source: Epoch(source), target: Epoch(target) });
        }
    }
    all
}

#[test]
fn the_vault_judges_as_the_database_does() {
    let mut judged = 0_u64;
    for (edge, horizon) in edges() {
        for marks in all_marks() {
            for subject in all_subjects() {
                for root in [content(1), content(2)] {
                    let ours = marks.judge(&subject, root, edge);
                    match (ours, rules::judge(&stored(marks), &subject, &root, horizon)) {
                        (Ok(after), Verdict::Approve { after: theirs, .. }) => assert_eq!(stored(after), theirs),
                        (Err(reason), Verdict::Deny(denial)) => assert_eq!(reason.as_str(), denial.as_str()),
                        (ours, theirs) => panic!("{marks:?} {subject:?} {edge:?}: {ours:?}, database: {theirs:?}"),
                    }
                    judged += 1;
                }
            }
        }
    }
    println!("vault and database agree on {judged} verdicts");
    assert!(judged > 50_000, "only {judged}");
}

#[test]
fn floors_and_fences_are_the_database_s() {
    for (edge, horizon) in edges() {
        assert_eq!(stored(Marks::fence(edge)), horizon.fence());
    }
    let marks = all_marks();
    for one in &marks {
        for other in &marks {
            assert_eq!(stored(one.raised_to(*other)), stored(*one).raised_to(&stored(*other)), "{one:?} {other:?}");
        }
    }
}

/// Whether the chain would slash the author of both (consensus specification, written out once more).
fn slashable(one: &Subject, other: &Subject) -> bool {
    match (one, other) {
        (Subject::Block { slot: a }, Subject::Block { slot: b }) => a == b,
        (Subject::Attestation { source: s1, target: t1, .. }, Subject::Attestation { source: s2, target: t2, .. }) => {
            t1 == t2 || (s1 < s2 && t2 < t1) || (s2 < s1 && t1 < t2)
        }
        _ => false,
    }
}

/// Any message that one vault may sign at one moment, and any that another may sign with the same key from a cold
/// start at that moment or later: never slashable together, whatever their contents.
#[test]
fn nothing_conflicts_across_a_cold_start() {
    let moments: Vec<Edge> = (0..8).map(|slot| Edge(Some((Slot(slot), Epoch(slot / 2))))).collect();
    let mut pairs = 0_u64;
    for (index, before) in moments.iter().enumerate() {
        for after in &moments[index..] {
            for first in all_subjects() {
                if Marks::default().judge(&first, content(1), *before).is_err() {
                    continue;
                }
                for later in &moments {
                    for second in all_subjects() {
                        if Marks::fence(*after).judge(&second, content(2), *later).is_ok() {
                            assert!(!slashable(&first, &second), "{before:?} {first:?}, {after:?} {second:?}");
                            pairs += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(pairs > 1_000, "only {pairs} pairs");
}

#[test]
fn the_edge_is_one_slot_from_now() {
    let number = |n| NonZeroU64::new(n).unwrap();
    let clock = SlotClock { genesis: UnixMillis(100_000), slot_millis: number(12_000), slots_per_epoch: number(32) };
    let edge = |now| Edge::at(&clock, UnixMillis(now)).0;
    assert_eq!(edge(0), None);
    assert_eq!(edge(87_999), None);
    assert_eq!(edge(88_000), Some((Slot(0), Epoch(0))));
    assert_eq!(edge(100_000), Some((Slot(1), Epoch(0))));
    assert_eq!(edge(100_000 + 31 * 12_000), Some((Slot(32), Epoch(1))));
    assert!(edge(u64::MAX).is_some());
}

#[test]
fn saved_marks_come_back() {
    for marks in all_marks() {
        let mut bytes = Vec::new();
        marks.save(&mut bytes);
        let bytes: [u8; SAVED_LEN] = bytes.try_into().unwrap();
        assert_eq!(Marks::restore(&bytes), Some(marks));
    }
    assert_eq!(Marks::restore(&[255; SAVED_LEN]), None);
}
