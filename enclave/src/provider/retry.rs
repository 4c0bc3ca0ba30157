//! Trying again: how often, and how long to wait in between.

use core::num::NonZeroU32;
use std::time::Duration;

use super::Recovery;
use crate::error::ProviderError;

/// How calls to providers are repeated. Only failures that may pass within seconds are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all.
    pub attempts: NonZeroU32,
    /// The waits in between.
    pub backoff: Backoff,
}

impl Default for Retry {
    /// Three attempts within about a second, beside what the calls themselves take.
    fn default() -> Self {
        let attempts = NonZeroU32::MIN.saturating_add(2);
        Self { attempts, backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(2)) }
    }
}

impl Retry {
    /// One attempt.
    pub const ONCE: Self = Self { attempts: NonZeroU32::MIN, backoff: Backoff::new(Duration::ZERO, Duration::ZERO) };

    /// Calls until it works, fails for good, or was tried often enough. Blocks.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] of the last attempt.
    pub fn run<T>(self, mut call: impl FnMut() -> Result<T, ProviderError>) -> Result<T, ProviderError> {
        let mut backoff = self.backoff;
        for _ in 1..self.attempts.get() {
            match call() {
                Err(error) if error.recovery() == Recovery::Soon => std::thread::sleep(backoff.next_wait()),
                ended => return ended,
            }
        }
        call()
    }
}

/// Waits that double up to a limit. Each is shortened by up to a half at random, so that signers that lost the
/// same service do not all come back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts at `first` and never exceeds `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2);
        let mut byte = [0];
        // Without randomness they come back together, which is a nuisance and no more.
        let _ = getrandom::fill(&mut byte);
        let cut = wait.saturating_mul(u32::from(byte[0])) / 512;
        wait.saturating_sub(cut)
    }
}

#[cfg(test)]
mod tests {
    //! Proved here: only what may pass is tried again, as often as allowed; waits grow to their limit.

    use super::*;
    use crate::provider::{ProviderKind, ServiceFailure};

    fn failed(failure: ServiceFailure) -> ProviderError {
        ProviderError::Service { provider: ProviderKind::AwsKms, key: "k".to_owned(), failure, source: "x".into() }
    }

    fn quick(attempts: u32) -> Retry {
        Retry { attempts: NonZeroU32::new(attempts).unwrap(), backoff: Retry::ONCE.backoff }
    }

    #[test]
    fn what_may_pass_is_tried_again_and_the_rest_is_not() {
        for failure in ServiceFailure::ALL {
            let mut calls = 0;
            let ended = quick(4).run(|| -> Result<(), _> {
                calls += 1;
                Err(failed(failure))
            });
            assert!(ended.is_err());
            assert_eq!(calls, if failure.recovery() == Recovery::Soon { 4 } else { 1 }, "{failure}");
        }
        let mut calls = 0;
        let ended = quick(4).run(|| {
            calls += 1;
            if calls < 3 { Err(failed(ServiceFailure::Busy)) } else { Ok(calls) }
        });
        assert_eq!(ended.unwrap(), 3);
    }

    #[test]
    fn waits_grow_to_their_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for most in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_wait();
            assert!(wait <= Duration::from_millis(most) && wait >= Duration::from_millis(most / 2), "{wait:?}");
        }
    }
}
