//! Rules: which callers, which keys, which operations, and whether that is allowed.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use holdfast_domain::PublicKey;

use crate::caller::{Caller, CallerName, Means};
use crate::operation::Operation;
use crate::operation_set::OperationSet;
use crate::pattern::NamePattern;

/// What a rule says about what it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It may be done, unless another rule denies it.
    Allow,
    /// It may not be done, whatever other rules allow.
    Deny,
}

impl Effect {
    /// Stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The name of a rule, in answers, logs and the journal. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName(Arc<str>);

impl RuleName {
    /// Longest name, in characters.
    pub const MAX_CHARACTERS: usize = 64;

    /// Takes a name; `None` if it is empty, too long, or has a control character.
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.trim().is_empty() && name.chars().count() <= Self::MAX_CHARACTERS;
        (fits && !name.chars().any(char::is_control)).then(|| Self(name.into()))
    }

    /// The name of a rule that was given none: its place, from 1.
    pub fn of_place(place: usize) -> Self {
        Self(format!("rule {place}").into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which callers a rule is about: those whose name fits one of the names and whose means is one of the means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Callers {
    /// Names and patterns; `None` for every name.
    pub names: Option<Vec<NamePattern>>,
    /// How the name was proved; `None` for any means.
    pub means: Option<Vec<Means>>,
}

impl Callers {
    /// Whether a rule about these is about `caller`.
    pub fn fit(&self, caller: &Caller) -> bool {
        self.fit_name(caller.name()) && self.fit_means(caller.means())
    }

    /// Whether it is about callers of this name.
    pub fn fit_name(&self, name: &CallerName) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|pattern| pattern.matches(name)))
    }

    /// Whether it is about callers who prove their name so.
    pub fn fit_means(&self, means: Means) -> bool {
        self.means.as_ref().is_none_or(|all| all.contains(&means))
    }
}

/// Names of keys: themselves, groups of the configuration, labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyNames {
    /// Public keys.
    pub keys: Vec<PublicKey>,
    /// Groups.
    pub groups: Vec<String>,
    /// Labels that keys have.
    pub labels: Vec<String>,
}

/// Which keys a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// Every key, and requests that are about no key.
    All,
    /// Only these, and only requests about one of them.
    Only(KeyNames),
}

/// How often something may be done, by one caller under one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second, in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once, after a pause.
    pub burst: NonZeroU32,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name; no two rules of a policy have the same.
    pub name: RuleName,
    /// What it says.
    pub effect: Effect,
    /// About which callers.
    pub callers: Callers,
    /// About which keys.
    pub keys: Keys,
    /// About which operations.
    pub operations: OperationSet,
    /// How often, for a rule that allows: what goes beyond it is refused, whatever other rules allow.
    pub rate: Option<Rate>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// By whom.
    pub(crate) caller: &'a Caller,
    /// With which key; `None` for the operation as such.
    pub(crate) key: Option<&'a PublicKey>,
    /// What.
    pub(crate) operation: Operation,
}

/// What the names in rules stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// The keys of each group.
    pub groups: BTreeMap<String, BTreeSet<PublicKey>>,
    /// The keys that have each label.
    pub labels: BTreeMap<String, BTreeSet<PublicKey>>,
}

impl Directory {
    /// Whether a key is one of those named. A label that no key has names none.
    pub fn names(&self, names: &KeyNames, key: &PublicKey) -> bool {
        let within = |all: &BTreeMap<String, BTreeSet<PublicKey>>, wanted: &[String]| {
            wanted.iter().any(|name| all.get(name).is_some_and(|keys| keys.contains(key)))
        };
        names.keys.contains(key) || within(&self.groups, &names.groups) || within(&self.labels, &names.labels)
    }

    /// Every key that is named.
    pub fn keys(&self, names: &KeyNames) -> BTreeSet<PublicKey> {
        let groups = names.groups.iter().filter_map(|name| self.groups.get(name));
        let labels = names.labels.iter().filter_map(|name| self.labels.get(name));
        groups.chain(labels).flatten().chain(&names.keys).copied().collect()
    }
}
