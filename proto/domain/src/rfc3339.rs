//! Times as people read them: RFC 3339 in UTC.
//!
//! Guarantees: what [`UnixMillis::rfc3339_millis`] writes, [`UnixMillis::from_rfc3339`] reads back as the same time,
//! for every time; nothing else that is read is another time than it says.

use crate::UnixMillis;

/// Seconds of a day; leap seconds are not counted in Unix time.
const DAY_SECONDS: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: u64 = 719_468;
/// Days of 400 years.
const ERA_DAYS: u64 = 146_097;

impl UnixMillis {
    /// To the second: `2026-07-01T12:00:00Z`.
    pub fn rfc3339(self) -> String {
        let (date, time) = (self.date(), self.time_of_day());
        format!("{date}T{time}Z")
    }

    /// To the millisecond: `2026-07-01T12:00:00.125Z`.
    pub fn rfc3339_millis(self) -> String {
        let (date, time) = (self.date(), self.time_of_day());
        format!("{date}T{time}.{:03}Z", self.0 % 1_000)
    }

    fn date(self) -> String {
        let (year, month, day) = civil(self.0 / 1_000 / DAY_SECONDS);
        format!("{year:04}-{month:02}-{day:02}")
    }

    fn time_of_day(self) -> String {
        let seconds = self.0 / 1_000;
        format!("{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
    }

    /// Reads a time in UTC: a date alone, which means its beginning, or date and time to the second or the
    /// millisecond, ending in `Z`. `None` if it is anything else, or before 1970.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time.strip_suffix('Z')?)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || year.len() < 4 || (year.len() > 4 && year.starts_with('0')) {
            return None;
        }
        let days = days_from_civil(number(year)?, two_digits(month)?, two_digits(day)?)?;
        let within = time.map_or(Some(0), millis_of_day)?;
        days.checked_mul(DAY_SECONDS)?.checked_mul(1_000)?.checked_add(within).map(Self)
    }
}

fn millis_of_day(time: &str) -> Option<u64> {
    let (time, millis) = match time.split_once('.') {
        Some((time, millis)) if millis.len() == 3 => (time, number(millis)?),
        Some(_) => return None,
        None => (time, 0),
    };
    let mut parts = time.split(':');
    let (hour, minute, second) = (two_digits(parts.next()?)?, two_digits(parts.next()?)?, two_digits(parts.next()?)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = hour.checked_mul(3_600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    seconds.checked_mul(1_000)?.checked_add(millis)
}

fn two_digits(text: &str) -> Option<u64> {
    (text.len() == 2).then(|| number(text)).flatten()
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The Gregorian date `days` after 1970-01-01, counting in 400-year eras that start on a 1 March.
#[expect(clippy::arithmetic_side_effects, reason = "milliseconds in 64 bits are less than 2.2e11 days")]
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day_of_month)
}

/// Days from 1970-01-01 to this date; `None` if there is no such date, or it is before.
#[expect(clippy::arithmetic_side_effects, reason = "all numbers are small, and the year is bounded first")]
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1_970..1_000_000_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = year - u64::from(month <= 2);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * ERA_DAYS + day_of_era).checked_sub(EPOCH_DAYS)?;
    // A 31 February is another day.
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_606_824_023, "2020-12-01T12:00:23Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in table {
            let time = UnixMillis(seconds * 1_000 + 999);
            assert_eq!(time.rfc3339(), text);
            assert_eq!(UnixMillis::from_rfc3339(text), Some(UnixMillis(seconds * 1_000)));
        }
        assert_eq!(UnixMillis::from_rfc3339("2000-02-29"), Some(UnixMillis(951_782_400_000)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-02-30",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-1-1",
            "1969-12-31",
            "2026-01-01T",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00.1Z",
            "2026-01-01T00:00:00.1234Z",
            "2026-01-01T00:00:00+00:00",
            "+2026-01-01",
            "02026-01-01",
            "2026-01-01-01",
            "2026-01-01T00:00:00:00Z",
            "2026-01-01T0٠:00:00Z",
        ] {
            assert_eq!(UnixMillis::from_rfc3339(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in any::<u64>()) {
            let time = UnixMillis(millis);
            let read = UnixMillis::from_rfc3339(&time.rfc3339_millis());
            prop_assert_eq!(read, Some(time));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(text in "[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\\.[0-9]{3}Z") {
            if let Some(time) = UnixMillis::from_rfc3339(&text) {
                prop_assert_eq!(time.rfc3339_millis(), text);
            }
        }
    }
}
