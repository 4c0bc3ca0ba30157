//! Journal retention: on both stores batches move from the database to the archive, and at every moment both
//! together are the whole chain.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdfast_slashing_db::journal::archive::ArchiveFile;
use holdfast_slashing_db::journal::{Archived, BATCHES_THAT_STAY, Batch, InstanceId, JournalError, Reader, Retention};
use holdfast_slashing_db::{ArchiveError, Guard, GuardHealth};
use rusqlite::Connection;
use support::{Home, Intents, caller, key, register_fresh, start_of};

/// Slots in an hour; one batch is made per hour.
const HOUR: u64 = 300;
/// Batches made before anything may leave.
const STAY: u64 = BATCHES_THAT_STAY;

fn retention(home: &Home) -> Retention {
    Retention { keep_days: NonZeroU32::MIN, archive: archive(home) }
}

fn archive(home: &Home) -> PathBuf {
    home.directory.path().join("journal")
}

fn open(home: &Home) -> Guard {
    home.open_with(|options| options.retention = Some(retention(home)))
}

/// Signs `count` blocks, an hour apart, the first after `from` hours.
async fn sign(home: &Home, guard: &Guard, from: u64, count: u64) {
    let intents = Intents::new();
    for hour in from..from + count {
        home.clock.set(start_of(hour * HOUR));
        drop(guard.authorize(intents.block(key(1), hour * HOUR, 1), caller()).await.unwrap());
    }
}

fn instance(home: &Home) -> InstanceId {
    match &home.url {
        Some(_) => holdfast_slashing_db::SlashingDb::open_postgres(&home.postgres_options()).unwrap().instance_id(),
        None => Reader::open(&home.path()).unwrap().map(|batch| batch.unwrap().header.instance).next().unwrap(),
    }
}

fn reader(home: &Home, instance: InstanceId) -> Reader {
    match &home.url {
        Some(_) => Reader::open_postgres(&home.postgres_options(), instance).unwrap(),
        None => Reader::open(&home.path()).unwrap(),
    }
}

fn whole(home: &Home, instance: InstanceId) -> Result<Vec<Batch>, JournalError> {
    reader(home, instance).with_archive(&[archive(home)])?.collect()
}

fn files(home: &Home) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(archive(home)).unwrap();
    let mut files: Vec<_> = folders
        .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

async fn moves_and_stays_whole(home: Home) {
    let guard = open(&home);
    register_fresh(&guard, [key(1)]).await;
    sign(&home, &guard, 1, STAY).await;
    assert_eq!(guard.archive().await.unwrap(), Archived::default(), "the last batches stay, however old");
    sign(&home, &guard, 1 + STAY, 500).await;
    guard.shutdown().await;
    let id = instance(&home);
    let before = whole(&home, id).unwrap();
    assert_eq!(before.len() as u64, STAY + 500);

    let guard = open(&home);
    assert_eq!(guard.archive().await.unwrap(), Archived { files: 1, batches: 500 });
    let live: Vec<_> = reader(&home, id).map(Result::unwrap).collect();
    assert_eq!((live.len() as u64, live[0].header.seq), (STAY, 501));
    assert_eq!(whole(&home, id).unwrap(), before, "together as before");
    let file = ArchiveFile::open(&files(&home)[0]).unwrap();
    assert_eq!(file.instance(), id);
    assert_eq!(file.map(Result::unwrap).collect::<Vec<_>>(), before[..500], "the file by itself");

    sign(&home, &guard, 1 + STAY + 500, 100).await;
    assert_eq!(guard.archive().await.unwrap(), Archived { files: 1, batches: 100 });
    assert_eq!(guard.archive().await.unwrap(), Archived::default());
    let after = whole(&home, id).unwrap();
    assert_eq!(after[..before.len()], before);
    guard.shutdown().await;
    // What the anchor and the chain rest on is still there.
    let guard = open(&home);
    assert_eq!(guard.health(), GuardHealth::Serving);
    sign(&home, &guard, 1 + STAY + 600, 1).await;
    assert_eq!(whole(&home, id).unwrap().len() as u64, STAY + 601);
    guard.shutdown().await;
}

