//! How often something was done lately, by each caller under each rule.
//!
//! Guarantees: no clock of its own, so time comes with each request; the table is bounded, whoever asks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::caller::CallerName;
use crate::policy::RuleId;
use crate::rule::Rate;

/// Callers under rules that are kept apart at most, in about 400 KiB.
const MAX_BUCKETS: usize = 4_096;

/// A bucket of tokens for each caller and rule, kept as the moment at which it is full again.
#[derive(Debug, Default)]
pub struct Rates {
    full_at: Mutex<HashMap<(RuleId, CallerName), Duration>>,
}

impl Rates {
    /// Takes a token of `caller` under each of these rules, or says under which there is none. `now` is the time since
    /// any fixed moment. A token that was taken under one rule before another had none is lost.
    ///
    /// # Errors
    /// The first rule whose rate is used up.
    pub fn take(&self, caller: &CallerName, rates: &[(RuleId, Rate)], now: Duration) -> Result<(), RuleId> {
        if rates.is_empty() {
            return Ok(());
        }
        // Nothing panics while it holds this lock, so a poisoned one is still consistent.
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        for (rule, rate) in rates {
            let bucket = (*rule, caller.clone());
            if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&bucket) {
                make_room(&mut buckets, now);
            }
            let interval = Duration::from_secs(1) / rate.per_second.get();
            let window = interval.saturating_mul(rate.burst.get());
            let full_at = buckets.entry(bucket).or_insert(now);
            let after = (*full_at).max(now).saturating_add(interval);
            if after.saturating_sub(now) > window {
                return Err(*rule);
            }
            *full_at = after;
        }
        Ok(())
    }
}

/// Forgets the buckets that are full, or else the one that is nearest to it.
fn make_room(buckets: &mut HashMap<(RuleId, CallerName), Duration>, now: Duration) {
    buckets.retain(|_, full_at| *full_at > now);
    if buckets.len() >= MAX_BUCKETS
        && let Some(fullest) = buckets.iter().min_by_key(|(_, full_at)| **full_at).map(|(bucket, _)| bucket.clone())
    {
        buckets.remove(&fullest);
    }
}

#[cfg(test)]
mod tests {
    //! Proves: burst and rate are exact, callers and rules do not share, and the table is bounded.
    use std::num::NonZeroU32;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    #[test]
    fn burst_and_rate() {
        let (rates, caller) = (Rates::default(), CallerName::new("a").unwrap());
        let rule = [(RuleId::of(3), rate(10, 5))];
        let taken = |now| (0..20).filter(|_| rates.take(&caller, &rule, now).is_ok()).count();
        let second = Duration::from_secs(100);
        assert_eq!(taken(second), 5);
        assert_eq!(rates.take(&caller, &rule, second), Err(RuleId::of(3)));
        assert_eq!(taken(second + Duration::from_millis(300)), 3);
        assert_eq!(taken(second + Duration::from_mins(1)), 5);
        let other = CallerName::new("b").unwrap();
        assert!(rates.take(&other, &rule, second).is_ok());
        assert!(rates.take(&caller, &[(RuleId::of(4), rate(10, 5))], second).is_ok());
    }

    #[test]
    fn all_rates_must_have_room() {
        let (rates, caller) = (Rates::default(), CallerName::new("a").unwrap());
        let both = [(RuleId::of(0), rate(1, 10)), (RuleId::of(1), rate(1, 1))];
        assert_eq!(rates.take(&caller, &both, Duration::ZERO), Ok(()));
        assert_eq!(rates.take(&caller, &both, Duration::ZERO), Err(RuleId::of(1)));
    }

    #[test]
    fn the_table_is_bounded() {
        let rates = Rates::default();
        for number in 0..MAX_BUCKETS + 500 {
            let caller = CallerName::new(&number.to_string()).unwrap();
            assert!(rates.take(&caller, &[(RuleId::of(0), rate(1, 1))], Duration::from_secs(7)).is_ok());
        }
        assert_eq!(rates.full_at.lock().unwrap().len(), MAX_BUCKETS);
    }
}
