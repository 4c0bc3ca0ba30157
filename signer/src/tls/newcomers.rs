//! Those who have come and have not proved anything yet: their number is bounded, and the one that has been here
//! longest makes way for the next.
//!
//! Why it exists: whoever opens thousands of connections and says nothing must not keep out a client that comes to
//! have a block signed. A client that does come is done within two round trips, so it is never the oldest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// A bounded number of newcomers.
pub(crate) struct Newcomers {
    inner: Arc<Inner>,
}

struct Inner {
    max: usize,
    here: Mutex<Here>,
}

#[derive(Default)]
struct Here {
    next: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, Arc<Notify>>,
}

impl Here {
    fn send_away_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.all.pop_first() else { return false };
        // It keeps the notice until it looks.
        oldest.notify_one();
        true
    }
}

/// One of them. Dropping it makes room.
pub(crate) struct Newcomer {
    inner: Arc<Inner>,
    number: u64,
    go: Arc<Notify>,
    settled: AtomicBool,
}

impl Newcomers {
    /// At most `max` of them.
    pub(crate) fn new(max: usize) -> Self {
        Self { inner: Arc::new(Inner { max, here: Mutex::default() }) }
    }

    /// One more comes; if that is one too many, the oldest is told to go.
    pub(crate) fn enter(&self) -> Newcomer {
        let go = Arc::new(Notify::new());
        let mut here = self.inner.lock();
        if here.all.len() >= self.inner.max {
            here.send_away_oldest();
        }
        let number = here.next;
        here.next = here.next.saturating_add(1);
        here.all.insert(number, Arc::clone(&go));
        drop(here);
        Newcomer { inner: Arc::clone(&self.inner), number, go, settled: AtomicBool::new(false) }
    }

    /// Tells the oldest to go; false if there is none.
    pub(crate) fn make_room(&self) -> bool {
        self.inner.lock().send_away_oldest()
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Here> {
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Newcomer {
    /// Completes when it has to go.
    pub(crate) async fn told_to_go(&self) {
        self.go.notified().await;
    }

    /// It has proved itself, and stays.
    pub(crate) fn settle(&self) {
        if !self.settled.swap(true, Ordering::Relaxed) {
            self.inner.lock().all.remove(&self.number);
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the oldest goes, whoever has settled stays, and places come back.
    use super::*;

    fn gone(newcomer: &Newcomer) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(newcomer.told_to_go()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_oldest_makes_way() {
        let newcomers = Newcomers::new(2);
        let (first, second) = (newcomers.enter(), newcomers.enter());
        let third = newcomers.enter();
        assert_eq!([gone(&first), gone(&second), gone(&third)], [true, false, false]);
        second.settle();
        let _fourth = newcomers.enter();
        assert!(!gone(&second), "it has proved itself");
        assert!(newcomers.make_room());
        assert!(gone(&third));
        drop(third);
        assert!(newcomers.make_room());
        assert!(!newcomers.make_room(), "nobody is left");
    }
}
