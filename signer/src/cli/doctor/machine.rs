//! What is the machine's: filesystem, disk space, clock synchronisation, locked memory, ports.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use holdfast_domain::Network;
use holdfast_enclave::{DataKey, LockStatus, lock_status};
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::config::{Config, SigningBackend};
use crate::http::server::likely_holder;
use crate::vault::Backend;

/// Below this the disk may fill before anyone looks.
const LITTLE_SPACE: u64 = 1 << 30;

/// Below this a busy signer may stop within hours.
const NO_SPACE: u64 = 64 << 20;

/// Locked memory for a handful of keys; many keys need more.
const LITTLE_MEMORY: u64 = 1 << 20;

/// The nearest directory above the database that exists.
fn existing(config: &Config) -> PathBuf {
    let database = config.database().ok();
    let path = database.as_ref().and_then(|database| database.file()).unwrap_or(config.data_dir()).to_owned();
    let found = path.ancestors().find(|dir| !dir.as_os_str().is_empty() && dir.exists()).map(Path::to_owned);
    found.unwrap_or_else(|| PathBuf::from("."))
}

/// Whether the database is on a disk whose locks and syncs can be trusted.
pub(super) fn filesystem(config: &Config) -> Finding {
    let place = existing(config);
    let stat = match rustix::fs::statfs(&place) {
        Ok(stat) => stat,
        Err(error) => {
            return Finding::warn("filesystem", format!("{} cannot be examined: {error}", place.display()), "");
        }
    };
    // The kernel's numbers have 32 bits; the field is wider, and signed on some machines.
    let magic = u64::try_from(i128::from(stat.f_type) & 0xffff_ffff).unwrap_or_default();
    judge_filesystem(&place, magic)
}

