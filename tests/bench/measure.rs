//! Clocks and statistics.

use std::fs;
use std::time::Duration;

use blst::min_pk::SecretKey;
use holdfast_tests::keys::{DST, TestKey};

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPU time all threads of a process have used, from the scheduler's own nanosecond account.
pub(crate) fn cpu_of(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    let nanoseconds = tasks
        .filter_map(|task| fs::read_to_string(task.expect("task").path().join("schedstat")).ok())
        .map(|text| text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).expect("schedstat"))
        .sum();
    Duration::from_nanos(nanoseconds)
}

/// The most memory a process has used so far, in MiB; `None` once it has ended.
pub(crate) fn peak_memory(pid: u32) -> Option<f64> {
    memory_line(pid, "VmHWM:").map(|kibibytes| kibibytes as f64 / 1024.0)
}

/// The memory a process has resident now, in KiB; `None` once it has ended.
pub(crate) fn memory_now(pid: u32) -> Option<u64> {
    memory_line(pid, "VmRSS:")
}

fn memory_line(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("nanoseconds"))
}

/// Plain `blst` signatures of distinct messages on all cores at once.
#[derive(Default)]
pub(crate) struct PlainSign {
    signatures: u64,
    cpu: Duration,
}

impl PlainSign {
    /// Signs `count` distinct messages on each core.
    pub(crate) fn run(&mut self, count: u64) {
        let first = self.signatures;
        let spent: Vec<Duration> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores() as u64)
                .map(|thread| {
                    scope.spawn(move || sign_many(&TestKey::interop(thread).secret, first + thread * count, count))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread ends")).collect()
        });
        self.signatures += count * spent.len() as u64;
        self.cpu += spent.into_iter().sum();
    }

    /// Seconds of CPU for one signature.
    pub(crate) fn per_signature(&self) -> f64 {
        self.cpu.as_secs_f64() / self.signatures as f64
    }

    /// Seconds that all cores together need for `count` signatures.
    pub(crate) fn time_of(&self, count: u64) -> f64 {
        self.per_signature() * count as f64 / cores() as f64
    }

    /// Signatures made.
    pub(crate) fn count(&self) -> u64 {
        self.signatures
    }
}

fn sign_many(secret: &SecretKey, first: u64, count: u64) -> Duration {
    let before = thread_cpu();
    for number in first..first + count {
        let mut message = [0u8; 32];
        message[..8].copy_from_slice(&number.to_le_bytes());
        std::hint::black_box(secret.sign(&message, DST, &[]).to_bytes());
    }
    thread_cpu().saturating_sub(before)
}

/// What the bursts of one kind showed.
#[derive(Default)]
pub(crate) struct Latencies {
    times: Vec<Duration>,
    longest: Vec<Duration>,
    cpu: Duration,
}

impl Latencies {
    /// Adds one burst.
    pub(crate) fn add(&mut self, times: Vec<Duration>, cpu: Duration) {
        self.longest.extend(times.iter().max().copied());
        self.times.extend(times);
        self.cpu += cpu;
    }

    /// The latency in milliseconds that this share of all requests stayed below.
    pub(crate) fn at(&mut self, share: f64) -> f64 {
        self.times.sort();
        let index = ((self.times.len() - 1) as f64 * share).round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index within the list")]
        let index = index as usize;
        self.times[index].as_secs_f64() * 1e3
    }

    /// Prints one line.
    pub(crate) fn print(&mut self, name: &str, plain: &PlainSign, target: f64) {
        self.longest.sort();
        let per_signature = self.cpu.as_secs_f64() / self.times.len() as f64;
        let burst = plain.time_of((self.times.len() / self.longest.len()) as u64) * 1e3;
        println!(
            "{name:<26} {:>8.1} us CPU per signature, ratio {:.3} (target {target}); latency in the burst: p50 {:.1} ms, p99 {:.1} ms, \
             max {:.1} ms; median burst {:.1} ms; p99 / plain blst of the burst ({burst:.1} ms) {:.3} (target 0.9)",
            per_signature * 1e6,
            per_signature / plain.per_signature(),
            self.at(0.5),
            self.at(0.99),
            self.at(1.0),
            self.longest[self.longest.len() / 2].as_secs_f64() * 1e3,
            self.at(0.99) / burst
        );
    }
}
