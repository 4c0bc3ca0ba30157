//! Who asked: the name that the journal keeps beside every entry.

use core::fmt;
use std::sync::Arc;

/// The authenticated caller of a request, or the operator behind an administrative act, as journaled.
///
/// Cheap to clone. Holds at most [`CallerId::MAX_BYTES`] bytes, so that one entry has a bounded size.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallerId(Arc<str>);

impl CallerId {
    /// Longest name kept, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Takes a name. A longer one is cut at the last character that fits.
    pub fn new(name: &str) -> Self {
        let mut kept = String::with_capacity(name.len().min(Self::MAX_BYTES));
        for character in name.chars() {
            if kept.len().saturating_add(character.len_utf8()) > Self::MAX_BYTES {
                break;
            }
            kept.push(character);
        }
        Self(kept.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CallerId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CallerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = "é".repeat(200);
        let caller = CallerId::new(&name);
        assert_eq!(caller.as_str().len(), 254);
        assert!(name.starts_with(caller.as_str()));
        assert_eq!(CallerId::new("validator-client").as_str(), "validator-client");
    }
}
