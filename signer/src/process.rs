//! What the system knows of this process, under the names that every dashboard knows: `process_cpu_seconds_total` and
//! its kin. Read when scraped, from `/proc`; what the system does not tell is left out.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, getrlimit};

/// Clock ticks per second in `/proc`, which Linux shows to programs as 100 whatever the kernel uses.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the numbers of this process to a registry.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

/// Reads when asked.
#[derive(Debug)]
struct Process;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Facts {
    cpu_seconds: f64,
    started: f64,
    resident: u64,
    virtual_memory: u64,
    threads: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(facts) = facts() {
            counter(&mut encoder, "process_cpu_seconds", "Processor time used", facts.cpu_seconds)?;
            let started = "When the process started, Unix time";
            gauge(&mut encoder, "process_start_time_seconds", started, facts.started)?;
            gauge(&mut encoder, "process_resident_memory_bytes", "Memory in use", float(facts.resident))?;
            let reserved = "Address space reserved";
            gauge(&mut encoder, "process_virtual_memory_bytes", reserved, float(facts.virtual_memory))?;
            gauge(&mut encoder, "process_threads", "Threads", float(facts.threads))?;
        }
        if let Some(open) = open_files() {
            gauge(&mut encoder, "process_open_fds", "Open files and connections", float(open))?;
        }
        match getrlimit(Resource::Nofile).current {
            Some(most) => {
                gauge(&mut encoder, "process_max_fds", "Most files and connections open at once", float(most))
            }
            None => Ok(()),
        }
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), std::fmt::Error> {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> Result<(), std::fmt::Error> {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of a process are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

fn open_files() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself is one of them while it is read.
    u64::try_from(open).ok()?.checked_sub(1)
}

fn facts() -> Option<Facts> {
    let file = |path| std::fs::read_to_string(path).ok();
    read(&file("/proc/self/stat")?, &file("/proc/self/status")?, &file("/proc/stat")?)
}

/// The fields of `stat` are counted from after the name, which is in brackets and may hold anything.
fn read(stat: &str, status: &str, system: &str) -> Option<Facts> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Numbered as in proc(5), where the first field after the name is the third.
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next());
    let kib = |name: &str| line(name)?.parse::<u64>().ok()?.checked_mul(1024);
    let boot: u64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Facts {
        cpu_seconds: float(field(14)?.checked_add(field(15)?)?) / TICKS_PER_SECOND,
        started: float(boot) + float(field(22)?) / TICKS_PER_SECOND,
        resident: kib("VmRSS:")?,
        virtual_memory: kib("VmSize:")?,
        threads: field(20)?,
    })
}

#[cfg(test)]
mod tests {
    //! Proves: the fields are the right ones, and this process has them.
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 7 0 1000 4096000 250 184467";
        let status = "Name:\ta) b\nVmSize:\t    4000 kB\nVmRSS:\t    1000 kB\n";
        let facts = read(stat, status, "cpu 1 2 3\nbtime 1700000000\nprocesses 9\n").unwrap();
        let wanted = Facts {
            cpu_seconds: 2.0,
            started: 1_700_000_010.0,
            resident: 1_024_000,
            virtual_memory: 4_096_000,
            threads: 7,
        };
        assert_eq!(facts, wanted);
        assert_eq!(read("nonsense", "", ""), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_measured() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE process_cpu_seconds counter",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
            "process_open_fds ",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "no {line} in\n{text}");
        }
    }
}
