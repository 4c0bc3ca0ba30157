//! The acts that may need approvals.

use core::fmt;
use core::str::FromStr;

/// A dangerous act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// Keys leave as keystores.
    Export,
    /// A key that was deleted comes back.
    ReplaceTombstone,
    /// Keys enter with less protection than the default, or what may be missing is accepted.
    LowerProtection,
    /// The policy of callers changes.
    Policy,
    /// The approvers, their number, or what needs them changes. Needs the approvers there were, always.
    Approvers,
    /// More voluntary exits at once than are allowed without approvals.
    BulkExit,
}

impl Act {
    /// Every act.
    pub const ALL: [Self; 6] =
        [Self::Export, Self::ReplaceTombstone, Self::LowerProtection, Self::Policy, Self::Approvers, Self::BulkExit];

    /// Stable word for configuration, requests and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::ReplaceTombstone => "replace_tombstone",
            Self::LowerProtection => "lower_protection",
            Self::Policy => "policy",
            Self::Approvers => "approvers",
            Self::BulkExit => "bulk_exit",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Act {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|act| act.as_str() == word).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("{word:?} is no act that can need approvals; known are {known}")
        })
    }
}
