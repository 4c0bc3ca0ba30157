//! `[[policy]]` and `[[groups]]` by themselves: rules as an administrator gives them to a running server.
//!
//! Guarantees: they are read by the very code that reads them in a configuration, and mean the same; a mistake has its
//! line and column; what is sent to a server stands alone, so that no file of the server's is read for it.

use core::fmt;
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet};

use holdfast_access::Policy;
use holdfast_domain::PublicKey;
use serde::Serialize;
use toml::de::DeTable;

use super::catalog::{Catalog, nearest};
use super::layers::{line_of, unknown_in};
use super::policy::{self, GroupEntry, KeyText, PolicyEntry, WrittenPolicy};
use super::{Config, ConfigError};

/// What such a text may have.
const SECTIONS: [&str; 2] = ["policy", "groups"];

/// Rules and the groups they name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Rules {
    /// The groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<GroupEntry>,
    /// The rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) policy: Vec<PolicyEntry>,
}

/// What is wrong with rules, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub(crate) struct RulesError {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column, from 1, in characters.
    pub(crate) column: usize,
    /// What is wrong there.
    pub(crate) problem: String,
}

impl RulesError {
    fn at(text: &str, offset: usize, problem: String) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let begun = before.rsplit_once('\n').map_or(before, |(_, line)| line);
        Self { line: line_of(text, offset), column: begun.chars().count().saturating_add(1), problem }
    }
}

impl Rules {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self { groups: config.groups.clone(), policy: config.policy.clone() }
    }

    /// Reads a text that has nothing but rules and groups.
    ///
    /// # Errors
    /// [`RulesError`]: the first mistake.
    pub(crate) fn parse(text: &str) -> Result<Self, RulesError> {
        Self::read(text).map(|(rules, _)| rules)
    }

    /// The same, where groups have all their keys in the text.
    ///
    /// # Errors
    /// [`RulesError`], also for a group that names a file.
    pub(crate) fn parse_alone(text: &str) -> Result<Self, RulesError> {
        let (rules, files) = Self::read(text)?;
        match files {
            None => Ok(rules),
            Some(offset) => {
                let problem = "rules that are sent stand alone: put the keys of the file into keys of the group, as \
                               `holdfast policy apply` does";
                Err(RulesError::at(text, offset, problem.to_owned()))
            }
        }
    }

    /// The rules, and where the first file of a group is named.
    fn read(text: &str) -> Result<(Self, Option<usize>), RulesError> {
        let at = |offset: usize, problem: String| RulesError::at(text, offset, problem);
        let broken =
            |error: &toml::de::Error| at(error.span().map_or(0, |span| span.start), error.message().to_owned());
        let suggested =
            |near: Option<String>| near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
        let document = DeTable::parse(text).map_err(|error| broken(&error))?;
        let document = document.get_ref();
        let catalog = Catalog::new();
        for (name, body) in document {
            let known = SECTIONS.contains(&name.get_ref().as_ref());
            let Some(section) = catalog.section(name.get_ref()).filter(|_| known) else {
                let near = suggested(nearest(name.get_ref(), SECTIONS).map(str::to_owned));
                let problem =
                    format!("unknown `{}`{near}; rules are [[policy]] and [[groups]] and nothing else", name.get_ref());
                return Err(at(name.span().start, problem));
            };
            if let Some((offset, full, near)) = unknown_in(section, body.get_ref(), &catalog) {
                return Err(at(offset, format!("unknown key `{full}`{}", suggested(near))));
            }
        }
        let config = toml::from_str::<Config>(text).map_err(|error| broken(&error))?;
        if let Some((offset, problem)) = policy::problem_in(document, &config) {
            return Err(at(offset, problem));
        }
        let mut rules = Self { groups: config.groups, policy: config.policy };
        for (rule, offset) in rules.policy.iter_mut().zip(policy::places(document)) {
            rule.line = line_of(text, offset);
        }
        let file = rules.groups.iter().position(|group| group.file.is_some());
        Ok((rules, file.map(|entry| policy::place_of(document, "groups", entry, "file"))))
    }

    /// The same with the keys of files in the groups themselves.
    ///
    /// # Errors
    /// [`ConfigError`]: a file cannot be read.
    pub(crate) fn with_files_read(mut self) -> Result<Self, ConfigError> {
        for group in &mut self.groups {
            if let Some(path) = group.file.take() {
                group.keys.extend(policy::read_keys(&path)?.into_iter().map(KeyText));
            }
        }
        Ok(self)
    }

    /// Whether a group names a file.
    pub(crate) fn has_files(&self) -> bool {
        self.groups.iter().any(|group| group.file.is_some())
    }

    /// The text that is read as these.
    ///
    /// # Errors
    /// A value that TOML has no form for, which is a bug.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

impl WrittenPolicy {
    /// The rules as a text that stands alone: the groups have the keys that were found in their files.
    ///
    /// # Errors
    /// A value that TOML has no form for, which is a bug.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let group = |(name, keys): (&String, &BTreeSet<PublicKey>)| GroupEntry {
            name: name.clone(),
            keys: keys.iter().copied().map(KeyText).collect(),
            file: None,
        };
        let groups = self.policy.directory().groups.iter();
        // A group whose file is empty has no form of its own; no rule finds a key in it either way.
        Rules { groups: groups.map(group).collect(), policy: self.entries.clone() }.to_toml()
    }

    /// Compiles a text of rules that stands alone. `labels` are the keys that have each label.
    ///
    /// # Errors
    /// [`RulesError`].
    pub(crate) fn parse(text: &str, labels: BTreeMap<String, BTreeSet<PublicKey>>) -> Result<Self, RulesError> {
        let rules = Rules::parse_alone(text)?;
        // Only files, and rules beyond the most there can be, are found out here.
        policy::compile(&rules, labels).map_err(|error| RulesError::at(text, 0, error.to_string()))
    }

    /// Whether there are no rules, so that everything is allowed.
    pub(crate) fn is_open(&self) -> bool {
        Policy::is_empty(&self.policy)
    }

    /// How many rules there are.
    pub(crate) fn count(&self) -> usize {
        self.policy.rules().len()
    }
}

