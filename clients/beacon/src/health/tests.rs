//! Proves, over every combination of observation tiers: health is totally ordered, a worse observation never
//! gives a better health nor a better eligibility, and what must never serve a duty is never eligible for it.

use super::*;

/// Every observation there is.
fn all() -> impl Iterator<Item = Observation> {
    let mut all = vec![Observation::NEW];
    macro_rules! every {
        ($field:ident, $tier:ident) => {
            all = all
                .into_iter()
                .flat_map(|seen| $tier::ALL.iter().map(move |tier| Observation { $field: *tier, ..seen }))
                .collect();
        };
    }
    every!(admission, Admission);
    every!(compatibility, Compatibility);
    every!(liveness, Liveness);
    every!(sync, SyncTier);
    every!(payload, PayloadTier);
    every!(execution, ExecutionTier);
    every!(agreement, Agreement);
    every!(stream, StreamTier);
    every!(performance, PerformanceTier);
    every!(peers, PeerTier);
    all.into_iter()
}

/// Each observation that is one tier worse in one aspect.
fn one_worse(seen: Observation) -> Vec<Observation> {
    let mut worse = Vec::new();
    macro_rules! step {
        ($field:ident, $tier:ident) => {
            let at = $tier::ALL.iter().position(|tier| *tier == seen.$field).unwrap();
            if at > 0 {
                worse.push(Observation { $field: $tier::ALL[at - 1], ..seen });
            }
        };
    }
    step!(admission, Admission);
    step!(compatibility, Compatibility);
    step!(liveness, Liveness);
    step!(sync, SyncTier);
    step!(payload, PayloadTier);
    step!(execution, ExecutionTier);
    step!(agreement, Agreement);
    step!(stream, StreamTier);
    step!(performance, PerformanceTier);
    step!(peers, PeerTier);
    worse
}

/// One class for each need.
const CLASSES: [EndpointClass; 9] = [
    EndpointClass::AttestationData,
    EndpointClass::Duty,
    EndpointClass::Aggregate,
    EndpointClass::Produce,
    EndpointClass::Submit,
    EndpointClass::Liveness,
    EndpointClass::HotRead,
    EndpointClass::Read,
    EndpointClass::Events,
];

#[test]
fn a_worse_observation_never_gives_a_better_health_or_eligibility() {
    let mut combinations = 0u64;
    for seen in all() {
        combinations += 1;
        let health = Health::of(&seen);
        let able = CLASSES.map(|class| health.eligibility(class));
        for worse in one_worse(seen) {
            let lower = Health::of(&worse);
            assert!(lower <= health, "{seen:?} gives {health:?}, the worse {worse:?} gives {lower:?}");
            for (class, able) in CLASSES.into_iter().zip(able) {
                assert!(lower.eligibility(class) <= able, "{class:?}: {worse:?} is better than {seen:?}");
            }
        }
    }
    assert_eq!(combinations, 3 * 4 * 5 * 7 * 2 * 2 * 4 * 3 * 2 * 4);
}

#[test]
fn health_is_totally_ordered() {
    let distinct: std::collections::BTreeSet<Health> = all().map(|seen| Health::of(&seen)).collect();
    let sorted: Vec<Health> = distinct.into_iter().collect();
    assert!(sorted.len() > 100, "{}", sorted.len());
    for (position, one) in sorted.iter().enumerate() {
        for (other_position, other) in sorted.iter().enumerate() {
            // Antisymmetric, transitive and total at once: comparison is that of positions.
            assert_eq!(one.cmp(other), position.cmp(&other_position));
        }
    }
    assert!(HealthTier::ALL.is_sorted());
}

#[test]
fn what_must_never_serve_is_never_eligible() {
    let duties =
        [EndpointClass::AttestationData, EndpointClass::Duty, EndpointClass::Aggregate, EndpointClass::Produce];
    for seen in all() {
        let health = Health::of(&seen);
        let able = |class| health.eligibility(class);
        if seen.compatibility < Compatibility::FutureFork || seen.admission < Admission::Serving {
            assert!(EndpointClass::ALL.into_iter().all(|class| able(class) == Eligibility::No), "{seen:?}");
        }
        if seen.payload == PayloadTier::Optimistic || seen.sync <= SyncTier::Syncing {
            assert!(duties.into_iter().all(|class| able(class) == Eligibility::No), "{seen:?}");
        }
        if seen.execution == ExecutionTier::Offline {
            assert_eq!(able(EndpointClass::Produce), Eligibility::No);
            assert!(able(EndpointClass::AttestationData) <= Eligibility::LastResort);
        }
        if seen.agreement == Agreement::Minority {
            assert_eq!(able(EndpointClass::AttestationData), Eligibility::No);
        }
    }
}

#[test]
fn late_answers_cost_one_tier_and_a_perfect_node_is_good() {
    let perfect = Observation {
        compatibility: Compatibility::Compatible,
        liveness: Liveness::Answering,
        sync: SyncTier::AtHead,
        ..Observation::NEW
    };
    assert_eq!(Health::of(&perfect).tier, HealthTier::Good);
    assert_eq!(perfect.describe(), "nothing against it");
    let late = Observation { performance: PerformanceTier::Late, ..perfect };
    assert_eq!(Health::of(&late).tier, HealthTier::Impaired);
    assert_eq!(late.describe(), "often late");
    let hung = Observation { liveness: Liveness::Hung, ..perfect };
    assert_eq!(Health::of(&hung).tier, HealthTier::Down);
    assert_eq!(Health::of(&hung).eligibility(EndpointClass::Duty), Eligibility::LastResort);
    assert_eq!(Health::of(&Observation::NEW).tier, HealthTier::Excluded, "unknown network");
}

#[test]
fn what_waits_for_trust_alone_is_in_order_and_what_lacks_the_chain_is_not() {
    for seen in all() {
        let health = Health::of(&seen);
        for class in CLASSES {
            let (able, in_order) = (health.eligibility(class), health.is_in_order(class));
            assert!(in_order || able < Eligibility::Yes, "{seen:?} serves {class:?}");
            assert!(!in_order || able > Eligibility::No, "{seen:?} may not serve {class:?}");
        }
        let lacks = seen.payload == PayloadTier::Optimistic
            || seen.execution == ExecutionTier::Offline
            || seen.agreement == Agreement::Minority
            || seen.sync.is_syncing();
        if lacks || seen.liveness <= Liveness::Hung {
            assert!(!health.is_in_order(EndpointClass::Duty), "{seen:?}");
        }
    }
    let perfect = Observation {
        compatibility: Compatibility::Compatible,
        liveness: Liveness::Answering,
        sync: SyncTier::AtHead,
        ..Observation::NEW
    };
    let back = Health { tier: HealthTier::LastResort, ..Health::of(&perfect) };
    let alone = Health::of(&Observation { peers: PeerTier::None, ..perfect });
    let behind = Observation { sync: SyncTier::FarBehind, performance: PerformanceTier::Late, ..perfect };
    for health in [back, alone, Health::of(&behind)] {
        assert_eq!(health.eligibility(EndpointClass::Duty), Eligibility::LastResort);
        assert!(health.is_in_order(EndpointClass::Duty), "{health:?}");
    }
}
