//! Wrong credentials: each address that sends them waits longer for every next answer.
//!
//! Guarantees: only wrong ones are counted and slowed down, so nobody can lock out a caller that has the right ones,
//! not even from the same address; memory is bounded, and so is the number of answers that wait; a flood is logged
//! once for each address, until it has been quiet.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses kept apart at most, in about 200 KiB.
const MAX_ADDRESSES: usize = 4_096;
/// Failures answered at once: somebody is setting up a client.
const FREE: u32 = 5;
/// The first delay, doubled with each further failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(2);
/// An address that sent nothing wrong for so long begins anew.
const QUIET: Duration = Duration::from_mins(1);
/// Answers that wait at once; further failures are told to come back later instead.
const MAX_WAITING: usize = 256;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Penalty {
    /// How long its answer waits.
    pub(super) delay: Duration,
    /// Whether to log it.
    pub(super) tell: Tell,
}

/// What is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// This failure.
    Failure,
    /// That more of them follow, and are not logged.
    Flood,
    /// Nothing.
    Nothing,
}

/// The failures of each address.
#[derive(Default)]
pub(super) struct Failures {
    addresses: Mutex<HashMap<IpAddr, Strikes>>,
    waiting: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

struct Strikes {
    count: u32,
    last: Instant,
}

/// An answer that waits.
pub(super) struct Waiting(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Failures {
    /// Counts a failure of `address` at `now`.
    pub(super) fn strike(&self, address: IpAddr, now: Instant) -> Penalty {
        let address = whose(address);
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MAX_ADDRESSES && !addresses.contains_key(&address) {
            make_room(&mut addresses, now);
        }
        let strikes = addresses.entry(address).or_insert(Strikes { count: 0, last: now });
        if now.saturating_duration_since(strikes.last) >= QUIET {
            strikes.count = 0;
        }
        strikes.count = strikes.count.saturating_add(1);
        strikes.last = now;
        let delay = match strikes.count.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(over) => {
                FIRST.saturating_mul(1_u32.checked_shl(over.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST)
            }
        };
        let tell = match strikes.count {
            0..FREE => Tell::Failure,
            FREE => Tell::Flood,
            _ => Tell::Nothing,
        };
        Penalty { delay, tell }
    }

    /// A place to wait, unless too many wait already.
    pub(super) fn wait(&self) -> Option<Waiting> {
        let before = self.waiting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let place = Waiting(std::sync::Arc::clone(&self.waiting));
        (before < MAX_WAITING).then_some(place)
    }
}

/// Who is meant by an address: of IPv6, the network of one customer.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Forgets who has been quiet, or else who has failed least.
fn make_room(addresses: &mut HashMap<IpAddr, Strikes>, now: Instant) {
    addresses.retain(|_, strikes| now.saturating_duration_since(strikes.last) < QUIET);
    if addresses.len() >= MAX_ADDRESSES
        && let Some(least) = addresses.iter().min_by_key(|(_, strikes)| (strikes.count, strikes.last)).map(|(a, _)| *a)
    {
        addresses.remove(&least);
    }
}

#[cfg(test)]
mod tests {
    //! Proves: delays grow and end, addresses do not share them, and the table is bounded.
    use std::net::Ipv4Addr;

    use super::*;

    fn v4(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn delays_grow_and_are_forgotten() {
        let (failures, start) = (Failures::default(), Instant::now());
        let penalties: Vec<Penalty> = (0..50).map(|_| failures.strike(v4(1), start)).collect();
        assert!(penalties[..5].iter().all(|penalty| penalty.delay.is_zero()));
        assert_eq!(penalties[5].delay, FIRST);
        assert_eq!(penalties[6].delay, FIRST * 2);
        assert!(penalties.windows(2).all(|pair| pair[0].delay <= pair[1].delay));
        assert_eq!(penalties[49].delay, LONGEST);
        let told: Vec<Tell> = penalties.iter().map(|penalty| penalty.tell).collect();
        assert_eq!(told[..4], [Tell::Failure; 4]);
        assert_eq!(told[4], Tell::Flood);
        assert!(told[5..].iter().all(|tell| *tell == Tell::Nothing));
        assert_eq!(failures.strike(v4(2), start), Penalty { delay: Duration::ZERO, tell: Tell::Failure });
        assert_eq!(failures.strike(v4(1), start + QUIET).tell, Tell::Failure, "it was quiet");
    }

    #[test]
    fn one_customer_has_one_network() {
        let (failures, now) = (Failures::default(), Instant::now());
        let mut last = Penalty { delay: Duration::ZERO, tell: Tell::Nothing };
        for host in 0..20 {
            last = failures.strike(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into(), now);
        }
        assert_eq!(last.delay, LONGEST);
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        assert_eq!(whose(mapped.into()), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn memory_is_bounded_and_who_fails_most_is_kept() {
        let (failures, now) = (Failures::default(), Instant::now());
        for _ in 0..20 {
            failures.strike(v4(0), now);
        }
        for other in 1..10_000 {
            failures.strike(v4(other), now);
        }
        assert!(failures.addresses.lock().unwrap().len() <= MAX_ADDRESSES);
        assert_eq!(failures.strike(v4(0), now).delay, LONGEST);
    }

    #[test]
    fn few_wait_at_once() {
        let failures = Failures::default();
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| failures.wait().unwrap()).collect();
        assert!(failures.wait().is_none());
        drop(waiting);
        assert!(failures.wait().is_some());
    }
}
