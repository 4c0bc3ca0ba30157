//! Memory regions for secrets, straight from the kernel.
//!
//! A [`Region`] is private anonymous memory with an inaccessible guard page on each side. It is
//! locked (never swapped), left out of core dumps, and absent from forked children; when it is
//! dropped it is zeroed and unmapped. Mapping must succeed; locking is best effort, because the
//! default `RLIMIT_MEMLOCK` of many systems is small, and the outcome is returned to be reported.
//!
//! After [`use_secret_memory`] the memory is that of memfd_secret(2): taken out of the kernel's own map of memory,
//! so that it cannot be read through `/proc/PID/mem` or process_vm_readv(2), by root neither.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroize;

use crate::error::SysError;

/// Whether memory that holds secrets is protected from swap and core dumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockStatus {
    /// Every region mapped so far is locked and left out of core dumps.
    Locked,
    /// At least one region was used without full protection. Stays so until the process ends.
    Unlocked {
        /// What the first failure was.
        reason: LockFailure,
    },
}

impl fmt::Display for LockStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("secret memory is locked"),
            Self::Unlocked { reason } => write!(f, "secret memory is not locked: {reason}"),
        }
    }
}

/// Why a region could not be protected. `Display` says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFailure {
    /// `mlock` would exceed the limit on locked memory.
    MemlockLimit {
        /// Soft `RLIMIT_MEMLOCK` when it failed, in bytes.
        limit_bytes: u64,
    },
    /// `mlock` failed for another reason.
    Mlock {
        /// The system's error number.
        errno: i32,
    },
    /// `madvise` refused to keep the region out of core dumps or forked children.
    Advice {
        /// The system's error number.
        errno: i32,
    },
}

impl fmt::Display for LockFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemlockLimit { limit_bytes } => write!(
                f,
                "RLIMIT_MEMLOCK allows {limit_bytes} bytes; raise it (systemd: \
                 LimitMEMLOCK=infinity) or grant CAP_IPC_LOCK, then restart"
            ),
            Self::Mlock { errno } => write!(
                f,
                "mlock failed ({}); allow it in the sandbox profile, then restart",
                io::Error::from_raw_os_error(*errno)
            ),
            Self::Advice { errno } => write!(
                f,
                "madvise failed ({}); allow it in the sandbox profile, then restart",
                io::Error::from_raw_os_error(*errno)
            ),
        }
    }
}

/// How a region's data is protected. A parameter so that tests can make it fail.
pub(crate) type Protect = fn(NonNull<u8>, usize) -> Result<(), LockFailure>;

/// A mapped, fenced stretch of zeroed memory of whole pages.
pub(crate) struct Region {
    /// Start of the mapping, which is the leading guard page.
    base: NonNull<u8>,
    /// Length of the mapping in bytes, both guard pages included.
    mapped: usize,
    /// First byte after the leading guard page.
    data: NonNull<u8>,
    /// Bytes between the guard pages.
    len: usize,
}

// SAFETY: a Region is the only owner of its mapping, which is ordinary memory usable from any
// thread. It hands out raw pointers only; who dereferences them answers for aliasing.
unsafe impl Send for Region {}

impl Region {
    /// Maps at least `len` bytes, rounded up to whole pages, and tries to protect them.
    ///
    /// The second value is `Some` if the region is usable but not protected.
    pub(crate) fn map(len: usize, protect: Protect) -> Result<(Self, Option<LockFailure>), SysError> {
        let page = page_size();
        let out_of_range = || SysError::Map(io::Error::from_raw_os_error(libc::ENOMEM));
        let len = len.max(1).checked_next_multiple_of(page).ok_or_else(out_of_range)?;
        let mapped = page.checked_mul(2).and_then(|guards| guards.checked_add(len)).ok_or_else(out_of_range)?;

        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no
        // existing memory; the result is checked below.
        let raw = unsafe {
            libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
        };
        if raw == libc::MAP_FAILED {
            return Err(SysError::Map(io::Error::last_os_error()));
        }
        let base = NonNull::new(raw.cast::<u8>()).ok_or_else(out_of_range)?;
        // SAFETY: the mapping is 2 * page + len bytes long, so one page in is inside it.
        let data = unsafe { base.add(page) };
        // From here on, dropping the region unmaps it. `len` 0 keeps that drop from writing to
        // memory that is not writable yet.
        let mut region = Self { base, mapped, data, len: 0 };
        if SECRET_MEMORY.load(Ordering::Relaxed) && map_secret(data, len).is_ok() {
            region.len = len;
            // Locked and left out of dumps by its nature.
            return Ok((region, unfork(data, len).err()));
        }
        // SAFETY: data..data+len are whole pages inside the mapping made above, used by nobody yet.
        let rc = unsafe { libc::mprotect(data.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE) };
        if rc != 0 {
            return Err(SysError::Map(io::Error::last_os_error()));
        }
        region.len = len;
        let failure = protect(data, len).err();
        Ok((region, failure))
    }

