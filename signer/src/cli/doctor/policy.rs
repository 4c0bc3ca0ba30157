//! Whether there are rules about who may do what, and whether they are sound.

use std::path::PathBuf;

use holdfast_access::{Severity, lint};

use super::Finding;
use crate::config::Config;
use crate::outcome::chain;
use crate::policy::rule_labels::RuleLabels;
use crate::policy::{Given, Origin, RuleSources, known_callers};

/// The policy.
pub(super) fn policy(config: &Config) -> Finding {
    let labels = RuleLabels::look(config);
    let sources = match RuleSources::read(config, PathBuf::new(), labels.keys(), Given::unknown()) {
        Ok(sources) => sources,
        Err(error) => return Finding::fail("policy", "the rules cannot be used", chain(&error)),
    };
    let book = sources.in_force();
    let written = &book.written;
    if written.policy.is_empty() {
        return Finding::warn(
            "policy",
            "there are no rules: EVERY caller may do EVERYTHING, with every key: sign exits, list, import and delete keys",
            "write [[policy]] rules; docs/policy.md has some to copy",
        );
    }
    let callers = known_callers(config);
    let found = lint(&written.policy, callers.as_deref());
    let warnings = found.iter().filter(|one| one.severity == Severity::Warning).count();
    let rules = written.count();
    let whose = match book.origin {
        Origin::Configuration => String::new(),
        Origin::Given => format!(
            ", given through the admin API by {} at {}, in place of the configuration's",
            book.given.by,
            book.given.since.rfc3339()
        ),
    };
    if let RuleLabels::Unknown { reason, .. } = &labels {
        let evidence = format!("{rules} rules{whose}, some by labels; which keys have them cannot be read: {reason}");
        Finding::warn("policy", evidence, "mend the database, then: holdfast policy check")
    } else if warnings == 0 {
        Finding::fine("policy", format!("{rules} rules{whose}"))
    } else {
        Finding::warn(
            "policy",
            format!("{rules} rules{whose}, {warnings} hardly meant so"),
            "look at: holdfast policy check",
        )
    }
}
