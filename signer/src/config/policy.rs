//! `[[policy]]` and `[[groups]]`: who may do what, as an operator writes it.
//!
//! Guarantees: a list that is there and empty is an error, never "all"; a word that stands for nothing is an error at its
//! line, with the word that was probably meant; a group is defined once, and what a rule names is defined.

use core::fmt;
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use holdfast_access::{
    Callers, Directory, Effect, KeyNames, Keys, Means, NamePattern, OperationSet, Policy, PolicyError, Rate, Rule,
    RuleName,
};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::Label;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml::de::{DeTable, DeValue};

use super::as_text::as_text;
use super::catalog::nearest;
use super::rules::{Rules, RulesDigest};
use super::{Config, ConfigError};

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EffectWord {
    /// It may be done, unless another rule denies it.
    Allow,
    /// It may not, whatever other rules allow.
    Deny,
}

/// How a caller proves its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MeansWord {
    /// By reaching the listener.
    Listener,
    /// By being a process of a user.
    Unix,
    /// By a bearer token.
    Bearer,
    /// By name and token.
    Basic,
    /// By a certificate.
    Certificate,
}

impl From<MeansWord> for Means {
    fn from(word: MeansWord) -> Self {
        match word {
            MeansWord::Listener => Self::Listener,
            MeansWord::Unix => Self::UnixPeer,
            MeansWord::Bearer => Self::Bearer,
            MeansWord::Basic => Self::Basic,
            MeansWord::Certificate => Self::Certificate,
        }
    }
}

/// A word for operations, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperationWord {
    word: String,
    set: OperationSet,
}

impl FromStr for OperationWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        operations(text).map(|set| Self { word: text.to_owned(), set })
    }
}

impl fmt::Display for OperationWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)
    }
}

