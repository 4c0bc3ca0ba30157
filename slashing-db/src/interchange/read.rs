//! Reads a file of any size, row by row, keeping one floor per validator.
//!
//! Members may come in any order: `metadata` after `data`, `pubkey` after the lists. Until the end of the
//! file is reached and every check has passed, nothing leaves this module.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, BufReader, Read};

use holdfast_domain::{Epoch, GenesisValidatorsRoot, PublicKey, Slot};
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess};
use serde_json::error::Category;

use super::error::{Place, Problem, ReadError};
use super::input::{BoundedTokens, TokenTooLong};
use super::object::{Build, Each, List, Object, Schema};
use super::path::Trail;
use super::value::{Number, OptionalRoot, chain, public_key, version};
use super::{History, Interchange, MAX_VALIDATORS, ValidatorFloor};

/// Bytes read at a time.
const BUFFER_BYTES: usize = 64 * 1024;

const METADATA: &str = "metadata";
const DATA: &str = "data";
const VERSION: &str = "interchange_format_version";
const CHAIN: &str = "genesis_validators_root";
const PUBKEY: &str = "pubkey";
const BLOCKS: &str = "signed_blocks";
const ATTESTATIONS: &str = "signed_attestations";
const SLOT: &str = "slot";
const SOURCE: &str = "source_epoch";
const TARGET: &str = "target_epoch";
const ROOT: &str = "signing_root";

/// Reads an EIP-3076 file of format version 5 for the chain `expected`; complete and minimal files alike.
///
/// Accepted: public keys in any letter case, with or without `0x`, repeated ones merged; numbers as decimal
/// text over all 64 bits, and bare integers up to 2^53 - 1; `signing_root` present, absent or `null`; rows
/// that conflict or have their source after their target (they raise the floor like any other row).
///
/// # Errors
/// [`ReadError`], with the place in the file. Nothing of the file was used then.
pub fn read(input: impl Read, expected: GenesisValidatorsRoot) -> Result<Interchange, ReadError> {
    read_at_most(MAX_VALIDATORS, input, expected)
}

fn read_at_most(most: usize, input: impl Read, expected: GenesisValidatorsRoot) -> Result<Interchange, ReadError> {
    let trail = Trail::default();
    // Buffered outside the bound, because the parser asks for one byte at a time.
    let mut parser =
        serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER_BYTES, BoundedTokens::new(input)));
    let file = Object { trail: &trail, build: File { trail: &trail, expected, most, validators: BTreeMap::new() } };
    let outcome = file.deserialize(&mut parser).and_then(|validators| parser.end().map(|()| validators));
    match outcome {
        Ok(validators) => Ok(Interchange::new(expected, validators)),
        Err(error) => Err(explain(&trail, error)),
    }
}

/// Gives a parser error its path and its reason.
fn explain(trail: &Trail, error: serde_json::Error) -> ReadError {
    let place = Place { path: trail.path(), line: error.line(), column: error.column() };
    if let Some(problem) = trail.take_problem() {
        return ReadError::Invalid { place, problem };
    }
    match error.classify() {
        Category::Eof => ReadError::Truncated { place },
        Category::Syntax => ReadError::NotJson { place, source: error },
        Category::Data => ReadError::Shape { place, source: error },
        Category::Io => {
            let error = io::Error::from(error);
            match error.get_ref().and_then(|inner| inner.downcast_ref::<TokenTooLong>()) {
                Some(&TokenTooLong { line, column }) => {
                    ReadError::TokenTooLong { place: Place { line, column, ..place } }
                }
                None => ReadError::Io(error),
            }
        }
    }
}

/// The top of the file.
struct File<'a> {
    trail: &'a Trail,
    expected: GenesisValidatorsRoot,
    most: usize,
    validators: BTreeMap<PublicKey, History>,
}

