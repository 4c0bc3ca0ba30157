//! Interchange files, good and bad: what is taken, what is refused and with which place, what a report says,
//! and what is written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it finds a fault")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io::{self, Read};

use holdfast_domain::{Epoch, GenesisValidatorsRoot, ObservedRoot, PublicKey, Slot};
use holdfast_slashing_db::interchange::{
    AttestationFloor, Change, ImportReport, Interchange, MAX_TOKEN_BYTES, Problem, ReadError, Rows, Totals,
    ValidatorFloor, WriteError, Writer, read, write,
};
use holdfast_slashing_db::rules::Horizon;
use holdfast_slashing_db::{AttestationMark, BlockMark, Floor, Watermarks};

const CHAIN: GenesisValidatorsRoot = GenesisValidatorsRoot([0x11; 32]);
const METADATA: &str = r#"{"interchange_format_version":"5","genesis_validators_root":"0x1111111111111111111111111111111111111111111111111111111111111111"}"#;

fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; 48])
}

fn take(text: &str) -> Result<Interchange, ReadError> {
    read(text.as_bytes(), CHAIN)
}

fn file(data: &str) -> String {
    format!("{{\"metadata\":{METADATA},\n\"data\":{data}}}")
}

/// A file with one validator that has these lists.
fn lists(blocks: &str, attestations: &str) -> String {
    let key = key(7);
    file(&format!(r#"[{{"pubkey":"{key}","signed_blocks":{blocks},"signed_attestations":{attestations}}}]"#))
}

fn floor_of(text: &str) -> ValidatorFloor {
    take(text).unwrap().get(&key(7)).unwrap().floor
}

/// The path and the problem of a refusal.
fn refusal(text: &str) -> (String, Problem) {
    match take(text) {
        Err(ReadError::Invalid { place, problem }) => (place.path, problem),
        other => panic!("{text}: {other:?}"),
    }
}

fn shape(text: &str) -> (String, String) {
    match take(text) {
        Err(ReadError::Shape { place, source }) => (place.path, source.to_string()),
        other => panic!("{text}: {other:?}"),
    }
}

fn attested(source: u64, target: u64) -> AttestationFloor {
    AttestationFloor { source: Epoch(source), target: Epoch(target) }
}

#[test]
fn maxima_are_taken_one_by_one_and_rows_are_counted() {
    let text = lists(
        r#"[{"slot":"5"},{"signing_root":"0x2222222222222222222222222222222222222222222222222222222222222222","slot":"9"},{"slot":"7","signing_root":null}]"#,
        r#"[{"source_epoch":"8","target_epoch":"7"},{"target_epoch":"10","source_epoch":"2"}]"#,
    );
    let interchange = take(&text).unwrap();
    let history = interchange.get(&key(7)).unwrap();
    assert_eq!(history.floor, ValidatorFloor { block: Some(Slot(9)), attestation: Some(attested(8, 10)) });
    assert_eq!(history.rows, Rows { blocks: 3, attestations: 2 });
    assert_eq!(
        Floor::from(history.floor),
        Floor { block: Some(Slot(9)), source: Some(Epoch(8)), target: Some(Epoch(10)) }
    );
}

#[test]
fn members_may_stand_in_any_order() {
    let upper = key(0xab).to_string().to_uppercase().replace("0X", "");
    let text = format!(
        r#"{{"data":[{{"signed_attestations":[],"signed_blocks":[{{"slot":"3"}}],"pubkey":"{upper}"}}],"metadata":{METADATA}}}"#
    );
    let interchange = take(&text).unwrap();
    assert_eq!(interchange.get(&key(0xab)).unwrap().floor.block, Some(Slot(3)));
    assert_eq!((interchange.len(), interchange.is_empty()), (1, false));
}

#[test]
fn entries_of_one_key_are_merged() {
    let mixed = key(0xab).to_string();
    let upper = mixed.to_uppercase().replace("0X", "0x");
    let text = file(&format!(
        r#"[{{"pubkey":"{mixed}","signed_blocks":[{{"slot":"3"}}],"signed_attestations":[]}},
            {{"pubkey":"{upper}","signed_blocks":[{{"slot":"2"}}],"signed_attestations":[{{"source_epoch":"0","target_epoch":"0"}}]}}]"#
    ));
    let interchange = take(&text).unwrap();
    assert_eq!(interchange.len(), 1);
    let history = interchange.get(&key(0xab)).unwrap();
    assert_eq!(history.floor, ValidatorFloor { block: Some(Slot(3)), attestation: Some(attested(0, 0)) });
    assert_eq!(history.rows, Rows { blocks: 2, attestations: 1 });
}

#[test]
fn numbers_over_all_64_bits() {
    let block = |number: &str| lists(&format!(r#"[{{"slot":{number}}}]"#), "[]");
    for (text, slot) in [
        (r#""0""#, 0),
        (r#""007""#, 7),
        (r#""9007199254740993""#, 9_007_199_254_740_993),
        (r#""18446744073709551615""#, u64::MAX),
        ("12", 12),
        ("9007199254740991", 9_007_199_254_740_991),
    ] {
        assert_eq!(floor_of(&block(text)).block, Some(Slot(slot)), "{text}");
    }
    let path = "data[0].signed_blocks[0].slot";
    for (text, problem) in [
        (r#""18446744073709551616""#, Problem::TooLarge("18446744073709551616".to_owned())),
        (r#""-1""#, Problem::NotDecimal("-1".to_owned())),
        (r#""+1""#, Problem::NotDecimal("+1".to_owned())),
        (r#""0x10""#, Problem::NotDecimal("0x10".to_owned())),
        (r#""1.5""#, Problem::NotDecimal("1.5".to_owned())),
        (r#""1 ""#, Problem::NotDecimal("1 ".to_owned())),
        (r#""""#, Problem::NotDecimal(String::new())),
        ("-1", Problem::Negative(-1)),
        ("1.5", Problem::NotWhole),
        ("1e3", Problem::NotWhole),
        ("-0", Problem::NotWhole),
        ("18446744073709551616", Problem::NotWhole),
        ("9007199254740992", Problem::MaybeRounded(9_007_199_254_740_992)),
    ] {
        assert_eq!(refusal(&block(text)), (path.to_owned(), problem));
    }
    for wrong in ["null", "true", "[]", "{}"] {
        assert_eq!(shape(&block(wrong)).0, path);
    }
}

#[test]
fn metadata_is_required_and_judged_wherever_it_stands() {
    let with = |metadata: &str| {
        [format!(r#"{{"metadata":{metadata},"data":[]}}"#), format!(r#"{{"data":[],"metadata":{metadata}}}"#)]
    };
    let chain = "0x1111111111111111111111111111111111111111111111111111111111111111";
    let cases = [
        (r#"{"interchange_format_version":"5"}"#.to_owned(), "metadata", Problem::Missing("genesis_validators_root")),
        (
            format!(r#"{{"genesis_validators_root":"{chain}"}}"#),
            "metadata",
            Problem::Missing("interchange_format_version"),
        ),
        (
            format!(r#"{{"interchange_format_version":"4","genesis_validators_root":"{chain}"}}"#),
            "metadata.interchange_format_version",
            Problem::WrongVersion("4".to_owned()),
        ),
        (
            r#"{"interchange_format_version":"5","genesis_validators_root":"0x11"}"#.to_owned(),
            "metadata.genesis_validators_root",
            Problem::Root("0x11".to_owned()),
        ),
        (
            METADATA.replace("0x11", "0x12"),
            "metadata.genesis_validators_root",
            Problem::WrongGenesisValidatorsRoot {
                found: GenesisValidatorsRoot({
                    let mut root = CHAIN.0;
                    root[0] = 0x12;
                    root
                }),
                expected: CHAIN,
            },
        ),
        (
            METADATA.replace('}', r#","interchange_format":"minimal"}"#),
            "metadata",
            Problem::Unknown { name: "interchange_format".to_owned(), object: "a metadata object" },
        ),
    ];
    for (metadata, path, problem) in cases {
        for text in with(&metadata) {
            assert_eq!(refusal(&text), (path.to_owned(), problem.clone()));
        }
    }
    let number = METADATA.replace(r#""5""#, "5");
    assert_eq!(shape(&with(&number)[0]).0, "metadata.interchange_format_version");
    assert_eq!(refusal(r#"{"data":[]}"#), (String::new(), Problem::Missing("metadata")));
    assert_eq!(refusal(&format!(r#"{{"metadata":{METADATA}}}"#)), (String::new(), Problem::Missing("data")));
    assert_eq!(shape(&with("null")[1]).0, "metadata");
    assert!(take(&with(METADATA)[1]).unwrap().is_empty());
}

#[test]
fn every_list_and_member_must_be_there_once() {
    let key = key(7);
    let entry = |members: &str| file(&format!("[{{{members}}}]"));
    for (members, missing) in [
        (format!(r#""pubkey":"{key}","signed_blocks":[]"#), "signed_attestations"),
        (format!(r#""pubkey":"{key}","signed_attestations":[]"#), "signed_blocks"),
        (r#""signed_blocks":[],"signed_attestations":[]"#.to_owned(), "pubkey"),
    ] {
        assert_eq!(refusal(&entry(&members)), ("data[0]".to_owned(), Problem::Missing(missing)));
    }
    let row = |blocks: &str, votes: &str| refusal(&lists(blocks, votes));
    assert_eq!(row("[{}]", "[]"), ("data[0].signed_blocks[0]".to_owned(), Problem::Missing("slot")));
    let vote = "data[0].signed_attestations[1]".to_owned();
    let good = r#"{"source_epoch":"1","target_epoch":"2"}"#;
    assert_eq!(
        row("[]", &format!(r#"[{good},{{"source_epoch":"1"}}]"#)),
        (vote.clone(), Problem::Missing("target_epoch"))
    );
    assert_eq!(row("[]", &format!(r#"[{good},{{"target_epoch":"1"}}]"#)), (vote, Problem::Missing("source_epoch")));
    assert_eq!(
        row(r#"[{"slot":"1","slot":"2"}]"#, "[]"),
        ("data[0].signed_blocks[0]".to_owned(), Problem::Twice("slot"))
    );
    assert_eq!(
        row(r#"[{"slot":"1","root":"2"}]"#, "[]"),
        ("data[0].signed_blocks[0]".to_owned(), Problem::Unknown { name: "root".to_owned(), object: "a signed block" })
    );
    assert_eq!(
        refusal(&format!(r#"{{"metadata":{METADATA},"data":[],"data":[]}}"#)),
        (String::new(), Problem::Twice("data"))
    );
    assert_eq!(shape(&lists("null", "[]")).0, "data[0].signed_blocks");
    assert_eq!(shape(&lists("[]", "{}")).0, "data[0].signed_attestations");
    assert_eq!(shape(&file("{}")).0, "data");
    assert_eq!(shape(&file("[[]]")).0, "data[0]");
    assert_eq!(shape("[]").0, "");
}

#[test]
fn damaged_keys_and_roots_are_refused_with_their_place() {
    let text = file(r#"[{"pubkey":"0xabc","signed_blocks":[],"signed_attestations":[]}]"#);
    assert_eq!(refusal(&text), ("data[0].pubkey".to_owned(), Problem::PublicKey("0xabc".to_owned())));
    let text = lists(r#"[{"slot":"1"},{"slot":"2","signing_root":"0x22"}]"#, "[]");
    let Err(error @ ReadError::Invalid { .. }) = take(&text) else { panic!("taken") };
    let message = error.to_string();
    assert!(message.contains("data[0].signed_blocks[1].signing_root, line 2 column "), "{message}");
    assert!(message.contains("64 hexadecimal digits"), "{message}");
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let text = lists(r#"[{"\u001b[2J":"1"}]"#, "[]");
    let message = take(&text).unwrap_err().to_string();
    assert!(!message.contains('\u{1b}') && message.contains("u{1b}"), "{message}");
    let shape = take(r#""\u001b[2J""#).unwrap_err();
    assert!(!shape.source().unwrap().to_string().contains('\u{1b}'));
}

#[test]
fn no_prefix_of_a_file_is_taken() {
    let text = lists(r#"[{"slot":"5"}]"#, r#"[{"source_epoch":"1","target_epoch":"2"}]"#);
    assert!(take(&text).is_ok());
    for end in 0..text.len() {
        assert!(matches!(take(&text[..end]), Err(ReadError::Truncated { .. })), "{}", &text[..end]);
    }
    assert!(matches!(take(&format!("{text} {{}}")), Err(ReadError::NotJson { .. })));
    assert!(matches!(take(&text.replace(':', "=")), Err(ReadError::NotJson { .. })));
}

/// A disk that fails after some bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::Error::other("bad sector")) } else { self.0.read(buffer) }
    }
}

#[test]
fn a_failing_disk_is_not_mistaken_for_the_end_of_the_file() {
    let text = lists("[]", "[]");
    let error = read(Failing(&text.as_bytes()[..20]), CHAIN).unwrap_err();
    assert!(matches!(&error, ReadError::Io(_)), "{error:?}");
    assert_eq!(error.source().unwrap().to_string(), "bad sector");
}

/// Long enough to stand for endless, short enough to lose the machine nothing if a bound fails.
fn endless(byte: u8) -> impl Read {
    io::repeat(byte).take(16 << 20)
}

#[test]
fn endless_tokens_and_nesting_end_at_once() {
    for byte in [b'a', b'\\', b'7'] {
        let start = lists(r#"[{"slot":""#, "[]");
        let start = &start[..start.find(r#"[{"slot":""#).unwrap() + 10];
        let error = read(start.as_bytes().chain(endless(byte)), CHAIN).unwrap_err();
        assert!(matches!(error, ReadError::TokenTooLong { .. }), "{error:?}");
    }
    // An escaped quote does not end a text, so these commas are part of it.
    let start = format!(r#"{{"metadata":{METADATA},"data":[{{"pubkey":"\""#);
    let error = read(start.as_bytes().chain(endless(b',')), CHAIN).unwrap_err();
    assert!(matches!(error, ReadError::TokenTooLong { .. }), "{error:?}");
    let bare = lists(r#"[{"slot":"#, "[]");
    let bare = &bare[..bare.find(r#"[{"slot":"#).unwrap() + 9];
    let error = read(bare.as_bytes().chain(endless(b'7')), CHAIN).unwrap_err();
    let ReadError::TokenTooLong { place } = error else { panic!("{error:?}") };
    assert_eq!((place.path.as_str(), place.line), ("data[0].signed_blocks[0].slot", 2));
    assert!(matches!(read(endless(b'['), CHAIN), Err(ReadError::Shape { .. })));
    let start = format!(r#"{{"metadata":{METADATA},"data":"#);
    assert!(matches!(read(start.as_bytes().chain(endless(b'[')), CHAIN), Err(ReadError::Shape { .. })));
    let start = format!(r#"{{"metadata":{METADATA},"extra":"#);
    assert!(matches!(read(start.as_bytes().chain(endless(b'{')), CHAIN), Err(ReadError::Invalid { .. })));
    let longest = lists(&format!(r#"[{{"slot":"{}1"}}]"#, "0".repeat(MAX_TOKEN_BYTES - 1)), "[]");
    assert_eq!(floor_of(&longest).block, Some(Slot(1)));
}

#[test]
fn a_report_says_what_changes() {
    let text = lists(r#"[{"slot":"5"}]"#, r#"[{"source_epoch":"1","target_epoch":"2"}]"#);
    let interchange = take(&text).unwrap();
    let history = interchange.get(&key(7)).unwrap();
    let own = ObservedRoot::new([9; 32]);
    let at = |slot, source, target| Watermarks {
        block: Some(BlockMark { slot: Slot(slot), root: Some(own) }),
        attestation: Some(AttestationMark { source: Epoch(source), target: Epoch(target), root: Some(own) }),
    };
    let new = history.apply(key(7), None);
    assert_eq!((new.change, new.before, new.after), (Change::New, None, history.floor.into()));
    for unchanged in [at(5, 1, 2), at(6, 1, 3)] {
        let report = history.apply(key(7), Some(unchanged));
        assert_eq!((report.change, report.after), (Change::Unchanged, unchanged));
    }
    let raised = history.apply(key(7), Some(at(6, 0, 4)));
    let mut expected = at(6, 1, 4);
    expected.attestation = Some(AttestationMark { source: Epoch(1), target: Epoch(4), root: None });
    assert_eq!((raised.change, raised.after), (Change::Raised, expected));
    let report: ImportReport = [new, raised, history.apply(key(7), Some(at(9, 9, 9)))].into_iter().collect();
    let rows = Rows { blocks: 3, attestations: 3 };
    assert_eq!(report.totals(), Totals { new: 1, raised: 1, unchanged: 1, rows });
}

#[test]
fn only_wanted_validators_stay() {
    let entries: Vec<String> = [1, 2, 3]
        .map(|number| format!(r#"{{"pubkey":"{}","signed_blocks":[],"signed_attestations":[]}}"#, key(number)))
        .to_vec();
    let mut interchange = take(&file(&format!("[{}]", entries.join(",")))).unwrap();
    interchange.retain(|own| *own != key(2));
    assert_eq!(interchange.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [key(1), key(3)]);
    assert_eq!(interchange.genesis_validators_root(), CHAIN);
}

#[test]
fn floors_beyond_the_clock_are_noticed() {
    let horizon = Horizon::At { slot: Slot(64), epoch: Epoch(2) };
    let floor = |block: Option<u64>, attestation| ValidatorFloor { block: block.map(Slot), attestation };
    for (floor, beyond) in [
        (floor(None, None), false),
        (floor(Some(64), Some(attested(2, 2))), false),
        (floor(Some(65), None), true),
        (floor(None, Some(attested(0, 3))), true),
        (floor(None, Some(attested(3, 0))), true),
    ] {
        assert_eq!(floor.is_beyond(horizon), beyond, "{floor:?}");
        assert_eq!(floor.is_beyond(Horizon::BeforeGenesis), floor != ValidatorFloor::default());
    }
}

#[test]
fn a_written_file_is_exactly_this() {
    let own = ObservedRoot::new([0x22; 32]);
    let marks = BTreeMap::from([
        (key(2), Watermarks::default()),
        (
            key(1),
            Watermarks {
                block: Some(BlockMark { slot: Slot(u64::MAX), root: Some(own) }),
                attestation: Some(AttestationMark { source: Epoch(1), target: Epoch(2), root: None }),
            },
        ),
        (
            key(3),
            Watermarks {
                block: None,
                attestation: Some(AttestationMark { source: Epoch(8), target: Epoch(7), root: None }),
            },
        ),
    ]);
    let mut out = Vec::new();
    write(&mut out, CHAIN, &marks).unwrap();
    let (one, two, three, root) = (key(1), key(2), key(3), own);
    let expected = format!(
        "{{\"metadata\":{METADATA},\n\"data\":[\n\
         {{\"pubkey\":\"{one}\",\"signed_blocks\":[{{\"slot\":\"18446744073709551615\",\"signing_root\":\"{root}\"}}],\
         \"signed_attestations\":[{{\"source_epoch\":\"1\",\"target_epoch\":\"2\"}}]}},\n\
         {{\"pubkey\":\"{two}\",\"signed_blocks\":[],\"signed_attestations\":[]}},\n\
         {{\"pubkey\":\"{three}\",\"signed_blocks\":[],\"signed_attestations\":[{{\"source_epoch\":\"8\",\"target_epoch\":\"8\"}}]}}\n\
         ]}}\n"
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn an_unfinished_file_is_of_no_use_to_anybody() {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&mut out, CHAIN).unwrap();
    writer.validator(&key(2), &Watermarks::default()).unwrap();
    for again in [key(2), key(1)] {
        assert!(matches!(writer.validator(&again, &Watermarks::default()), Err(WriteError::OutOfOrder { .. })));
    }
    drop(writer);
    assert!(matches!(read(out.as_slice(), CHAIN), Err(ReadError::Truncated { .. })));
    let mut empty = Vec::new();
    write(&mut empty, CHAIN, &BTreeMap::new()).unwrap();
    assert!(read(empty.as_slice(), CHAIN).unwrap().is_empty());
}

/// A disk with no space left.
struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let error = write(Full, CHAIN, &BTreeMap::new()).unwrap_err();
    assert!(matches!(&error, WriteError::Io(source) if source.kind() == io::ErrorKind::StorageFull), "{error:?}");
}
