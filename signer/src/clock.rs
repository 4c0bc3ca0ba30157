//! Where time comes from. The rest of the program is handed a [`Clock`], so every rule about
//! "now" can be tested at any now; this is the one place that asks the operating system.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_domain::{Clock, UnixMillis};

/// The operating system's time of day.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    /// A clock set before 1970 reads as 0, which refuses every slashable message: "in the future".
    #[expect(clippy::disallowed_methods, reason = "the one home of SystemTime::now")]
    fn now(&self) -> UnixMillis {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixMillis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Measures how long something takes, unaffected by changes of the time of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    pub(crate) fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Seconds since the start, and starts again.
    pub(crate) fn lap(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now)).as_secs_f64()
    }
}

/// A time as RFC 3339 in UTC, to the second: `2026-07-01T12:00:00Z`.
pub(crate) fn rfc3339(time: UnixMillis) -> String {
    time.rfc3339()
}

/// So many seconds in a unit for people: `90 s`, `5 min`, `3 h`, `12 days`.
pub(crate) fn lasting(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_suits_them() {
        let bounds = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(lasting);
        assert_eq!(bounds, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }

    #[test]
    fn the_system_clock_is_past_the_day_this_was_written() {
        assert!(SystemClock.now() > UnixMillis(1_760_000_000_000));
    }
}