impl<'de> Build<'de> for File<'_> {
    type Output = BTreeMap<PublicKey, History>;
    const SCHEMA: Schema = Schema { what: "an interchange object", required: &[METADATA, DATA], optional: None };

    fn member<A: MapAccess<'de>>(&mut self, name: &'static str, map: &mut A) -> Result<(), A::Error> {
        let trail = self.trail;
        match name {
            METADATA => map.next_value_seed(Object { trail, build: Metadata { trail, expected: self.expected } }),
            _data => {
                let each = Validators { trail, most: self.most, found: &mut self.validators };
                map.next_value_seed(List { trail, expecting: "a list of validators", each })
            }
        }
    }

    fn finish<E: Error>(self) -> Result<Self::Output, E> {
        Ok(self.validators)
    }
}

/// Says which format and which chain; both are judged on the spot.
struct Metadata<'a> {
    trail: &'a Trail,
    expected: GenesisValidatorsRoot,
}

impl<'de> Build<'de> for Metadata<'_> {
    type Output = ();
    const SCHEMA: Schema = Schema { what: "a metadata object", required: &[VERSION, CHAIN], optional: None };

    fn member<A: MapAccess<'de>>(&mut self, name: &'static str, map: &mut A) -> Result<(), A::Error> {
        match name {
            VERSION => map.next_value_seed(version(self.trail)),
            _chain => {
                let found = map.next_value_seed(chain(self.trail))?;
                let expected = self.expected;
                if found == expected {
                    Ok(())
                } else {
                    Err(self.trail.fail(Problem::WrongGenesisValidatorsRoot { found, expected }))
                }
            }
        }
    }

    fn finish<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The list of validators; entries with the same key are merged.
struct Validators<'a> {
    trail: &'a Trail,
    most: usize,
    found: &'a mut BTreeMap<PublicKey, History>,
}

impl<'de> Each<'de> for Validators<'_> {
    fn next<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let build = Validator { trail: self.trail, key: None, history: History::default() };
        let Some((key, history)) = list.next_element_seed(Object { trail: self.trail, build })? else {
            return Ok(false);
        };
        let full = self.found.len() >= self.most;
        match self.found.entry(key) {
            Entry::Occupied(mut own) => own.get_mut().merge(&history),
            Entry::Vacant(_) if full => return Err(self.trail.fail(Problem::TooManyValidators)),
            Entry::Vacant(place) => {
                place.insert(history);
            }
        }
        Ok(true)
    }
}

/// One entry of the list of validators.
struct Validator<'a> {
    trail: &'a Trail,
    key: Option<PublicKey>,
    history: History,
}

impl<'de> Build<'de> for Validator<'_> {
    type Output = (PublicKey, History);
    const SCHEMA: Schema =
        Schema { what: "a validator object", required: &[PUBKEY, BLOCKS, ATTESTATIONS], optional: None };

    fn member<A: MapAccess<'de>>(&mut self, name: &'static str, map: &mut A) -> Result<(), A::Error> {
        let trail = self.trail;
        let history = &mut self.history;
        match name {
            PUBKEY => {
                self.key = Some(map.next_value_seed(public_key(trail))?);
                Ok(())
            }
            BLOCKS => {
                let each = Blocks { trail, history };
                map.next_value_seed(List { trail, expecting: "a list of signed blocks", each })
            }
            _attestations => {
                let each = Attestations { trail, history };
                map.next_value_seed(List { trail, expecting: "a list of signed attestations", each })
            }
        }
    }

    fn finish<E: Error>(self) -> Result<Self::Output, E> {
        match self.key {
            Some(key) => Ok((key, self.history)),
            None => Err(self.trail.fail(Problem::Missing(PUBKEY))),
        }
    }
}

/// The blocks of one entry.
struct Blocks<'a> {
    trail: &'a Trail,
    history: &'a mut History,
}

