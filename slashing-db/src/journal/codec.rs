//! The compact encoding of a batch's entries, as stored.
//!
//! What entries share is written once: a thousand attestations over one `AttestationData` by one caller
//! cost three bytes each. Layout, all numbers unsigned LEB128: version byte; then four dictionaries, each
//! a count and its items: *callers* (length, UTF-8), *strangers* (48-byte keys that have no row),
//! *statements* (kind code, numbers, 32-byte root), *contexts* (statement, caller, outcome code); then the
//! entries: key reference (row id shifted left, or stranger index shifted left plus one), context.
//!
//! The chain does not depend on these bytes: readers decode them and hash the [leaves](super::leaf) again.

use std::collections::HashMap;
use std::hash::Hash as StdHash;

use holdfast_domain::message::Dating;
use holdfast_domain::{Epoch, MessageKind, ObservedRoot, PublicKey, SlashableKind, Slot, Subject, UnslashableKind};

use super::{Entry, Outcome};
use crate::identity::CallerId;
use crate::store::RowId;

/// First byte of every encoding.
const VERSION: u8 = 1;

/// Why stored entries cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored entries are damaged or from a newer version: {what} at byte {offset}")]
pub struct CodecError {
    what: &'static str,
    offset: usize,
}

/// Items in order of first appearance, each written once.
#[derive(Debug)]
struct Dictionary<T> {
    index: HashMap<T, u64>,
    encoded: Vec<u8>,
}

impl<T: Eq + StdHash> Dictionary<T> {
    fn new() -> Self {
        Self { index: HashMap::new(), encoded: Vec::new() }
    }

    fn intern(&mut self, item: T, write: impl FnOnce(&T, &mut Vec<u8>)) -> u64 {
        let next = self.index.len() as u64;
        match self.index.entry(item) {
            std::collections::hash_map::Entry::Occupied(found) => *found.get(),
            std::collections::hash_map::Entry::Vacant(free) => {
                write(free.key(), &mut self.encoded);
                *free.insert(next)
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.index.len() as u64);
        out.extend_from_slice(&self.encoded);
    }
}

/// Collects the entries of one batch.
#[derive(Debug)]
pub(crate) struct Encoder {
    callers: Dictionary<CallerId>,
    strangers: Dictionary<PublicKey>,
    statements: Dictionary<(SubjectKey, [u8; 32])>,
    contexts: Dictionary<(u64, u64, u8)>,
    entries: Vec<u8>,
    count: u64,
}

/// A subject as hashable numbers: kind code, dating tag, three numbers.
type SubjectKey = (u8, u8, u64, u64, u64);

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            callers: Dictionary::new(),
            strangers: Dictionary::new(),
            statements: Dictionary::new(),
            contexts: Dictionary::new(),
            entries: Vec::new(),
            count: 0,
        }
    }

    /// Adds an entry; `row` is the key's row, if it has one.
    pub(crate) fn push(&mut self, entry: &Entry, row: Option<RowId>) {
        let caller = self.callers.intern(entry.caller.clone(), |caller, out| {
            put_number(out, caller.as_str().len() as u64);
            out.extend_from_slice(caller.as_str().as_bytes());
        });
        let statement = (subject_key(&entry.subject), *entry.root.as_bytes());
        let statement = self.statements.intern(statement, |(subject, root), out| {
            put_subject(out, *subject);
            out.extend_from_slice(root);
        });
        let context = self.contexts.intern((statement, caller, entry.outcome.code()), |context, out| {
            put_number(out, context.0);
            put_number(out, context.1);
            out.push(context.2);
        });
        let key = if let Some(RowId(id)) = row {
            u128::from(id) << 1
        } else {
            let stranger = self.strangers.intern(entry.key, |key, out| out.extend_from_slice(key.as_bytes()));
            (u128::from(stranger) << 1) | 1
        };
        put_wide(&mut self.entries, key);
        put_number(&mut self.entries, context);
        self.count = self.count.saturating_add(1);
    }

    /// The encoding of everything pushed.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.callers.write(&mut out);
        self.strangers.write(&mut out);
        self.statements.write(&mut out);
        self.contexts.write(&mut out);
        put_number(&mut out, self.count);
        out.extend_from_slice(&self.entries);
        out
    }
}

