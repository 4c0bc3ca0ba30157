//! Writes the switcher's decisions into the signer's journal.
//!
//! Why it exists: "why did duties move at 03:12" needs an answer that nobody can change afterwards. What it
//! guarantees: the switcher never waits for a database; what is waiting is bounded; what did not get through is
//! counted, and the number is in the journal with the next event that does. After a failure whose outcome is unknown
//! a decision may be in the journal twice; if some of those queued together were refused, they come after the others.
//! When a decision was taken is part of it in any case.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_beacon::{Decision, DecisionSink, Stopping};
use holdfast_domain::{Clock, UnixMillis};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{CallerId, Recorded, Refusal};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Who decides.
const SWITCHER: &str = "switcher";
/// Decisions that may wait for the database: hours of ordinary ones, or a storm of a few seconds.
const CAPACITY: usize = 1_024;
/// Decisions that are queued for one commit.
const AT_ONCE: usize = 64;
/// Time between attempts while the guard takes nothing.
const PAUSE: Duration = Duration::from_millis(500);

/// What did not get through.
#[derive(Default)]
struct Lost {
    all: Counter,
    /// Those of which the journal does not know yet.
    untold: AtomicU64,
}

impl Lost {
    fn add(&self, count: usize) {
        self.all.inc_by(count as u64);
        self.untold.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// The end at which decisions come in.
pub(super) struct JournalSink {
    queue: mpsc::Sender<Event>,
    lost: Arc<Lost>,
    /// Names are made once for each kind, not for each decision.
    by: CallerId,
}

/// The end from which they are written.
pub(super) struct Writer {
    queue: mpsc::Receiver<Event>,
    lost: Arc<Lost>,
    clock: Arc<dyn Clock>,
    by: CallerId,
}

/// Both ends. The writer may begin at any later time: until then decisions wait, as many as there is room for.
pub(super) fn pair(clock: Arc<dyn Clock>) -> (JournalSink, Writer) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let lost = Arc::new(Lost::default());
    let by = CallerId::new(SWITCHER);
    let sink = JournalSink { queue: sender, lost: Arc::clone(&lost), by: by.clone() };
    (sink, Writer { queue: receiver, lost, clock, by })
}

impl DecisionSink for JournalSink {
    fn decided(&self, at: UnixMillis, decision: &Decision) {
        if self.queue.try_send(event(at, &self.by, decision)).is_err() {
            self.lost.add(1);
        }
    }
}

/// A decision as the journal has it: kind `switcher.…`, about `upstream/NAME`, `class/CLASS` or `upstream/NAME/CLASS`.
fn event(at: UnixMillis, by: &CallerId, decision: &Decision) -> Event {
    let about = match (&decision.upstream, decision.class) {
        (Some(upstream), Some(class)) => format!("upstream/{upstream}/{}", class.as_str()),
        (Some(upstream), None) => format!("upstream/{upstream}"),
        (None, Some(class)) => format!("class/{}", class.as_str()),
        (None, None) => String::new(),
    };
    let kind = EventKind::new(&format!("switcher.{}", decision.kind.as_str()));
    Event::new(at, by, kind).about(&about).detail(&decision.reason)
}

impl Writer {
    /// How many decisions did not get through.
    pub(super) fn lost(&self) -> Counter {
        self.lost.all.clone()
    }

    /// Writes decisions with `record`, which queues when it is called, until stopping begins, and then those that are
    /// left, once.
    pub(super) async fn run<F>(mut self, record: impl Fn(Event) -> F, mut stopping: Stopping)
    where
        F: Future<Output = Result<Recorded, Refusal>>,
    {
        let mut taken = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                biased;
                () = stopping.begun() => break,
                _ = self.queue.recv_many(&mut taken, AT_ONCE) => {}
            }
            if taken.is_empty() {
                // The pool is gone.
                break;
            }
            let mut waiting = VecDeque::from(core::mem::take(&mut taken));
            while self.attempt(&mut waiting, &record).await == Attempt::Again {
                tokio::select! {
                    biased;
                    () = stopping.begun() => break,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            // Only when stopping: once more below.
            taken.extend(waiting);
        }
        self.queue.close();
        loop {
            let mut waiting = VecDeque::from(core::mem::take(&mut taken));
            while let Ok(event) = self.queue.try_recv() {
                waiting.push_back(event);
            }
            if waiting.is_empty() {
                break;
            }
            self.attempt(&mut waiting, &record).await;
            if !waiting.is_empty() {
                self.lost.add(waiting.len());
            }
        }
        let untold = self.lost.untold.load(Ordering::Relaxed);
        if untold > 0 {
            warn!(count = untold, "decisions of the switcher are not in the journal");
        }
    }

    /// Tries to write everything in `waiting`, and leaves what should be tried again.
    async fn attempt<F>(&self, waiting: &mut VecDeque<Event>, record: impl Fn(Event) -> F) -> Attempt
    where
        F: Future<Output = Result<Recorded, Refusal>>,
    {
        let untold = self.lost.untold.swap(0, Ordering::Relaxed);
        let told = (untold > 0).then(|| {
            let kind = EventKind::new("switcher.events_lost");
            record(Event::new(self.clock.now(), &self.by, kind).detail(&untold.to_string()))
        });
        // Queued before any is waited for, so that they share a commit.
        let answers: Vec<_> = waiting.iter().map(|event| record(event.clone())).collect();
        if let Some(told) = told
            && told.await.is_err()
        {
            self.lost.untold.fetch_add(untold, Ordering::Relaxed);
        }
        let mut left = VecDeque::new();
        let mut given_up = 0;
        for (event, answer) in waiting.drain(..).zip(answers) {
            match answer.await {
                Ok(_) => {}
                Err(refusal @ (Refusal::Frozen(_) | Refusal::ShuttingDown)) => {
                    debug!(%refusal, kind = %event.kind(), "a decision is not in the journal");
                    given_up += 1;
                }
                Err(refusal) => {
                    debug!(%refusal, kind = %event.kind(), "a decision waits for the journal");
                    left.push_back(event);
                }
            }
        }
        if given_up > 0 {
            self.lost.add(given_up);
        }
        *waiting = left;
        if waiting.is_empty() { Attempt::Done } else { Attempt::Again }
    }
}

/// Whether anything is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Done,
    Again,
}