#[tokio::test]
async fn sqlite_batches_move_to_the_archive_and_the_chain_stays_whole() {
    moves_and_stays_whole(Home::at_slot(1)).await;
}

#[tokio::test]
async fn postgres_batches_move_to_the_archive_and_the_chain_stays_whole() {
    moves_and_stays_whole(Home::on_postgres(1)).await;
}

#[tokio::test]
async fn young_batches_stay_and_a_wrong_clock_delays_nothing_for_good() {
    let home = Home::at_slot(1);
    let guard = open(&home);
    register_fresh(&guard, [key(1)]).await;
    let intents = Intents::new();
    sign(&home, &guard, 1, 100).await;
    // For a moment the clock is years ahead.
    home.clock.set(start_of(1_000_000 * HOUR));
    drop(guard.authorize(intents.randao(key(1), 1), caller()).await.unwrap());
    sign(&home, &guard, 101, STAY + 100).await;
    // A day earlier it was hour 126, and that day had begun (UTC) with hour 108, which is batch 109.
    home.clock.set(start_of(150 * HOUR));
    assert_eq!(guard.archive().await.unwrap().files, 1);
    let id = instance(&home);
    let base = reader(&home, id).head().seq;
    assert_eq!(base, 108);
    home.clock.set(start_of(20 * HOUR));
    assert_eq!(guard.archive().await.unwrap(), Archived::default(), "a clock that went back takes nothing");
    assert_eq!(whole(&home, id).unwrap().len() as u64, STAY + 201);
    guard.shutdown().await;
}

/// Replaces part of an archived file's content.
fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut content).unwrap();
    change(&mut content);
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(&content).unwrap();
    std::fs::write(path, out.finish().unwrap()).unwrap();
}

fn replace(content: &mut [u8], old: &[u8], new: &[u8]) {
    let at = content.windows(old.len()).position(|window| window == old).unwrap();
    content[at..at + old.len()].copy_from_slice(new);
}

type Change = fn(&Path, &[u8]);

#[tokio::test]
async fn every_change_to_an_archived_file_is_found() {
    let home = Home::at_slot(1);
    let guard = open(&home);
    register_fresh(&guard, [key(1)]).await;
    sign(&home, &guard, 1, STAY + 100).await;
    guard.archive().await.unwrap();
    guard.shutdown().await;
    let id = instance(&home);
    let path = files(&home).remove(0);
    let good = std::fs::read(&path).unwrap();
    let changes: [(&str, Change, &str); 10] = [
        (
            "a byte in the middle",
            |path, good| {
                let mut bytes = good.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(path, bytes).unwrap();
            },
            "ArchiveDamaged",
        ),
        ("cut", |path, good| std::fs::write(path, &good[..good.len() - 20]).unwrap(), "ArchiveDamaged"),
        ("empty", |path, _| std::fs::write(path, b"").unwrap(), "ArchiveDamaged"),
        (
            "another file",
            |path, _| std::fs::write(path, b"not gzip, and long enough for a header").unwrap(),
            "ArchiveDamaged",
        ),
        (
            "who asked",
            |path, _| rewrite(path, |content| replace(content, b"validator-client", b"somebody-else-00")),
            "ArchiveDamaged",
        ),
        (
            "which key",
            |path, _| rewrite(path, |content| replace(content, key(1).as_bytes(), key(2).as_bytes())),
            "ArchiveDamaged",
        ),
        (
            "when",
            |path, _| {
                rewrite(path, |content| {
                    let time = start_of(HOUR).0.to_be_bytes();
                    replace(content, &time, &start_of(HOUR + 1).0.to_be_bytes());
                });
            },
            "ArchiveDamaged",
        ),
        ("more after the end", |path, _| rewrite(path, |content| content.push(1)), "ArchiveDamaged"),
        ("no end", |path, _| rewrite(path, |content| content.truncate(content.len() - 41)), "ArchiveDamaged"),
        ("removed", |path, _| std::fs::remove_file(path).unwrap(), "ArchiveMissing"),
    ];
    for (what, change, expected) in changes {
        change(&path, &good);
        let Err(found) = whole(&home, id) else { panic!("{what}: not found") };
        let found = format!("{found:?}");
        assert!(found.starts_with(expected), "{what}: {found}");
        assert!(reader(&home, id).all(|batch| batch.is_ok()), "{what}: the database verifies alone");
        std::fs::write(&path, &good).unwrap();
        assert_eq!(whole(&home, id).unwrap().len() as u64, STAY + 100);
    }
    let folder = home.directory.path().join("moved");
    std::fs::rename(archive(&home), &folder).unwrap();
    let both = reader(&home, id).with_archive(&[archive(&home), folder]).unwrap();
    assert_eq!(both.map(Result::unwrap).count() as u64, STAY + 100, "another folder");
}

