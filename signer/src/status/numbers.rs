//! The numbers of this process as its metrics say them, and what follows from several readings.
//!
//! Why it exists: the status page shows what Prometheus would show, without a Prometheus. It reads the text that is
//! scraped, so the two cannot disagree, and nothing is counted a second time on the way of a signature.

use std::collections::{BTreeMap, VecDeque};

/// Rates and latencies are over this many seconds.
pub(super) const WINDOW_SECONDS: f64 = 60.0;
/// The chart goes back this many seconds.
pub(super) const CHART_SECONDS: f64 = 300.0;
/// Readings kept, whatever their distance.
const MAX_READINGS: usize = 512;

/// One line of the exposition.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    /// `name{labels} value`; `None` for comments and what is no sample.
    fn read(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, labels, rest) = match line.split_once('{') {
            // A quoted value may hold a brace; the last one closes.
            Some((name, rest)) => rest.rsplit_once('}').map(|(labels, rest)| (name, labels, rest))?,
            None => line.split_once(' ').map(|(name, rest)| (name, "", rest))?,
        };
        let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Self { name, labels, value })
    }

    /// A label whose values are words of this program.
    fn label(&self, name: &str) -> &'a str {
        self.labels
            .split(',')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
            .unwrap_or_default()
    }
}

/// A histogram: cumulative counts by upper bound.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Buckets {
    counts: Vec<(f64, f64)>,
}

impl Buckets {
    /// What came after `before`.
    fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self.clone() };
        let earlier = |index: usize| before.counts.get(index).map_or(0.0, |(_, count)| *count);
        let counts = self.counts.iter().enumerate().map(|(index, (bound, count))| (*bound, count - earlier(index)));
        Self { counts: counts.collect() }
    }

    /// How many there are.
    fn count(&self) -> f64 {
        self.counts.last().map_or(0.0, |(_, count)| *count)
    }

    /// The value below which this share lies, interpolated as Prometheus does it; `None` if there are none.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.count();
        if all <= 0.0 {
            return None;
        }
        let rank = share * all;
        let (mut below, mut from) = (0.0, 0.0);
        for (bound, count) in &self.counts {
            if *count >= rank {
                if !bound.is_finite() {
                    return Some(from);
                }
                let inside = count - below;
                let part = if inside > 0.0 { (rank - below) / inside } else { 1.0 };
                return Some(from + (bound - from) * part);
            }
            (below, from) = (*count, *bound);
        }
        Some(from)
    }
}

/// Type, result and reason of requests.
pub(super) type Ending = (String, String, String);

/// One reading.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Numbers {
    /// Requests by how they ended.
    pub(super) requests: BTreeMap<Ending, f64>,
    /// Time of a signature, by type.
    latency: BTreeMap<String, Buckets>,
    /// Time of a commit.
    commit: Buckets,
    /// Samples without labels.
    plain: BTreeMap<String, f64>,
    /// Providers of the data key, and how many of them open it.
    pub(super) providers: (usize, usize),
}

impl Numbers {
    /// Reads an exposition.
    pub(super) fn read(text: &str) -> Self {
        let mut numbers = Self::default();
        for sample in text.lines().filter_map(Sample::read) {
            match sample.name {
                "holdfast_signing_requests_total" => {
                    let label = |name| sample.label(name).to_owned();
                    numbers.requests.insert((label("type"), label("result"), label("reason")), sample.value);
                }
                "holdfast_signing_stage_seconds_bucket" if sample.label("stage") == "total" => {
                    let buckets = numbers.latency.entry(sample.label("type").to_owned()).or_default();
                    buckets.counts.push((bound(sample.label("le")), sample.value));
                }
                "holdfast_slashing_commit_seconds_bucket" => {
                    numbers.commit.counts.push((bound(sample.label("le")), sample.value));
                }
                "holdfast_provider_usable" => {
                    numbers.providers.0 = numbers.providers.0.saturating_add(1);
                    numbers.providers.1 = numbers.providers.1.saturating_add(usize::from(sample.value > 0.0));
                }
                name if sample.labels.is_empty() => {
                    numbers.plain.insert(name.to_owned(), sample.value);
                }
                _ => {}
            }
        }
        numbers
    }

    /// A sample without labels.
    pub(super) fn plain(&self, name: &str) -> Option<f64> {
        self.plain.get(name).copied()
    }

