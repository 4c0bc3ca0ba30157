//! One answer out of many nodes' answers to the same submission.
//!
//! Why it exists: a list is sent to every node, and each refuses other items: one has not seen the block
//! yet, another has the item already. What it guarantees: an item counts as submitted if any node took it;
//! "already known" is taken; a failure is reported only if every node that judged the item refused it; what
//! the client gets is a status and messages of a node, never invented ones.

use std::collections::{BTreeMap, BTreeSet};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// An item a node refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFailure {
    /// Position in the list that was sent.
    #[serde(deserialize_with = "position")]
    pub index: usize,
    /// Why.
    #[serde(default)]
    pub message: String,
}

/// What one node said to a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of it taken.
    Accepted(StatusCode),
    /// 202: broadcast, but not valid to this node.
    Partial(StatusCode),
    /// Some items refused, the rest taken.
    Items {
        /// Those refused.
        failures: Vec<ItemFailure>,
        /// The answer's own message.
        message: String,
    },
    /// All of it refused, for a reason in the request.
    Refused {
        /// 4xx.
        status: StatusCode,
        /// The answer's own message.
        message: String,
    },
    /// The node does not know the route or the media type: 404, 405, 406, 415, 501.
    Unsupported(StatusCode),
    /// The node could not: 5xx, 429, no connection, no answer in time. What it said.
    Unavailable(String),
}

/// What the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Taken.
    Accepted(StatusCode),
    /// 400 with the items no node took.
    Items {
        /// Those.
        failures: Vec<ItemFailure>,
        /// A node's message.
        message: String,
    },
    /// Refused as a whole.
    Refused {
        /// 4xx.
        status: StatusCode,
        /// A node's message.
        message: String,
    },
    /// Nobody could: 503. What they said.
    Unavailable(String),
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
    #[serde(default)]
    failures: Vec<ItemFailure>,
}

/// Numbers stand bare in errors, and in quotes at nodes that quote everything.
fn position<'de, D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Number(usize),
        Text(String),
    }
    match Wire::deserialize(deserializer)? {
        Wire::Number(index) => Ok(index),
        Wire::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Reads a node's answer to a submission.
pub fn read_verdict(status: StatusCode, body: &[u8]) -> Verdict {
    match status.as_u16() {
        202 => Verdict::Partial(status),
        200..=299 => Verdict::Accepted(StatusCode::OK),
        404 | 405 | 406 | 415 | 501 => Verdict::Unsupported(status),
        408 | 425 | 429 => Verdict::Unavailable(status.to_string()),
        400..=499 => {
            let parsed = serde_json::from_slice::<ErrorBody>(body).ok();
            match parsed {
                Some(error) if !error.failures.is_empty() => {
                    let failures: Vec<ItemFailure> =
                        error.failures.into_iter().filter(|failure| !already_known(&failure.message)).collect();
                    if failures.is_empty() {
                        Verdict::Accepted(StatusCode::OK)
                    } else {
                        Verdict::Items { failures, message: error.message }
                    }
                }
                Some(error) if already_known(&error.message) => Verdict::Accepted(StatusCode::OK),
                Some(error) => Verdict::Refused { status, message: error.message },
                None => Verdict::Refused { status, message: String::from_utf8_lossy(body).chars().take(500).collect() },
            }
        }
        _ => {
            // Some clients answer 500 for a block they have.
            match serde_json::from_slice::<ErrorBody>(body) {
                Ok(error) if already_known(&error.message) => Verdict::Accepted(StatusCode::OK),
                Ok(error) if !error.message.is_empty() => Verdict::Unavailable(clean(&error.message)),
                Ok(_) | Err(_) => Verdict::Unavailable(status.to_string()),
            }
        }
    }
}

/// A node's words in an error of ours: one line, not too long.
fn clean(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// Whether a message says that the node has the item already; of several messages, a line each under a heading, all
/// must. Clients word it differently; letters only are compared.
pub fn already_known(message: &str) -> bool {
    const HEADING: &str = "multipleerrors";
    let mut lines =
        message.lines().map(letters).filter(|line| !line.is_empty() && !line.starts_with(HEADING)).peekable();
    lines.peek().is_some() && lines.all(|line| says_known(&line))
}

fn letters(message: &str) -> String {
    message.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
}

fn says_known(letters: &str) -> bool {
    // The last one: what gossip has brought to a node before is not published again.
    const PHRASES: [&str; 8] = [
        "alreadyknown",
        "alreadyseen",
        "alreadyexists",
        "alreadyimported",
        "alreadyinpool",
        "priorattestationknown",
        "priorsynccommitteemessageknown",
        "publisherrorduplicate",
    ];
    PHRASES.iter().any(|phrase| letters.contains(phrase))
}

/// Combines what nodes said.
pub fn merge(verdicts: &[Verdict]) -> Merged {
    if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Accepted(_))) {
        return Merged::Accepted(StatusCode::OK);
    }
    if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Partial(_))) {
        return Merged::Accepted(StatusCode::ACCEPTED);
    }
    let lists: Vec<(&Vec<ItemFailure>, &String)> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Items { failures, message } => Some((failures, message)),
            Verdict::Accepted(_)
            | Verdict::Partial(_)
            | Verdict::Refused { .. }
            | Verdict::Unsupported(_)
            | Verdict::Unavailable(_) => None,
        })
        .collect();
    if let Some((first, message)) = lists.first() {
        let refused_by_all = in_all(&lists);
        let failures: Vec<ItemFailure> =
            messages(first).into_iter().filter(|(index, _)| refused_by_all.contains(index)).map(|(_, f)| f).collect();
        return if failures.is_empty() {
            Merged::Accepted(StatusCode::OK)
        } else {
            Merged::Items { failures, message: (*message).clone() }
        };
    }
    let refusal = verdicts.iter().find_map(|verdict| match verdict {
        Verdict::Refused { status, message } => Some(Merged::Refused { status: *status, message: message.clone() }),
        Verdict::Accepted(_)
        | Verdict::Partial(_)
        | Verdict::Items { .. }
        | Verdict::Unsupported(_)
        | Verdict::Unavailable(_) => None,
    });
    let unsupported = || {
        verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Unsupported(status) => Some(Merged::Refused {
                status: *status,
                message: "no node takes this; check the route and the content type".to_owned(),
            }),
            Verdict::Accepted(_)
            | Verdict::Partial(_)
            | Verdict::Items { .. }
            | Verdict::Refused { .. }
            | Verdict::Unavailable(_) => None,
        })
    };
    // A node that could not be asked may have taken it: 503 lets the client try again, which a refusal
    // by some and silence by others must, too.
    let reasons: Vec<&str> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Unavailable(reason) => Some(reason.as_str()),
            Verdict::Accepted(_)
            | Verdict::Partial(_)
            | Verdict::Items { .. }
            | Verdict::Refused { .. }
            | Verdict::Unsupported(_) => None,
        })
        .collect();
    let unsupported = if reasons.is_empty() { unsupported() } else { None };
    refusal.or(unsupported).unwrap_or_else(|| Merged::Unavailable(reasons.join("; ")))
}

