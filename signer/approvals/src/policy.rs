//! Who approves, how many of them, and what for.
//!
//! Guarantees: a [`Policy`] that exists can be met, and each of its approvers has a name and a key of their own; it has one
//! form as text, so a digest of it stands for all of it.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::act::Act;
use crate::key::{ApproverKey, KeyError};

/// First line of a policy as text.
const HEAD: &str = "holdfast approvals policy 1";
/// Longest life of a request: what was approved longer ago than this, nobody remembers.
const MAX_LIFETIME: Seconds = Seconds(30 * 24 * 60 * 60);
/// Most approvers.
const MAX_APPROVERS: usize = 100;
/// Longest name, in characters.
const MAX_NAME: usize = 64;

/// A number of people, approvals or validators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Count(pub u32);

/// A time span in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seconds(pub u64);

/// The name of somebody who approves: letters, digits and `. _ - @` of ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApproverName(String);

impl fmt::Display for ApproverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ApproverName {
    type Err = PolicyError;

    fn from_str(name: &str) -> Result<Self, PolicyError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
        let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
        if good { Ok(Self(name.to_owned())) } else { Err(PolicyError::Name) }
    }
}

/// Somebody who approves, written `NAME ssh-ed25519 AAAA…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Approver {
    /// Their name.
    pub name: ApproverName,
    /// Their key.
    pub key: ApproverKey,
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.key)
    }
}

impl FromStr for Approver {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (name, key) = text.trim().split_once(' ').ok_or(PolicyError::Name)?;
        Ok(Self { name: name.parse()?, key: key.parse()? })
    }
}

/// Why these are no approvers, or cannot approve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The name, or no name at all.
    #[error(
        "an approver is written NAME ssh-ed25519 AAAA…; a name has 1 to {MAX_NAME} letters, digits and . _ - @ of ASCII"
    )]
    Name,
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A name twice.
    #[error("the approver {0} is named twice")]
    SameName(ApproverName),
    /// A key twice: one person would be two.
    #[error("the approvers {0} and {1} have the same key, so one person could approve as two")]
    SameKey(ApproverName, ApproverName),
    /// A number of approvals that can never be, or none.
    #[error("{} approvals of {} approvers are asked for; it must be at least 1, and there must be as many people", threshold.0, approvers.0)]
    Threshold {
        /// How many are asked for.
        threshold: Count,
        /// How many people there are.
        approvers: Count,
    },
    /// Too many people.
    #[error("more than {MAX_APPROVERS} approvers")]
    TooMany,
    /// A life of requests that is none, or too long.
    #[error("a request must live for at least a minute and at most 30 days")]
    Lifetime,
    /// A stored text that is no policy.
    #[error(
        "the approvers pinned in the database are not readable: another version wrote them, or somebody changed them"
    )]
    Stored,
}

/// SHA-256 of a policy's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyDigest(pub [u8; 32]);

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who approves, how many, what, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    approvers: Vec<Approver>,
    threshold: Count,
    acts: BTreeSet<Act>,
    bulk_exit_above: Count,
    lifetime: Seconds,
}

impl Policy {
    /// Checks and orders it. [`Act::Approvers`] is always among the acts.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn new(
        mut approvers: Vec<Approver>,
        threshold: Count,
        acts: impl IntoIterator<Item = Act>,
        bulk_exit_above: Count,
        lifetime: Seconds,
    ) -> Result<Self, PolicyError> {
        approvers.sort();
        for (place, one) in approvers.iter().enumerate() {
            for other in approvers.iter().skip(place.saturating_add(1)) {
                if one.name == other.name {
                    return Err(PolicyError::SameName(one.name.clone()));
                }
                if one.key.point() == other.key.point() {
                    return Err(PolicyError::SameKey(one.name.clone(), other.name.clone()));
                }
            }
        }
        if approvers.len() > MAX_APPROVERS {
            return Err(PolicyError::TooMany);
        }
        let people = Count(u32::try_from(approvers.len()).unwrap_or(u32::MAX));
        if threshold.0 == 0 || threshold > people {
            return Err(PolicyError::Threshold { threshold, approvers: people });
        }
        if lifetime < Seconds(60) || lifetime > MAX_LIFETIME {
            return Err(PolicyError::Lifetime);
        }
        let acts = acts.into_iter().chain([Act::Approvers]).collect();
        Ok(Self { approvers, threshold, acts, bulk_exit_above, lifetime })
    }

    /// The approvers, by name.
    pub fn approvers(&self) -> &[Approver] {
        &self.approvers
    }

    /// How many approvals are needed.
    pub fn threshold(&self) -> Count {
        self.threshold
    }

    /// How many validators may exit at once without approvals.
    pub fn bulk_exit_above(&self) -> Count {
        self.bulk_exit_above
    }

    /// How long a request lives.
    pub fn lifetime(&self) -> Seconds {
        self.lifetime
    }

    /// Whether an act needs approvals.
    pub fn needs(&self, act: Act) -> bool {
        self.acts.contains(&act)
    }

    /// Whose key it is.
    pub fn whose(&self, key: &ApproverKey) -> Option<&ApproverName> {
        self.approvers.iter().find(|approver| approver.key == *key).map(|approver| &approver.name)
    }

    /// All of it in its one form, for storing and for people.
    pub fn to_text(&self) -> String {
        let mut lines = vec![
            HEAD.to_owned(),
            format!("threshold {}", self.threshold.0),
            format!("lifetime-seconds {}", self.lifetime.0),
            format!("bulk-exit-above {}", self.bulk_exit_above.0),
        ];
        lines.extend(self.acts.iter().map(|act| format!("act {act}")));
        lines.extend(self.approvers.iter().map(|approver| format!("approver {approver}")));
        lines.push(String::new());
        lines.join("\n")
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// [`PolicyError`] for anything else.
    pub fn from_text(text: &str) -> Result<Self, PolicyError> {
        let mut lines = text.lines();
        let mut value = |name: &str| {
            let line = lines.next().ok_or(PolicyError::Stored)?;
            line.strip_prefix(name).map(str::to_owned).ok_or(PolicyError::Stored)
        };
        value(HEAD)?;
        let number = |text: String| text.parse::<u64>().map_err(|_| PolicyError::Stored);
        let small = |number: u64| u32::try_from(number).map(Count).map_err(|_| PolicyError::Stored);
        let threshold = small(number(value("threshold ")?)?)?;
        let lifetime = Seconds(number(value("lifetime-seconds ")?)?);
        let bulk_exit_above = small(number(value("bulk-exit-above ")?)?)?;
        let (mut acts, mut approvers) = (Vec::new(), Vec::new());
        for line in lines {
            if let Some(act) = line.strip_prefix("act ") {
                acts.push(act.parse().map_err(|_| PolicyError::Stored)?);
            } else {
                approvers.push(line.strip_prefix("approver ").ok_or(PolicyError::Stored)?.parse()?);
            }
        }
        let read = Self::new(approvers, threshold, acts, bulk_exit_above, lifetime)?;
        if read.to_text() == text { Ok(read) } else { Err(PolicyError::Stored) }
    }

    /// What stands for all of it.
    pub fn digest(&self) -> PolicyDigest {
        PolicyDigest(Sha256::digest(self.to_text().as_bytes()).into())
    }
}
