//! What policy refused, in the journal and in the log: who, what, on what ground, how often.
//!
//! Why it exists: an auditor wants to read that somebody tried what he may not, and whoever is refused must not be able to
//! fill the disk or to keep the database from honest requests by trying (ADR 0026). What it guarantees: a refusal waits
//! for nobody; the first one of a kind is written at once, the next ones as one event with their number, at growing
//! intervals; the kinds that are kept apart are bounded, and what does not fit is counted together.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_access::Operation;
use holdfast_domain::{Clock, PublicKey, UnixMillis};
use holdfast_slashing_db::journal::{Event, EventKind};
use holdfast_slashing_db::{CallerId, Recorded, Refusal};
use tokio::sync::Notify;
use tracing::warn;

use super::refusal::Why;
use crate::drain::Stopping;

/// Kinds that are kept apart.
const MAX_LINES: usize = 256;
/// Time between the first event of a kind and the next; it doubles from then on.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest time between two events of a kind, and how long one that is quiet is remembered.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Time between attempts while the guard takes nothing.
const RETRY: Duration = Duration::from_secs(1);

/// Refusals of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    caller: CallerId,
    operation: Option<Operation>,
    why: Option<Why>,
}

/// How many there were since the last event.
#[derive(Debug)]
struct Tally {
    count: u64,
    first_at: UnixMillis,
    key: Option<PublicKey>,
    due: Instant,
    pause: Duration,
}

/// Refusals that wait to be written down.
pub(super) struct Denials {
    lines: Mutex<HashMap<Line, Tally>>,
    wake: Notify,
    clock: Arc<dyn Clock>,
    others: CallerId,
}

/// One event to be.
struct Due {
    line: Line,
    count: u64,
    first_at: UnixMillis,
    key: Option<PublicKey>,
}

impl Denials {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { lines: Mutex::default(), wake: Notify::new(), clock, others: CallerId::new("policy") }
    }

    /// Notes a refusal.
    pub(super) fn note(
        &self,
        caller: &CallerId,
        operation: Operation,
        key: Option<&PublicKey>,
        why: &Why,
        now: Instant,
    ) {
        let mut line = Line { caller: caller.clone(), operation: Some(operation), why: Some(why.clone()) };
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= MAX_LINES && !lines.contains_key(&line) {
            lines.retain(|_, tally| tally.count > 0 || now.saturating_duration_since(tally.due) < LONGEST_PAUSE);
            if lines.len() >= MAX_LINES {
                line = Line { caller: self.others.clone(), operation: None, why: None };
            }
        }
        let new = || Tally { count: 0, first_at: UnixMillis(0), key: None, due: now, pause: FIRST_PAUSE };
        let tally = lines.entry(line).or_insert_with(new);
        if tally.count == 0 {
            tally.first_at = self.clock.now();
            tally.key = key.copied();
        }
        tally.count = tally.count.saturating_add(1);
        let waits = tally.due > now && tally.count > 1;
        drop(lines);
        if !waits {
            self.wake.notify_one();
        }
    }

    /// What is to be written now, and when to look again.
    fn take(&self, now: Instant, all: bool) -> (Vec<Due>, Option<Instant>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut due, mut next) = (Vec::new(), None);
        for (line, tally) in lines.iter_mut().filter(|(_, tally)| tally.count > 0) {
            if tally.due > now && !all {
                next = Some(next.map_or(tally.due, |next: Instant| next.min(tally.due)));
                continue;
            }
            let (count, first_at, key) = (core::mem::take(&mut tally.count), tally.first_at, tally.key);
            due.push(Due { line: line.clone(), count, first_at, key });
            if now.saturating_duration_since(tally.due) >= LONGEST_PAUSE {
                tally.pause = FIRST_PAUSE;
            }
            tally.due = now.checked_add(tally.pause).unwrap_or(now);
            tally.pause = tally.pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        (due, next)
    }

    /// Puts back what was not written.
    fn put_back(&self, due: &Due, now: Instant) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = lines.get_mut(&due.line) {
            tally.count = tally.count.saturating_add(due.count);
            (tally.first_at, tally.key) = (due.first_at, due.key);
            tally.due = now.checked_add(RETRY).unwrap_or(now);
        }
    }

    /// Writes refusals down until stopping begins, and then those that are left, once.
    pub(super) async fn run<F>(self: Arc<Self>, record: impl Fn(Event) -> F, mut stopping: Stopping)
    where
        F: Future<Output = Result<Recorded, Refusal>>,
    {
        loop {
            let next = self.write(&record, false).await;
            let until = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopping.begun() => break,
                () = self.wake.notified() => {}
                () = until => {}
            }
        }
        self.write(&record, true).await;
    }

    async fn write<F>(&self, record: &impl Fn(Event) -> F, all: bool) -> Option<Instant>
    where
        F: Future<Output = Result<Recorded, Refusal>>,
    {
        let (due, mut next) = self.take(Instant::now(), all);
        // Queued before any is waited for, so that they share a commit.
        let written: Vec<_> = due.into_iter().map(|due| (record(event(&due)), due)).collect();
        for (answer, due) in written {
            let answer = answer.await;
            let caller = &due.line.caller;
            let operation = due.line.operation.map_or_else(|| "various".to_owned(), Operation::as_word);
            warn!(%caller, operation, count = due.count, "refused by policy: {}", said(&due));
            if let Err(refusal) = answer {
                warn!(%caller, operation, "a refusal by policy is not in the journal yet: {refusal}");
                let now = Instant::now();
                self.put_back(&due, now);
                let again = now.checked_add(RETRY);
                next = next.map_or(again, |next| again.map(|again| again.min(next)));
            }
        }
        next
    }
}

