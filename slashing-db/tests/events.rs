//! Events and objections, on both stores: an event stands in the chain like a request and gives nobody a permit; an
//! objection takes a permit away and does nothing else.
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

use std::num::NonZeroU32;

use holdfast_domain::{Epoch, ObservedRoot, SigningIntent, Slot, UnixMillis};
use holdfast_slashing_db::journal::{Batch, Event, EventKind, InstanceId, Outcome, Reader, Record, Retention};
use holdfast_slashing_db::rules::{Horizon, Verdict, judge};
use holdfast_slashing_db::{CallerId, Class, Denial, Guard, Objection, SlashingDb, Watermarks};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{Home, Intents, caller, key, register_fresh, start_of};

fn event(number: u64) -> Event {
    Event::new(UnixMillis(number), &CallerId::new("switcher"), EventKind::new("switcher.left"))
        .about("upstream/a/duty")
        .detail(&format!("number {number}"))
}

fn instance(home: &Home) -> InstanceId {
    match &home.url {
        Some(_) => SlashingDb::open_postgres(&home.postgres_options()).unwrap().instance_id(),
        None => InstanceId([0; 16]),
    }
}

/// The journal of a home that is not open, verified.
fn batches(home: &Home) -> Vec<Batch> {
    let reader = match &home.url {
        Some(_) => Reader::open_postgres(&home.postgres_options(), instance(home)).unwrap(),
        None => Reader::open(&home.path()).unwrap(),
    };
    reader.map(Result::unwrap).collect()
}

async fn events_stand_among_requests(home: Home) {
    let intents = Intents::new();
    let guard = home.open();
    register_fresh(&guard, [key(1)]).await;
    let alone = guard.record(event(1)).await.unwrap();
    assert_eq!(alone.commit_seq, 1);
    // Queued together: whatever batches they come into, they are in order.
    let answers = (2..40u64).map(|number| {
        let permit = guard.authorize(intents.block(key(1), number, 1), caller());
        (permit, guard.record(event(number)))
    });
    let mut last = 1;
    for (permit, recorded) in answers.collect::<Vec<_>>() {
        let (permit, recorded) = (permit.await.unwrap(), recorded.await.unwrap());
        assert!(last <= permit.commit_seq() && permit.commit_seq() <= recorded.commit_seq);
        last = recorded.commit_seq;
    }
    assert!(last < 39, "some shared a batch");
    let of_key = event(40).of_key(key(7)).detail("");
    guard.record(of_key.clone()).await.unwrap();
    guard.shutdown().await;
    // And after a restart.
    let guard = home.open();
    assert_eq!(guard.record(event(41)).await.unwrap().commit_seq, last + 2);
    drop(guard.authorize(intents.randao(key(1), 1), caller()).await.unwrap());
    guard.shutdown().await;

    let batches = batches(&home);
    let all: Vec<Record> = batches.iter().flat_map(|batch| batch.records.clone()).collect();
    let events: Vec<Event> = batches.iter().flat_map(Batch::events).cloned().collect();
    let expected: Vec<Event> = (1..40).map(event).chain([of_key, event(41)]).collect();
    assert_eq!(events, expected);
    assert_eq!(batches.iter().flat_map(Batch::entries).count(), 39);
    let turns = all[1..77].chunks(2).map(|pair| matches!(pair, [Record::Request(_), Record::Event(_)]));
    assert!(turns.into_iter().all(|turn| turn), "as they were queued");
    for batch in &batches {
        assert_eq!(batch.header.count, batch.records.len() as u64);
    }
}

#[tokio::test]
async fn sqlite_events_stand_among_requests() {
    events_stand_among_requests(Home::at_slot(1_000)).await;
}

#[tokio::test]
async fn postgres_events_stand_among_requests() {
    events_stand_among_requests(Home::on_postgres(1_000)).await;
}

async fn events_move_to_the_archive(home: Home) {
    let retention = Retention { keep_days: NonZeroU32::MIN, archive: home.directory.path().join("journal") };
    let open = || home.open_with(|options| options.retention = Some(retention.clone()));
    let guard = open();
    register_fresh(&guard, [key(1)]).await;
    for hour in 0..1_100u64 {
        home.clock.set(start_of(hour * 300));
        guard.record(event(hour)).await.unwrap();
    }
    assert_eq!(guard.archive().await.unwrap().batches, 100);
    guard.shutdown().await;
    assert_eq!(batches(&home).len(), 1_000);
    let reader = match &home.url {
        Some(_) => Reader::open_postgres(&home.postgres_options(), instance(&home)).unwrap(),
        None => Reader::open(&home.path()).unwrap(),
    };
    let all: Vec<Batch> = reader.with_archive(&[retention.archive]).unwrap().map(Result::unwrap).collect();
    let events: Vec<Event> = all.iter().flat_map(Batch::events).cloned().collect();
    assert_eq!(events, (0..1_100).map(event).collect::<Vec<_>>());
}

#[tokio::test]
async fn sqlite_events_move_to_the_archive() {
    events_move_to_the_archive(Home::at_slot(1)).await;
}