/// Decodes entries; `resolve` names the key of a row.
pub(crate) fn decode(
    bytes: &[u8],
    mut resolve: impl FnMut(RowId) -> Option<PublicKey>,
) -> Result<Vec<Entry>, CodecError> {
    let mut input = Input { bytes, offset: 0 };
    if input.byte()? != VERSION {
        return Err(input.bad("an unknown version"));
    }
    let callers = input.list(|input| {
        let length = input.number()?;
        let name = input.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let name = core::str::from_utf8(name).map_err(|_| input.bad("a caller that is not text"))?;
        Ok(CallerId::new(name))
    })?;
    let strangers = input.list(|input| Ok(PublicKey::from_bytes(input.array()?)))?;
    let statements = input.list(|input| Ok((input.subject()?, ObservedRoot::new(input.array()?))))?;
    let contexts = input.list(|input| Ok((input.number()?, input.number()?, input.byte()?)))?;
    let entries = input.list(|input| {
        let reference = input.wide()?;
        let position = u64::try_from(reference >> 1).map_err(|_| input.bad("a key reference out of range"))?;
        let key = if reference & 1 == 0 {
            resolve(RowId(position)).ok_or_else(|| input.bad("a reference to a row that does not exist"))?
        } else {
            *lookup(&strangers, position).ok_or_else(|| input.bad("a key reference out of range"))?
        };
        let context = input.number()?;
        let (statement, caller, code) =
            *lookup(&contexts, context).ok_or_else(|| input.bad("a context out of range"))?;
        let (subject, root) = *lookup(&statements, statement).ok_or_else(|| input.bad("a statement out of range"))?;
        let caller = lookup(&callers, caller).ok_or_else(|| input.bad("a caller out of range"))?.clone();
        let outcome = Outcome::from_code(code).ok_or_else(|| input.bad("an unknown outcome"))?;
        Ok(Entry { caller, key, subject, root, outcome })
    })?;
    if input.offset == bytes.len() { Ok(entries) } else { Err(input.bad("trailing bytes")) }
}

fn lookup<T>(items: &[T], position: u64) -> Option<&T> {
    usize::try_from(position).ok().and_then(|position| items.get(position))
}

fn subject_key(subject: &Subject) -> SubjectKey {
    let code = subject.kind().code();
    match *subject {
        Subject::Block { slot } => (code, 1, slot.0, 0, 0),
        Subject::Attestation { slot, source, target } => (code, 1, slot.0, source.0, target.0),
        Subject::Unslashable { kind: _, dating } => match dating {
            Dating::Undated => (code, 0, 0, 0, 0),
            Dating::Slot(slot) => (code, 1, slot.0, 0, 0),
            Dating::Epoch(epoch) => (code, 2, epoch.0, 0, 0),
        },
    }
}

fn put_subject(out: &mut Vec<u8>, (code, dating, first, source, target): SubjectKey) {
    out.push(code);
    match kind_of(code) {
        Some(MessageKind::Slashable(SlashableKind::Attestation)) => {
            put_number(out, first);
            put_number(out, source);
            put_number(out, target);
        }
        Some(MessageKind::Slashable(SlashableKind::Block)) => put_number(out, first),
        Some(MessageKind::Unslashable(_)) | None => {
            out.push(dating);
            put_number(out, first);
        }
    }
}

fn kind_of(code: u8) -> Option<MessageKind> {
    MessageKind::ALL.into_iter().find(|kind| kind.code() == code)
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    put_wide(out, u128::from(number));
}

