//! The size of a database over 10,000 epochs on both stores, with journal retention at work, and what archiving
//! costs the signatures made meanwhile. The clock is simulated; the stores, the journal and the archive are real.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_domain::message::{AttestationData, Checkpoint};
use holdfast_domain::{
    Clock, Epoch, Fork, ForkInfo, ForkName, Message, Network, PublicKey, SigningIntent, Slashable, Slot, UnixMillis,
};
use holdfast_slashing_db::journal::{Reader, Retention};
use holdfast_slashing_db::{
    BindOptions, CallerId, EntryWatermark, Guard, KeyOrigin, NewKey, PostgresOptions, SealedKey, SlashingDb,
    StoreOptions, Tombstone,
};
use holdfast_tests::postgres::{Cluster, Disk};

/// Epochs of mainnet in a day.
const EPOCHS_PER_DAY: u64 = 225;
const SLOTS_PER_EPOCH: u64 = 32;
/// Days that stay in the database.
const KEEP_DAYS: u32 = 7;
/// How often the sizes are printed.
const LINES: u64 = 4;

struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// Sizes in bytes, and rows of the journal.
struct Sizes {
    whole: u64,
    /// With the room that it left free and uses again.
    journal: u64,
    rows: u64,
}

/// Measures both stores.
pub(crate) fn measure(keys: u64, epochs: u64) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("holdfast.db");
    let database = SlashingDb::open(&StoreOptions { path: path.clone() }).expect("SQLite opens");
    run("SQLite", keys, epochs, folder.path(), database, || {}, || sqlite_sizes(&path));
    let batches =
        Reader::open(&path).and_then(|reader| reader.with_archive(&[archive(folder.path())])).expect("both open");
    verify("SQLite", batches, keys * epochs);

    let cluster = Cluster::builder().disk(Disk::Temporary).start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut options = PostgresOptions::new(cluster.url());
    options.anchor = Some(folder.path().join("anchor"));
    let database = SlashingDb::open_postgres(&options).expect("PostgreSQL opens");
    let instance = database.instance_id();
    // Stands in for autovacuum, which looks once a minute: here a day takes less than a second.
    let daily = || drop(cluster.psql("VACUUM holdfast.journal, holdfast.validators"));
    run("PostgreSQL", keys, epochs, folder.path(), database, daily, || postgres_sizes(&cluster));
    let reader = Reader::open_postgres(&options, instance);
    verify(
        "PostgreSQL",
        reader.and_then(|reader| reader.with_archive(&[archive(folder.path())])).expect("both open"),
        keys * epochs,
    );
}

fn archive(folder: &Path) -> PathBuf {
    folder.join("journal")
}

fn verify(name: &str, reader: Reader, expected: u64) {
    let begin = Instant::now();
    let entries: u64 = reader.map(|batch| batch.expect("the chain verifies").header.count).sum();
    assert_eq!(entries, expected, "archive and database together hold every request");
    println!(
        "{name}: archive and database verify as one chain of {entries} entries in {:.2} s",
        begin.elapsed().as_secs_f64()
    );
}

fn sqlite_sizes(path: &Path) -> Sizes {
    let db = rusqlite::Connection::open(path).expect("the file opens");
    let ask = |sql: &str| {
        let number: i64 = db.query_row(sql, [], |row| row.get(0)).expect("an answer");
        number.unsigned_abs()
    };
    Sizes {
        whole: ask("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"),
        journal: ask(
            "SELECT coalesce(sum(pgsize), 0) + (SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size) \
             FROM dbstat WHERE name = 'journal'",
        ),
        rows: ask("SELECT count(*) FROM journal"),
    }
}

fn postgres_sizes(cluster: &Cluster) -> Sizes {
    let rows = cluster.psql(
        "SELECT (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'holdfast' AND c.relkind = 'r'), pg_total_relation_size('holdfast.journal'), (SELECT count(*) FROM holdfast.journal)",
    );
    let number = |column: usize| rows[0][column].parse().expect("a number");
    Sizes { whole: number(0), journal: number(1), rows: number(2) }
}

fn archived(folder: &Path) -> (u64, u64) {
    let folders = std::fs::read_dir(archive(folder)).expect("the archive");
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.expect("a folder").path()).expect("a folder"));
    files.fold((0, 0), |(count, bytes), file| {
        (count + 1, bytes + file.expect("a file").metadata().expect("a size").len())
    })
}

