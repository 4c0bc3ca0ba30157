//! The compact encoding of a batch's records, as stored.
//!
//! What requests share is written once: a thousand attestations over one `AttestationData` by one caller
//! cost three bytes each. Layout, all numbers unsigned LEB128: version byte; then four dictionaries, each
//! a count and its items: *callers* (length, UTF-8), *strangers* (48-byte keys that have no row),
//! *statements* (kind code, numbers, 32-byte root), *contexts* (statement, caller, outcome code); then the
//! requests: key reference (row id shifted left, or stranger index shifted left plus one), context.
//!
//! Version 1 ends here. Version 2 is written if there are events, and goes on with them: a count, and for each its
//! place among all records of the batch, counted from 0 and rising; who (caller); when it happened; key (0 for none,
//! else stranger index plus one); kind, what it is about and detail (length, UTF-8). Requests take the places left.
//!
//! The chain does not depend on these bytes: readers decode them and hash the [leaves](super::leaf) again.

use std::collections::HashMap;
use std::hash::Hash as StdHash;

use holdfast_domain::message::Dating;
use holdfast_domain::{
    Epoch, MessageKind, ObservedRoot, PublicKey, SlashableKind, Slot, Subject, UnixMillis, UnslashableKind,
};

use super::{Entry, Event, EventKind, Outcome, Record};
use crate::identity::CallerId;
use crate::store::RowId;

/// First byte of a batch of requests alone.
const VERSION: u8 = 1;
/// First byte of a batch with events.
const VERSION_WITH_EVENTS: u8 = 2;

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

/// Collects the records of one batch.
#[derive(Debug)]
pub(crate) struct Encoder {
    callers: Dictionary<CallerId>,
    strangers: Dictionary<PublicKey>,
    statements: Dictionary<(SubjectKey, [u8; 32])>,
    contexts: Dictionary<(u64, u64, u8)>,
    entries: Vec<u8>,
    count: u64,
    events: Vec<u8>,
    event_count: u64,
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
            events: Vec::new(),
            event_count: 0,
        }
    }

    fn caller(&mut self, caller: &CallerId) -> u64 {
        self.callers.intern(caller.clone(), |caller, out| put_text(out, caller.as_str()))
    }

    fn stranger(&mut self, key: PublicKey) -> u64 {
        self.strangers.intern(key, |key, out| out.extend_from_slice(key.as_bytes()))
    }

    /// Adds a request; `row` is the key's row, if it has one.
    pub(crate) fn push(&mut self, entry: &Entry, row: Option<RowId>) {
        let caller = self.caller(&entry.caller);
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
            (u128::from(self.stranger(entry.key)) << 1) | 1
        };
        put_wide(&mut self.entries, key);
        put_number(&mut self.entries, context);
        self.count = self.count.saturating_add(1);
    }

    /// Adds an event.
    pub(crate) fn push_event(&mut self, event: &Event) {
        let caller = self.caller(event.caller());
        let key = event.key().map_or(0, |key| self.stranger(*key).saturating_add(1));
        let place = self.count.saturating_add(self.event_count);
        for number in [place, caller, event.happened_at().0, key] {
            put_number(&mut self.events, number);
        }
        for text in [event.kind().as_str(), event.what(), event.why()] {
            put_text(&mut self.events, text);
        }
        self.event_count = self.event_count.saturating_add(1);
    }

    /// The encoding of everything pushed.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = vec![if self.event_count == 0 { VERSION } else { VERSION_WITH_EVENTS }];
        self.callers.write(&mut out);
        self.strangers.write(&mut out);
        self.statements.write(&mut out);
        self.contexts.write(&mut out);
        put_number(&mut out, self.count);
        out.extend_from_slice(&self.entries);
        if self.event_count > 0 {
            put_number(&mut out, self.event_count);
            out.extend_from_slice(&self.events);
        }
        out
    }
}

/// Decodes a batch of either version; `resolve` names the key of a row.
pub(crate) fn decode(
    bytes: &[u8],
    mut resolve: impl FnMut(RowId) -> Option<PublicKey>,
) -> Result<Vec<Record>, CodecError> {
    let mut input = Input { bytes, offset: 0 };
    let version = input.byte()?;
    if version != VERSION && version != VERSION_WITH_EVENTS {
        return Err(input.bad("an unknown version"));
    }
    let callers = input.list(|input| input.text().map(CallerId::new))?;
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
        Ok(Record::Request(Entry { caller, key, subject, root, outcome }))
    })?;
    let records = if version == VERSION {
        entries
    } else {
        let events = input.list(|input| input.event(&callers, &strangers))?;
        in_order(entries, events).ok_or_else(|| input.bad("an event out of place"))?
    };
    if input.offset == bytes.len() { Ok(records) } else { Err(input.bad("trailing bytes")) }
}

/// Requests and events as they came; `None` if the places of events do not rise, or leave a gap.
fn in_order(requests: Vec<Record>, events: Vec<(u64, Event)>) -> Option<Vec<Record>> {
    let mut records = Vec::with_capacity(requests.len().saturating_add(events.len()));
    let mut requests = requests.into_iter();
    for (place, event) in events {
        let missing = usize::try_from(place).ok()?.checked_sub(records.len())?;
        records.extend(requests.by_ref().take(missing));
        if records.len() as u64 != place {
            return None;
        }
        records.push(Record::Event(event));
    }
    records.extend(requests);
    Some(records)
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

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
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

    fn text(&mut self) -> Result<&'a str, CodecError> {
        let length = self.number()?;
        let text = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        core::str::from_utf8(text).map_err(|_| self.bad("a name that is not text"))
    }

    /// An event and its place.
    fn event(&mut self, callers: &[CallerId], strangers: &[PublicKey]) -> Result<(u64, Event), CodecError> {
        let place = self.number()?;
        let caller = self.number()?;
        let caller = lookup(callers, caller).ok_or_else(|| self.bad("a caller out of range"))?;
        let at = UnixMillis(self.number()?);
        let key = match self.number()?.checked_sub(1) {
            None => None,
            Some(index) => Some(*lookup(strangers, index).ok_or_else(|| self.bad("a key reference out of range"))?),
        };
        let kind = self.text()?;
        let kind = EventKind::stored(kind).ok_or_else(|| self.bad("a kind of event that is not a word"))?;
        let (about, detail) = (self.text()?, self.text()?);
        let event = Event::stored(at, caller.as_str(), kind, key, about, detail);
        event.map(|event| (place, event)).ok_or_else(|| self.bad("an event's text that this program does not write"))
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
mod tests;