#[tokio::test]
async fn damaged_rows_are_never_taken_out() {
    let home = Home::at_slot(1);
    let guard = open(&home);
    register_fresh(&guard, [key(1)]).await;
    sign(&home, &guard, 1, STAY + 100).await;
    let db = Connection::open(home.path()).unwrap();
    db.execute_batch("DROP TRIGGER journal_is_append_only; UPDATE journal SET time_ms = time_ms + 1 WHERE seq = 50")
        .unwrap();
    let refused = guard.archive().await.unwrap_err();
    assert!(matches!(&refused, ArchiveError::Journal(JournalError::HashMismatch { seq: 50 })), "{refused:?}");
    assert_eq!(
        db.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned(),
        STAY + 100
    );
    guard.shutdown().await;
}

/// The database's files, without any process that has it open.
fn copy_database(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

#[tokio::test]
async fn a_file_left_by_an_interrupted_run_is_used_and_one_of_another_branch_is_not() {
    let home = Home::at_slot(1);
    let guard = open(&home);
    register_fresh(&guard, [key(1)]).await;
    sign(&home, &guard, 1, STAY + 300).await;
    guard.shutdown().await;
    let id = instance(&home);
    let before = whole(&home, id).unwrap();
    let backup = home.directory.path().join("backup.db");
    copy_database(&home.path(), &backup);

    let guard = open(&home);
    assert_eq!(guard.archive().await.unwrap(), Archived { files: 1, batches: 300 });
    guard.shutdown().await;
    // As if the process had been killed after the file was there and before any row was gone.
    copy_database(&backup, &home.path());
    std::fs::write(archive(&home).join(id.to_string()).join(format!("{id}.tmp")), b"half a file").unwrap();
    let guard = open(&home);
    assert_eq!(guard.archive().await.unwrap(), Archived { files: 0, batches: 300 });
    assert_eq!(whole(&home, id).unwrap(), before);
    guard.shutdown().await;
    // After a restored backup the chain goes on differently; the file of the old branch stays and is passed over.
    let guard = open(&home);
    sign(&home, &guard, 1 + STAY + 300, 50).await;
    guard.archive().await.unwrap();
    guard.shutdown().await;
    copy_database(&backup, &home.path());
    let guard = open(&home);
    sign(&home, &guard, 5_000, 200).await;
    let id = instance(&home);
    let before = whole(&home, id).unwrap();
    assert_eq!(guard.archive().await.unwrap().batches, 500);
    assert_eq!(whole(&home, id).unwrap(), before);
    assert!(files(&home).len() >= 3, "{:?}", files(&home));
    guard.shutdown().await;
}

#[tokio::test]
async fn nothing_leaves_a_suspected_database() {
    let home = Home::at_slot(1);
    let anchor = home.directory.path().join("anchor");
    let open = || {
        home.open_with(|options| {
            options.retention = Some(retention(&home));
            options.anchor = Some(anchor.clone());
        })
    };
    let guard = open();
    register_fresh(&guard, [key(1)]).await;
    sign(&home, &guard, 1, STAY + 100).await;
    guard.shutdown().await;
    std::fs::remove_file(&anchor).unwrap();
    let guard = open();
    assert!(matches!(guard.health(), GuardHealth::Suspect(_)));
    assert!(matches!(guard.archive().await, Err(ArchiveError::Unsettled)));
    assert_eq!(reader(&home, instance(&home)).count() as u64, STAY + 100);
    guard.fence(None, &caller()).await.unwrap();
    assert_eq!(guard.archive().await.unwrap().batches, 101);
    guard.shutdown().await;
    let guard = home.open();
    assert!(matches!(guard.archive().await, Err(ArchiveError::KeptForEver)));
}

#[tokio::test]
async fn the_chain_of_an_instance_that_is_gone_is_looked_after() {
    let gone = Home::on_postgres(1);
    let guard = open(&gone);
    register_fresh(&guard, [key(1)]).await;
    sign(&gone, &guard, 1, STAY + 200).await;
    guard.shutdown().await;
    let id = instance(&gone);
    // It signed in with the server's clock, so the others' present is that; then it is silent.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = u64::try_from(now.as_millis()).unwrap();
    let others = [gone.sibling(), gone.sibling()];
    let guards = others.each_ref().map(open);
    gone.clock.set(holdfast_domain::UnixMillis(now));
    for guard in &guards {
        assert_eq!(guard.archive().await.unwrap(), Archived::default(), "it was there a moment ago");
    }
    let sql = format!("UPDATE holdfast.instances SET last_seen_ms = 1 WHERE id = '\\x{id}'");
    let name = gone.url.as_ref().unwrap().rsplit('/').next().unwrap().to_owned();
    support::postgres::Cluster::shared().sql(&name, &sql).unwrap();
    let mut batches = [0; 2];
    for (guard, batches) in guards.iter().zip(&mut batches) {
        *batches = guard.archive().await.unwrap().batches;
    }
    batches.sort_unstable();
    assert_eq!(batches, [0, 200], "one of them does it");
    for guard in guards {
        guard.shutdown().await;
    }
    let folders = others.each_ref().map(archive);
    let all = reader(&gone, id).with_archive(&folders).unwrap();
    assert_eq!(all.map(Result::unwrap).count() as u64, STAY + 200);
    // It comes back as if nothing had been.
    let guard = open(&gone);
    assert_eq!(guard.health(), GuardHealth::Serving);
    sign(&gone, &guard, 1 + STAY + 200, 1).await;
    guard.shutdown().await;
}

const CHILD_FOLDER: &str = "RETENTION_CHILD_FOLDER";
const CHILD_URL: &str = "RETENTION_CHILD_URL";

/// The part of the test below that is killed: signs and archives until then, and says which batches it was given.
#[test]
fn child() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = PathBuf::from(folder);
    let home = Home { folder: Some(folder), ..Home::at_slot(1) };
    let home = Home { url: std::env::var(CHILD_URL).ok(), ..home };
    runtime.block_on(async {
        let guard = home.open_with(|options| {
            options.retention = Some(Retention { keep_days: NonZeroU32::MIN, archive: home.folder().join("journal") });
            options.anchor = Some(home.folder().join("anchor"));
        });
        assert_eq!(guard.health(), GuardHealth::Serving);
        let archiving = guard.clone();
        tokio::spawn(async move {
            loop {
                archiving.archive().await.unwrap();
            }
        });
        let intents = Intents::new();
        let marks = guard.watermark(&key(1)).await.unwrap().unwrap();
        let mut hour = marks.block.unwrap().slot.0 / HOUR;
        loop {
            hour += 1;
            home.clock.set(start_of(hour * HOUR));
            let permit = guard.authorize(intents.block(key(1), hour * HOUR, 1), caller()).await.unwrap();
            println!("batch {}", permit.commit_seq());
        }
    });
}

