//! Events: what happened that is not a signing request, such as a decision of the switcher or an act of an operator.
//!
//! Guarantees: every text is bounded and free of control characters when an event is made, and one that is not so is
//! refused when it is read back; an event stands in the chain like a request and can never become a permit.

use core::fmt;
use std::sync::Arc;

use holdfast_domain::{PublicKey, UnixMillis};

use crate::identity::CallerId;

/// Longest kind, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// Longest name of what an event is about, in bytes.
pub const MAX_ABOUT_BYTES: usize = 255;
/// Longest detail, in bytes.
pub const MAX_DETAIL_BYTES: usize = 2_048;

/// A stable word for what happened: lower-case letters, digits, `_` and `.`, as in `switcher.drained`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventKind(Arc<str>);

impl EventKind {
    /// Takes a word. Other characters become `_`; a longer word is cut; an empty one becomes `unnamed`.
    pub fn new(word: &str) -> Self {
        let kept = word.chars().take(MAX_KIND_BYTES).map(|character| if of_kind(character) { character } else { '_' });
        let kept: String = kept.collect();
        Self(if kept.is_empty() { "unnamed".into() } else { kept.into() })
    }

    /// A word as stored, if it is one that [`Self::new`] leaves as it is.
    pub fn stored(word: &str) -> Option<Self> {
        let kind = Self::new(word);
        (kind.as_str() == word).then_some(kind)
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn of_kind(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_' || character == '.'
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Something that happened. The time of its batch says when it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    at: UnixMillis,
    by: CallerId,
    kind: EventKind,
    key: Option<PublicKey>,
    about: Arc<str>,
    detail: Arc<str>,
}

impl Event {
    /// `by` did or noticed it, at `at` by its own clock. Control characters of `by` become spaces.
    pub fn new(at: UnixMillis, by: &CallerId, kind: EventKind) -> Self {
        let by = CallerId::new(&clean(by.as_str(), CallerId::MAX_BYTES));
        Self { at, by, kind, key: None, about: "".into(), detail: "".into() }
    }

    /// What it is about, by its path: `upstream/a/duty`, `policy/7`. Longer than [`MAX_ABOUT_BYTES`] is cut, control
    /// characters become spaces.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        self.about = clean(what, MAX_ABOUT_BYTES).into();
        self
    }

    /// Which key it is about.
    #[must_use]
    pub fn of_key(mut self, key: PublicKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Why, or with what, for people and for programs that know the kind. Longer than [`MAX_DETAIL_BYTES`] is cut,
    /// control characters become spaces.
    #[must_use]
    pub fn detail(mut self, text: &str) -> Self {
        self.detail = clean(text, MAX_DETAIL_BYTES).into();
        self
    }

    /// When it happened.
    pub fn happened_at(&self) -> UnixMillis {
        self.at
    }

    /// Who did or noticed it.
    pub fn caller(&self) -> &CallerId {
        &self.by
    }

    /// What happened.
    pub fn kind(&self) -> &EventKind {
        &self.kind
    }

    /// Which key it is about, if one.
    pub fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }

    /// What it is about, as a path; may be empty.
    pub fn what(&self) -> &str {
        &self.about
    }

    /// Why, or with what; may be empty.
    pub fn why(&self) -> &str {
        &self.detail
    }

    /// An event as stored or exported, if it is one that could have been made here. It was not recorded by this.
    pub fn stored(
        at: UnixMillis,
        by: &str,
        kind: EventKind,
        key: Option<PublicKey>,
        about: &str,
        detail: &str,
    ) -> Option<Self> {
        let mut event = Self::new(at, &CallerId::new(by), kind).about(about).detail(detail);
        event.key = key;
        let as_stored = event.by.as_str() == by && event.what() == about && event.why() == detail;
        as_stored.then_some(event)
    }
}

/// At most `limit` bytes of `text`, cut at a character, with a space for each control character and line separator.
fn clean(text: &str, limit: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let breaks = character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
        let character = if breaks { ' ' } else { character };
        if kept.len().saturating_add(character.len_utf8()) > limit {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_bounded_and_clean() {
        let by = CallerId::new("op\u{1b}[31m\nerator");
        let long = "é".repeat(4_000);
        let event =
            Event::new(UnixMillis(1), &by, EventKind::new("Switcher.Left!")).about(&long).detail("a\r\nb\u{2028}c");
        assert_eq!(event.caller().as_str(), "op [31m erator");
        assert_eq!(event.kind().as_str(), "_witcher._eft_");
        assert_eq!((event.what().len(), event.why()), (254, "a  b c"));
        assert_eq!(event.clone().detail(&long).why().len(), MAX_DETAIL_BYTES);
        assert_eq!(EventKind::new("").as_str(), "unnamed");
        assert_eq!(EventKind::new(&"é".repeat(100)).as_str().len(), MAX_KIND_BYTES);
        assert!(EventKind::stored("switcher.left").is_some());
        assert!(EventKind::stored("").is_none() && EventKind::stored("A").is_none());
    }

    proptest! {
        #[test]
        fn whatever_was_made_can_be_stored_and_nothing_else(by in ".{0,300}", about in ".{0,300}", detail in "\\PC{0,80}|.{0,30}") {
            let kind = EventKind::new("test");
            let event = Event::new(UnixMillis(3), &CallerId::new(&by), kind.clone()).about(&about).detail(&detail);
            let stored = Event::stored(UnixMillis(3), event.caller().as_str(), kind.clone(), None, event.what(), event.why());
            prop_assert_eq!(stored, Some(event.clone()));
            let raw = Event::stored(UnixMillis(3), &by, kind, None, &about, &detail);
            let same = event.caller().as_str() == by && event.what() == about && event.why() == detail;
            prop_assert_eq!(raw.is_some(), same);
        }
    }
}
