//! Proves: tiers and priorities go before everything, the incumbent stays, weights are shares, and a slow
//! node gets little under dynamic balancing.

use proptest::prelude::*;

use super::*;

fn node(id: u16, tier: HealthTier) -> Standing {
    Standing {
        id: UpstreamId(id),
        eligibility: Eligibility::Yes,
        tier,
        priority: PriorityTier(0),
        preference: Preference::Usual,
        weight: Weight::default(),
        place: usize::from(id),
    }
}

fn order(nodes: &[Standing], incumbent: Option<u16>) -> (Vec<u16>, usize) {
    let ranking = rank(nodes, incumbent.map(UpstreamId));
    (ranking.order.iter().map(|id| id.0).collect(), ranking.best)
}

#[test]
fn health_goes_before_preference_before_priority_before_incumbency() {
    let good = |id| node(id, HealthTier::Good);
    assert_eq!(order(&[good(1), good(2), good(3)], Some(2)), (vec![2, 1, 3], 3), "whoever serves stays");
    let spare = Standing { priority: PriorityTier(1), ..good(1) };
    assert_eq!(order(&[spare, good(2), good(3)], Some(1)), (vec![2, 3, 1], 2), "a spare gives way");
    let wanted = Standing { preference: Preference::Preferred, ..spare };
    assert_eq!(order(&[wanted, good(2), good(3)], Some(2)), (vec![1, 2, 3], 1));
    let ill = Standing { tier: HealthTier::Impaired, ..wanted };
    assert_eq!(order(&[ill, good(2), good(3)], Some(1)), (vec![2, 3, 1], 2), "not against its health");
    let heavy = Standing { weight: Weight(std::num::NonZeroU16::new(5).unwrap()), ..good(3) };
    assert_eq!(order(&[good(1), good(2), heavy], None), (vec![3, 1, 2], 3));
    let never = Standing { eligibility: Eligibility::No, ..good(1) };
    let last = Standing { eligibility: Eligibility::LastResort, ..good(2) };
    assert_eq!(order(&[never, last, node(3, HealthTier::FarBehind)], None), (vec![3, 2], 1));
    assert_eq!(order(&[never], None), (vec![], 0));
}

/// Serves `calls` calls, each taking what its node takes, and counts who got them.
fn share_of_slow(base: Duration, slow: Duration, nodes: u16, calls: u32) -> f64 {
    let mut turns = SmoothWeights::default();
    let mut performance: Vec<crate::health::Performance> =
        (0..nodes).map(|_| crate::health::Performance::default()).collect();
    let class = EndpointClass::Read;
    let mut slow_calls = 0u32;
    for _ in 0..calls {
        let weights: Vec<_> =
            (0..nodes).map(|id| (UpstreamId(id), dynamic_weight(performance[usize::from(id)].mean(class)))).collect();
        let chosen = turns.next(weights.into_iter()).unwrap();
        let taken = if chosen == UpstreamId(0) { slow } else { base };
        slow_calls += u32::from(chosen == UpstreamId(0));
        performance[usize::from(chosen.0)].answered(class, holdfast_domain::Slot(0), taken);
    }
    f64::from(slow_calls) / f64::from(calls)
}

#[test]
fn a_node_slowed_by_300_ms_gets_less_than_15_percent() {
    for (base, nodes) in [(1, 2), (20, 2), (20, 3), (100, 2), (200, 2), (200, 4)] {
        let base = Duration::from_millis(base);
        let share = share_of_slow(base, base + Duration::from_millis(300), nodes, 2_000);
        assert!(share < 0.15, "{share} of {nodes} nodes at {base:?}");
        assert!(share > 0.0, "it is asked now and then, or it could never recover");
    }
}

#[test]
fn equally_fast_nodes_share_evenly_and_noise_does_not_matter() {
    let share = share_of_slow(Duration::from_millis(1), Duration::from_millis(4), 2, 2_000);
    assert!((share - 0.5).abs() < 0.01, "{share}: below 5 ms all are fast");
}

proptest! {
    /// A slower node never weighs more; no time overflows.
    #[test]
    fn dynamic_weights_fall_with_time(one in any::<u64>(), other in any::<u64>()) {
        let of = |micros| dynamic_weight(Some(Duration::from_micros(micros)));
        prop_assert!(of(one.min(other)) >= of(one.max(other)));
        prop_assert!((1..=FULL_WEIGHT).contains(&of(one)));
    }

    /// Shares follow weights, whatever they are.
    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(1u64..20, 1..6)) {
        let mut turns = SmoothWeights::default();
        let nodes: Vec<_> = (0u16..).map(UpstreamId).zip(weights.iter().copied()).collect();
        let sum: u64 = weights.iter().sum();
        let mut counts = vec![0u64; weights.len()];
        for _ in 0..sum * 10 {
            counts[usize::from(turns.next(nodes.iter().copied()).unwrap().0)] += 1;
        }
        prop_assert_eq!(counts, weights.iter().map(|weight| weight * 10).collect::<Vec<_>>());
    }
}
