//! What the list of keys is asked for: a page of it, and what the keys on it have in common.
//!
//! Why it exists: with ten thousand keys a list is for searching. The search is a plain form, so it works without
//! scripts, and it goes on here, so no browser ever holds all keys.

use super::keys::KeyView;

/// Longest text that is searched for, in bytes: a public key with its prefix has 98.
pub(super) const MAX_FIND: usize = 128;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyQuery {
    /// Which page, from 1.
    page: Option<usize>,
    /// What the keys must have in their public key, their name, their labels or their state; lower case, trimmed.
    find: String,
}

impl KeyQuery {
    /// Reads `page=N&find=TEXT` in any order; what it does not know it passes over.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let mut wanted = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "page" => wanted.page = wanted.page.or_else(|| value.parse().ok()),
                "find" if wanted.find.is_empty() => wanted.find = searched(&value),
                _ => {}
            }
        }
        wanted
    }

    /// The page wanted, from 1.
    pub(super) fn page(&self) -> usize {
        self.page.unwrap_or(1)
    }

    /// What is searched for; empty for all keys.
    pub(super) fn find(&self) -> &str {
        &self.find
    }

    /// Whether a key is one of those searched for.
    pub(super) fn matches(&self, key: &KeyView) -> bool {
        let find = self.find.as_str();
        find.is_empty()
            || key.pubkey.contains(find)
            || key.label.as_deref().is_some_and(|label| label.to_lowercase().contains(find))
            || key.state_word().contains(find)
    }

    /// The query that leads to another page of the same search.
    pub(super) fn to_page(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if !self.find.is_empty() {
            query.append_pair("find", &self.find);
        }
        query.append_pair("page", &page.to_string()).finish()
    }
}

/// A text as it is compared: keys and words have no capitals.
fn searched(text: &str) -> String {
    let mut find = text.trim().to_lowercase();
    while find.len() > MAX_FIND {
        find.pop();
    }
    find
}

#[cfg(test)]
mod tests {
    //! Proves: queries are read as forms send them, a search comes back from its own links, and what is found.
    use super::*;

    fn key(pubkey: &str, label: Option<&str>, state: &'static str) -> KeyView {
        KeyView {
            pubkey: pubkey.to_owned(),
            label: label.map(ToOwned::to_owned),
            state,
            block_slot: None,
            source_epoch: None,
            target_epoch: None,
        }
    }

    #[test]
    fn queries() {
        let read = |query: &str| {
            let query = KeyQuery::parse(Some(query));
            (query.page(), query.find().to_owned())
        };
        for (text, page, find) in [
            ("", 1, ""),
            ("page=7", 7, ""),
            ("a=b&page=2", 2, ""),
            ("page=x", 1, ""),
            ("page=-1&page=3", 3, ""),
            ("find=0xAB", 1, "0xab"),
            ("find=+rack+4%20&page=2", 2, "rack 4"),
            ("find=%zz%4", 1, "%zz%4"),
            ("find=%C3%84%ff", 1, "ä\u{fffd}"),
            ("find=a%26page%3D9", 1, "a&page=9"),
        ] {
            assert_eq!(read(text), (page, find.to_owned()), "{text}");
        }
        assert_eq!(KeyQuery::parse(None), KeyQuery::default());
        let long = KeyQuery::parse(Some(&format!("find={}", "%C3%84".repeat(5_000))));
        assert_eq!(long.find().len(), MAX_FIND);
    }

    #[test]
    fn a_search_survives_its_own_links() {
        for text in ["0xab", "rack 4 & <co>", "100%", "ä+ö", "page=9"] {
            let query = KeyQuery { page: None, find: text.to_owned() };
            let link = query.to_page(12);
            assert!(link.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%=&+*-._".contains(&byte)), "{link}");
            let again = KeyQuery::parse(Some(&link));
            assert_eq!((again.find(), again.page()), (text, 12), "{link}");
        }
        assert_eq!(KeyQuery::default().to_page(2), "page=2");
    }

    #[test]
    fn what_is_found() {
        let keys = [
            key("0xab12", Some("Rack 4 operator=alice"), "signing"),
            key("0xcd34", None, "behind"),
            key("0xef56", Some("ab-lover"), "not_loaded"),
        ];
        let found = |find: &str| {
            let query = KeyQuery { page: None, find: find.to_owned() };
            keys.iter().filter(|key| query.matches(key)).map(|key| key.pubkey.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(found(""), ["0xab12", "0xcd34", "0xef56"]);
        assert_eq!(found("ab"), ["0xab12", "0xef56"]);
        assert_eq!(found("0xab"), ["0xab12"]);
        assert_eq!(found("rack 4"), ["0xab12"]);
        assert_eq!(found("operator=alice"), ["0xab12"]);
        assert_eq!(found("behind the others"), ["0xcd34"]);
        assert_eq!(found("not loaded"), ["0xef56"]);
        assert!(found("nobody").is_empty());
    }
}
