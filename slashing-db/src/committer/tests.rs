//! What callers get when a commit fails, with a store that fails on command: both faults of a write
//! (failed and not kept, failed but kept), a full disk, and a committer that dies.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop at the first surprise")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc as blocking;
use std::time::Duration;

use holdfast_domain::UnixMillis;

use super::*;
use crate::db::BindOptions;
use crate::error::Class;
use crate::guard::{Guard, Recorded};
use crate::journal::{Batch, Event, EventKind, Reader};
use crate::permit::SigningPermit;
use crate::registry::Switch;
use crate::rules::Approval;
use crate::store::faulty::{Fault, FaultPlan, FaultyStore};
use crate::store::sqlite::SqliteStore;
use crate::support::{Home, Intents, caller, chain, key, register_fresh, slot_clock};

/// No limit on the size of the database.
const NO_LIMIT: u32 = u32::MAX;

/// Where the next commit stops until it is let on.
struct Gate {
    reached: blocking::Sender<()>,
    opened: blocking::Receiver<()>,
}

fn event(detail: &str) -> Event {
    Event::new(UnixMillis(7), &caller(), EventKind::new("test.happened")).detail(detail)
}

struct Rig {
    home: Home,
    guard: Guard,
    intents: Intents,
    faults: FaultPlan,
    gate: Arc<Mutex<Option<Gate>>>,
    page_limit: Arc<AtomicU32>,
}

fn anchor(home: &Home) -> std::path::PathBuf {
    home.directory.path().join("anchor")
}

impl Rig {
    /// A guard over a scripted store, with key 1 registered.
    async fn new() -> Self {
        let rig = Self::on(Home::at_slot(1_000));
        register_fresh(&rig.guard, [key(1)]).await;
        rig
    }

    /// A guard over a scripted store with an anchor, in a directory that may hold both already.
    fn on(home: Home) -> Self {
        let mut inner = Box::new(SqliteStore::open(&home.path()).unwrap());
        inner.pin(chain()).unwrap();
        let faults = FaultPlan::default();
        let page_limit = Arc::new(AtomicU32::new(NO_LIMIT));
        let gate = Arc::new(Mutex::new(None::<Gate>));
        let (reader, instance) = (inner.reader().unwrap(), inner.instance());
        let (limit, stop) = (Arc::clone(&page_limit), Arc::clone(&gate));
        let store = FaultyStore::new(inner, faults.clone()).before(move |store: &mut SqliteStore| {
            store.limit_pages(limit.load(Ordering::SeqCst));
            if let Some(gate) = stop.lock().unwrap().take() {
                gate.reached.send(()).unwrap();
                gate.opened.recv().unwrap();
            }
        });
        let mut settings = BindOptions::new(chain(), slot_clock(), home.clock.clone());
        settings.anchor = Some(anchor(&home));
        let guard = Guard::new(Core::start(Box::new(store), reader, instance, settings).unwrap());
        Self { home, guard, intents: Intents::new(), gate, faults, page_limit }
    }

    async fn block(&self, slot: u64, content: u8) -> Result<SigningPermit, Refusal> {
        self.guard.authorize(self.intents.block(key(1), slot, content), caller()).await
    }

    async fn event(&self, detail: &str) -> Result<Recorded, Refusal> {
        self.guard.record(event(detail)).await
    }

    fn next_commit(&self, fault: Fault) {
        self.faults.push(fault);
    }
}

#[tokio::test]
async fn a_certain_failure_refuses_who_waits_and_serves_the_next() {
    let rig = Rig::new().await;
    rig.next_commit(Fault::NotWritten);
    let refusal = rig.block(5, 1).await.unwrap_err();
    assert_eq!((refusal.class(), refusal.reason()), (Class::Unavailable, "database_unavailable"));
    assert_eq!(rig.guard.health(), GuardHealth::Serving);
    // Nothing was recorded: another block of the same slot is still new data.
    assert_eq!(rig.block(5, 2).await.unwrap().approval(), Approval::NewData);
    rig.guard.shutdown().await;
}

#[tokio::test]
async fn a_full_database_refuses_and_recovers() {
    let rig = Rig::new().await;
    rig.page_limit.store(1, Ordering::SeqCst);
    let mut slot = 1;
    let refusal = loop {
        match rig.block(slot, 1).await {
            Ok(_) => slot += 1,
            Err(refusal) => break refusal,
        }
        assert!(slot < 500, "the database never filled up");
    };
    assert_eq!(refusal.reason(), "database_unavailable");
    assert_eq!(rig.block(slot, 1).await.unwrap_err().reason(), "database_unavailable");
    assert_eq!(rig.guard.health(), GuardHealth::Serving);
    rig.page_limit.store(NO_LIMIT, Ordering::SeqCst);
    let permit = rig.block(slot, 2).await.unwrap();
    assert_eq!((permit.approval(), permit.commit_seq()), (Approval::NewData, slot));
    rig.guard.shutdown().await;
}