fn put_wide(out: &mut Vec<u8>, mut number: u128) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A cursor that never reads past the end.
struct Input<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    fn bad(&self, what: &'static str) -> CodecError {
        CodecError { what, offset: self.offset }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let end = self.offset.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.offset..end)).ok_or_else(|| self.bad("an early end"))?;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.bad("an early end"))
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn wide(&mut self) -> Result<u128, CodecError> {
        let mut number = 0u128;
        // Ten groups of seven bits hold any 65-bit key reference.
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            number |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.bad("a number that is too long"))
    }

    fn number(&mut self) -> Result<u64, CodecError> {
        u64::try_from(self.wide()?).map_err(|_| self.bad("a number that is too large"))
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, CodecError>) -> Result<Vec<T>, CodecError> {
        let count = self.number()?;
        // Every item takes at least one byte, so a count beyond the rest is a lie; nothing is reserved for it.
        if count > self.bytes.len().saturating_sub(self.offset) as u64 {
            return Err(self.bad("a count beyond the end"));
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn subject(&mut self) -> Result<Subject, CodecError> {
        let code = self.byte()?;
        match kind_of(code).ok_or_else(|| self.bad("an unknown message kind"))? {
            MessageKind::Slashable(SlashableKind::Block) => Ok(Subject::Block { slot: Slot(self.number()?) }),
            MessageKind::Slashable(SlashableKind::Attestation) => Ok(Subject::Attestation {
                slot: Slot(self.number()?),
                source: Epoch(self.number()?),
                target: Epoch(self.number()?),
            }),
            MessageKind::Unslashable(kind) => self.unslashable(kind),
        }
    }

    fn unslashable(&mut self, kind: UnslashableKind) -> Result<Subject, CodecError> {
        let dating = match (self.byte()?, self.number()?) {
            (0, 0) => Dating::Undated,
            (1, slot) => Dating::Slot(Slot(slot)),
            (2, epoch) => Dating::Epoch(Epoch(epoch)),
            _ => return Err(self.bad("an unknown dating")),
        };
        Ok(Subject::Unslashable { kind, dating })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rules::{Approval, Denial};

    fn subjects() -> impl Strategy<Value = Subject> {
        let number = prop_oneof![0u64..300, any::<u64>()];
        (0usize..MessageKind::ALL.len(), 0u8..3, number.clone(), number.clone(), number).prop_map(
            |(kind, dating, first, source, target)| match MessageKind::ALL[kind] {
                MessageKind::Slashable(SlashableKind::Block) => Subject::Block { slot: Slot(first) },
                MessageKind::Slashable(SlashableKind::Attestation) => {
                    Subject::Attestation { slot: Slot(first), source: Epoch(source), target: Epoch(target) }
                }
                MessageKind::Unslashable(kind) => {
                    let dating = match dating {
                        0 => Dating::Undated,
                        1 => Dating::Slot(Slot(first)),
                        _ => Dating::Epoch(Epoch(first)),
                    };
                    Subject::Unslashable { kind, dating }
                }
            },
        )
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let codes: Vec<Outcome> = (0..=u8::MAX).filter_map(Outcome::from_code).collect();
        proptest::sample::select(codes)
    }

    prop_compose! {
        fn entries()(
            caller in "[a-zé]{0,12}",
            key in 0u8..4,
            subject in subjects(),
            root in 0u8..4,
            outcome in outcomes(),
            row in prop_oneof![Just(None), (0u64..4).prop_map(Some), Just(Some(u64::MAX))],
        ) -> (Entry, Option<RowId>) {
            // The key of a row is a function of the row, as in the database.
            let key = match row {
                Some(id) => key_of(RowId(id)),
                None => PublicKey::from_bytes([key; 48]),
            };
            let caller = CallerId::new(&caller);
            (Entry { caller, key, subject, root: ObservedRoot::new([root; 32]), outcome }, row.map(RowId))
        }
    }

    fn key_of(RowId(id): RowId) -> PublicKey {
        let mut bytes = [0xaa; 48];
        bytes[..8].copy_from_slice(&id.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    fn encode(entries: &[(Entry, Option<RowId>)]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        for (entry, row) in entries {
            encoder.push(entry, *row);
        }
        encoder.finish()
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(batch in proptest::collection::vec(entries(), 0..40)) {
            let decoded = decode(&encode(&batch), |row| Some(key_of(row)));
            let expected: Vec<Entry> = batch.into_iter().map(|(entry, _)| entry).collect();
            prop_assert_eq!(decoded, Ok(expected));
        }

        #[test]
        fn every_proper_prefix_is_refused(batch in proptest::collection::vec(entries(), 1..8), cut in any::<proptest::sample::Index>()) {
            let bytes = encode(&batch);
            let cut = cut.index(bytes.len());
            prop_assert!(decode(&bytes[..cut], |row| Some(key_of(row))).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            let _outcome_does_not_matter = decode(&bytes, |row| Some(key_of(row)));
        }

        #[test]
        fn leaves_of_different_entries_differ(a in entries(), b in entries()) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            super::super::leaf::write(&a.0, holdfast_domain::UnixMillis(1), &mut left);
            super::super::leaf::write(&b.0, holdfast_domain::UnixMillis(1), &mut right);
            prop_assert_eq!(left == right, a.0 == b.0);
        }
    }

    #[test]
    fn shared_attestations_cost_a_few_bytes_each() {
        let subject = Subject::Attestation { slot: Slot(9_000_000), source: Epoch(281_249), target: Epoch(281_250) };
        let batch: Vec<_> = (1..=1000)
            .map(|id| {
                let entry = Entry {
                    caller: CallerId::new("validator-client"),
                    key: key_of(RowId(id)),
                    subject,
                    root: ObservedRoot::new([7; 32]),
                    outcome: Outcome::Approved(Approval::NewData),
                };
                (entry, Some(RowId(id)))
            })
            .collect();
        assert!(encode(&batch).len() < 3 * 1000 + 100);
    }

    #[test]
    fn a_missing_row_and_trailing_bytes_are_refused() {
        let entry = Entry {
            caller: CallerId::new("c"),
            key: key_of(RowId(1)),
            subject: Subject::Block { slot: Slot(1) },
            root: ObservedRoot::new([0; 32]),
            outcome: Outcome::Denied(Denial::KeyDisabled),
        };
        let mut bytes = encode(&[(entry, Some(RowId(1)))]);
        assert!(decode(&bytes, |_| None).is_err());
        bytes.push(0);
        assert!(decode(&bytes, |row| Some(key_of(row))).is_err());
    }
}