    /// First usable byte.
    pub(crate) fn data(&self) -> NonNull<u8> {
        self.data
    }

    /// Usable bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: data..data+len is mapped readable and writable, initialised (the kernel zeroes
        // it), and nobody else refers to it once its owner is dropped.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) };
        bytes.zeroize();
        // SAFETY: base..base+mapped is exactly the mapping this region made, and it is not used
        // after this. The result is ignored: munmap of an own mapping fails only by a bug, and
        // the content is already zero.
        let _ = unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// Locks a region and keeps it out of core dumps and forked children.
pub(crate) fn protect(data: NonNull<u8>, len: usize) -> Result<(), LockFailure> {
    let start = data.as_ptr().cast::<libc::c_void>();
    // All are tried even if one fails: each helps on its own.
    // SAFETY: start..start+len are whole pages of a mapping the caller owns; locking changes no
    // content.
    let locked = match unsafe { libc::mlock(start, len) } {
        0 => Ok(()),
        _ => Err(mlock_failure(errno())),
    };
    // SAFETY: same pages; this advice changes no content of this process.
    let undumped = match unsafe { libc::madvise(start, len, libc::MADV_DONTDUMP) } {
        0 => Ok(()),
        _ => Err(LockFailure::Advice { errno: errno() }),
    };
    locked.and(undumped).and(unfork(data, len))
}

/// Keeps a region out of forked children.
fn unfork(data: NonNull<u8>, len: usize) -> Result<(), LockFailure> {
    // SAFETY: data..data+len are whole pages of a mapping the caller owns; this advice changes what children inherit,
    // not this process.
    match unsafe { libc::madvise(data.as_ptr().cast(), len, libc::MADV_DONTFORK) } {
        0 => Ok(()),
        _ => Err(LockFailure::Advice { errno: errno() }),
    }
}

/// Whether regions are to be secret memory.
static SECRET_MEMORY: AtomicBool = AtomicBool::new(false);

/// From now on, secrets of this process are kept in memory that no other process can read, root's neither
/// (memfd_secret(2), Linux 5.14, on by default from 6.5). A region that cannot be had so is locked memory instead.
///
/// # Errors
///
/// [`SysError::SecretMemory`] if the system has none, or not for this process: nothing is changed then.
pub fn use_secret_memory() -> Result<(), SysError> {
    let page = page_size();
    let (probe, _) = Region::map(page, |_, _| Ok(()))?;
    map_secret(probe.data, page).map_err(SysError::SecretMemory)?;
    SECRET_MEMORY.store(true, Ordering::Relaxed);
    Ok(())
}

/// Puts secret memory in the place of the pages data..data+len, which the caller owns and nobody uses. On failure plain
/// memory is there, readable, writable and zeroed.
fn map_secret(data: NonNull<u8>, len: usize) -> io::Result<()> {
    let failed = |result: i64| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: memfd_secret takes one flag and touches no memory; the result is checked.
    let fd = failed(unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) })?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the descriptor was just opened and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = i64::try_from(len).map_err(io::Error::other)?;
    // SAFETY: ftruncate changes the size of the file behind an open descriptor and no memory.
    failed(unsafe { libc::ftruncate(fd.as_raw_fd(), size) }.into())?;
    let start = data.as_ptr().cast::<libc::c_void>();
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
    // SAFETY: start..start+len are whole pages of a mapping the caller owns and nobody uses, so replacing them
    // takes nothing from anybody; the result is checked. The mapping outlives the descriptor.
    let mapped = unsafe { libc::mmap(start, len, access, flags, fd.as_raw_fd(), 0) };
    if mapped != libc::MAP_FAILED {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A mapping at a fixed place that fails may have taken away what was there: with no room left to lock, it has.
    let plain = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: as above: the pages are the caller's, and nobody uses them; the result is checked.
    let restored = unsafe { libc::mmap(start, len, access, plain, -1, 0) };
    if restored == libc::MAP_FAILED {
        // The owner would write to pages that are not there.
        std::process::abort();
    }
    Err(error)
}

/// Sorts an `mlock` failure. mlock(2): ENOMEM and EPERM mean the limit, EAGAIN "could not be locked".
fn mlock_failure(errno: i32) -> LockFailure {
    match errno {
        libc::ENOMEM | libc::EPERM | libc::EAGAIN => LockFailure::MemlockLimit { limit_bytes: memlock_limit() },
        errno => LockFailure::Mlock { errno },
    }
}

