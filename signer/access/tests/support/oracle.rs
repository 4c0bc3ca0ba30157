//! What a policy must say, judged as slowly and plainly as the documentation words it; shares no code with the policy.
//! Also used by the tests on the real binary.

use holdfast_access::{Caller, Directory, Effect, Keys, Operation, Rule};
use holdfast_domain::PublicKey;

/// Whether it is allowed.
pub fn allowed(
    rules: &[Rule],
    directory: &Directory,
    caller: &Caller,
    key: Option<&PublicKey>,
    operation: Operation,
) -> bool {
    if rules.is_empty() {
        return true;
    }
    let about = |rule: &Rule| {
        is_about_caller(rule, caller)
            && rule.operations.iter().any(|one| one == operation)
            && is_about_key(rule, directory, key, operation)
    };
    for rule in rules {
        if rule.effect == Effect::Deny && about(rule) {
            return false;
        }
    }
    for rule in rules {
        if rule.effect == Effect::Allow && about(rule) {
            return true;
        }
    }
    false
}

fn is_about_caller(rule: &Rule, caller: &Caller) -> bool {
    let name: Vec<char> = caller.name().as_str().chars().collect();
    let name_fits = match &rule.callers.names {
        None => true,
        Some(patterns) => patterns.iter().any(|pattern| fits(&pattern.as_str().chars().collect::<Vec<_>>(), &name)),
    };
    let means_fit = match &rule.callers.means {
        None => true,
        Some(means) => means.iter().any(|one| *one == caller.means()),
    };
    name_fits && means_fit
}

fn is_about_key(rule: &Rule, directory: &Directory, key: Option<&PublicKey>, operation: Operation) -> bool {
    let Keys::Only(names) = &rule.keys else { return true };
    let Some(key) = key else {
        let each_key_is_judged = matches!(
            operation,
            Operation::Sign(_)
                | Operation::Batch
                | Operation::ListKeys
                | Operation::KeymanagerRead
                | Operation::KeymanagerWrite
        );
        return rule.effect == Effect::Allow && each_key_is_judged;
    };
    let mut all: Vec<PublicKey> = names.keys.clone();
    for group in &names.groups {
        all.extend(directory.groups.get(group).into_iter().flatten());
    }
    for label in &names.labels {
        all.extend(directory.labels.get(label).into_iter().flatten());
    }
    all.contains(key)
}

fn fits(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|skipped| fits(rest, &name[skipped..])),
        [first, rest @ ..] => name.first() == Some(first) && fits(rest, &name[1..]),
    }
}
