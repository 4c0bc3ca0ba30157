//! Proves: what is encoded is decoded, in both versions; cut or arbitrary bytes are refused without a panic; bytes that
//! the first version of this program wrote are read as what they were.

use proptest::prelude::*;

use super::*;
use crate::rules::{Approval, Denial};

#[path = "fixture.rs"]
mod fixture;

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

prop_compose! {
    fn events()(
        at in any::<u64>(),
        by in "[a-zé]{0,12}",
        kind in "[a-z_.]{1,12}",
        key in proptest::option::of(0u8..4),
        about in "\\PC{0,20}",
        detail in "\\PC{0,60}",
    ) -> Event {
        let event = Event::new(UnixMillis(at), &CallerId::new(&by), EventKind::new(&kind)).about(&about).detail(&detail);
        match key {
            Some(key) => event.of_key(PublicKey::from_bytes([key; 48])),
            None => event,
        }
    }
}

/// A record as the committer has it: a request with the row of its key, or an event.
type Given = (Record, Option<RowId>);

fn requests() -> impl Strategy<Value = Given> {
    entries().prop_map(|(entry, row)| (Record::Request(entry), row))
}

fn records() -> impl Strategy<Value = Given> {
    prop_oneof![2 => requests(), 1 => events().prop_map(|event| (Record::Event(event), None))]
}

fn encode(records: &[Given]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    for (record, row) in records {
        match record {
            Record::Request(entry) => encoder.push(entry, *row),
            Record::Event(event) => encoder.push_event(event),
        }
    }
    encoder.finish()
}

fn decode_all(bytes: &[u8]) -> Result<Vec<Record>, CodecError> {
    decode(bytes, |row| Some(key_of(row)))
}

fn leaf_of(record: &Record, time: u64) -> Vec<u8> {
    let mut leaf = Vec::new();
    super::super::leaf::write_record(record, UnixMillis(time), &mut leaf);
    leaf
}

fn only_records(given: Vec<Given>) -> Vec<Record> {
    given.into_iter().map(|(record, _)| record).collect()
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(batch in proptest::collection::vec(records(), 0..40)) {
        let bytes = encode(&batch);
        let with_events = batch.iter().any(|(record, _)| matches!(record, Record::Event(_)));
        prop_assert_eq!(bytes[0], if with_events { VERSION_WITH_EVENTS } else { VERSION });
        prop_assert_eq!(decode_all(&bytes), Ok(only_records(batch)));
    }

    #[test]
    fn every_proper_prefix_is_refused(batch in proptest::collection::vec(records(), 1..8), cut in any::<proptest::sample::Index>()) {
        let bytes = encode(&batch);
        let cut = cut.index(bytes.len());
        prop_assert!(decode_all(&bytes[..cut]).is_err());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_a_panic(
        version in prop_oneof![Just(VERSION), Just(VERSION_WITH_EVENTS), any::<u8>()],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _outcome_does_not_matter = decode_all(&[vec![version], rest].concat());
    }

    #[test]
    fn leaves_of_different_records_differ(a in records(), b in records(), times in (0u64..3, 0u64..3)) {
        let same = a.0 == b.0 && times.0 == times.1;
        prop_assert_eq!(leaf_of(&a.0, times.0) == leaf_of(&b.0, times.1), same);
    }

    /// Texts that could run into each other: only their lengths tell where one ends.
    #[test]
    fn leaves_of_events_are_told_apart_by_every_text(one in "[ab]{0,3}/[ab]{0,3}/[ab]{0,3}", other in "[ab]{0,3}/[ab]{0,3}/[ab]{0,3}") {
        let event = |text: &str| {
            let mut parts = text.split('/');
            let (by, about, detail) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            Event::new(UnixMillis(1), &CallerId::new(by), EventKind::new("k")).about(about).detail(detail)
        };
        let leaves = [event(&one), event(&other)].map(|event| leaf_of(&Record::Event(event), 1));
        prop_assert_eq!(leaves[0] == leaves[1], one == other);
    }
}

#[test]
fn an_event_out_of_place_is_refused() {
    let event = |detail: &str| Event::new(UnixMillis(1), &CallerId::new("me"), EventKind::new("test")).detail(detail);
    let right = encode(&[(Record::Event(event("a")), None), (Record::Event(event("b")), None)]);
    assert_eq!(decode_all(&right).unwrap().len(), 2);
    // The places are 0 and 1; the second event begins after the first: place, who, when, no key, kind, no place, "a".
    let second = right.len() - (4 + 5 + 1 + 2);
    assert_eq!((right[second], right.last()), (1, Some(&b'b')));
    for wrong in [0, 2, 0x7f] {
        let mut bytes = right.clone();
        bytes[second] = wrong;
        assert!(decode_all(&bytes).is_err(), "place {wrong}");
    }
}

#[test]
fn texts_that_are_never_written_are_refused() {
    let event = Event::new(UnixMillis(1), &CallerId::new("me"), EventKind::new("test")).about("xyz").detail("xyz");
    let right = encode(&[(Record::Event(event), None)]);
    assert!(decode_all(&right).is_ok());
    for (from, to) in [(b't', b'T'), (b'x', b'\n'), (b'y', 0xff), (b'm', 0)] {
        let bytes: Vec<u8> = right.iter().map(|byte| if *byte == from { to } else { *byte }).collect();
        assert!(decode_all(&bytes).is_err(), "{from} to {to}");
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
            (Record::Request(entry), Some(RowId(id)))
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
    let mut bytes = encode(&[(Record::Request(entry), Some(RowId(1)))]);
    assert!(decode(&bytes, |_| None).is_err());
    bytes.push(0);
    assert!(decode(&bytes, |row| Some(key_of(row))).is_err());
}
