//! Proves: which epochs prove anything and when, that a key is let go only after enough quiet epochs that everybody
//! confirmed, that one sighting that this database does not explain holds it for good, over random courses of a check.

use std::num::NonZeroU64;

use holdfast_domain::{ObservedRoot, PublicKey, Slot};
use holdfast_slashing_db::{AttestationMark, BlockMark, Watermarks};

use super::*;

const SLOT: u64 = 12_000;

fn rules(holds: bool) -> Rules {
    let slots = SlotClock {
        genesis: UnixMillis(1_000_000),
        slot_millis: NonZeroU64::new(SLOT).unwrap(),
        slots_per_epoch: NonZeroU64::new(32).unwrap(),
    };
    Rules { slots, tolerance: 1, epochs: 2, holds }
}

fn at(epoch: u64, slot: u64) -> UnixMillis {
    UnixMillis(1_000_000 + (epoch * 32 + slot) * SLOT)
}

fn key(enabled: UnixMillis) -> NewlyEnabled {
    NewlyEnabled {
        key: PublicKey::from_bytes([1; 48]),
        enabled,
        quiet_epochs: 0,
        own_epochs: 0,
        judged_through: None,
        seen: None,
        watermarks: Watermarks::default(),
    }
}

fn voted(target: u64, root: bool) -> Watermarks {
    let root = root.then_some(ObservedRoot::new([7; 32]));
    Watermarks { block: None, attestation: Some(AttestationMark { source: Epoch(0), target: Epoch(target), root }) }
}

fn late(epoch: u64) -> Moment {
    Moment { epoch: Epoch(epoch), is_late: true }
}

fn early(epoch: u64) -> Moment {
    Moment { epoch: Epoch(epoch), is_late: false }
}

#[test]
fn the_epoch_of_enabling_proves_nothing_and_the_tolerance_belongs_to_it() {
    let rules = rules(true);
    assert_eq!(rules.first_epoch(UnixMillis(0)), Epoch(0), "before genesis nobody can have signed");
    assert_eq!(rules.first_epoch(at(10, 0)), Epoch(11));
    assert_eq!(rules.first_epoch(at(10, 30)), Epoch(11));
    // In the last slot a vote for the next epoch may have been signed already.
    assert_eq!(rules.first_epoch(at(10, 31)), Epoch(12));
    for epoch in 0..=10 {
        assert_eq!(rules.judge(&key(at(10, 5)), late(epoch), Sighting::Live), None, "epoch {epoch}");
    }
}

#[test]
fn the_epoch_before_the_present_one_is_asked_about_and_late_is_its_last_quarter() {
    let rules = rules(true);
    assert_eq!(rules.moment(UnixMillis(5)), None);
    assert_eq!(rules.moment(at(0, 31)), None);
    assert_eq!(rules.moment(at(11, 0)), Some(early(10)));
    assert_eq!(rules.moment(at(11, 23)), Some(early(10)));
    assert_eq!(rules.moment(at(11, 24)), Some(late(10)));
    assert_eq!(rules.moment(at(11, 31)), Some(late(10)));
}

#[test]
fn silence_counts_late_and_from_everybody_and_life_at_once() {
    let rules = rules(true);
    let key = key(at(10, 5));
    assert_eq!(rules.judge(&key, early(11), Sighting::Quiet), None);
    assert_eq!(rules.judge(&key, late(11), Sighting::Unknown), None);
    assert_eq!(rules.judge(&key, late(11), Sighting::Quiet), Some(Finding::Quiet(Epoch(11))));
    assert_eq!(rules.judge(&key, early(11), Sighting::Live), Some(Finding::Seen(Epoch(11))));
    let counted = NewlyEnabled { judged_through: Some(Epoch(11)), quiet_epochs: 1, ..key };
    assert_eq!(rules.judge(&counted, late(11), Sighting::Quiet), None, "an epoch counts once");
    assert_eq!(rules.judge(&counted, late(12), Sighting::Quiet), Some(Finding::Quiet(Epoch(12))));
    let seen = NewlyEnabled { seen: Some(Epoch(11)), ..key };
    assert_eq!(rules.judge(&seen, late(12), Sighting::Quiet), None, "nothing takes a sighting back");
}

#[test]
fn own_signatures_explain_what_is_seen_in_their_epoch_and_before() {
    let rules = rules(true);
    let with = |watermarks| NewlyEnabled { watermarks, ..key(at(10, 5)) };
    for (watermarks, own) in [
        (voted(11, true), false),
        (voted(12, true), true),
        (voted(13, true), true),
        (voted(12, false), true),
        (Watermarks { block: Some(BlockMark { slot: Slot(12 * 32), root: None }), attestation: None }, true),
        (Watermarks { block: Some(BlockMark { slot: Slot(12 * 32 - 1), root: None }), attestation: None }, false),
    ] {
        let expected = if own { Finding::Own(Epoch(12)) } else { Finding::Seen(Epoch(12)) };
        assert_eq!(rules.judge(&with(watermarks), late(12), Sighting::Live), Some(expected), "{watermarks:?}");
    }
}

