//! Smooth weighted round robin (the algorithm nginx made known): each turn everyone gains their weight,
//! the highest wins and pays the sum. Shares are exact over a period, and turns are spread evenly.

use std::collections::BTreeMap;

use crate::upstream::UpstreamId;

/// Whose turn it is, for one class.
#[derive(Debug, Clone, Default)]
pub struct SmoothWeights {
    credit: BTreeMap<UpstreamId, i128>,
}

impl SmoothWeights {
    /// Whose turn it is among these; `None` if there is nobody. A weight of 0 counts as 1.
    pub fn next(&mut self, nodes: impl Iterator<Item = (UpstreamId, u64)> + Clone) -> Option<UpstreamId> {
        // Who is gone loses its credit: it must not come back to a burst of turns.
        self.credit.retain(|id, _| nodes.clone().any(|(node, _)| node == *id));
        let mut total = 0i128;
        let mut best: Option<(i128, UpstreamId)> = None;
        for (id, weight) in nodes {
            let weight = i128::from(weight.max(1));
            total = total.saturating_add(weight);
            let credit = self.credit.entry(id).or_default();
            *credit = credit.saturating_add(weight);
            if best.is_none_or(|(highest, _)| *credit > highest) {
                best = Some((*credit, id));
            }
        }
        let (_, winner) = best?;
        if let Some(credit) = self.credit.get_mut(&winner) {
            *credit = credit.saturating_sub(total);
        }
        Some(winner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: UpstreamId = UpstreamId(1);
    const B: UpstreamId = UpstreamId(2);
    const C: UpstreamId = UpstreamId(3);

    fn count(turns: &mut SmoothWeights, nodes: &[(UpstreamId, u64)], rounds: usize) -> BTreeMap<UpstreamId, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..rounds {
            *counts.entry(turns.next(nodes.iter().copied()).unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn three_to_one_is_exactly_that_and_evenly_spread() {
        let mut turns = SmoothWeights::default();
        let nodes = [(A, 3), (B, 1)];
        let first: Vec<_> = (0..8).map(|_| turns.next(nodes.iter().copied()).unwrap()).collect();
        assert_eq!(first, [A, A, B, A, A, A, B, A]);
        let counts = count(&mut turns, &nodes, 1000);
        assert_eq!((counts[&A], counts[&B]), (750, 250));
    }

    #[test]
    fn equal_weights_take_turns_and_leavers_leave_no_credit() {
        let mut turns = SmoothWeights::default();
        let counts = count(&mut turns, &[(A, 1), (B, 1), (C, 1)], 300);
        assert!(counts.values().all(|count| *count == 100), "{counts:?}");
        count(&mut turns, &[(A, 1)], 1000);
        let counts = count(&mut turns, &[(A, 1), (B, 1)], 10);
        assert_eq!((counts[&A], counts[&B]), (5, 5));
        assert_eq!(turns.next(std::iter::empty()), None);
    }
}