fn public(number: u64) -> PublicKey {
    let mut bytes = [0x80; 48];
    bytes[40..].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn votes(network: &Network, info: ForkInfo, keys: u64, epoch: u64) -> Vec<SigningIntent> {
    let checkpoint = |epoch| Checkpoint { epoch: Epoch(epoch), root: [1; 32] };
    let data = AttestationData {
        slot: Slot(epoch * SLOTS_PER_EPOCH),
        index: 0,
        beacon_block_root: [2; 32],
        source: checkpoint(epoch - 1),
        target: checkpoint(epoch),
    };
    let message = Message::Slashable(Slashable::Attestation(data));
    let intent = |key| SigningIntent::new(public(key), &message, Some(info), None, network).expect("an intent");
    (0..keys).map(intent).collect()
}

async fn register(guard: &Guard, keys: u64) {
    let caller = CallerId::new("bench");
    let key = |number| NewKey {
        key: public(number),
        sealed: SealedKey::new(vec![0x5e; 60]),
        origin: KeyOrigin::Generated,
        label: None,
        labels: holdfast_slashing_db::Labels::new(),
        registered_by: caller.clone(),
    };
    let keys = (0..keys).map(|number| (key(number), EntryWatermark::NeverSigned)).collect();
    let results = guard.register_many(keys, Tombstone::Refuse).await.expect("keys are registered");
    assert!(results.iter().all(Result::is_ok));
}

fn run(
    name: &str,
    keys: u64,
    epochs: u64,
    folder: &Path,
    database: SlashingDb,
    daily: impl Fn(),
    sizes: impl Fn() -> Sizes,
) {
    let network = Network::builtin("mainnet").expect("mainnet");
    let (root, slots) = (network.genesis_validators_root.expect("a root"), network.slot_clock().expect("slots"));
    let version = network.fork(ForkName::Electra).expect("a fork").version;
    let fork = Fork { previous_version: version, current_version: version, epoch: Epoch(0) };
    let info = ForkInfo { fork, genesis_validators_root: root };
    let clock = Arc::new(SetClock(AtomicU64::new(slots.genesis.0)));
    let mut options = BindOptions::new(root, slots, Arc::clone(&clock) as Arc<dyn Clock>);
    options.anchor = Some(folder.join("anchor"));
    let keep_days = NonZeroU32::new(KEEP_DAYS).expect("not zero");
    options.retention = Some(Retention { keep_days, archive: archive(folder) });
    let guard = database.bind(options).expect("the database is bound");
    // One thread only: the store's own threads do the work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut quiet, mut archiving) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        register(&guard, keys).await;
        let mut look = None;
        for epoch in 1..=epochs {
            clock.0.store(slots.genesis.0 + epoch * SLOTS_PER_EPOCH * slots.slot_millis.get(), Ordering::SeqCst);
            let intents = votes(&network, info, keys, epoch);
            let begin = Instant::now();
            let answers: Vec<_> =
                intents.into_iter().map(|intent| guard.authorize(intent, CallerId::new("bench"))).collect();
            for answer in answers {
                drop(answer.await.expect("a permit"));
            }
            if look.is_some() { &mut archiving } else { &mut quiet }.push(begin.elapsed());
            if look.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
                && let Some(look) = look.take()
            {
                let done: Result<_, holdfast_slashing_db::ArchiveError> = look.await.expect("a look ends");
                done.expect("batches are archived");
            }
            if epoch.is_multiple_of(EPOCHS_PER_DAY) {
                daily();
            }
            if epoch.is_multiple_of(EPOCHS_PER_DAY) && look.is_none() {
                let guard = guard.clone();
                look = Some(tokio::spawn(async move { guard.archive().await }));
            }
            if epoch.is_multiple_of(epochs.div_ceil(LINES)) || epoch == epochs {
                print(name, epoch, &sizes(), archived(folder));
            }
        }
        if let Some(look) = look {
            look.await.expect("a look ends").expect("batches are archived");
        }
        guard.archive().await.expect("batches are archived");
        print(name, epochs, &sizes(), archived(folder));
        guard.shutdown().await;
    });
    let (quiet, busy) = (at_99(&mut quiet), at_99(&mut archiving));
    println!(
        "{name}: burst of {keys} permits: p99 {:.2} ms, while batches are archived {:.2} ms, {:.2} of that without ({} bursts)",
        quiet * 1e3,
        busy * 1e3,
        busy / quiet,
        archiving.len()
    );
}

fn print(name: &str, epoch: u64, sizes: &Sizes, (files, bytes): (u64, u64)) {
    println!(
        "{name}: epoch {epoch:>6}: {:>8} KiB without the journal, journal {:>6} KiB in {:>5} rows, archive {:>6} KiB in {files} files",
        (sizes.whole - sizes.journal) / 1024,
        sizes.journal / 1024,
        sizes.rows,
        bytes / 1024
    );
}

fn at_99(times: &mut [Duration]) -> f64 {
    times.sort();
    times.get(times.len().saturating_sub(1) * 99 / 100).map_or(f64::NAN, Duration::as_secs_f64)
}
