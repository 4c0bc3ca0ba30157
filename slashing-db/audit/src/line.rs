//! The lines of an export: JSON objects, one to a line, each with exactly one way to be written.
//!
//! | line | fields, in this order |
//! |---|---|
//! | first | `audit` "holdfast", `version`, `instance`, `after` and `hash` (the batch before the first one here; 0 and zeros at the very beginning), `filter` (null, or what was selected) |
//! | batch | `batch` (its number), `time`, `prev`, `root`, `count`, `shown` (how many of its records follow), `hash` |
//! | request | `i` (place in the batch), `op`, `key`, `slot`/`source`/`target`/`epoch` as the message has them, `root` (signing root), `result`, `reason`, `by` |
//! | event | `i`, `event`, `at`, `key` (if it is about one), `by`, `about`, `detail` |
//! | omitted | `omitted` (how many records are left out here), `hash` (the Merkle node above them) |
//! | last | `end` (number of the last batch), `hash`, `batches`, `records`, `shown`, `first` (SHA-256 of the first line) |
//!
//! Times are RFC 3339 in UTC to the millisecond, hashes and roots lower-case hex, keys with `0x`.
//!
//! Guarantees: [`Line::parse`] takes exactly what [`Line::write`] writes, so no byte of a line can be changed without
//! changing what it says.

use std::borrow::Cow;
use std::collections::BTreeSet;

use holdfast_domain::message::Dating;
use holdfast_domain::root::parse_hex;
use holdfast_domain::{Epoch, MessageKind, ObservedRoot, PublicKey, SlashableKind, Slot, Subject, UnixMillis};
use holdfast_slashing_db::CallerId;
use holdfast_slashing_db::journal::{BatchHeader, Entry, Event, EventKind, Hash, Head, InstanceId, Outcome, Record};
use serde::{Deserialize, Serialize};

/// Version of the format, in the first line of an export.
pub const EXPORT_VERSION: u64 = 1;

/// What an export selects; everything, if nothing is named. Checkpoints are always shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Batches written at this time or later, as RFC 3339 to the millisecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Batches written before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Records about these keys.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub keys: BTreeSet<String>,
    /// Records of these callers.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub by: BTreeSet<String>,
    /// Requests of these kinds, and events of these kinds.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ops: BTreeSet<String>,
    /// Requests with these results: signed, refused, fenced.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub results: BTreeSet<String>,
    /// Only this record, as batch number and place in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<(u64, u64)>,
}

impl Filter {
    /// The selection in words of JSON, for records about it.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all in it is written as this program writes it; else it would select something else than it says.
    fn is_canonical(&self) -> bool {
        let times = [&self.from, &self.to].into_iter().flatten();
        let keys = self.keys.iter().all(|key| key.parse().is_ok_and(|parsed: PublicKey| parsed.to_string() == *key));
        keys && times
            .into_iter()
            .all(|text| UnixMillis::from_rfc3339(text).is_some_and(|time| time.rfc3339_millis() == *text))
    }

    /// Whether records are selected one by one, so that a batch may have none that is shown.
    pub(crate) fn selects_records(&self) -> bool {
        let Self { from: _, to: _, keys, by, ops, results, only } = self;
        !(keys.is_empty() && by.is_empty() && ops.is_empty() && results.is_empty() && only.is_none())
    }

    /// Whether a record is selected, by what it says and where it stands.
    pub(crate) fn takes(&self, batch: u64, index: u64, record: &Record) -> bool {
        if is_checkpoint(record) {
            return true;
        }
        let (key, by, op, result) = match record {
            Record::Request(entry) => {
                (Some(entry.key), entry.caller.as_str(), entry.subject.kind().as_str(), Some(entry.outcome.result()))
            }
            Record::Event(event) => (event.key().copied(), event.caller().as_str(), event.kind().as_str(), None),
        };
        let among =
            |set: &BTreeSet<String>, word: Option<&str>| set.is_empty() || word.is_some_and(|word| set.contains(word));
        let of_keys = self.keys.is_empty() || key.is_some_and(|key| self.keys.contains(&key.to_string()));
        of_keys
            && among(&self.by, Some(by))
            && among(&self.ops, Some(op))
            && among(&self.results, result)
            && self.only.is_none_or(|only| only == (batch, index))
    }

    /// Whether a record of a batch is selected.
    pub fn selects(&self, batch: &BatchHeader, index: u64, record: &Record) -> bool {
        self.spans(batch.time) && self.takes(batch.seq, index, record)
    }

    /// Whether a batch of this time is within the times selected.
    pub(crate) fn spans(&self, time: UnixMillis) -> bool {
        self.begins(time) && !self.ends(time)
    }

