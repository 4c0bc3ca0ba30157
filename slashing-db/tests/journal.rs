//! The journal: everything is in it, nobody who left is, it continues across restarts, and any change
//! to it is found.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise, and use different parts of what they share"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use holdfast_domain::{Clock, Slot, Subject, UnixMillis};
use holdfast_slashing_db::journal::{Batch, JournalError, Outcome, Reader};
use holdfast_slashing_db::{Approval, CallerId, Denial, SlashingReason};
use rusqlite::Connection;
use support::{Home, Intents, caller, key, register_fresh, start_of};

fn read_all(home: &Home) -> Result<Vec<Batch>, JournalError> {
    Reader::open(&home.path()).unwrap().collect()
}

/// Signs, refuses and signs again in six commits, over two runs.
async fn fill(home: &Home) {
    let intents = Intents::new();
    for run in 0..2u64 {
        let guard = home.open();
        if run == 0 {
            register_fresh(&guard, [key(1)]).await;
        }
        drop(guard.authorize(intents.block(key(1), 50 + run, 1), CallerId::new("a")).await.unwrap());
        assert!(guard.authorize(intents.block(key(1), 50 + run, 2), CallerId::new("b")).await.is_err());
        drop(guard.authorize(intents.randao(key(1), run), CallerId::new("a")).await.unwrap());
        guard.shutdown().await;
    }
}

#[tokio::test]
async fn everything_is_recorded_and_the_chain_continues_after_a_restart() {
    let home = Home::at_slot(1_000);
    fill(&home).await;
    let batches = read_all(&home).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.header.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let outcomes: Vec<_> = batches.iter().flat_map(Batch::entries).map(|entry| entry.outcome).collect();
    let run = [
        Outcome::Approved(Approval::NewData),
        Outcome::Denied(Denial::Slashable(SlashingReason::DoubleBlock)),
        Outcome::Approved(Approval::NotSlashable),
    ];
    assert_eq!(outcomes, [run, run].concat());
    let refused = batches[1].entries().next().unwrap();
    assert_eq!((refused.caller.as_str(), refused.key), ("b", key(1)));
    assert_eq!(refused.subject, Subject::Block { slot: Slot(50) });
    assert_eq!(batches[1].header.time, start_of(1_000));
    assert!(batches.iter().all(|batch| batch.header.instance == batches[0].header.instance));
}

