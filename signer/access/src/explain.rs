//! Why a policy decides as it does, rule by rule.

use crate::policy::{Decision, Ground, RuleId};
use crate::rule::{Ask, Directory, Effect, Keys, Rule};

/// One rule and what of it fits a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Considered {
    /// The rule.
    pub rule: RuleId,
    /// What it says.
    pub effect: Effect,
    /// Whether it is about this caller.
    pub caller: bool,
    /// Whether it is about this operation.
    pub operation: bool,
    /// Whether it is about this key, or about none.
    pub key: bool,
}

impl Considered {
    /// Whether all of it fits.
    pub const fn fits(&self) -> bool {
        self.caller && self.operation && self.key
    }
}

/// A decision, and every rule that was considered, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The rules.
    pub considered: Vec<Considered>,
}

pub(crate) fn explain(rules: &[Rule], directory: &Directory, ask: &Ask<'_>) -> Explanation {
    let considered: Vec<Considered> = rules
        .iter()
        .enumerate()
        .map(|(place, rule)| Considered {
            rule: RuleId::of(place),
            effect: rule.effect,
            caller: rule.callers.fit(ask.caller),
            operation: rule.operations.contains(ask.operation),
            key: match (&rule.keys, ask.key) {
                (Keys::All, _) => true,
                (Keys::Only(only), Some(key)) => directory.names(only, key),
                // It allows where each key is judged afterwards; it denies nothing that is about no key.
                (Keys::Only(_), None) => rule.effect == Effect::Allow && ask.operation.is_judged_by_key(),
            },
        })
        .collect();
    let first = |effect| considered.iter().find(|one| one.effect == effect && one.fits()).map(|one| one.rule);
    let decision = match (first(Effect::Deny), first(Effect::Allow)) {
        _ if rules.is_empty() => Decision::Allowed(Ground::NoRules),
        (Some(rule), _) => Decision::Denied(Ground::Rule(rule)),
        (None, Some(rule)) => Decision::Allowed(Ground::Rule(rule)),
        (None, None) => Decision::Denied(Ground::NothingAllows),
    };
    Explanation { decision, considered }
}
