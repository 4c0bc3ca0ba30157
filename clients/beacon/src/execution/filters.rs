//! Filters of clients: which node has one, and under which id.
//!
//! Why it exists: nodes number their filters from 1, so two nodes' ids mean different filters. What it
//! guarantees: a client's id leads to the node that made the filter or nowhere; the number of filters is
//! bounded, and those nobody asks for are forgotten, as nodes forget them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::UpstreamId;

/// Filters remembered at once.
const MOST: usize = 10_000;

/// Nodes forget a filter after five minutes without a question (Geth's default).
const IDLE: Duration = Duration::from_mins(5);

#[derive(Debug, Clone)]
struct Filter {
    node: UpstreamId,
    /// The node's id, as JSON.
    id: String,
    used: Instant,
}

/// The filters of all clients.
#[derive(Debug, Default)]
pub(crate) struct Filters(HashMap<String, Filter>);

/// No room for another filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// A new id that nobody can guess: 128 random bits as a JSON-RPC quantity.
pub(crate) fn fresh_id() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    // A quantity has no leading zero.
    Some(format!("0x{:x}", u128::from_be_bytes(bytes) | 1 << 127))
}

impl Filters {
    /// Remembers a filter that `node` calls `id` under a client's id.
    pub(crate) fn insert(&mut self, own: String, node: UpstreamId, id: String, now: Instant) -> Result<(), Full> {
        if self.0.len() >= MOST {
            self.0.retain(|_, filter| now.saturating_duration_since(filter.used) < IDLE);
        }
        if self.0.len() >= MOST {
            return Err(Full);
        }
        self.0.insert(own, Filter { node, id, used: now });
        Ok(())
    }

    /// The node that has a filter, and the id it has there.
    pub(crate) fn find(&mut self, own: &str, now: Instant) -> Option<(UpstreamId, String)> {
        let filter = self.0.get_mut(own)?;
        if now.saturating_duration_since(filter.used) >= IDLE {
            self.0.remove(own);
            return None;
        }
        filter.used = now;
        Some((filter.node, filter.id.clone()))
    }

    /// Forgets a filter.
    pub(crate) fn remove(&mut self, own: &str) {
        self.0.remove(own);
    }

    /// Forgets every filter of a node that is not to be asked any more.
    pub(crate) fn forget(&mut self, node: UpstreamId) {
        self.0.retain(|_, filter| filter.node != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_found_until_nobody_asks_for_it() {
        let mut filters = Filters::default();
        let now = Instant::now();
        filters.insert("0xa".to_owned(), UpstreamId(1), "\"0x1\"".to_owned(), now).unwrap();
        let later = now + IDLE - Duration::from_secs(1);
        assert_eq!(filters.find("0xa", later), Some((UpstreamId(1), "\"0x1\"".to_owned())));
        assert_eq!(filters.find("0xb", later), None);
        assert!(filters.find("0xa", later + IDLE - Duration::from_secs(1)).is_some(), "asking keeps it");
        assert_eq!(filters.find("0xa", later + IDLE * 3), None);
    }

    #[test]
    fn idle_filters_make_room_and_busy_ones_do_not() {
        let mut filters = Filters::default();
        let now = Instant::now();
        for number in 0..MOST {
            filters.insert(number.to_string(), UpstreamId(0), String::new(), now).unwrap();
        }
        assert_eq!(filters.insert("x".to_owned(), UpstreamId(0), String::new(), now), Err(Full));
        assert_eq!(filters.insert("x".to_owned(), UpstreamId(0), String::new(), now + IDLE), Ok(()));
        assert_eq!(filters.0.len(), 1);
    }

    #[test]
    fn a_node_s_filters_are_forgotten_together() {
        let mut filters = Filters::default();
        let now = Instant::now();
        for (own, node) in [("0xa", 1), ("0xb", 2), ("0xc", 1)] {
            filters.insert(own.to_owned(), UpstreamId(node), "\"0x1\"".to_owned(), now).unwrap();
        }
        filters.forget(UpstreamId(1));
        assert_eq!((filters.find("0xa", now), filters.find("0xc", now)), (None, None));
        assert!(filters.find("0xb", now).is_some());
    }

    #[test]
    fn ids_are_quantities_of_full_length() {
        let (a, b) = (fresh_id().unwrap(), fresh_id().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 34);
        assert!(a.starts_with("0x") && !a.starts_with("0x0"));
    }
}