#[tokio::test]
async fn a_reader_works_beside_a_running_guard() {
    let home = Home::at_slot(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    let mut reader = Reader::open(&home.path()).unwrap();
    assert!(reader.next().is_none());
    let permit = guard.authorize(intents.block(key(1), 5, 1), caller()).await.unwrap();
    assert_eq!(reader.next().unwrap().unwrap().header.seq, permit.commit_seq());
    // A key without a row is journaled by its own bytes.
    assert!(guard.authorize(intents.block(key(9), 5, 1), caller()).await.is_err());
    assert_eq!(reader.next().unwrap().unwrap().entries().next().unwrap().key, key(9));
    assert_eq!(reader.head().seq, 2);
    guard.shutdown().await;
}

#[tokio::test]
async fn every_change_is_found() {
    let changes = [
        ("UPDATE journal SET time_ms = time_ms + 1 WHERE seq = 3", "HashMismatch { seq: 3 }"),
        ("UPDATE journal SET instance = zeroblob(16) WHERE seq = 3", "HashMismatch { seq: 3 }"),
        ("UPDATE journal SET merkle_root = zeroblob(32) WHERE seq = 3", "HashMismatch { seq: 3 }"),
        ("UPDATE journal SET hash = zeroblob(32) WHERE seq = 3", "HashMismatch { seq: 3 }"),
        ("UPDATE journal SET count = 2 WHERE seq = 3", "HashMismatch { seq: 3 }"),
        ("UPDATE journal SET prev_hash = zeroblob(32) WHERE seq = 3", "ChainBroken { seq: 3 }"),
        // Batch 4 in the place of batch 2, with everything that belongs to it.
        ("DELETE FROM journal WHERE seq = 2; UPDATE journal SET seq = 2 WHERE seq = 4", "ChainBroken { seq: 2 }"),
        ("DELETE FROM journal WHERE seq = 1", "Gap { expected: 1, found: 2 }"),
        ("DELETE FROM journal WHERE seq = 4", "Gap { expected: 4, found: 5 }"),
        // Who asked: "a" becomes "b" (the first caller's name starts at the fourth byte).
        (
            "UPDATE journal SET entries = unhex(replace(hex(entries), '01010161', '01010162')) WHERE seq = 3",
            "RootMismatch { seq: 3 }",
        ),
        // What was answered, by whom and for what: all of another batch.
        (
            "UPDATE journal SET entries = (SELECT entries FROM journal WHERE seq = 2) WHERE seq = 3",
            "RootMismatch { seq: 3 }",
        ),
        // The key that a row stands for.
        ("UPDATE validators SET pubkey = zeroblob(48) WHERE id = 1", "RootMismatch { seq: 1 }"),
        ("UPDATE journal SET entries = x'01' WHERE seq = 3", "Undecodable { seq: 3"),
        ("UPDATE journal SET entries = CAST(x'02' || entries AS BLOB) WHERE seq = 3", "Undecodable { seq: 3"),
    ];
    let home = Home::at_slot(1_000);
    fill(&home).await;
    assert_eq!(read_all(&home).unwrap().len(), 6);
    for (change, expected) in changes {
        let copy = Home::at_slot(1_000);
        std::fs::copy(home.path(), copy.path()).unwrap();
        let db = Connection::open(copy.path()).unwrap();
        db.execute_batch("DROP TRIGGER journal_is_append_only; DROP TRIGGER validators_keep_their_key").unwrap();
        db.execute_batch(change).unwrap();
        drop(db);
        let found = format!("{:?}", read_all(&copy).expect_err(change));
        assert!(found.starts_with(expected), "{change}: {found}");
    }
}

#[tokio::test]
async fn a_cut_off_end_shows_in_the_head_only() {
    let home = Home::at_slot(1_000);
    fill(&home).await;
    let head = |home: &Home| {
        let mut reader = Reader::open(&home.path()).unwrap();
        assert!(reader.by_ref().all(|batch| batch.is_ok()));
        reader.head()
    };
    let before = head(&home);
    Connection::open(home.path()).unwrap().execute("DELETE FROM journal WHERE seq = 6", []).unwrap();
    let after = head(&home);
    assert_eq!((before.seq, after.seq), (6, 5));
    assert_ne!(before.hash, after.hash);
}

/// A clock whose first reading inside a batch waits: the moment when the committer is at work. Opening
/// reads the clock as well, so it is armed after that.
struct Gate {
    armed: AtomicBool,
    reached: Sender<()>,
    open: Mutex<Receiver<()>>,
}

impl Clock for Gate {
    fn now(&self) -> UnixMillis {
        // Sending fails once the test has stopped listening; then nothing waits any more.
        if self.armed.load(Ordering::SeqCst) && self.reached.send(()).is_ok() {
            self.open.lock().unwrap().recv().unwrap();
        }
        start_of(1_000)
    }
}

#[tokio::test]
async fn a_client_that_left_is_not_recorded_and_the_queue_is_bounded() {
    let home = Home::at_slot(1_000);
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    guard.shutdown().await;

    let (reached, at_work) = channel();
    let (go_on, open) = channel();
    let gate = Arc::new(Gate { armed: AtomicBool::new(false), reached, open: Mutex::new(open) });
    let clock = Arc::clone(&gate);
    let guard = home.open_with(|options| {
        options.clock = clock;
        options.queue_capacity = std::num::NonZeroUsize::new(2).unwrap();
    });
    gate.armed.store(true, Ordering::SeqCst);
    let first = guard.authorize(intents.block(key(1), 1, 0), caller());
    at_work.recv().unwrap();
    // The committer judges the first request; these two wait, and there is no room for another.
    let leaves = guard.authorize(intents.block(key(1), 2, 0), caller());
    let stays = guard.authorize(intents.block(key(1), 3, 0), caller());
    let too_many = guard.authorize(intents.block(key(1), 4, 0), caller());
    assert_eq!(too_many.await.unwrap_err().reason(), "overloaded");
    drop(leaves);
    drop(at_work);
    go_on.send(()).unwrap();
    assert!(first.await.is_ok());
    assert!(stays.await.is_ok());
    guard.shutdown().await;

    let batches = read_all(&home).unwrap();
    let entries = batches.iter().flat_map(Batch::entries);
    let slots: Vec<_> = entries
        .map(|entry| match entry.subject {
            Subject::Block { slot } => slot.0,
            Subject::Attestation { .. } | Subject::Unslashable { .. } => panic!("only blocks were asked for"),
        })
        .collect();
    assert_eq!(slots, [1, 3]);
}