    /// Signatures made, of this type or of all.
    fn signed(&self, kind: Option<&str>) -> f64 {
        let wanted = |((of, result, _), _): &(&Ending, &f64)| result == "signed" && kind.is_none_or(|kind| kind == of);
        self.requests.iter().filter(wanted).map(|(_, count)| count).sum()
    }
}

/// The upper bound of a bucket.
fn bound(text: &str) -> f64 {
    text.parse().unwrap_or(f64::INFINITY)
}

/// What one type of message did lately.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KindView {
    /// Its name.
    pub(super) kind: String,
    /// Signatures since the start of the process.
    pub(super) signed: f64,
    /// Signatures per second, over the window.
    pub(super) rate: f64,
    /// Median in seconds, over the window.
    pub(super) median: Option<f64>,
    /// 99th percentile in seconds, over the window.
    pub(super) slow: Option<f64>,
}

/// The readings of the last minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Whole readings of the window, with the second they were made.
    readings: VecDeque<(f64, Numbers)>,
    /// Signatures per second between two readings, for longer.
    rates: VecDeque<(f64, f64)>,
}

impl History {
    /// Adds a reading made at this second of the process.
    pub(super) fn add(&mut self, at: f64, numbers: Numbers) {
        if let Some((before, earlier)) = self.readings.back() {
            let time = at - before;
            if time <= 0.0 {
                return;
            }
            self.rates.push_back((at, (numbers.signed(None) - earlier.signed(None)) / time));
        }
        self.readings.push_back((at, numbers));
        // One reading from before the window stays: differences begin there.
        while self.readings.get(1).is_some_and(|(time, _)| *time <= at - WINDOW_SECONDS)
            || self.readings.len() > MAX_READINGS
        {
            self.readings.pop_front();
        }
        while self.rates.front().is_some_and(|(time, _)| *time < at - CHART_SECONDS) || self.rates.len() > MAX_READINGS
        {
            self.rates.pop_front();
        }
    }

    /// The last reading.
    pub(super) fn latest(&self) -> Option<&Numbers> {
        self.readings.back().map(|(_, numbers)| numbers)
    }

    /// Signatures per second, as seconds before the last reading and rate, oldest first.
    pub(super) fn chart(&self) -> Vec<(f64, f64)> {
        let end = self.readings.back().map_or(0.0, |(at, _)| *at);
        self.rates.iter().map(|(at, rate)| (end - at, *rate)).collect()
    }

    /// Both ends of the window and the seconds between them.
    fn window(&self) -> Option<(&Numbers, &Numbers, f64)> {
        let ((from, first), (to, last)) = (self.readings.front()?, self.readings.back()?);
        (to > from).then_some((first, last, to - from))
    }

    /// Signatures per second over the window.
    pub(super) fn rate(&self) -> f64 {
        self.window().map_or(0.0, |(first, last, time)| (last.signed(None) - first.signed(None)) / time)
    }

    /// 99th percentile of commits over the window, in seconds.
    pub(super) fn slow_commit(&self) -> Option<f64> {
        let (first, last, _) = self.window()?;
        last.commit.since(Some(&first.commit)).quantile(0.99)
    }

    /// Every type of which there were signatures since the start, busiest first.
    pub(super) fn kinds(&self) -> Vec<KindView> {
        let Some(last) = self.latest() else { return Vec::new() };
        let mut kinds: Vec<KindView> = last
            .latency
            .iter()
            .filter(|(_, buckets)| buckets.count() > 0.0)
            .map(|(kind, buckets)| {
                let window = self.window();
                let recent = buckets.since(window.and_then(|(first, _, _)| first.latency.get(kind)));
                KindView {
                    kind: kind.clone(),
                    signed: last.signed(Some(kind)),
                    rate: window
                        .map_or(0.0, |(first, last, time)| (last.signed(Some(kind)) - first.signed(Some(kind))) / time),
                    median: window.and_then(|_| recent.quantile(0.5)),
                    slow: window.and_then(|_| recent.quantile(0.99)),
                }
            })
            .collect();
        kinds.sort_by(|one, other| other.signed.total_cmp(&one.signed));
        kinds
    }