/// SHA-256 of rules and of the keys of their groups: two policies that say the same have the same, whatever their comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RulesDigest(pub(crate) [u8; 32]);

impl fmt::Display for RulesDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for RulesDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| "expected 64 hexadecimal digits, as `holdfast policy show` prints them".to_owned())?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    //! Proves: mistakes have line and column; what is written is read again as the same policy; rules that are sent name no
    //! file.
    use super::*;

    fn key(byte: u8) -> String {
        format!("0x{}", hex::encode([byte; 48]))
    }

    fn digest(text: &str) -> RulesDigest {
        WrittenPolicy::parse(text, BTreeMap::new()).unwrap().digest
    }

    #[test]
    fn mistakes_have_line_and_column() {
        let rule = "[[policy]]\neffect = \"allow\"\n";
        let table = [
            ("[[policy]]\neffect = \n".to_owned(), 2, None, ""),
            (format!("{rule}operations = [\"list\", \"atestation\"]\n"), 3, Some(14), "did you mean `attestation`?"),
            (format!("{rule}operations = [\"*\"]\n  callrs = [\"a\"]\n"), 4, Some(3), "did you mean `policy.callers`?"),
            (format!("{rule}operations = [\"*\"]\ngroups = [\"g\"]\n"), 4, Some(11), "unknown group `g`"),
            (format!("{rule}operations = [\"*\"]\n[http]\nlisten = \"127.0.0.1:1\"\n"), 4, Some(2), "nothing else"),
            ("[[group]]\nname = \"g\"\n".to_owned(), 1, Some(3), "did you mean `groups`?"),
            ("policy = 1\n".to_owned(), 1, None, "invalid type"),
        ];
        for (text, line, column, part) in table {
            let error = Rules::parse(&text).unwrap_err();
            assert_eq!((error.line, error.column), (line, column.unwrap_or(error.column)), "{text}: {error}");
            assert!(error.problem.contains(part), "{text}: {error}");
        }
        let most = format!("{rule}operations = [\"*\"]\n").repeat(Policy::MAX_RULES + 1);
        let error = WrittenPolicy::parse(&most, BTreeMap::new()).unwrap_err();
        assert!(error.problem.contains("4096"), "{error}");
    }

    #[test]
    fn rules_that_are_sent_name_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("keys.txt");
        std::io::Write::write_all(&mut std::fs::File::create(&list).unwrap(), key(1).as_bytes()).unwrap();
        let text = format!(
            "[[groups]]\nname = \"g\"\nkeys = [\"{}\"]\nfile = \"{}\"\n[[policy]]\neffect = \"deny\"\ngroups = [\"g\"]\n\
             operations = [\"*\"]\n",
            key(2),
            list.display()
        );
        let error = Rules::parse_alone(&text).unwrap_err();
        assert_eq!((error.line, error.column), (4, 8), "{error}");
        let rules = Rules::parse(&text).unwrap();
        assert!(rules.has_files());
        let sent = rules.with_files_read().unwrap().to_toml().unwrap();
        let written = WrittenPolicy::parse(&sent, BTreeMap::new()).unwrap();
        assert_eq!(written.policy.directory().groups["g"].len(), 2);
        // The configuration with the file is the same policy.
        let config = toml::from_str::<Config>(&text).unwrap();
        assert_eq!(policy::compile_policy(&config, BTreeMap::new()).unwrap().digest, written.digest);
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same() {
        let all = format!(
            "# why\n[[groups]]\nname = \"a b\"\nkeys = [\"{}\"]\n[[policy]]\nname = \"x\"\neffect = \"allow\"\ncallers = [\"vc-*\"]\n\
             means = [\"certificate\"]\nkeys = [\"{}\"]\ngroups = [\"a b\"]\nlabels = [\"l\"]\noperations = [\"duties\", \"exit\"]\n\
             per_second = 3\nburst = 4\n[[policy]]\neffect = \"deny\"\noperations = [\"*\"]\n",
            key(1).to_uppercase().replace("0X", "0x"),
            key(2)
        );
        for text in [String::new(), all.clone()] {
            let written = WrittenPolicy::parse(&text, BTreeMap::new()).unwrap();
            let again = written.to_toml().unwrap();
            assert_eq!(digest(&again), written.digest, "{again}");
        }
        assert_eq!(digest(&all), digest(&all.replace("# why\n", "\n\n# another reason\n")), "comments say nothing");
        for (old, new) in [("burst = 4", "burst = 5"), ("\"exit\"", "\"list\""), ("\"deny\"", "\"allow\"")] {
            assert_ne!(digest(&all), digest(&all.replace(old, new)), "{old}");
        }
        assert_ne!(digest(&all), digest(&all.replace(&key(2), &key(3))));
        let shown = digest(&all).to_string();
        assert_eq!(shown.parse(), Ok(digest(&all)));
        assert!("12".parse::<RulesDigest>().is_err() && shown.replace('a', "g").len() == 64);
    }
}
