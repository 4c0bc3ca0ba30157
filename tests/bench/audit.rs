//! What it costs to export a journal and to verify an export, on one core.
//!
//! The baseline is what cannot be avoided: SHA-256 of each record's leaf, as the journal itself computes it.

use std::hint::black_box;
use std::time::Instant;

use holdfast_audit::Filter;
use holdfast_audit::export::{Progress, export};
use holdfast_audit::verify::{Trust, verify_export};
use holdfast_domain::{Epoch, ObservedRoot, PublicKey, Slot, Subject, UnixMillis};
use holdfast_slashing_db::CallerId;
use holdfast_slashing_db::journal::merkle::{Accumulator, leaf_hash};
use holdfast_slashing_db::journal::{
    Batch, BatchHeader, Entry, Hash, Head, InstanceId, JournalError, Outcome, Record, leaf,
};

/// Attestations of a slot, as one commit of a signer with 10,000 keys.
const IN_A_BATCH: u64 = 313;

/// Prints records a second, and the ratio to hashing alone.
pub(crate) fn measure(records: u64) {
    let batches = journal(records);
    let count: u64 = batches.iter().map(|batch| batch.header.count).sum();
    let per_second = |seconds: f64| count as f64 / seconds;

    let watch = Instant::now();
    for batch in &batches {
        let mut encoded = Vec::new();
        for record in &batch.records {
            encoded.clear();
            leaf::write_record(record, batch.header.time, &mut encoded);
            black_box(leaf_hash(&encoded));
        }
    }
    let hashing = watch.elapsed().as_secs_f64();
    println!("{count} records; hashing their leaves alone: {:>12.0} records/s", per_second(hashing));

    let mut text = Vec::with_capacity(usize::try_from(count * 420).expect("a size"));
    let given = batches.into_iter().map(Ok::<_, JournalError>);
    let watch = Instant::now();
    export(given, Progress::begin(INSTANCE, Head::EMPTY), &Filter::default(), &mut text).expect("a journal in order");
    report("export", count, watch.elapsed().as_secs_f64(), hashing, text.len());

    let watch = Instant::now();
    verify_export(text.as_slice(), &Trust::default()).expect("an export in order");
    report("verify", count, watch.elapsed().as_secs_f64(), hashing, text.len());
}

fn report(what: &str, count: u64, seconds: f64, hashing: f64, bytes: usize) {
    let (rate, ratio) = (count as f64 / seconds, seconds / hashing);
    println!("{what}: {rate:>12.0} records/s on one core, {ratio:.2} times hashing alone, {} MB", bytes / 1_000_000);
}

const INSTANCE: InstanceId = InstanceId([7; 16]);

fn journal(records: u64) -> Vec<Batch> {
    let mut head = Head::EMPTY;
    let caller = CallerId::new("http");
    let outcome = Outcome::from_code(1).expect("the code of new data");
    (0..records.div_ceil(IN_A_BATCH))
        .map(|slot| {
            let time = UnixMillis(1_700_000_000_000 + slot * 12_000);
            let subject =
                Subject::Attestation { slot: Slot(slot), source: Epoch(slot / 32), target: Epoch(slot / 32 + 1) };
            let mut tree = Accumulator::default();
            let mut encoded = Vec::new();
            let records = (0..IN_A_BATCH).map(|place| {
                let mut key = [0; 48];
                key[..8].copy_from_slice(&(slot % 32 * IN_A_BATCH + place).to_be_bytes());
                let mut root = [0; 32];
                root[..8].copy_from_slice(&slot.to_be_bytes());
                let key = PublicKey::from_bytes(key);
                let root = ObservedRoot::new(root);
                let record = Record::Request(Entry { caller: caller.clone(), key, subject, root, outcome });
                encoded.clear();
                leaf::write_record(&record, time, &mut encoded);
                tree.push(&encoded);
                record
            });
            let records: Vec<Record> = records.collect();
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
            head = header.as_head();
            Batch { header, records, stored_bytes: 0 }
        })
        .collect()
}
