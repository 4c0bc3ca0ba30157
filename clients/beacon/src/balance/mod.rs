//! Which of several nodes is asked first. Pure: state is passed in, randomness and time are not needed.
//!
//! What it guarantees: a node of a worse tier never comes before one of a better tier; within the best
//! group the policy decides; under best-first whoever serves keeps serving while it is in that group.

mod smooth;
mod sticky;

use std::collections::BTreeMap;
use std::time::Duration;

pub use smooth::SmoothWeights;
pub use sticky::Sticky;

use crate::class::EndpointClass;
use crate::health::{Eligibility, HealthTier};
use crate::upstream::{PriorityTier, UpstreamId, Weight};

/// How to choose among equally healthy nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Always the same one, as long as it is among the best.
    #[default]
    BestFirst,
    /// Each in turn.
    RoundRobin,
    /// In turn, in proportion to the configured weights.
    Weighted,
    /// In turn, in proportion to the inverse square of the response time.
    Dynamic,
}

/// Policies by class.
#[derive(Debug, Clone, Default)]
pub struct Balancing {
    /// For classes not named below.
    pub default: Policy,
    /// For single classes.
    pub by_class: BTreeMap<EndpointClass, Policy>,
}

impl Balancing {
    /// The policy of a class.
    pub fn policy(&self, class: EndpointClass) -> Policy {
        self.by_class.get(&class).copied().unwrap_or(self.default)
    }
}

/// Whether the operator asked for a node to come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// No.
    Usual,
    /// Yes.
    Preferred,
}

/// What ranking needs to know of a node.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Which.
    pub id: UpstreamId,
    /// May it serve the class?
    pub eligibility: Eligibility,
    /// How healthy.
    pub tier: HealthTier,
    /// Operator's order.
    pub priority: PriorityTier,
    /// Operator's wish of the moment.
    pub preference: Preference,
    /// Operator's weight.
    pub weight: Weight,
    /// Place in the operator's list.
    pub place: usize,
}

/// Nodes for a class, best first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranking {
    /// Everyone who may serve.
    pub order: Vec<UpstreamId>,
    /// How many of the first are equally good.
    pub best: usize,
}

/// Ranks nodes for a class; `incumbent` is who served it last.
pub fn rank(standings: &[Standing], incumbent: Option<UpstreamId>) -> Ranking {
    let group = |node: &Standing| (node.eligibility, node.tier, node.preference, std::cmp::Reverse(node.priority));
    let within = |node: &Standing| (Some(node.id) == incumbent, node.weight, std::cmp::Reverse((node.place, node.id)));
    let mut able: Vec<&Standing> = standings.iter().filter(|node| node.eligibility != Eligibility::No).collect();
    able.sort_by(|a, b| group(b).cmp(&group(a)).then_with(|| within(b).cmp(&within(a))));
    let best = able.first().map_or(0, |first| able.iter().take_while(|node| group(node) == group(first)).count());
    Ranking { order: able.iter().map(|node| node.id).collect(), best }
}

/// Response times below this do not differ for balancing: they are noise.
const FAST_ENOUGH: Duration = Duration::from_millis(5);
/// Dynamic weights lie between 1 and this, so the slowest still gets a call now and then and can recover.
const FULL_WEIGHT: u64 = 10_000;

/// The weight of a node under dynamic balancing: the inverse square of its response time. One that was never
/// asked counts as fast, so that it is asked.
pub fn dynamic_weight(mean: Option<Duration>) -> u64 {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let (fast, mean) = (micros(FAST_ENOUGH), micros(mean.unwrap_or_default().max(FAST_ENOUGH)));
    let square = u128::from(fast).saturating_mul(u128::from(fast)).saturating_mul(u128::from(FULL_WEIGHT));
    let weight = square / u128::from(mean).saturating_mul(u128::from(mean)).max(1);
    u64::try_from(weight).unwrap_or(FULL_WEIGHT).clamp(1, FULL_WEIGHT)
}

#[cfg(test)]
mod tests;
