//! How upstreams tell the pool that something about them has changed, and learn what slot it is and who records calls.
//!
//! Why it exists: a failed call must change the choice of nodes at once, not at the next probe; and a
//! node's window of late answers is counted in slots.

use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_domain::Slot;
use holdfast_traces::Tracer;
use tokio::sync::Notify;

/// Shared by the upstreams of one pool.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    changed: Notify,
    slot: AtomicU64,
    tracer: Tracer,
}

impl Signal {
    /// For upstreams whose calls this one records.
    pub(crate) fn new(tracer: Tracer) -> Self {
        Self { tracer, ..Self::default() }
    }

    /// Says which calls are recorded.
    pub(crate) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Something about an upstream has changed. Several calls before the pool looks count as one.
    pub(crate) fn notify(&self) {
        self.changed.notify_one();
    }

    /// Completes after [`Self::notify`].
    pub(crate) async fn notified(&self) {
        self.changed.notified().await;
    }

    /// The slot calls are counted in; 0 while no network is known.
    pub(crate) fn slot(&self) -> Slot {
        Slot(self.slot.load(Ordering::Relaxed))
    }

    /// Moves on.
    pub(crate) fn set_slot(&self, slot: Slot) {
        self.slot.store(slot.0, Ordering::Relaxed);
    }
}