    /// Whether a batch of this time is not before those selected.
    pub(crate) fn begins(&self, time: UnixMillis) -> bool {
        bound(self.from.as_ref()).is_none_or(|from| time >= from)
    }

    /// Whether a batch of this time is after those selected.
    pub(crate) fn ends(&self, time: UnixMillis) -> bool {
        bound(self.to.as_ref()).is_some_and(|to| time >= to)
    }
}

fn bound(text: Option<&String>) -> Option<UnixMillis> {
    text.and_then(|text| UnixMillis::from_rfc3339(text))
}

/// Kind of the event that holds a checkpoint.
pub(crate) const CHECKPOINT_KIND: &str = "audit.checkpoint";

/// Whether a record is a checkpoint.
pub(crate) fn is_checkpoint(record: &Record) -> bool {
    matches!(record, Record::Event(event) if event.kind().as_str() == CHECKPOINT_KIND)
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) instance: InstanceId,
    /// The batch before the first one here.
    pub(crate) after: Head,
    pub(crate) filter: Filter,
}

/// The last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) head: Head,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) shown: u64,
    /// SHA-256 of the first line, without its line break.
    pub(crate) first: Hash,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Start(Box<Start>),
    /// The instance is that of the first line.
    Batch {
        header: BatchHeader,
        /// How many of its records follow.
        shown: u64,
    },
    Record {
        index: u64,
        record: Record,
    },
    Omitted {
        size: u64,
        hash: Hash,
    },
    End(End),
}

/// Appends text to a line; nothing here fails.
pub(crate) struct Pen<'a>(pub(crate) &'a mut Vec<u8>);

impl Pen<'_> {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        // Twenty digits hold any 64-bit number.
        let mut digits = [0_u8; 20];
        let (mut rest, mut used) = (number, 0_usize);
        for place in digits.iter_mut().rev() {
            *place = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
            rest /= 10;
            used = used.saturating_add(1);
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(20_usize.saturating_sub(used)..).unwrap_or_default());
        self
    }

    pub(crate) fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        self.0.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        self
    }

    fn hash(&mut self, hash: &Hash) -> &mut Self {
        self.raw("\"").hex(&hash.0).raw("\"")
    }

    fn key(&mut self, key: &PublicKey) -> &mut Self {
        self.raw("\"0x").hex(key.as_bytes()).raw("\"")
    }

    fn time(&mut self, time: UnixMillis) -> &mut Self {
        self.raw("\"").raw(&time.rfc3339_millis()).raw("\"")
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        if is_plain(text.as_bytes()) {
            return self.raw("\"").raw(text).raw("\"");
        }
        self.json(&text)
    }

    /// Something small that serialises without fail.
    fn json(&mut self, value: &impl Serialize) -> &mut Self {
        let kept = self.0.len();
        if serde_json::to_writer(&mut *self.0, value).is_err() {
            self.0.truncate(kept);
        }
        self
    }
}

/// Whether text stands in JSON as it is.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\')
}

impl Start {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut pen = Pen(out);
        pen.raw("{\"audit\":\"holdfast\",\"version\":").number(EXPORT_VERSION);
        pen.raw(",\"instance\":\"").hex(&self.instance.0).raw("\",\"after\":").number(self.after.seq);
        pen.raw(",\"hash\":").hash(&self.after.hash).raw(",\"filter\":");
        pen.json(&(!self.filter.is_empty()).then_some(&self.filter)).raw("}\n");
    }
}

impl End {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut pen = Pen(out);
        pen.raw("{\"end\":").number(self.head.seq).raw(",\"hash\":").hash(&self.head.hash);
        pen.raw(",\"batches\":").number(self.batches).raw(",\"records\":").number(self.records);
        pen.raw(",\"shown\":").number(self.shown).raw(",\"first\":").hash(&self.first).raw("}\n");
    }
}

/// Writes the line of a batch of which so many records follow.
pub(crate) fn write_batch(header: &BatchHeader, shown: u64, out: &mut Vec<u8>) {
    let mut pen = Pen(out);
    pen.raw("{\"batch\":").number(header.seq).raw(",\"time\":").time(header.time);
    pen.raw(",\"prev\":").hash(&header.prev_hash).raw(",\"root\":").hash(&header.merkle_root);
    pen.raw(",\"count\":").number(header.count).raw(",\"shown\":").number(shown);
    pen.raw(",\"hash\":").hash(&header.hash).raw("}\n");
}

/// Writes the line for records that are left out.
pub(crate) fn write_omitted(size: u64, hash: &Hash, out: &mut Vec<u8>) {
    Pen(out).raw("{\"omitted\":").number(size).raw(",\"hash\":").hash(hash).raw("}\n");
}

