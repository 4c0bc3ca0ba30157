//! Journals made from a seed, without a database.

use holdfast_audit::Filter;
use holdfast_audit::checkpoint::{CheckpointKey, SignedCheckpoint};
use holdfast_audit::export::{Progress, export};
use holdfast_audit::verify::Trust;
use holdfast_domain::message::Dating;
use holdfast_domain::{Epoch, MessageKind, ObservedRoot, PublicKey, SlashableKind, Slot, Subject, UnixMillis};
use holdfast_slashing_db::CallerId;
use holdfast_slashing_db::journal::merkle::Accumulator;
use holdfast_slashing_db::journal::{
    Batch, BatchHeader, Entry, Event, EventKind, Hash, Head, InstanceId, JournalError, Outcome, Record, leaf,
};

/// A small generator of numbers: the same for the same seed, on every machine (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A place in something of this length.
    pub fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// Whose chain.
pub const INSTANCE: InstanceId = InstanceId([0x5a; 16]);

/// The key that signs it.
pub fn key() -> CheckpointKey {
    CheckpointKey::from_seed(&[9; 32], INSTANCE).unwrap()
}

/// A validator.
pub fn validator(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 48])
}

fn request(dice: &mut Dice) -> Record {
    let kind = MessageKind::ALL[dice.place(MessageKind::ALL.len())];
    let slot = Slot(dice.below(1_000));
    let subject = match kind {
        MessageKind::Slashable(SlashableKind::Block) => Subject::Block { slot },
        MessageKind::Slashable(SlashableKind::Attestation) => {
            Subject::Attestation { slot, source: Epoch(slot.0 / 32), target: Epoch(slot.0 / 32 + 1) }
        }
        MessageKind::Unslashable(kind) => {
            let datings = [Dating::Undated, Dating::Slot(slot), Dating::Epoch(Epoch(slot.0 / 32))];
            Subject::Unslashable { kind, dating: datings[dice.place(3)] }
        }
    };
    let outcomes: Vec<Outcome> = (0..=u8::MAX).filter_map(Outcome::from_code).collect();
    Record::Request(Entry {
        caller: CallerId::new(["vc-1", "vc-2", "näme \"quoted\"\u{7}"][dice.place(3)]),
        key: validator(u8::try_from(dice.below(5)).unwrap()),
        subject,
        root: ObservedRoot::new([u8::try_from(dice.below(256)).unwrap(); 32]),
        outcome: outcomes[dice.place(outcomes.len())],
    })
}

/// The batch after `head`.
pub fn batch(head: Head, time: UnixMillis, records: Vec<Record>) -> Batch {
    let mut tree = Accumulator::default();
    for record in &records {
        let mut encoded = Vec::new();
        leaf::write_record(record, time, &mut encoded);
        tree.push(&encoded);
    }
    let mut header = BatchHeader {
        instance: INSTANCE,
        seq: head.seq + 1,
        time,
        prev_hash: head.hash,
        merkle_root: tree.root(),
        count: tree.count(),
        hash: Hash::ZERO,
    };
    header.hash = header.compute_hash();
    Batch { header, records, stored_bytes: 0 }
}

/// A chain of `count` batches, a second apart; every fifth holds a checkpoint of the batch before it.
pub fn chain(seed: u64, count: u64) -> Vec<Batch> {
    let mut dice = Dice(seed);
    let mut batches: Vec<Batch> = Vec::new();
    let mut head = Head::EMPTY;
    for number in 1..=count {
        let time = UnixMillis(1_700_000_000_000 + number * 1_000);
        let mut records: Vec<Record> = (0..=dice.below(9)).map(|_| request(&mut dice)).collect();
        if dice.below(3) == 0 {
            let event = Event::new(time, &CallerId::new("op"), EventKind::new("switcher.left"));
            records.push(Record::Event(event.about("upstream/a/duty").detail("\"late\"").of_key(validator(1))));
        }
        if number % 5 == 0 {
            records.push(Record::Event(key().sign(head, time).to_event(&CallerId::new("holdfast"))));
        }
        let next = batch(head, time, records);
        head = next.header.as_head();
        batches.push(next);
    }
    batches
}

/// The export of a chain.
pub fn exported(batches: &[Batch], filter: &Filter) -> Vec<u8> {
    let mut out = Vec::new();
    let results = batches.iter().cloned().map(Ok::<_, JournalError>);
    export(results, Progress::begin(INSTANCE, Head::EMPTY), filter, &mut out).unwrap();
    out
}

/// Trust in the key alone.
pub fn trust() -> Trust {
    Trust { keys: vec![key().verifying_key()], checkpoints: Vec::new() }
}

/// The same, with a checkpoint of this batch that was kept elsewhere.
pub fn trust_and_checkpoint(batch: &Batch) -> Trust {
    let kept: SignedCheckpoint = key().sign(batch.header.as_head(), batch.header.time);
    Trust { checkpoints: vec![kept], ..trust() }
}