#[cfg(test)]
mod tests {
    //! Proves: order, what is lost when nobody writes, that the loss is told, that failures are tried again, and what
    //! is left at the end.
    use std::sync::Mutex;

    use holdfast_beacon::{DecisionKind, EndpointClass, Tasks, UpstreamName};
    use holdfast_slashing_db::FreezeReason;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> UnixMillis {
            UnixMillis(77)
        }
    }

    /// A journal that refuses what its script says, once for each word of it.
    #[derive(Default)]
    struct Book {
        written: Mutex<Vec<Event>>,
        script: Mutex<VecDeque<Refusal>>,
    }

    impl Book {
        fn record(self: &Arc<Self>) -> impl Fn(Event) -> std::future::Ready<Result<Recorded, Refusal>> + use<> {
            let book = Arc::clone(self);
            move |event| {
                let refusal = book.script.lock().unwrap().pop_front();
                if let Some(refusal) = refusal {
                    return std::future::ready(Err(refusal));
                }
                book.written.lock().unwrap().push(event);
                std::future::ready(Ok(Recorded { commit_seq: 1 }))
            }
        }

        fn details(&self) -> Vec<String> {
            self.written.lock().unwrap().iter().map(|event| event.why().to_owned()).collect()
        }
    }

    fn decision(reason: &str) -> Decision {
        Decision::general(DecisionKind::Pinned, reason)
    }

    async fn run(writer: Writer, book: &Arc<Book>, meanwhile: impl AsyncFnOnce()) {
        let tasks = Tasks::new();
        tasks.spawn(writer.run(book.record(), tasks.stopping()));
        meanwhile().await;
        assert_eq!(tasks.stop(Duration::from_mins(1)).await, 0);
    }

    #[test]
    fn a_decision_names_what_it_is_about() {
        let name = UpstreamName::new("a").unwrap();
        let by = CallerId::new(SWITCHER);
        let about = |decision: Decision| event(UnixMillis(5), &by, &decision).what().to_owned();
        assert_eq!(about(decision("x")), "");
        assert_eq!(about(decision("x").for_class(EndpointClass::Duty)), "class/duty");
        let left = Decision::about(DecisionKind::Left, &name, "it\nis gone");
        assert_eq!(about(left.clone()), "upstream/a");
        assert_eq!(about(left.clone().for_class(EndpointClass::Duty)), "upstream/a/duty");
        let event = event(UnixMillis(5), &by, &left);
        assert_eq!((event.kind().as_str(), event.why()), ("switcher.left", "it is gone"));
        assert_eq!((event.happened_at(), event.caller().as_str()), (UnixMillis(5), "switcher"));
    }

    #[tokio::test]
    async fn what_waited_is_written_in_order_and_the_loss_is_told() {
        let (sink, writer) = pair(Arc::new(Still));
        let lost = writer.lost();
        for number in 0..CAPACITY + 3 {
            sink.decided(UnixMillis(1), &decision(&number.to_string()));
        }
        assert_eq!(lost.get(), 3);
        let book = Arc::new(Book::default());
        run(writer, &book, async || ()).await;
        let expected = std::iter::once("3".to_owned()).chain((0..CAPACITY).map(|number| number.to_string()));
        assert_eq!(book.details(), expected.collect::<Vec<_>>());
        let first = book.written.lock().unwrap()[0].clone();
        assert_eq!((first.kind().as_str(), first.happened_at()), ("switcher.events_lost", UnixMillis(77)));
        // Afterwards nobody writes any more, and the switcher still does not wait.
        sink.decided(UnixMillis(1), &decision("late"));
        assert_eq!(lost.get(), 4);
    }

    #[tokio::test]
    async fn a_guard_that_refuses_for_a_while_loses_nothing() {
        let (sink, writer) = pair(Arc::new(Still));
        let lost = writer.lost();
        let book = Arc::new(Book::default());
        book.script.lock().unwrap().extend([
            // Two attempts at two decisions.
            Refusal::Overloaded,
            Refusal::RollbackSuspected,
            Refusal::Overloaded,
            Refusal::Overloaded,
        ]);
        let watched = Arc::clone(&book);
        run(writer, &book, async move || {
            for number in 0..2 {
                sink.decided(UnixMillis(1), &decision(&number.to_string()));
            }
            while watched.details().len() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sink.decided(UnixMillis(1), &decision("after"));
        })
        .await;
        assert_eq!((book.details(), lost.get()), (["0", "1", "after"].map(str::to_owned).to_vec(), 0));
    }

    #[tokio::test]
    async fn a_frozen_guard_takes_nothing_and_nobody_waits_for_it() {
        let (sink, writer) = pair(Arc::new(Still));
        let lost = writer.lost();
        let book = Arc::new(Book::default());
        let frozen = || Refusal::Frozen(FreezeReason::StorageFailed);
        book.script.lock().unwrap().extend(std::iter::repeat_with(frozen).take(1_000));
        run(writer, &book, async || {
            sink.decided(UnixMillis(1), &decision("one"));
            while lost.get() < 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sink.decided(UnixMillis(1), &decision("two"));
        })
        .await;
        assert_eq!((book.details().len(), lost.get()), (0, 2));
    }
}
