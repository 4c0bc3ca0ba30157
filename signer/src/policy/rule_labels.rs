//! Which keys have the labels that rules name, for whoever looks at the policy beside a server or without one.
//!
//! Guarantees: only looks at the database, and only if a rule names a label. What cannot be known is not taken for "none".

use std::collections::{BTreeMap, BTreeSet};

use holdfast_access::{Decision, Effect, Explanation, Ground, Keys, Policy, RuleId};
use holdfast_domain::PublicKey;

use super::{KeysOfLabels, kept};
use crate::config::Config;
use crate::glance;
use crate::outcome::chain;

/// The keys that have the labels of rules, as far as that is known.
#[derive(Debug)]
pub(crate) enum RuleLabels {
    /// These; none are looked for if no rule names a label.
    Known(KeysOfLabels),
    /// None, as there is no database yet.
    NoDatabase,
    /// Rules name labels, and the database cannot be read.
    Unknown {
        /// Why.
        reason: String,
        /// A stand-in for the keys of each label, which is no key. So nothing is taken for about no key, and labels are told
        /// apart.
        stand_ins: KeysOfLabels,
    },
}

impl RuleLabels {
    /// Looks.
    pub(crate) fn look(config: &Config) -> Self {
        let named = named_labels(config);
        if named.is_empty() {
            return Self::Known(BTreeMap::new());
        }
        match config.database().map_err(Into::into).and_then(|target| glance::labels(&target, config)) {
            Ok(Some(labels)) => {
                Self::Known(labels.into_iter().map(|(label, keys)| (label.to_string(), keys)).collect())
            }
            Ok(None) => Self::NoDatabase,
            Err(error) => Self::unknown(named, chain(&error)),
        }
    }

    fn unknown(named: BTreeSet<String>, reason: String) -> Self {
        let stand_in = |number: u64| {
            // No point of the curve is encoded so.
            let mut bytes = [0xff; 48];
            if let Some(end) = bytes.last_chunk_mut() {
                *end = u64::to_be_bytes(number);
            }
            PublicKey::from_bytes(bytes)
        };
        let stand_ins = (0..).zip(named).map(|(number, label)| (label, BTreeSet::from([stand_in(number)])));
        Self::Unknown { reason, stand_ins: stand_ins.collect() }
    }

    /// In a running signer, whose rules have their keys already.
    pub(crate) const fn all_known() -> Self {
        Self::Known(BTreeMap::new())
    }

    /// Whether the database cannot be read.
    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// What to compile the policy with.
    pub(crate) fn keys(&self) -> KeysOfLabels {
        match self {
            Self::Known(labels) | Self::Unknown { stand_ins: labels, .. } => labels.clone(),
            Self::NoDatabase => BTreeMap::new(),
        }
    }

    /// What a reader has to know of it; `None` if nothing.
    pub(crate) fn caveat(&self) -> Option<String> {
        match self {
            Self::Known(_) => None,
            Self::NoDatabase => Some("Rules name labels; there is no database yet, so no key has any.".to_owned()),
            Self::Unknown { reason, .. } => Some(format!(
                "Rules name labels, and which keys have them is not known, as the database cannot be read: {reason}"
            )),
        }
    }

    /// Whether a rule may be about keys of which that is not known.
    pub(crate) fn leaves_open(&self, policy: &Policy, rule: RuleId) -> bool {
        matches!(self, Self::Unknown { .. }) && policy.rule(rule).is_some_and(|rule| names_labels(&rule.keys))
    }

    /// Whether a decision about a key could be another one if labels were known.
    pub(crate) fn leaves_undecided(&self, policy: &Policy, explanation: &Explanation) -> bool {
        let effect = match explanation.decision {
            Decision::Allowed(_) => Effect::Deny,
            Decision::Denied(Ground::NothingAllows) => Effect::Allow,
            Decision::Denied(_) => return false,
        };
        explanation.considered.iter().any(|one| {
            one.effect == effect && one.caller && one.operation && !one.key && self.leaves_open(policy, one.rule)
        })
    }
}

/// The labels that rules of the configuration name, and rules that were given in place of them, as far as these can be read.
pub(crate) fn named_labels(config: &Config) -> BTreeSet<String> {
    let given = kept::read(&config.policy_file(), KeysOfLabels::new()).ok().flatten();
    let given = given.iter().flat_map(|kept| &kept.written.entries);
    config.policy.iter().chain(given).filter_map(|rule| rule.labels.as_ref()).flatten().cloned().collect()
}

fn names_labels(keys: &Keys) -> bool {
    match keys {
        Keys::All => false,
        Keys::Only(only) => !only.labels.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    //! Proves: labels that are not known decide nothing, and keep nothing from being said that does not hang on them.
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use holdfast_access::{
        Caller, CallerName, Callers, Directory, KeyNames, Means, Operation, OperationSet, Rule, RuleName,
    };

    use super::*;

    const KEY: PublicKey = PublicKey::from_bytes([7; 48]);

    fn rule(place: usize, effect: Effect, names: Option<KeyNames>) -> Rule {
        Rule {
            name: RuleName::of_place(place),
            effect,
            callers: Callers { names: None, means: None },
            keys: names.map_or(Keys::All, Keys::Only),
            operations: OperationSet::named("duties").unwrap(),
            rate: None,
        }
    }

    fn labelled() -> KeyNames {
        KeyNames { labels: vec!["a".to_owned()], ..KeyNames::default() }
    }

    fn undecided(labels: &RuleLabels, rules: Vec<Rule>, key: Option<&PublicKey>) -> bool {
        let policy = Policy::compile(rules, Directory { groups: BTreeMap::new(), labels: labels.keys() }).unwrap();
        let caller = Caller::new(CallerName::new("vc").unwrap(), Means::Basic);
        let operation = Operation::named("randao").unwrap();
        labels.leaves_undecided(&policy, &policy.explain(&caller, key, operation))
    }

    #[test]
    fn only_what_hangs_on_labels_is_left_undecided() {
        let unknown = RuleLabels::unknown(["a", "b"].map(str::to_owned).into(), "it is locked".to_owned());
        assert_eq!(unknown.keys().values().flatten().collect::<BTreeSet<_>>().len(), 2);
        assert!(unknown.caveat().unwrap().contains("not known, as the database cannot be read: it is locked"));
        let known = RuleLabels::Known(BTreeMap::from([("a".to_owned(), BTreeSet::from([KEY]))]));
        let own = || Some(KeyNames { keys: vec![KEY], ..KeyNames::default() });
        let both = || Some(KeyNames { keys: vec![KEY], ..labelled() });
        let table = [
            (vec![rule(1, Effect::Allow, Some(labelled()))], true),
            (vec![rule(1, Effect::Allow, None), rule(2, Effect::Deny, Some(labelled()))], true),
            (vec![rule(1, Effect::Allow, None), rule(2, Effect::Allow, Some(labelled()))], false),
            (vec![rule(1, Effect::Deny, own()), rule(2, Effect::Allow, Some(labelled()))], false),
            (vec![rule(1, Effect::Allow, both())], false),
            (vec![rule(1, Effect::Allow, own())], false),
        ];
        for (place, (rules, open)) in table.into_iter().enumerate() {
            assert_eq!(undecided(&unknown, rules.clone(), Some(&KEY)), open, "{place}");
            assert!(!undecided(&known, rules.clone(), Some(&KEY)), "{place}");
            assert!(!undecided(&RuleLabels::NoDatabase, rules, Some(&KEY)), "{place}");
        }
    }
}
