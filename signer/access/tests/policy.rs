//! Proves: the compiled policy decides as the oracle does, for every set of up to two rules over a small universe and for
//! random large ones, and names the rule that the explanation names.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::unnecessary_wraps,
    unreachable_pub,
    reason = "a test: a broken assumption must stop it; the oracle is shared with another program"
)]

#[path = "support/oracle.rs"]
mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use holdfast_access::{
    Caller, CallerName, Callers, Directory, Effect, Ground, KeyNames, Keys, Means, NamePattern, Operation,
    OperationSet, Policy, PolicyError, Rate, Rule, RuleName, Severity, lint,
};
use holdfast_domain::PublicKey;
use proptest::prelude::*;

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 48])
}

fn caller(name: &str, means: Means) -> Caller {
    Caller::new(CallerName::new(name).unwrap(), means)
}

fn patterns(names: &[&str]) -> Option<Vec<NamePattern>> {
    Some(names.iter().map(|name| NamePattern::new(name).unwrap()).collect())
}

fn operations(words: &[&str]) -> OperationSet {
    words.iter().map(|word| OperationSet::named(word).unwrap()).fold(OperationSet::NONE, OperationSet::union)
}

fn directory() -> Directory {
    let groups = [("pair", vec![1, 2]), ("none", vec![]), ("many", (10..40).collect())];
    let named = |(name, keys): (&str, Vec<u8>)| (name.to_owned(), keys.into_iter().map(key).collect());
    Directory { groups: groups.into_iter().map(named).collect(), labels: BTreeMap::from([named(("eu", vec![2, 3]))]) }
}

fn only(keys: &[u8], groups: &[&str], labels: &[&str]) -> Keys {
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Keys::Only(KeyNames { keys: keys.iter().copied().map(key).collect(), groups: texts(groups), labels: texts(labels) })
}

fn numbered(rules: Vec<Rule>) -> Vec<Rule> {
    let named = |(place, rule)| Rule { name: RuleName::of_place(place + 1), ..rule };
    rules.into_iter().enumerate().map(named).collect()
}

/// Compares all three ways to decide; says whether it is allowed.
fn agree(policy: &Policy, caller: &Caller, key: Option<&PublicKey>, operation: Operation) -> bool {
    let decision = policy.decide(caller, key, operation);
    let expected = oracle::allowed(policy.rules(), policy.directory(), caller, key, operation);
    assert_eq!(decision.is_allowed(), expected, "{caller} {key:?} {operation} under {:?}", policy.rules());
    assert_eq!(decision, policy.explain(caller, key, operation).decision, "{caller} {key:?} {operation}");
    if let Ground::Rule(id) = decision.ground() {
        let effect = policy.rule(id).unwrap().effect;
        assert_eq!(effect == Effect::Allow, expected, "the rule that decides says so itself");
    }
    expected
}

/// Every rule over a small universe.
fn universe() -> Vec<Rule> {
    let callers = [
        Callers::default(),
        Callers { names: patterns(&["a"]), means: None },
        Callers { names: patterns(&["b*"]), means: None },
        Callers { names: patterns(&["a", "b*"]), means: Some(vec![Means::Certificate]) },
    ];
    let keys = [
        Keys::All,
        only(&[1], &[], &[]),
        only(&[], &["pair"], &[]),
        only(&[], &["none"], &[]),
        only(&[3], &[], &["eu"]),
    ];
    let sets =
        [operations(&["signing"]), operations(&["exit", "list"]), operations(&["*"]), operations(&["admin.*.read"])];
    let mut rules = Vec::new();
    for callers in &callers {
        for keys in &keys {
            for operations in sets {
                for effect in [Effect::Allow, Effect::Deny] {
                    let (callers, keys, name) = (callers.clone(), keys.clone(), RuleName::of_place(1));
                    rules.push(Rule { name, effect, callers, keys, operations, rate: None });
                }
            }
        }
    }
    rules
}

#[test]
fn every_set_of_up_to_two_rules() {
    let callers = [caller("a", Means::Listener), caller("bc", Means::Certificate), caller("c", Means::Bearer)];
    let keys = [None, Some(key(1)), Some(key(2)), Some(key(3)), Some(key(9))];
    let asked = operations(&["exit", "list", "batch", "admin.keys.read"]);
    let rules = universe();
    let mut sets: Vec<Vec<Rule>> = vec![Vec::new()];
    sets.extend(rules.iter().map(|rule| vec![rule.clone()]));
    for first in &rules {
        sets.extend(rules.iter().map(|second| vec![first.clone(), second.clone()]));
    }
    let (mut allowed, mut denied) = (0_u64, 0_u64);
    for set in sets {
        let policy = Policy::compile(numbered(set), directory()).unwrap();
        for caller in &callers {
            for key in &keys {
                for operation in asked.iter() {
                    let yes = agree(&policy, caller, key.as_ref(), operation);
                    *(if yes { &mut allowed } else { &mut denied }) += 1;
                }
            }
        }
    }
    assert!(allowed > 100_000 && denied > 100_000, "both answers are tested: {allowed} and {denied}");
}

