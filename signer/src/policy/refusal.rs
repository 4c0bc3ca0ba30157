//! What a caller is told, and what is counted and written down, when policy says no.

use core::fmt;

use holdfast_access::{Operation, RuleName};

/// On what ground.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// A rule denies it.
    Rule(RuleName),
    /// No rule allows it.
    Nothing,
    /// A rule allows it less often.
    Rate(RuleName),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(name) => write!(f, "rule \"{name}\" denies it"),
            Self::Nothing => f.write_str("no rule allows it"),
            Self::Rate(name) => write!(f, "rule \"{name}\" allows it less often"),
        }
    }
}

/// Policy refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(*operation, caller, why))]
pub(crate) struct PolicyRefusal {
    /// Who asked, as the journal names it.
    pub(crate) caller: String,
    /// For what.
    pub(crate) operation: Operation,
    /// On what ground.
    pub(crate) why: Why,
}

impl PolicyRefusal {
    /// Stable word for responses, metrics and logs.
    pub(crate) const fn reason(&self) -> &'static str {
        match self.why {
            Why::Rule(_) | Why::Nothing => "policy_denied",
            Why::Rate(_) => "policy_rate",
        }
    }

    /// Whether the same request may be allowed in a moment.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self.why, Why::Rate(_))
    }
}

fn describe(operation: Operation, caller: &str, why: &Why) -> String {
    let hint = match why {
        Why::Rule(_) | Why::Nothing => "`holdfast policy explain` shows which rules there are for it",
        Why::Rate(_) => "send it again in a moment",
    };
    format!("refused by policy: {operation} for the caller {caller}: {why}; {hint}")
}
