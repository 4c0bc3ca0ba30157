//! An image with witnesses in it: whatever its host says of witnesses, the vault signs no block and no attestation that they
//! did not grant; and two machines of one such image that race for its lease.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, Epoch, Network, UnixMillis};
use holdfast_enclave::SecretKey;
use holdfast_enclave::vault::enclave::measured_witnesses;
use holdfast_vault_proto::{Answer, Failure, KeyOutcome, LeaseReport, Operation, Reason, Request};
use holdfast_witness::service::{Founding, Witness};
use holdfast_witness::store::sqlite::SqliteStore;
use holdfast_witness::{Pins, ServiceError, SigningKey};

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

/// What the vault asks of its witness for the next epoch.
fn request(line: &mut Line, version: u64) -> Vec<u8> {
    let until = Epoch(epoch_of(line.slot()) + 1);
    let asked = line.ask(&Request::AskLease { until, versions: vec![version] });
    let Answer::Requests { mut requests, .. } = asked else { panic!("{asked:?}") };
    requests.remove(0)
}

/// The host brings the witness's answer. What the vault holds then, and why it got nothing new if it did not.
fn taken(
    line: &mut Line,
    answer: Result<Vec<u8>, ServiceError>,
    version: &mut u64,
) -> (LeaseReport, Option<ServiceError>) {
    let (grants, error) = match answer {
        Ok(grant) => {
            *version += 1;
            (vec![grant], None)
        }
        Err(error) => {
            *version = error.version().unwrap_or(*version);
            (Vec::new(), Some(error))
        }
    };
    match line.ask(&Request::TakeLease(grants)) {
        Answer::Lease(report) => (report, error),
        other => panic!("{other:?}"),
    }
}

/// The vault asks the witness once more, its host carries it. What the vault holds then.
fn extended(
    line: &mut Line,
    witness: &Witness<SqliteStore>,
    version: &mut u64,
    runtime: &tokio::runtime::Runtime,
) -> LeaseReport {
    let request = request(line, *version);
    let answer = runtime.block_on(witness.answer(&request));
    taken(line, answer, version).0
}

fn epoch_of(slot: u64) -> u64 {
    slot / network().preset.slots_per_epoch.get()
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

/// A machine of the group, with its key open.
struct Clone {
    machine: Machine,
    line: Line,
    version: u64,
}

impl Clone {
    fn of(mut machine: Machine, data_key: &KnownDataKey, secret: &SecretKey) -> Self {
        let (mut line, greeting) = Line::greeted(&mut machine);
        assert_eq!(line.ask(&Request::Pin(Box::new(network()))), Answer::Done(Operation::Pin));
        let opened = line.provision(data_key.envelope(&greeting.boot_key), vec![data_key.seal(secret)]);
        assert_eq!(opened, Ok(vec![KeyOutcome::Opened]));
        Self { machine, line, version: 0 }
    }

    /// Asks, and says why not.
    fn asks(
        &mut self,
        witness: &Witness<SqliteStore>,
        runtime: &tokio::runtime::Runtime,
    ) -> (LeaseReport, Option<ServiceError>) {
        let request = request(&mut self.line, self.version);
        let answer = runtime.block_on(witness.answer(&request));
        taken(&mut self.line, answer, &mut self.version)
    }
}

/// Everything that both may know is the same: image, data key, sealed key, and the moment at which they ask.
pub(crate) fn race() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ours = Arc::new(witness(dir.path(), 3));
    let pins = Pins::new("pair".parse().unwrap(), vec![ours.public()], 1).unwrap();
    let image = stock_with_files(&network(), vec![("witnesses", measured_witnesses(&pins))]);
    let (data_key, secret) = (KnownDataKey::new(32), secret());
    let key = *secret.public_key();
    let mut clones =
        [(); 2].map(|()| Machine::stock_with(&image)).map(|machine| Clone::of(machine, &data_key, &secret));

    // Both have asked before either is answered, and are answered at once.
    let requests = clones.each_mut().map(|clone| request(&mut clone.line, clone.version));
    let asked = requests.map(|request| {
        let ours = Arc::clone(&ours);
        runtime.spawn(async move { ours.answer(&request).await })
    });
    let answers = asked.map(|asked| runtime.block_on(asked).unwrap());
    let mut held = Vec::new();
    for (clone, answer) in clones.iter_mut().zip(answers) {
        let (report, error) = taken(&mut clone.line, answer, &mut clone.version);
        assert_eq!(report.held.is_some(), error.is_none(), "{report:?} {error:?}");
        held.push(report.held.is_some());
    }
    assert_eq!(held.iter().filter(|held| **held).count(), 1, "exactly one has the lease: {held:?}");
    let [one, two] = clones;
    let (mut winner, mut loser) = if held[0] { (one, two) } else { (two, one) };

    // While the one extends its lease the other asks as often: the one signs, the other is told who holds it.
    let (mut signed, mut last) = (0, 0);
    let begun = epoch_of(winner.line.slot());
    wait_until("blocks in two epochs", || {
        let (report, _) = winner.asks(&ours, &runtime);
        last = report.held.unwrap().1.0;
        let (report, error) = loser.asks(&ours, &runtime);
        assert!(report.held.is_none(), "{report:?}");
        let error = error.unwrap().to_string();
        assert!(error.contains("another signer of the group holds the lease") || error.contains("changed"), "{error}");
        let slot = winner.line.slot();
        let outcome = winner.line.reasons(key, &[block(slot, 1)]);
        let reasons = loser.line.reasons(key, &[block(slot, 2), vote(epoch_of(slot) - 1, epoch_of(slot), 2)]);
        assert_eq!(reasons, [Some(Reason::NoLease), Some(Reason::NoLease)]);
        if outcome == [None] {
            signed = slot;
        }
        signed > 0 && epoch_of(signed) >= begun + 2
    });

    // The winner dies with its lease. The other signs as soon as that is over: within two epochs, and nothing before.
    drop(winner);
    let (died, since) = (epoch_of(loser.line.slot()), Instant::now());
    let mut first = 0;
    wait_until("the other signs", || {
        let held = loser.asks(&ours, &runtime).0.held;
        first = loser.line.slot();
        let reasons = loser.line.reasons(key, &[block(first, 2)]);
        let leased = held.is_some_and(|(after, until)| (after.0 + 1..=until.0).contains(&epoch_of(first)));
        assert_eq!(reasons != [Some(Reason::NoLease)], leased, "{reasons:?} in slot {first} with {held:?}");
        reasons == [None]
    });
    assert!(epoch_of(first) > last, "it signed in epoch {} of a lease up to {last}", epoch_of(first));
    assert!(epoch_of(first) <= died + 3, "dead in epoch {died}, taken over in {}", epoch_of(first));
    println!("lease: the other signed {:.1?} after the end of its holder; an epoch is 2 s", since.elapsed());
    let old = [block(signed, 1), block(signed, 2), vote(epoch_of(signed) - 1, epoch_of(signed), 2)];
    assert!(loser.line.reasons(key, &old).iter().all(Option::is_some), "nothing from the epochs of the other");
    assert!(loser.machine.runs());
}