fn in_all(lists: &[(&Vec<ItemFailure>, &String)]) -> BTreeSet<usize> {
    let mut sets =
        lists.iter().map(|(failures, _)| failures.iter().map(|failure| failure.index).collect::<BTreeSet<_>>());
    let first = sets.next().unwrap_or_default();
    sets.fold(first, |all, set| all.intersection(&set).copied().collect())
}

/// One failure per position, the first.
fn messages(failures: &[ItemFailure]) -> BTreeMap<usize, ItemFailure> {
    let mut map = BTreeMap::new();
    for failure in failures {
        map.entry(failure.index).or_insert_with(|| failure.clone());
    }
    map
}

#[cfg(test)]
mod tests {
    //! Proves: an item one node took is not reported, over all small cases; wording of "already known".
    use proptest::prelude::*;

    use super::*;

    fn items(indices: &[usize]) -> Verdict {
        let failures =
            indices.iter().map(|index| ItemFailure { index: *index, message: format!("bad {index}") }).collect();
        Verdict::Items { failures, message: "some".to_owned() }
    }

    fn silent() -> Verdict {
        Verdict::Unavailable("503".to_owned())
    }

    fn failing(merged: &Merged) -> Vec<usize> {
        match merged {
            Merged::Items { failures, .. } => failures.iter().map(|failure| failure.index).collect(),
            Merged::Accepted(_) | Merged::Refused { .. } | Merged::Unavailable(_) => Vec::new(),
        }
    }

    #[test]
    fn an_item_any_node_took_is_taken() {
        assert_eq!(failing(&merge(&[items(&[0, 2]), items(&[2, 3])])), [2]);
        assert_eq!(merge(&[items(&[0]), items(&[1])]), Merged::Accepted(StatusCode::OK));
        assert_eq!(merge(&[items(&[0]), Verdict::Accepted(StatusCode::OK)]), Merged::Accepted(StatusCode::OK));
        assert_eq!(failing(&merge(&[items(&[0]), silent()])), [0]);
    }

