//! The union of what nodes say about validators' liveness.
//!
//! Why it exists: doppelganger protection starts signing when nobody has seen a key; a node that did not
//! look must not count as one that saw nothing. What it guarantees: live on one node is live; a validator
//! is reported as not live only if every node asked said so about it.

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

/// Combines the answers of all nodes asked. `None` if there is none, or a node left out a validator that
/// no node has seen live: absence of evidence is not evidence.
pub fn union(answers: &[LivenessAnswer]) -> Option<LivenessAnswer> {
    let mut all: BTreeMap<&str, (bool, usize)> = BTreeMap::new();
    for answer in answers {
        let mut lines: BTreeMap<&str, bool> = BTreeMap::new();
        for line in &answer.data {
            *lines.entry(&line.index).or_default() |= line.is_live;
        }
        for (index, live) in lines {
            let entry = all.entry(index).or_default();
            entry.0 |= live;
            entry.1 = entry.1.saturating_add(1);
        }
    }
    let complete = !answers.is_empty() && all.values().all(|(live, told)| *live || *told == answers.len());
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
        let merged = union(&[answer(&[("1", false), ("2", true)]), answer(&[("1", false), ("2", false)])]).unwrap();
        assert_eq!(merged, answer(&[("1", false), ("2", true)]));
    }

    #[test]
    fn a_validator_left_out_by_a_node_is_not_called_dead() {
        assert_eq!(union(&[answer(&[("1", false)]), answer(&[])]), None);
        assert_eq!(union(&[answer(&[("1", true)]), answer(&[])]), Some(answer(&[("1", true)])));
        assert_eq!(union(&[]), None);
    }
}
