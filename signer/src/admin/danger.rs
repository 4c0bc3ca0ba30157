//! What people approve of imports and labels: made here, from what came in and from what is known, and never by whoever asks.
//!
//! Guarantees: two acts with the same text do the same; what only the asker knows stands there as the asker's word.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_approvals::{MAX_REQUEST_BYTES, Payload};
use holdfast_domain::PublicKey;
use holdfast_slashing_db::interchange::{History, Interchange};
use holdfast_slashing_db::{Floor, LabelChange, Labels};
use holdfast_wire::admin::v1::{ImportKeysOptions, Watermark};
use holdfast_wire::admin::{Reason, refusal};
use tonic::Status;

use crate::approval::Brought;
use crate::outcome::chain;

/// Longest request with what people signed for it.
const MAX_BROUGHT_BYTES: usize = 2 * MAX_REQUEST_BYTES;
/// Bytes of the asker's own remarks at most.
const MAX_REMARK_BYTES: usize = 1024 * 1024;

/// A request and approvals, as they come in.
#[derive(Default)]
pub(super) struct Carried(Vec<u8>);

impl Carried {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`Status`] if it becomes too long.
    pub(super) fn add(&mut self, piece: &[u8]) -> Result<(), Status> {
        if self.0.len().saturating_add(piece.len()) > MAX_BROUGHT_BYTES {
            let text = format!("approval is longer than a request with approvals may be ({MAX_BROUGHT_BYTES} bytes)");
            return Err(refusal(Reason::InvalidArgument, text));
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    /// What was brought; nothing, if nothing came.
    ///
    /// # Errors
    /// [`Status`] if it is no request with approvals behind it.
    pub(super) fn read(self) -> Result<Option<Brought>, Status> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let wrong = |why: String| refusal(Reason::InvalidArgument, format!("approval is malformed: {why}"));
        let text = String::from_utf8(self.0).map_err(|_| wrong("it is no text".to_owned()))?;
        Brought::from_text(&text).map(Some).map_err(|error| wrong(chain(&error)))
    }
}

/// What was brought in one field.
///
/// # Errors
/// [`Status`] if it is no request with approvals behind it.
pub(super) fn brought(field: &[u8]) -> Result<Option<Brought>, Status> {
    let mut carried = Carried::default();
    carried.add(field)?;
    carried.read()
}

/// What whoever asks says about what comes in.
#[derive(Default)]
pub(super) struct Remarks {
    lines: Vec<String>,
    bytes: usize,
}

impl Remarks {
    /// Takes the next ones.
    ///
    /// # Errors
    /// [`Status`] if they become too long.
    pub(super) fn add(&mut self, lines: Vec<String>) -> Result<(), Status> {
        // An empty line takes memory, too.
        let length = lines.iter().map(|line| line.len().saturating_add(1)).fold(0, usize::saturating_add);
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > MAX_REMARK_BYTES {
            return Err(refusal(Reason::InvalidArgument, format!("remarks have at most {MAX_REMARK_BYTES} bytes")));
        }
        self.lines.extend(lines);
        Ok(())
    }
}

/// An import of keys that protects them less than the default, or brings deleted ones back. `keys` has for each whether it was
/// deleted here.
pub(super) fn of_keys(
    options: &ImportKeysOptions,
    labels: &Labels,
    keys: &BTreeMap<PublicKey, bool>,
    histories: &BTreeMap<PublicKey, History>,
) -> Payload {
    let mut lines = vec![format!("Import {} keys.", keys.len())];
    if options.replace_tombstone {
        lines.push("Those of them that were deleted here come back.".to_owned());
    }
    lines.push(
        match options.watermark() {
            Watermark::Now => "Protection begins at the present.",
            Watermark::NeverSigned => "Protection begins from nothing: they are said to have signed nothing, anywhere.",
            Watermark::Interchange => {
                "Protection begins at what a file says that they have signed, and at nothing above it."
            }
        }
        .to_owned(),
    );
    lines.extend(labels.iter().map(|label| format!("Those of them that were not here get the label {label}.")));
    lines.extend(keys.iter().map(|(key, deleted)| {
        let state = if *deleted { ", deleted here before" } else { "" };
        let history =
            histories.get(key).map_or_else(String::new, |history| format!(" {}", said(&history.floor.into())));
        format!("key {key}{history}{state}")
    }));
    Payload::new(lines)
}

/// Labels that rules of the policy go by.
pub(super) fn of_labels(keys: &[PublicKey], change: &LabelChange) -> Payload {
    let keys: BTreeSet<&PublicKey> = keys.iter().collect();
    let mut lines =
        vec![format!("Change the labels of {} keys, by which rules of the policy select them.", keys.len())];
    lines.extend(change.add.iter().map(|label| format!("add {label}")));
    lines.extend(change.remove.iter().map(|label| format!("remove {label}")));
    lines.extend(keys.iter().map(|key| format!("key {key}")));
    Payload::new(lines)
}

