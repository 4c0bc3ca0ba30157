//! Whether there are rules about who may do what, and whether they are sound.

use holdfast_access::{Severity, lint};

use super::super::rule_labels::RuleLabels;
use super::Finding;
use crate::config::{Config, compile_policy};
use crate::outcome::chain;

/// The policy.
pub(super) fn policy(config: &Config) -> Finding {
    let labels = RuleLabels::look(config);
    let written = match compile_policy(config, labels.keys()) {
        Ok(written) => written,
        Err(error) => return Finding::fail("policy", "the rules cannot be used", chain(&error)),
    };
    if written.policy.is_empty() {
        return Finding::warn(
            "policy",
            "there are no rules: EVERY caller may do EVERYTHING, with every key: sign exits, list, import and delete keys",
            "write [[policy]] rules; docs/policy.md has some to copy",
        );
    }
    let callers = super::super::policy::known_callers(config);
    let found = lint(&written.policy, callers.as_deref());
    let warnings = found.iter().filter(|one| one.severity == Severity::Warning).count();
    let rules = written.policy.rules().len();
    if let RuleLabels::Unknown { reason, .. } = &labels {
        let evidence = format!("{rules} rules, some by labels; which keys have them cannot be read: {reason}");
        Finding::warn("policy", evidence, "mend the database, then: holdfast policy check")
    } else if warnings == 0 {
        Finding::fine("policy", format!("{rules} rules"))
    } else {
        Finding::warn("policy", format!("{rules} rules, {warnings} hardly meant so"), "look at: holdfast policy check")
    }
}