    /// How requests ended that got no signature: all, and those of the window. The newest and most frequent first.
    pub(super) fn unsigned(&self) -> Vec<(Ending, f64, f64)> {
        let Some(last) = self.latest() else { return Vec::new() };
        let first = self.window().map(|(first, _, _)| first);
        let mut endings: Vec<(Ending, f64, f64)> = last
            .requests
            .iter()
            .filter(|((_, result, _), count)| result != "signed" && **count > 0.0)
            .map(|(ending, count)| {
                let before = first.map_or(*count, |first| first.requests.get(ending).copied().unwrap_or(0.0));
                (ending.clone(), *count, count - before)
            })
            .collect();
        endings.sort_by(|one, other| other.2.total_cmp(&one.2).then(other.1.total_cmp(&one.1)));
        endings
    }
}

#[cfg(test)]
mod tests {
    //! Proves: what is scraped is read as it is, and rates and percentiles are those of the window.
    use super::*;

    fn text(signed: u32, refused: u32, fast: u32) -> String {
        format!(
            "# HELP holdfast_signing_requests Signing requests\n# TYPE holdfast_signing_requests counter\n\
             holdfast_signing_requests_total{{type=\"block\",result=\"signed\",reason=\"\"}} {signed}\n\
             holdfast_signing_requests_total{{type=\"block\",result=\"refused\",reason=\"double_block\"}} {refused}\n\
             holdfast_signing_stage_seconds_bucket{{le=\"0.001\",stage=\"total\",type=\"block\"}} {fast}\n\
             holdfast_signing_stage_seconds_bucket{{le=\"0.002\",stage=\"total\",type=\"block\"}} {signed}\n\
             holdfast_signing_stage_seconds_bucket{{le=\"+Inf\",stage=\"total\",type=\"block\"}} {signed}\n\
             holdfast_signing_stage_seconds_bucket{{le=\"0.001\",stage=\"hash\",type=\"block\"}} 99\n\
             holdfast_provider_usable{{provider=\"file\",place=\"0\"}} 1\n\
             holdfast_provider_usable{{provider=\"aws-kms\",place=\"1\"}} 0\n\
             holdfast_keys_loaded 7\n# EOF\n"
        )
    }

    #[test]
    fn a_window_has_rates_and_percentiles() {
        let mut history = History::default();
        assert!(history.kinds().is_empty() && history.latest().is_none());
        history.add(0.0, Numbers::read(&text(0, 1, 0)));
        assert!(history.unsigned()[0].2 <= 0.0, "nothing is known to be recent after one reading");
        history.add(2.0, Numbers::read(&text(10, 1, 5)));
        history.add(4.0, Numbers::read(&text(20, 3, 10)));
        let kinds = history.kinds();
        assert_eq!(kinds.len(), 1);
        assert_eq!((kinds[0].signed, kinds[0].rate), (20.0, 5.0));
        assert!((kinds[0].median.unwrap() - 0.001).abs() < 1e-9);
        assert!((kinds[0].slow.unwrap() - 0.00198).abs() < 1e-9);
        let ending = ("block".to_owned(), "refused".to_owned(), "double_block".to_owned());
        assert_eq!(history.unsigned(), [(ending, 3.0, 2.0)]);
        assert_eq!(history.chart(), [(2.0, 5.0), (0.0, 5.0)]);
        assert_eq!(history.latest().unwrap().plain("holdfast_keys_loaded"), Some(7.0));
        assert_eq!(history.latest().unwrap().providers, (2, 1));
    }

    #[test]
    fn readings_are_forgotten() {
        let mut history = History::default();
        for second in 0..1_000u32 {
            history.add(f64::from(second), Numbers::read(&text(second, 0, second)));
        }
        assert_eq!(history.readings.len(), 61);
        assert_eq!(history.rates.len(), 301);
        assert!((history.rate() - 1.0).abs() < 1e-9);
        history.add(999.0, Numbers::default());
        assert_eq!(history.readings.len(), 61, "no time has passed");
    }

    #[test]
    fn quantiles_without_or_beyond_buckets() {
        assert_eq!(Buckets::default().quantile(0.5), None);
        let slow = Buckets { counts: vec![(1.0, 0.0), (f64::INFINITY, 4.0)] };
        assert_eq!(slow.quantile(0.5), Some(1.0), "the highest bound there is");
    }
}
