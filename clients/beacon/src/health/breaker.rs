//! The circuit breaker of one upstream: three failures in a row open it, and it is tried again after
//! 1, 2, 4, 8, 12, 12 … seconds. Pure: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open the breaker.
const OPENS_AFTER: u32 = 3;
/// First wait before the next try.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait before the next try.
const LONGEST_WAIT: Duration = Duration::from_secs(12);

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerState {
    /// Three or more failures in a row: only probes are sent, at the time said by [`Breaker::half_open_at`].
    Open,
    /// This many failures in a row, less than three.
    Closed {
        /// Failures in a row.
        failures: u32,
    },
}

impl BreakerState {
    /// Closed, without a failure.
    pub const CLEAN: Self = Self::Closed { failures: 0 };
}

/// Counts failures in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    next_try: Option<Instant>,
}

impl Breaker {
    /// A call or probe failed at `now`.
    pub fn failed(&mut self, now: Instant) {
        // Calls that were on their way when the breaker opened say nothing new.
        if self.next_try.is_some_and(|at| now < at) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(tries) = self.failures.checked_sub(OPENS_AFTER) {
            let factor = 1u32.checked_shl(tries).unwrap_or(u32::MAX);
            self.next_try = Some(now + FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT));
        }
    }

    /// A duty's call was late. The connection works, so this alone never opens the breaker; but until
    /// something succeeds the node is not above suspicion.
    pub fn late(&mut self) {
        self.failures = self.failures.max(1);
    }

    /// A call or probe succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Where it stands.
    pub const fn state(&self) -> BreakerState {
        if self.failures >= OPENS_AFTER { BreakerState::Open } else { BreakerState::Closed { failures: self.failures } }
    }

    /// When to try again; `None` while closed.
    pub const fn half_open_at(&self) -> Option<Instant> {
        self.next_try
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_three_failures_and_waits_longer_each_time() {
        let mut breaker = Breaker::default();
        let mut now = Instant::now();
        for failures in 1..3 {
            breaker.failed(now);
            assert_eq!((breaker.state(), breaker.half_open_at()), (BreakerState::Closed { failures }, None));
        }
        for seconds in [1, 2, 4, 8, 12, 12, 12] {
            breaker.failed(now);
            assert_eq!(breaker.state(), BreakerState::Open);
            // A call of before that fails now does not prolong the wait.
            let at = breaker.half_open_at().unwrap();
            breaker.failed(now + Duration::from_millis(1));
            assert_eq!((breaker.half_open_at(), at - now), (Some(at), Duration::from_secs(seconds)));
            now = at;
        }
        for _ in 0..100 {
            breaker.failed(now);
            now = breaker.half_open_at().unwrap();
        }
        breaker.succeeded();
        assert_eq!((breaker.state(), breaker.half_open_at()), (BreakerState::CLEAN, None));
        for _ in 0..10 {
            breaker.late();
            assert_eq!(breaker.state(), BreakerState::Closed { failures: 1 }, "late is not gone");
        }
    }
}