/// Names by the `f_type` of statfs(2).
fn judge_filesystem(place: &Path, magic: u64) -> Finding {
    let at = |name: &str| format!("{} is on {name}", place.display());
    let local = |name: &str| Finding::fine("filesystem", at(name));
    let network = |name: &str| {
        Finding::fail(
            "filesystem",
            at(name),
            "move the data directory to a local disk: locks and syncs cannot be trusted there",
        )
    };
    let forgets = |name: &str| {
        Finding::warn("filesystem", at(name), "move the data directory to a disk or volume that outlives a restart")
    };
    match magic {
        0xef53 => local("ext4"),
        0x5846_5342 => local("xfs"),
        0x9123_683e => local("btrfs"),
        0xf2f5_2010 => local("f2fs"),
        0x2fc1_2fc1 => local("zfs"),
        0x0102_1994 => forgets("tmpfs"),
        0x8584_58f6 => forgets("ramfs"),
        0x794c_7630 => forgets("overlayfs, a container's own layer"),
        0x6969 => network("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => network("SMB"),
        0x6573_5546 => network("FUSE"),
        0x0102_1997 => network("9P"),
        0x00c3_6400 => network("Ceph"),
        other => local(&format!("a filesystem of type {other:#x}")),
    }
}

/// Whether the journal has room to grow.
pub(super) fn disk_space(config: &Config) -> Finding {
    let place = existing(config);
    match rustix::fs::statvfs(&place) {
        Ok(stat) => judge_space(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => Finding::warn("disk_space", format!("{} cannot be examined: {error}", place.display()), ""),
    }
}

fn judge_space(free: u64) -> Finding {
    let evidence = format!("{} MiB free", free >> 20);
    if free < NO_SPACE {
        Finding::fail(
            "disk_space",
            evidence,
            "make room: without it nothing can be recorded, and then nothing is signed",
        )
    } else if free < LITTLE_SPACE {
        Finding::warn("disk_space", evidence, "make room before the journal needs it")
    } else {
        Finding::fine("disk_space", evidence)
    }
}

/// Whether something keeps the clock right, where the system tells.
pub(super) fn synchronised() -> Finding {
    // systemd-timesyncd leaves this file once it has set the clock; chrony and ntpd have their own sockets.
    let signs = [
        "/run/systemd/timesync/synchronized",
        "/run/chrony/chronyd.sock",
        "/run/chronyd.pid",
        "/run/ntpd.pid",
        "/var/run/ntpd.pid",
    ];
    match signs.iter().find(|path| Path::new(path).exists()) {
        Some(sign) => Finding::fine("clock_sync", format!("the clock is kept by a service ({sign})")),
        None => Finding::warn(
            "clock_sync",
            "no time service was found on this machine",
            "run chrony or systemd-timesyncd, unless the host keeps this machine's clock",
        ),
    }
}

/// Whether secrets can be kept out of swap.
pub(super) fn memory_lock() -> Vec<Finding> {
    // Locking happens with the first secret; one is made and dropped here so that there is a result.
    if let Err(error) = DataKey::generate() {
        return vec![Finding::fail("memory_lock", "no memory for secrets", crate::outcome::chain(&error))];
    }
    let limit = getrlimit(Resource::Memlock).current;
    vec![match lock_status() {
        LockStatus::Unlocked { reason } => {
            Finding::warn("memory_lock", "secrets cannot be locked in memory", reason.to_string())
        }
        LockStatus::Locked => judge_memory(limit),
    }]
}

/// Whether memory is kept out of core dumps and away from debuggers.
pub(super) fn dumps() -> Finding {
    match holdfast_enclave::harden_process() {
        Ok(()) => Finding::fine("dumps", "no core dumps, no debuggers of the same user"),
        Err(error) => Finding::warn(
            "dumps",
            crate::outcome::chain(&error),
            "let the sandbox or container allow prctl and setrlimit",
        ),
    }
}

/// Which protections a vault process has here: one is started, without keys, and ended.
pub(super) fn vault(config: &Config, network: Option<&Network>) -> Option<Finding> {
    let network = network.filter(|network| network.slot_clock().is_some());
    let (SigningBackend::Process, Some(network)) = (config.signing.backend, network) else { return None };
    let backend = match Backend::start(config, network) {
        Ok(backend) => backend,
        Err(error) => {
            return Some(Finding::fail(
                "vault",
                crate::outcome::chain(&error),
                "mend that: nothing is signed without it",
            ));
        }
    };
    let (on, off) = backend.protections();
    backend.shutdown();
    Some(if off.is_empty() {
        Finding::fine("vault", format!("starts, with {}", on.join(", ")))
    } else {
        let evidence = format!("starts, with {}, without {}", on.join(", "), off.join(", "));
        Finding::warn(
            "vault",
            evidence,
            "use a newer kernel, or let the container allow it; signing.require_protections refuses to sign without",
        )
    })
}

fn judge_memory(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < LITTLE_MEMORY => Finding::warn(
            "memory_lock",
            format!("secrets are locked in memory, but only {} KiB may be", limit >> 10),
            "raise the limit for many keys (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited)",
        ),
        Some(limit) => Finding::fine("memory_lock", format!("secrets are locked in memory, up to {} KiB", limit >> 10)),
        None => Finding::fine("memory_lock", "secrets are locked in memory, without limit"),
    }
}

/// Whether an address can be listened on.
pub(super) fn port(id: &'static str, setting: &str, address: SocketAddr, server_runs: bool) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::fine(id, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && server_runs => {
            Finding::fine(id, format!("{address} is in use, which is right while the server runs"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::fail(
            id,
            format!("{address} is in use by another program"),
            format!("{}; stop it, or choose another port with {setting}", likely_holder(address.port())),
        ),
        Err(error) => Finding::fail(
            id,
            format!("{address} cannot be listened on: {error}"),
            format!("choose another address with {setting}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn filesystems_are_judged() {
        let verdict = |magic| judge_filesystem(Path::new("/x"), magic).verdict;
        assert_eq!(verdict(0xef53), Verdict::Fine);
        assert_eq!(verdict(0x0102_1994), Verdict::Warn);
        assert_eq!(verdict(0x6969), Verdict::Fail);
        assert_eq!(verdict(0x1234), Verdict::Fine);
    }

    #[test]
    fn space_and_memory_are_judged() {
        assert_eq!(judge_space(NO_SPACE - 1).verdict, Verdict::Fail);
        assert_eq!(judge_space(NO_SPACE).verdict, Verdict::Warn);
        assert_eq!(judge_space(LITTLE_SPACE).verdict, Verdict::Fine);
        assert_eq!(judge_memory(Some(65_536)).verdict, Verdict::Warn);
        assert_eq!(judge_memory(None).verdict, Verdict::Fine);
    }

    #[test]
    fn a_port_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let finding = port("http_port", "http.listen (--http-listen)", address, false);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.evidence.contains(&address.to_string()) && finding.mend.contains("--http-listen"));
        assert_eq!(port("http_port", "x", address, true).verdict, Verdict::Fine);
        drop(listener);
        assert_eq!(port("http_port", "x", address, false).verdict, Verdict::Fine);
    }

    #[test]
    fn the_directory_that_will_hold_the_database_is_judged_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.dir = dir.path().join("not/yet");
        assert_eq!(existing(&config), dir.path());
    }
}
