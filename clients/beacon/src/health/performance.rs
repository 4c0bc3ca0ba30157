//! How fast one upstream answers, and how often too late. Pure: slots and durations are passed in.
//!
//! Why it exists: a node can call itself healthy and still be too slow for its duties; that has cost
//! networks more than crashes have. What it guarantees: bounded memory, and old slots drop out.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_domain::Slot;

use super::observation::PerformanceTier;
use crate::class::EndpointClass;

/// Slots looked back on.
const WINDOW_SLOTS: u64 = 32;
/// Answers remembered per class for percentiles.
const RECENT: usize = 64;
/// Percentiles of fewer answers mean nothing.
const ENOUGH_FOR_PERCENTILE: usize = 8;
/// Shares of fewer calls mean nothing.
const ENOUGH_FOR_SHARE: u32 = 5;
/// A share of late answers above this costs a tier.
const LATE_PERCENT: u32 = 20;
/// Weight of the newest answer in the average: about the last ten count.
const NEWEST: f64 = 0.2;

#[derive(Debug, Clone, Copy, Default)]
struct SlotCount {
    slot: u64,
    calls: u32,
    late: u32,
}

#[derive(Debug, Clone, Default)]
struct ClassWindow {
    average_seconds: Option<f64>,
    recent_micros: VecDeque<u32>,
    slots: VecDeque<SlotCount>,
}

/// One upstream's answers.
#[derive(Debug, Clone, Default)]
pub struct Performance {
    classes: [ClassWindow; EndpointClass::ALL.len()],
    overall_seconds: Option<f64>,
}

/// The share of late calls in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LateShare {
    /// Calls.
    pub calls: u32,
    /// Those too late, or failed.
    pub late: u32,
}

fn blend(average: &mut Option<f64>, newest: f64) {
    *average = Some(average.map_or(newest, |old| old.mul_add(1.0 - NEWEST, newest * NEWEST)));
}

impl ClassWindow {
    fn count(&mut self, slot: Slot, late: u32) {
        match self.slots.back_mut() {
            // A clock set back keeps counting in the newest slot.
            Some(newest) if newest.slot >= slot.0 => {
                newest.calls = newest.calls.saturating_add(1);
                newest.late = newest.late.saturating_add(late);
            }
            _ => self.slots.push_back(SlotCount { slot: slot.0, calls: 1, late }),
        }
        while self.slots.front().is_some_and(|oldest| oldest.slot.saturating_add(WINDOW_SLOTS) <= slot.0) {
            self.slots.pop_front();
        }
    }

    fn share(&self, now: Slot) -> LateShare {
        let fresh = self.slots.iter().filter(|count| count.slot.saturating_add(WINDOW_SLOTS) > now.0);
        fresh.fold(LateShare::default(), |sum, count| LateShare {
            calls: sum.calls.saturating_add(count.calls),
            late: sum.late.saturating_add(count.late),
        })
    }
}

impl Performance {
    fn class(&self, class: EndpointClass) -> Option<&ClassWindow> {
        self.classes.get(class.index())
    }

    /// A call of `class` was answered in `slot` after `elapsed`.
    pub fn answered(&mut self, class: EndpointClass, slot: Slot, elapsed: Duration) {
        self.took(class, elapsed);
        self.counted(class, slot);
    }

    /// A call of `class` in `slot` was answered, and its time is known already.
    pub fn counted(&mut self, class: EndpointClass, slot: Slot) {
        if let Some(window) = self.classes.get_mut(class.index()) {
            window.count(slot, 0);
        }
    }

    /// An answer of `class` that had been called missed came after `elapsed`: it counts for how long answers take.
    pub fn took(&mut self, class: EndpointClass, elapsed: Duration) {
        blend(&mut self.overall_seconds, elapsed.as_secs_f64());
        let Some(window) = self.classes.get_mut(class.index()) else { return };
        blend(&mut window.average_seconds, elapsed.as_secs_f64());
        if window.recent_micros.len() == RECENT {
            window.recent_micros.pop_front();
        }
        window.recent_micros.push_back(u32::try_from(elapsed.as_micros()).unwrap_or(u32::MAX));
    }

    /// A call of `class` was given up after `elapsed`, because another node had answered: it would have taken at
    /// least so long. This speaks neither for nor against the node, but a node that always loses is not a fast one.
    pub fn outpaced(&mut self, class: EndpointClass, elapsed: Duration) {
        let Some(window) = self.classes.get_mut(class.index()) else { return };
        let known = window.average_seconds.or(self.overall_seconds).unwrap_or_default();
        if elapsed.as_secs_f64() > known {
            blend(&mut window.average_seconds, elapsed.as_secs_f64());
        }
    }

    /// A call of `class` in `slot` failed or missed its deadline.
    pub fn missed(&mut self, class: EndpointClass, slot: Slot) {
        if let Some(window) = self.classes.get_mut(class.index()) {
            window.count(slot, 1);
        }
    }

