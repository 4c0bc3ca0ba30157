//! Names with `*` in them.

use core::fmt;
use std::sync::Arc;

use crate::caller::CallerName;

/// Why a text is no pattern of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or too much.
    #[error("a caller's name or pattern has 1 to {} characters", CallerName::MAX_CHARACTERS)]
    Length,
    /// A character that no name has.
    #[error(
        "a caller's name or pattern has only letters, digits, . _ - @ / of ASCII, and * for any characters or none"
    )]
    Character,
}

/// A name of a caller, or many: `*` stands for any characters or none. Letter case counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamePattern(Arc<str>);

impl NamePattern {
    /// Takes a pattern.
    ///
    /// # Errors
    /// [`PatternError`], which says what a pattern may have.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > CallerName::MAX_CHARACTERS {
            return Err(PatternError::Length);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b'/' | b'*');
        if text.bytes().all(plain) { Ok(Self(text.into())) } else { Err(PatternError::Character) }
    }

    /// Whether a name fits.
    pub fn matches(&self, name: &CallerName) -> bool {
        matches(&self.0, name.as_str())
    }

    /// The only name that fits, if there is only one.
    pub fn as_exact(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&*self.0)
    }

    /// Whether every name that fits `other` fits this one. `false` may also mean that it cannot be told simply.
    pub fn covers(&self, other: &Self) -> bool {
        // An asterisk in `other` is a character that only an asterisk here can stand for.
        matches(&self.0, &other.0)
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` fits `pattern`. Goes back only to the last asterisk, so it takes at most the product of both lengths.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // What follows the last asterisk, and what was left of the text when it was met.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                again = Some((rest, text));
                pattern = rest;
            }
            (Some((wanted, rest)), Some((found, left))) if wanted == found => {
                pattern = rest;
                text = left;
            }
            (None, None) => return true,
            _ => {
                let Some((rest, from)) = again else { return false };
                let Some((_, left)) = from.split_first() else { return false };
                again = Some((rest, left));
                pattern = rest;
                text = left;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: patterns fit what a recursive definition says, and one covers another only if it is wider.
    use proptest::prelude::*;

    use super::*;

    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|from| slow(rest, &text[from..])),
            Some((first, rest)) => text.split_first().is_some_and(|(found, left)| found == first && slow(rest, left)),
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("vc-*", "vc-1", true),
            ("vc-*", "vc-", true),
            ("vc-*", "vc", false),
            ("*", "anything", true),
            ("*-eu", "vc-1-eu", true),
            ("a*b*c", "a-bb-c", true),
            ("a*b*c", "a-c-b", false),
            ("vc-1", "vc-10", false),
            ("VC-*", "vc-1", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
        assert_eq!(NamePattern::new(""), Err(PatternError::Length));
        assert_eq!(NamePattern::new("a b"), Err(PatternError::Character));
        assert!(NamePattern::new("*").unwrap().covers(&NamePattern::new("vc-*").unwrap()));
        assert!(!NamePattern::new("vc-*").unwrap().covers(&NamePattern::new("*").unwrap()));
        assert_eq!(NamePattern::new("vc-1").unwrap().as_exact(), Some("vc-1"));
    }

    proptest! {
        #[test]
        fn as_the_definition(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn what_covers_is_wider(wide in "[ab*]{1,6}", narrow in "[ab*]{1,6}", text in "[ab]{1,8}") {
            let (wide, narrow) = (NamePattern::new(&wide).unwrap(), NamePattern::new(&narrow).unwrap());
            let name = CallerName::new(&text).unwrap();
            if wide.covers(&narrow) && narrow.matches(&name) {
                prop_assert!(wide.matches(&name));
            }
        }
    }
}