#[test]
fn endings() {
    let quiet = |count| NewlyEnabled { quiet_epochs: count, ..key(at(10, 5)) };
    for holds in [true, false] {
        let rules = rules(holds);
        assert_eq!(rules.ending(&quiet(1)), None);
        assert_eq!(rules.ending(&quiet(2)), Some(Ending::Passed));
        assert_eq!(rules.ending(&NewlyEnabled { own_epochs: 1, ..quiet(2) }), Some(Ending::Inconclusive));
        assert_eq!(rules.ending(&NewlyEnabled { seen: Some(Epoch(11)), ..quiet(9) }), None);
    }
    let own = NewlyEnabled { own_epochs: 1, ..quiet(1) };
    assert_eq!((rules(true).ending(&own), rules(false).ending(&own)), (None, Some(Ending::Inconclusive)));
    // Signed by a signer that holds nothing back; a floor is no signature, and what was before is no matter.
    for (watermarks, in_use) in [(voted(11, true), true), (voted(11, false), false), (voted(10, true), false)] {
        let key = NewlyEnabled { watermarks, ..quiet(0) };
        assert_eq!(rules(true).ending(&key), in_use.then_some(Ending::InUse), "{watermarks:?}");
        assert_eq!(rules(false).ending(&key), None);
    }
}

#[test]
fn the_end_is_foretold() {
    let rules = rules(true);
    let fresh = key(at(10, 5));
    assert_eq!(rules.last_epoch(&fresh, at(10, 6)), Epoch(12));
    // Two epochs in which not everybody answered put it off.
    assert_eq!(rules.last_epoch(&fresh, at(14, 6)), Epoch(14));
    let one = NewlyEnabled { quiet_epochs: 1, judged_through: Some(Epoch(13)), ..fresh };
    assert_eq!(rules.last_epoch(&one, at(14, 30)), Epoch(14));
}

/// A small deterministic source of choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What the database does with a finding.
fn note(key: &mut NewlyEnabled, finding: Finding) {
    match finding {
        Finding::Quiet(epoch) => {
            key.quiet_epochs += 1;
            key.judged_through = Some(epoch);
        }
        Finding::Own(epoch) => {
            key.own_epochs += 1;
            key.judged_through = Some(epoch);
        }
        Finding::Seen(epoch) => key.seen = Some(epoch),
        Finding::Over => panic!("never found by a look"),
    }
}

/// Many courses of a check: looks at any time, answers of any kind, with and without somebody else at work.
#[test]
fn no_course_lets_a_key_go_early_or_takes_a_sighting_back() {
    let rules = rules(true);
    let (mut passed, mut caught, mut waiting) = (0, 0, 0);
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let enabled = at(10, dice.roll(32));
        let mut key = key(enabled);
        let first = rules.first_epoch(enabled);
        // Somebody else signs from some epoch on, or nobody does.
        let twin = [None, Some(first.0 + dice.roll(3))][usize::try_from(dice.roll(2)).unwrap()];
        let mut quiet = std::collections::BTreeSet::new();
        let mut slot = (enabled.0 - 1_000_000) / SLOT;
        let end = loop {
            slot += 1 + dice.roll(6);
            if slot > 10 * 32 + 8 * 32 {
                break None;
            }
            let Some(moment) = rules.moment(UnixMillis(1_000_000 + slot * SLOT)) else { continue };
            let lives = twin.is_some_and(|from| moment.epoch.0 >= from);
            // Votes come into blocks by and by: early they may be missing. Some node may not answer.
            let visible = lives && (moment.is_late || dice.roll(2) == 0);
            let sighting = match (visible, dice.roll(4)) {
                (true, _) => Sighting::Live,
                (false, 0) => Sighting::Unknown,
                (false, _) => Sighting::Quiet,
            };
            if let Some(finding) = rules.judge(&key, moment, sighting) {
                if let Finding::Quiet(epoch) = finding {
                    assert!(quiet.insert(epoch.0) && sighting == Sighting::Quiet && moment.is_late);
                    assert!(epoch >= first && epoch == moment.epoch);
                }
                note(&mut key, finding);
            }
            match rules.ending(&key) {
                Some(Ending::Passed) => break Some(slot / 32),
                Some(other) => panic!("{other:?} although this database signed nothing"),
                None => {}
            }
        };
        match end {
            Some(epoch) => {
                passed += 1;
                assert!(quiet.len() as u64 == rules.epochs && key.seen.is_none());
                assert!(
                    epoch > first.0 + rules.epochs - 1,
                    "let go in epoch {epoch}, the first one that counts is {first}"
                );
                assert!(
                    twin.is_none_or(|from| quiet.iter().all(|epoch| *epoch < from)),
                    "let go with somebody at work"
                );
            }
            None if key.seen.is_some() => {
                caught += 1;
                assert!(twin.is_some_and(|from| key.seen.is_some_and(|seen| seen.0 >= from)), "nobody was there");
            }
            None => waiting += 1,
        }
    }
    assert!(passed > 5_000 && caught > 5_000, "passed {passed}, caught {caught}, waiting {waiting}");
}
