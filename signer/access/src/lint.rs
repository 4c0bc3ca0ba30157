//! What is allowed by the grammar of a policy and yet is hardly meant.
//!
//! Guarantees: it reports only what is certain from the rules and names given; a clean report is no proof that the
//! policy says what somebody wanted.

use core::fmt;

use crate::caller::Caller;
use crate::operation_set::OperationSet;
use crate::policy::Policy;
use crate::rule::{Callers, Effect, Keys, Rule};

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Almost certainly a mistake.
    Warning,
}

impl Severity {
    /// Stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Place of the rule, from 0; `None` if it is about the policy as a whole.
    pub place: Option<usize>,
    /// What, and what to do.
    pub message: String,
}

/// Looks at a policy. `callers` are those that can exist; `None` if that is not known.
pub fn lint(policy: &Policy, callers: Option<&[Caller]>) -> Vec<Finding> {
    let mut found = Vec::new();
    let rules = policy.rules();
    if rules.is_empty() {
        return found;
    }
    if rules.iter().all(|rule| rule.effect == Effect::Deny) {
        whole(
            &mut found,
            Severity::Warning,
            "no rule allows anything, so nobody may do anything; add a rule that allows",
        );
    }
    for (place, rule) in rules.iter().enumerate() {
        let mut warn =
            |message: String| found.push(Finding { severity: Severity::Warning, place: Some(place), message });
        if let Some(callers) = callers {
            for pattern in rule.callers.names.iter().flatten() {
                if !callers.iter().any(|caller| pattern.matches(caller.name())) {
                    warn(format!("no caller has the name `{pattern}`; add the caller, or correct the name"));
                }
            }
            if !callers.iter().any(|caller| rule.callers.fit(caller))
                && callers.iter().any(|caller| rule.callers.fit_name(caller.name()))
            {
                warn("the callers it names prove themselves by other means, so it never applies".to_owned());
            }
        }
        if let Keys::Only(only) = &rule.keys {
            let directory = policy.directory();
            if directory.keys(only).is_empty() {
                warn("it is about no key at all: its groups are empty, or no key has its labels".to_owned());
            }
            if rule.operations.iter().all(|operation| !operation.can_name_a_key()) {
                warn("it names keys, but its operations are about none, so it never applies".to_owned());
            }
        }
        if rule.effect == Effect::Allow {
            allowing(policy, place, rule, &mut found);
        }
    }
    for caller in callers.into_iter().flatten() {
        let allows = |rule: &Rule| rule.effect == Effect::Allow && rule.callers.fit(caller);
        if !rules.iter().any(allows) {
            whole(&mut found, Severity::Note, &format!("nothing is allowed to the caller {caller}"));
        }
    }
    found
}

fn whole(found: &mut Vec<Finding>, severity: Severity, message: &str) {
    found.push(Finding { severity, place: None, message: message.to_owned() });
}

/// What other rules make of one that allows.
fn allowing(policy: &Policy, place: usize, rule: &Rule, found: &mut Vec<Finding>) {
    let covers = |other: &&Rule| covers_callers(&other.callers, &rule.callers) && covers_keys(policy, other, rule);
    let mut denied = OperationSet::NONE;
    let mut by = Vec::new();
    for other in policy.rules().iter().filter(|other| other.effect == Effect::Deny).filter(covers) {
        if rule.operations.iter().any(|operation| other.operations.contains(operation)) {
            denied = denied.union(other.operations);
            by.push(format!("`{}`", other.name));
        }
    }
    if rule.operations.iter().all(|operation| denied.contains(operation)) {
        let message = format!("it never applies: {} denies all that it allows", by.join(" with "));
        found.push(Finding { severity: Severity::Warning, place: Some(place), message });
        return;
    }
    if rule.rate.is_some() {
        return;
    }
    let earlier = policy.rules().iter().take(place).filter(|other| other.effect == Effect::Allow);
    let same = |other: &&Rule| rule.operations.iter().all(|operation| other.operations.contains(operation));
    if let Some(other) = earlier.filter(covers).find(same) {
        let message = format!("it adds nothing to `{}`, which allows all of it", other.name);
        found.push(Finding { severity: Severity::Note, place: Some(place), message });
    }
}

fn covers_callers(wide: &Callers, narrow: &Callers) -> bool {
    let names = match (&wide.names, &narrow.names) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => narrow.iter().all(|one| wide.iter().any(|pattern| pattern.covers(one))),
        (Some(wide), None) => wide.iter().any(|pattern| pattern.as_str().bytes().all(|byte| byte == b'*')),
    };
    let means = match (&wide.means, &narrow.means) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => narrow.iter().all(|one| wide.contains(one)),
        (Some(_), None) => false,
    };
    names && means
}

fn covers_keys(policy: &Policy, wide: &Rule, narrow: &Rule) -> bool {
    match (&wide.keys, &narrow.keys) {
        (Keys::All, _) => true,
        (Keys::Only(_), Keys::All) => false,
        (Keys::Only(wide), Keys::Only(narrow)) => {
            let narrow = policy.directory().keys(narrow);
            !narrow.is_empty() && narrow.is_subset(&policy.directory().keys(wide))
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.as_str(), self.message)
    }
}