impl<'de> Each<'de> for Blocks<'_> {
    fn next<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let build = Block { trail: self.trail, floor: ValidatorFloor::default() };
        let Some(floor) = list.next_element_seed(Object { trail: self.trail, build })? else { return Ok(false) };
        self.history.floor.merge(&floor);
        self.history.rows.blocks = self.history.rows.blocks.saturating_add(1);
        Ok(true)
    }
}

/// The attestations of one entry.
struct Attestations<'a> {
    trail: &'a Trail,
    history: &'a mut History,
}

impl<'de> Each<'de> for Attestations<'_> {
    fn next<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let build = Attestation { trail: self.trail, source: Epoch(0), target: Epoch(0) };
        let Some((source, target)) = list.next_element_seed(Object { trail: self.trail, build })? else {
            return Ok(false);
        };
        self.history.floor.add_attestation(source, target);
        self.history.rows.attestations = self.history.rows.attestations.saturating_add(1);
        Ok(true)
    }
}

/// A signed block.
struct Block<'a> {
    trail: &'a Trail,
    floor: ValidatorFloor,
}

impl<'de> Build<'de> for Block<'_> {
    type Output = ValidatorFloor;
    const SCHEMA: Schema = Schema { what: "a signed block", required: &[SLOT], optional: Some(ROOT) };

    fn member<A: MapAccess<'de>>(&mut self, name: &'static str, map: &mut A) -> Result<(), A::Error> {
        match name {
            SLOT => self.floor.add_block(Slot(map.next_value_seed(Number(self.trail))?)),
            _root => map.next_value_seed(OptionalRoot(self.trail))?,
        }
        Ok(())
    }

    fn finish<E: Error>(self) -> Result<Self::Output, E> {
        Ok(self.floor)
    }
}

/// A signed attestation.
struct Attestation<'a> {
    trail: &'a Trail,
    source: Epoch,
    target: Epoch,
}

impl<'de> Build<'de> for Attestation<'_> {
    type Output = (Epoch, Epoch);
    const SCHEMA: Schema = Schema { what: "a signed attestation", required: &[SOURCE, TARGET], optional: Some(ROOT) };

    fn member<A: MapAccess<'de>>(&mut self, name: &'static str, map: &mut A) -> Result<(), A::Error> {
        match name {
            SOURCE => self.source = Epoch(map.next_value_seed(Number(self.trail))?),
            TARGET => self.target = Epoch(map.next_value_seed(Number(self.trail))?),
            _root => map.next_value_seed(OptionalRoot(self.trail))?,
        }
        Ok(())
    }

    fn finish<E: Error>(self) -> Result<Self::Output, E> {
        Ok((self.source, self.target))
    }
}

#[cfg(test)]
mod tests {
    //! The bound on validators, at a size that is quick to reach.

    use super::*;

    fn file(keys: &[u8]) -> String {
        let entry = |byte: &u8| {
            let key = PublicKey::from_bytes([*byte; 48]);
            format!(r#"{{"pubkey":"{key}","signed_blocks":[],"signed_attestations":[]}}"#)
        };
        let entries: Vec<String> = keys.iter().map(entry).collect();
        let chain = GenesisValidatorsRoot::ZERO;
        let metadata = format!(r#"{{"interchange_format_version":"5","genesis_validators_root":"{chain}"}}"#);
        format!(r#"{{"metadata":{metadata},"data":[{}]}}"#, entries.join(","))
    }

    #[test]
    fn distinct_validators_are_bounded_and_repeated_ones_are_not() {
        let read = |keys: &[u8]| read_at_most(2, file(keys).as_bytes(), GenesisValidatorsRoot::ZERO);
        assert_eq!(read(&[1, 2, 1, 2, 2]).unwrap().len(), 2);
        match read(&[1, 2, 1, 3]).unwrap_err() {
            ReadError::Invalid { place, problem: Problem::TooManyValidators } => assert_eq!(place.path, "data[3]"),
            other => panic!("{other:?}"),
        }
    }
}
