//! Proves: demotion is immediate, promotion is slow, waits for replay, a head and an epoch; and a node that
//! flaps cannot make duties flap: the number of switches in any sequence is bounded.

use proptest::prelude::*;

use super::*;
use crate::balance::{Preference, Standing, rank};
use crate::health::Eligibility;
use crate::upstream::{PriorityTier, UpstreamId, Weight};

const SLOTS_PER_EPOCH: u64 = 32;

fn settled(raw: HealthTier) -> Hysteresis {
    let mut node = Hysteresis::new(HysteresisPolicy::default());
    node.settle(raw);
    node
}

/// One slot with one observation.
fn slot(node: &mut Hysteresis, slot: u64, raw: HealthTier) -> HealthTier {
    node.observe(raw, Slot(slot));
    node.slot_ended(Epoch(slot / SLOTS_PER_EPOCH));
    node.tier()
}

#[test]
fn demotion_is_immediate_and_promotion_takes_eight_good_slots() {
    let mut node = settled(HealthTier::Good);
    node.observe(HealthTier::Impaired, Slot(1));
    assert_eq!(node.tier(), HealthTier::Impaired);
    let (good, impaired) = (HealthTier::Good, HealthTier::Impaired);
    assert_eq!(Move::between(good, impaired), Move::Demoted { from: good, to: impaired });
    assert_eq!(Move::between(impaired, good), Move::Promoted { from: impaired, to: good });
    assert_eq!(Move::between(good, good), Move::Stays);
    for number in 2..9 {
        assert_eq!(slot(&mut node, number, HealthTier::Good), HealthTier::Impaired, "slot {number}");
    }
    assert_eq!(node.waiting_for(), Some("more good slots"));
    assert_eq!(slot(&mut node, 9, HealthTier::Good), HealthTier::Good);
    assert_eq!(node.waiting_for(), None);
}

#[test]
fn a_slot_that_is_not_better_starts_over_and_the_worst_of_the_streak_counts() {
    let mut node = settled(HealthTier::Good);
    node.observe(HealthTier::FarBehind, Slot(1));
    for number in 2..8 {
        slot(&mut node, number, HealthTier::Good);
    }
    assert_eq!(node.tier(), HealthTier::Joining);
    // A second loss soon after the first: 16 slots now.
    slot(&mut node, 8, HealthTier::FarBehind);
    for number in 9..24 {
        assert!(slot(&mut node, number, HealthTier::Behind) <= HealthTier::Behind);
    }
    assert_eq!(slot(&mut node, 24, HealthTier::Good), HealthTier::Behind, "the worst of the streak");
}

#[test]
fn a_node_that_is_back_serves_as_a_last_resort_at_once() {
    let mut node = settled(HealthTier::Good);
    node.observe(HealthTier::Down, Slot(10));
    assert_eq!(node.tier(), HealthTier::Down);
    node.joined(Epoch(0));
    node.observe(HealthTier::Good, Slot(11));
    assert_eq!(node.tier(), HealthTier::LastResort);
    node.replayed();
    node.head_moved();
    assert_eq!(slot(&mut node, 12, HealthTier::Good), HealthTier::LastResort);
    assert_eq!(slot(&mut node, 13, HealthTier::Good), HealthTier::Joining);
    for number in 14..64 {
        assert_eq!(slot(&mut node, number, HealthTier::Good), HealthTier::Joining, "before the epoch after the next");
    }
    assert_eq!(node.waiting_for(), Some("an epoch to begin"));
    assert_eq!(slot(&mut node, 64, HealthTier::Good), HealthTier::Good);
}

#[test]
fn promotion_waits_for_the_replay_and_for_a_head() {
    let mut node = settled(HealthTier::Good);
    node.observe(HealthTier::Down, Slot(0));
    node.joined(Epoch(0));
    for number in 1..200 {
        assert!(slot(&mut node, number, HealthTier::Good) <= HealthTier::Joining);
    }
    assert_eq!(node.waiting_for(), Some("replay of subscriptions"));
    node.replayed();
    assert!(slot(&mut node, 200, HealthTier::Good) <= HealthTier::Joining);
    assert_eq!(node.waiting_for(), Some("a new head"));
    node.head_moved();
    assert_eq!(slot(&mut node, 201, HealthTier::Good), HealthTier::Good);
}

