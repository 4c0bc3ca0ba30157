//! Bounds the requests in progress: beyond the bound a client hears "overloaded" at once, instead
//! of waiting in a queue for an answer that would come after the slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// Admits a bounded number of requests.
pub(super) struct Throttle {
    limit: usize,
    inside: Arc<AtomicUsize>,
    gauge: Gauge,
}

/// One request in progress; dropping it makes room, also when its client left.
pub(super) struct Place {
    inside: Arc<AtomicUsize>,
    gauge: Gauge,
}

impl Throttle {
    /// Admits `limit` requests and shows their number in `gauge`.
    pub(super) fn new(limit: usize, gauge: Gauge) -> Self {
        Self { limit, inside: Arc::new(AtomicUsize::new(0)), gauge }
    }

    /// A place, unless all are taken.
    pub(super) fn enter(&self) -> Option<Place> {
        // Counts only; it orders nothing else.
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
        let place = Place { inside: Arc::clone(&self.inside), gauge: self.gauge.clone() };
        (before < self.limit).then_some(place)
    }

    /// How many places are taken.
    pub(super) fn in_flight(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_places_come_back() {
        let gauge = Gauge::default();
        let throttle = Throttle::new(2, gauge.clone());
        let first = throttle.enter().expect("room");
        let _second = throttle.enter().expect("room");
        assert!(throttle.enter().is_none());
        assert_eq!((throttle.in_flight(), gauge.get()), (2, 2));
        drop(first);
        assert_eq!(throttle.in_flight(), 1);
        assert!(throttle.enter().is_some());
    }
}