/// Writes a record's line.
pub(crate) fn write_record(index: u64, record: &Record, out: &mut Vec<u8>) {
    let mut pen = Pen(out);
    pen.raw("{\"i\":").number(index);
    match record {
        Record::Request(entry) => request(entry, &mut pen),
        Record::Event(event) => {
            pen.raw(",\"event\":\"").raw(event.kind().as_str()).raw("\",\"at\":").time(event.happened_at());
            if let Some(key) = event.key() {
                pen.raw(",\"key\":").key(key);
            }
            pen.raw(",\"by\":").text(event.caller().as_str()).raw(",\"about\":").text(event.what());
            pen.raw(",\"detail\":").text(event.why());
        }
    }
    pen.raw("}\n");
}

fn request(entry: &Entry, pen: &mut Pen<'_>) {
    pen.raw(",\"op\":\"").raw(entry.subject.kind().as_str()).raw("\",\"key\":").key(&entry.key);
    match entry.subject {
        Subject::Block { slot } | Subject::Unslashable { dating: Dating::Slot(slot), .. } => {
            pen.raw(",\"slot\":").number(slot.0);
        }
        Subject::Attestation { slot, source, target } => {
            pen.raw(",\"slot\":").number(slot.0);
            pen.raw(",\"source\":").number(source.0).raw(",\"target\":").number(target.0);
        }
        Subject::Unslashable { dating: Dating::Epoch(epoch), .. } => {
            pen.raw(",\"epoch\":").number(epoch.0);
        }
        Subject::Unslashable { dating: Dating::Undated, .. } => {}
    }
    pen.raw(",\"root\":\"0x").hex(entry.root.as_bytes()).raw("\",\"result\":\"").raw(entry.outcome.result());
    pen.raw("\",\"reason\":\"").raw(entry.outcome.reason()).raw("\",\"by\":").text(entry.caller.as_str());
}

impl Line {
    /// Reads a line without its line break; `instance` is that of the first line. `None` if it is not written exactly
    /// so.
    pub(crate) fn parse(line: &[u8], instance: InstanceId) -> Option<Self> {
        let mut input = Input { rest: line };
        let parsed = if input.skip("{\"i\":") {
            let index = input.number()?;
            let record = if input.skip(",\"op\":\"") {
                Record::Request(input.request()?)
            } else {
                Record::Event(input.event()?)
            };
            Self::Record { index, record }
        } else if input.skip("{\"batch\":") {
            let (header, shown) = input.batch(instance)?;
            Self::Batch { header, shown }
        } else if input.skip("{\"omitted\":") {
            let size = input.number()?;
            Self::Omitted { size, hash: input.expect(",\"hash\":")?.hash()? }
        } else if input.skip("{\"end\":") {
            Self::End(input.end()?)
        } else {
            return Start::parse(line).map(Box::new).map(Self::Start);
        };
        (input.rest == b"}").then_some(parsed)
    }
}

impl Start {
    /// Reads the first line: written again it must be the same.
    fn parse(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Raw {
            instance: String,
            after: u64,
            hash: String,
            filter: Option<Filter>,
        }
        let raw: Raw = serde_json::from_slice(line).ok()?;
        let start = Self {
            instance: InstanceId(parse_hex(&raw.instance)?),
            after: Head { seq: raw.after, hash: Hash(parse_hex(&raw.hash)?) },
            filter: raw.filter.unwrap_or_default(),
        };
        let mut again = Vec::with_capacity(line.len());
        start.write(&mut again);
        (again.strip_suffix(b"\n") == Some(line) && start.filter.is_canonical()).then_some(start)
    }
}