#[test]
fn repeated_demotions_make_promotion_slower_up_to_a_bound() {
    let mut node = settled(HealthTier::Good);
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..6 {
        now += 2;
        node.observe(HealthTier::Impaired, Slot(now));
        let began = now;
        while slot(&mut node, now + 1, HealthTier::Good) != HealthTier::Good {
            now += 1;
        }
        now += 1;
        waits.push(now - began);
    }
    assert_eq!(waits, [8, 16, 32, 64, 64, 64]);
    now += 1000;
    node.observe(HealthTier::Impaired, Slot(now));
    for number in 1..=8 {
        slot(&mut node, now + number, HealthTier::Good);
    }
    assert_eq!(node.tier(), HealthTier::Good, "long ago is forgotten");
}

fn any_tier() -> impl Strategy<Value = HealthTier> {
    prop::sample::select(HealthTier::ALL.to_vec())
}

/// Who comes first among the nodes.
fn first(nodes: &[Hysteresis], incumbent: Option<UpstreamId>) -> Option<UpstreamId> {
    let standings: Vec<Standing> = (0u16..)
        .zip(nodes)
        .map(|(id, node)| Standing {
            id: UpstreamId(id),
            eligibility: match node.tier() {
                HealthTier::Excluded | HealthTier::Drained => Eligibility::No,
                HealthTier::Down | HealthTier::LastResort => Eligibility::LastResort,
                _ => Eligibility::Yes,
            },
            tier: node.tier(),
            priority: PriorityTier(0),
            preference: Preference::Usual,
            place: usize::from(id),
            weight: Weight::default(),
        })
        .collect();
    rank(&standings, incumbent).order.first().copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a node is observed as, its effective tier is never better than what is observed now.
    #[test]
    fn never_better_than_observed(raw in prop::collection::vec(any_tier(), 1..300)) {
        let mut node = settled(HealthTier::Good);
        for (number, raw) in (0u64..).zip(raw) {
            node.observe(raw, Slot(number));
            prop_assert!(node.tier() <= raw);
            node.slot_ended(Epoch(number / SLOTS_PER_EPOCH));
            prop_assert!(node.tier() <= raw);
        }
    }

    /// A node that flaps in any pattern beside a good one: duties leave it at most once per promotion, and
    /// promotions are at least eight slots apart, later up to 64.
    #[test]
    fn a_flapping_node_beside_a_good_one_does_not_make_duties_flap(
        raw in prop::collection::vec(any_tier(), 256..768),
    ) {
        let slots = raw.len() as u64;
        let mut nodes = [settled(HealthTier::Good), settled(HealthTier::Good)];
        let mut serving = Some(UpstreamId(0));
        let mut switches = 0u64;
        for (number, raw) in (0u64..).zip(raw) {
            slot(&mut nodes[0], number, raw);
            slot(&mut nodes[1], number, HealthTier::Good);
            let now = first(&nodes, serving);
            if now != serving {
                switches += 1;
            }
            serving = now;
        }
        // The good node never loses what it has: one switch to it, none back.
        prop_assert!(switches <= 1, "{switches} switches in {slots} slots");
    }

    /// Two nodes that both flap between good and down, with a third that is always behind: the switches are
    /// bounded by the demotions the hysteresis lets through.
    #[test]
    fn switches_are_bounded_when_everybody_flaps(
        raw in prop::collection::vec((any::<bool>(), any::<bool>()), 512..513),
    ) {
        let mut nodes = [settled(HealthTier::Good), settled(HealthTier::Good), settled(HealthTier::Behind)];
        let mut serving = Some(UpstreamId(0));
        let mut switches = 0u64;
        for (number, (one, two)) in (0u64..).zip(raw) {
            let of = |up| if up { HealthTier::Good } else { HealthTier::Down };
            slot(&mut nodes[0], number, of(one));
            slot(&mut nodes[1], number, of(two));
            slot(&mut nodes[2], number, HealthTier::Behind);
            let now = first(&nodes, serving);
            if now != serving {
                switches += 1;
            }
            serving = now;
        }
        // 512 slots of coin flips would bring some 380 without hysteresis. With it a node comes back as
        // joining after 2, 4, 8, then 16 good slots in a row, and that is only forgotten after 128 slots.
        prop_assert!(switches <= 48, "{switches} switches in 512 slots");
    }
}