#[tokio::test]
async fn an_unknown_outcome_freezes_for_good() {
    for fault in [Fault::UnknownNotKept, Fault::UnknownButKept] {
        let rig = Rig::new().await;
        rig.next_commit(fault);
        let refusal = rig.block(5, 1).await.unwrap_err();
        assert_eq!((refusal.class(), refusal.reason()), (Class::Unavailable, "protection_frozen"));
        let reason = FreezeReason::CommitOutcomeUnknown;
        assert_eq!(rig.guard.health(), GuardHealth::Frozen { reason });
        assert_eq!(rig.guard.frozen().await, reason);
        assert_eq!(rig.block(6, 1).await.unwrap_err().reason(), "protection_frozen");
        let randao = rig.guard.authorize(rig.intents.randao(key(1), 1), caller()).await;
        assert_eq!(randao.unwrap_err().reason(), "protection_frozen");
        let change = rig.guard.switch(&key(1), Switch::Disable, &caller()).await.unwrap_err();
        assert!(matches!(change, AdminError::Frozen(_)));
        rig.guard.shutdown().await;

        // After the restart the record, if it was kept, allows the same block and no other.
        let guard = rig.home.open_with(|options| options.anchor = Some(anchor(&rig.home)));
        assert_eq!(guard.health(), GuardHealth::Serving, "a record more than was acknowledged is no loss");
        let other = guard.authorize(rig.intents.block(key(1), 5, 2), caller()).await;
        match fault {
            Fault::UnknownButKept => {
                assert_eq!(other.unwrap_err().reason(), "double_block");
                let same = guard.authorize(rig.intents.block(key(1), 5, 1), caller()).await.unwrap();
                assert_eq!(same.approval(), Approval::SameData);
            }
            Fault::UnknownNotKept => assert_eq!(other.unwrap().approval(), Approval::NewData),
            Fault::NotWritten | Fault::Panic => unreachable!("not in the list above"),
        }
        guard.shutdown().await;
    }
}

#[tokio::test]
async fn a_fence_that_fails_halfway_leaves_suspicion() {
    // The fence is two transactions: the watermarks, and the journal entry about them.
    for (before, fault) in [
        (0, Fault::NotWritten),
        (0, Fault::UnknownNotKept),
        (0, Fault::UnknownButKept),
        (1, Fault::NotWritten),
        (1, Fault::UnknownNotKept),
        (1, Fault::UnknownButKept),
    ] {
        let rig = Rig::new().await;
        let _permit = rig.block(1_000, 1).await.unwrap();
        rig.guard.shutdown().await;
        std::fs::remove_file(anchor(&rig.home)).unwrap();
        let rig = Rig::on(rig.home);
        assert!(matches!(rig.guard.health(), GuardHealth::Suspect(_)));
        for _ in 0..before {
            rig.faults.push_none();
        }
        rig.faults.push(fault);
        assert!(rig.guard.fence(None, &caller()).await.is_err(), "{fault:?} after {before}");
        rig.guard.shutdown().await;

        let rig = Rig::on(rig.home);
        assert!(matches!(rig.guard.health(), GuardHealth::Suspect(_)), "{fault:?} after {before}");
        assert_eq!(rig.guard.fence(None, &caller()).await.unwrap(), 1);
        assert_eq!(rig.guard.health(), GuardHealth::Serving);
        assert_eq!(rig.block(1_001, 1).await.unwrap_err().reason(), "block_slot_below_watermark");
        rig.guard.shutdown().await;
    }
}

#[tokio::test]
async fn a_dead_committer_is_a_frozen_guard() {
    let rig = Rig::new().await;
    rig.next_commit(Fault::Panic);
    assert_eq!(rig.block(5, 1).await.unwrap_err().reason(), "protection_frozen");
    assert_eq!(rig.guard.frozen().await, FreezeReason::CommitterGone);
    assert_eq!(rig.block(6, 1).await.unwrap_err().reason(), "protection_frozen");
    rig.guard.shutdown().await;
}

#[tokio::test]
async fn one_failure_refuses_everybody_in_the_batch() {
    let rig = Rig::new().await;
    rig.next_commit(Fault::UnknownNotKept);
    let answers: Vec<_> =
        (1..=20).map(|slot| rig.guard.authorize(rig.intents.block(key(1), slot, 1), caller())).collect();
    for answer in answers {
        assert_eq!(answer.await.unwrap_err().reason(), "protection_frozen");
    }
    rig.guard.shutdown().await;
}