/// A policy with other labels decides as one that is compiled with them, and says which labels matter.
#[test]
fn labels_are_exchanged_and_nothing_else() {
    let keys = [None, Some(key(1)), Some(key(2)), Some(key(3)), Some(key(9))];
    let caller = caller("a", Means::Listener);
    for rules in universe().windows(2) {
        let before = Policy::compile(numbered(rules.to_vec()), directory()).unwrap();
        let labels = BTreeMap::from([("eu".to_owned(), BTreeSet::from([key(1), key(9)]))]);
        let after = before.with_labels(labels.clone());
        assert_eq!((after.rules(), &after.directory().labels), (before.rules(), &labels));
        assert_eq!(after.directory().groups, before.directory().groups);
        let named = rules.iter().any(|rule| rule.keys == only(&[3], &[], &["eu"]));
        assert_eq!((after.names_label("eu"), after.names_label("us")), (named, false));
        for operation in operations(&["exit", "list", "batch"]).iter() {
            for key in &keys {
                agree(&after, &caller, key.as_ref(), operation);
            }
        }
    }
}

fn some_rule() -> impl Strategy<Value = Rule> {
    let names = proptest::option::of(proptest::collection::vec("[ab*]{1,4}", 1..4));
    let means = proptest::option::weighted(0.2, proptest::sample::subsequence(Means::ALL.to_vec(), 1..4));
    let keys = proptest::option::of((
        proptest::collection::vec(0_u8..45, 0..4),
        proptest::sample::subsequence(vec!["pair", "none", "many"], 0..2),
        proptest::sample::subsequence(vec!["eu", "nowhere"], 0..2),
    ));
    let words: Vec<String> = OperationSet::words().chain(["*", "admin.*"].map(str::to_owned)).collect();
    let operations = proptest::sample::subsequence(words, 1..5);
    (names, means, keys, operations, proptest::bool::weighted(0.85)).prop_map(|(names, means, keys, words, allow)| {
        Rule {
            name: RuleName::of_place(1),
            effect: if allow { Effect::Allow } else { Effect::Deny },
            callers: Callers {
                names: names.map(|names| names.iter().map(|name| NamePattern::new(name).unwrap()).collect()),
                means,
            },
            keys: keys.map_or(Keys::All, |(keys, groups, labels)| only(&keys, &groups, &labels)),
            operations: operations_of(&words),
            rate: None,
        }
    })
}