/// What is left of a line.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Option<&mut Self> {
        self.skip(text).then_some(self)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// Without leading zeros.
    fn number(&mut self) -> Option<u64> {
        let length = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = self.take(length)?;
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with(b"0")) {
            return None;
        }
        digits
            .iter()
            .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0'))))
    }

    /// Lower-case digits.
    fn hex<const N: usize>(&mut self) -> Option<[u8; N]> {
        let digits = self.take(N.checked_mul(2)?)?;
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = (nibble(*high)? << 4) | nibble(*low)?;
        }
        Some(bytes)
    }

    fn hash(&mut self) -> Option<Hash> {
        let hash = self.expect("\"")?.hex()?;
        self.expect("\"")?;
        Some(Hash(hash))
    }

    fn key(&mut self) -> Option<PublicKey> {
        let key = self.expect("\"0x")?.hex()?;
        self.expect("\"")?;
        Some(PublicKey::from_bytes(key))
    }

    /// Up to the next quotation mark, which is skipped.
    fn word(&mut self) -> Option<&'a str> {
        let length = self.rest.iter().position(|byte| *byte == b'"')?;
        let word = self.take(length)?;
        self.expect("\"")?;
        core::str::from_utf8(word).ok()
    }

    fn time(&mut self) -> Option<UnixMillis> {
        let word = self.expect("\"")?.word()?;
        let time = UnixMillis::from_rfc3339(word)?;
        (time.rfc3339_millis() == word).then_some(time)
    }

    /// A JSON string.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        let inner = self.rest.strip_prefix(b"\"")?;
        let mut escaped = false;
        let length = inner.iter().position(|byte| {
            let ends = !escaped && *byte == b'"';
            escaped = !escaped && *byte == b'\\';
            ends
        })?;
        let quoted = self.take(length.checked_add(2)?)?;
        let plain = inner.get(..length)?;
        if is_plain(plain) {
            return core::str::from_utf8(plain).ok().map(Cow::Borrowed);
        }
        let text: String = serde_json::from_slice(quoted).ok()?;
        let mut again = Vec::with_capacity(quoted.len());
        Pen(&mut again).text(&text);
        (again == quoted).then_some(Cow::Owned(text))
    }

    fn batch(&mut self, instance: InstanceId) -> Option<(BatchHeader, u64)> {
        let seq = self.number()?;
        let time = self.expect(",\"time\":")?.time()?;
        let prev_hash = self.expect(",\"prev\":")?.hash()?;
        let merkle_root = self.expect(",\"root\":")?.hash()?;
        let count = self.expect(",\"count\":")?.number()?;
        let shown = self.expect(",\"shown\":")?.number()?;
        let hash = self.expect(",\"hash\":")?.hash()?;
        Some((BatchHeader { instance, seq, time, prev_hash, merkle_root, count, hash }, shown))
    }

    fn request(&mut self) -> Option<Entry> {
        let kind = self.word()?;
        let kind = MessageKind::ALL.into_iter().find(|one| one.as_str() == kind)?;
        let key = self.expect(",\"key\":")?.key()?;
        let subject = self.subject(kind)?;
        let root = ObservedRoot::new(self.expect(",\"root\":\"0x")?.hex()?);
        let result = self.expect("\",\"result\":\"")?.word()?;
        let reason = self.expect(",\"reason\":\"")?.word()?;
        let outcome = outcome(result, reason)?;
        let by = self.expect(",\"by\":")?.text()?;
        let caller = CallerId::new(&by);
        (caller.as_str() == by).then_some(Entry { caller, key, subject, root, outcome })
    }

    fn subject(&mut self, kind: MessageKind) -> Option<Subject> {
        Some(match kind {
            MessageKind::Slashable(SlashableKind::Block) => {
                Subject::Block { slot: Slot(self.expect(",\"slot\":")?.number()?) }
            }
            MessageKind::Slashable(SlashableKind::Attestation) => Subject::Attestation {
                slot: Slot(self.expect(",\"slot\":")?.number()?),
                source: Epoch(self.expect(",\"source\":")?.number()?),
                target: Epoch(self.expect(",\"target\":")?.number()?),
            },
            MessageKind::Unslashable(kind) => {
                let dating = if self.skip(",\"slot\":") {
                    Dating::Slot(Slot(self.number()?))
                } else if self.skip(",\"epoch\":") {
                    Dating::Epoch(Epoch(self.number()?))
                } else {
                    Dating::Undated
                };
                Subject::Unslashable { kind, dating }
            }
        })
    }

    fn event(&mut self) -> Option<Event> {
        let kind = EventKind::stored(self.expect(",\"event\":\"")?.word()?)?;
        let at = self.expect(",\"at\":")?.time()?;
        let key = if self.skip(",\"key\":") { Some(self.key()?) } else { None };
        let by = self.expect(",\"by\":")?.text()?;
        let about = self.expect(",\"about\":")?.text()?;
        let detail = self.expect(",\"detail\":")?.text()?;
        Event::stored(at, &by, kind, key, &about, &detail)
    }

    fn end(&mut self) -> Option<End> {
        let seq = self.number()?;
        let hash = self.expect(",\"hash\":")?.hash()?;
        let batches = self.expect(",\"batches\":")?.number()?;
        let records = self.expect(",\"records\":")?.number()?;
        let shown = self.expect(",\"shown\":")?.number()?;
        let first = self.expect(",\"first\":")?.hash()?;
        Some(End { head: Head { seq, hash }, batches, records, shown, first })
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    }
}

/// The outcome with these words.
fn outcome(result: &str, reason: &str) -> Option<Outcome> {
    // In the order of their codes, the most frequent first.
    (0..=u8::MAX).filter_map(Outcome::from_code).find(|one| one.result() == result && one.reason() == reason)
}

#[cfg(test)]
mod tests;
