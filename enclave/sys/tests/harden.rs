//! Hardening reads back as set. Alone in its file, because it applies to the whole process.

use holdfast_enclave_sys::harden_process;

#[test]
fn hardening_reads_back_and_can_be_repeated() {
    for _ in 0..2 {
        harden_process().unwrap();
        // SAFETY: PR_GET_DUMPABLE takes no argument and touches no memory of ours.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) };
        assert_eq!(dumpable, 0);
        let mut limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: the pointer is to a live, writable rlimit.
        let rc = unsafe { libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit) };
        assert_eq!((rc, limit.rlim_cur, limit.rlim_max), (0, 0, 0));
    }
}