fn operations_of(words: &[String]) -> OperationSet {
    operations(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Sizes on both sides of a word of the bit rows.
    #[test]
    fn random_policies(
        rules in prop_oneof![
            proptest::collection::vec(some_rule(), 1..8),
            proptest::collection::vec(some_rule(), 60..140),
        ],
        asks in proptest::collection::vec(("[ab]{1,4}", 0_usize..5, proptest::option::of(0_u8..45), 0_usize..Operation::COUNT), 60),
    ) {
        let policy = Policy::compile(numbered(rules), directory()).unwrap();
        for (name, means, number, operation) in asks {
            let caller = caller(&name, Means::ALL[means]);
            let operation = Operation::all().nth(operation).unwrap();
            agree(&policy, &caller, number.map(key).as_ref(), operation);
        }
        // Whatever is found can be printed; there are no rules without operations.
        for finding in lint(&policy, Some(&[caller("a", Means::Basic)])) {
            prop_assert!(!finding.message.is_empty());
        }
    }

    /// What the lint calls useless changes nothing.
    #[test]
    fn a_rule_that_never_applies_can_be_left_out(rules in proptest::collection::vec(some_rule(), 2..6)) {
        let mut rules = rules;
        // Denies whatever the first one allows.
        rules.push(Rule { effect: Effect::Deny, ..rules[0].clone() });
        let policy = Policy::compile(numbered(rules), directory()).unwrap();
        let useless: BTreeSet<usize> = lint(&policy, None)
            .into_iter()
            .filter(|finding| finding.message.contains("never applies: "))
            .filter_map(|finding| finding.place)
            .collect();
        let left: Vec<Rule> = policy.rules().iter().enumerate().filter(|(place, _)| !useless.contains(place)).map(|(_, rule)| rule.clone()).collect();
        let shorter = Policy::compile(left, directory()).unwrap();
        for name in ["a", "b", "ab", "ba"] {
            for means in Means::ALL {
                for number in [None, Some(1), Some(2), Some(3), Some(20), Some(44)] {
                    for operation in Operation::all() {
                        if number.is_none() && operation.is_judged_by_key() {
                            // It may be allowed as such and yet with no key.
                            continue;
                        }
                        let (caller, key) = (caller(name, means), number.map(key));
                        let decide = |policy: &Policy| policy.decide(&caller, key.as_ref(), operation).is_allowed();
                        prop_assert_eq!(decide(&policy), decide(&shorter));
                    }
                }
            }
        }
    }
}

fn rule(name: &str, effect: Effect, names: &[&str], words: &[&str]) -> Rule {
    Rule {
        name: RuleName::new(name).unwrap(),
        effect,
        callers: Callers { names: patterns(names), means: None },
        keys: Keys::All,
        operations: operations(words),
        rate: None,
    }
}

#[test]
fn what_is_no_policy() {
    let allow = rule("x", Effect::Allow, &["a"], &["list"]);
    let name = allow.name.clone();
    let compile = |rules| Policy::compile(rules, directory()).map(|_| ()).unwrap_err();
    assert_eq!(
        compile(vec![allow.clone(), allow.clone()]),
        PolicyError::DuplicateName { name: name.clone(), place: 1 }
    );
    let group = Rule { keys: only(&[], &["pear"], &[]), ..allow.clone() };
    assert_eq!(compile(vec![group]), PolicyError::UnknownGroup { name: name.clone(), group: "pear".into(), place: 0 });
    let rate = Some(Rate { per_second: 1.try_into().unwrap(), burst: 1.try_into().unwrap() });
    let rated = Rule { effect: Effect::Deny, rate, ..allow.clone() };
    assert_eq!(compile(vec![rated]), PolicyError::RateOnDenial { name, place: 0 });
    let many = numbered(vec![allow; Policy::MAX_RULES + 1]);
    assert_eq!(compile(many), PolicyError::TooManyRules { count: Policy::MAX_RULES + 1 });
}

#[test]
fn rates_of_every_rule_that_fits() {
    let rate =
        |per_second: u32| Some(Rate { per_second: per_second.try_into().unwrap(), burst: 1.try_into().unwrap() });
    let rules = vec![
        Rule { rate: rate(1), ..rule("one", Effect::Allow, &["a"], &["signing"]) },
        Rule { rate: rate(2), ..rule("two", Effect::Allow, &["*"], &["exit"]) },
        Rule { rate: rate(3), keys: only(&[7], &[], &[]), ..rule("three", Effect::Allow, &["a"], &["exit", "batch"]) },
        rule("four", Effect::Allow, &["a"], &["exit"]),
    ];
    let policy = Policy::compile(rules, Directory::default()).unwrap();
    let exit = OperationSet::named("exit").unwrap().iter().next().unwrap();
    let found = |name: &str, key: Option<PublicKey>, operation| -> Vec<usize> {
        policy.rates(&caller(name, Means::Basic), key.as_ref(), operation).iter().map(|(id, _)| id.place()).collect()
    };
    assert_eq!(found("a", Some(key(7)), exit), [0, 1, 2]);
    assert_eq!(found("a", Some(key(8)), exit), [0, 1]);
    assert_eq!(found("b", Some(key(7)), exit), [1]);
    assert_eq!(found("a", None, Operation::Batch), [2]);
    assert_eq!(found("a", None, Operation::ListKeys), [0; 0]);
}

#[test]
fn lint_finds() {
    let known = [caller("vc-1", Means::Basic), caller("dash", Means::Bearer)];
    let find = |rules: Vec<Rule>| -> Vec<(Severity, Option<usize>, String)> {
        let policy = Policy::compile(rules, directory()).unwrap();
        lint(&policy, Some(&known)).into_iter().map(|one| (one.severity, one.place, one.message)).collect()
    };
    let is = |found: &[(Severity, Option<usize>, String)], severity, place, part: &str| {
        assert!(
            found.iter().any(|one| one.0 == severity && one.1 == place && one.2.contains(part)),
            "{part}: {found:?}"
        );
    };
    let good = rule("duties", Effect::Allow, &["vc-*"], &["duties", "list"]);
    let dash = rule("dash", Effect::Allow, &["dash"], &["admin.*.read"]);
    assert_eq!(find(vec![good.clone(), dash.clone()]), []);
    assert_eq!(find(Vec::new()), []);
    let (warning, note) = (Severity::Warning, Severity::Note);
    let deny = rule("no", Effect::Deny, &["*"], &["signing", "list"]);
    is(&find(vec![deny.clone()]), warning, None, "no rule allows anything");
    is(&find(vec![good.clone(), deny, dash.clone()]), warning, Some(0), "`no` denies all");
    is(&find(vec![good.clone()]), note, None, "dash (bearer)");
    is(&find(vec![rule("x", Effect::Allow, &["vc1"], &["list"])]), warning, Some(0), "no caller has the name `vc1`");
    let means = Callers { names: patterns(&["dash"]), means: Some(vec![Means::Certificate]) };
    is(&find(vec![Rule { callers: means, ..dash.clone() }]), warning, Some(0), "by other means");
    is(
        &find(vec![Rule { keys: only(&[], &["none"], &["nowhere"]), ..good.clone() }]),
        warning,
        Some(0),
        "no key at all",
    );
    let audit = rule("audit", Effect::Allow, &["dash"], &["admin.audit.read"]);
    is(&find(vec![Rule { keys: only(&[1], &[], &[]), ..audit }]), warning, Some(0), "about none");
    let again = rule("again", Effect::Allow, &["vc-1"], &["block"]);
    is(&find(vec![good, again, dash]), note, Some(1), "adds nothing to `duties`");
}