async fn killed_at_any_moment(home: Home) {
    let guard = home.open_with(|options| options.anchor = Some(home.directory.path().join("anchor")));
    register_fresh(&guard, [key(1)]).await;
    sign(&home, &guard, 1, STAY + 1).await;
    guard.shutdown().await;
    let id = instance(&home);
    let mut archived = 0;
    for round in 0..12u64 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(CHILD_FOLDER, home.directory.path());
        if let Some(url) = &home.url {
            command.env(CHILD_URL, url);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        // A different number of batches each time, so that it is killed at different moments.
        let lives = 20 + round * round * 7 % 113;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let given =
            lines.map(Result::unwrap).filter_map(|line| Some(line.split_once("batch ")?.1.parse::<u64>().unwrap()));
        let last = given.take(usize::try_from(lives).unwrap()).last().expect("the child signed");
        child.kill().unwrap();
        child.wait().unwrap();
        let mut all = reader(&home, id).with_archive(&[archive(&home)]).unwrap();
        assert!(all.by_ref().all(|batch| batch.is_ok()), "round {round}");
        assert!(all.head().seq >= last, "round {round}: batch {last} is lost");
        let base = reader(&home, id).head().seq;
        assert!(base >= archived && all.head().seq - base >= STAY, "round {round}");
        archived = base;
    }
    assert!(archived > 0, "nothing was archived");
    let guard = home.open_with(|options| options.anchor = Some(home.directory.path().join("anchor")));
    assert_eq!(guard.health(), GuardHealth::Serving);
    guard.shutdown().await;
}