/// What a word for operations stands for.
///
/// # Errors
/// That it stands for nothing, with the word that was probably meant.
pub(crate) fn operations(word: &str) -> Result<OperationSet, String> {
    OperationSet::named(word).map_err(|error| {
        let words: Vec<String> = OperationSet::words().collect();
        let near = nearest(word, words.iter().map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        format!("{error}{near}; docs/policy.md lists all of them")
    })
}

macro_rules! texts {
    ($($name:ident($inner:ty), $parse:expr, $pattern:literal);* $(;)?) => {$(
        #[doc = concat!("A text that is checked when it is read: `", $pattern, "`.")]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $inner);
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                $parse(text).map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
texts!(
    PatternText(NamePattern), |text| NamePattern::new(text).map_err(|error| error.to_string()), "^[a-zA-Z0-9._@/*-]{1,128}$";
    KeyText(PublicKey), |text: &str| text.parse::<PublicKey>().map_err(|error| error.to_string()), "^(0x)?[0-9a-fA-F]{96}$";
);

as_text!(OperationWord, "^[a-z_.*]+$"; PatternText, "^[a-zA-Z0-9._@/*-]{1,128}$"; KeyText, "^(0x)?[0-9a-fA-F]{96}$");

/// A rule: which callers may, or may not, do what with which keys. Without rules every caller may do everything; as soon as there is one, only what a rule allows and none denies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyEntry {
    /// Its name in answers, logs and the journal. Default: its place, as "rule 1".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// "allow", or "deny", which wins over whatever allows.
    pub(crate) effect: EffectWord,
    /// Names of callers; * stands for any characters. Default: every caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) callers: Option<Vec<PatternText>>,
    /// How the callers prove their names: "certificate", "basic", "bearer", "unix", "listener". Default: in any way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) means: Option<Vec<MeansWord>>,
    /// Public keys. Default, without keys, groups and labels: every key, and what is about no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<Vec<KeyText>>,
    /// Names of groups of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<Vec<String>>,
    /// Labels of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<Vec<String>>,
    /// Operations or words for several, such as "duties", "exit", "list", "keymanager.*", "admin.*.read" or "*".
    pub(crate) operations: Vec<OperationWord>,
    /// How many requests per second each caller may make under this rule, for a rule that allows; more are refused, whatever other rules allow. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_second: Option<NonZeroU32>,
    /// How many requests may come at once. Default: per_second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<NonZeroU32>,
    /// Line of the file where it begins; 0 if it did not come from one.
    #[serde(skip)]
    pub(crate) line: usize,
}

/// A group of keys, for rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupEntry {
    /// Its name in rules.
    pub(crate) name: String,
    /// Its public keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<KeyText>,
    /// File with more of them, one to a line; empty lines and what follows # do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
}

/// What is wrong with a rule or a group, and in which of its settings, at which place of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    section: &'static str,
    entry: usize,
    key: &'static str,
    item: Option<usize>,
    text: String,
}

impl PolicyEntry {
    fn problem(&self, groups: &BTreeSet<&str>) -> Option<(&'static str, Option<usize>, String)> {
        let empty = [
            ("callers", self.callers.as_ref().map(Vec::is_empty)),
            ("means", self.means.as_ref().map(Vec::is_empty)),
            ("keys", self.keys.as_ref().map(Vec::is_empty)),
            ("groups", self.groups.as_ref().map(Vec::is_empty)),
            ("labels", self.labels.as_ref().map(Vec::is_empty)),
        ];
        if let Some((key, _)) = empty.into_iter().find(|(_, empty)| *empty == Some(true)) {
            return Some((key, None, format!("{key} is empty; leave it out for all, or name some")));
        }
        if self.operations.is_empty() {
            return Some(("operations", None, "operations is empty; name some, or \"*\"".to_owned()));
        }
        if self.name.as_ref().is_some_and(|name| RuleName::new(name).is_none()) {
            let most = RuleName::MAX_CHARACTERS;
            return Some(("name", None, format!("a rule's name has 1 to {most} characters on one line")));
        }
        if self.effect == EffectWord::Deny && self.per_second.is_some() {
            let text = "a rule that denies has no rate; put per_second into a rule that allows";
            return Some(("per_second", None, text.to_owned()));
        }
        if self.burst.is_some() && self.per_second.is_none() {
            return Some(("burst", None, "burst needs per_second".to_owned()));
        }
        let mut labels = self.labels.iter().flatten().enumerate();
        if let Some((item, error)) = labels.find_map(|(at, label)| Some((at, label.parse::<Label>().err()?))) {
            return Some(("labels", Some(item), error.to_string()));
        }
        let mut named = self.groups.iter().flatten().enumerate();
        let (item, name) = named.find(|(_, name)| !groups.contains(name.as_str()))?;
        let near = nearest(name, groups.iter().copied());
        let near = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        Some(("groups", Some(item), format!("unknown group `{name}`{near}; define it in [[groups]]")))
    }

    fn rule(&self, place: usize) -> Rule {
        let given = self.name.as_deref().and_then(RuleName::new);
        let names_keys = self.keys.is_some() || self.groups.is_some() || self.labels.is_some();
        Rule {
            name: given.unwrap_or_else(|| RuleName::of_place(place.saturating_add(1))),
            effect: match self.effect {
                EffectWord::Allow => Effect::Allow,
                EffectWord::Deny => Effect::Deny,
            },
            callers: Callers {
                names: self.callers.as_ref().map(|all| all.iter().map(|one| one.0.clone()).collect()),
                means: self.means.as_ref().map(|all| all.iter().map(|one| Means::from(*one)).collect()),
            },
            keys: if names_keys {
                Keys::Only(KeyNames {
                    keys: self.keys.iter().flatten().map(|key| key.0).collect(),
                    groups: self.groups.clone().unwrap_or_default(),
                    labels: self.labels.clone().unwrap_or_default(),
                })
            } else {
                Keys::All
            },
            operations: self.operations.iter().fold(OperationSet::NONE, |set, word| set.union(word.set)),
            rate: self.per_second.map(|per_second| Rate { per_second, burst: self.burst.unwrap_or(per_second) }),
        }
    }
}

fn first_problem(config: &Config) -> Option<Problem> {
    let mut names = BTreeSet::new();
    for (entry, group) in config.groups.iter().enumerate() {
        let problem = |key, text: String| Some(Problem { section: "groups", entry, key, item: None, text });
        if group.name.trim().is_empty() {
            return problem("name", "a group needs a name".to_owned());
        }
        if !names.insert(group.name.as_str()) {
            return problem("name", format!("the group `{}` is defined twice; put all its keys into one", group.name));
        }
        if group.keys.is_empty() && group.file.is_none() {
            return problem("name", format!("the group `{}` has neither keys nor a file", group.name));
        }
    }
    let mut rules = BTreeSet::new();
    for (entry, rule) in config.policy.iter().enumerate() {
        if let Some((key, item, text)) = rule.problem(&names) {
            return Some(Problem { section: "policy", entry, key, item, text });
        }
        let name = rule.rule(entry).name;
        if rules.contains(&name) {
            let text = format!("another rule has the name \"{name}\" already; give each a name of its own");
            return Some(Problem { section: "policy", entry, key: "name", item: None, text });
        }
        rules.insert(name);
    }
    None
}

/// Checks rules and groups, wherever they came from.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let Some(Problem { section, entry, text, .. }) = first_problem(config) else { return Ok(()) };
    let problem = format!("(number {}): {text}", entry.saturating_add(1));
    Err(ConfigError::Setting { key: section, problem })
}