/// A history is taken in of which something may be missing.
pub(super) fn of_histories(interchange: &Interchange, source: Option<&str>, remarks: &Remarks) -> Payload {
    let mut lines = vec!["Take in a signing history of which something may be missing.".to_owned()];
    lines.extend(source.map(|source| format!("Said to be from: {source}")));
    lines.extend(remarks.lines.iter().map(|remark| format!("Whoever asks says: {remark}")));
    lines.extend(interchange.iter().map(|(key, history)| {
        let off = if interchange.is_switched_off(key) { ", switched off" } else { "" };
        format!("key {key} {}{off}", said(&history.floor.into()))
    }));
    Payload::new(lines)
}

/// A floor in words.
fn said(floor: &Floor) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let (slot, source, target) =
        (floor.block.map(|slot| slot.0), floor.source.map(|epoch| epoch.0), floor.target.map(|epoch| epoch.0));
    format!("slot {} source {} target {}", number(slot), number(source), number(target))
}

#[cfg(test)]
mod tests {
    //! Proves: whatever an import does differently reads differently; what is brought is bounded and read whole.
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use holdfast_domain::{GenesisValidatorsRoot, Slot};
    use holdfast_slashing_db::interchange::ValidatorFloor;
    use holdfast_wire::admin::reason_of;

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 48])
    }

    fn labels(words: &[&str]) -> Labels {
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    fn history(slot: u64) -> History {
        let floor = ValidatorFloor { block: Some(Slot(slot)), attestation: None };
        History { floor, ..History::default() }
    }

    #[test]
    fn whatever_an_import_does_differently_reads_differently() {
        let mut texts = Vec::new();
        for (watermark, replace_tombstone, keys, slot) in [
            (Watermark::Now, true, vec![(key(1), true)], None),
            (Watermark::Now, true, vec![(key(1), false)], None),
            (Watermark::Now, true, vec![(key(1), true), (key(2), false)], None),
            (Watermark::NeverSigned, true, vec![(key(1), true)], None),
            (Watermark::Interchange, true, vec![(key(1), true)], Some(4)),
            (Watermark::Interchange, true, vec![(key(1), true)], Some(5)),
            (Watermark::Interchange, false, vec![(key(1), false)], Some(5)),
        ] {
            let options =
                ImportKeysOptions { watermark: watermark.into(), replace_tombstone, ..ImportKeysOptions::default() };
            let histories = slot.map(|slot| (key(1), history(slot))).into_iter().collect();
            let keys = keys.into_iter().collect();
            texts.push(of_keys(&options, &Labels::new(), &keys, &histories).digest().0);
            texts.push(of_keys(&options, &labels(&["a"]), &keys, &histories).digest().0);
        }
        for (add, remove, keys) in [
            (vec!["a"], vec![], vec![key(1)]),
            (vec![], vec!["a"], vec![key(1)]),
            (vec!["a", "b"], vec![], vec![key(1)]),
            (vec!["a"], vec!["b"], vec![key(1)]),
            (vec!["a"], vec![], vec![key(2)]),
            (vec!["a"], vec![], vec![key(1), key(2)]),
        ] {
            let change = LabelChange { add: labels(&add), remove: labels(&remove) };
            texts.push(of_labels(&keys, &change).digest().0);
        }
        let root = GenesisValidatorsRoot([1; 32]);
        let one = |slot| Interchange::new(root, [(key(1), history(slot))].into());
        for (interchange, source, remarks) in [
            (one(1), None, vec![]),
            (one(2), None, vec![]),
            (one(1).with_switched_off([key(1)].into()), None, vec![]),
            (one(1), Some("web3signer"), vec![]),
            (one(1), None, vec!["left out: a block".to_owned()]),
        ] {
            let mut said = Remarks::default();
            said.add(remarks).unwrap();
            texts.push(of_histories(&interchange, source, &said).digest().0);
        }
        let different: std::collections::BTreeSet<_> = texts.iter().collect();
        assert_eq!(different.len(), texts.len());
        assert!(Remarks::default().add(vec![String::new(); MAX_REMARK_BYTES + 1]).is_err());
    }

    #[test]
    fn what_is_brought_is_bounded_and_read_whole() {
        assert!(Carried::default().read().unwrap().is_none());
        for bytes in [&b"hello"[..], &[0xff]] {
            let mut carried = Carried::default();
            carried.add(bytes).unwrap();
            assert_eq!(reason_of(&carried.read().unwrap_err()), Some(Reason::InvalidArgument));
        }
        let mut carried = Carried::default();
        carried.add(&vec![b'x'; MAX_BROUGHT_BYTES]).unwrap();
        assert_eq!(reason_of(&carried.add(b"x").unwrap_err()), Some(Reason::InvalidArgument));
    }
}
