//! The policy: rules in a form in which deciding is cheap.
//!
//! Why it exists: every signature asks, thousands of times at the start of a slot. What it guarantees: a denial by any
//! rule wins; where there are rules and none allows, the answer is no; without rules everything is allowed. Nothing is
//! allocated for a decision, and what it costs does not grow with the number of keys.
//!
//! How: each thing that a request can have (a name, a means, an operation, a key) has a row of bits, one for each rule
//! that it fits. The rules that fit a request are the rows' intersection. Keys with the same row share it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdfast_domain::PublicKey;

use crate::caller::{Caller, CallerName, Means};
use crate::explain::{Explanation, explain};
use crate::operation::Operation;
use crate::pattern::NamePattern;
use crate::rule::{Ask, Directory, Effect, Keys, Rate, Rule, RuleName};

/// Bits of a word of a row.
const BITS: usize = 64;
/// Words of the longest row.
const MAX_WORDS: usize = Policy::MAX_RULES / BITS;

/// A bit for each rule.
type Row = Box<[u64]>;

/// A rule of one policy, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(u16);

impl RuleId {
    pub(crate) fn of(place: usize) -> Self {
        // There are fewer rules than this can count.
        Self(u16::try_from(place).unwrap_or(u16::MAX))
    }

    /// Its place, from 0.
    pub fn place(self) -> usize {
        self.0.into()
    }
}

/// Why it was decided so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ground {
    /// There are no rules at all.
    NoRules,
    /// This rule says so. Of several, the first one in the file.
    Rule(RuleId),
    /// There are rules, and none allows it.
    NothingAllows,
    /// This rule allows it less often.
    Rate(RuleId),
}

/// What a policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// It may be done.
    Allowed(Ground),
    /// It may not.
    Denied(Ground),
}

impl Decision {
    /// Whether it may be done.
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// Why.
    pub const fn ground(self) -> Ground {
        match self {
            Self::Allowed(ground) | Self::Denied(ground) => ground,
        }
    }
}

/// Why rules are no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More than a decision has room for.
    #[error(
        "there are {count} rules; at most {} are possible, so name several callers, groups or operations in one",
        Policy::MAX_RULES
    )]
    TooManyRules {
        /// How many.
        count: usize,
    },
    /// Two rules of one name.
    #[error("two rules have the name {name:?}; give each a name of its own")]
    DuplicateName {
        /// The name.
        name: RuleName,
        /// Place of the second one, from 0.
        place: usize,
    },
    /// A group that is not there.
    #[error("rule {name:?} names the group {group:?}, which is not defined")]
    UnknownGroup {
        /// The rule.
        name: RuleName,
        /// The group.
        group: String,
        /// Place of the rule, from 0.
        place: usize,
    },
    /// A rate on a denial.
    #[error("rule {name:?} denies, so it cannot have a rate; put the rate on a rule that allows")]
    RateOnDenial {
        /// The rule.
        name: RuleName,
        /// Place of the rule, from 0.
        place: usize,
    },
}

/// Rules, compiled.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    directory: Directory,
    /// Words of every row.
    words: usize,
    allow: Row,
    deny: Row,
    rated: Row,
    every: Row,
    /// Rules that are about any key and about requests for none.
    any_key: Row,
    by_means: Vec<Row>,
    by_operation: Vec<Row>,
    /// Names that stand in rules, with the patterns they fit.
    by_name: HashMap<CallerName, Row>,
    /// For other names.
    by_pattern: Vec<(NamePattern, Row)>,
    /// Rules that are about any name.
    any_name: Row,
    class_of_key: HashMap<PublicKey, u32>,
    classes: Vec<Row>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::from_checked(Vec::new(), Directory::default())
    }
}

impl Policy {
    /// Most rules.
    pub const MAX_RULES: usize = 4_096;