#[tokio::test]
async fn a_process_killed_while_it_archives_loses_nothing_in_sqlite() {
    killed_at_any_moment(Home::at_slot(1)).await;
}

#[tokio::test]
async fn a_process_killed_while_it_archives_loses_nothing_in_postgres() {
    killed_at_any_moment(Home::on_postgres(1)).await;
}

/// Pages of the file, of the key rows, and rows of the journal.
fn size(home: &Home) -> (u64, u64, u64) {
    let db = Connection::open(home.path()).unwrap();
    let ask = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
    (
        ask("PRAGMA page_count"),
        ask(
            "SELECT count(*) FROM dbstat WHERE name IN ('validators', 'sqlite_autoindex_validators_1', 'sealed_keys', 'key_records', 'meta', 'data_keys')",
        ),
        ask("SELECT count(*) FROM journal"),
    )
}

#[tokio::test]
async fn ten_thousand_epochs_leave_the_database_as_large_as_it_was() {
    const KEYS: u32 = 8;
    const EPOCHS_PER_DAY: u64 = 225;
    let home = Home::at_slot(1);
    let guard = home.open_with(|options| {
        options.retention = Some(Retention { keep_days: NonZeroU32::new(7).unwrap(), archive: archive(&home) });
    });
    register_fresh(&guard, (0..KEYS).map(key)).await;
    let intents = Intents::new();
    let mut sizes = Vec::new();
    for epoch in 1..=10_000u64 {
        home.clock.set(start_of(epoch * 32));
        // The keys in turn, so that every epoch is one commit: how many requests share one is up to the machine.
        let number = u32::try_from(epoch).unwrap() % KEYS;
        drop(guard.authorize(intents.vote(key(number), epoch - 1, epoch, 1), caller()).await.unwrap());
        if epoch % EPOCHS_PER_DAY == 0 {
            guard.archive().await.unwrap();
        }
        if [4_500, 9_900].contains(&epoch) {
            sizes.push(size(&home));
        }
    }
    guard.shutdown().await;
    let ((pages, key_pages, rows), (later_pages, later_key_pages, later_rows)) = (sizes[0], sizes[1]);
    assert_eq!(key_pages, later_key_pages);
    // Without retention both would have doubled.
    assert!(later_rows <= rows + rows / 4, "{rows} rows became {later_rows}");
    assert!(later_pages <= pages + pages / 4, "{pages} pages became {later_pages}");
    let all = whole(&home, instance(&home)).unwrap();
    assert_eq!(all.iter().map(|batch| batch.records.len()).sum::<usize>(), 10_000);
}
