//! Properties of interchange files: a written file reads back as what it was written from; a read file gives the
//! maxima of its rows, however it is laid out; and under such a floor the rules approve nothing that EIP-3076,
//! applied to every single row, would refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it finds a fault")]

use std::collections::BTreeMap;

use holdfast_domain::message::BeaconBlockHeader;
use holdfast_domain::{
    Epoch, Fork, ForkInfo, ForkName, GenesisValidatorsRoot, Message, Network, ObservedRoot, PublicKey, SigningIntent,
    SigningRoot, Slashable, Slot, Subject, ValidatorIndex,
};
use holdfast_slashing_db::interchange::{AttestationFloor, Interchange, ReadError, Rows, ValidatorFloor, read, write};
use holdfast_slashing_db::rules::{Horizon, Verdict, judge};
use holdfast_slashing_db::{AttestationMark, BlockMark, Watermarks};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

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

fn attested(source: u64, target: u64) -> AttestationFloor {
    AttestationFloor { source: Epoch(source), target: Epoch(target) }
}

/// Small numbers, so that they meet, and sometimes any.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..12, 1 => any::<u64>()]
}

fn root() -> impl Strategy<Value = Option<ObservedRoot>> {
    prop::option::of(prop_oneof![Just([0_u8; 32]), Just([1; 32]), any::<[u8; 32]>()].prop_map(ObservedRoot::new))
}

fn marks() -> impl Strategy<Value = Watermarks> {
    let block = prop::option::of((number(), root()).prop_map(|(slot, root)| BlockMark { slot: Slot(slot), root }));
    let attestation = prop::option::of((number(), number(), root()).prop_map(|(source, target, root)| {
        let root = root.filter(|_| source <= target);
        AttestationMark { source: Epoch(source), target: Epoch(target), root }
    }));
    (block, attestation).prop_map(|(block, attestation)| Watermarks { block, attestation })
}

/// Rows of one validator: blocks and votes, some with a root.
type RowsOf = (Vec<(u64, Option<ObservedRoot>)>, Vec<(u64, u64, Option<ObservedRoot>)>);

fn rows() -> impl Strategy<Value = RowsOf> {
    (prop::collection::vec((number(), root()), 0..6), prop::collection::vec((number(), number(), root()), 0..6))
}

