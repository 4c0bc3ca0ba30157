//! Resident memory and open files of each process over time, and whether they grow.
//!
//! Why it exists: a leak of a few bytes per request shows in no short test. What it judges: the straight line through all
//! samples of a process after its first minutes, so that one odd sample or a late warm-up does not decide.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::stage::Stage;

/// What a process may use at most, in KiB: 60 MiB is the target for a signer with 100 keys at rest, and a debug build has more.
const MOST_KIB: u64 = 200 * 1024;
/// By how much the line may rise while a process is watched, in KiB.
const GROWTH_KIB: f64 = 8.0 * 1024.0;
/// The same, of open files.
const GROWTH_FILES: f64 = 64.0;
/// What is not looked at after the start of a process: caches fill, connections open.
const WARM_UP: Duration = Duration::from_mins(3);
/// Fewer samples make no line.
const FEWEST: usize = 12;
/// Parts of the soak that the table has.
const PARTS: usize = 4;

/// One look at a process.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Since the soak began.
    at: Duration,
    kib: u64,
    files: u64,
}

/// All samples, by process name and id.
pub(crate) struct Memory {
    begin: Instant,
    samples: BTreeMap<(&'static str, u32), Vec<Sample>>,
}

impl Memory {
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), samples: BTreeMap::new() }
    }

    /// Looks at every process of Holdfast.
    pub(crate) fn take(&mut self, stage: &Stage) {
        let at = self.begin.elapsed();
        for (name, server) in stage.servers() {
            let sample = Sample { at, kib: resident(server.pid()), files: files(server.pid()) };
            self.samples.entry((name, server.pid())).or_default().push(sample);
        }
    }

    /// The processes that run now, in a line.
    pub(crate) fn line(&self, stage: &Stage) -> String {
        let last = |name, pid| self.samples.get(&(name, pid)).and_then(|samples| samples.last());
        let shown = stage
            .servers()
            .into_iter()
            .filter_map(|(name, server)| Some(format!("{name} {} MiB", last(name, server.pid())?.kib / 1024)));
        shown.collect::<Vec<_>>().join(", ")
    }

    /// Prints a table, a row for each process; what is wrong.
    pub(crate) fn judge(&self) -> Vec<String> {
        let length = self.begin.elapsed();
        let mut findings = Vec::new();
        println!("  memory in MiB, median of each quarter; growth is the slope of a line after the first minutes");
        for ((name, pid), samples) in &self.samples {
            let quarter = |number: usize| {
                let within = |sample: &&Sample| part_of(sample.at, length) == number;
                median(samples.iter().filter(within).map(|sample| sample.kib).collect())
            };
            let shown = (0..PARTS).map(|number| {
                quarter(number).map_or_else(|| "-".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0))
            });
            let most = samples.iter().map(|sample| sample.kib).max().unwrap_or_default();
            let (memory, open) = (line(samples, |sample| sample.kib), line(samples, |sample| sample.files));
            let slope = memory.map_or_else(String::new, |line| {
                format!(", {:+.0} KiB per hour over {:.0} min", line.per_hour, line.watched.as_secs_f64() / 60.0)
            });
            let last = samples.last().map(|sample| sample.files).unwrap_or_default();
            println!("  | {name} ({pid}) | {} | {last} files{slope}", shown.collect::<Vec<_>>().join(" | "));
            if most > MOST_KIB {
                findings.push(format!("{name} ({pid}) used {most} KiB"));
            }
            for (what, line, limit) in [("KiB", memory, GROWTH_KIB), ("open files", open, GROWTH_FILES)] {
                if let Some(line) = line.filter(|line| line.risen > limit) {
                    findings.push(format!("{name} ({pid}) grew by {:.0} {what} in {:?}", line.risen, line.watched));
                }
            }
        }
        findings
    }
}

/// A straight line through samples.
#[derive(Debug, Clone, Copy)]
struct Line {
    per_hour: f64,
    /// From the first sample to the last.
    risen: f64,
    watched: Duration,
}

/// Least squares over what a process had after its first minutes; `None` if that was too short.
fn line(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Option<Line> {
    let start = samples.first()?.at + WARM_UP;
    let warm: Vec<(f64, f64)> = samples
        .iter()
        .filter(|sample| sample.at >= start)
        .map(|sample| (sample.at.as_secs_f64(), value(sample) as f64))
        .collect();
    let (first, last) = (warm.first()?.0, warm.last()?.0);
    if warm.len() < FEWEST {
        return None;
    }
    let count = warm.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| warm.iter().map(of).sum::<f64>() / count;
    let (middle, level) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = warm.iter().map(|(at, _)| (at - middle).powi(2)).sum();
    let slope = warm.iter().map(|(at, value)| (at - middle) * (value - level)).sum::<f64>() / spread;
    let watched = Duration::from_secs_f64(last - first);
    Some(Line { per_hour: slope * 3600.0, risen: slope * watched.as_secs_f64(), watched })
}

/// Which part of the soak a moment lies in.
fn part_of(at: Duration, length: Duration) -> usize {
    (0..PARTS).rev().find(|number| at * 4 >= length * u32::try_from(*number).expect("a small number")).unwrap_or(0)
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How many files and sockets a process has open.
fn files(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the server runs").count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: u64, kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..count).map(|n| Sample { at: Duration::from_secs(n * 12), kib: kib(n), files: 20 }).collect()
    }

    #[test]
    fn a_leak_is_seen_through_noise_and_a_level_is_not() {
        // 12 KiB each 12 s, with noise of 500 KiB: 3.6 MiB per hour.
        let leak = line(&samples(300, |n| 30_000 + 12 * n + (n * 7919) % 500), |sample| sample.kib).unwrap();
        assert!((leak.per_hour - 3600.0).abs() < 100.0, "{leak:?}");
        let level = line(&samples(300, |n| 30_000 + (n * 7919) % 500), |sample| sample.kib).unwrap();
        assert!(level.per_hour.abs() < 100.0, "{level:?}");
    }

    #[test]
    fn the_first_minutes_do_not_count() {
        let warm = line(&samples(300, |n| 10_000 + 2_000 * n.min(15)), |sample| sample.kib).unwrap();
        assert!(warm.risen.abs() < 1.0, "{warm:?}");
        assert!(line(&samples(16, |n| n), |sample| sample.kib).is_none(), "too short for a line");
    }

    #[test]
    fn quarters() {
        let length = Duration::from_secs(100);
        let parts = [0, 24, 25, 50, 74, 75, 100].map(|second| part_of(Duration::from_secs(second), length));
        assert_eq!(parts, [0, 0, 1, 2, 2, 3, 3]);
    }
}
