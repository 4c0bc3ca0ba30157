//! Lists of validators: lines for people, or JSON as services write it.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use holdfast_domain::{PublicKey, ValidatorIndex};
use serde_json::Value;

/// Names under which services have an index, and a key.
const INDEX_NAMES: [&str; 3] = ["validator_index", "validatorIndex", "index"];
const KEY_NAMES: [&str; 4] = ["pubkey", "key", "validatorPubkey", "validator_pubkey"];

/// A validator as somebody named it: by index, by key, or by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Named {
    /// Its index.
    pub(crate) index: Option<ValidatorIndex>,
    /// Its key.
    pub(crate) key: Option<PublicKey>,
}

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// A line of something else.
    #[error("line {0}: expected an index, a public key, or both, separated by a comma or a space")]
    Line(usize),
    /// JSON of another shape.
    #[error(
        "entry {0}: expected an object with validator_index (or validatorIndex, index) and pubkey (or key, validatorPubkey), or one \
         of the two"
    )]
    Entry(usize),
    /// Not even JSON.
    #[error("it begins like JSON and is none, or not a list")]
    Json,
    /// Nothing.
    #[error("it names nobody")]
    Empty,
    /// A key with two indices, or an index with two keys.
    #[error("{0} is named twice, with different partners")]
    Contradiction(String),
}

/// Reads a list. Whoever is named twice in the same way is named once.
///
/// # Errors
/// [`ListError`], which says where.
pub(crate) fn read_list(text: &str) -> Result<Vec<Named>, ListError> {
    let all = if text.trim_start().starts_with(['[', '{']) { from_json(text)? } else { from_lines(text)? };
    if all.is_empty() {
        return Err(ListError::Empty);
    }
    distinct(all)
}

fn from_lines(text: &str) -> Result<Vec<Named>, ListError> {
    let mut all = Vec::new();
    for (place, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut named = Named::default();
        let mut words = 0_usize;
        for word in line.split([',', ';', ' ', '\t']).map(str::trim).filter(|word| !word.is_empty()) {
            words = words.saturating_add(1);
            match (word.parse::<u64>(), PublicKey::from_str(word)) {
                (Ok(index), _) if named.index.is_none() => named.index = Some(ValidatorIndex(index)),
                (Err(_), Ok(key)) if named.key.is_none() => named.key = Some(key),
                (_, _) => return Err(ListError::Line(place.saturating_add(1))),
            }
        }
        if words > 0 {
            all.push(named);
        }
    }
    Ok(all)
}

fn from_json(text: &str) -> Result<Vec<Named>, ListError> {
    let value: Value = serde_json::from_str(text).map_err(|_| ListError::Json)?;
    // Keys APIs wrap their lists.
    let list = value.get("data").unwrap_or(&value).as_array().ok_or(ListError::Json)?;
    list.iter()
        .enumerate()
        .map(|(place, entry)| {
            let member = |names: &[&str]| names.iter().find_map(|name| entry.get(*name));
            let wrong = || ListError::Entry(place.saturating_add(1));
            let index = match member(&INDEX_NAMES) {
                None => None,
                Some(Value::Number(number)) => Some(ValidatorIndex(number.as_u64().ok_or_else(wrong)?)),
                Some(value) => {
                    let number = value.as_str().and_then(|text| text.parse().ok());
                    Some(ValidatorIndex(number.ok_or_else(wrong)?))
                }
            };
            let key = match member(&KEY_NAMES) {
                None => None,
                Some(value) => Some(value.as_str().and_then(|text| text.parse().ok()).ok_or_else(wrong)?),
            };
            if index.is_none() && key.is_none() { Err(wrong()) } else { Ok(Named { index, key }) }
        })
        .collect()
}

fn distinct(all: Vec<Named>) -> Result<Vec<Named>, ListError> {
    let (mut by_key, mut by_index) = (BTreeMap::new(), BTreeMap::new());
    let mut kept = Vec::with_capacity(all.len());
    for named in all {
        let before = match (named.key, named.index) {
            (Some(key), _) if by_key.contains_key(&key) => by_key.get(&key),
            (_, Some(index)) if by_index.contains_key(&index) => by_index.get(&index),
            (_, _) => None,
        };
        match before {
            Some(before) if *before == named => continue,
            Some(_) => {
                let who = named.key.map(|key| key.to_string());
                let who = who.or_else(|| named.index.map(|index| index.0.to_string())).unwrap_or_default();
                return Err(ListError::Contradiction(who));
            }
            None => {}
        }
        if let Some(key) = named.key {
            by_key.insert(key, named);
        }
        if let Some(index) = named.index {
            by_index.insert(index, named);
        }
        kept.push(named);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 48])
    }

    fn named(index: Option<u64>, byte: Option<u8>) -> Named {
        Named { index: index.map(ValidatorIndex), key: byte.map(key) }
    }

    #[test]
    fn lines_and_json_say_the_same() {
        let (a, b) = (key(0xaa), key(0xbb));
        let wanted = [named(Some(1), Some(0xaa)), named(Some(2), Some(0xbb))];
        for text in [
            format!("1,{a}\n{b} 2\n"),
            format!("# ours\n\n1\t{a}  # first\r\n2;{b}"),
            format!(r#"[{{"validator_index":"1","pubkey":"{a}"}},{{"index":2,"key":"{b}"}}]"#),
            format!(
                r#"{{"data":[{{"validatorIndex":1,"key":"{a}"}},{{"validatorIndex":2,"validatorPubkey":"{b}"}}],"meta":{{}}}}"#
            ),
            format!("1 {a}\n2 {b}\n1 {a}\n"),
        ] {
            assert_eq!(read_list(&text).unwrap(), wanted, "{text}");
        }
        assert_eq!(read_list("5\n").unwrap(), [named(Some(5), None)]);
        assert_eq!(read_list(&a.to_string()).unwrap(), [named(None, Some(0xaa))]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let (a, b) = (key(0xaa), key(0xbb));
        for (text, error) in [
            (String::new(), ListError::Empty),
            ("# nobody\n".to_owned(), ListError::Empty),
            ("1\nx\n".to_owned(), ListError::Line(2)),
            ("1 2".to_owned(), ListError::Line(1)),
            (format!("{a} {b}"), ListError::Line(1)),
            ("[".to_owned(), ListError::Json),
            (r#"{"x":1}"#.to_owned(), ListError::Json),
            (r#"[{"index":1},{}]"#.to_owned(), ListError::Entry(2)),
            (r#"[{"index":"x"}]"#.to_owned(), ListError::Entry(1)),
            (r#"[{"index":1,"pubkey":"0x12"}]"#.to_owned(), ListError::Entry(1)),
            (format!("1 {a}\n2 {a}"), ListError::Contradiction(a.to_string())),
            (format!("1 {a}\n1 {b}"), ListError::Contradiction(b.to_string())),
        ] {
            assert_eq!(read_list(&text), Err(error), "{text}");
        }
    }
}