/// Where a setting of an entry has its value in the text; 0 if it is not there.
pub(super) fn place_of(document: &DeTable<'_>, section: &str, entry: usize, key: &str) -> usize {
    let Some(entry) = entries(document, section).nth(entry) else { return 0 };
    let DeValue::Table(table) = entry.get_ref() else { return entry.span().start };
    let value = table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value);
    value.map_or_else(|| entry.span().start, |value| value.span().start)
}

/// The first problem of a file, with its place in the text.
pub(super) fn problem_in(document: &DeTable<'_>, config: &Config) -> Option<(usize, String)> {
    let Problem { section, entry, key, item, text } = first_problem(config)?;
    let entry = entries(document, section).nth(entry)?;
    let DeValue::Table(table) = entry.get_ref() else { return Some((entry.span().start, text)) };
    let Some(value) = table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value) else {
        return Some((entry.span().start, text));
    };
    let place = match (value.get_ref(), item) {
        (DeValue::Array(all), Some(item)) => all.get(item).map_or(value.span(), toml::Spanned::span),
        _ => value.span(),
    };
    Some((place.start, text))
}

/// Where each rule of a file begins.
pub(super) fn places(document: &DeTable<'_>) -> Vec<usize> {
    entries(document, "policy").map(|entry| entry.span().start).collect()
}

fn entries<'a, 'b>(
    document: &'a DeTable<'b>,
    section: &'a str,
) -> impl Iterator<Item = &'a toml::Spanned<DeValue<'b>>> + use<'a, 'b> {
    let found = document.iter().find(|(name, _)| name.get_ref() == section).map(|(_, value)| value.get_ref());
    let all = match found {
        Some(DeValue::Array(all)) => Some(all.iter()),
        _ => None,
    };
    all.into_iter().flatten()
}

/// A policy and what it was made of.
#[derive(Debug)]
pub(crate) struct WrittenPolicy {
    /// The rules, compiled.
    pub(crate) policy: Policy,
    /// SHA-256 of the rules and of the keys of the groups, to tell policies apart.
    pub(crate) digest: RulesDigest,
    /// The rules, as written.
    pub(crate) entries: Vec<PolicyEntry>,
}

impl WrittenPolicy {
    /// The same where keys have these labels, which are no part of the rules.
    pub(crate) fn with_labels(&self, labels: BTreeMap<String, BTreeSet<PublicKey>>) -> Self {
        Self { policy: self.policy.with_labels(labels), digest: self.digest, entries: self.entries.clone() }
    }
}

/// Compiles the policy of a configuration; reads the files of groups. `labels` are the keys that have each label.
///
/// # Errors
/// [`ConfigError`], which names the file and the line.
pub(crate) fn compile_policy(
    config: &Config,
    labels: BTreeMap<String, BTreeSet<PublicKey>>,
) -> Result<WrittenPolicy, ConfigError> {
    compile(&Rules::of(config), labels)
}

/// The same for rules from anywhere.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn compile(
    written: &Rules,
    labels: BTreeMap<String, BTreeSet<PublicKey>>,
) -> Result<WrittenPolicy, ConfigError> {
    let mut groups = BTreeMap::new();
    for group in &written.groups {
        let mut keys: BTreeSet<PublicKey> = group.keys.iter().map(|key| key.0).collect();
        if let Some(path) = &group.file {
            keys.extend(read_keys(path)?);
        }
        groups.insert(group.name.clone(), keys);
    }
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&written.policy).unwrap_or_default());
    for (name, keys) in &groups {
        // Lengths keep one group's end from being taken for another's beginning.
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update((keys.len() as u64).to_be_bytes());
        for key in keys {
            hash.update(key.as_bytes());
        }
    }
    let rules = written.policy.iter().enumerate().map(|(place, entry)| entry.rule(place)).collect();
    let policy = Policy::compile(rules, Directory { groups, labels });
    let policy = policy.map_err(|error: PolicyError| ConfigError::Setting {
        key: "policy",
        problem: format!("cannot be used: {error}"),
    })?;
    Ok(WrittenPolicy { policy, digest: RulesDigest(hash.finalize().into()), entries: written.policy.clone() })
}