#[tokio::test]
async fn a_permit_tells_its_wait_from_its_commit() {
    const HELD: Duration = Duration::from_millis(2);
    let rig = Rig::new().await;
    let (reached, is_reached) = blocking::channel();
    let (open, opened) = blocking::channel();
    *rig.gate.lock().unwrap() = Some(Gate { reached, opened });
    let began = Instant::now();
    let first = rig.guard.authorize(rig.intents.block(key(1), 5, 1), caller());
    is_reached.recv().unwrap();
    // The first is being committed; the second can only wait.
    let second = rig.guard.authorize(rig.intents.block(key(1), 6, 1), caller());
    let queued = Instant::now();
    while queued.elapsed() < HELD {
        std::thread::yield_now();
    }
    open.send(()).unwrap();
    let (first, second) = (first.await.unwrap().times(), second.await.unwrap().times());
    let all = began.elapsed();
    assert!(first.commit >= HELD && second.queue >= HELD, "{first:?} {second:?}");
    assert!(second.commit > Duration::ZERO, "{second:?}");
    for times in [first, second] {
        assert!(times.queue + times.commit <= all, "{times:?} of {all:?}");
    }
    rig.guard.shutdown().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_written_is_an_error() {
    let rig = Rig::new().await;
    assert_eq!(rig.event("one").await.unwrap(), Recorded { commit_seq: 1 });
    rig.next_commit(Fault::NotWritten);
    let refusal = rig.event("two").await.unwrap_err();
    assert_eq!((refusal.class(), refusal.reason()), (Class::Unavailable, "database_unavailable"));
    assert_eq!(rig.event("three").await.unwrap(), Recorded { commit_seq: 2 }, "the next one gets through");
    rig.next_commit(Fault::UnknownNotKept);
    assert_eq!(rig.event("four").await.unwrap_err().reason(), "protection_frozen");
    assert_eq!(rig.event("five").await.unwrap_err().reason(), "protection_frozen");
    rig.guard.shutdown().await;
    assert!(matches!(rig.event("six").await, Err(Refusal::Frozen(_) | Refusal::ShuttingDown)));
    let batches: Vec<Batch> = Reader::open(&rig.home.path()).unwrap().map(Result::unwrap).collect();
    let details: Vec<&str> = batches.iter().flat_map(Batch::events).map(Event::why).collect();
    assert_eq!(details, ["one", "three"]);
}

#[tokio::test]
async fn a_guard_that_was_shut_down_records_nothing() {
    let rig = Rig::new().await;
    rig.guard.shutdown().await;
    assert!(matches!(rig.event("late").await, Err(Refusal::ShuttingDown)));
}

#[tokio::test]
async fn events_are_recorded_under_suspicion() {
    let rig = Rig::new().await;
    let _permit = rig.block(1_000, 1).await.unwrap();
    rig.guard.shutdown().await;
    std::fs::remove_file(anchor(&rig.home)).unwrap();
    let rig = Rig::on(rig.home);
    assert!(matches!(rig.guard.health(), GuardHealth::Suspect(_)));
    assert_eq!(rig.event("noticed").await.unwrap(), Recorded { commit_seq: 2 });
    assert_eq!(rig.block(1_001, 1).await.unwrap_err().reason(), "protection_frozen");
    rig.guard.shutdown().await;
}

/// While a commit is held up, what comes meanwhile shares the next one.
#[tokio::test]
async fn events_and_requests_queued_together_share_one_commit() {
    let rig = Rig::new().await;
    let (reached, is_reached) = blocking::channel();
    let (open, opened) = blocking::channel();
    *rig.gate.lock().unwrap() = Some(Gate { reached, opened });
    let first = rig.guard.record(event("first"));
    is_reached.recv().unwrap();
    let permits: Vec<_> =
        (1..=5).map(|slot| rig.guard.authorize(rig.intents.block(key(1), slot, 1), caller())).collect();
    let withdrawn = rig.guard.record(event("withdrawn"));
    let events: Vec<_> = (1..=5).map(|number| rig.guard.record(event(&number.to_string()))).collect();
    drop(withdrawn);
    open.send(()).unwrap();
    assert_eq!(first.await.unwrap().commit_seq, 1);
    for permit in permits {
        assert_eq!(permit.await.unwrap().commit_seq(), 2);
    }
    for event in events {
        assert_eq!(event.await.unwrap().commit_seq, 2);
    }
    rig.guard.shutdown().await;
    let batches: Vec<Batch> = Reader::open(&rig.home.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.records.len()).collect::<Vec<_>>(), [1, 10]);
}

/// The queue is bounded for events as for requests.
#[tokio::test]
async fn a_full_queue_refuses_events() {
    let home = Home::at_slot(1_000);
    let rig = Rig::on(home);
    let (reached, is_reached) = blocking::channel();
    let (open, opened) = blocking::channel();
    *rig.gate.lock().unwrap() = Some(Gate { reached, opened });
    let first = rig.guard.record(event("first"));
    is_reached.recv().unwrap();
    let mut waiting = Vec::new();
    let refusal = loop {
        let mut next = Box::pin(rig.guard.record(event("next")));
        tokio::select! {
            biased;
            answer = &mut next => break answer.unwrap_err(),
            () = std::future::ready(()) => waiting.push(next),
        }
        assert!(waiting.len() < 1_000_000, "the queue has no end");
    };
    assert!(matches!(refusal, Refusal::Overloaded));
    open.send(()).unwrap();
    assert!(first.await.is_ok());
    for waiting in waiting {
        assert!(waiting.await.is_ok());
    }
    rig.guard.shutdown().await;
}
