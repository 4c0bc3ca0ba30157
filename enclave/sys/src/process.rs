//! Process-wide hardening: what a secret in memory needs from the process around it.

use std::io;

use crate::error::SysError;

/// Keeps the memory of the process out of core dumps and away from debuggers of the same user.
///
/// Sets `PR_SET_DUMPABLE` to 0 (prctl(2): no core dump, no ptrace attach and no `/proc/PID/mem` without
/// `CAP_SYS_PTRACE`) and both `RLIMIT_CORE` limits to 0. Call it once, first thing in `main`; it lasts
/// until the process executes another program.
///
/// # Errors
///
/// [`SysError::Undumpable`] or [`SysError::CoreLimit`] if the system refuses, as some sandboxes do.
pub fn harden_process() -> Result<(), SysError> {
    // SAFETY: PR_SET_DUMPABLE takes one integer argument and touches no memory of ours.
    let rc = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    if rc != 0 {
        return Err(SysError::Undumpable(io::Error::last_os_error()));
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit, which setrlimit only reads.
    let rc = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    if rc != 0 {
        return Err(SysError::CoreLimit(io::Error::last_os_error()));
    }
    Ok(())
}

/// Has every file but the three standard streams closed in programs that this process starts later, also those that
/// it inherited itself and knows nothing of. For itself nothing changes.
///
/// # Errors
///
/// [`SysError::Files`] if the system cannot (Linux before 5.11): then files marked otherwise are inherited.
pub fn keep_files_to_this_process() -> Result<(), SysError> {
    let (first, last) = (3_u32, u32::MAX);
    // SAFETY: with this flag close_range closes nothing and only marks descriptors; it touches no memory.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if rc == 0 { Ok(()) } else { Err(SysError::Files(io::Error::last_os_error())) }
}

/// Leaves SIGINT, SIGTERM and SIGHUP unheard, which systemd and terminals send to every process of a service: for one
/// that another process of the same service needs to its end.
///
/// # Errors
///
/// [`SysError::Signals`] if the system refuses.
pub fn ignore_stop_signals() -> Result<(), SysError> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: SIG_IGN installs no handler, so no code of ours ever runs in a signal's context.
        let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
        if before == libc::SIG_ERR {
            return Err(SysError::Signals(io::Error::last_os_error()));
        }
    }
    Ok(())
}