    #[test]
    fn success_beats_partial_beats_refusal_beats_silence() {
        let refused = Verdict::Refused { status: StatusCode::BAD_REQUEST, message: "invalid signature".to_owned() };
        let partial = Verdict::Partial(StatusCode::ACCEPTED);
        assert_eq!(merge(&[refused.clone(), partial.clone()]), Merged::Accepted(StatusCode::ACCEPTED));
        assert_eq!(merge(&[partial, Verdict::Accepted(StatusCode::OK)]), Merged::Accepted(StatusCode::OK));
        assert!(matches!(merge(&[silent(), refused]), Merged::Refused { .. }));
        assert_eq!(merge(&[silent(), silent()]), Merged::Unavailable("503; 503".to_owned()));
        assert_eq!(merge(&[]), Merged::Unavailable(String::new()));
        let unsupported = Verdict::Unsupported(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(matches!(merge(std::slice::from_ref(&unsupported)), Merged::Refused { .. }));
        assert!(matches!(merge(&[unsupported, silent()]), Merged::Unavailable(_)));
    }

    #[test]
    fn answers_are_read() {
        let bad = StatusCode::BAD_REQUEST;
        assert_eq!(
            read_verdict(bad, br#"{"code":400,"message":"m","failures":[{"index":1,"message":"x"},{"index":"2","message":"ATTESTATION_ALREADY_KNOWN"}]}"#),
            Verdict::Items { failures: vec![ItemFailure { index: 1, message: "x".to_owned() }], message: "m".to_owned() }
        );
        assert_eq!(
            read_verdict(bad, br#"{"code":400,"message":"m","failures":[{"index":1,"message":"PriorAttestationKnown { validator_index: 3 }"}]}"#),
            Verdict::Accepted(StatusCode::OK)
        );
        assert_eq!(
            read_verdict(bad, br#"{"code":400,"message":"block is already known"}"#),
            Verdict::Accepted(StatusCode::OK)
        );
        assert!(matches!(read_verdict(bad, b"<html>"), Verdict::Refused { .. }));
        assert!(matches!(read_verdict(StatusCode::SERVICE_UNAVAILABLE, b""), Verdict::Unavailable(_)));
        let syncing = br#"{"code":503,"message":"node\nis syncing"}"#;
        assert_eq!(
            read_verdict(StatusCode::SERVICE_UNAVAILABLE, syncing),
            Verdict::Unavailable("node is syncing".to_owned())
        );
        assert_eq!(read_verdict(StatusCode::ACCEPTED, b""), Verdict::Partial(StatusCode::ACCEPTED));
        assert!(matches!(read_verdict(StatusCode::NOT_FOUND, b""), Verdict::Unsupported(_)));
    }

    #[test]
    fn a_double_vote_is_not_already_known() {
        assert!(!already_known("Validator has already voted in this epoch"));
        assert!(!already_known("block is an equivocation"));
        assert!(already_known("SYNC_COMMITTEE_ERROR: Already_Seen"));
        assert!(!already_known(""));
    }

    #[test]
    fn of_several_messages_all_must_say_so() {
        assert!(already_known("Multiple errors on publishContributionAndProofs\nPublishError.Duplicate\nalready seen"));
        assert!(!already_known(
            "Multiple errors on publishAggregateAndProofs\nPublishError.Duplicate\ninvalid signature"
        ));
        assert!(!already_known("Multiple errors on publishAggregateAndProofs"));
        let body = br#"{"statusCode":500,"error":"Internal Server Error","message":"PublishError.Duplicate"}"#;
        assert_eq!(read_verdict(StatusCode::INTERNAL_SERVER_ERROR, body), Verdict::Accepted(StatusCode::OK));
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(Verdict::Accepted(StatusCode::OK)),
            Just(silent()),
            Just(Verdict::Unsupported(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            prop::collection::btree_set(0usize..4, 1..4).prop_map(|set| items(&set.into_iter().collect::<Vec<_>>())),
        ]
    }

    proptest! {
        #[test]
        fn a_reported_item_was_refused_by_every_node_that_judged(verdicts in prop::collection::vec(verdict(), 0..6)) {
            let merged = merge(&verdicts);
            for index in failing(&merged) {
                for verdict in &verdicts {
                    match verdict {
                        Verdict::Items { failures, .. } => prop_assert!(failures.iter().any(|f| f.index == index)),
                        Verdict::Accepted(_) | Verdict::Partial(_) => prop_assert!(false, "taken by a node"),
                        Verdict::Refused { .. } | Verdict::Unsupported(_) | Verdict::Unavailable(_) => {}
                    }
                }
            }
            let taken = verdicts.iter().any(|v| matches!(v, Verdict::Accepted(_)));
            prop_assert!(!taken || merged == Merged::Accepted(StatusCode::OK));
        }
    }
}
