//! The union of what nodes say about validators' liveness.
//!
//! Why it exists: doppelganger protection starts signing when nobody has seen a key; a node that did not
//! look must not count as one that saw nothing. What it guarantees: live on one node is live; a validator
//! is reported as not live only if every node whose word is needed said so about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Validator index, in quotes as the API writes it.
    pub index: String,
    /// Whether a message of it was seen.
    pub is_live: bool,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivenessAnswer {
    /// One line per validator the node knows.
    pub data: Vec<Seen>,
}

/// Combines the answers of the nodes whose word is `needed` with those of others, of which only what was seen counts.
/// `None` if nobody's word is there that is needed, or such a node left out a validator that no node has seen live:
/// absence of evidence is not evidence.
pub fn union(needed: &[LivenessAnswer], others: &[LivenessAnswer]) -> Option<LivenessAnswer> {
    let mut all: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    let needed_ones = needed.iter().map(|answer| (answer, 1usize));
    for (answer, word) in needed_ones.chain(others.iter().map(|answer| (answer, 0usize))) {
        let mut lines: BTreeMap<&str, bool> = BTreeMap::new();
        for line in &answer.data {
            *lines.entry(&line.index).or_default() |= line.is_live;
        }
        for (index, live) in lines {
            let entry = all.entry(index).or_default();
            entry.0 |= live;
            entry.1 = entry.1.saturating_add(word);
        }
    }
    let complete = !needed.is_empty() && all.values().all(|(live, told)| *live || *told == needed.len());
    complete.then(|| LivenessAnswer {
        data: all.into_iter().map(|(index, (is_live, _))| Seen { index: index.to_owned(), is_live }).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[(&str, bool)]) -> LivenessAnswer {
        let data =
            lines.iter().map(|(index, is_live)| Seen { index: (*index).to_owned(), is_live: *is_live }).collect();
        LivenessAnswer { data }
    }

    #[test]
    fn live_on_one_node_is_live() {
        let answers = [answer(&[("1", false), ("2", true)]), answer(&[("1", false), ("2", false)])];
        let merged = union(&answers, &[]).unwrap();
        assert_eq!(merged, answer(&[("1", false), ("2", true)]));
    }

    #[test]
    fn a_validator_left_out_by_a_node_is_not_called_dead() {
        assert_eq!(union(&[answer(&[("1", false)]), answer(&[])], &[]), None);
        assert_eq!(union(&[answer(&[("1", true)]), answer(&[])], &[]), Some(answer(&[("1", true)])));
        assert_eq!(union(&[], &[]), None);
    }

    #[test]
    fn whoever_s_word_is_not_needed_can_say_that_somebody_lives_and_not_that_nobody_does() {
        let (quiet, live) = (answer(&[("1", false)]), answer(&[("1", true)]));
        let of = |needed: &LivenessAnswer, other: &LivenessAnswer| {
            union(std::slice::from_ref(needed), std::slice::from_ref(other))
        };
        assert_eq!(of(&quiet, &live), Some(live.clone()));
        assert_eq!(of(&quiet, &answer(&[])), Some(quiet.clone()), "what it leaves out holds up nobody");
        assert_eq!(of(&answer(&[]), &quiet), None);
        assert_eq!(union(&[], &[quiet]), None);
        assert_eq!(union(&[], &[live]), None);
    }
}
