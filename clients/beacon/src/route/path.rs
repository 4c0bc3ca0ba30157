//! Paths and queries: segments to typed parameters, or a name of what is wrong.
//!
//! Why it exists: a request is parsed once, at the edge. What it guarantees: a segment is accepted only in
//! the exact form the Beacon API gives it; `.`, `..` and escaped characters match nothing.

use holdfast_domain::{Epoch, Slot};

use crate::BlockRoot;

/// Which state is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateId {
    /// The head's.
    Head,
    /// The first.
    Genesis,
    /// The last finalized.
    Finalized,
    /// The last justified.
    Justified,
    /// Of a slot.
    Slot(Slot),
    /// Of a state root.
    Root([u8; 32]),
}

/// Which block is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockId {
    /// The head.
    Head,
    /// The first.
    Genesis,
    /// The last finalized.
    Finalized,
    /// Of a slot.
    Slot(Slot),
    /// Of a block root.
    Root(BlockRoot),
}

/// What a path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params {
    /// `{slot}`.
    pub slot: Option<Slot>,
    /// `{epoch}`.
    pub epoch: Option<Epoch>,
    /// `{state_id}`.
    pub state: Option<StateId>,
    /// `{block_id}`.
    pub block: Option<BlockId>,
    /// `{root}`.
    pub root: Option<BlockRoot>,
}

/// Matches a path. `None`: another path; `Some(Err(name))`: this path, but the parameter `name` is malformed.
pub(super) fn match_path(pattern: &str, path: &str) -> Option<Result<Params, &'static str>> {
    let mut params = Params::default();
    let mut malformed = None;
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        if expected == "*" {
            let mut rest = segments.peekable();
            rest.peek()?;
            return rest.all(plain).then_some(Ok(params));
        }
        let segment = segments.next()?;
        if !expected.starts_with('{') {
            if segment != expected {
                return None;
            }
            continue;
        }
        if !plain(segment) {
            return None;
        }
        malformed = malformed.or(params.read(expected, segment).err());
    }
    if segments.next().is_some() {
        return None;
    }
    Some(malformed.map_or(Ok(params), Err))
}

/// Whether a segment is a plain word: not empty, no dots only, nothing escaped.
fn plain(segment: &str) -> bool {
    !segment.is_empty()
        && !segment.chars().all(|c| c == '.')
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b','))
}

impl Params {
    fn read(&mut self, name: &str, segment: &str) -> Result<(), &'static str> {
        match name {
            "{slot}" => self.slot = Some(Slot(decimal(segment).ok_or("slot")?)),
            "{epoch}" => self.epoch = Some(Epoch(decimal(segment).ok_or("epoch")?)),
            "{root}" => self.root = Some(BlockRoot(root(segment).ok_or("root")?)),
            "{state_id}" => self.state = Some(state_id(segment).ok_or("state_id")?),
            "{block_id}" => self.block = Some(block_id(segment).ok_or("block_id")?),
            _ => {}
        }
        Ok(())
    }
}

fn state_id(text: &str) -> Option<StateId> {
    Some(match text {
        "head" => StateId::Head,
        "genesis" => StateId::Genesis,
        "finalized" => StateId::Finalized,
        "justified" => StateId::Justified,
        _ => match root(text) {
            Some(root) => StateId::Root(root),
            None => StateId::Slot(Slot(decimal(text)?)),
        },
    })
}

fn block_id(text: &str) -> Option<BlockId> {
    Some(match text {
        "head" => BlockId::Head,
        "genesis" => BlockId::Genesis,
        "finalized" => BlockId::Finalized,
        _ => match root(text) {
            Some(root) => BlockId::Root(BlockRoot(root)),
            None => BlockId::Slot(Slot(decimal(text)?)),
        },
    })
}

/// Digits only: no sign, no blanks.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn root(text: &str) -> Option<[u8; 32]> {
    text.starts_with("0x").then(|| BlockRoot::parse(text)).flatten().map(|root| root.0)
}

/// The first value of `name` in a query.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A value in a query is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A number in a query, if it is there.
///
/// # Errors
/// [`Malformed`] if it is not a number.
pub fn query_number(query: &str, name: &str) -> Result<Option<u64>, Malformed> {
    query_value(query, name).map(|text| decimal(text).ok_or(Malformed)).transpose()
}

/// A root in a query, if it is there.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn query_root(query: &str, name: &str) -> Result<Option<BlockRoot>, Malformed> {
    query_value(query, name).map(|text| root(text).map(BlockRoot).ok_or(Malformed)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read() {
        let query = "slot=12&committee_index=&beacon_block_root=0x00&slot=13";
        assert_eq!(query_number(query, "slot"), Ok(Some(12)));
        assert_eq!(query_number(query, "committee_index"), Err(Malformed));
        assert_eq!(query_number(query, "index"), Ok(None));
        assert_eq!(query_root(query, "beacon_block_root"), Err(Malformed));
        assert_eq!(query_number("slot=+1", "slot"), Err(Malformed));
        assert_eq!(query_number("slot=99999999999999999999", "slot"), Err(Malformed));
    }
}
