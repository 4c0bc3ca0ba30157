//! What people approve of other rules for callers.
//!
//! Guarantees: two replacements with the same lines put the same rules in place of the same rules; every rule there will be
//! is shown, and every key that enters or leaves a group.

use std::collections::BTreeSet;

use holdfast_access::Directory;
use holdfast_approvals::Payload;
use holdfast_domain::PublicKey;

use crate::config::WrittenPolicy;

/// How rules come to be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The configuration is read again.
    Reload,
    /// They are given through the admin API.
    Given,
    /// Those that were given are withdrawn.
    Withdrawn,
}

/// `written` takes the place of what is in force: in words that hold its digest, and its groups.
pub(crate) fn of_rules((before, directory): (&str, &Directory), written: &WrittenPolicy, way: Way) -> Payload {
    let rules = &written.entries;
    let mut lines = vec![
        "Replace the policy of callers: who may have what signed, and who may administer.".to_owned(),
        format!("In force until then: {before}"),
        format!("In force from then on: {} rules (SHA-256 {})", rules.len(), written.digest),
    ];
    lines.push(
        match way {
            Way::Reload => "They are those of the configuration file, which is read again.",
            Way::Given => {
                "They are given through the admin API, and stay in force over restarts until they are withdrawn."
            }
            Way::Withdrawn => "They are those of the configuration: what was given through the admin API is withdrawn.",
        }
        .to_owned(),
    );
    if rules.is_empty() {
        lines.push("From then on whoever may ask may do everything.".to_owned());
    }
    // A rule that has no form in JSON is a bug, and the digest differs all the same.
    lines.extend(rules.iter().map(|rule| format!("rule {}", serde_json::to_string(rule).unwrap_or_default())));
    let (old, new) = (&directory.groups, &written.policy.directory().groups);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let nothing = BTreeSet::new();
    for name in names {
        let (had, has): (&BTreeSet<PublicKey>, _) =
            (old.get(name).unwrap_or(&nothing), new.get(name).unwrap_or(&nothing));
        lines.push(format!("group {name}: {} keys, until then {}", has.len(), had.len()));
        lines.extend(has.difference(had).map(|key| format!("group {name} gains key {key}")));
        lines.extend(had.difference(has).map(|key| format!("group {name} loses key {key}")));
    }
    Payload::new(lines)
}

#[cfg(test)]
mod tests {
    //! Proves: rules are shown, and what enters and leaves groups.
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, GroupEntry, PolicyEntry, compile_policy};

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 48])
    }

    #[test]
    fn rules_are_shown_and_what_groups_gain_and_lose() {
        let rule = r#"{ "name": "few", "effect": "deny", "groups": ["g"], "operations": ["exit"] }"#;
        let entry: PolicyEntry = serde_json::from_str(rule).unwrap();
        let keys = [1, 2].map(|number| format!("\"{}\"", key(number))).join(", ");
        let group: GroupEntry = serde_json::from_str(&format!(r#"{{ "name": "g", "keys": [{keys}] }}"#)).unwrap();
        let config = Config { policy: vec![entry], groups: vec![group], ..Config::default() };
        let written = compile_policy(&config, BTreeMap::new()).unwrap();
        let groups = [("g".to_owned(), [key(2), key(3)].into()), ("h".to_owned(), [key(4)].into())].into();
        let before = Directory { groups, labels: BTreeMap::new() };
        let of = |way| of_rules(("0 rules (SHA-256 1f)", &before), &written, way);
        assert!(of(Way::Reload) != of(Way::Given) && of(Way::Given) != of(Way::Withdrawn));
        let lines = of(Way::Reload).lines().join("\n");
        for part in [
            "In force until then: 0 rules (SHA-256 1f)".to_owned(),
            format!("In force from then on: 1 rules (SHA-256 {})", written.digest),
            r#"rule {"name":"few","effect":"deny","groups":["g"],"operations":["exit"]}"#.to_owned(),
            "group g: 2 keys, until then 2".to_owned(),
            format!("group g gains key {}", key(1)),
            format!("group g loses key {}", key(3)),
            format!("group h loses key {}", key(4)),
        ] {
            assert!(lines.contains(&part), "no {part:?} in:\n{lines}");
        }
        assert!(!lines.contains(&key(2).to_string()));
    }
}
