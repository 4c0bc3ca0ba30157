//! Labels of keys: words by which rules of the policy select keys.
//!
//! Guarantees: a label has one spelling and a bounded length, and a key a bounded number of them; what a change makes of a
//! key's labels is decided here, the same for every store and for a change that is only tried.

use core::fmt;
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_domain::PublicKey;

/// A label of keys, such as `cluster-a` or `region=eu`: small letters, digits, `.`, `_`, `-`, `:` and `=`, beginning with a
/// letter or a digit. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

/// Why a text is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a label has 1 to {} characters, small letters, digits, `.`, `_`, `-`, `:` and `=`, and begins with a letter or a digit",
    Label::MAX_BYTES
)]
pub struct BadLabel;

impl Label {
    /// Longest label, in bytes, which are characters as well.
    pub const MAX_BYTES: usize = 64;
    /// Most labels of one key.
    pub const MAX_OF_KEY: usize = 32;

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins = text.bytes().next().is_some_and(plain);
        let fits = text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-' | b':' | b'='));
        if begins && fits && text.len() <= Self::MAX_BYTES { Ok(Self(text.into())) } else { Err(BadLabel) }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The labels of one key.
pub type Labels = BTreeSet<Label>;

/// The keys that have each label, of rows as the database has them.
pub(crate) fn by_label(rows: Vec<(PublicKey, Label)>) -> BTreeMap<Label, BTreeSet<PublicKey>> {
    let mut keys: BTreeMap<Label, BTreeSet<PublicKey>> = BTreeMap::new();
    for (key, label) in rows {
        keys.entry(label).or_default().insert(key);
    }
    keys
}

/// What to do with the labels of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelChange {
    /// Labels that they get.
    pub add: Labels,
    /// Labels that they lose.
    pub remove: Labels,
}

impl LabelChange {
    /// What it makes of a key's labels; `None` if those would be more than [`Label::MAX_OF_KEY`].
    pub fn of(&self, before: &Labels) -> Option<Labels> {
        let after: Labels = before.union(&self.add).filter(|label| !self.remove.contains(label)).cloned().collect();
        (after.len() <= Label::MAX_OF_KEY).then_some(after)
    }
}

impl fmt::Display for LabelChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs = self.add.iter().map(|label| ('+', label)).chain(self.remove.iter().map(|label| ('-', label)));
        for (place, (sign, label)) in signs.enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{sign}{label}")?;
        }
        Ok(())
    }
}

/// What became of a key's labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labelled {
    /// It has these now.
    Done {
        /// What it had before.
        before: Labels,
        /// What it has now.
        after: Labels,
    },
    /// There is no such key; nothing was changed.
    Unknown,
    /// It was deleted, and has no labels any more.
    Deleted,
    /// It would have more than [`Label::MAX_OF_KEY`]; nothing was changed.
    TooMany,
}

#[cfg(test)]
mod tests {
    //! Proves: what a label may be, and what a change makes of labels.
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;

    fn labels(words: &[&str]) -> Labels {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn labels_have_one_spelling() {
        let longest = "a".repeat(Label::MAX_BYTES);
        for good in ["a", "0", "cluster-a", "eu.west_1", "region=eu", "vc:a", longest.as_str()] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        let longer = "a".repeat(Label::MAX_BYTES + 1);
        for bad in ["", "A", "-a", ".a", "=a", "a b", "a,b", "+a", "ä", "a\n", longer.as_str()] {
            assert_eq!(bad.parse::<Label>(), Err(BadLabel), "{bad:?}");
        }
    }

    #[test]
    fn a_change_adds_and_removes_within_bounds() {
        let change = LabelChange { add: labels(&["b", "c"]), remove: labels(&["a", "z"]) };
        assert_eq!(change.of(&labels(&["a", "b", "d"])), Some(labels(&["b", "c", "d"])));
        assert_eq!(change.to_string(), "+b +c -a -z");
        let full: Labels = (0..Label::MAX_OF_KEY).map(|number| format!("l{number}").parse().unwrap()).collect();
        assert_eq!(LabelChange { add: labels(&["one-more"]), ..LabelChange::default() }.of(&full), None);
        let exchange = LabelChange { add: labels(&["one-more"]), remove: labels(&["l0"]) };
        assert_eq!(exchange.of(&full).unwrap().len(), Label::MAX_OF_KEY);
    }
}