/// An entry as some other program might write it.
fn entry(key: &str, (blocks, votes): &RowsOf, lists_first: bool) -> String {
    let end = |root: &Option<ObservedRoot>| root.map_or(String::new(), |root| format!(r#","signing_root":"{root}""#));
    let blocks: Vec<String> =
        blocks.iter().map(|(slot, root)| format!(r#"{{"slot":"{slot}"{}}}"#, end(root))).collect();
    let votes: Vec<String> = votes
        .iter()
        .map(|(source, target, root)| {
            format!(r#"{{ "target_epoch": "{target}", "source_epoch":"{source}"{} }}"#, end(root))
        })
        .collect();
    let (blocks, votes) = (blocks.join(" ,"), votes.join(","));
    if lists_first {
        format!(r#"{{"signed_attestations":[{votes}],"signed_blocks":[{blocks}],"pubkey":"{key}"}}"#)
    } else {
        format!(r#"{{"pubkey":"{key}","signed_blocks":[{blocks}],"signed_attestations":[{votes}]}}"#)
    }
}

/// EIP-3076 conditions 1 to 5 over all rows ever seen, for messages with a root of their own.
fn may_sign_block((blocks, _): &RowsOf, slot: u64) -> bool {
    blocks.iter().all(|row| row.0 != slot) && blocks.iter().map(|row| row.0).min().is_none_or(|least| slot > least)
}

fn may_sign_vote((_, votes): &RowsOf, source: u64, target: u64) -> bool {
    let conflict = |row: &(u64, u64, Option<ObservedRoot>)| {
        row.1 == target || (source < row.0 && row.1 < target) || (row.0 < source && target < row.1)
    };
    source <= target
        && !votes.iter().any(conflict)
        && votes.iter().map(|row| row.0).min().is_none_or(|least| source >= least)
        && votes.iter().map(|row| row.1).min().is_none_or(|least| target > least)
}

/// A computed root that no row has and no other attempt.
fn distinct_root(number: u8) -> SigningRoot {
    let network = Network::builtin("mainnet").unwrap();
    let version = network.fork(ForkName::Phase0).unwrap().version;
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    let header = BeaconBlockHeader {
        slot: Slot(0),
        proposer_index: ValidatorIndex(0),
        parent_root: [0; 32],
        state_root: [0; 32],
        body_root: [number; 32],
    };
    let message = Message::Slashable(Slashable::Block(header));
    let info = ForkInfo { fork, genesis_validators_root: CHAIN };
    SigningIntent::new(key(7), &message, Some(info), None, &network).unwrap().root()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_reads_back(entries in prop::collection::btree_map(any::<u8>(), marks(), 0..8)) {
        let entries: BTreeMap<PublicKey, Watermarks> = entries.into_iter().map(|(byte, marks)| (key(byte), marks)).collect();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        write(&mut first, CHAIN, &entries).unwrap();
        write(&mut second, CHAIN, &entries).unwrap();
        prop_assert_eq!(&first, &second);
        let back = read(first.as_slice(), CHAIN).unwrap();
        prop_assert_eq!(back.len(), entries.len());
        for ((key, history), (own, marks)) in back.iter().zip(&entries) {
            prop_assert_eq!(key, own);
            let expected = ValidatorFloor {
                block: marks.block.map(|mark| mark.slot),
                attestation: marks.attestation.map(|mark| AttestationFloor {
                    source: mark.source,
                    target: mark.target.max(mark.source),
                }),
            };
            prop_assert_eq!(history.floor, expected);
            let kinds = Rows { blocks: marks.block.iter().len() as u64, attestations: marks.attestation.iter().len() as u64 };
            prop_assert_eq!(history.rows, kinds);
        }
    }

    #[test]
    fn any_file_gives_the_maxima_of_its_rows(
        entries in prop::collection::vec((0_u8..4, rows(), any::<bool>(), 0_u8..3), 0..8),
        metadata_last in any::<bool>(),
    ) {
        let data: Vec<String> = entries
            .iter()
            .map(|(byte, rows, lists_first, spelling)| {
                let text = key(0xa0 + byte).to_string();
                let text = match spelling {
                    0 => text,
                    1 => text.replace("0x", ""),
                    _ => text.to_uppercase().replace("0X", "0x"),
                };
                entry(&text, rows, *lists_first)
            })
            .collect();
        let data = data.join(",\n");
        let text = if metadata_last {
            format!("{{\"data\":[{data}],\"metadata\":{METADATA}}}")
        } else {
            format!("{{\"metadata\":{METADATA},\"data\":[{data}]}}")
        };
        let interchange = take(&text).unwrap();
        for byte in 0..4 {
            let own: Vec<&RowsOf> = entries.iter().filter(|entry| entry.0 == byte).map(|entry| &entry.1).collect();
            let Some(history) = interchange.get(&key(0xa0 + byte)) else {
                prop_assert!(own.is_empty());
                continue;
            };
            let votes = || own.iter().flat_map(|rows| &rows.1);
            let (source, target) = (votes().map(|row| row.0).max(), votes().map(|row| row.1).max());
            let floor = ValidatorFloor {
                block: own.iter().flat_map(|rows| &rows.0).map(|row| Slot(row.0)).max(),
                attestation: source.zip(target).map(|(source, target)| attested(source, target)),
            };
            prop_assert_eq!(history.floor, floor);
        }
    }

    /// The floor refuses whatever any row would refuse: EIP-3076 over the full history agrees with each approval.
    #[test]
    fn a_floor_is_at_least_as_strict_as_all_its_rows(
        rows in rows(),
        attempts in prop::collection::vec((any::<bool>(), number(), number()), 1..8),
    ) {
        let interchange = take(&file(&format!("[{}]", entry(&key(7).to_string(), &rows, false)))).unwrap();
        let mut marks = interchange.get(&key(7)).unwrap().apply(key(7), None).after;
        let mut seen = rows;
        let horizon = Horizon::At { slot: Slot(u64::MAX), epoch: Epoch(u64::MAX) };
        for (index, (block, first, second)) in attempts.into_iter().enumerate() {
            let root = distinct_root(u8::try_from(index).unwrap());
            let subject = if block {
                Subject::Block { slot: Slot(first) }
            } else {
                Subject::Attestation { slot: Slot(0), source: Epoch(first), target: Epoch(second) }
            };
            let Verdict::Approve { approved: _, after } = judge(&marks, &subject, &root, horizon) else {
                continue;
            };
            marks = after;
            if block {
                prop_assert!(may_sign_block(&seen, first), "slot {first} after {seen:?}");
                seen.0.push((first, None));
            } else {
                prop_assert!(may_sign_vote(&seen, first, second), "{first} to {second} after {seen:?}");
                seen.1.push((first, second, None));
            }
        }
    }

    /// A file with one byte changed is refused, or says something; it never brings the reader down.
    #[test]
    fn a_damaged_byte_does_no_harm(rows in rows(), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = file(&format!("[{}]", entry(&key(7).to_string(), &rows, false))).into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        if let Ok(interchange) = read(text.as_slice(), CHAIN) {
            prop_assert_eq!(interchange.len(), 1);
        }
    }
}