    /// Compiles rules; `directory` says what the names of groups and labels in them stand for.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn compile(rules: Vec<Rule>, directory: Directory) -> Result<Self, PolicyError> {
        if rules.len() > Self::MAX_RULES {
            return Err(PolicyError::TooManyRules { count: rules.len() });
        }
        let mut names = BTreeSet::new();
        for (place, rule) in rules.iter().enumerate() {
            let name = || rule.name.clone();
            if !names.insert(&rule.name) {
                return Err(PolicyError::DuplicateName { name: name(), place });
            }
            if rule.rate.is_some() && rule.effect == Effect::Deny {
                return Err(PolicyError::RateOnDenial { name: name(), place });
            }
            if let Keys::Only(only) = &rule.keys
                && let Some(group) = only.groups.iter().find(|group| !directory.groups.contains_key(*group))
            {
                return Err(PolicyError::UnknownGroup { name: name(), group: group.clone(), place });
            }
        }
        drop(names);
        Ok(Self::from_checked(rules, directory))
    }

    /// The same rules where keys have these labels.
    #[must_use]
    pub fn with_labels(&self, labels: BTreeMap<String, BTreeSet<PublicKey>>) -> Self {
        let groups = self.directory.groups.clone();
        Self::from_checked(self.rules.clone(), Directory { groups, labels })
    }

    fn from_checked(rules: Vec<Rule>, directory: Directory) -> Self {
        let words = rules.len().div_ceil(BITS);
        let row = |fits: &dyn Fn(&Rule) -> bool| row(words, rules.iter().map(fits));
        let any_key = row(&|rule| rule.keys == Keys::All);
        let (classes, class_of_key) = classes(&rules, &directory, &any_key);
        let (mut exact, mut patterns) = (BTreeSet::new(), BTreeSet::new());
        for pattern in rules.iter().filter_map(|rule| rule.callers.names.as_ref()).flatten() {
            match pattern.as_exact().map(CallerName::new) {
                Some(Ok(name)) => drop(exact.insert(name)),
                // No caller has a name that begins with anything but a letter or a digit.
                Some(Err(_)) => {}
                None => drop(patterns.insert(pattern)),
            }
        }
        let names_pattern =
            |rule: &Rule, pattern| rule.callers.names.as_ref().is_some_and(|names| names.contains(pattern));
        Self {
            words,
            allow: row(&|rule| rule.effect == Effect::Allow),
            deny: row(&|rule| rule.effect == Effect::Deny),
            rated: row(&|rule| rule.rate.is_some()),
            every: row(&|_| true),
            by_means: Means::ALL.iter().map(|means| row(&|rule| rule.callers.fit_means(*means))).collect(),
            by_operation: Operation::all().map(|one| row(&|rule| rule.operations.contains(one))).collect(),
            by_name: exact
                .into_iter()
                .map(|name| {
                    let fits = row(&|rule| rule.callers.fit_name(&name));
                    (name, fits)
                })
                .collect(),
            by_pattern: patterns
                .into_iter()
                .map(|pattern| (pattern.clone(), row(&|rule| names_pattern(rule, pattern))))
                .collect(),
            any_name: row(&|rule| rule.callers.names.is_none()),
            any_key,
            classes,
            class_of_key,
            rules,
            directory,
        }
    }

    /// Whether there are no rules, so that everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a rule is about `caller` by its name, or by a pattern that is not for every name.
    pub fn names_caller(&self, caller: &Caller) -> bool {
        let named = |names: &[NamePattern]| {
            names
                .iter()
                .any(|pattern| pattern.as_str().bytes().any(|byte| byte != b'*') && pattern.matches(caller.name()))
        };
        self.rules
            .iter()
            .any(|rule| rule.callers.fit_means(caller.means()) && rule.callers.names.as_deref().is_some_and(named))
    }

    /// What the names in the rules stand for.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Whether a rule is about keys that have this label.
    pub fn names_label(&self, label: &str) -> bool {
        self.rules.iter().any(|rule| match &rule.keys {
            Keys::All => false,
            Keys::Only(only) => only.labels.iter().any(|one| one == label),
        })
    }

    /// The rule behind a decision of this policy.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(id.place())
    }

    /// Whether `caller` may do `operation` with `key`, or, without one, the operation as such: for an operation
    /// [that is judged by key](Operation::is_judged_by_key), whether there may be keys with which it may; for others,
    /// whether it may without being held to some keys. Rates are not looked at.
    pub fn decide(&self, caller: &Caller, key: Option<&PublicKey>, operation: Operation) -> Decision {
        if self.rules.is_empty() {
            return Decision::Allowed(Ground::NoRules);
        }
        let mut room = [0; MAX_WORDS];
        let names = self.names(caller.name(), &mut room);
        let keys = self.keys(key);
        let denied = self.first(&[names, self.means(caller), self.operation(operation), keys, &self.deny]);
        if let Some(rule) = denied {
            return Decision::Denied(Ground::Rule(rule));
        }
        let keys = if key.is_none() && operation.is_judged_by_key() { &self.every } else { keys };
        match self.first(&[names, self.means(caller), self.operation(operation), keys, &self.allow]) {
            Some(rule) => Decision::Allowed(Ground::Rule(rule)),
            None => Decision::Denied(Ground::NothingAllows),
        }
    }

    /// The rates that bound such a request. All of them must have room for it.
    pub fn rates(&self, caller: &Caller, key: Option<&PublicKey>, operation: Operation) -> Vec<(RuleId, Rate)> {
        if self.rated.iter().all(|word| *word == 0) {
            return Vec::new();
        }
        let mut room = [0; MAX_WORDS];
        let names = self.names(caller.name(), &mut room);
        let keys = if key.is_none() && operation.is_judged_by_key() { &self.every } else { self.keys(key) };
        let fit = intersection(&[names, self.means(caller), self.operation(operation), keys, &self.rated]);
        let mut found = Vec::new();
        for (word, mut bits) in fit.enumerate() {
            while bits != 0 {
                let id = place(word, bits);
                found.extend(self.rule(id).and_then(|rule| rule.rate).map(|rate| (id, rate)));
                bits &= bits.wrapping_sub(1);
            }
        }
        found
    }

    /// The decision with every rule and what of it fits. Judged rule by rule, as a person would; slow.
    pub fn explain(&self, caller: &Caller, key: Option<&PublicKey>, operation: Operation) -> Explanation {
        explain(&self.rules, &self.directory, &Ask { caller, key, operation })
    }

    fn names<'a>(&'a self, name: &CallerName, room: &'a mut [u64; MAX_WORDS]) -> &'a [u64] {
        if let Some(row) = self.by_name.get(name) {
            return row;
        }
        if self.by_pattern.is_empty() {
            return &self.any_name;
        }
        let (row, _) = room.split_at_mut(self.words);
        for (into, bits) in row.iter_mut().zip(&self.any_name) {
            *into = *bits;
        }
        for (_, fits) in self.by_pattern.iter().filter(|(pattern, _)| pattern.matches(name)) {
            for (into, bits) in row.iter_mut().zip(fits) {
                *into |= bits;
            }
        }
        row
    }

    fn means(&self, caller: &Caller) -> &[u64] {
        // In the order of `Means::ALL`.
        let place = match caller.means() {
            Means::Listener => 0,
            Means::UnixPeer => 1,
            Means::Bearer => 2,
            Means::Basic => 3,
            Means::Certificate => 4,
        };
        self.by_means.get(place).map_or(&[], |row| row)
    }

    fn operation(&self, operation: Operation) -> &[u64] {
        self.by_operation.get(usize::from(operation.index())).map_or(&[], |row| row)
    }

    fn keys(&self, key: Option<&PublicKey>) -> &[u64] {
        let class = key.and_then(|key| self.class_of_key.get(key));
        class.and_then(|class| self.classes.get(*class as usize)).unwrap_or(&self.any_key)
    }

    /// The first rule in every row.
    fn first(&self, rows: &[&[u64]; 5]) -> Option<RuleId> {
        debug_assert!(rows.iter().all(|row| row.len() == self.words), "every row has a bit for every rule");
        let (word, bits) = intersection(rows).enumerate().find(|(_, bits)| *bits != 0)?;
        Some(place(word, bits))
    }
}

