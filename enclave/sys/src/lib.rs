//! The only crate with `unsafe` code: BLS multiplication by a hashed point, locked memory,
//! process hardening, and the devices of an enclave.
//!
//! Why it exists: every other crate is `forbid(unsafe_code)`, so whoever audits memory safety reads
//! this crate and nothing else. It holds what safe Rust cannot express:
//!
//! - [`bls`]: hash a signing root to the curve once and multiply it by many secret keys. All
//!   attesters of a slot sign the same root, and blst's safe interface hashes again for each key.
//! - [`batch`]: verify many signatures with few pairings.
//! - [`secret`]: secret scalars and byte strings in memory that is locked, kept out of core dumps,
//!   absent from forked children, fenced by guard pages, and zeroed when a value is dropped.
//! - [`process`]: no core dumps and no attaching debuggers.
//! - [`vsock`] and [`nsm`]: the two devices of an enclave.
//!
//! What it guarantees: secret types have no `Debug`, `Clone` or serialization; each `unsafe` block
//! does one thing and says why it is sound; curve arithmetic with a secret goes through blst's own
//! constant-time routines.
//!
//! What it cannot guarantee: blst and the compiler may leave copies of intermediate values on the
//! stack, and memory is only as locked as `RLIMIT_MEMLOCK` allows. [`lock_status`] reports the
//! latter; callers decide whether that is fatal.

#[cfg(not(target_os = "linux"))]
compile_error!("holdfast-enclave-sys needs Linux: it uses MADV_DONTDUMP and PR_SET_DUMPABLE");

mod arena;
pub mod batch;
pub mod bls;
mod error;
pub mod nsm;
mod pages;
pub mod process;
pub mod secret;
pub mod vsock;

pub use batch::{Claim, SignaturePoint, VerifyingPoint, verify_together};
pub use bls::{HashedPoint, hash_to_g2, verify};
pub use error::SysError;
pub use pages::{LockFailure, LockStatus, use_secret_memory};
pub use process::{harden_process, ignore_stop_signals, keep_files_to_this_process};
pub use secret::{LockedBytes, SecretScalar, lock_status};