/// The keys of a file of a group.
///
/// # Errors
/// [`ConfigError`], with the line.
pub(super) fn read_keys(path: &Path) -> Result<Vec<PublicKey>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::KeyList { path: path.to_owned(), source })?;
    let mut keys = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let key = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if key.is_empty() {
            continue;
        }
        keys.push(key.parse::<PublicKey>().map_err(|error| ConfigError::File {
            path: path.to_owned(),
            line: place.saturating_add(1),
            problem: error.to_string(),
        })?);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    //! Proves: what is wrong is named with its line and what was probably meant; what is right becomes the rules written.
    use std::io::Write as _;

    use super::super::{Layers, load};
    use super::*;

    const KEY: &str =
        "0x8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f";

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.toml");
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        load(&Layers { file: Some(path), ..Layers::default() })
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let rule = "[[policy]]\neffect = \"allow\"\noperations = [\"list\"]\n";
        let table = [
            ("operations = [\n \"duties\",\n \"atestation\",\n]\n", 3, "did you mean `attestation`?"),
            ("operations = []\n", 3, "operations is empty"),
            ("operations = [\"*\"]\ncallers = []\n", 4, "callers is empty; leave it out for all"),
            ("operations = [\"*\"]\nkeys = []\n", 4, "keys is empty"),
            ("operations = [\"*\"]\nkeys = [\"0x12\"]\n", 4, "96 hexadecimal digits"),
            ("operations = [\"*\"]\ncallers = [\"a b\"]\n", 4, "letters, digits"),
            ("operations = [\"*\"]\ngroups = [\"one\",\n\"twoo\"]\n", 5, "did you mean `two`?"),
            ("operations = [\"*\"]\nmeans = [\"password\"]\n", 4, "password"),
            ("operations = [\"*\"]\nlabels = [\"a\",\n\"B\"]\n", 5, "a label has 1 to 64"),
            ("operations = [\"*\"]\nburst = 7\n", 4, "burst needs per_second"),
            ("operations = [\"*\"]\nper_second = 0\n", 4, "nonzero"),
            ("operations = [\"*\"]\nname = \"\"\n", 4, "a rule's name"),
        ];
        for (rest, line, part) in table {
            let groups = "[[groups]]\nname = \"one\"\nkeys = [\"KEY\"]\n[[groups]]\nname = \"two\"\nfile = \"f\"\n";
            let text = format!("[[policy]]\neffect = \"allow\"\n{rest}{}", groups.replace("KEY", KEY));
            let error = from_file(&text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("holdfast.toml:{line}: ")) && error.contains(part),
                "{line} {part}: {error}"
            );
        }
        let twice = format!("{rule}name = \"x\"\n{rule}name = \"x\"\n");
        let error = from_file(&twice).unwrap_err().to_string();
        assert!(error.contains("holdfast.toml:8: ") && error.contains("another rule has the name"), "{error}");
        let deny = "[[policy]]\neffect = \"deny\"\noperations = [\"exit\"]\nper_second = 3\n";
        assert!(from_file(deny).unwrap_err().to_string().contains("holdfast.toml:4: a rule that denies has no rate"));
        let error = from_file("[[groups]]\nname = \"g\"\n").unwrap_err().to_string();
        assert!(error.contains("holdfast.toml:2: ") && error.contains("neither keys nor a file"), "{error}");
        assert!(from_file("[[policy]]\noperations = [\"*\"]\n").unwrap_err().to_string().contains("effect"));
    }

    #[test]
    fn rules_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("keys.txt");
        let other = KEY.replace("8f", "7e");
        let text = format!("# ours\n{KEY} # the first\n\n  {other}\n");
        std::fs::File::create(&list).unwrap().write_all(text.as_bytes()).unwrap();
        let text = format!(
            "[[policy]]\neffect = \"allow\"\ncallers = [\"vc-*\"]\nmeans = [\"certificate\"]\ngroups = [\"g\"]\n\
             operations = [\"exit\", \"list\"]\nper_second = 2\n[[policy]]\nname = \"no\"\neffect = \"deny\"\noperations = [\"exit\"]\n\
             [[groups]]\nname = \"g\"\nfile = \"{}\"\n",
            list.display()
        );
        let config = from_file(&text).unwrap();
        assert_eq!(config.policy.iter().map(|rule| rule.line).collect::<Vec<_>>(), [1, 8]);
        let written = compile_policy(&config, BTreeMap::new()).unwrap();
        let [first, second] = written.policy.rules() else { panic!("two rules") };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("rule 1", "no"));
        assert_eq!(first.rate.map(|rate| (rate.per_second.get(), rate.burst.get())), Some((2, 2)));
        assert_eq!((&second.keys, second.callers.names.is_none()), (&Keys::All, true));
        assert_eq!(written.policy.directory().groups["g"].len(), 2);
        // Another key in the file is another policy.
        std::fs::File::create(&list).unwrap().write_all(KEY.as_bytes()).unwrap();
        assert_ne!(compile_policy(&config, BTreeMap::new()).unwrap().digest, written.digest);
        std::fs::File::create(&list).unwrap().write_all(b"\n0x12\n").unwrap();
        let error = compile_policy(&config, BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("keys.txt:2: not a BLS public key"), "{error}");
    }
}