fn intersection<'a>(rows: &[&'a [u64]; 5]) -> impl Iterator<Item = u64> + use<'a> {
    let [first, second, third, fourth, fifth] = *rows;
    let pairs = first.iter().zip(second).map(|(one, other)| one & other);
    let triples = pairs.zip(third).map(|(both, other)| both & other);
    triples.zip(fourth).zip(fifth).map(|((three, one), other)| three & one & other)
}

/// The rule of the lowest bit of a word that is not zero.
fn place(word: usize, bits: u64) -> RuleId {
    RuleId::of(word.saturating_mul(BITS).saturating_add(bits.trailing_zeros() as usize))
}

fn row(words: usize, fits: impl Iterator<Item = bool>) -> Row {
    let mut row = vec![0_u64; words].into_boxed_slice();
    for (place, _) in fits.enumerate().filter(|(_, fits)| *fits) {
        if let Some(word) = row.get_mut(place / BITS) {
            *word |= 1 << (place % BITS);
        }
    }
    row
}

/// A row for each set of keys that the same rules are about, and which of them each key has that any rule names.
fn classes(rules: &[Rule], directory: &Directory, any_key: &Row) -> (Vec<Row>, HashMap<PublicKey, u32>) {
    let mut rules_of_key: HashMap<PublicKey, Row> = HashMap::new();
    for (place, rule) in rules.iter().enumerate() {
        let Keys::Only(only) = &rule.keys else { continue };
        for key in directory.keys(only) {
            let row = rules_of_key.entry(key).or_insert_with(|| any_key.clone());
            if let Some(word) = row.get_mut(place / BITS) {
                *word |= 1 << (place % BITS);
            }
        }
    }
    let mut numbers: BTreeMap<Row, u32> = BTreeMap::new();
    let mut classes = Vec::new();
    let mut class_of_key = HashMap::with_capacity(rules_of_key.len());
    for (key, row) in rules_of_key {
        let next = u32::try_from(classes.len()).unwrap_or(u32::MAX);
        let number = *numbers.entry(row).or_insert_with_key(|row| {
            classes.push(row.clone());
            next
        });
        class_of_key.insert(key, number);
    }
    (classes, class_of_key)
}
