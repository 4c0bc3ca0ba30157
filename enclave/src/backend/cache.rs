//! Hash-to-curve shared between keys: all attesters of a slot sign one root, and hashing it is a large
//! part of a signature.
//!
//! Guarantees: at most so many roots are kept, the least recently used going first; a root in the
//! cache was hashed once, however many threads asked for it at the same time.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use holdfast_domain::SigningRoot;
use holdfast_enclave_sys::{HashedPoint, hash_to_g2};

use crate::metrics::Metrics;

/// Roots hashed to the curve.
pub(crate) struct HashCache {
    table: Mutex<Table>,
    capacity: NonZeroUsize,
}

#[derive(Default)]
struct Table {
    points: HashMap<SigningRoot, Entry>,
    /// Roots by when they were last used.
    by_use: BTreeMap<u64, SigningRoot>,
    /// Counts uses.
    now: u64,
}

struct Entry {
    point: Arc<OnceLock<HashedPoint>>,
    used: u64,
}

impl HashCache {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self { table: Mutex::default(), capacity }
    }

    /// The root as a point. The first to ask computes it, outside the lock; others wait for that.
    pub(crate) fn point(&self, root: SigningRoot, metrics: &Metrics) -> HashedPoint {
        let point = self.place(root, metrics);
        *point.get_or_init(|| {
            let started = Instant::now();
            let point = hash_to_g2(root.as_bytes());
            metrics.hash_seconds.observe(started.elapsed().as_secs_f64());
            metrics.roots_hashed.inc();
            point
        })
    }

    fn place(&self, root: SigningRoot, metrics: &Metrics) -> Arc<OnceLock<HashedPoint>> {
        // Nothing below panics while it holds the lock, so a poisoned one is still consistent.
        let mut guard = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &mut *guard;
        table.now = table.now.wrapping_add(1);
        let now = table.now;
        if let Some(entry) = table.points.get_mut(&root) {
            table.by_use.remove(&entry.used);
            table.by_use.insert(now, root);
            entry.used = now;
            metrics.cache_hits.inc();
            return Arc::clone(&entry.point);
        }
        metrics.cache_misses.inc();
        if table.points.len() >= self.capacity.get()
            && let Some((_, oldest)) = table.by_use.pop_first()
        {
            table.points.remove(&oldest);
        }
        let point = Arc::new(OnceLock::new());
        table.points.insert(root, Entry { point: Arc::clone(&point), used: now });
        table.by_use.insert(now, root);
        point
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: a root is hashed once however many ask, and the least recently used one goes.

    use std::sync::Barrier;

    use super::*;
    use crate::support::{attestation, root};

    fn cache(capacity: usize) -> (HashCache, Metrics) {
        (HashCache::new(NonZeroUsize::new(capacity).unwrap()), Metrics::new())
    }

    fn counts(metrics: &Metrics) -> (u64, u64, u64) {
        (metrics.cache_misses.get(), metrics.cache_hits.get(), metrics.roots_hashed.get())
    }

    #[test]
    fn many_threads_hash_a_root_once() {
        let (cache, metrics) = cache(8);
        let root = root(&attestation(1));
        let together = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    together.wait();
                    cache.point(root, &metrics);
                });
            }
        });
        assert_eq!(counts(&metrics), (1, 7, 1));
    }

    #[test]
    fn the_least_recently_used_root_goes() {
        let (cache, metrics) = cache(2);
        let [a, b, c] = [1, 2, 3].map(|epoch| root(&attestation(epoch)));
        for root in [a, b, a, c] {
            cache.point(root, &metrics);
        }
        assert_eq!(counts(&metrics), (3, 1, 3));
        cache.point(a, &metrics);
        assert_eq!(counts(&metrics), (3, 2, 3), "a was used after b, so it is still there");
        cache.point(b, &metrics);
        assert_eq!(counts(&metrics), (4, 2, 4), "b is gone");
        let table = cache.table.lock().unwrap();
        assert_eq!((table.points.len(), table.by_use.len()), (2, 2));
    }

    #[test]
    fn the_point_is_that_of_the_root() {
        let (cache, metrics) = cache(1);
        let mut bytes = [7; 32];
        let scalar = holdfast_enclave_sys::SecretScalar::from_be_bytes(&mut bytes).unwrap();
        for epoch in [1, 2, 1] {
            let root = root(&attestation(epoch));
            let signature = scalar.sign(&cache.point(root, &metrics));
            assert!(holdfast_enclave_sys::verify(&scalar.public_key(), root.as_bytes(), &signature));
        }
    }
}