/// Kind `policy.denied`, about `operation/NAME`, with the key of the first.
fn event(due: &Due) -> Event {
    let about = due.line.operation.map_or_else(|| "various".to_owned(), |one| format!("operation/{one}"));
    let event = Event::new(due.first_at, &due.line.caller, EventKind::new("policy.denied")).about(&about);
    let event = event.detail(&said(due));
    match due.key {
        Some(key) => event.of_key(key),
        None => event,
    }
}

fn said(due: &Due) -> String {
    let why = due.line.why.as_ref().map_or_else(|| "callers and operations without number".to_owned(), Why::to_string);
    if due.count == 1 { why } else { format!("{why}; {} requests since {}", due.count, due.first_at.rfc3339()) }
}

#[cfg(test)]
mod tests {
    //! Proves: the first refusal is due at once, a flood is few events, what is kept is bounded, and nothing is lost.
    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> UnixMillis {
            UnixMillis(1_000)
        }
    }

    fn denials() -> Denials {
        Denials::new(Arc::new(Still))
    }

    fn counts(due: &[Due]) -> Vec<u64> {
        due.iter().map(|due| due.count).collect()
    }

    #[test]
    fn a_flood_is_few_events_and_every_refusal_is_counted() {
        let (denials, start, caller) = (denials(), Instant::now(), CallerId::new("vc-1"));
        let note = |now| denials.note(&caller, Operation::Batch, None, &Why::Nothing, now);
        note(start);
        let (due, _) = denials.take(start, false);
        assert_eq!(counts(&due), [1]);
        assert_eq!(event(&due[0]).why(), "no rule allows it");
        let (mut events, mut told) = (0, 0);
        for second in 0..24 * 3_600 {
            let now = start + Duration::from_secs(second);
            (0..10).for_each(|_| note(now));
            let (due, _) = denials.take(now, false);
            events += due.len();
            told += counts(&due).iter().sum::<u64>();
        }
        let (left, _) = denials.take(start, true);
        assert_eq!(told + counts(&left).iter().sum::<u64>(), 10 * 24 * 3_600);
        assert!(events < 40, "{events} events of one kind in a day");
    }

    #[test]
    fn what_is_kept_apart_is_bounded() {
        let (denials, now) = (denials(), Instant::now());
        for number in 0..10_000 {
            let caller = CallerId::new(&number.to_string());
            denials.note(&caller, Operation::ListKeys, None, &Why::Nothing, now);
        }
        let (due, _) = denials.take(now, false);
        assert_eq!(due.len(), MAX_LINES + 1);
        assert_eq!(counts(&due).iter().sum::<u64>(), 10_000);
    }

    #[test]
    fn what_could_not_be_written_is_put_back() {
        let (denials, now, caller) = (denials(), Instant::now(), CallerId::new("vc-1"));
        let key = PublicKey::from_bytes([3; 48]);
        let note = || denials.note(&caller, Operation::ListKeys, Some(&key), &Why::Nothing, now);
        note();
        let (mut due, _) = denials.take(now, false);
        note();
        denials.put_back(&due.pop().unwrap(), now);
        assert_eq!(denials.take(now, false).0.len(), 0);
        let (due, _) = denials.take(now + RETRY, false);
        assert_eq!((counts(&due), due[0].key), (vec![2], Some(key)));
        assert!(event(&due[0]).why().starts_with("no rule allows it; 2 requests since 1970-01-01T"));
    }
}
