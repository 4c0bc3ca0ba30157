//! A batch as the first version of this program wrote it, byte for byte, before events existed: it must be read as
//! what it was, and its Merkle root and hash must come out the same, for as long as there are databases that hold it.

use super::*;
use crate::journal::{BatchHeader, Hash, Head, InstanceId, merkle};

const STORED: &str = "01030468747470056ec3a46d65000403030303030303030303030303030303030303030303030303030303030303030303030303030303\
     03030303030303030707070707070707070707070707070707070707070707070707070707070707070707070707070707070707070707\
     070b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0f0f0f0f0f0f\
     0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f1101c0a8a50400000000000000\
     0000000000000000000000000000000000000000000000000002c1a8a504a19511feffffffffffffffff01000000000000000000000000\
     00000000000000000000000000000000000000000302a29511010101010101010101010101010101010101010101010101010101010101\
     01010400000101010101010101010101010101010101010101010101010101010101010101050104020202020202020202020202020202\
     02020202020202020202020202020202020602a29511020202020202020202020202020202020202020202020202020202020202020207\
     00000303030303030303030303030303030303030303030303030303030303030303080107030303030303030303030303030303030303\
     03030303030303030303030303030902a2951104040404040404040404040404040404040404040404040404040404040404040a000004\
     040404040404040404040404040404040404040404040404040404040404040b010a050505050505050505050505050505050505050505\
     05050505050505050505050c02a2951105050505050505050505050505050505050505050505050505050505050505050d000006060606\
     060606060606060606060606060606060606060606060606060606060e010d060606060606060606060606060606060606060606060606\
     06060606060606060f02a29511070707070707070707070707070707070707070707070707070707070707070710000007070707070707\
     0707070707070707070707070707070707070707070707070701d0a8a50408080808080808080808080808080808080808080808080808\
     08080808080808110000010101020202030300100401110502120600130701140802150900160a01200b02210c00220d01230e02240f00\
     2510013011feffffffffffffffff0300020104020103080400050206030706080809000a050b040c060d080e070f0210";
const TIME: UnixMillis = UnixMillis(1_700_000_000_123);
const MERKLE_ROOT: &str = "bc5cb2f2f1947547e6c86392daae0bb7c6bab7625604dc8c535759195c8fa530";
const HASH: &str = "0e0231e51d37c87e213242f0ac24de7c4d0a85d6ede3461263d25091b28af477";

/// What was written: requests of every kind of message and with every outcome that there was.
fn written() -> Vec<Entry> {
    let codes = [1, 2, 3, 16, 17, 18, 19, 20, 21, 22, 32, 33, 34, 35, 36, 37, 48];
    let entries = codes.into_iter().zip(0u64..).map(|(code, number)| {
        let small = u8::try_from(number).unwrap();
        let subject = match MessageKind::ALL[usize::from(small) % MessageKind::ALL.len()] {
            MessageKind::Slashable(SlashableKind::Block) => Subject::Block { slot: Slot(9_000_000 + number) },
            MessageKind::Slashable(SlashableKind::Attestation) => {
                Subject::Attestation { slot: Slot(9_000_001), source: Epoch(281_249), target: Epoch(u64::MAX - number) }
            }
            MessageKind::Unslashable(kind) => {
                let dating = [Dating::Undated, Dating::Slot(Slot(number)), Dating::Epoch(Epoch(281_250))];
                Subject::Unslashable { kind, dating: dating[usize::from(small % 3)] }
            }
        };
        let key = match number {
            0 => key_of(RowId(u64::MAX)),
            _ if number % 4 == 3 => PublicKey::from_bytes([small; 48]),
            _ => key_of(RowId(number % 5)),
        };
        let caller = CallerId::new(["http", "näme", ""][usize::from(small % 3)]);
        let outcome = Outcome::from_code(code).unwrap();
        Entry { caller, key, subject, root: ObservedRoot::new([small / 2; 32]), outcome }
    });
    entries.collect()
}

fn stored() -> Vec<u8> {
    let digits = STORED.as_bytes().chunks(2).map(|pair| core::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn a_batch_of_the_first_version_is_read_and_verified() {
    let records = decode_all(&stored()).unwrap();
    let expected: Vec<Record> = written().into_iter().map(Record::Request).collect();
    assert_eq!(records, expected);
    let mut tree = merkle::Accumulator::default();
    for record in &records {
        tree.push(&leaf_of(record, TIME.0));
    }
    assert_eq!(tree.root().to_string(), MERKLE_ROOT);
    let before = Head { seq: 41, hash: Hash([0xc4; 32]) };
    let header = BatchHeader::following(&before, InstanceId([0x1d; 16]), TIME, tree.root(), tree.count());
    assert_eq!((header.count, header.hash.to_string().as_str()), (17, HASH));
}

#[test]
fn a_batch_without_events_is_written_as_by_the_first_version() {
    let entries = written();
    let given: Vec<Given> = entries
        .into_iter()
        .zip(0u64..)
        .map(|(entry, number)| {
            let row = (number % 4 != 3).then_some(RowId(if number == 0 { u64::MAX } else { number % 5 }));
            (Record::Request(entry), row)
        })
        .collect();
    assert_eq!(encode(&given), stored());
}
