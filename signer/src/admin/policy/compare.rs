//! What differs between two policies, and what of one is hardly meant so, as messages.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_access::{Caller, Severity, lint};
use holdfast_domain::PublicKey;
use holdfast_wire::admin::v1::{PolicyChange, PolicyFinding};

use crate::config::WrittenPolicy;

/// Rules and groups that differ, by name; rules first.
pub(super) fn changes(before: &WrittenPolicy, after: &WrittenPolicy) -> Vec<PolicyChange> {
    let (old, new) = (rules(before), rules(after));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut changes: Vec<PolicyChange> = names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| PolicyChange {
            what: "rule".to_owned(),
            name: name.clone(),
            before: old.get(name).cloned(),
            after: new.get(name).cloned(),
            ..PolicyChange::default()
        })
        .collect();
    let (old, new) = (&before.policy.directory().groups, &after.policy.directory().groups);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let none = BTreeSet::new();
    let without = |some: &BTreeSet<PublicKey>, others: &BTreeSet<PublicKey>| -> Vec<String> {
        some.difference(others).map(ToString::to_string).collect()
    };
    let count = |group: Option<&BTreeSet<PublicKey>>| group.map(|keys| format!("{} keys", keys.len()));
    let groups = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).map(|name| {
        let (had, has) = (old.get(name).unwrap_or(&none), new.get(name).unwrap_or(&none));
        PolicyChange {
            what: "group".to_owned(),
            name: name.clone(),
            before: count(old.get(name)),
            after: count(new.get(name)),
            keys_added: without(has, had),
            keys_removed: without(had, has),
        }
    });
    changes.extend(groups);
    changes
}

/// Rules as TOML, by their names.
fn rules(written: &WrittenPolicy) -> BTreeMap<String, String> {
    let names = written.policy.rules().iter().map(|rule| rule.name.to_string());
    // A rule that came from TOML has a form in it.
    names.zip(written.entries.iter().map(|entry| toml::to_string(entry).unwrap_or_default())).collect()
}

/// What is hardly meant so, in the order of the rules. `callers` are those there can be, where that is known.
pub(super) fn findings(written: &WrittenPolicy, callers: Option<&[Caller]>) -> Vec<PolicyFinding> {
    let mut found = lint(&written.policy, callers);
    found.sort_by_key(|finding| finding.place);
    let message = |finding: holdfast_access::Finding| {
        let rule = finding.place.and_then(|place| written.policy.rules().get(place));
        let line = finding.place.and_then(|place| written.entries.get(place)).map_or(0, |entry| entry.line);
        PolicyFinding {
            warning: finding.severity == Severity::Warning,
            rule: rule.map_or_else(String::new, |rule| rule.name.to_string()),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            message: finding.message,
        }
    };
    found.into_iter().map(message).collect()
}

#[cfg(test)]
mod tests {
    //! Proves: rules and keys that come, go and change are named, and what stays is not.
    use super::*;
    use crate::policy::KeysOfLabels;

    fn key(byte: u8) -> String {
        format!("0x{}", hex::encode([byte; 48]))
    }

    #[test]
    fn what_differs_is_named() {
        let written = |text: &str| WrittenPolicy::parse(text, KeysOfLabels::new()).unwrap();
        let rule = |name: &str, word: &str| {
            format!("[[policy]]\nname = \"{name}\"\neffect = \"allow\"\noperations = [\"{word}\"]\n")
        };
        let group = |keys: &[u8]| {
            let keys: Vec<String> = keys.iter().map(|byte| format!("\"{}\"", key(*byte))).collect();
            format!("[[groups]]\nname = \"g\"\nkeys = [{}]\n", keys.join(","))
        };
        let old =
            written(&format!("{}{}{}{}", rule("a", "list"), rule("b", "list"), rule("c", "list"), group(&[1, 2])));
        let new =
            written(&format!("{}{}{}{}", rule("c", "list"), rule("b", "exit"), rule("d", "list"), group(&[2, 3])));
        assert_eq!(changes(&old, &old), []);
        let found = changes(&old, &new);
        let told: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.before.is_some(), one.after.is_some())).collect();
        assert_eq!(told, [("a", true, false), ("b", true, true), ("d", false, true), ("g", true, true)]);
        assert!(found[1].before.as_ref().is_some_and(|text| text.contains("\"list\"")), "{:?}", found[1]);
        assert!(found[1].after.as_ref().is_some_and(|text| text.contains("\"exit\"")), "{:?}", found[1]);
        assert_eq!((&found[3].keys_added, &found[3].keys_removed), (&vec![key(3)], &vec![key(1)]));
        let whole = changes(&old, &written(""));
        assert_eq!(whole.len(), 4);
        assert_eq!((whole[3].after.as_ref(), whole[3].keys_removed.len()), (None, 2));
    }
}