/// The soft `RLIMIT_MEMLOCK` in bytes; 0 if it cannot be read.
fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable rlimit.
    let rc = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if rc == 0 { limit.rlim_cur } else { 0 }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Bytes per page: a power of two, 4096 or more on every Linux platform.
pub(crate) fn page_size() -> usize {
    // SAFETY: sysconf reads a constant of the system and has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).map_or(4096, |size| size.max(4096))
}

#[cfg(test)]
mod tests {
    //! Proved here: regions are rounded, zeroed, fenced and flagged as promised, and failures are
    //! reported without losing the region.

    use super::*;

    /// The `VmFlags` and permissions of the mapping that contains `address`.
    fn smaps_entry(address: usize) -> (String, String) {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = None;
        for line in smaps.lines() {
            let head = line.split_whitespace().next().unwrap();
            if let Some((from, to)) = head.split_once('-')
                && let Ok(from) = usize::from_str_radix(from, 16)
                && let Ok(to) = usize::from_str_radix(to, 16)
            {
                let permissions = line.split_whitespace().nth(1).unwrap();
                inside = (from..to).contains(&address).then(|| permissions.to_owned());
            } else if let (Some(permissions), "VmFlags:") = (&inside, head) {
                return (permissions.clone(), line.to_owned());
            }
        }
        panic!("no mapping holds {address:#x}");
    }

    #[test]
    fn a_region_is_locked_undumped_and_fenced() {
        let (region, failure) = Region::map(100, protect).unwrap();
        assert_eq!(failure, None, "this test needs RLIMIT_MEMLOCK of 1 MiB or more");
        assert_eq!(region.len(), page_size());
        let start = region.data().as_ptr() as usize;
        let (permissions, flags) = smaps_entry(start);
        assert_eq!(permissions, "rw-p");
        let flags: Vec<&str> = flags.split_whitespace().collect();
        for flag in ["lo", "dd", "dc"] {
            assert!(flags.contains(&flag), "{flag} missing in {flags:?}");
        }
        for guard in [start - 1, start + region.len()] {
            assert_eq!(smaps_entry(guard).0, "---p");
        }
    }

    #[test]
    fn a_new_region_is_zero_and_writable() {
        let (region, _) = Region::map(page_size() + 1, protect).unwrap();
        assert_eq!(region.len(), 2 * page_size());
        // SAFETY: the region is mapped, initialised and owned by this test alone.
        let bytes = unsafe { std::slice::from_raw_parts_mut(region.data().as_ptr(), region.len()) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes.fill(0xaa);
        assert!(bytes.iter().all(|byte| *byte == 0xaa));
    }

    #[test]
    fn a_region_that_cannot_be_locked_is_usable_and_says_so() {
        let refused = LockFailure::MemlockLimit { limit_bytes: 7 };
        let (region, failure) = Region::map(1, |_, _| Err(LockFailure::MemlockLimit { limit_bytes: 7 })).unwrap();
        assert_eq!(failure, Some(refused));
        assert_eq!(region.len(), page_size());
        let status = LockStatus::Unlocked { reason: refused }.to_string();
        assert!(status.contains("allows 7 bytes") && status.contains("LimitMEMLOCK"), "{status}");
    }

    /// In a process of its own, as the choice is for the whole process: see `tests/secret_memory.rs`.
    #[test]
    fn secret_memory_replaces_pages() {
        let (region, _) = Region::map(page_size(), protect).unwrap();
        match map_secret(region.data(), region.len()) {
            Ok(()) => {
                // SAFETY: the region is mapped, initialised and owned by this test alone.
                let bytes = unsafe { std::slice::from_raw_parts_mut(region.data().as_ptr(), region.len()) };
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(0xaa);
                let entry = smaps_entry(region.data().as_ptr() as usize);
                assert_eq!(entry.0, "rw-s");
            }
            Err(error) => println!("no secret memory on this system: {error}"),
        }
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        for len in [usize::MAX, usize::MAX - 2 * page_size(), usize::MAX / 2] {
            assert!(matches!(Region::map(len, protect), Err(SysError::Map(_))), "{len}");
        }
    }

    #[test]
    fn mlock_errors_are_sorted() {
        for errno in [libc::ENOMEM, libc::EPERM, libc::EAGAIN] {
            assert!(matches!(mlock_failure(errno), LockFailure::MemlockLimit { .. }));
        }
        assert_eq!(mlock_failure(libc::EINVAL), LockFailure::Mlock { errno: libc::EINVAL });
    }
}
