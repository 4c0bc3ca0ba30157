//! A process of its own with next to no locked memory allowed: keys still work, and the status says
//! why they are not locked.
//!
//! Alone in its file, because limits and capabilities apply to the whole process.

use holdfast_enclave_sys::{LockFailure, LockStatus, LockedBytes, SecretScalar, hash_to_g2, lock_status, verify};

/// Locked memory allowed in this test: room for a first page on every platform with 4 KiB pages.
const LIMIT_BYTES: u64 = 8 * 1024;

/// Drops `CAP_IPC_LOCK`, which exempts from the limit, from the effective set of this thread, and
/// lowers the limit. Without the capability in the first place this changes only the limit.
fn limit_locked_memory() {
    /// `_LINUX_CAPABILITY_VERSION_3` of capget(2).
    const VERSION: u32 = 0x2008_0522;
    const CAP_IPC_LOCK: u32 = 14;
    let header: [u32; 2] = [VERSION, 0];
    // Two blocks of effective, permitted, inheritable.
    let mut sets = [0_u32; 6];
    // SAFETY: version 3 reads a header of 8 bytes and writes two blocks of 12 bytes, as sized here.
    let rc = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    assert_eq!(rc, 0, "capget: {}", std::io::Error::last_os_error());
    sets[0] &= !(1 << CAP_IPC_LOCK);
    // SAFETY: version 3 reads a header of 8 bytes and two blocks of 12 bytes, as sized here.
    let rc = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(rc, 0, "capset: {}", std::io::Error::last_os_error());

    let limit = libc::rlimit { rlim_cur: LIMIT_BYTES, rlim_max: LIMIT_BYTES };
    // SAFETY: the pointer is to a live rlimit, which setrlimit only reads.
    let rc = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    assert_eq!(rc, 0, "setrlimit: {}", std::io::Error::last_os_error());
}

#[test]
fn keys_work_without_locked_memory_and_the_status_says_why() {
    limit_locked_memory();
    let keys: Vec<SecretScalar> = (1..=1000_u32)
        .map(|number| {
            let mut bytes = [0; 32];
            bytes[28..].copy_from_slice(&number.to_be_bytes());
            SecretScalar::from_be_bytes(&mut bytes).unwrap()
        })
        .collect();
    let passphrase = LockedBytes::take(&mut [b'x'; 100]).unwrap();

    let reason = LockFailure::MemlockLimit { limit_bytes: LIMIT_BYTES };
    assert_eq!(lock_status(), LockStatus::Unlocked { reason });
    assert!(lock_status().to_string().contains("RLIMIT_MEMLOCK"));

    passphrase.expose(|bytes| assert_eq!(bytes, [b'x'; 100]));
    let point = hash_to_g2(&[5; 32]);
    for key in [&keys[0], &keys[500], &keys[999]] {
        assert!(verify(&key.public_key(), &[5; 32], &key.sign(&point)));
    }
}