#[tokio::test]
async fn postgres_events_move_to_the_archive() {
    events_move_to_the_archive(Home::on_postgres(1)).await;
}

/// One message of a history, and whether somebody objects to it.
#[derive(Debug, Clone, Copy)]
struct Step {
    message: Message,
    objection: Option<Objection>,
}

#[derive(Debug, Clone, Copy)]
enum Message {
    Block { slot: u64, content: u8 },
    Vote { source: u64, target: u64, content: u8 },
    Randao,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let message = prop_oneof![
        4 => (0u64..6, 0u8..2).prop_map(|(slot, content)| Message::Block { slot, content }),
        6 => (0u64..4, 0u64..5, 0u8..2).prop_map(|(source, target, content)| Message::Vote { source, target, content }),
        1 => Just(Message::Randao),
    ];
    let objection = prop_oneof![2 => Just(None), 3 => proptest::sample::select(Objection::ALL.to_vec()).prop_map(Some)];
    let step = (message, objection).prop_map(|(message, objection)| Step { message, objection });
    proptest::collection::vec(step, 1..14)
}

impl Message {
    fn intent(self, intents: &Intents, number: u32) -> SigningIntent {
        match self {
            Self::Block { slot, content } => intents.block(key(number), slot, content),
            Self::Vote { source, target, content } => intents.vote(key(number), source, target, content),
            Self::Randao => intents.randao(key(number), 1),
        }
    }
}

/// Runs one history on a key of its own, and compares each answer, the journal's word for it and the row at the end
/// with what the rules alone say.
async fn one_history(guard: &Guard, intents: &Intents, number: u32, steps: &[Step]) -> Vec<Outcome> {
    const HORIZON: Horizon = Horizon::At { slot: Slot(1_001), epoch: Epoch(31) };
    register_fresh(guard, [key(number)]).await;
    let mut marks = Watermarks::default();
    let mut outcomes = Vec::new();
    let mut answers = Vec::new();
    for step in steps {
        let intent = step.message.intent(intents, number);
        let (subject, root) = (*intent.subject(), intent.root());
        outcomes.push(match (judge(&marks, &subject, &root, HORIZON), step.objection) {
            (Verdict::Deny(denial), _) => Outcome::Denied(denial),
            (Verdict::Approve { .. }, Some(objection)) => Outcome::Denied(Denial::Objected(objection)),
            (Verdict::Approve { approved, after }, None) => {
                marks = after;
                Outcome::Approved(approved.approval())
            }
        });
        answers.push(guard.authorize_unless(step.objection, intent, caller()));
    }
    for ((answer, expected), step) in answers.into_iter().zip(&outcomes).zip(steps) {
        match answer.await {
            Ok(permit) => {
                assert_eq!(Outcome::Approved(permit.approval()), *expected);
                assert!(step.objection.is_none(), "a permit in spite of {step:?}");
            }
            Err(refusal) => {
                let Outcome::Denied(denial) = *expected else { panic!("{refusal} for {step:?}") };
                assert_eq!(refusal.reason(), denial.as_str());
                let unknown = matches!(denial, Denial::Objected(Objection::CheckpointsUnknown | Objection::NoLease));
                assert_eq!(refusal.class(), if unknown { Class::Unavailable } else { Class::Refused });
            }
        }
    }
    let info = guard.key_info(&key(number)).await.unwrap().unwrap();
    assert_eq!(info.watermarks, marks, "an objection moved a row");
    outcomes
}

/// Any history, any objections. The rows are what the requests without objections alone have made of them.
fn an_objection_only_refuses(home: &Home, cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let guard = home.open();
    let intents = Intents::new();
    let said = std::cell::RefCell::new(Vec::<(u32, Vec<Outcome>)>::new());
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&steps(), |steps| {
            let number = u32::try_from(said.borrow().len()).unwrap();
            // Taken before it runs: a history that fails is not repeated on the same key.
            said.borrow_mut().push((number, Vec::new()));
            let outcomes = runtime.block_on(one_history(&guard, &intents, number, &steps));
            if let Some(last) = said.borrow_mut().last_mut() {
                last.1 = outcomes;
            }
            Ok(())
        })
        .unwrap();
    runtime.block_on(guard.shutdown());
    let journal = batches(home);
    let mut entries = journal.iter().flat_map(Batch::entries);
    let mut objected = 0;
    for (number, outcomes) in said.into_inner() {
        for outcome in outcomes {
            let entry = entries.next().unwrap();
            assert_eq!((entry.key, entry.outcome), (key(number), outcome));
            assert_ne!(entry.root, ObservedRoot::new([0; 32]));
            objected += usize::from(matches!(outcome, Outcome::Denied(Denial::Objected(_))));
        }
    }
    assert!(entries.next().is_none());
    assert!(objected > 50, "only {objected} objections mattered");
}

#[test]
fn sqlite_an_objection_only_refuses() {
    an_objection_only_refuses(&Home::at_slot(1_000), 300);
}

#[test]
fn postgres_an_objection_only_refuses() {
    an_objection_only_refuses(&Home::on_postgres(1_000), 60);
}
