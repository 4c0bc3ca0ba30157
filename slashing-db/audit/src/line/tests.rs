//! Proves: a line is read exactly as it is written, and in no other form.

use proptest::prelude::*;

use super::*;

fn subjects() -> impl Strategy<Value = Subject> {
    (0..16_usize, any::<[u64; 3]>(), 0..3_usize).prop_map(|(kind, [first, source, target], dating)| {
        match MessageKind::ALL[kind] {
            MessageKind::Slashable(SlashableKind::Block) => Subject::Block { slot: Slot(first) },
            MessageKind::Slashable(SlashableKind::Attestation) => {
                Subject::Attestation { slot: Slot(first), source: Epoch(source), target: Epoch(target) }
            }
            MessageKind::Unslashable(kind) => {
                let datings = [Dating::Undated, Dating::Slot(Slot(first)), Dating::Epoch(Epoch(first))];
                Subject::Unslashable { kind, dating: datings[dating] }
            }
        }
    })
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let all: Vec<Outcome> = (0..=u8::MAX).filter_map(Outcome::from_code).collect();
    prop::sample::select(all)
}

fn requests() -> impl Strategy<Value = Record> {
    (".{0,40}", any::<[u8; 32]>(), subjects(), outcomes()).prop_map(|(caller, root, subject, outcome)| {
        let key = PublicKey::from_bytes([root[0]; 48]);
        Record::Request(Entry { caller: CallerId::new(&caller), key, subject, root: ObservedRoot::new(root), outcome })
    })
}

fn events() -> impl Strategy<Value = Record> {
    (any::<u64>(), ".{0,40}", "[a-z_.]{0,9}", prop::option::of(any::<u8>()), ".{0,40}", "\\PC{0,40}").prop_map(
        |(at, by, kind, key, about, detail)| {
            let event = Event::new(UnixMillis(at), &CallerId::new(&by), EventKind::new(&kind)).about(&about);
            let event = match key {
                Some(byte) => event.of_key(PublicKey::from_bytes([byte; 48])),
                None => event,
            };
            Record::Event(event.detail(&detail))
        },
    )
}

/// Records of every sort, for other tests.
pub(crate) fn records() -> impl Strategy<Value = Record> {
    prop_oneof![4 => requests(), 1 => events()]
}

const INSTANCE: InstanceId = InstanceId([5; 16]);

fn parse(written: &[u8]) -> Option<Line> {
    Line::parse(written.strip_suffix(b"\n")?, INSTANCE)
}

#[test]
fn a_line_in_full() {
    let entry = Entry {
        caller: CallerId::new("vc \"1\""),
        key: PublicKey::from_bytes([0xab; 48]),
        subject: Subject::Attestation { slot: Slot(64), source: Epoch(1), target: Epoch(2) },
        root: ObservedRoot::new([0xcd; 32]),
        outcome: Outcome::from_code(1).unwrap(),
    };
    let mut out = Vec::new();
    write_record(3, &Record::Request(entry), &mut out);
    let expected = format!(
        "{{\"i\":3,\"op\":\"attestation\",\"key\":\"0x{}\",\"slot\":64,\"source\":1,\"target\":2,\"root\":\"0x{}\",\
         \"result\":\"signed\",\"reason\":\"new_data\",\"by\":\"vc \\\"1\\\"\"}}\n",
        "ab".repeat(48),
        "cd".repeat(32)
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn filters_that_mean_something_else_than_they_say_are_refused() {
    let start = |filter: Filter| {
        let mut out = Vec::new();
        Start { instance: INSTANCE, after: Head::EMPTY, filter }.write(&mut out);
        parse(&out).is_some()
    };
    assert!(start(Filter::default()));
    assert!(start(Filter { from: Some("2026-01-01T00:00:00.000Z".to_owned()), ..Filter::default() }));
    assert!(!start(Filter { from: Some("2026-01-01".to_owned()), ..Filter::default() }));
    assert!(!start(Filter { to: Some("soon".to_owned()), ..Filter::default() }));
    let key = PublicKey::from_bytes([0xab; 48]).to_string();
    assert!(start(Filter { keys: [key.clone()].into(), ..Filter::default() }));
    assert!(!start(Filter { keys: [key.to_uppercase()].into(), ..Filter::default() }));
}

proptest! {
    #[test]
    fn records_are_read_back(index in any::<u64>(), record in records()) {
        let mut out = Vec::new();
        write_record(index, &record, &mut out);
        prop_assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(&value["i"], &serde_json::json!(index));
        prop_assert_eq!(parse(&out), Some(Line::Record { index, record }));
    }

    #[test]
    fn other_lines_are_read_back(seq in any::<u64>(), time in any::<u64>(), hashes in any::<[[u8; 32]; 3]>(), counts in any::<[u64; 3]>()) {
        let [one, two, three] = hashes.map(Hash);
        let header = BatchHeader {
            instance: INSTANCE, seq, time: UnixMillis(time), prev_hash: one, merkle_root: two, count: counts[0], hash: three,
        };
        let end = End { head: Head { seq, hash: one }, batches: counts[0], records: counts[1], shown: counts[2], first: two };
        let start = Start { instance: INSTANCE, after: Head { seq, hash: one }, filter: Filter::default() };
        let mut lines = [const { Vec::new() }; 4];
        write_batch(&header, counts[1], &mut lines[0]);
        write_omitted(seq, &one, &mut lines[1]);
        end.write(&mut lines[2]);
        start.write(&mut lines[3]);
        let expected = [Line::Batch { header, shown: counts[1] }, Line::Omitted { size: seq, hash: one }, Line::End(end), Line::Start(Box::new(start))];
        for (line, expected) in lines.iter().zip(expected) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok());
            prop_assert_eq!(parse(line), Some(expected));
        }
    }

    #[test]
    fn a_changed_line_says_something_else_or_nothing(record in records(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut out = Vec::new();
        write_record(7, &record, &mut out);
        let at = at.index(out.len() - 1);
        if out[at] != to && to != b'\n' {
            out[at] = to;
            prop_assert_ne!(parse(&out), Some(Line::Record { index: 7, record }));
        }
    }
}
