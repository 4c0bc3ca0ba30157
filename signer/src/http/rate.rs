//! Bounds how many requests one address may send in a second, if the operator wants that: one
//! client in a loop then cannot take the signer away from the others.
//!
//! A bucket of tokens per address, kept as the moment at which it is full again. The table of
//! buckets is bounded: a full bucket is the same as none, so those go first, and then the fullest.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses kept apart at most, in about 200 KiB.
const MAX_ADDRESSES: usize = 4_096;

/// Admits a bounded number of requests per second from each address.
pub(super) struct RateLimit {
    /// Requests per second, and the most at once.
    limit: NonZeroU32,
    /// One token comes back in this time.
    interval: Duration,
    /// An empty bucket is full again after this time.
    window: Duration,
    max_addresses: usize,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

/// The tokens of one address.
struct Bucket {
    full_at: Instant,
    /// Whether it has been logged that this address sends too much; again once it has been quiet.
    told: bool,
}

impl RateLimit {
    /// Admits `limit` requests per second, and as many at once.
    pub(super) fn new(limit: NonZeroU32) -> Self {
        let interval = Duration::from_secs(1) / limit.get();
        let window = interval.saturating_mul(limit.get());
        Self { limit, interval, window, max_addresses: MAX_ADDRESSES, buckets: Mutex::default() }
    }

    /// Requests per second.
    pub(super) fn limit(&self) -> NonZeroU32 {
        self.limit
    }

    /// Whether a request from `caller` is admitted at `now`. One that is not would be within a second.
    #[must_use]
    pub(super) fn admit(&self, caller: IpAddr, now: Instant) -> bool {
        // An IPv4 client of an IPv6 socket is the same client.
        let caller = caller.to_canonical();
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= self.max_addresses && !buckets.contains_key(&caller) {
            make_room(&mut buckets, now);
        }
        let bucket = match buckets.entry(caller) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Bucket { full_at: now, told: false }),
        };
        if bucket.full_at <= now {
            *bucket = Bucket { full_at: now, told: false };
        }
        // At most a second after now, so no sum here overflows.
        let full_at = bucket.full_at + self.interval;
        let admitted = full_at.saturating_duration_since(now) <= self.window;
        if admitted {
            bucket.full_at = full_at;
        } else if !bucket.told {
            bucket.told = true;
            drop(buckets);
            let limit = self.limit;
            tracing::warn!(%caller, %limit, "more requests per second than http.max_requests_per_second: answered 429");
        }
        admitted
    }
}

/// Forgets the buckets that are full, or else the one that is nearest to it.
fn make_room(buckets: &mut HashMap<IpAddr, Bucket>, now: Instant) {
    let before = buckets.len();
    buckets.retain(|_, bucket| bucket.full_at > now);
    if buckets.len() == before
        && let Some(fullest) = buckets.iter().min_by_key(|(_, bucket)| bucket.full_at).map(|(address, _)| *address)
    {
        buckets.remove(&fullest);
    }
}

#[cfg(test)]
mod tests {
    //! Proves: the burst and the rate are exact, addresses do not share, and the table is bounded.
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn limit(requests: u32) -> RateLimit {
        RateLimit::new(NonZeroU32::new(requests).expect("not zero"))
    }

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    /// How many of `tries` requests at one moment are admitted.
    fn admitted(rate: &RateLimit, caller: IpAddr, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| rate.admit(caller, now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        for requests in [1, 3, 7, 1_000] {
            let rate = limit(requests);
            let most = usize::try_from(requests).expect("small");
            let start = Instant::now();
            assert_eq!(admitted(&rate, address(1), start, most + 5), most, "{requests} at once");
            let tick = Duration::from_secs(1).div_f64(f64::from(requests));
            let just_before = start + tick.saturating_sub(Duration::from_micros(1));
            assert_eq!(admitted(&rate, address(1), just_before, 5), 0, "{requests}: too early");
            assert_eq!(admitted(&rate, address(1), start + tick, 5), 1, "{requests}: one came back");
            let later = start + Duration::from_secs(10);
            assert_eq!(admitted(&rate, address(1), later, most + 5), most, "{requests}: no more than a second's worth");
            assert_eq!(admitted(&rate, address(1), later + Duration::from_secs(1), most + 5), most, "{requests}");
        }
    }

    #[test]
    fn each_address_has_its_own() {
        let rate = limit(2);
        let now = Instant::now();
        assert_eq!(admitted(&rate, address(1), now, 5), 2);
        assert_eq!(admitted(&rate, address(2), now, 5), 2);
        let mapped = Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped().into();
        assert_eq!(admitted(&rate, mapped, now, 5), 0, "the same client in IPv6 spelling");
        assert_eq!(admitted(&rate, Ipv6Addr::LOCALHOST.into(), now, 5), 2);
    }

    #[test]
    fn the_table_stays_bounded_and_keeps_who_sends_most() {
        let rate = RateLimit { max_addresses: 3, ..limit(2) };
        let size = || rate.buckets.lock().expect("not poisoned").len();
        let now = Instant::now();
        assert_eq!(admitted(&rate, address(0), now, 5), 2);
        for other in 1..=200 {
            assert!(rate.admit(address(other), now));
            assert!(size() <= 3, "{} addresses", size());
        }
        assert!(!rate.admit(address(0), now), "the busiest was forgotten");
        let later = now + Duration::from_secs(2);
        assert!(rate.admit(address(201), later));
        assert_eq!(size(), 1, "full buckets go");
    }

    #[test]
    fn any_limit_can_be_configured() {
        for requests in [1, 999_999_999, u32::MAX] {
            assert!(limit(requests).admit(address(1), Instant::now()), "{requests}");
        }
    }
}
