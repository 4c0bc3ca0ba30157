//! How many keystores may be decrypted at once: scrypt takes 256 MiB for each, and a signer that is
//! killed for memory half way through an import is worse than a slow one.
//!
//! Guarantees: the derivations running at any time fit the budget together, unless one alone exceeds it,
//! which then runs alone; never more at once than there are threads.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// An amount of memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MemorySize(pub u64);

impl MemorySize {
    /// This many MiB.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count.saturating_mul(1024 * 1024))
    }
}

/// Memory and threads that key derivations may use together.
#[derive(Debug)]
pub struct KdfBudget {
    memory: MemorySize,
    threads: NonZeroUsize,
    used: Mutex<Used>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Used {
    memory: u64,
    running: usize,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
#[must_use = "the share is given back when this is dropped"]
pub struct Lease<'a> {
    budget: &'a KdfBudget,
    need: u64,
}

impl KdfBudget {
    /// A budget of this size.
    pub fn new(memory: MemorySize, threads: NonZeroUsize) -> Self {
        Self { memory, threads, used: Mutex::default(), freed: Condvar::new() }
    }

    /// Half of what this process may use: of the memory available now (`/proc/meminfo`) and of the limits
    /// of its control group, whichever is least; and as many threads as cores.
    pub fn detect() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::new(allowance(Path::new("/")), threads)
    }

    /// The memory of the budget.
    pub const fn memory(&self) -> MemorySize {
        self.memory
    }

    /// The most derivations at once.
    pub const fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// Waits until a derivation that needs this much memory may run. Blocks the thread.
    pub fn acquire(&self, need: MemorySize) -> Lease<'_> {
        let MemorySize(need) = need;
        let mut used =
            self.freed.wait_while(self.used(), |used| !self.admits(used, need)).unwrap_or_else(PoisonError::into_inner);
        used.memory = used.memory.saturating_add(need);
        used.running = used.running.saturating_add(1);
        Lease { budget: self, need }
    }

    fn admits(&self, used: &Used, need: u64) -> bool {
        let fits = used.memory.saturating_add(need) <= self.memory.0;
        used.running == 0 || (used.running < self.threads.get() && fits)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Nothing below panics while it holds the lock, so a poisoned one is still consistent.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut used = self.budget.used();
        used.memory = used.memory.saturating_sub(self.need);
        used.running = used.running.saturating_sub(1);
        drop(used);
        self.budget.freed.notify_all();
    }
}

/// Half of the least of the limits found under `root`. With none found, 512 MiB: two derivations.
fn allowance(root: &Path) -> MemorySize {
    let available = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| available(&text));
    let least = control_group_limits(root).into_iter().chain(available).min();
    MemorySize(least.map_or(MemorySize::mebibytes(512).0, |bytes| bytes / 2))
}

/// `MemAvailable` in bytes (proc_meminfo(5): in kB).
fn available(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of this process's control group and those above it (cgroups(7), versions 2 and 1).
fn control_group_limits(root: &Path) -> Vec<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files = vec![
        // In a container the group is usually mounted as the root.
        root.join("sys/fs/cgroup/memory.max"),
        root.join("sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let group = group.trim_start_matches('/');
        if controllers.is_empty() {
            files.extend(up(&root.join("sys/fs/cgroup"), group, "memory.max"));
        } else if controllers.split(',').any(|name| name == "memory") {
            files.extend(up(&root.join("sys/fs/cgroup/memory"), group, "memory.limit_in_bytes"));
        }
    }
    // "max", a missing file and version 1's huge number all mean no limit; the last loses to any other.
    files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
}

fn up(mount: &Path, group: &str, file: &str) -> Vec<PathBuf> {
    Path::new(group).ancestors().map(|group| mount.join(group).join(file)).collect()
}

#[cfg(test)]
mod tests {
    //! Proved here: the least limit wins; the budget is never exceeded, except by one that runs alone.

    use std::io::Write;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::*;

    fn put(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    const MEMINFO: &str = "MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n";

    #[test]
    fn half_of_the_least_limit_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(allowance(root), MemorySize::mebibytes(512), "nothing is known");
        put(root, "proc/meminfo", MEMINFO);
        assert_eq!(allowance(root), MemorySize::mebibytes(2048));
        put(root, "proc/self/cgroup", "0::/kubepods/pod1/c2\n");
        put(root, "sys/fs/cgroup/memory.max", "max\n");
        assert_eq!(allowance(root), MemorySize::mebibytes(2048));
        put(root, "sys/fs/cgroup/kubepods/pod1/memory.max", "1073741824\n");
        assert_eq!(allowance(root), MemorySize::mebibytes(512), "a group above has the limit");
        put(root, "sys/fs/cgroup/kubepods/pod1/c2/memory.max", "536870912\n");
        assert_eq!(allowance(root), MemorySize::mebibytes(256));
    }

    #[test]
    fn version_1_groups_count_too() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "proc/meminfo", MEMINFO);
        put(dir.path(), "proc/self/cgroup", "5:cpu,memory:/a\n4:pids:/b\n");
        put(dir.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(allowance(dir.path()), MemorySize::mebibytes(2048));
        put(dir.path(), "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(allowance(dir.path()), MemorySize::mebibytes(512));
    }

    #[test]
    fn this_machine_has_an_allowance() {
        assert!(KdfBudget::detect().memory() > MemorySize::default());
    }

    #[test]
    fn the_budget_holds_under_contention() {
        let budget = KdfBudget::new(MemorySize(100), NonZeroUsize::new(3).unwrap());
        let (memory, running) = (AtomicU64::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (budget, memory, running) = (&budget, &memory, &running);
                scope.spawn(move || {
                    for round in 0..200_u64 {
                        // Some of these exceed the whole budget.
                        let need = (thread * 37 + round * 13) % 130;
                        let lease = budget.acquire(MemorySize(need));
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        let total = memory.fetch_add(need, Ordering::SeqCst) + need;
                        assert!(now <= 3);
                        assert!(total <= 100 || now == 1, "{total} bytes by {now}");
                        memory.fetch_sub(need, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(lease);
                    }
                });
            }
        });
    }

    #[test]
    fn a_derivation_larger_than_the_budget_runs_alone() {
        let budget = KdfBudget::new(MemorySize(10), NonZeroUsize::new(4).unwrap());
        let lease = budget.acquire(MemorySize(1000));
        assert!(!budget.admits(&budget.used(), 1));
        drop(lease);
        let small = budget.acquire(MemorySize(4));
        assert!(budget.admits(&budget.used(), 6) && !budget.admits(&budget.used(), 7));
        drop(small);
    }
}
