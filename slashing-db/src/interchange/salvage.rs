//! Reads what can be read of a file some of whose validators cannot.
//!
//! For an operator who knows that the file is damaged and what that means: a validator that is left out
//! is not protected by the file. The whole text is held in memory, and the file's frame (metadata, list)
//! must be sound: what is cut off in the middle cannot be told from what was never there.

use std::collections::BTreeMap;
use std::io::Read;

use holdfast_domain::{GenesisValidatorsRoot, PublicKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Place, ReadError};
use super::{History, Interchange, MAX_VALIDATORS, read};

/// What a damaged file still says.
#[derive(Debug)]
pub struct Salvaged {
    /// The validators that could be read.
    pub interchange: Interchange,
    /// The entries of `data` that could not, by their place in the list from 0, and why.
    pub left_out: Vec<(usize, ReadError)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

/// Reads every entry by itself, by the rules of [`read`], and leaves out those it refuses.
///
/// # Errors
/// [`ReadError`] if the file is no interchange at all, or of another version or chain.
pub fn salvage(mut input: impl Read, expected: GenesisValidatorsRoot) -> Result<Salvaged, ReadError> {
    let mut text = String::new();
    input.read_to_string(&mut text).map_err(ReadError::Io)?;
    let frame: Frame<'_> = serde_json::from_str(&text).map_err(|source| {
        let place = Place { path: String::new(), line: source.line(), column: source.column() };
        if source.is_eof() { ReadError::Truncated { place } } else { ReadError::NotJson { place, source } }
    })?;
    let alone = |entry: &str| {
        let file = format!("{{\"metadata\":{},\"data\":[{entry}]}}", frame.metadata.get());
        read(file.as_bytes(), expected)
    };
    // The metadata is judged even if no entry is.
    alone("")?;
    let mut validators: BTreeMap<PublicKey, History> = BTreeMap::new();
    let mut left_out = Vec::new();
    for (index, entry) in frame.data.iter().enumerate() {
        match alone(entry.get()) {
            Ok(one) => {
                for (key, history) in one.iter() {
                    validators.entry(*key).or_default().merge(history);
                }
            }
            Err(error) => left_out.push((index, error)),
        }
        if validators.len() > MAX_VALIDATORS {
            // The bound of a whole file holds here too; its error has the words.
            return read(text.as_bytes(), expected).map(|interchange| Salvaged { interchange, left_out });
        }
    }
    Ok(Salvaged { interchange: Interchange::new(expected, validators), left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: GenesisValidatorsRoot = GenesisValidatorsRoot([4; 32]);

    fn file(root: &str, entries: &str) -> String {
        format!(
            "{{\"metadata\":{{\"interchange_format_version\":\"5\",\"genesis_validators_root\":\"0x{root}\"}},\
             \"data\":[{entries}]}}"
        )
    }

    fn entry(key: &str, slot: &str) -> String {
        format!(
            "{{\"pubkey\":\"0x{}\",\"signed_blocks\":[{{\"slot\":{slot}}}],\"signed_attestations\":[]}}",
            key.repeat(48)
        )
    }

    #[test]
    fn good_entries_are_kept_and_bad_ones_named_by_their_place() {
        let entries =
            [entry("aa", "\"3\""), entry("bb", "\"-1\""), entry("cc", "1e30"), entry("aa", "\"9\"")].join(",");
        let text = file(&"04".repeat(32), &entries);
        assert!(read(text.as_bytes(), ROOT).is_err());
        let salvaged = salvage(text.as_bytes(), ROOT).unwrap();
        assert_eq!(salvaged.left_out.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
        let floor = salvaged.interchange.get(&PublicKey::from_bytes([0xaa; 48])).unwrap().floor;
        assert_eq!(floor.block.map(|slot| slot.0), Some(9));
        assert_eq!(salvaged.interchange.len(), 1);
    }

    #[test]
    fn a_bad_frame_is_not_salvaged() {
        let good = file(&"04".repeat(32), &entry("aa", "\"3\""));
        assert!(matches!(salvage(&good.as_bytes()[..good.len() - 3], ROOT), Err(ReadError::Truncated { .. })));
        assert!(salvage(file(&"05".repeat(32), "").as_bytes(), ROOT).is_err(), "another chain");
        assert!(salvage(good.replace("\"5\"", "\"4\"").as_bytes(), ROOT).is_err(), "another version");
        assert!(salvage(good.replace("\"data\"", "\"x\":1,\"data\"").as_bytes(), ROOT).is_err(), "unknown member");
    }
}