    /// The 90th percentile of the last answers; `None` with too few of them.
    pub fn p90(&self, class: EndpointClass) -> Option<Duration> {
        let recent = &self.class(class)?.recent_micros;
        if recent.len() < ENOUGH_FOR_PERCENTILE {
            return None;
        }
        let mut sorted: Vec<u32> = recent.iter().copied().collect();
        sorted.sort_unstable();
        let rank = sorted.len().saturating_mul(9).div_ceil(10).saturating_sub(1);
        sorted.get(rank).map(|micros| Duration::from_micros(u64::from(*micros)))
    }

    /// Average time of an answer of this class; of any class if this one has none.
    pub fn mean(&self, class: EndpointClass) -> Option<Duration> {
        let seconds = self.class(class)?.average_seconds.or(self.overall_seconds)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Late calls of one class in the window that ends with `now`.
    pub fn late(&self, class: EndpointClass, now: Slot) -> LateShare {
        self.class(class).map_or_else(LateShare::default, |window| window.share(now))
    }

    /// Whether a class with a duty's deadline is late too often.
    pub fn tier(&self, now: Slot) -> PerformanceTier {
        let late = EndpointClass::ALL.into_iter().filter(|class| class.has_duty_deadline()).any(|class| {
            let share = self.late(class, now);
            share.calls >= ENOUGH_FOR_SHARE && share.late.saturating_mul(100) > share.calls.saturating_mul(LATE_PERCENT)
        });
        if late { PerformanceTier::Late } else { PerformanceTier::OnTime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: EndpointClass = EndpointClass::AttestationData;

    #[test]
    fn a_node_that_always_loses_is_known_to_be_slow_and_not_to_be_late() {
        let mut performance = Performance::default();
        performance.answered(EndpointClass::NodeInfo, Slot(1), Duration::from_millis(1));
        performance.outpaced(CLASS, Duration::from_millis(300));
        assert_eq!(performance.mean(CLASS), Some(Duration::from_millis(300)));
        performance.outpaced(CLASS, Duration::from_millis(2));
        assert_eq!(performance.mean(CLASS), Some(Duration::from_millis(300)), "losing quickly tells nothing");
        assert_eq!((performance.late(CLASS, Slot(1)).calls, performance.p90(CLASS)), (0, None));
        assert_eq!(performance.mean(EndpointClass::NodeInfo), Some(Duration::from_millis(1)));
    }

    #[test]
    fn more_than_a_fifth_late_is_late_and_it_passes() {
        let mut performance = Performance::default();
        for slot in 0..8 {
            performance.answered(CLASS, Slot(slot), Duration::from_millis(10));
        }
        performance.missed(CLASS, Slot(8));
        performance.missed(CLASS, Slot(9));
        assert_eq!(performance.late(CLASS, Slot(9)), LateShare { calls: 10, late: 2 });
        assert_eq!(performance.tier(Slot(9)), PerformanceTier::OnTime, "exactly a fifth");
        performance.missed(CLASS, Slot(9));
        assert_eq!(performance.tier(Slot(9)), PerformanceTier::Late);
        assert_eq!(performance.tier(Slot(9 + 32)), PerformanceTier::OnTime, "out of the window");
    }

    #[test]
    fn few_calls_and_calls_without_a_deadline_say_nothing() {
        let mut performance = Performance::default();
        for _ in 0..4 {
            performance.missed(CLASS, Slot(1));
        }
        for _ in 0..100 {
            performance.missed(EndpointClass::Bulk, Slot(1));
        }
        assert_eq!(performance.tier(Slot(1)), PerformanceTier::OnTime);
    }

    #[test]
    fn the_percentile_is_that_of_the_last_answers() {
        let mut performance = Performance::default();
        for millis in 1..=7 {
            performance.answered(CLASS, Slot(0), Duration::from_millis(millis));
        }
        assert_eq!(performance.p90(CLASS), None);
        for millis in 8..=10 {
            performance.answered(CLASS, Slot(0), Duration::from_millis(millis));
        }
        assert_eq!(performance.p90(CLASS), Some(Duration::from_millis(9)));
        for _ in 0..64 {
            performance.answered(CLASS, Slot(0), Duration::from_millis(100));
        }
        assert_eq!(performance.p90(CLASS), Some(Duration::from_millis(100)));
        let mean = performance.mean(EndpointClass::Read).unwrap().as_secs_f64();
        assert!((mean - 0.1).abs() < 0.001, "{mean}: of any class");
        assert_eq!(performance.classes[CLASS.index()].recent_micros.len(), RECENT);
    }

    #[test]
    fn a_clock_set_back_does_no_harm() {
        let mut performance = Performance::default();
        performance.missed(CLASS, Slot(100));
        performance.missed(CLASS, Slot(3));
        assert_eq!(performance.late(CLASS, Slot(100)), LateShare { calls: 2, late: 2 });
    }
}
