//! What people approve of other rules for callers.
//!
//! Guarantees: two replacements with the same lines put the same rules in place of the same rules; every rule there will be
//! is shown, and every key that enters or leaves a group.

use std::collections::BTreeSet;

use holdfast_access::Directory;
use holdfast_approvals::Payload;
use holdfast_domain::PublicKey;

use crate::config::{PolicyEntry, WrittenPolicy};

/// `written`, which consists of `rules`, takes the place of what is in force: in words that hold its digest, and its groups.
pub(crate) fn of_rules(
    (before, directory): (&str, &Directory),
    written: &WrittenPolicy,
    rules: &[PolicyEntry],
) -> Payload {
    let mut lines = vec![
        "Replace the policy of callers: who may have what signed, and who may administer.".to_owned(),
        format!("In force until then: {before}"),
        format!("In force from then on: {} rules (SHA-256 {})", rules.len(), hex::encode(written.digest)),
    ];
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
    use crate::config::{Config, GroupEntry, compile_policy};

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
        let lines = of_rules(("0 rules (SHA-256 1f)", &before), &written, &config.policy).lines().join("\n");
        for part in [
            "In force until then: 0 rules (SHA-256 1f)".to_owned(),
            format!("In force from then on: 1 rules (SHA-256 {})", hex::encode(written.digest)),
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
