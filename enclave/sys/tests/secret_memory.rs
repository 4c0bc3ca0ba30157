//! Proved here, in a process of its own: secrets in secret memory sign and come back as before, and cannot be read
//! through the file system of processes, where a copy in ordinary memory can.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use holdfast_enclave_sys::{LockStatus, LockedBytes, SecretScalar, hash_to_g2, lock_status, use_secret_memory, verify};

#[test]
fn secrets_are_out_of_reach() {
    if let Err(error) = use_secret_memory() {
        // Nothing changed: secrets are kept as before.
        println!("no secret memory on this system, {error}; checking that secrets still work without");
        assert!(LockedBytes::take(&mut [7; 32]).is_ok());
        return;
    }
    let secret = LockedBytes::take(&mut [0x5a; 32]).unwrap();
    let long = LockedBytes::take(&mut vec![0x5b; 9_000]).unwrap();
    let scalar = SecretScalar::from_be_bytes(&mut [9; 32]).unwrap();
    assert_eq!(lock_status(), LockStatus::Locked);
    let root = [3; 32];
    assert!(verify(&scalar.public_key(), &root, &scalar.sign(&hash_to_g2(&root))));
    long.expose(|bytes| assert_eq!(bytes, vec![0x5b; 9_000]));

    let memory = File::open("/proc/self/mem").unwrap();
    let read = |address: usize| {
        let mut found = [0; 32];
        memory.read_exact_at(&mut found, u64::try_from(address).unwrap()).map(|()| found)
    };
    let plain = std::hint::black_box(Box::new([0x5c_u8; 32]));
    assert_eq!(read(plain.as_ptr() as usize).unwrap(), [0x5c; 32], "the control copy is found");
    for address in [secret.expose(|bytes| bytes.as_ptr() as usize), long.expose(|bytes| bytes.as_ptr() as usize)] {
        assert!(read(address).is_err(), "secret memory was read");
    }
}
