//! `[approvals]`: who approves dangerous acts, and how many of them it takes.

use core::fmt;
use core::str::FromStr;

use holdfast_approvals::{Act, Approver, Count, Policy, PolicyError, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[approvals]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApprovalsConfig {
    /// What needs approvals: "export" (keys leave), "replace_tombstone" (deleted keys come back), "lower_protection" (keys enter with less protection than the default), "policy" (of callers), "bulk_exit" (many voluntary exits at once). Changes of this section, "approvers", always do.
    pub(crate) acts: Vec<ActWord>,
    /// Who may approve, each as "NAME ssh-ed25519 AAAA…", the line of an OpenSSH public key after a name. With nobody here nothing needs approvals. The first use pins this section in the database; later changes need `holdfast approvals adopt` and approvals by the people there were.
    pub(crate) approvers: Vec<ApproverEntry>,
    /// How many validators `holdfast exits sign` may sign for at once without approvals. More than none lets many be signed one after the other.
    pub(crate) bulk_exit_above: u32,
    /// How long a request lives, in hours: at most 720.
    pub(crate) lifetime_hours: u32,
    /// How many of the approvers it takes.
    pub(crate) threshold: u32,
}

impl Default for ApprovalsConfig {
    fn default() -> Self {
        Self {
            acts: Act::ALL.into_iter().map(ActWord).collect(),
            approvers: Vec::new(),
            bulk_exit_above: 0,
            lifetime_hours: 24,
            threshold: 2,
        }
    }
}

/// An act that can need approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ActWord(pub(crate) Act);

impl fmt::Display for ActWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        word.parse().map(Self)
    }
}

/// Somebody who may approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApproverEntry(pub(crate) Approver);

impl fmt::Display for ApproverEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ApproverEntry {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        text.parse().map(Self)
    }
}

impl ApprovalsConfig {
    /// The approvers and what needs them; `None` if nothing does.
    ///
    /// # Errors
    /// [`ConfigError`], which says what does not fit.
    pub(crate) fn policy(&self) -> Result<Option<Policy>, ConfigError> {
        if self.approvers.is_empty() {
            return Ok(None);
        }
        let people = self.approvers.iter().map(|entry| entry.0.clone()).collect();
        let lifetime = Seconds(u64::from(self.lifetime_hours).saturating_mul(3_600));
        let acts = self.acts.iter().map(|word| word.0);
        Policy::new(people, Count(self.threshold), acts, Count(self.bulk_exit_above), lifetime).map(Some).map_err(
            |error| {
                let key = match &error {
                    PolicyError::Threshold { .. } => "approvals.threshold",
                    PolicyError::Lifetime => "approvals.lifetime_hours",
                    PolicyError::Name
                    | PolicyError::Key(_)
                    | PolicyError::SameName(_)
                    | PolicyError::SameKey(_, _)
                    | PolicyError::TooMany
                    | PolicyError::Stored => "approvals.approvers",
                };
                ConfigError::Setting { key, problem: format!("cannot be as it is: {error}") }
            },
        )
    }
}
