//! The processes of one server, found by their working folder (PostgreSQL's processes all stand in
//! the data folder), and the reaper that removes everything when its owner is gone.
//!
//! A process is only ever signalled because it stands in a folder this test made.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// How long the operating system may take to carry out a signal.
const SIGNAL_LIMIT: Duration = Duration::from_secs(30);

/// Waits until the condition holds; panics with what was awaited.
pub(super) fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes whose working folder is `folder`. Dead ones have none.
pub(super) fn standing_in(folder: &Path) -> Vec<Pid> {
    std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .filter(|process| stands_in(*process, folder))
        .collect()
}

/// Sends a signal; a process that is already gone is fine.
pub(super) fn signal(process: Pid, signal: Signal) {
    let _ = kill_process(process, signal);
}

/// The same, unless the number belongs to a process elsewhere by now.
pub(super) fn signal_in(folder: &Path, process: Pid, signal: Signal) {
    if let Ok(handle) = pidfd_open(process, PidfdFlags::empty())
        && stands_in(process, folder)
    {
        let _ = pidfd_send_signal(handle, signal);
    }
}

fn stands_in(process: Pid, folder: &Path) -> bool {
    std::fs::read_link(format!("/proc/{}/cwd", process.as_raw_nonzero())).is_ok_and(|cwd| cwd == folder)
}

/// Kills the first process, then everything else in the folder, and returns when nothing is left.
pub(super) fn kill_all(first: Pid, folder: &Path) {
    signal(first, Signal::KILL);
    until("the killed processes are gone", SIGNAL_LIMIT, || {
        let left = standing_in(folder);
        for process in &left {
            signal_in(folder, *process, Signal::KILL);
        }
        left.is_empty().then_some(())
    });
}

/// Stops the first process, so that no new ones appear, then the others; returns when all stand still.
pub(super) fn freeze_all(first: Pid, folder: &Path) {
    signal(first, Signal::STOP);
    until("the stopped processes stand still", SIGNAL_LIMIT, || {
        let moving: Vec<Pid> = standing_in(folder).into_iter().filter(|process| !stands_still(*process)).collect();
        for process in &moving {
            signal_in(folder, *process, Signal::STOP);
        }
        moving.is_empty().then_some(())
    });
}

/// Lets all go on.
pub(super) fn thaw_all(folder: &Path) {
    for process in standing_in(folder) {
        signal_in(folder, process, Signal::CONT);
    }
}

fn stands_still(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    // State is the first field after the name, which is in brackets and may hold anything.
    matches!(stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes().first()), None | Some(Some(b'T' | b't' | b'Z')))
}

/// Frees the shared memory segment a killed server left, named in its pid file.
pub(super) fn free_shared_memory(pid_file: &Path) {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    if let Some(id) = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        let _ = Command::new("ipcrm").args(["-m", id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Removes a cluster's folder and processes as soon as its standard input closes. That happens when
/// the cluster is dropped and also when the test process dies in any way, so nothing outlives it,
/// not even a frozen backend. (The parent-death signal would not do: it fires when the *thread* that
/// started the server ends, and tests share servers between threads.)
const REAPER: &str = r#"
trap '' HUP INT TERM
root=$1
cat >/dev/null
here() { find /proc/[0-9]* -maxdepth 1 -name cwd \( -lname "$root" -o -lname "$root/*" \) 2>/dev/null | cut -d/ -f3; }
rounds=0
while left=$(here) && [ -n "$left" ] && [ "$rounds" -lt 200 ]; do
    kill -KILL $left 2>/dev/null
    rounds=$((rounds + 1))
    sleep 0.02
done
segment=$(sed -n '7s/^ *[0-9]* *//p' "$root/disk/data/postmaster.pid" 2>/dev/null)
[ -n "$segment" ] && ipcrm -m "$segment" 2>/dev/null
if mountpoint -q "$root/disk"; then umount "$root/disk" || sudo -n umount "$root/disk"; fi
rm -rf "$root"
"#;

/// Owner of one temporary folder.
pub(super) struct Reaper {
    child: Child,
    pub(super) root: PathBuf,
}

impl Reaper {
    /// Makes the folder.
    pub(super) fn new(parent: &Path) -> Self {
        // As the kernel names it, to find the processes in it.
        let parent = parent.canonicalize().expect("the folder for temporary files exists");
        let root =
            tempfile::Builder::new().prefix("holdfast-pg-").tempdir_in(parent).expect("a temporary folder").keep();
        let child = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(&root)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Self { child, root }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            let _ = input.flush();
        }
        let _ = self.child.wait();
    }
}
