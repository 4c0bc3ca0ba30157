//! An image with witnesses in it: whatever its host says of witnesses, the vault signs no block and no attestation that they
//! did not grant.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, Epoch, Network, UnixMillis};
use holdfast_enclave::vault::enclave::measured_witnesses;
use holdfast_vault_proto::{Answer, Failure, KeyOutcome, LeaseReport, Operation, Reason, Request};
use holdfast_witness::service::{Founding, Witness};
use holdfast_witness::store::sqlite::SqliteStore;
use holdfast_witness::{Pins, SigningKey};

use crate::support::chain::{self, GENESIS, block, vote};
use crate::support::image::stock_with_files;
use crate::support::keys::{KnownDataKey, secret};
use crate::support::line::Line;
use crate::support::machine::Machine;
use crate::support::wait_until;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap())
    }
}

/// The chain of these tests with epochs that last long enough for a lease to be of use.
fn network() -> Network {
    let mut network = chain::network();
    network.preset.slots_per_epoch = NonZeroU64::new(8).unwrap();
    network
}

/// A witness at `dir`.
fn witness(dir: &std::path::Path, seed: u8) -> Witness<SqliteStore> {
    let store = SqliteStore::open(&dir.join(format!("witness-{seed}.sqlite"))).unwrap();
    let chain = (GENESIS, network().slot_clock().unwrap());
    Witness::new(SigningKey::from_seed(&[seed; 32]), chain, Arc::new(SystemClock), store, Founding::Open)
}

/// The vault asks the witness once more, its host carries it. What the vault holds then.
fn extended(
    line: &mut Line,
    witness: &Witness<SqliteStore>,
    version: &mut u64,
    runtime: &tokio::runtime::Runtime,
) -> LeaseReport {
    let until = Epoch(line.slot() / network().preset.slots_per_epoch.get() + 1);
    let asked = line.ask(&Request::AskLease { until, versions: vec![*version] });
    let Answer::Requests { requests, .. } = asked else { panic!("{asked:?}") };
    let grants = match runtime.block_on(witness.answer(&requests[0])) {
        Ok(grant) => {
            *version += 1;
            vec![grant]
        }
        Err(error) => {
            *version = error.version().unwrap_or(*version);
            Vec::new()
        }
    };
    match line.ask(&Request::TakeLease(grants)) {
        Answer::Lease(report) => report,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn nothing_without_a_grant() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, hosts) = (witness(dir.path(), 1), witness(dir.path(), 2));
    let pins = Pins::new("pair".parse().unwrap(), vec![ours.public()], 1).unwrap();
    let file = ("witnesses", measured_witnesses(&pins));
    let mut machine = Machine::stock_with(&stock_with_files(&network(), vec![file]));
    let (mut line, greeting) = Line::greeted(&mut machine);
    assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));

    // A host that names a witness of its own, in place of those in the image or besides them.
    let named = |keys: &[&Witness<SqliteStore>]| Request::Witnesses {
        group: "pair".to_owned(),
        witnesses: keys.iter().map(|witness| *witness.public().as_bytes()).collect(),
        quorum: 1,
    };
    for others in [vec![&hosts], vec![&hosts, &ours]] {
        let answer = line.ask(&named(&others));
        assert!(matches!(answer, Answer::Failed(Failure::OtherWitnesses | Failure::UnfitWitnesses)), "{answer:?}");
    }
    let (data_key, secret) = (KnownDataKey::new(31), secret());
    let key = *secret.public_key();
    let envelope = data_key.envelope(&greeting.boot_key);
    assert_eq!(line.provision(envelope, vec![data_key.seal(&secret)]), Ok(vec![KeyOutcome::Opened]));
    // A host that says nothing of witnesses: behind every fence, and yet nothing.
    let refused = |line: &mut Line| {
        let number = line.next_slot();
        let epoch = number / network().preset.slots_per_epoch.get();
        let reasons = line.reasons(key, &[block(number, 1), vote(epoch - 1, epoch, 1)]);
        assert_eq!(reasons, [Some(Reason::NoLease), Some(Reason::NoLease)]);
    };
    refused(&mut line);
    // Its own witness grants nothing that counts: the request names ours, and so does every grant.
    assert!(extended(&mut line, &hosts, &mut 0, &runtime).held.is_none());
    refused(&mut line);
    assert_eq!(line.ask(&named(&[&ours])), Answer::Done(Operation::Witnesses), "the same ones change nothing");

    // With grants it signs, in the epochs that were granted.
    let (mut version, mut signed) = (0, 0);
    wait_until("a block in a leased epoch", || {
        extended(&mut line, &ours, &mut version, &runtime);
        signed = line.slot();
        line.reasons(key, &[block(signed, 1)]) == [None]
    });
    assert_eq!(line.reasons(key, &[block(signed, 2)]), [Some(Reason::DoubleBlock)]);
    // And when grants stay away it stops.
    wait_until("the end of the lease", || {
        let number = line.slot();
        line.reasons(key, &[block(number, 3)]) == [Some(Reason::NoLease)]
    });
}
